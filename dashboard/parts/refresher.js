/** Reads something again: soon after it may have changed, and otherwise now and then; never twice at once, and not for nobody. */

export class Refresher {
  #work;
  #leastMs;
  #mostMs;
  #signal;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #begunAt = -Infinity;
  #isWorking = false;
  #isWanted = false;

  /**
   * @param {() => Promise<void>} work which says itself what went wrong
   * @param {{ signal: AbortSignal, leastMs?: number, mostMs?: number }} options how far two are apart, at least and at most
   */
  constructor(work, { signal, leastMs = 2_000, mostMs = 10_000 }) {
    this.#work = work;
    this.#leastMs = leastMs;
    this.#mostMs = mostMs;
    this.#signal = signal;
    document.addEventListener("visibilitychange", () => this.soon(), { signal });
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  /** As soon as it may be. */
  soon() {
    this.#isWanted = true;
    if (this.#isWorking || document.hidden) return;
    this.#in(Math.max(0, this.#begunAt + this.#leastMs - performance.now()));
  }

  /** Without waiting; resolves once it is there. */
  async now() {
    clearTimeout(this.#timer);
    if (this.#isWorking || this.#signal.aborted) return this.soon();
    [this.#isWorking, this.#isWanted, this.#begunAt] = [true, false, performance.now()];
    try {
      await this.#work();
    } finally {
      this.#isWorking = false;
      if (this.#isWanted) this.soon();
      else this.#in(this.#mostMs);
    }
  }

  /** @param {number} ms */
  #in(ms) {
    clearTimeout(this.#timer);
    if (this.#signal.aborted) return;
    this.#timer = setTimeout(() => (document.hidden ? undefined : void this.now()), ms);
  }
}
