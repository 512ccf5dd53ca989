/** A bar and what is said of its task: the same wherever one is shown. */

/** @import { Connection } from "../client.js" */

import { TaskView, inWords } from "../client/view.js";
import { make, mark, write } from "./dom.js";
import { words } from "./words.js";

/** Of the host, whichever it is. */
export const HOST_CSS = `
:host {
  --_text: var(--task-progress-text, light-dark(#1b1f24, #e6eaf0));
  --_muted: var(--task-progress-muted, light-dark(#57606a, #9da7b3));
  --_track: var(--task-progress-track, light-dark(#e1e6ed, #2d333c));
  --_accent: var(--task-progress-accent, light-dark(#2563eb, #6ea2ff));
  --_success: var(--task-progress-success, light-dark(#1a7f37, #4cc36a));
  --_danger: var(--task-progress-danger, light-dark(#c3242b, #ff8078));
  --_warning: var(--task-progress-warning, light-dark(#8f5f00, #e0b050));
  --_height: var(--task-progress-height, 0.5em);
  --_radius: var(--task-progress-radius, 999px);
  display: block;
  min-inline-size: 10em;
  color: var(--_text);
  font-family: var(--task-progress-font, inherit);
  line-height: 1.45;
  font-variant-numeric: tabular-nums;
}
:host([hidden]) { display: none; }
[hidden] { display: none !important; }
.unseen { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;

export const BAR_CSS = `
.task { --_tone: var(--_accent); display: grid; gap: 0.4em; }
.task[data-tone="quiet"] { --_tone: var(--_muted); }
.task[data-tone="good"] { --_tone: var(--_success); }
.task[data-tone="bad"] { --_tone: var(--_danger); }
.task[data-tone="warn"] { --_tone: var(--_warning); }
.row { display: flex; align-items: baseline; justify-content: space-between; gap: 1em; min-inline-size: 0; }
.label { font-weight: 600; overflow-wrap: anywhere; }
.percent, .below { color: var(--_muted); }
.percent { flex: none; font-size: 0.875em; }
.below { font-size: 0.875em; min-block-size: 1.45em; }
.bar { block-size: var(--_height); border-radius: var(--_radius); background: var(--_track); overflow: hidden; }
.fill {
  block-size: 100%; inline-size: 0; border-radius: inherit; background: var(--_tone);
  transition: inline-size 300ms ease-out, background-color 200ms;
}
.status { flex: none; color: var(--_tone); font-weight: 500; }
.status::before {
  content: ""; display: inline-block; inline-size: 0.5em; block-size: 0.5em; margin-inline-end: 0.45em;
  border-radius: 50%; background: currentColor; vertical-align: 0.1em;
}
.says { flex: 1 1 8em; min-inline-size: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.says[data-level="warn"], .says[data-level="warning"] { color: var(--_warning); }
.says[data-level="error"], .says[data-level="fatal"] { color: var(--_danger); }
.below { gap: 0 0.75em; flex-wrap: wrap; }
.time { flex: none; margin-inline-start: auto; }
.error { flex: 1 1 8em; min-inline-size: 0; color: var(--_danger); overflow-wrap: anywhere; }
.task[data-tone="quiet"] .error, .task[data-tone="warn"] .error { color: var(--_muted); }
.bar[data-unknown] .fill { inline-size: 35%; animation: wander 1.6s ease-in-out infinite alternate; transition: none; }
@keyframes wander { from { margin-inline-start: 0; } to { margin-inline-start: 65%; } }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .bar[data-unknown] .fill {
    animation: none; inline-size: 100%;
    background: repeating-linear-gradient(135deg, var(--_tone) 0 0.5em, transparent 0.5em 1em);
  }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill { --_tone: Highlight; forced-color-adjust: none; }
  .status::before { forced-color-adjust: none; background: CanvasText; }
}
`;

/** @type {Record<string, string>} */
const ENDS = { completed: "good", cancelled: "quiet" };

/** What a view is called, and how it is coloured. @param {TaskView} view */
export function standing({ status, isRefused, isStalled, isCancelling, isEnd }) {
  if (isRefused) return { word: words.unavailable, tone: "bad" };
  if (status === undefined) return { word: words.connecting, tone: "quiet" };
  const word = words.statuses[status] ?? status;
  if (isEnd) return { word, tone: ENDS[status] ?? "bad" };
  if (isCancelling) return { word: words.cancelling, tone: "warn" };
  if (isStalled) return { word: words.stalled, tone: "warn" };
  return { word, tone: status === "in_progress" ? "busy" : "quiet" };
}

/** A label and a bar, and below what is said. */
export class Bar {
  /** @param {Node} label what stands where the label does @param {string} id of the label, in its root */
  constructor(label, id) {
    this.label = make("span", { class: "label", part: "label", id }, label);
    this.percent = make("span", { class: "percent", part: "percent" });
    this.fill = make("div", { class: "fill", part: "fill" });
    this.bar = make("div", { class: "bar", part: "bar", role: "progressbar", "aria-labelledby": id, "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.status = make("span", { class: "status", part: "status" });
    this.says = make("span", { class: "says", part: "message" });
    this.time = make("span", { class: "time", part: "time" });
    this.error = make("span", { class: "error", part: "error", hidden: "" });
    this.element = make("div", { class: "task", part: "task" },
      make("div", { class: "row", part: "head" }, this.label, this.percent), this.bar,
      make("div", { class: "row below", part: "foot" }, this.status, this.says, this.error, this.time));
  }

  /**
   * @param {TaskView} view
   * @param {number} now
   * @param {{ connection?: Connection | undefined, otherwise?: string }} around how the events arrive; what to say of time where none is left
   */
  paint(view, now, { connection, otherwise = "" } = {}) {
    const { element, percent, fill, bar, status, says, time, error } = this;
    const { word, tone } = standing(view);
    mark(element, "data-tone", tone);
    write(status, word);
    const isUnknown = view.status === "in_progress" && view.percent === undefined && !view.error;
    const shown = Math.floor(view.percent ?? 0);
    bar.toggleAttribute("data-unknown", isUnknown);
    fill.style.inlineSize = isUnknown ? "" : `${view.percent ?? 0}%`;
    write(percent, view.percent === undefined ? "" : `${shown}%`);
    const said = [view.stage, view.message, view.count && words.count(view.count.current, view.count.total)];
    write(says, view.isEnd || view.status === "pending" ? "" : said.filter(Boolean).join(" · "));
    mark(says, "data-level", view.level);
    const left = view.secondsLeft(now);
    const isAway = connection?.state === "waiting" && connection.failures > 0 && !view.isEnd && !view.error;
    const known = left === undefined ? "" : words.left(inWords(left));
    write(time, isAway ? words.reconnecting : known || otherwise);
    mark(bar, "aria-valuenow", isUnknown ? undefined : String(shown));
    mark(bar, "aria-valuetext", [isUnknown ? "" : `${shown}%`, word, isAway ? words.reconnecting : known].filter(Boolean).join(", "));
    [says.hidden, error.hidden] = [Boolean(view.error), !view.error];
    write(error, view.error?.text ?? "");
    return { word, percent: shown, isMoving: left !== undefined };
  }
}
