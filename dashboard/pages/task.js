/** One task: how far it is, everything that it has said, and what may be done about it. */

import { TaskView } from "../../client/view.js";
import { ENDED, standing } from "../parts/badge.js";
import { Attempts, chain } from "../parts/chain.js";
import { showCurls } from "../parts/curl.js";
import { deeds } from "../parts/deeds.js";
import { h, mark, write } from "../parts/dom.js";
import { follow } from "../parts/follow.js";
import { Head } from "../parts/head.js";
import { History } from "../parts/history.js";
import { Log } from "../parts/log.js";
import { ago, noteServerTime } from "../parts/time.js";
import { Timeline } from "../parts/timeline.js";
import { reason } from "../parts/toast.js";
import { tree, treeCard } from "../parts/tree.js";

/** Between two looks at what no event tells: who is ahead, and when a lease was renewed. */
const LOOK_MS = 5_000;
/** For which the stream of many may be behind that of the task. */
const LATE_MS = 1_500;

/** @param {HTMLElement} host @param {import("../app.js").Context} context */
export async function show(host, context) {
  const { api, params: { id = "" }, signal } = context;
  const [task] = await api.standing([id], { signal }).catch((error) => {
    // What cannot be an id is that of no task.
    if (error?.code === "validation_failed") return [];
    throw error;
  });
  if (signal.aborted) return;
  if (task) new TaskPage(host, task, context);
  else missing(host, id);
}

/** @param {HTMLElement} host @param {string} id */
function missing(host, id) {
  host.append(h("div", { class: "empty" }, h("h1", {}, "There is no such task"), h("p", {}, "Nobody registered ", h("code", {}, id), ", or it was deleted."), h("a", { class: "button", href: "#/tasks" }, "To the tasks")));
}

class TaskPage {
  #history = new History();
  #view = new TaskView();
  /** @type {any} */
  #task;
  /** @type {import("../../client.js").TaskTracker} */
  #api;
  /** @type {AbortSignal} */
  #signal;
  #head;
  #timeline;
  #log;
  #deeds;
  #attempts = new Attempts();
  #why = h("section", { class: "card why" });
  #chain = h("section", { class: "card", hidden: true, "aria-label": "Retries" });
  #entry = h("section", { class: "card entry", "aria-label": "Entry" });
  #entryTitle = h("h2", {}, "Entry");
  #entryTree = h("div", { class: "card-body" });
  #documents = h("div", { class: "documents" });
  /** Beside the timeline: the entry that is shown, and before there is one why that is so. */
  #beside = h("div", { class: "task-beside" });
  #side = h("div", { class: "task-side" });
  #live = h("div", { class: "unseen", role: "status" });
  #connection = h("p", { class: "connection-note muted", hidden: true });
  /** What is open in the trees of entries, from one entry to the next. @type {import("../parts/tree.js").Memory} */
  #memory = new Map();
  #shownEntry = -2;
  /** @type {Record<string, string>} */
  #shownDocuments = {};
  #said = "";
  #isDue = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #reading;

  /** @param {HTMLElement} host @param {any} task @param {import("../app.js").Context} context */
  constructor(host, task, { api, feed, navigate, signal }) {
    [this.#task, this.#api, this.#signal] = [task, api, signal];
    this.#deeds = deeds(() => ({ api, task: this.#task, navigate }));
    const curl = h("button", { type: "button", class: "button", onclick: () => void showCurls(this.#task) }, "Copy as curl…");
    const moved = () => this.#paintSoon();
    this.#timeline = new Timeline(this.#history, moved);
    this.#head = new Head(task.id, this.#history, { tools: [this.#deeds.element, curl], onLive: () => this.#timeline.live() });
    this.#log = new Log(this.#history, task.id, (index) => (this.#timeline.pause(), this.#timeline.go(index)));
    this.#entry.append(h("div", { class: "card-head" }, this.#entryTitle), this.#entryTree);
    this.#beside.append(this.#entry);
    this.#side.append(this.#why, this.#documents, this.#attempts.element, this.#chain);
    host.append(this.#head.element, this.#connection,
      h("div", { class: "task-columns task-now" }, this.#timeline.element, this.#beside),
      h("div", { class: "task-columns" }, this.#log.element, this.#side),
      this.#live);

    this.stand(task);
    signal.addEventListener("abort", () => this.#timeline.close());
    feed.open({
      progress: "none",
      onOpen: ({ resumed }) => void (resumed || this.#read()),
      onTask: (now) => void (now.id === task.id && this.stand(now)),
      onResync: () => void this.#read(),
    });
    follow({
      api, id: task.id, signal,
      onEvent: (event) => this.#take(event),
      onConnection: (now) => this.#connected(now),
      onRefused: (error) => this.#connected({ state: "refused", error }),
    });
    void this.#look();
    const timer = setInterval(() => document.hidden || ENDED.has(this.#task.status) || void this.#look(), LOOK_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    const tick = setInterval(() => this.#paintSoon(), 1000);
    signal.addEventListener("abort", () => clearInterval(tick));
  }

  /** @param {any} event */
  #take(event) {
    // Of what has just happened; a history says what has been.
    noteServerTime(event.timestamp);
    this.#view.fold(event, Date.now());
    this.#history.add(event);
    if (event.event !== "progress" && event.event !== "gap") void this.#look();
    const { status } = event.data;
    if (event.event === "status_change" && status !== this.#task.status) this.#readLater(status);
    this.#paintSoon();
  }

  /** Its stream has said that it stands elsewhere: unless that of many says the same, it is read. @param {string} status */
  #readLater(status) {
    clearTimeout(this.#reading);
    this.#reading = setTimeout(() => this.#task.status === status || this.#signal.aborted || void this.#read(), LATE_MS);
  }

  async #read() {
    try {
      const [task] = await this.#api.standing([this.#task.id], { signal: this.#signal });
      if (task) this.stand(task);
    } catch {
      // The stream of many says it, too, or the next look does.
    }
  }

  /** @param {any} task */
  stand(task) {
    if (task.updatedAt < this.#task.updatedAt) return;
    const before = this.#task.status;
    this.#task = task;
    this.#history.stand(task);
    this.#view.stand({ ...task, latestProgress: null });
    if (before !== task.status) void this.#look();
    this.#documentsOf(task);
    void this.#chainOf(task);
    this.#paintSoon();
  }

  /** Why it stands where it stands, and until when its lease is. */
  async #look() {
    try {
      const why = await this.#api.why(this.#task.id, { signal: this.#signal });
      noteServerTime(why.serverTime);
      this.#task = { ...this.#task, ...(why.status === this.#task.status && { leaseExpiresAt: why.leaseExpiresAt, attempt: why.attempt, lostAttempts: why.lostAttempts, workerId: why.workerId }) };
      this.#explain(why);
      // Should neither stream get through, this does.
      if (why.status !== this.#task.status) this.#readLater(why.status);
      this.#paintSoon();
    } catch {
      // It is a hint; the connection says by itself what is wrong with it.
    }
  }

  /** @param {import("../../client.js").Why} why */
  #explain({ status, code, explanation, ahead, typePolledAt, typePolledBy }) {
    const title = status === "pending" ? "Why it is waiting" : status === "in_progress" ? "Where it stands" : "How it ended";
    const more = h("ul", { class: "why-more muted" });
    const { taskType } = this.#task;
    const type = () => h("a", { href: `#/tasks?taskType=${encodeURIComponent(taskType)}&status=pending` }, taskType);
    if (ahead) more.append(h("li", {}, `${ahead >= 1000 ? "1,000 or more" : ahead} older ${ahead === 1 ? "task" : "tasks"} of type `, type(), ` ${ahead === 1 ? "waits" : "wait"} before it.`));
    else if (ahead === 0 && status === "pending") more.append(h("li", {}, "It is the next of its type."));
    if (typePolledAt) more.append(h("li", {}, "A worker", typePolledBy && ` (${typePolledBy})`, " last asked for its type ", ago(typePolledAt), "."));
    const warns = ["no_worker", "stalled", "lease_expired", "overdue"].includes(code);
    mark(this.#why, "data-warns", warns);
    mark(this.#why, "aria-label", title);
    this.#why.replaceChildren(h("div", { class: "card-head" }, h("h2", {}, title)), h("div", { class: "card-body" }, h("p", {}, explanation), more.childElementCount > 0 && more));
  }

  /** What it was given, and what it gave. @param {any} task */
  #documentsOf(task) {
    const documents = [["error", "Error"], ["result", "Result"], ["params", "Params"], ["metadata", "Metadata"]];
    const now = Object.fromEntries(documents.map(([name]) => [name, task[name] ? JSON.stringify(task[name]) : ""]));
    if (documents.every(([name]) => now[name] === this.#shownDocuments[name])) return;
    this.#shownDocuments = now;
    const cards = documents.filter(([name]) => task[name]).map(([name, title]) => treeCard(title, task[name], name === "error" ? { tone: "failed" } : {}));
    this.#documents.replaceChildren(...cards);
  }

  /** @param {any} task */
  async #chainOf({ id, originalTaskId }) {
    try {
      const root = originalTaskId ?? id;
      const { items } = await this.#api.list({ originalTaskId: root, limit: 100, fields: "brief" }, { signal: this.#signal });
      const links = items.sort((a, b) => a.retryCount - b.retryCount);
      this.#chain.hidden = links.length < 2;
      this.#chain.replaceChildren(h("div", { class: "card-head" }, h("h2", {}, "Retries")), h("div", { class: "card-body" }, chain(links, id)));
    } catch {
      // The task can be read without it.
    }
  }

  /** @param {any} now */
  #connected(now) {
    const words = /** @type {Record<string, string>} */ ({
      waiting: "The connection is lost; it is tried again by itself, and nothing will be missing.",
      polling: "Streams do not get through; the server is asked again and again.",
      refused: `It is not followed: ${reason(now.error)}`,
    });
    const isQuiet = now.state === "streaming" || (now.state === "waiting" && now.failures === 0);
    this.#connection.hidden = isQuiet;
    write(this.#connection, isQuiet ? "" : words[now.state] ?? "");
    mark(this.element, "data-connection", now.state);
  }

  get element() { return this.#head.element; }

  /** However much happens, it is painted once a frame. */
  #paintSoon() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      if (!this.#signal.aborted) this.#paint();
    });
  }

  #paint() {
    const { at, isLive } = this.#timeline;
    const task = this.#task;
    this.#head.paint(task, at, isLive, this.#view.secondsLeft(Date.now()));
    this.#timeline.paint(ENDED.has(task.status));
    this.#log.paint(at, isLive);
    this.#attempts.paint(task);
    this.#deeds.paint(task);
    this.#paintEntry(at);
    const { word } = standing(task);
    if (this.#said !== "" && this.#said !== word) write(this.#live, `The task: ${word}`);
    this.#said = word;
  }

  /** @param {number} at */
  #paintEntry(at) {
    if (at === this.#shownEntry) return;
    this.#shownEntry = at;
    const moment = this.#history.moments[at];
    this.#entry.hidden = !moment;
    if (!moment) this.#beside.prepend(this.#why);
    else if (this.#why.parentElement !== this.#side) this.#side.prepend(this.#why);
    if (!moment) return;
    write(this.#entryTitle, `Entry ${moment.seqId}`);
    const { seqId, ...data } = moment.data;
    const hadFocus = this.#entryTree.contains(document.activeElement);
    const made = tree(data, { label: `Entry ${seqId}`, memory: this.#memory });
    this.#entryTree.replaceChildren(made);
    if (hadFocus) /** @type {HTMLElement | null} */ (made.querySelector('[tabindex="0"]'))?.focus();
  }
}
