/** Cancels or retries many at once, and says what became of it. */

import { ENDED, MAY_RETRY } from "./badge.js";
import { confirmed, told } from "./confirm.js";
import { h } from "./dom.js";
import { reason, toast } from "./toast.js";

const count = new Intl.NumberFormat();
const tasks = (/** @type {number} */ n) => (n === 1 ? "1 task" : `${count.format(n)} tasks`);

const KINDS = {
  cancel: {
    may: (/** @type {any} */ task) => !ENDED.has(task.status),
    ask: (/** @type {number} */ n) => `Cancel ${tasks(n)}?`,
    yes: (/** @type {number} */ n) => `Cancel ${tasks(n)}`,
    no: "Leave them running",
    note: "What waits ends at once; what runs is asked to end, and is cut off half a minute later.",
    rest: (/** @type {number} */ n) => `${tasks(n)} of those selected ${n === 1 ? "has" : "have"} ended already.`,
    done: (/** @type {number} */ n) => `${tasks(n)} cancelled, or asked to end`,
    tone: /** @type {const} */ ("danger"),
  },
  retry: {
    may: (/** @type {any} */ task) => MAY_RETRY.has(task.status),
    ask: (/** @type {number} */ n) => `Retry ${tasks(n)}?`,
    yes: (/** @type {number} */ n) => `Retry ${tasks(n)}`,
    no: "Not now",
    note: "Each becomes a new task of the same type and with the same params, which waits for a worker.",
    rest: (/** @type {number} */ n) => `${tasks(n)} of those selected cannot be retried: only what failed, timed out or was cancelled can be.`,
    done: (/** @type {number} */ n) => `${tasks(n)} registered anew`,
    tone: /** @type {const} */ ("plain"),
  },
};

/** How many of these it can be done to. @param {keyof typeof KINDS} what @param {any[]} selected */
export const eligible = (what, selected) => selected.filter(KINDS[what].may);

/** Of one request. */
const MOST = 1000;

/**
 * @typedef {import("../../client.js").Outcome} Outcome
 * @param {import("../../client.js").TaskTracker} api
 * @param {keyof typeof KINDS} what
 * @param {string[]} ids
 * @param {string} reason
 */
async function each(api, what, ids, reason) {
  /** @type {Outcome[]} */
  const results = [];
  for (let at = 0; at < ids.length; at += MOST) {
    const some = ids.slice(at, at + MOST);
    const answer = await (what === "cancel" ? api.cancelMany(some, reason ? { reason } : {}) : api.retryMany(some));
    results.push(...answer.results);
  }
  return results;
}

/**
 * Asks, does it, and says what became of it. Says whether it was done.
 * @param {import("../../client.js").TaskTracker} api
 * @param {keyof typeof KINDS} what
 * @param {any[]} selected
 */
export async function bulk(api, what, selected) {
  const kind = KINDS[what];
  const chosen = eligible(what, selected);
  const why = h("input", { class: "field", maxlength: "1000", placeholder: "Optional" });
  const note = h("div", { class: "dialog-note" }, h("p", {}, kind.note),
    chosen.length < selected.length && h("p", {}, kind.rest(selected.length - chosen.length)),
    what === "cancel" && h("label", { class: "labelled" }, h("span", {}, "Reason"), why));
  if (!(await confirmed({ title: kind.ask(chosen.length), note, confirm: kind.yes(chosen.length), dismiss: kind.no, tone: kind.tone }))) return false;
  try {
    await sayResults(kind, await each(api, what, chosen.map(({ id }) => id), why.value.trim()));
    return true;
  } catch (error) {
    toast(`It could not be done: ${reason(error)}`, { tone: "bad" });
    return false;
  }
}

/** @param {typeof KINDS["cancel"] | typeof KINDS["retry"]} kind @param {Outcome[]} results */
async function sayResults(kind, results) {
  const refused = results.filter(({ problem }) => problem);
  const done = results.length - refused.length;
  if (refused.length === 0) return void toast(`${kind.done(done)}.`, { tone: "good" });
  /** @type {Map<string, string[]>} */
  const reasons = new Map();
  for (const { taskId, problem } of refused) {
    const why = problem?.title ?? "Refused";
    reasons.set(why, [...(reasons.get(why) ?? []), taskId]);
  }
  const items = [...reasons].map(([why, ids]) => h("li", {}, h("b", {}, why), ` · ${tasks(ids.length)}`,
    h("span", { class: "mono muted refused-ids" }, ids.slice(0, 3).join(", "), ids.length > 3 ? " …" : "")));
  const note = h("div", { class: "dialog-note" }, h("p", {}, done > 0 ? `${kind.done(done)}; ${count.format(refused.length)} refused:` : "All were refused:"), h("ul", { class: "refused" }, ...items));
  await told({ title: `${count.format(done)} done, ${count.format(refused.length)} refused`, note });
}
