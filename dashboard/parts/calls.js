/** What the pages ask the service beside what the client has. */

import { TaskTrackerError } from "../../client.js";

const ROOT = new URL("../../", import.meta.url);

/**
 * @param {string} path from where the service is
 * @param {{ query?: Record<string, string | number>, body?: unknown, signal?: AbortSignal }} [request] with a body it is a POST
 */
async function call(path, { query = {}, body, signal } = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  const response = await fetch(url, {
    signal,
    cache: "no-store",
    headers: { accept: "application/json", ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
  });
  if (response.ok) return response.json();
  throw new TaskTrackerError(response.status, await response.json().catch(() => ({})));
}

/** @param {number} windowSeconds @param {AbortSignal} [signal] */
export const overview = (windowSeconds, signal) => call("api/v1/overview", { query: { windowSeconds }, signal });
/** @param {AbortSignal} [signal] */
export const nodes = (signal) => call("api/v1/nodes", { signal });
/** @param {AbortSignal} [signal] */
export const health = (signal) => call("healthz", { signal });
/** Ends what is overdue, now. @returns {Promise<{ processedCount: number }>} */
export const processTimeouts = () => call("api/v1/tasks/timeouts/process", { body: {} });

/** Of one request. */
const MOST = 1000;

/**
 * Cancels or retries many, each with an outcome of its own.
 * @param {"cancel" | "retry"} what
 * @param {string[]} taskIds
 * @param {object} [options] of the cancellation
 */
export async function many(what, taskIds, options = {}) {
  /** @type {{ taskId: string, status: number, code?: string, title?: string, detail?: string }[]} */
  const results = [];
  for (let at = 0; at < taskIds.length; at += MOST) {
    const answer = await call(`api/v1/tasks/${what}`, { body: { ...options, taskIds: taskIds.slice(at, at + MOST) } });
    results.push(...answer.results);
  }
  return results;
}
