/** Reads the pages of a list: the next as one comes near the end, and those again that may have changed while they are looked at. */

import { asked } from "./filters.js";
import { reason } from "./toast.js";

const LIMIT = 100;
/** Pages in a row in which nothing was found, after which a search asks before it goes on. */
const PATIENT_PAGES = 10;
const AGAIN_MS = 3_000;

export class Loader {
  isLoading = false;
  /** It searched for long, and waits to be asked. */
  isPaused = false;
  error = "";
  #tasks;
  #list;
  #signal;
  #onChange;
  #barren = 0;
  #isRereading = false;

  /**
   * @param {import("./tasks.js").Tasks} tasks
   * @param {(query: any, signal: AbortSignal) => Promise<{ items: any[], nextCursor: string | null }>} list
   * @param {AbortSignal} signal
   * @param {() => void} onChange
   */
  constructor(tasks, list, signal, onChange) {
    this.#tasks = tasks;
    this.#list = list;
    this.#signal = signal;
    this.#onChange = onChange;
  }

  /** What is on the screen now. @param {string[]} ids @param {boolean} isNearEnd */
  look(ids, isNearEnd) {
    if (isNearEnd && !this.isPaused && !this.error) void this.more();
    if (this.#tasks.stale.size > 0) void this.#reread(ids);
  }

  /** The next page. @param {boolean} [isAsked] by somebody who knows that it failed, or takes long */
  async more(isAsked = false) {
    if (this.isLoading || this.#tasks.next === null || this.#signal.aborted) return;
    if (isAsked) [this.isPaused, this.error, this.#barren] = [false, "", 0];
    this.isLoading = true;
    const [begin, asked] = [this.#tasks.next ?? "", this.#tasks.moment];
    try {
      const page = await this.#page(begin);
      if (this.#signal.aborted) return;
      this.#tasks.append(begin, page, asked);
      this.#barren = page.items.length === 0 ? this.#barren + 1 : 0;
      this.isPaused = this.#barren >= PATIENT_PAGES && page.nextCursor !== null;
    } catch (error) {
      if (this.#signal.aborted) return;
      this.error = reason(error);
      // A server that restarts is back soon.
      setTimeout(() => this.error && this.more(true), AGAIN_MS);
    } finally {
      this.isLoading = false;
    }
    this.#onChange();
  }

  /** @param {string[]} ids */
  async #reread(ids) {
    if (this.#isRereading) return;
    const tasks = this.#tasks;
    // The first page has what is new.
    const begin = tasks.stale.has("") ? "" : ids.map((id) => tasks.staleOf(id)).find((begin) => begin !== undefined);
    if (begin === undefined) return;
    this.#isRereading = true;
    let isThere = true;
    const asked = tasks.moment;
    try {
      const page = await this.#page(begin);
      if (!this.#signal.aborted) tasks.again(begin, page, asked);
    } catch {
      isThere = false;
    }
    const over = () => {
      this.#isRereading = false;
      if (!this.#signal.aborted) this.#onChange();
    };
    if (isThere) over();
    else setTimeout(over, AGAIN_MS);
  }

  /** @param {string} begin */
  #page(begin) {
    return this.#list({ ...asked(this.#tasks.filters), limit: LIMIT, cursor: begin || undefined }, this.#signal);
  }
}
