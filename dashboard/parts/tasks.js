/** The tasks of a list: pages of them, what has changed of them since, and what is new and waits to be let in. Pure: it knows no page. */

import { comparing, matches } from "./filters.js";

/** Of those that wait to be let in; beyond that the list is read anew. */
const MOST_FRESH = 1000;

export class Tasks {
  /** By id. @type {Map<string, any>} */
  known = new Map();
  /** Those that are shown, by id, in order. @type {string[]} */
  shown = [];
  /** Those that wait. @type {Set<string>} */
  fresh = new Set();
  /** Those that were shown and are of the list no longer: they stay where they are until the list moves anyway. @type {Set<string>} */
  left = new Set();
  /** Where the next page begins; `null` behind the last, `undefined` before the first. @type {string | null | undefined} */
  next = undefined;
  /** Where the page of a task begins, to read it again; the first begins at "". @type {Map<string, string>} */
  #pages = new Map();
  /** Pages that may have changed unnoticed. @type {Set<string>} */
  stale = new Set();
  /** How often everything may have changed, and how often a task was left to a page that is yet to be read: a page that was asked for before does not tell of it. */
  #moment = { expired: 0, left: 0 };

  /** @param {import("./filters.js").Filters} filters */
  constructor(filters) {
    this.filters = filters;
    this.compare = comparing(filters);
  }

  get isOverflowing() {
    return this.fresh.size > MOST_FRESH;
  }

  /** Now, for whoever asks for a page. */
  get moment() {
    return { ...this.#moment };
  }

  /** The next page, as it was read. @param {string} begin @param {{ items: any[], nextCursor: string | null }} page @param {{ expired: number, left: number }} asked when */
  append(begin, { items, nextCursor }, asked) {
    const before = new Set(this.shown);
    for (const task of items) {
      this.#note(task);
      this.fresh.delete(task.id);
      if (!before.has(task.id)) this.shown.push(task.id);
      this.#pages.set(task.id, begin);
    }
    // What was let in while the page was under way may belong behind some of it.
    this.#sort();
    this.next = nextCursor;
    if (asked.expired < this.#moment.expired || asked.left < this.#moment.left) this.stale.add(begin);
  }

  /** A page that was shown before, as it is now. @param {string} begin @param {{ items: any[] }} page @param {{ expired: number }} asked when */
  again(begin, { items }, asked) {
    if (asked.expired === this.#moment.expired) this.stale.delete(begin);
    const now = new Set(items.map(({ id }) => id));
    for (const task of items) {
      this.take(task);
      this.left.delete(task.id);
      this.#pages.set(task.id, begin);
    }
    const last = items.at(-1);
    for (const id of this.shown) {
      if (this.#pages.get(id) !== begin || now.has(id)) continue;
      // News push the end of a page into the next.
      const isBeyond = last && this.compare(this.known.get(id), last) > 0;
      if (!isBeyond) this.left.add(id);
    }
  }

  /**
   * A task as it stands now.
   * @param {any} task
   * @returns {"changed" | "fresh" | "none"} what it means for the list
   */
  take(task) {
    const isOf = matches(this.filters, task);
    if (this.#pages.has(task.id) || this.known.has(task.id)) {
      if (!this.#note(task)) return "none";
      if (this.fresh.has(task.id)) {
        if (!isOf) this.#forget(task.id);
        return "fresh";
      }
      if (isOf) this.left.delete(task.id);
      else this.left.add(task.id);
      return "changed";
    }
    if (!isOf) return "none";
    // Before the first page everything is read, and beyond the last one that was read it will be.
    const last = this.known.get(this.shown.at(-1) ?? "");
    if (this.next === undefined || (this.next !== null && last && this.compare(task, last) > 0)) {
      this.#moment.left++;
      return "none";
    }
    this.#note(task);
    this.fresh.add(task.id);
    return "fresh";
  }

  /** What was reported of a task. Says whether it is shown. @param {string} id @param {any} entry */
  progress(id, entry) {
    const task = this.known.get(id);
    if (!task || (task.latestProgress?.seqId ?? 0) >= entry.seqId) return false;
    this.known.set(id, { ...task, latestProgress: entry, stalledAt: null });
    return !this.fresh.has(id);
  }

  /** Lets in what waits, and out what is of the list no longer. */
  admit() {
    if (this.fresh.size === 0) return;
    this.shown = this.shown.filter((id) => !this.left.has(id));
    for (const id of this.left) this.#forget(id);
    this.left.clear();
    this.shown.push(...this.fresh);
    this.fresh.clear();
    this.#sort();
  }

  /** Everything may have changed. */
  expire() {
    this.#moment.expired++;
    this.stale = new Set(this.#pages.values());
    if (this.next !== undefined) this.stale.add("");
  }

  /** Where the page begins that this task is of, if it is to be read again. @param {string} id */
  staleOf(id) {
    const begin = this.#pages.get(id);
    return begin !== undefined && this.stale.has(begin) ? begin : undefined;
  }

  #sort() {
    this.shown.sort((a, b) => this.compare(this.known.get(a), this.known.get(b)));
  }

  /** @param {string} id */
  #forget(id) {
    this.known.delete(id);
    this.fresh.delete(id);
    this.#pages.delete(id);
  }

  /** The newer one wins. @param {any} task */
  #note(task) {
    const before = this.known.get(task.id);
    if (before && before.updatedAt > task.updatedAt) return false;
    const newest = (before?.latestProgress?.seqId ?? 0) > (task.latestProgress?.seqId ?? 0) ? before.latestProgress : task.latestProgress;
    // What a list does not show is not kept for ten thousand of them.
    const { params, metadata, result, ...brief } = task;
    this.known.set(task.id, { ...brief, latestProgress: newest });
    return true;
  }
}
