/** Tasks as a list of bars: one row each, kept as long as its task is shown. */

/** @import { Connection, JsonObject, TaskItem } from "../client.js" */
/** @import { Item } from "./tasks.js" */

import { inWords } from "../client/view.js";
import { Bar } from "./bar.js";
import { make, mark, write } from "./dom.js";
import { words } from "./words.js";

export const ROWS_CSS = `
.rows { list-style: none; margin: 0; padding: 0; display: grid; gap: var(--task-list-gap, 1.1em); }
.rows:empty { display: none; }
.rows li { min-inline-size: 0; }
.rows .label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; overflow-wrap: normal; min-inline-size: 0; }
.rows .error { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.rows a { color: inherit; text-decoration: none; border-radius: 3px; }
.rows a:hover { text-decoration: underline; text-underline-offset: 0.2em; }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.empty { color: var(--_muted); }
.refused { color: var(--_danger); overflow-wrap: anywhere; }
`;

/** Members of `metadata` that name a task, the best first. */
const NAMES = ["title", "name", "label"];

/** What a task is called. @param {TaskItem} task */
export function nameOf({ metadata, taskType }) {
  for (const name of NAMES) {
    const value = /** @type {JsonObject | null | undefined} */ (metadata)?.[name];
    if (typeof value === "string" && value.trim() !== "") return value;
  }
  return taskType;
}

/** What can be said of its time where none is known to be left. @param {Item} item @param {number} now */
function since({ task, view }, now) {
  const past = (/** @type {string | null} */ at) => inWords(Math.max(0, view.there(now) - Date.parse(at ?? task.createdAt)) / 1000);
  if (view.isEnd) return words.ago(past(task.completedAt));
  return view.status === "pending" ? words.waits(past(task.createdAt)) : "";
}

export class Rows {
  element = make("ul", { class: "rows", part: "list", role: "list" });
  /** @type {Map<string, { row: HTMLLIElement, link: HTMLAnchorElement | HTMLSpanElement, bar: Bar }>} */
  #rows = new Map();
  #made = 0;
  #href = "";
  #paintedAt = 0;

  /** Forgets all of them. */
  clear() {
    this.#rows.clear();
    this.element.replaceChildren();
  }

  /**
   * @param {Item[]} items
   * @param {number} now
   * @param {{ href: string, connection: Connection | undefined }} around
   * @returns {number | undefined} in how many milliseconds it is out of date
   */
  paint(items, now, { href, connection }) {
    if (href !== this.#href) this.clear();
    this.#href = href;
    this.#keep(items);
    // Times move by themselves, those of a second ago every second and those of an hour ago hardly.
    const isTime = now - this.#paintedAt >= 1000;
    if (isTime) this.#paintedAt = now;
    let next = items.length > 0 ? 15_000 : undefined;
    for (const item of items) {
      const shown = this.#rows.get(item.task.id);
      if (!shown) continue;
      if (item.isDirty || isTime) {
        const name = nameOf(item.task);
        write(shown.link, name);
        mark(shown.link, "title", name === item.task.id ? undefined : `${name} · ${item.task.id}`);
        shown.bar.paint(item.view, now, { connection, otherwise: since(item, now) });
        item.isDirty = false;
      }
      if (item.view.status === "in_progress" || /\bs\b/.test(shown.bar.time.textContent ?? "")) next = 1000;
    }
    return next;
  }

  /** One row for each, in their order; rows that stay are not moved, for one of them may have the focus. @param {Item[]} items */
  #keep(items) {
    const wanted = new Set(items.map(({ task }) => task.id));
    for (const [id, { row }] of this.#rows) {
      if (wanted.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    let at = this.element.firstElementChild;
    for (const item of items) {
      const row = (this.#rows.get(item.task.id) ?? this.#make(item)).row;
      if (row === at) at = at.nextElementSibling;
      else this.element.insertBefore(row, at);
    }
  }

  /** @param {Item} item */
  #make(item) {
    const { id } = item.task;
    const link = this.#href
      ? make("a", { part: "link", href: this.#href.replaceAll("{id}", encodeURIComponent(id)) })
      : make("span");
    const bar = new Bar(link, `label-${(this.#made += 1)}`);
    const row = make("li", { part: "row", "data-task-id": id }, bar.element);
    const made = { row, link, bar };
    item.isDirty = true;
    this.#rows.set(id, made);
    return made;
  }
}

/** Says now and then that something ended, to those who cannot see it: what comes together is said together. */
export class Voice {
  element = make("div", { class: "unseen", role: "status" });
  /** @type {string[]} */
  #waiting = [];

  /** @param {string} text */
  say(text) {
    if (this.#waiting.push(text) > 1) return;
    setTimeout(() => {
      const said = this.#waiting.splice(0);
      write(this.element, said.length > 3 ? words.several(said.length) : said.join(". "));
    }, 1000);
  }
}
