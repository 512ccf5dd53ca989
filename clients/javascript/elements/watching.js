/** What the elements have in common: where the service is, when they follow something and when no longer, when they are painted. */

/** @import { ClientOptions, Connection, Timing } from "../client.js" */

/** Where there is no page, as on a server that renders one, this module can be loaded all the same. */
const Page = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

export class WatchingElement extends Page {
  /** Properties that a page may have set before this module was there. */
  static properties = ["baseUrl", "headers", "timing"];

  /** @type {AbortController | undefined} */
  #running;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #tick;
  #isPainting = false;
  /** @type {ClientOptions["headers"]} */
  #headers;
  /** @type {Timing | undefined} */
  #timing;
  /** @type {Connection | undefined} */
  connection = undefined;

  /** Forgets what was shown: what is to be followed is another. */
  begin() {}
  /** Follows, until the signal ends it. @param {AbortSignal} _signal @returns {Promise<void>} */
  async follow(_signal) {}
  /** Shows what there is, and says in how many milliseconds that is out of date by itself. @returns {number | undefined} */
  paint() { return undefined; }
  /** It cannot be followed. @param {unknown} _error */
  refuse(_error) {}

  get baseUrl() { return this.getAttribute("base-url") ?? ""; }
  set baseUrl(url) { this.setAttribute("base-url", url); }
  get headers() { return this.#headers; }
  set headers(headers) {
    this.#headers = headers;
    this.restart();
  }

  get timing() { return this.#timing; }
  set timing(timing) {
    this.#timing = timing;
    this.restart();
  }

  connectedCallback() {
    // What a page has set before this module was there stands in the way of what is set now.
    const early = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this));
    for (const name of /** @type {typeof WatchingElement} */ (this.constructor).properties) {
      if (!Object.hasOwn(early, name)) continue;
      const value = early[name];
      delete early[name];
      early[name] = value;
    }
    this.restart();
  }
  disconnectedCallback() { this.#stop(); }
  /** @param {string} _name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(_name, before, now) {
    if (before !== now) this.restart();
  }

  #stop() {
    this.#running?.abort();
    this.#running = undefined;
    clearTimeout(this.#tick);
  }

  restart() {
    this.#stop();
    if (!this.isConnected) return;
    this.connection = undefined;
    this.begin();
    this.#go();
  }

  /** Several attributes that are set together are one beginning. */
  #go() {
    const running = (this.#running = new AbortController());
    queueMicrotask(() => running.signal.aborted || void this.#follow(running.signal));
    this.repaint();
  }

  /** @param {AbortSignal} signal */
  async #follow(signal) {
    try {
      await this.follow(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.refuse(error);
      this.repaint();
      this.fire("task-error", error);
    }
  }

  /** How the service is asked, and how the connection is told. @param {AbortSignal} signal */
  options(signal) {
    const onConnection = (/** @type {Connection} */ connection) => {
      if (signal.aborted) return;
      this.connection = connection;
      this.repaint();
    };
    return { baseUrl: this.baseUrl || undefined, headers: this.headers, timing: this.timing, signal, onConnection };
  }

  /** @param {string} name @param {unknown} detail */
  fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** However much happens, it is painted once a frame. */
  repaint() {
    if (this.#isPainting) return;
    this.#isPainting = true;
    requestAnimationFrame(() => {
      this.#isPainting = false;
      if (!this.isConnected) return;
      const ms = this.paint();
      clearTimeout(this.#tick);
      if (ms !== undefined) this.#tick = setTimeout(() => this.repaint(), ms);
    });
  }
}
