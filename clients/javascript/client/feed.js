/** The stream of many tasks: where each stands, and what it reports, on one connection. */

/** @import { EventFrame, EventsOptions, FeedEvent } from "../client.js" */

import { Link } from "./link.js";

/** Tasks of which it is remembered what was told. Whoever names tasks names fewer, and is never told an entry twice. */
const REMEMBERED = 10_000;

/** What was told of each task, of those that were told of last. @template Value */
class Memory {
  /** @type {Map<string, Value>} */
  #values = new Map();

  /** @param {string} taskId */
  get(taskId) { return this.#values.get(taskId); }

  /** @param {string} taskId @param {Value} value */
  set(taskId, value) {
    this.#values.delete(taskId);
    this.#values.set(taskId, value);
    // A map keeps the order in which it was filled: the first is the one that was not heard of for longest.
    for (const oldest of this.#values.keys()) {
      if (this.#values.size <= REMEMBERED) break;
      this.#values.delete(oldest);
    }
  }
}

/** Follows all tasks of a filter. It ends by itself only where it is refused. */
export class Feed {
  path = "events";
  isOver = false;
  isSettled = true;
  #query;
  #link;
  /** The id behind which it goes on: what it says is the server's affair. @type {string | undefined} */
  cursor;
  #isOpen = false;
  /** When each task stood as it was last told. @type {Memory<string>} */
  #stood = new Memory();
  /** The newest number of each task that was told. @type {Memory<number>} */
  #told = new Memory();

  /** @param {EventsOptions} options */
  constructor(options) {
    const { taskIds, taskTypes, statuses, progress, everyMs, after } = options;
    this.#query = { taskId: taskIds, taskType: taskTypes, status: statuses, progress, every: everyMs === undefined ? undefined : `${everyMs}ms` };
    this.cursor = after;
    this.#link = /** @type {Link<FeedEvent>} */ (new Link(options, this));
  }

  events() { return this.#link.events(); }
  // Where to begin is said by the stream itself.
  async *settle() {}

  /** @param {boolean} follow */
  ask(follow) {
    const after = this.cursor;
    if (after === undefined || !follow) return { query: { ...this.#query, after } };
    return { query: this.#query, headers: { "last-event-id": after } };
  }

  /**
   * @param {EventFrame} frame
   * @param {boolean} isStream
   * @returns {FeedEvent | undefined}
   */
  accept({ id, data }, isStream) {
    /** @type {FeedEvent} */
    const event = JSON.parse(data);
    if (id !== "") this.cursor = id;
    if (event.event === "open") {
      // Every poll opens anew; that it went on where it was is no news.
      if (!isStream && this.#isOpen && event.data.resumed) return undefined;
      this.#isOpen = true;
    } else if (event.event === "task") {
      // Fixed width, so that the later is the larger.
      if (event.data.updatedAt < (this.#stood.get(event.taskId) ?? "")) return undefined;
      this.#stood.set(event.taskId, event.data.updatedAt);
    } else if (event.event === "progress") {
      if (event.data.seqId <= (this.#told.get(event.taskId) ?? 0)) return undefined;
      this.#told.set(event.taskId, event.data.seqId);
    } else if (event.event === "gap") {
      const told = this.#told.get(event.taskId) ?? 0;
      if (event.data.to <= told) return undefined;
      event.data.from = Math.max(event.data.from, told + 1);
      this.#told.set(event.taskId, event.data.to);
    }
    return event;
  }
}

/** Tells the listeners, one after the other. @param {FeedEvent} event @param {Pick<EventsOptions, "onEvent" | "onOpen" | "onTask" | "onProgress" | "onGap" | "onResync">} options */
export async function distribute(event, { onEvent, onOpen, onTask, onProgress, onGap, onResync }) {
  await onEvent?.(event);
  if (event.event === "open") await onOpen?.(event.data, event);
  else if (event.event === "task") await onTask?.(event.data, event);
  else if (event.event === "progress") await onProgress?.(event.taskId, event.data, event);
  else if (event.event === "gap") await onGap?.(event.taskId, event.data, event);
  else if (event.event === "resync") await onResync?.(event);
}
