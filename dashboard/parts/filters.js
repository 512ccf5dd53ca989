/** Which tasks a list shows, and in which order: as the address has it, as the service is asked, and as one task is judged. */

import { STATUSES } from "./badge.js";

/**
 * @typedef {object} Filters
 * @property {string[]} statuses none is any
 * @property {string} type
 * @property {string} worker
 * @property {string} from registered since, RFC 3339
 * @property {string} to and before
 * @property {string} q
 * @property {string} order one of `ORDERS`
 */

/** @type {Record<string, { says: string, sort: "createdAt" | "completedAt", order: "asc" | "desc" }>} */
export const ORDERS = {
  newest: { says: "Newest first", sort: "createdAt", order: "desc" },
  oldest: { says: "Oldest first", sort: "createdAt", order: "asc" },
  ended: { says: "Ended last", sort: "completedAt", order: "desc" },
};

/** @param {URLSearchParams} query @returns {Filters} */
export function read(query) {
  const text = (/** @type {string} */ name) => query.get(name)?.trim() ?? "";
  const time = (/** @type {string} */ name) => {
    const at = Date.parse(text(name));
    return Number.isFinite(at) ? new Date(at).toISOString() : "";
  };
  const order = text("order");
  return {
    statuses: [...new Set(text("status").split(","))].filter((status) => Object.hasOwn(STATUSES, status)),
    type: text("type"), worker: text("worker"), from: time("from"), to: time("to"), q: text("q"),
    order: Object.hasOwn(ORDERS, order) ? order : "newest",
  };
}

/** The address of the list under these filters. @param {Filters} filters */
export function address({ statuses, type, worker, from, to, q, order }) {
  const query = new URLSearchParams();
  const all = { status: statuses.join(","), type, worker, from, to, q, order: order === "newest" ? "" : order };
  for (const [name, value] of Object.entries(all)) if (value) query.set(name, value);
  // Commas and colons are allowed there, and are read by people.
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  return text ? `#/tasks?${text}` : "#/tasks";
}

/** @param {Filters} filters */
export function isAny({ statuses, type, worker, from, to, q }) {
  return statuses.length === 0 && ![type, worker, from, to, q].some(Boolean);
}

/** What `GET /tasks` is asked. @param {Filters} filters */
export function asked({ statuses, type, worker, from, to, q, order }) {
  const { sort, order: direction } = ORDERS[order] ?? ORDERS.newest;
  return {
    status: statuses.join(",") || undefined,
    taskType: type || undefined,
    workerId: worker || undefined,
    createdAfter: from || undefined,
    createdBefore: to || undefined,
    q: q || undefined,
    ...(order !== "newest" && { sort, order: direction }),
    fields: "brief",
  };
}

/** Whether the service would list this task, as far as can be told from here. @param {Filters} filters @param {any} task */
export function matches({ statuses, type, worker, from, to, q, order }, task) {
  if (statuses.length > 0 && !statuses.includes(task.status)) return false;
  if (type && task.taskType !== type) return false;
  if (worker && task.workerId !== worker) return false;
  const at = Date.parse(task.createdAt);
  if ((from && at < Date.parse(from)) || (to && at >= Date.parse(to))) return false;
  if (ORDERS[order]?.sort === "completedAt" && !task.completedAt) return false;
  if (!q) return true;
  const wanted = q.toLowerCase();
  if (task.id.startsWith(q)) return true;
  const texts = [task.taskType, task.workerId, ...[task.metadata, task.params, task.error].map((json) => json && JSON.stringify(json))];
  return texts.some((text) => text?.toLowerCase().includes(wanted));
}

/** Less than nothing where `a` stands before `b`. @param {Filters} filters @returns {(a: any, b: any) => number} */
export function comparing({ order }) {
  const { sort, order: direction } = ORDERS[order] ?? /** @type {typeof ORDERS["newest"]} */ (ORDERS.newest);
  const sign = direction === "asc" ? 1 : -1;
  return (a, b) => {
    const [x, y] = [a[sort] ?? "", b[sort] ?? ""];
    return sign * (x < y ? -1 : x > y ? 1 : a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
  };
}
