/**
 * The one event stream of the page: browsers allow six connections to a host, and a tab that nobody looks at gives its own back.
 */

import * as client from "../../client.js";
import { noteServerTime } from "./time.js";

/** For how long a page may be hidden before its stream is closed. */
const HIDDEN_MS = 60_000;

/**
 * @typedef {object} Wish
 * @property {string[]} [taskIds]
 * @property {string[]} [taskTypes]
 * @property {string[]} [statuses]
 * @property {"latest" | "all" | "none"} [progress]
 * @property {number} [everyMs]
 * @property {(about: { resumed: boolean }) => void} [onOpen] unless it is resumed, what is shown has to be read now
 * @property {(task: any, event: any) => void} [onTask]
 * @property {(taskId: string, entry: any, event: any) => void} [onProgress]
 * @property {(taskId: string, gap: any, event: any) => void} [onGap]
 * @property {() => void} [onResync]
 * @property {(error: unknown) => void} [onRefused] it cannot be followed
 */

export class Feed {
  #onConnection;
  /** @type {Wish | undefined} */
  #wish;
  /** @type {AbortController | undefined} */
  #running;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {(connection: { state: string } | undefined) => void} onConnection `undefined` while nothing is followed */
  constructor(onConnection) {
    this.#onConnection = onConnection;
    document.addEventListener("visibilitychange", () => this.#look());
  }

  /** Follows this from now on, and nothing else. Gives what ends it. @param {Wish} wish */
  open(wish) {
    this.close();
    this.#wish = wish;
    this.#look();
    return () => {
      if (this.#wish === wish) this.close();
    };
  }

  close() {
    this.#wish = undefined;
    this.#stop();
  }

  /** A page that comes back into view finds its stream, or a new one, which says that it missed something. */
  #look() {
    clearTimeout(this.#timer);
    if (document.hidden) this.#timer = setTimeout(() => this.#stop(), HIDDEN_MS);
    else if (this.#wish && !this.#running) this.#start(this.#wish);
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = undefined;
    this.#onConnection(undefined);
  }

  /** @param {Wish} wish */
  #start(wish) {
    const running = (this.#running = new AbortController());
    const { signal } = running;
    /** What comes after it was closed is for nobody. @param {((...told: any[]) => void) | undefined} listener */
    const unlessOver = (listener) => (/** @type {any[]} */ ...told) => {
      if (!signal.aborted) listener?.(...told);
    };
    const { onOpen, onTask, onProgress, onGap, onResync, onRefused, ...filters } = wish;
    const seen = (/** @type {any} */ event) => noteServerTime(event?.timestamp);
    const over = client.events({
      ...filters,
      signal,
      onOpen: unlessOver(onOpen),
      onTask: unlessOver((task, event) => (seen(event), onTask?.(task, event))),
      onProgress: unlessOver((id, entry, event) => (seen(event), onProgress?.(id, entry, event))),
      onGap: unlessOver(onGap),
      onResync: unlessOver(onResync),
      onConnection: unlessOver(this.#onConnection),
    });
    Promise.resolve(over).catch((error) => {
      if (signal.aborted) return;
      this.#onConnection({ state: "refused" });
      onRefused?.(error);
    });
  }
}
