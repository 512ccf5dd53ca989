/** The stream of a task: every entry once, and its end. */

/** @import { End, EventFrame, TaskEvent, TrackOptions } from "../client.js" */

import { Link } from "./link.js";

/** Follows one task. Every event is passed on once: entries have numbers, and what comes again has one that was seen. */
export class Follower {
  #task;
  #link;
  /** The number of the newest entry that was passed on, or where to begin. */
  #cursor;
  #beginsAfter;
  /** How many of the newest entries to begin with; `undefined` once that is settled, or where all are wanted. */
  #last;
  #status = "";
  #statusAt = "";
  /** @type {End | undefined} */
  end = undefined;

  /** @param {string} taskId @param {TrackOptions} options */
  constructor(taskId, options) {
    this.#task = `tasks/${encodeURIComponent(taskId)}`;
    this.path = `${this.#task}/track`;
    this.#cursor = this.#beginsAfter = options.afterSeqId ?? 0;
    this.#last = options.afterSeqId === undefined ? (options.last ?? (options.ignoreHistory ? 0 : undefined)) : undefined;
    this.#link = /** @type {Link<TaskEvent>} */ (new Link(options, this));
  }

  events() { return this.#link.events(); }
  get isOver() { return this.end !== undefined; }
  get isSettled() { return this.#last === undefined; }

  /**
   * Finds out where the newest entries begin, once: whoever asked the server again after a cut would miss what came between.
   * @param {Link<TaskEvent>} link
   * @returns {AsyncGenerator<TaskEvent, void, void>}
   */
  async *settle(link) {
    const why = await link.json(`${this.#task}/why`);
    this.#cursor = this.#beginsAfter = Math.max(0, (why.latestProgress?.seqId ?? 0) - (this.#last ?? 0));
    this.#last = undefined;
    this.#status = why.status;
    // Its end is told by the stream, with what came of it.
    if (!["pending", "in_progress"].includes(why.status)) return;
    const about = { taskId: why.taskId, timestamp: why.serverTime };
    yield { event: "status_change", data: { status: why.status }, ...about };
    if (why.stalledAt) yield { event: "stalled", data: { since: why.stalledAt }, ...about };
    if (why.cancelRequested) {
      yield { event: "cancel_requested", data: { reason: null, deadline: why.cancelDeadline }, ...about };
    }
  }

  ask() {
    /** @type {Record<string, string>} */
    const headers = this.#cursor > this.#beginsAfter ? { "last-event-id": String(this.#cursor) } : {};
    return { headers, query: { afterSeqId: this.#beginsAfter || undefined } };
  }

  /**
   * The event in a frame, unless it was passed on before.
   * @param {EventFrame} frame
   * @param {boolean} isStream
   * @returns {TaskEvent | undefined}
   */
  accept(frame, isStream) {
    /** @type {TaskEvent} */
    const event = JSON.parse(frame.data);
    if (event.event === "progress") {
      if (event.data.seqId <= this.#cursor) return undefined;
      this.#cursor = event.data.seqId;
    } else if (event.event === "gap") {
      const { from, to } = event.data;
      if (to <= this.#cursor) return undefined;
      event.data.from = Math.max(from, this.#cursor + 1);
      this.#cursor = to;
    } else if (event.event === "status_change") {
      const isKnown = event.data.status === this.#status;
      // A stream that was opened beside the polls says again what they have said.
      const isRepeated = isKnown && (!isStream || event.timestamp === this.#statusAt);
      [this.#status, this.#statusAt] = [event.data.status, event.timestamp];
      if (frame.id.endsWith("-end")) this.end = /** @type {End} */ (event.data);
      // Every poll says where the task stands.
      else if (isRepeated) return undefined;
    }
    return event;
  }
}
