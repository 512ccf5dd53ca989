/** How the service itself does: what it depends on, its nodes, its workers; and what an operator may do. */

import { confirmed } from "../parts/confirm.js";
import { drawing, h, keyed, mark, write } from "../parts/dom.js";
import { Refresher } from "../parts/refresher.js";
import { ago, lasting, setAgo, setLasting } from "../parts/time.js";
import { reason, toast } from "../parts/toast.js";

const ROOT = new URL("../../", import.meta.url);
const count = new Intl.NumberFormat();
/** Workers that are read; where there are more it is said. */
const WORKERS = 100;
/** A worker that was not heard of for so long may be gone. */
const SILENT_MS = 5 * 60_000;

const CHECKS = /** @type {Record<string, string>} */ ({ database: "Database", live_log: "Live log" });
const HEALTH = /** @type {Record<string, { word: string, tone: string }>} */ ({
  up: { word: "Up", tone: "completed" }, down: { word: "Down", tone: "failed" }, closing: { word: "Closing", tone: "timeout" },
});

/** @param {HTMLElement} host @param {import("../app.js").Context} context */
export async function show(host, { api, signal, feed }) {
  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const health = healthCards();
  const nodes = nodeCard();
  const workers = workerCard();
  host.append(
    h("div", { class: "page-head" }, h("h1", {}, "Operations")), notice, health.element,
    h("div", { class: "operations-columns" }, h("div", { class: "column" }, workers.element), h("div", { class: "column" }, nodes.element, timeoutsCard(api), linksCard())));

  const refresher = new Refresher(async () => {
    const asked = [readHealth(signal), api.nodes({ signal }), api.workers({ limit: WORKERS }, { signal })];
    const [checks, known, working] = await Promise.allSettled(asked);
    if (signal.aborted) return;
    if (checks?.status === "fulfilled") health.show(checks.value);
    else health.away();
    if (known?.status === "fulfilled") nodes.show(known.value.items);
    if (working?.status === "fulfilled") workers.show(working.value);
    const refused = [known, working].find((one) => one?.status === "rejected");
    notice.hidden = !refused;
    if (refused?.status === "rejected") write(notice, `Not everything could be read: ${reason(refused.reason)}. It is tried again.`);
  }, { signal, mostMs: 5_000 });
  void refresher.now();
  feed.open({ progress: "none", everyMs: 1000, onOpen: () => refresher.soon(), onTask: () => refresher.soon(), onResync: () => refresher.soon() });
}

/** @param {AbortSignal} signal @returns {Promise<any>} */
async function readHealth(signal) {
  return (await fetch(new URL("healthz", ROOT), { cache: "no-store", signal })).json();
}

function healthCards() {
  const element = h("section", { class: "health", "aria-label": "Health" });
  /** @param {{ name: string, status: string, note: string }[]} cards */
  const put = (cards) => keyed(element, cards, ({ name }) => name,
    ({ name }) => h("div", { class: "tile" }, h("span", { class: "tile-name" }, name), h("span", { class: "tile-line" }, h("b", { class: "health-word" }), h("span", { class: "tile-note" }))),
    (card, { status, note }) => {
      const { word, tone } = HEALTH[status] ?? { word: status, tone: "pending" };
      mark(card, "data-tone", tone);
      write(/** @type {Element} */ (card.querySelector(".health-word")), word);
      write(/** @type {Element} */ (card.querySelector(".tile-note")), note);
    });
  return {
    element,
    /** @param {any} health */
    show({ status, version, checks }) {
      put([{ name: "This node", status, note: version },
        ...checks.map((/** @type {any} */ check) => ({ name: CHECKS[check.name] ?? check.name, status: check.status, note: `${check.durationMs < 10 ? check.durationMs.toFixed(1) : Math.round(check.durationMs)} ms` }))]);
    },
    away: () => put([{ name: "This node", status: "down", note: "it does not answer" }]),
  };
}

function nodeCard() {
  const body = h("tbody");
  const table = h("table", { class: "table nodes" }, h("thead", {}, h("tr", {},
    h("th", { scope: "col" }, "Node"), h("th", { scope: "col", class: "number" }, "Streams"), h("th", { scope: "col", class: "number" }, "Waiting workers"), h("th", { scope: "col", class: "number" }, "Up for"))), body);
  return {
    element: h("section", { class: "card", "aria-labelledby": "nodes" }, h("div", { class: "card-head" }, h("h2", { id: "nodes" }, "Nodes")), h("div", { class: "card-body scroll-x", tabindex: "0", role: "region", "aria-label": "Nodes" }, table)),
    /** @param {any[]} nodes */
    show(nodes) {
      keyed(body, nodes, ({ nodeId }) => nodeId, ({ nodeId, host, mode, version, isThis }) => h("tr", {},
        h("td", {}, h("span", { class: "name" }, host || nodeId), isThis && h("span", { class: "tag" }, "this one"), h("span", { class: "below muted" }, `${mode === "embedded" ? "embedded" : "node"}, ${version}`)),
        h("td", { class: "number" }), h("td", { class: "number" }), h("td", { class: "number muted" }, lasting(null))),
      (row, { openStreams, waitingWorkers, startedAt }) => {
        const [, streams, waiting, up] = /** @type {HTMLElement[]} */ ([...row.children]);
        if (streams) write(streams, count.format(openStreams));
        if (waiting) write(waiting, count.format(waitingWorkers));
        setLasting(/** @type {HTMLTimeElement} */ (up?.firstElementChild), startedAt);
      });
    },
  };
}

function workerCard() {
  const body = h("tbody");
  const table = h("table", { class: "table workers" }, h("thead", {}, h("tr", {},
    h("th", { scope: "col" }, "Worker"), h("th", { scope: "col" }, "Asks for"), h("th", { scope: "col" }, "Holds"), h("th", { scope: "col", class: "number" }, "Last heard of"))), body);
  const nothing = h("p", { class: "nothing" }, "No worker has asked for tasks yet.");
  const aside = h("span", { class: "aside" });
  return {
    element: h("section", { class: "card", "aria-labelledby": "workers" }, h("div", { class: "card-head" }, h("h2", { id: "workers" }, "Workers"), aside), h("div", { class: "card-body scroll-x", tabindex: "0", role: "region", "aria-label": "Workers" }, table, nothing)),
    /** @param {{ items: any[], nextCursor: string | null }} page */
    show({ items, nextCursor }) {
      [table.hidden, nothing.hidden] = [items.length === 0, items.length > 0];
      write(aside, nextCursor === null ? "" : `the first ${WORKERS}`);
      keyed(body, items, ({ workerId }) => workerId, ({ workerId }) => h("tr", {},
        h("td", {}, h("a", { class: "name", href: `#/tasks?${new URLSearchParams({ worker: workerId })}` }, workerId)), h("td", { class: "types" }), h("td", {}, h("ul", { class: "holds" })), h("td", { class: "number muted" }, ago(null))),
      (row, { taskTypes, holds, lastSeenAt }) => {
        const [, types, held, seen] = /** @type {HTMLElement[]} */ ([...row.children]);
        if (types) write(types, taskTypes.join(", "));
        const list = /** @type {Element} */ (held?.firstElementChild);
        keyed(list, holds, ({ taskId }) => taskId, ({ taskId, taskType }) => h("li", {}, h("a", { href: `#/tasks/${encodeURIComponent(taskId)}` }, taskType), h("span", { class: "mono muted cut" }, taskId), lasting(null)),
          (item, { startedAt }) => setLasting(/** @type {HTMLTimeElement} */ (item.querySelector("time")), startedAt));
        setAgo(/** @type {HTMLTimeElement} */ (seen?.firstElementChild), lastSeenAt);
        mark(row, "data-silent", holds.length === 0 && Date.now() - Date.parse(lastSeenAt) > SILENT_MS);
      });
    },
  };
}

/** @param {import("../../client.js").TaskTracker} api */
function timeoutsCard(api) {
  const result = h("p", { class: "muted", role: "status", hidden: true });
  const button = h("button", { type: "button", class: "button" }, "End what is overdue now");
  button.addEventListener("click", async () => {
    const note = "Every task whose deadline has passed ends as timed out. The service does this by itself every few seconds.";
    if (!(await confirmed({ title: "End what is overdue?", note, confirm: "End them now" }))) return;
    button.disabled = true;
    try {
      const { processedCount } = await api.processTimeouts();
      result.hidden = false;
      write(result, processedCount === 0 ? "Nothing was overdue." : processedCount === 1 ? "1 task has timed out." : `${count.format(processedCount)} tasks have timed out.`);
    } catch (error) {
      toast(`It could not be done: ${reason(error)}`, { tone: "bad" });
    }
    button.disabled = false;
  });
  return h("section", { class: "card", "aria-labelledby": "timeouts" }, h("div", { class: "card-head" }, h("h2", { id: "timeouts" }, "Deadlines")),
    h("div", { class: "card-body stack" }, h("p", { class: "muted" }, "Tasks that are not done by their deadline are ended every few seconds."), button, result));
}

function linksCard() {
  const link = (/** @type {string} */ path, /** @type {string} */ name, /** @type {string} */ says) => h("li", {}, h("a", { href: new URL(path, ROOT).href, target: "_blank", rel: "noopener" }, name, drawing("M6 3.5H3.5v9h9V10M9 3.5h3.5V7M12.2 3.8L7.5 8.5")), h("span", { class: "muted" }, says));
  return h("section", { class: "card", "aria-labelledby": "links" }, h("div", { class: "card-head" }, h("h2", { id: "links" }, "For programs")),
    h("div", { class: "card-body" }, h("ul", { class: "links" },
      link("docs/", "API", "explained, and ready to try"),
      link("openapi.json", "openapi.json", "the whole contract"),
      link("metrics", "Metrics", "of this node, for Prometheus"),
      link("healthz", "Health", "every check with its duration"))));
}
