/** `<task-progress>`: one task. */

import { track } from "../client.js";
import { TaskView } from "../client/view.js";
import { BAR_CSS, Bar, HOST_CSS } from "./bar.js";
import { make, sheet, write } from "./dom.js";
import { WatchingElement } from "./watching.js";
import { words } from "./words.js";

/** Entries that are there already of which it wants to know: enough for what is said now and then, and for a rate. */
const LAST = 200;
/** How far a task has come since it was last announced, in percent: a screen reader is not to talk all the time. */
const ANNOUNCED_EVERY = 25;

const sheets = sheet(HOST_CSS, BAR_CSS, `
details { font-size: 0.875em; color: var(--_muted); }
summary { inline-size: fit-content; cursor: pointer; border-radius: 3px; }
summary:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
pre { margin: 0.4em 0 0; font-size: 0.925em; white-space: pre-wrap; overflow-wrap: anywhere; max-block-size: 20em; overflow: auto; }
`);

export class TaskProgressElement extends WatchingElement {
  static observedAttributes = ["task-id", "base-url", "label"];
  static properties = [...WatchingElement.properties, "taskId", "label"];
  static words = words;

  #slot = make("slot");
  #bar = new Bar(this.#slot, "label");
  #summary = make("summary", { part: "details-summary" });
  #pre = make("pre", { part: "details-text", tabindex: "0" });
  #details = make("details", { part: "details", hidden: "" }, this.#summary, this.#pre);
  #live = make("div", { class: "unseen", role: "status" });
  #view = new TaskView();
  /** What was announced last; `undefined` before anything was shown. @type {string | undefined} */
  #announced;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = sheets();
    this.#bar.element.append(this.#details, this.#live);
    root.append(this.#bar.element);
  }

  get taskId() { return this.getAttribute("task-id") ?? ""; }
  set taskId(id) { this.setAttribute("task-id", id); }
  get label() { return this.getAttribute("label") ?? ""; }
  set label(label) { this.setAttribute("label", label); }

  /** @param {string} name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(name, before, now) {
    if (name === "label") this.repaint();
    else super.attributeChangedCallback(name, before, now);
  }

  begin() {
    [this.#view, this.#announced] = [new TaskView(), undefined];
  }

  /** @param {AbortSignal} signal */
  async follow(signal) {
    const [view, { taskId }] = [this.#view, this];
    if (taskId === "") return;
    for await (const event of track(taskId, { ...this.options(signal), last: LAST })) {
      view.fold(event, Date.now());
      this.repaint();
      this.fire("task-event", event);
      if (event.event === "status_change" && view.isEnd) this.fire("task-end", event.data);
    }
  }

  /** @param {unknown} error */
  refuse(error) {
    this.#view.refuse(error instanceof Error ? error.message : String(error));
  }

  paint() {
    const view = this.#view;
    write(this.#slot, this.label || this.taskId);
    const { word, percent, isMoving } = this.#bar.paint(view, Date.now(), { connection: this.connection });
    this.#details.hidden = !view.error?.details;
    write(this.#summary, words.details);
    write(this.#pre, view.error?.details ? JSON.stringify(view.error.details, null, 2) : "");
    this.#announce(word, percent);
    return isMoving ? 1000 : undefined;
  }

  /** Says what has changed since it was last said, in steps; what was there from the beginning is read as it stands. @param {string} word @param {number} percent */
  #announce(word, percent) {
    if (this.#view.status === undefined && !this.#view.isRefused) return;
    const step = this.#view.isEnd ? "" : Math.floor(percent / ANNOUNCED_EVERY);
    const now = `${word} ${step}`;
    if (this.#announced === now) return;
    const name = this.textContent?.trim() || this.label || this.taskId;
    const far = step ? `, ${percent}%` : "";
    if (this.#announced !== undefined) write(this.#live, `${name}: ${word}${far}`);
    this.#announced = now;
  }
}
