/** What a page follows of many tasks, on the stream that it has in common with what is around it. */

import { share } from "../../client/shared.js";
import { noteServerTime } from "./time.js";

/** @typedef {Pick<import("../../client/shared.js").SharedOptions, "taskTypes" | "statuses" | "progress" | "everyMs" | "onOpen" | "onTask" | "onProgress" | "onResync">} Wish */

export class Feed {
  #onConnection;
  /** @type {AbortController | undefined} */
  #running;

  /** @param {(connection: { state: string }) => void} onConnection */
  constructor(onConnection) {
    this.#onConnection = onConnection;
  }

  /** Follows this from now on, and nothing else. Unless it says that it is resumed, what is shown has to be read when it opens. @param {Wish} wish */
  open(wish) {
    this.close();
    const { signal } = (this.#running = new AbortController());
    const { onTask, onProgress } = wish;
    share({
      ...wish,
      signal,
      onConnection: this.#onConnection,
      onTask: (task, event) => (noteServerTime(event.timestamp), onTask?.(task, event)),
      onProgress: (id, entry, event) => (noteServerTime(event.timestamp), onProgress?.(id, entry, event)),
    }).catch(() => signal.aborted || this.#onConnection({ state: "refused" }));
  }

  close() {
    this.#running?.abort();
    this.#running = undefined;
  }
}
