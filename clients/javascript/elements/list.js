/** `<task-list>`: the newest tasks, live, one bar each. */

/** @import { Item } from "./tasks.js" */

import { BAR_CSS, HOST_CSS, standing } from "./bar.js";
import { make, mark, sheet, write } from "./dom.js";
import { ROWS_CSS, Rows, Voice, nameOf } from "./rows.js";
import { Tasks } from "./tasks.js";
import { WatchingElement } from "./watching.js";
import { words } from "./words.js";

/** As many as the service lists at once. */
const MOST = 100;

const sheets = sheet(HOST_CSS, BAR_CSS, ROWS_CSS);

/** What an attribute names, separated by commas. @param {string | null} text */
const several = (text) => {
  const values = (text ?? "").split(",").map((value) => value.trim()).filter(Boolean);
  return values.length > 0 ? values : undefined;
};

/** What shows several tasks: the list, and whatever has one in it. */
export class TasksElement extends WatchingElement {
  static observedAttributes = ["task-type", "status", "limit", "base-url", "href", "label"];
  static properties = [...WatchingElement.properties, "taskType", "status", "limit", "href", "label"];
  static words = words;
  /** How many there are unless it is said. */
  static usual = 20;
  /** Whether it says how many run. */
  static counts = false;

  rows = new Rows();
  voice = new Voice();
  refused = make("p", { class: "refused", part: "error", role: "alert", hidden: "" });
  empty = make("div", { class: "empty", part: "empty", hidden: "" }, make("slot", { name: "empty" }));
  /** @type {Tasks | undefined} */
  tasks;
  #refusal = "";

  get taskType() { return this.getAttribute("task-type") ?? ""; }
  set taskType(type) { this.setAttribute("task-type", type); }
  get status() { return this.getAttribute("status") ?? ""; }
  set status(status) { this.setAttribute("status", status); }
  get href() { return this.getAttribute("href") ?? ""; }
  set href(href) { this.setAttribute("href", href); }
  get label() { return this.getAttribute("label") ?? ""; }
  set label(label) { this.setAttribute("label", label); }
  get limit() {
    const { usual } = /** @type {typeof TasksElement} */ (this.constructor);
    const limit = Number.parseInt(this.getAttribute("limit") ?? "", 10);
    return limit > 0 ? Math.min(limit, MOST) : usual;
  }
  set limit(limit) { this.setAttribute("limit", String(limit)); }

  /** @param {string} name @param {string | null} before @param {string | null} now */
  attributeChangedCallback(name, before, now) {
    if (name === "href" || name === "label") this.repaint();
    else super.attributeChangedCallback(name, before, now);
  }

  begin() {
    this.tasks = undefined;
    this.#refusal = "";
  }

  /** @param {AbortSignal} signal */
  async follow(signal) {
    this.tasks ??= this.#tasks();
    await this.tasks.follow(this.options(signal));
  }

  #tasks() {
    const { counts } = /** @type {typeof TasksElement} */ (this.constructor);
    const tasks = new Tasks({ taskTypes: several(this.taskType), statuses: several(this.status), limit: this.limit, counts });
    tasks.onChange = () => this.repaint();
    tasks.onAdded = (item) => this.added(item);
    tasks.onEnded = (item) => {
      this.voice.say(`${nameOf(item.task)}: ${standing(item.view).word}`);
      this.fire("task-ended", item.task);
    };
    return tasks;
  }

  /** @param {Item} item */
  added(item) { this.fire("task-added", item.task); }

  /** @param {unknown} error */
  refuse(error) {
    this.#refusal = error instanceof Error ? error.message : String(error);
  }

  /** @returns {number | undefined} */
  paint() {
    const { tasks, rows, empty, refused, href, connection } = this;
    const items = tasks?.items ?? [];
    const next = rows.paint(items, Date.now(), { href, connection });
    mark(rows.element, "aria-label", this.label || words.tasks);
    write(/** @type {Element} */ (empty.firstElementChild), tasks?.isListed ? words.none : words.connecting);
    empty.hidden = items.length > 0 || this.#refusal !== "";
    refused.hidden = this.#refusal === "";
    write(refused, this.#refusal);
    return next;
  }
}

export class TaskListElement extends TasksElement {
  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = sheets();
    root.append(this.rows.element, this.empty, this.refused, this.voice.element);
  }
}
