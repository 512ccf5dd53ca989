/**
 * Watches tasks of a Task Tracker, and calls it. ES modules without dependencies and without a build step, for browsers
 * and for whatever else has `fetch` and streams.
 *
 * Streams are read with `fetch` and not with `EventSource`, which knows no headers, no refusals and no proxies that hold
 * everything back. What is public is described, with its types, in `client.d.ts`.
 */

/** @import { CallOptions, ClientOptions, End, EventsOptions, FeedEvent, TaskEvent, TrackOptions } from "./client.js" */

import { Feed, distribute } from "./client/feed.js";
import { Follower } from "./client/follow.js";
import { Endpoint } from "./client/wire.js";

export { backoffMs } from "./client/link.js";
export { EventStreamParser } from "./client/parser.js";
export { TaskTrackerError } from "./client/wire.js";

/** @param {TaskEvent} event @param {TrackOptions} options */
async function dispatch(event, { onEvent, onProgress, onStatus, onGap, onNotice }) {
  await onEvent?.(event);
  if (event.event === "progress") await onProgress?.(event.data, event);
  else if (event.event === "status_change") await onStatus?.(event.data, event);
  else if (event.event === "gap") await onGap?.(event.data, event);
  else await onNotice?.(event);
}

/**
 * To be iterated, or awaited for what is said at the end.
 * @template Event, Outcome
 * @param {{ source: AsyncIterable<Event>, tell: (event: Event) => Promise<void>, listens: boolean, end: () => Outcome, name: string }} what
 */
function following({ source, tell, listens, end, name }) {
  const events = (async function* () {
    for await (const event of source) {
      await tell(event);
      yield event;
    }
  })();
  let isIterated = false;
  /** @type {Promise<Outcome> | undefined} */
  let outcome;
  const run = () => (outcome ??= drain());
  const drain = async () => {
    while (!(await events.next()).done);
    return end();
  };
  // With listeners it runs by itself, unless the caller iterates: that begins before this does.
  if (listens) queueMicrotask(() => isIterated || run());
  /** @type {Promise<Outcome> & AsyncIterable<Event>} */
  const made = {
    then: (kept, failed) => run().then(kept, failed),
    catch: (failed) => run().catch(failed),
    finally: (over) => run().finally(over),
    [Symbol.asyncIterator]() {
      isIterated = true;
      return events;
    },
    [Symbol.toStringTag]: name,
  };
  return made;
}

export const track = /** @type {typeof import("./client.js").track} */ (taskId, options = {}) => {
  const follower = new Follower(taskId, options);
  const listens = [options.onEvent, options.onProgress, options.onStatus, options.onGap, options.onNotice].some(Boolean);
  const tell = (/** @type {TaskEvent} */ event) => dispatch(event, options);
  const end = () => /** @type {End} */ (follower.end);
  return following({ source: follower.events(), tell, listens, end, name: "Tracking" });
};

export const events = /** @type {typeof import("./client.js").events} */ (options = {}) => {
  const listens = [options.onEvent, options.onOpen, options.onTask, options.onProgress, options.onGap, options.onResync].some(Boolean);
  const tell = (/** @type {FeedEvent} */ event) => distribute(event, options);
  // It has no end, but a refusal or the signal.
  const end = () => /** @type {never} */ (undefined);
  return following({ source: new Feed(options).events(), tell, listens, end, name: "Events" });
};

/** A part of a path. @param {string} id */
const of = (id) => `tasks/${encodeURIComponent(id)}`;

/** Calls one service; each method is one request. */
export class TaskTracker {
  #endpoint;
  #options;

  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    this.#options = options;
    this.#endpoint = new Endpoint(options);
  }

  /** @type {Declared["register"]} */
  register = (task, call) => this.#post("tasks", task, call);
  /** @type {Declared["registerMany"]} */
  registerMany = (tasks, call) => this.#post("tasks/bulk", { tasks }, call);
  /** @type {Declared["get"]} */
  get = (id, call) => this.#get(of(id), {}, call);
  /** @type {Declared["list"]} */
  list = ({ status, ...filter } = {}, call) => this.#get("tasks", { ...filter, status: Array.isArray(status) ? status.join() : status }, call);
  /** @type {Declared["standing"]} */
  standing = async (ids, call) => {
    const query = { taskId: ids, progress: "none", follow: false };
    const lines = await this.#endpoint.lines("events", { query, signal: call?.signal });
    return lines.filter(({ event }) => event === "task").map(({ data }) => data);
  };
  /** @type {Declared["claim"]} */
  claim = (wish, call) => this.#post("tasks/claim", wish, call);
  /** @type {Declared["start"]} */
  start = (id, body, call) => this.#post(`${of(id)}/start`, body, call);
  /** @type {Declared["progress"]} */
  progress = (id, entry, caller, call) =>
    this.#post(`${of(id)}/progress`, { ...caller, ...(Array.isArray(entry) ? { entries: entry } : { progress: entry }) }, call);
  /** @type {Declared["complete"]} */
  complete = (id, body, call) => this.#post(`${of(id)}/complete`, body, call);
  /** @type {Declared["fail"]} */
  fail = (id, body, call) => this.#post(`${of(id)}/fail`, body, call);
  /** @type {Declared["release"]} */
  release = (id, body, call) => this.#post(`${of(id)}/release`, body, call);
  /** @type {Declared["heartbeat"]} */
  heartbeat = (id, body, call) => this.#post(`${of(id)}/heartbeat`, body, call);
  /** @type {Declared["cancel"]} */
  cancel = (id, body, call) => this.#post(`${of(id)}/cancel`, body, call);
  /** @type {Declared["cancelMany"]} */
  cancelMany = (ids, body, call) => this.#post("tasks/cancel", { ...body, taskIds: ids }, call);
  /** @type {Declared["timeOut"]} */
  timeOut = (id, call) => this.#post(`${of(id)}/timeout`, {}, call);
  /** @type {Declared["retry"]} */
  retry = (id, call) => this.#post(`${of(id)}/retry`, undefined, call);
  /** @type {Declared["retryMany"]} */
  retryMany = (ids, call) => this.#post("tasks/retry", { taskIds: ids }, call);
  /** @type {Declared["why"]} */
  why = (id, call) => this.#get(`${of(id)}/why`, {}, call);
  /** @type {Declared["workers"]} */
  workers = (page, call) => this.#get("workers", page, call);
  /** @type {Declared["processTimeouts"]} */
  processTimeouts = (call) => this.#post("tasks/timeouts/process", {}, call);
  /** @type {Declared["overview"]} */
  overview = (query, call) => this.#get("overview", query, call);
  /** @type {Declared["nodes"]} */
  nodes = (call) => this.#get("nodes", {}, call);
  /** @type {Declared["events"]} */
  events = (options) => events({ ...this.#options, ...options });
  /** @type {Declared["track"]} */
  track = (id, options) => track(id, { ...this.#options, ...options });

  /** @param {string} path @param {object} [query] @param {CallOptions} [call] */
  #get(path, query, call) {
    return this.#endpoint.json(path, { query, signal: call?.signal });
  }

  /** @param {string} path @param {unknown} [body] @param {CallOptions} [call] */
  #post(path, body = {}, { signal, idempotencyKey } = {}) {
    const headers = idempotencyKey === undefined ? {} : { "idempotency-key": JSON.stringify(idempotencyKey) };
    return this.#endpoint.json(path, { method: "POST", body, headers, signal });
  }
}

/** @typedef {import("./client.js").TaskTracker} Declared */
