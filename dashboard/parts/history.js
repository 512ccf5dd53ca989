/** What a task has said, entry by entry, how it stood at each of them, and what happened to it in between. Knows no page. */

import { percentOf } from "../../client/view.js";
import { STATUSES } from "./badge.js";

/**
 * An entry, and how the task stood with it: what an entry does not say stays as it was.
 * @typedef {object} Moment
 * @property {number} seqId
 * @property {number} at in milliseconds
 * @property {string} timestamp
 * @property {Record<string, any>} data
 * @property {number | undefined} percent
 * @property {{ current: number, total: number } | undefined} count
 * @property {string | undefined} message
 * @property {string | undefined} level of the message
 * @property {number} stage which of the stages; -1 before the first
 * @property {string | undefined} says its own message
 */
/** What is no entry. `tone` is a token's name. @typedef {{ key: string, kind: string, at: number, timestamp: string, text: string, tone: string, before?: number }} Mark */

const isText = (/** @type {unknown} */ value) => typeof value === "string" && value.trim() !== "";
const isNumber = (/** @type {unknown} */ value) => typeof value === "number" && Number.isFinite(value);

/** How bad a level is, as loggers have it. @param {string | undefined} level */
export function severity(level) {
  if (level === "error" || level === "fatal" || level === "critical") return 3;
  if (level === "warn" || level === "warning") return 2;
  return level === "debug" || level === "trace" ? 0 : 1;
}

export class History {
  /** @type {Moment[]} */
  moments = [];
  /** In the order in which they were first heard of. @type {string[]} */
  stages = [];
  /** @type {Map<string, Mark>} */
  #marks = new Map();
  /** @type {Mark[] | undefined} */
  #sorted;
  /** Is another where what stands between entries has changed. */
  edition = 0;

  get last() { return this.moments.length - 1; }

  /** @param {any} event of `track` */
  add(event) {
    if (event.event === "progress") this.#entry(event);
    else if (event.event === "gap") this.#gap(event);
    else if (event.event === "stalled") this.#mark("stalled", event.data.since, "Stalled: no progress for too long", "--timeout");
    else if (event.event === "recovered") this.#mark("recovered", event.timestamp, "Recovered: there is progress again", "--completed");
    else if (event.event === "cancel_requested") this.#cancelling(event.timestamp, event.data.reason, event.data.deadline);
    else if (event.event === "status_change" && event.data.status === "pending") {
      this.#mark("pending", event.timestamp, "Waiting for a worker again", "--pending");
    }
  }

  /** What the task itself says of when. @param {any} task */
  stand(task) {
    this.#mark("registered", task.createdAt, "Registered", "--pending");
    if (task.startedAt) this.#mark("started", task.startedAt, task.workerId ? `Started by ${task.workerId}` : "Started", "--running");
    if (task.stalledAt) this.#mark("stalled", task.stalledAt, "Stalled: no progress for too long", "--timeout");
    if (task.cancelRequestedAt && task.startedAt) this.#cancelling(task.cancelRequestedAt, task.cancelReason, task.cancelDeadline);
    if (!task.completedAt) return;
    const { word, token } = STATUSES[task.status] ?? { word: task.status, token: "--pending" };
    this.#mark("ended", task.completedAt, word, token);
  }

  /** @param {string} timestamp @param {string | null} reason @param {string | null} deadline */
  #cancelling(timestamp, reason, deadline) {
    // The task and its stream say it within a moment of each other.
    if (this.#marks.has("cancelling")) return;
    const until = deadline ? `, by ${new Date(deadline).toISOString().slice(11, 19)} UTC` : "";
    this.#mark("cancelling", timestamp, `Asked to end${until}${reason ? `: ${reason}` : ""}`, "--cancelled", "cancelling");
  }

  /** @param {string} kind @param {string} timestamp @param {string} text @param {string} tone @param {string} [key] */
  #mark(kind, timestamp, text, tone, key = `${kind} ${timestamp}`) {
    if (this.#marks.has(key)) return;
    this.#put({ key, kind, at: Date.parse(timestamp), timestamp, text, tone });
  }

  /** @param {Mark} mark */
  #put(mark) {
    this.#marks.set(mark.key, mark);
    this.#sorted = undefined;
    this.edition += 1;
  }

  /** @param {{ data: { from: number, to: number }, timestamp: string }} event */
  #gap({ data: { from, to }, timestamp }) {
    const text = from === to ? `Entry ${from} was lost` : `Entries ${from} to ${to} were lost`;
    this.#put({ key: `gap ${from}`, kind: "gap", at: Date.parse(timestamp), timestamp, text, tone: "--failed", before: this.moments.length });
  }

  /** @param {{ data: Record<string, any> & { seqId: number }, timestamp: string }} event */
  #entry({ data, timestamp }) {
    const before = this.moments.at(-1);
    const percent = percentOf(data);
    const counts = isNumber(data.current) && isNumber(data.total);
    const says = isText(data.message) ? data.message : undefined;
    let stage = before?.stage ?? -1;
    if (isText(data.stage)) {
      stage = this.stages.indexOf(data.stage);
      if (stage < 0) stage = this.stages.push(data.stage) - 1;
    }
    this.moments.push({
      seqId: data.seqId, at: Date.parse(timestamp), timestamp, data, says, stage,
      percent: percent ?? before?.percent,
      count: counts ? { current: data.current, total: data.total } : percent === undefined ? before?.count : undefined,
      message: says ?? before?.message,
      level: says === undefined ? before?.level : isText(data.level) ? data.level.toLowerCase() : undefined,
    });
  }

  /** In order; each with the number of entries before it. @returns {(Mark & { before: number })[]} */
  marks() {
    this.#sorted ??= [...this.#marks.values()].sort((a, b) => a.at - b.at);
    return this.#sorted.map((mark) => ({ ...mark, before: mark.before ?? this.#before(mark) }));
  }

  /** @param {Mark} mark */
  #before({ kind, at }) {
    if (kind === "ended") return this.moments.length;
    if (kind === "registered") return 0;
    let [low, high] = [0, this.moments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      // The start stands before an entry of the same millisecond, whatever else behind it.
      const isBefore = kind === "started" ? this.moments[middle].at < at : this.moments[middle].at <= at;
      if (isBefore) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
