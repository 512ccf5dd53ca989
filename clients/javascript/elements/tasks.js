/** The newest tasks of a filter, live, from one list and the page's stream. It knows no page. */

/** @import { Status, TaskItem } from "../client.js" */
/** @import { SharedOptions } from "../client/shared.js" */

import { TaskTracker, backoffMs } from "../client.js";
import { isPassing } from "../client/link.js";
import { share } from "../client/shared.js";
import { TaskView } from "../client/view.js";

/** Of the running ones more are not counted. */
export const COUNTED = 100;
/** A list that could not be had is asked for again; a stream that is not read meanwhile waits. */
const AGAIN = { backoffMs: 500, longestBackoffMs: 10_000 };
/** Before a place that came free is filled: where one task leaves a filter others follow. */
const REFILL_MS = 500;

/** @typedef {{ task: TaskItem, view: TaskView, isDirty: boolean }} Item */

/** Newest first, as the list has them. @param {TaskItem} a @param {TaskItem} b */
const isNewer = (a, b) => (a.createdAt === b.createdAt ? a.id > b.id : a.createdAt > b.createdAt);

/** @param {number} ms @param {AbortSignal | undefined} signal */
const rest = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve(undefined)), { once: true });
  });

export class Tasks {
  /** Newest first. @type {Item[]} */
  items = [];
  /** Those that run, whether they are among the newest or not. @type {Set<string>} */
  running = new Set();
  isListed = false;
  /** @type {Pick<SharedOptions, "baseUrl" | "headers" | "timing" | "signal" | "onConnection">} */
  #options = {};
  #tracker = new TaskTracker();
  #filter;
  #limit;
  #counts;
  #hasMore = false;
  #isRefilling = false;
  /** Of all that were ever shown: what comes later was added, what is older came back. @type {TaskItem | undefined} */
  #newest;
  /** Is told of everything that is to be shown. */
  onChange = () => {};
  /** @type {(item: Item) => void} */
  onAdded = () => {};
  /** @type {(item: Item) => void} */
  onEnded = () => {};

  /** @param {{ taskTypes?: string[] | undefined, statuses?: Status[] | undefined, limit: number, counts?: boolean }} filter */
  constructor({ taskTypes, statuses, limit, counts = false }) {
    this.#filter = { taskTypes, statuses };
    this.#limit = limit;
    this.#counts = counts;
  }

  /**
   * Until the signal ends it, or a refusal does; then it may be called again, and shows meanwhile what it knows.
   * @param {Pick<SharedOptions, "baseUrl" | "headers" | "timing" | "signal" | "onConnection">} options
   */
  async follow(options) {
    this.#options = options;
    this.#tracker = new TaskTracker(options);
    const { taskTypes, statuses } = this.#filter;
    await share({
      ...options, taskTypes,
      // Who counts those that run hears of all.
      ...(!this.#counts && statuses && { statuses }),
      onOpen: ({ resumed }) => (resumed ? undefined : this.#list()),
      onResync: () => this.#list(),
      onTask: (task) => this.#upsert(task),
      onProgress: (taskId, _entry, event) => {
        const item = this.items.find(({ task }) => task.id === taskId);
        if (!item) return;
        item.view.fold(event, Date.now());
        this.#changed(item);
      },
    });
  }

  /** One list for each type. @template T @param {(of: { taskType: string | undefined }) => Promise<T>} list */
  async #pages(list) {
    const { taskTypes = [undefined] } = this.#filter;
    const { signal } = this.#options;
    for (let failures = 0; ; failures++) {
      try {
        return await Promise.all(taskTypes.map((taskType) => list({ taskType })));
      } catch (error) {
        signal?.throwIfAborted();
        if (!isPassing(error)) throw error;
        await rest(backoffMs(failures, 0, AGAIN), signal);
        signal?.throwIfAborted();
      }
    }
  }

  /** What is there now takes the place of what was known. */
  async #list() {
    const [limit, status, { signal }] = [this.#limit, this.#filter.statuses, this.#options];
    const listing = this.#pages((of) => this.#tracker.list({ ...of, limit, status }, { signal }));
    const running = /** @type {const} */ ({ limit: COUNTED, status: "in_progress", fields: "brief" });
    const counting = this.#counts ? this.#pages((of) => this.#tracker.list({ ...of, ...running }, { signal })) : [];
    const [pages, counted] = await Promise.all([listing, counting]);
    this.running = new Set(counted.flatMap(({ items }) => items).map(({ id }) => id));
    const listed = pages.flatMap(({ items }) => items).sort((a, b) => (isNewer(a, b) ? -1 : 1));
    this.#hasMore = listed.length > this.#limit || pages.some(({ nextCursor }) => nextCursor !== null);
    const known = new Map(this.items.map((item) => [item.task.id, item]));
    this.items = listed.slice(0, this.#limit).map((task) => {
      const item = known.get(task.id) ?? { task, view: new TaskView(), isDirty: true };
      this.#stand(item, task);
      return item;
    });
    const first = this.items[0]?.task;
    if (first && (!this.#newest || isNewer(first, this.#newest))) this.#newest = first;
    this.isListed = true;
    this.onChange();
  }

  /** @param {TaskItem} task */
  #upsert(task) {
    if (task.status === "in_progress") this.running.add(task.id);
    else this.running.delete(task.id);
    const at = this.items.findIndex((item) => item.task.id === task.id);
    const { statuses } = this.#filter;
    const isWanted = !statuses || statuses.includes(task.status);
    const item = this.items[at];
    if (item) {
      const wasEnd = item.view.isEnd;
      this.#stand(item, task);
      if (!isWanted) this.#remove(at);
      if (item.view.isEnd && !wasEnd) this.onEnded(item);
    } else if (isWanted) this.#add(task);
    this.onChange();
  }

  /** @param {TaskItem} task */
  #add(task) {
    const before = this.items.findIndex((item) => isNewer(task, item.task));
    const at = before < 0 ? this.items.length : before;
    if (at >= this.#limit) return void (this.#hasMore = true);
    const item = { task, view: new TaskView(), isDirty: true };
    this.#stand(item, task);
    this.items.splice(at, 0, item);
    if (this.items.length > this.#limit) {
      this.items.pop();
      this.#hasMore = true;
    }
    if (this.#newest && !isNewer(task, this.#newest)) return;
    this.#newest = task;
    this.onAdded(item);
  }

  /** @param {number} at */
  #remove(at) {
    this.items.splice(at, 1);
    if (!this.#hasMore || this.#isRefilling) return;
    this.#isRefilling = true;
    const { signal } = this.#options;
    void rest(REFILL_MS, signal).then(async () => {
      this.#isRefilling = false;
      // Should it fail, the stream hears of it, too.
      if (!signal?.aborted) await this.#list().catch(() => {});
    });
  }

  /** @param {Item} item @param {TaskItem} task */
  #stand(item, task) {
    if (task.updatedAt < item.task.updatedAt) return;
    item.task = task;
    item.view.stand(task);
    item.isDirty = true;
  }

  /** @param {Item} item */
  #changed(item) {
    item.isDirty = true;
    this.onChange();
  }
}
