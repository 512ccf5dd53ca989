/** What is to be shown of a task, from its events. Pure: it knows no page, and time is an argument. */

/** @import { JsonObject, ProgressEntry, Status, TaskEvent, TaskItem } from "../client.js" */

const ENDS = new Set(["completed", "failed", "timeout", "cancelled"]);
/** The rate is that of this time, or of this many entries if those took longer. */
const WINDOW = { ms: 30_000, samples: 20, most: 600 };
/** Below that two times say nothing of a rate. */
const SHORTEST_MS = 1_000;

/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
/** @param {unknown} value @returns {value is string} */
const isText = (value) => typeof value === "string" && value.trim() !== "";

/** @param {ProgressEntry} entry */
export function percentOf({ percent, current, total }) {
  const said = isNumber(percent) ? percent : isNumber(current) && isNumber(total) && total > 0 ? (100 * current) / total : undefined;
  return said === undefined ? undefined : Math.min(100, Math.max(0, said));
}

export class TaskView {
  /** @type {Status | undefined} */
  status = undefined;
  /** 0 to 100. @type {number | undefined} */
  percent = undefined;
  /** Where the newest entry counts: how many of how many. @type {{ current: number, total: number } | undefined} */
  count = undefined;
  /** @type {string | undefined} */
  message = undefined;
  /** @type {string | undefined} */
  stage = undefined;
  /** Of the message. @type {string | undefined} */
  level = undefined;
  /** Why it is not well. @type {{ text: string, details?: JsonObject } | undefined} */
  error = undefined;
  /** The number of the newest entry. */
  seqId = 0;
  isStalled = false;
  isCancelling = false;
  /** It cannot be followed. */
  isRefused = false;
  /** @type {{ at: number, percent: number }[]} */
  #samples = [];
  /** What the worker said of the time left. @type {{ at: number, ms: number } | undefined} */
  #eta = undefined;
  /** How far the server's clock is ahead of ours: an event that has just happened says it best. */
  #ahead = -Infinity;

  get isEnd() {
    return this.status !== undefined && ENDS.has(this.status);
  }

  /** @param {TaskEvent} event @param {number} now in milliseconds, as `Date.now()` has it */
  fold(event, now) {
    const at = Date.parse(event.timestamp);
    if (isNumber(at)) this.#ahead = Math.max(this.#ahead, at - now);
    if (event.event === "progress") this.#progress(event.data, at);
    else if (event.event === "status_change") this.#change(event.data);
    else if (event.event === "stalled") this.isStalled = true;
    else if (event.event === "recovered") this.isStalled = false;
    else if (event.event === "cancel_requested") this.isCancelling = true;
  }

  /**
   * The whole of it at once, as lists and events have it. When its newest entry was made they do not say, so it says nothing of a rate.
   * @param {TaskItem} task
   */
  stand({ status, error, cancelReason, cancelRequestedAt, stalledAt, latestProgress }) {
    if (latestProgress && latestProgress.seqId > this.seqId) this.#progress(latestProgress);
    if (status !== this.status) this.#change({ status, ...(error && { error }), ...(status === "cancelled" && cancelReason && { reason: cancelReason }) });
    this.isStalled = status === "in_progress" && stalledAt !== null;
    this.isCancelling = status === "in_progress" && cancelRequestedAt !== null;
  }

  /** What the server's clock shows, as far as it is known. @param {number} now */
  there(now) {
    return this.#ahead === -Infinity ? now : now + this.#ahead;
  }

  /** Nothing more will be known. @param {string} text */
  refuse(text) {
    this.isRefused = true;
    this.error = { text };
  }

  /** @param {ProgressEntry} entry @param {number} [at] */
  #progress(entry, at = NaN) {
    this.seqId = entry.seqId;
    // That it began may have been said while nobody listened.
    if (!this.isEnd) this.status = "in_progress";
    this.isStalled = false;
    if (isText(entry.stage)) this.stage = entry.stage;
    if (isText(entry.message)) {
      this.message = entry.message;
      this.level = isText(entry.level) ? entry.level.toLowerCase() : undefined;
    }
    if (isNumber(entry.etaSeconds) && entry.etaSeconds >= 0 && isNumber(at)) this.#eta = { at, ms: entry.etaSeconds * 1000 };
    const percent = percentOf(entry);
    if (percent === undefined) return;
    const { current, total } = entry;
    this.count = isNumber(current) && isNumber(total) ? { current, total } : undefined;
    // It began anew.
    if (percent < (this.percent ?? 0)) this.#samples = [];
    this.percent = percent;
    if (!isNumber(at)) return;
    this.#samples.push({ at, percent });
    const isOld = () => this.#samples.length > WINDOW.samples && at - (this.#samples[1]?.at ?? at) > WINDOW.ms;
    while (isOld() || this.#samples.length > WINDOW.most) this.#samples.shift();
  }

  /** @param {{ status: Status, error?: JsonObject, reason?: string }} change */
  #change({ status, error, reason }) {
    this.status = status;
    this.isStalled = false;
    if (status !== "in_progress") this.isCancelling = false;
    // Whoever takes it next may be faster or slower.
    if (status === "pending") [this.#samples, this.#eta] = [[], undefined];
    if (status === "completed") this.percent = 100;
    if (error) {
      const { message } = error;
      const isAll = isText(message) && Object.keys(error).length === 1;
      this.error = { text: isText(message) ? message : JSON.stringify(error), ...(isText(message) && !isAll && { details: error }) };
    } else if (isText(reason)) this.error = { text: reason };
  }

  /**
   * The time left, as the worker says it, or else by the rate of late; `undefined` where nobody knows.
   * @param {number} now
   */
  secondsLeft(now) {
    if (this.status !== "in_progress" || this.isStalled) return undefined;
    const there = now + this.#ahead;
    const said = this.#eta ? this.#eta.at + this.#eta.ms - there : 0;
    const left = said > 0 ? said : this.#leftByRate(there);
    return left > 0 ? left / 1000 : undefined;
  }

  /** @param {number} now the server's */
  #leftByRate(now) {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last || last.percent >= 100) return 0;
    const [took, done] = [last.at - first.at, last.percent - first.percent];
    if (took < SHORTEST_MS || done <= 0) return 0;
    return last.at + ((100 - last.percent) * took) / done - now;
  }
}

/** A time for people, no more exact than anybody knows it. @param {number} seconds */
export function inWords(seconds) {
  if (seconds < 20) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 90) return `${Math.ceil(seconds / 5) * 5} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
