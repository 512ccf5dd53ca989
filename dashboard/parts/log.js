/** What a task has said, line by line: followed, searched, filtered, and taken along. */

import { drawing, h, mark, write } from "./dom.js";
import { severity } from "./history.js";
import { Lines } from "./lines.js";
import { clock } from "./timeline.js";

const LINE = 26;
const LEVELS = [["0", "All levels"], ["1", "Info and above"], ["2", "Warnings and errors"], ["3", "Errors"]];
const UP = "M3.500 10L8 5.5L12.500 10";
const DOWN = "M3.500 6L8 10.5L12.500 6";
const number = new Intl.NumberFormat();
/** Found in a log; more are not counted. */
const MOST = 100_000;

/** @typedef {{ text: string, low: string, level: string | undefined, timestamp: string, seqId?: number, index: number, tone?: string }} Line */

export class Log {
  #history;
  #taskId;
  #onShow;
  /** @type {Line[]} */
  #all = [];
  /** Of those the ones of the levels that are wanted. @type {Line[]} */
  #shown = [];
  #read = 0;
  #edition = -1;
  /** Indices in `#shown`. @type {number[]} */
  #found = [];
  /** Which of them. */
  #nth = -1;
  /** The line that the keys have come to, in `#shown`. */
  #active = -1;
  /** Which entry the page shows. */
  #at = -1;
  #isLive = true;
  /** Before somebody went back. */
  #wasFollowing = true;
  #query = "";
  #least = 0;
  #lines;
  #search = h("input", { type: "search", class: "field log-search", placeholder: "Search", "aria-label": "Search in the log", spellcheck: "false", autocomplete: "off" });
  #count = h("span", { class: "muted log-count", role: "status" });
  #previous = h("button", { type: "button", class: "icon-button", "aria-label": "The match before" }, drawing(UP));
  #next = h("button", { type: "button", class: "icon-button", "aria-label": "The next match" }, drawing(DOWN));
  #level = h("select", { class: "field", "aria-label": "Levels" }, ...LEVELS.map(([value, text]) => h("option", { value }, text)));
  #follow = h("button", { type: "button", class: "button small", "aria-pressed": "true" }, "Follow");
  #none = h("p", { class: "muted log-none" });

  /** @param {import("./history.js").History} history @param {string} taskId @param {(index: number) => void} onShow shows an entry */
  constructor(history, taskId, onShow) {
    this.#history = history;
    this.#taskId = taskId;
    this.#onShow = onShow;
    const attributes = { role: "listbox", "aria-label": "Log" };
    this.#lines = new Lines({ height: LINE, attributes, render: (index) => this.#render(index) });
    this.#lines.onFollow = (isFollowing) => mark(this.#follow, "aria-pressed", String(isFollowing));
    this.element = h("section", { class: "card log", "aria-label": "Log" },
      h("div", { class: "card-head log-head" }, h("h2", {}, "Log"), this.#level,
        h("span", { class: "log-find" }, this.#search, this.#count, this.#previous, this.#next),
        h("span", { class: "aside log-tools" }, this.#follow,
          h("button", { type: "button", class: "button small", onclick: () => this.#take("log") }, "Text", h("span", { class: "unseen" }, " of the log to a file")),
          h("button", { type: "button", class: "button small", onclick: () => this.#take("jsonl") }, "JSON lines", h("span", { class: "unseen" }, " of all entries to a file")))),
      this.#none, this.#lines.element);
    this.#search.addEventListener("input", () => this.#find(this.#search.value));
    this.#search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#step(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape" && this.#search.value !== "") this.#find((this.#search.value = ""));
      else return;
      event.preventDefault();
    });
    this.#previous.addEventListener("click", () => this.#step(-1));
    this.#next.addEventListener("click", () => this.#step(1));
    this.#level.addEventListener("change", () => {
      this.#least = Number(this.#level.value);
      this.#filter();
    });
    this.#follow.addEventListener("click", () => {
      if (this.#lines.isFollowing) this.#lines.follow(false);
      else this.#stick();
    });
    this.#lines.element.addEventListener("keydown", (event) => this.#key(event));
    this.#lines.element.addEventListener("click", (event) => {
      const line = /** @type {Element} */ (event.target).closest("[data-line]");
      if (line && getSelection()?.isCollapsed) this.#activate(Number(line.getAttribute("data-line")), true);
    });
  }

  /** @param {number} at the entry that the page shows @param {boolean} isLive the newest, whichever that is */
  paint(at, isLive) {
    const { moments, edition } = this.#history;
    if (edition !== this.#edition) {
      this.#edition = edition;
      this.#readAll();
    } else if (this.#read < moments.length) {
      // What stood at the end may stand before what has come.
      if (this.#all.at(-1)?.tone !== undefined) this.#readAll();
      else this.#readOn();
    }
    if (isLive && !this.#isLive && this.#wasFollowing) this.#stick();
    if (!isLive && this.#isLive) this.#wasFollowing = this.#lines.isFollowing;
    this.#isLive = isLive;
    if (at === this.#at) return;
    this.#at = at;
    if (!isLive) this.#goTo(at);
    for (const line of this.#lines.element.querySelectorAll("[data-line]")) this.#markLine(/** @type {HTMLElement} */ (line));
  }

  /** The line of an entry, or of the last before it that said something. @param {number} at */
  #goTo(at) {
    let [low, high] = [0, this.#shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#shown[middle].index <= at) low = middle + 1;
      else high = middle;
    }
    this.#lines.follow(false);
    if (low > 0) this.#lines.show(low - 1);
  }

  #stick() {
    this.#lines.follow(true);
    this.#lines.toEnd();
  }

  /** What stands between entries has changed: all of it is put together anew. */
  #readAll() {
    const { moments } = this.#history;
    const marks = this.#history.marks();
    this.#all = [];
    let next = 0;
    for (let index = 0; index <= moments.length; index++) {
      for (; next < marks.length && marks[next].before <= index; next++) {
        const { text, timestamp, tone, before } = marks[next];
        this.#all.push({ text, low: text.toLowerCase(), level: undefined, timestamp, index: Math.min(before, moments.length - 1), tone });
      }
      if (index < moments.length) this.#put(index);
    }
    this.#read = moments.length;
    this.#filter();
  }

  #readOn() {
    const from = this.#all.length;
    for (; this.#read < this.#history.moments.length; this.#read++) this.#put(this.#read);
    for (const line of this.#all.slice(from)) {
      if (!this.#isWanted(line)) continue;
      if (this.#query !== "" && line.low.includes(this.#query) && this.#found.length < MOST) this.#found.push(this.#shown.length);
      this.#shown.push(line);
    }
    this.#say();
    this.#lines.set(this.#shown.length, false);
  }

  /** @param {number} index */
  #put(index) {
    const { says, timestamp, seqId, data } = this.#history.moments[index];
    if (says === undefined) return;
    const level = typeof data.level === "string" ? data.level.toLowerCase() : undefined;
    this.#all.push({ text: says, low: says.toLowerCase(), level, timestamp, seqId, index });
  }

  /** @param {Line} line */
  #isWanted({ level, tone }) {
    return tone !== undefined || severity(level) >= this.#least;
  }

  #filter() {
    this.#shown = this.#least === 0 ? [...this.#all] : this.#all.filter((line) => this.#isWanted(line));
    this.#active = -1;
    this.#find(this.#query, true);
    this.#lines.set(this.#shown.length, true);
  }

  /** @param {string} query @param {boolean} [isAgain] */
  #find(query, isAgain = false) {
    this.#query = query.toLowerCase();
    this.#found = [];
    this.#nth = -1;
    if (this.#query !== "") {
      for (let index = 0; index < this.#shown.length && this.#found.length < MOST; index++) {
        if (this.#shown[index].low.includes(this.#query)) this.#found.push(index);
      }
    }
    this.#say();
    if (isAgain) return;
    this.#lines.clear();
    // The newest first: there one looks.
    if (this.#found.length > 0) this.#come(this.#found.length - 1);
  }

  /** @param {number} by */
  #step(by) {
    const many = this.#found.length;
    if (many > 0) this.#come(this.#nth < 0 ? (by > 0 ? 0 : many - 1) : (this.#nth + by + many) % many);
  }

  /** @param {number} nth */
  #come(nth) {
    this.#nth = nth;
    this.#say();
    // What comes does not take away what was found.
    this.#lines.follow(false);
    this.#lines.show(this.#found[nth]);
    this.#activate(this.#found[nth], false);
  }

  #say() {
    const many = this.#found.length;
    const place = this.#nth < 0 ? number.format(many) : `${number.format(this.#nth + 1)} of ${number.format(many)}`;
    write(this.#count, this.#query === "" ? "" : many === 0 ? "No match" : place);
    this.#previous.disabled = this.#next.disabled = many === 0;
    this.#none.hidden = this.#shown.length > 0;
    this.#lines.element.hidden = this.#shown.length === 0;
    write(this.#none, this.#all.length === 0 ? "Nothing was said yet." : "Nothing of these levels.");
  }

  /** @param {number} index @param {boolean} shows */
  #activate(index, shows) {
    const line = this.#shown[index];
    if (!line) return;
    this.#active = index;
    mark(this.#lines.element, "aria-activedescendant", `line-${index}`);
    for (const made of this.#lines.element.querySelectorAll("[data-line]")) this.#markLine(/** @type {HTMLElement} */ (made));
    if (shows && line.index >= 0) this.#onShow(line.index);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(this.#lines.element.clientHeight / LINE) - 1);
    const last = this.#shown.length - 1;
    const from = this.#active < 0 ? last + 1 : this.#active;
    const to = { ArrowUp: from - 1, ArrowDown: from + 1, PageUp: from - page, PageDown: from + page, Home: 0, End: last }[event.key];
    if (event.key === "Enter") this.#activate(this.#active, true);
    else if (to === undefined) return;
    else {
      const index = Math.max(0, Math.min(last, to));
      this.#lines.show(index);
      this.#activate(index, false);
    }
    event.preventDefault();
  }

  /** @param {number} index */
  #render(index) {
    const { text, level, timestamp, seqId, tone } = this.#shown[index];
    const line = h("div", { class: "line", role: "option", id: `line-${index}`, "data-line": index, "aria-posinset": index + 1, "aria-setsize": this.#shown.length, "data-severity": tone ? "mark" : severity(level), title: text.length > 80 ? text.slice(0, 2_000) : undefined },
      h("time", { datetime: timestamp }, clock(timestamp), h("span", { class: "line-ms" }, `.${timestamp.slice(20, 23)}`)),
      h("span", { class: "line-seq" }, seqId === undefined ? "" : String(seqId)),
      h("span", { class: "line-level" }, tone ? "" : level ?? ""),
      h("span", { class: "line-text" }, ...this.#highlighted(text)));
    if (tone) line.style.setProperty("--tone", `var(${tone})`);
    this.#markLine(line);
    return line;
  }

  /** @param {HTMLElement} line */
  #markLine(line) {
    const index = Number(line.dataset.line);
    const { seqId, index: entry } = this.#shown[index] ?? {};
    mark(line, "aria-selected", String(index === this.#active));
    mark(line, "data-shown", seqId !== undefined && entry === this.#at);
  }

  /** @param {string} text */
  #highlighted(text) {
    // A line is as wide as the page; the tree has all of it.
    const shown = text.length > 2_000 ? `${text.slice(0, 2_000)}…` : text;
    const low = shown.toLowerCase();
    // Some letters change their length with their case.
    if (this.#query === "" || low.length !== shown.length) return [shown];
    const pieces = [];
    let from = 0;
    for (let at = low.indexOf(this.#query); at >= 0; at = low.indexOf(this.#query, from)) {
      pieces.push(shown.slice(from, at), h("mark", {}, shown.slice(at, at + this.#query.length)));
      from = at + this.#query.length;
    }
    return [...pieces, shown.slice(from)];
  }

  /** To a file. @param {"log" | "jsonl"} kind */
  #take(kind) {
    const entries = this.#history.moments.map(({ timestamp, data }) => `${JSON.stringify({ timestamp, ...data })}\n`);
    const said = this.#all.map(({ timestamp, level, text }) => `${timestamp} ${(level ?? "").toUpperCase().padEnd(5)} ${text.replaceAll("\n", "\n    ")}\n`);
    const type = kind === "jsonl" ? "application/x-ndjson" : "text/plain";
    const address = URL.createObjectURL(new Blob(kind === "jsonl" ? entries : said, { type: `${type};charset=utf-8` }));
    const link = h("a", { href: address, download: `${this.#taskId.replaceAll(":", "_")}.${kind}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}
