/** One task of the list. */

import { badge, ENDED, setBadge } from "./badge.js";
import { h, mark, write } from "./dom.js";
import { ago, lasting, setAgo, setLasting } from "./time.js";

const isNumber = (/** @type {unknown} */ value) => typeof value === "number" && Number.isFinite(value);
const isText = (/** @type {unknown} */ value) => typeof value === "string" && value.trim() !== "";

/** How far it is, 0 to 100, or `undefined` where nobody said. @param {any} task */
export function percentOf({ status, latestProgress }) {
  if (status === "completed") return 100;
  const { percent, current, total } = latestProgress ?? {};
  const said = isNumber(percent) ? percent : isNumber(current) && isNumber(total) && total > 0 ? (100 * current) / total : undefined;
  return said === undefined ? undefined : Math.min(100, Math.max(0, said));
}

/** What is to be said of it in one line. @param {any} task */
function lineOf({ status, latestProgress: entry, error, cancelReason }) {
  if (status === "failed" && error) return isText(error.message) ? error.message : JSON.stringify(error);
  if (status === "cancelled") return cancelReason ?? "";
  if (status === "completed") return "";
  const said = [entry?.stage, entry?.message].filter(isText);
  if (said.length > 0) return said.join(" · ");
  return isNumber(entry?.current) && isNumber(entry?.total) ? `${entry.current} of ${entry.total}` : "";
}

/** @param {string} id @param {{ onToggle: (id: string, isRange: boolean) => void }} ways */
export function taskRow(id, { onToggle }) {
  const box = h("input", { type: "checkbox", tabindex: "-1", "aria-label": `Select ${id}` });
  box.addEventListener("click", (event) => {
    event.stopPropagation();
    onToggle(id, event.shiftKey);
  });
  const cell = (/** @type {string} */ name, /** @type {any[]} */ ...inside) => h("div", { role: "gridcell", class: `cell cell-${name}` }, ...inside);
  const bar = h("div", { class: "bar", role: "progressbar", "aria-label": `Progress of ${id}`, "aria-valuemin": "0", "aria-valuemax": "100" }, h("div", { class: "bar-fill" }));
  return h("div", { role: "row", class: "task-row", tabindex: "-1", "data-id": id },
    h("div", { role: "gridcell", class: "cell cell-select" }, h("label", { class: "hit" }, box)),
    cell("status", badge({ status: "pending" })),
    cell("task", h("a", { class: "cut task-type", tabindex: "-1", href: `#/tasks/${encodeURIComponent(id)}` }), h("span", { class: "cut mono task-id" }, id)),
    cell("progress", h("div", { class: "progress-line" }, bar, h("span", { class: "percent" })), h("span", { class: "cut says" })),
    cell("worker", h("span", { class: "cut" })),
    cell("created", ago(null)),
    cell("took", lasting(null)));
}

/** @param {HTMLElement} row @param {any} task @param {{ index: number, isSelected: boolean, isActive: boolean, hasLeft: boolean }} about */
export function setTaskRow(row, task, { index, isSelected, isActive, hasLeft }) {
  const find = (/** @type {string} */ what) => /** @type {HTMLElement} */ (row.querySelector(what));
  mark(row, "aria-rowindex", index + 2);
  mark(row, "aria-selected", String(isSelected));
  mark(row, "tabindex", isActive ? "0" : "-1");
  mark(row, "data-left", hasLeft);
  /** @type {HTMLInputElement} */ (find("input")).checked = isSelected;
  setBadge(find(".badge"), task);
  write(find(".task-type"), task.taskType);
  const [bar, percent, isOver] = [find(".bar"), percentOf(task), ENDED.has(task.status)];
  const isUnknown = percent === undefined && task.status === "in_progress";
  mark(bar, "data-tone", task.status);
  mark(bar, "data-unknown", isUnknown);
  mark(bar, "aria-valuenow", isUnknown ? null : Math.floor(percent ?? 0));
  mark(bar, "aria-valuetext", isUnknown ? "Not known" : `${Math.floor(percent ?? 0)}%`);
  mark(find(".progress-line"), "data-empty", percent === undefined && !isUnknown);
  /** @type {HTMLElement} */ (bar.firstElementChild).style.transform = isUnknown ? "" : `translateX(${(percent ?? 0) - 100}%)`;
  write(find(".percent"), percent === undefined ? "" : `${Math.floor(percent)}%`);
  const says = find(".says");
  const line = lineOf(task);
  write(says, line);
  mark(says, "title", line || null);
  mark(says, "data-level", isOver ? (task.status === "failed" ? "error" : null) : isText(task.latestProgress?.level) ? task.latestProgress.level.toLowerCase() : null);
  const worker = find(".cell-worker span");
  write(worker, task.workerId ?? "");
  mark(worker, "title", task.workerId);
  setAgo(/** @type {HTMLTimeElement} */ (find(".cell-created time")), task.createdAt);
  setLasting(/** @type {HTMLTimeElement} */ (find(".cell-took time")), task.status === "pending" ? null : task.startedAt, isOver ? task.completedAt : null);
}
