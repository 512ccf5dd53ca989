/** `<task-recent>`: a button with how many tasks run, and below it the newest ones. For the head of a page. */

/** @import { Item } from "./tasks.js" */

import { BAR_CSS, HOST_CSS } from "./bar.js";
import { make, mark, sheet, write } from "./dom.js";
import { TasksElement } from "./list.js";
import { ROWS_CSS } from "./rows.js";
import { COUNTED } from "./tasks.js";
import { words } from "./words.js";

/** How close the panel may come to the edge of the window, in pixels. */
const EDGE = 8;

const sheets = sheet(HOST_CSS, BAR_CSS, ROWS_CSS, `
:host { display: inline-block; min-inline-size: 0; }
.anchor { display: inline-block; position: relative; }
button {
  display: inline-flex; align-items: center; gap: 0.5em; min-block-size: 2.25em; padding: 0.3em 0.8em; cursor: pointer;
  border: 1px solid var(--_line); border-radius: var(--_corner); background: var(--_surface);
  color: inherit; font: inherit;
}
:host {
  --_surface: var(--task-recent-surface, light-dark(#ffffff, #1c2128));
  --_line: var(--task-recent-line, light-dark(#d0d7de, #444c56));
  --_corner: var(--task-recent-corner, 0.5em);
}
button:hover { border-color: var(--_muted); }
.count {
  min-inline-size: 1.6em; padding: 0 0.45em; border-radius: 999px; text-align: center;
  background: var(--_accent); color: var(--_on, light-dark(#ffffff, #10151c)); font-size: 0.8em; font-weight: 600;
}
.panel {
  position: absolute; z-index: var(--task-recent-layer, 100); inset-block-start: calc(100% + 0.4em); inset-inline-end: 0; box-sizing: border-box;
  inline-size: min(var(--task-recent-width, 26rem), 100vw - 16px); max-block-size: min(32rem, 75vh); overflow: auto; padding: 1em 1.1em;
  border: 1px solid var(--_line); border-radius: var(--_corner); background: var(--_surface);
  box-shadow: var(--task-recent-shadow, 0 8px 28px rgb(0 0 0 / 0.18)); text-align: start;
}
@media (prefers-reduced-motion: no-preference) {
  .panel { animation: appear 140ms ease-out; }
  @keyframes appear { from { opacity: 0; translate: 0 -0.3em; } }
}
@media (forced-colors: active) { .count { border: 1px solid ButtonText; } }
`);

export class TaskRecentElement extends TasksElement {
  static usual = 8;
  static counts = true;

  #name = make("slot");
  #count = make("span", { class: "count", part: "count", "aria-hidden": "true", hidden: "" });
  #unseen = make("span", { class: "unseen" });
  #button = make("button", { type: "button", part: "button", "aria-expanded": "false", "aria-controls": "panel" },
    make("span", {}, this.#name), this.#count, this.#unseen);
  #panel = make("div", { class: "panel", part: "panel", id: "panel", role: "group", hidden: "" }, this.rows.element, this.empty, this.refused);

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = sheets();
    root.append(make("div", { class: "anchor" }, this.#button, this.#panel), this.voice.element);
    this.#button.addEventListener("click", () => (this.open = !this.open));
    root.addEventListener("keydown", (event) => this.#key(/** @type {KeyboardEvent} */ (event)));
    root.addEventListener("focusout", (event) => {
      const to = /** @type {FocusEvent} */ (event).relatedTarget;
      // Focus that goes nowhere is a click on something that takes none, which may be in here.
      if (to instanceof Node && !root.contains(to)) this.open = false;
    });
    this.#panel.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("a")) this.open = false;
    });
  }

  get openOnAdd() { return this.hasAttribute("open-on-add"); }
  set openOnAdd(opens) { this.toggleAttribute("open-on-add", opens); }
  get open() { return !this.#panel.hidden; }
  set open(isOpen) {
    if (isOpen === this.open) return;
    this.#panel.hidden = !isOpen;
    mark(this.#button, "aria-expanded", String(isOpen));
    if (isOpen) {
      document.addEventListener("pointerdown", this.#outside);
      this.#place();
    } else document.removeEventListener("pointerdown", this.#outside);
    this.repaint();
    this.fire("task-toggle", { open: isOpen });
  }

  disconnectedCallback() {
    this.open = false;
    super.disconnectedCallback();
  }

  #outside = (/** @type {Event} */ event) => {
    if (!event.composedPath().includes(this)) this.open = false;
  };

  /** Into the window, wherever the button is. */
  #place() {
    this.#panel.style.marginInlineEnd = "";
    const { left, right } = this.#panel.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const over = left < EDGE ? left - EDGE : Math.max(0, right + EDGE - width);
    const isRtl = getComputedStyle(this).direction === "rtl";
    if (over !== 0) this.#panel.style.marginInlineEnd = `${isRtl ? -over : over}px`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { key } = event;
    if (key === "Escape" && this.open) {
      // What is around it, as a dialog, stays open.
      event.stopPropagation();
      this.open = false;
      this.#button.focus();
    } else if (["ArrowDown", "ArrowUp", "Home", "End"].includes(key)) this.#move(event);
  }

  /** From one row to the next. @param {KeyboardEvent} event */
  #move(event) {
    const links = [...this.#panel.querySelectorAll("a")];
    const active = this.shadowRoot?.activeElement;
    const at = links.findIndex((link) => link === active);
    if (active === this.#button && event.key === "ArrowDown") this.open = true;
    else if (at < 0) return;
    event.preventDefault();
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key] ?? at;
    if (to < 0) this.#button.focus();
    else links[Math.min(to, links.length - 1)]?.focus();
  }

  /** @param {Item} item */
  added(item) {
    super.added(item);
    if (this.openOnAdd) this.open = true;
  }

  paint() {
    const next = super.paint();
    const running = this.tasks?.running.size ?? 0;
    const shown = running >= COUNTED ? `${COUNTED - 1}+` : String(running);
    write(this.#name, this.label || words.tasks);
    write(this.#count, running === 0 ? "" : shown);
    this.#count.hidden = running === 0;
    write(this.#unseen, running === 0 ? "" : `, ${words.running(shown)}`);
    mark(this.#panel, "aria-label", words.recent);
    // What scrolls is reached by keyboard, also where no row can be.
    mark(this.#panel, "tabindex", this.href ? undefined : "0");
    return this.open ? next : undefined;
  }
}
