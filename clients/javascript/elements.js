/**
 * Custom elements that show tasks. Nothing of them needs inline styles or scripts: sheets are constructed and what moves
 * is set through the CSSOM, so they work under `style-src 'self'; script-src 'self'`.
 */

/** @import { ClientOptions, Connection, TaskEvent, Timing } from "./client.js" */

import { track } from "./client.js";
import { TaskView, inWords } from "./client/view.js";

/** Entries that are there already of which it wants to know: enough for what is said now and then, and for a rate. */
const LAST = 200;
/** How far a task has come since it was last announced, in percent: a screen reader is not to talk all the time. */
const ANNOUNCED_EVERY = 25;

const CSS = `
:host {
  --_text: var(--task-progress-text, light-dark(#1b1f24, #e6eaf0));
  --_muted: var(--task-progress-muted, light-dark(#57606a, #9da7b3));
  --_track: var(--task-progress-track, light-dark(#e1e6ed, #2d333c));
  --_accent: var(--task-progress-accent, light-dark(#2563eb, #6ea2ff));
  --_success: var(--task-progress-success, light-dark(#1a7f37, #4cc36a));
  --_danger: var(--task-progress-danger, light-dark(#c3242b, #ff8078));
  --_warning: var(--task-progress-warning, light-dark(#8f5f00, #e0b050));
  --_height: var(--task-progress-height, 0.5em);
  --_radius: var(--task-progress-radius, 999px);
  display: block;
  min-inline-size: 10em;
  color: var(--_text);
  font-family: var(--task-progress-font, inherit);
  line-height: 1.45;
  font-variant-numeric: tabular-nums;
}
:host([hidden]) { display: none; }
.task { --_tone: var(--_accent); display: grid; gap: 0.4em; }
.task[data-tone="quiet"] { --_tone: var(--_muted); }
.task[data-tone="good"] { --_tone: var(--_success); }
.task[data-tone="bad"] { --_tone: var(--_danger); }
.task[data-tone="warn"] { --_tone: var(--_warning); }
.row { display: flex; align-items: baseline; justify-content: space-between; gap: 1em; min-inline-size: 0; }
.label { font-weight: 600; overflow-wrap: anywhere; }
.percent, .below { color: var(--_muted); }
.percent { flex: none; font-size: 0.875em; }
.below { font-size: 0.875em; min-block-size: 1.45em; }
.bar { block-size: var(--_height); border-radius: var(--_radius); background: var(--_track); overflow: hidden; }
.fill {
  block-size: 100%; inline-size: 0; border-radius: inherit; background: var(--_tone);
  transition: inline-size 300ms ease-out, background-color 200ms;
}
.status { flex: none; color: var(--_tone); font-weight: 500; }
.status::before {
  content: ""; display: inline-block; inline-size: 0.5em; block-size: 0.5em; margin-inline-end: 0.45em;
  border-radius: 50%; background: currentColor; vertical-align: 0.1em;
}
.says { flex: 1 1 8em; min-inline-size: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.says[data-level="warn"], .says[data-level="warning"] { color: var(--_warning); }
.says[data-level="error"], .says[data-level="fatal"] { color: var(--_danger); }
.below { gap: 0 0.75em; flex-wrap: wrap; }
.time { flex: none; margin-inline-start: auto; }
.error { flex: 1 1 8em; min-inline-size: 0; color: var(--_danger); overflow-wrap: anywhere; }
.task[data-tone="quiet"] .error, .task[data-tone="warn"] .error { color: var(--_muted); }
details { font-size: 0.875em; color: var(--_muted); }
summary { inline-size: fit-content; cursor: pointer; border-radius: 3px; }
summary:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
pre { margin: 0.4em 0 0; font-size: 0.925em; white-space: pre-wrap; overflow-wrap: anywhere; max-block-size: 20em; overflow: auto; }
[hidden] { display: none !important; }
.unseen { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.bar[data-unknown] .fill { inline-size: 35%; animation: wander 1.6s ease-in-out infinite alternate; transition: none; }
@keyframes wander { from { margin-inline-start: 0; } to { margin-inline-start: 65%; } }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .bar[data-unknown] .fill {
    animation: none; inline-size: 100%;
    background: repeating-linear-gradient(135deg, var(--_tone) 0 0.5em, transparent 0.5em 1em);
  }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill { --_tone: Highlight; forced-color-adjust: none; }
  .status::before { forced-color-adjust: none; background: CanvasText; }
}
`;

/** @type {CSSStyleSheet | undefined} */
let sheet;
/** One sheet for all, made when the first is. */
function sheets() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  return [sheet];
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children
 */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Writes what has changed, and nothing else: a page may show very many. @param {Element} element @param {string} text */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
/** @param {Element} element @param {string} name @param {string | undefined} value */
function mark(element, name, value) {
  if (value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The parts of one element: a label and a bar, and below what is said. */
function build() {
  const label = make("span", { class: "label", part: "label", id: "label" }, make("slot"));
  const percent = make("span", { class: "percent", part: "percent" });
  const fill = make("div", { class: "fill", part: "fill" });
  const bar = make("div", { class: "bar", part: "bar", role: "progressbar", "aria-labelledby": "label", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const status = make("span", { class: "status", part: "status" });
  const says = make("span", { class: "says", part: "message" });
  const time = make("span", { class: "time", part: "time" });
  const error = make("span", { class: "error", part: "error", hidden: "" });
  const [summary, pre] = [make("summary", { part: "details-summary" }), make("pre", { part: "details-text", tabindex: "0" })];
  const details = make("details", { part: "details", hidden: "" }, summary, pre);
  const live = make("div", { class: "unseen", role: "status" });
  const task = make("div", { class: "task", part: "task" },
    make("div", { class: "row", part: "head" }, label, percent), bar,
    make("div", { class: "row below", part: "foot" }, status, says, error, time), details, live);
  return { task, slot: /** @type {HTMLSlotElement} */ (label.firstChild), percent, fill, bar, status, says, time, error, details, summary, pre, live };
}

/** Where there is no page, as on a server that renders one, this module can be loaded all the same. */
const Base = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

export class TaskProgressElement extends Base {
  static observedAttributes = ["task-id", "base-url", "label"];
  static words = {
    statuses: /** @type {Record<string, string>} */ ({
      pending: "Waiting", in_progress: "Running", completed: "Completed", failed: "Failed", timeout: "Timed out", cancelled: "Cancelled",
    }),
    stalled: "Stalled",
    cancelling: "Cancelling",
    connecting: "Connecting",
    unavailable: "Unavailable",
    reconnecting: "reconnecting …",
    details: "Details",
    left: (/** @type {string} */ time) => `about ${time} left`,
    count: (/** @type {number} */ current, /** @type {number} */ total) => `${current} of ${total}`,
  };

  #parts = build();
  #view = new TaskView();
  /** @type {AbortController | undefined} */
  #running;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #tick;
  #isPainting = false;
  /** What was announced last; `undefined` before anything was shown. @type {string | undefined} */
  #announced;
  /** @type {ClientOptions["headers"]} */
  #headers;
  /** @type {Timing | undefined} */
  #timing;
  /** @type {Connection | undefined} */
  connection = undefined;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = sheets();
    root.append(this.#parts.task);
  }

  get taskId() { return this.getAttribute("task-id") ?? ""; }
  set taskId(id) { this.setAttribute("task-id", id); }
  get baseUrl() { return this.getAttribute("base-url") ?? ""; }
  set baseUrl(url) { this.setAttribute("base-url", url); }
  get label() { return this.getAttribute("label") ?? ""; }
  set label(label) { this.setAttribute("label", label); }
  get headers() { return this.#headers; }
  set headers(headers) {
    this.#headers = headers;
    this.#start();
  }

  get timing() { return this.#timing; }
  set timing(timing) {
    this.#timing = timing;
    this.#start();
  }

  connectedCallback() {
    // What a page has set before this module was there stands in the way of what is set now.
    const early = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this));
    for (const name of ["taskId", "baseUrl", "label", "headers", "timing"]) {
      if (!Object.hasOwn(early, name)) continue;
      const value = early[name];
      delete early[name];
      early[name] = value;
    }
    this.#start();
  }
  disconnectedCallback() { this.#stop(); }
  /** @param {string} name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(name, before, now) {
    if (name === "label") this.#repaint();
    else if (before !== now) this.#start();
  }

  #stop() {
    this.#running?.abort();
    this.#running = undefined;
    clearTimeout(this.#tick);
  }

  /** Several attributes that are set together are one beginning. */
  #start() {
    this.#stop();
    if (!this.isConnected) return;
    [this.#view, this.connection, this.#announced] = [new TaskView(), undefined, undefined];
    const running = (this.#running = new AbortController());
    queueMicrotask(() => {
      if (!running.signal.aborted && this.taskId !== "") void this.#follow(running.signal);
    });
    this.#repaint();
  }

  /** @param {AbortSignal} signal */
  async #follow(signal) {
    const [view, { taskId, headers, timing }] = [this.#view, this];
    const onConnection = (/** @type {Connection} */ connection) => {
      if (signal.aborted) return;
      this.connection = connection;
      this.#repaint();
    };
    try {
      const baseUrl = this.baseUrl || undefined;
      for await (const event of track(taskId, { baseUrl, headers, timing, signal, last: LAST, onConnection })) {
        view.fold(event, Date.now());
        this.#repaint();
        this.#fire("task-event", event);
        if (event.event === "status_change" && view.isEnd) this.#fire("task-end", event.data);
      }
    } catch (error) {
      if (signal.aborted) return;
      view.refuse(error instanceof Error ? error.message : String(error));
      this.#repaint();
      this.#fire("task-error", error);
    }
  }

  /** @param {string} name @param {unknown} detail */
  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** However much happens, it is painted once a frame. */
  #repaint() {
    if (this.#isPainting) return;
    this.#isPainting = true;
    requestAnimationFrame(() => {
      this.#isPainting = false;
      if (this.isConnected) this.#paint();
    });
  }

  #paint() {
    const { slot, task, percent, fill, bar, status, says, time, error, details, summary, pre } = this.#parts;
    const { words } = TaskProgressElement;
    const view = this.#view;
    const { word, tone } = this.#standing();
    write(slot, this.label || this.taskId);
    mark(task, "data-tone", tone);
    write(status, word);
    const isUnknown = view.status === "in_progress" && view.percent === undefined && !view.error;
    const shown = Math.floor(view.percent ?? 0);
    bar.toggleAttribute("data-unknown", isUnknown);
    fill.style.inlineSize = isUnknown ? "" : `${view.percent ?? 0}%`;
    write(percent, view.percent === undefined ? "" : `${shown}%`);
    const said = [view.stage, view.message, view.count && words.count(view.count.current, view.count.total)];
    write(says, view.isEnd || view.status === "pending" ? "" : said.filter(Boolean).join(" · "));
    mark(says, "data-level", view.level);
    const left = view.secondsLeft(Date.now());
    const isAway = this.connection?.state === "waiting" && this.connection.failures > 0 && !view.isEnd && !view.error;
    write(time, isAway ? words.reconnecting : left === undefined ? "" : words.left(inWords(left)));
    mark(bar, "aria-valuenow", isUnknown ? undefined : String(shown));
    mark(bar, "aria-valuetext", [isUnknown ? "" : `${shown}%`, word, time.textContent].filter(Boolean).join(", "));
    [says.hidden, error.hidden] = [Boolean(view.error), !view.error];
    write(error, view.error?.text ?? "");
    details.hidden = !view.error?.details;
    write(summary, words.details);
    write(pre, view.error?.details ? JSON.stringify(view.error.details, null, 2) : "");
    this.#announce(word, shown);
    clearTimeout(this.#tick);
    if (left !== undefined) this.#tick = setTimeout(() => this.#repaint(), 1000);
  }

  #standing() {
    const { words } = TaskProgressElement;
    const { status, isRefused, isStalled, isCancelling, isEnd } = this.#view;
    if (isRefused) return { word: words.unavailable, tone: "bad" };
    if (status === undefined) return { word: words.connecting, tone: "quiet" };
    const word = words.statuses[status] ?? status;
    if (isEnd) return { word, tone: { completed: "good", cancelled: "quiet" }[status] ?? "bad" };
    if (isCancelling) return { word: words.cancelling, tone: "warn" };
    if (isStalled) return { word: words.stalled, tone: "warn" };
    return { word, tone: status === "in_progress" ? "busy" : "quiet" };
  }

  /** Says what has changed since it was last said, in steps; what was there from the beginning is read as it stands. @param {string} word @param {number} percent */
  #announce(word, percent) {
    if (this.#view.status === undefined && !this.#view.isRefused) return;
    const step = this.#view.isEnd ? "" : Math.floor(percent / ANNOUNCED_EVERY);
    const now = `${word} ${step}`;
    if (this.#announced === now) return;
    const name = this.textContent?.trim() || this.label || this.taskId;
    const far = step ? `, ${percent}%` : "";
    if (this.#announced !== undefined) write(this.#parts.live, `${name}: ${word}${far}`);
    this.#announced = now;
  }
}

globalThis.customElements?.define("task-progress", TaskProgressElement);
