/** How everything goes: where the tasks stand, what was done of late, what waits, and what went wrong. */

import { badge, setBadge, STATUSES } from "../parts/badge.js";
import { Chart } from "../parts/chart.js";
import { demonstrationButton } from "../parts/demonstration.js";
import { h, keyed, mark, write } from "../parts/dom.js";
import { Refresher } from "../parts/refresher.js";
import { ago, duration, noteServerTime, setAgo } from "../parts/time.js";
import { reason } from "../parts/toast.js";

/** @type {Record<string, { says: string, seconds: number }>} */
const RANGES = {
  "15m": { says: "15 minutes", seconds: 900 },
  "1h": { says: "hour", seconds: 3_600 },
  "6h": { says: "6 hours", seconds: 21_600 },
  "24h": { says: "24 hours", seconds: 86_400 },
  "7d": { says: "7 days", seconds: 604_800 },
};
const USUAL = "1h";
const ENDS = ["completed", "failed", "timeout", "cancelled"];

const count = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const rough = (/** @type {number} */ ms) => (ms === 0 ? "0" : ms < 1000 ? `${Math.round(ms)} ms` : ms < 60_000 ? `${+(ms / 1000).toFixed(1)} s` : ms < 3_600_000 ? `${+(ms / 60_000).toFixed(1)} min` : `${+(ms / 3_600_000).toFixed(1)} h`);

/** @param {HTMLElement} host @param {import("../app.js").Context} context */
export async function show(host, context) {
  const { api, navigate, signal, feed } = context;
  let range = USUAL;
  const read = (/** @type {URLSearchParams} */ query) => {
    const said = query.get("range") ?? USUAL;
    range = said in RANGES ? said : USUAL;
    for (const button of ranges.children) mark(button, "aria-pressed", String(button.getAttribute("data-range") === range));
  };
  const ranges = h("div", { class: "segments", role: "group", "aria-label": "Time shown" }, ...Object.entries(RANGES).map(([name, { says }]) =>
    h("button", { type: "button", "data-range": name, title: `The last ${says}`, onclick: () => navigate(name === USUAL ? "#/" : `#/?range=${name}`) }, name.replace(/(\d+)(\w)/, "$1 $2"))));

  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const tiles = tileRow();
  const ended = new Chart({
    title: "Throughput", isWhole: true, format: (value) => short.format(value), nothing: "Nothing ended in this time",
    lines: [
      ...ENDS.map((status) => ({ name: STATUSES[status]?.word ?? status, token: `--${status}-fill`, kind: /** @type {const} */ ("bar") })),
      { name: "Registered", token: "--muted", kind: "line" },
    ],
  }, signal);
  const took = new Chart({
    title: "Duration", format: rough, nothing: "Nothing was completed in this time",
    lines: [{ name: "Median", token: "--running", kind: "line" }, { name: "95th percentile", token: "--cancelled-fill", kind: "dash" }],
  }, signal);
  const queues = queueCard();
  const failures = failureCard();
  const first = firstSteps(context);
  const figures = h("div", { class: "overview-figures" }, tiles.element, h("div", { class: "overview-charts" }, ended.element, took.element),
    h("div", { class: "overview-lists" }, queues.element, failures.element));
  figures.hidden = true;
  const aside = h("div", { class: "aside", hidden: true }, ranges, demonstrationButton(context));
  host.append(h("div", { class: "page-head" }, h("h1", {}, "Overview"), aside), notice, first, figures);

  /** @type {Refresher} */
  const refresher = new Refresher(async () => {
    const asked = range;
    try {
      const seen = await api.overview({ windowSeconds: RANGES[asked]?.seconds ?? 3_600 }, { signal });
      if (signal.aborted) return;
      if (asked !== range) return refresher.soon();
      noteServerTime(seen.serverTime);
      notice.hidden = true;
      const all = Object.values(seen.counts).reduce((sum, n) => sum + Number(n), 0);
      [first.hidden, figures.hidden, aside.hidden] = [all > 0, all === 0, all === 0];
      tiles.show(seen);
      drawEnded(ended, seen);
      drawDuration(took, seen);
      queues.show(seen.queues);
      failures.show(seen.failures);
    } catch (error) {
      if (signal.aborted) return;
      notice.hidden = false;
      write(notice, `The figures could not be read: ${reason(error)}. It is tried again.`);
    }
  }, { signal });
  read(context.query);
  void refresher.now();
  feed.open({ progress: "none", everyMs: 1000, onOpen: () => refresher.soon(), onTask: () => refresher.soon(), onResync: () => refresher.soon() });
  return {
    update: (/** @type {URLSearchParams} */ query) => {
      read(query);
      void refresher.now();
    },
  };
}

function tileRow() {
  const tile = (/** @type {string} */ status) => {
    const number = h("span", { class: "tile-number" });
    const element = h("a", { class: "tile", "data-tone": status, href: `#/tasks?status=${status}` }, badge({ status }), number);
    return { element, number };
  };
  const all = Object.keys(STATUSES).map((status) => ({ status, ...tile(status) }));
  const [seen, holding] = [h("span", { class: "tile-number" }), h("span", { class: "tile-note" })];
  const workers = h("a", { class: "tile", href: "#/operations" }, h("span", { class: "tile-name" }, "Workers"), h("span", { class: "tile-line" }, seen, holding));
  return {
    element: h("div", { class: "tiles" }, ...all.map(({ element }) => element), workers),
    /** @param {any} overview */
    show({ counts, workers: now }) {
      for (const { status, number } of all) write(number, count.format(counts[status] ?? 0));
      write(seen, count.format(now.seen));
      write(holding, now.seen > 0 ? `${count.format(now.holding)} busy` : "");
      workers.title = "Seen in the last five minutes, and how many of them hold a task";
    },
  };
}

const times = (/** @type {any[]} */ series) => series.map(({ at }) => Date.parse(at) / 1000);

/** @param {Chart} chart @param {any} overview */
function drawEnded(chart, { series, window: { stepSeconds } }) {
  const names = [...ENDS, "registered"];
  const values = names.map((name) => series.map((/** @type {any} */ step) => step[name]));
  const totals = values.map((line) => line.reduce((/** @type {number} */ sum, /** @type {number} */ n) => sum + n, 0));
  const summary = names.map((name, at) => `${totals[at]} ${STATUSES[name]?.word.toLowerCase() ?? name}`).join(", ");
  chart.set(times(series), values, { stepSeconds, totals: totals.map((total) => short.format(total)), summary });
}

/** @param {Chart} chart @param {any} overview */
function drawDuration(chart, { series, window: { stepSeconds } }) {
  const values = ["durationP50Ms", "durationP95Ms"].map((name) => series.map((/** @type {any} */ step) => step[name]));
  const newest = values.map((line) => line.findLast((/** @type {number | null} */ value) => value !== null));
  const words = newest.map((value) => (value === undefined ? "" : rough(value)));
  const summary = words[0] ? `of late half took less than ${words[0]}, and 95 of 100 less than ${words[1]}` : "nothing was completed";
  chart.set(times(series), values, { stepSeconds, totals: words, summary });
}

function queueCard() {
  const body = h("tbody");
  const table = h("table", { class: "table queues" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Type"), h("th", { scope: "col", class: "wide" }, h("span", { class: "unseen" }, "Share")),
      h("th", { scope: "col", class: "number" }, "Waiting"), h("th", { scope: "col", class: "number" }, "Running"), h("th", { scope: "col", class: "number" }, "Oldest"))), body);
  const nothing = h("p", { class: "nothing" }, "Nothing waits, and nothing runs.");
  return {
    element: h("section", { class: "card", "aria-labelledby": "queues" }, h("div", { class: "card-head" }, h("h2", { id: "queues" }, "Queues")), h("div", { class: "card-body" }, h("div", { class: "scroll-x" }, table), nothing)),
    /** @param {any[]} queues */
    show(queues) {
      [table.hidden, nothing.hidden] = [queues.length === 0, queues.length > 0];
      const most = Math.max(1, ...queues.map(({ pending, inProgress }) => pending + inProgress));
      keyed(body, queues, ({ taskType }) => taskType, queueRow, (row, queue) => setQueue(row, queue, most));
    },
  };
}

/** @param {any} queue */
function queueRow({ taskType }) {
  const bar = h("div", { class: "depth" }, h("div", { class: "depth-running" }), h("div", { class: "depth-waiting" }));
  const href = `#/tasks?${new URLSearchParams({ status: "pending,in_progress", type: taskType })}`;
  return h("tr", {}, h("td", {}, h("a", { href }, taskType)), h("td", { class: "wide" }, bar), h("td", { class: "number" }), h("td", { class: "number" }), h("td", { class: "number muted" }, ago(null)));
}

/** @param {HTMLElement} row @param {any} queue @param {number} most */
function setQueue(row, { pending, inProgress, oldestPendingAt }, most) {
  const [, bar, waiting, running, oldest] = /** @type {HTMLElement[]} */ ([...row.children]);
  const [busy, idle] = /** @type {HTMLElement[]} */ ([...(bar?.firstElementChild?.children ?? [])]);
  for (const [part, n] of /** @type {const} */ ([[busy, inProgress], [idle, pending]])) {
    if (!part) continue;
    part.hidden = n === 0;
    part.style.inlineSize = `${(100 * n) / most}%`;
  }
  if (waiting) write(waiting, count.format(pending));
  if (running) write(running, count.format(inProgress));
  setAgo(/** @type {HTMLTimeElement} */ (oldest?.firstElementChild), oldestPendingAt);
}

function failureCard() {
  const list = h("ul", { class: "failures" });
  const nothing = h("p", { class: "nothing" }, "Nothing has failed.");
  const all = h("a", { class: "aside", href: "#/tasks?status=failed,timeout" }, "All of them");
  return {
    element: h("section", { class: "card", "aria-labelledby": "failures" }, h("div", { class: "card-head" }, h("h2", { id: "failures" }, "Failed lately"), all), h("div", { class: "card-body" }, list, nothing)),
    /** @param {any[]} failures */
    show(failures) {
      [list.hidden, nothing.hidden, all.hidden] = [failures.length === 0, failures.length > 0, failures.length === 0];
      keyed(list, failures, ({ id }) => id, (task) => failureRow(task), (row, task) => {
        setBadge(/** @type {HTMLElement} */ (row.querySelector(".badge")), task);
        write(/** @type {Element} */ (row.querySelector(".failure-why")), whyOf(task));
        setAgo(/** @type {HTMLTimeElement} */ (row.querySelector("time")), task.completedAt ?? task.updatedAt);
      });
    },
  };
}

/** @param {any} task */
function failureRow(task) {
  return h("li", {}, h("a", { href: `#/tasks/${encodeURIComponent(task.id)}` },
    badge(task), h("span", { class: "cut failure-name" }, task.taskType, " ", h("span", { class: "mono muted" }, task.id)), ago(null), h("span", { class: "cut failure-why" })));
}

/** @param {any} task */
function whyOf({ status, error, startedAt, completedAt }) {
  if (error) return typeof error.message === "string" && error.message !== "" ? error.message : JSON.stringify(error);
  const took = startedAt && completedAt ? `, ${duration(Date.parse(completedAt) - Date.parse(startedAt))} after it began` : "";
  return status === "timeout" ? `Not done by its deadline${took}` : "No reason was given";
}

/** What a newcomer sees. @param {import("../app.js").Context} context */
function firstSteps(context) {
  const api = new URL("api/v1/tasks", new URL("../../", import.meta.url));
  return h("section", { class: "card first", hidden: true },
    h("h2", {}, "Nothing has been registered yet"),
    h("p", {}, "A demonstration registers a task and works on it from this page, and you see it move. It takes half a minute."),
    demonstrationButton(context, { isPrimary: true }),
    h("p", { class: "muted" }, "Or register one of your own:"),
    h("pre", { tabindex: "0", "aria-label": "A command" }, `curl --json '{"taskType":"report.build"}' ${api}`));
}
