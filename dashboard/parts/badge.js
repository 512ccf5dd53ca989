/** Where a task stands: a sign, a word and a colour, so that none of them is needed alone. */

import { drawing, h, mark, write } from "./dom.js";

/** @type {Record<string, { word: string, token: string, sign: string }>} */
export const STATUSES = {
  pending: { word: "Waiting", token: "--pending", sign: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11" },
  in_progress: { word: "Running", token: "--running", sign: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11|M8 5.2v2.8l2 1.6" },
  completed: { word: "Completed", token: "--completed", sign: "M3 8.6l3.3 3.4L13 4.6" },
  failed: { word: "Failed", token: "--failed", sign: "M4 4l8 8M12 4l-8 8" },
  timeout: { word: "Timed out", token: "--timeout", sign: "M4.5 2.5h7M4.5 13.5h7M5.5 2.5v2.2L8 8l2.5-3.3V2.5M5.5 13.5v-2.2L8 8l2.5 3.3v2.2" },
  cancelled: { word: "Cancelled", token: "--cancelled", sign: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11|M4.2 4.2l7.6 7.6" },
};
export const ENDED = new Set(["completed", "failed", "timeout", "cancelled"]);
export const MAY_RETRY = new Set(["failed", "timeout", "cancelled"]);

/** Everything that is known of where a task stands, as one word and one tone. @param {{ status: string, stalledAt?: string | null, cancelRequestedAt?: string | null }} task */
export function standing({ status, stalledAt, cancelRequestedAt }) {
  if (status === "in_progress" && cancelRequestedAt) return { word: "Cancelling", tone: "cancelling" };
  if (status === "in_progress" && stalledAt) return { word: "Stalled", tone: "stalled" };
  return { word: STATUSES[status]?.word ?? status, tone: status };
}

/** @param {Parameters<typeof standing>[0]} task */
export function badge(task) {
  const element = h("span", { class: "badge" }, h("span", { class: "badge-word" }));
  setBadge(element, task);
  return element;
}

/** @param {HTMLElement} element @param {Parameters<typeof standing>[0]} task */
export function setBadge(element, task) {
  const { word, tone } = standing(task);
  if (element.dataset.tone !== tone) {
    mark(element, "data-tone", tone);
    element.querySelector("svg")?.remove();
    element.prepend(drawing(STATUSES[task.status]?.sign ?? "M8 7v2"));
  }
  write(/** @type {Element} */ (element.querySelector(".badge-word")), word);
}
