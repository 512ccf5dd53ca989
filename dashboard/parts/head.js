/** The head of a task: what it is, how far it is, who has it, and when. */

import { inWords } from "../../client/view.js";
import { nameOf } from "../../elements/rows.js";
import { ENDED, badge, setBadge } from "./badge.js";
import { copy } from "./copy.js";
import { drawing, h, mark, write } from "./dom.js";
import { severity } from "./history.js";
import { ago, exact, lasting, now, setAgo, setLasting } from "./time.js";

const COPY = "M5.500 5.500h7v7h-7z|M10.500 5.500v-2h-7v7h2";
/** Stages that are all shown; of more, those around the present one. */
const STAGES = 9;

export class Head {
  #history;
  #badge = badge({ status: "pending" });
  #name = h("h1", {});
  #type = h("span", { class: "hero-type" });
  #percent = h("span", { class: "hero-percent" });
  #message = h("p", { class: "hero-message" });
  #left = h("span", { class: "hero-left muted" });
  #fill = h("div", { class: "bar-fill" });
  #bar = h("div", { class: "bar hero-bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, this.#fill);
  #stages = h("ol", { class: "stages", "aria-label": "Stages" });
  #past = h("p", { class: "past", hidden: true });
  #pastText = h("span", {});
  #facts = h("dl", { class: "facts" });
  /** @type {Map<string, { row: HTMLElement, value: HTMLElement }>} */
  #rows = new Map();
  #drawnStages = "";

  /** @param {string} id @param {import("./history.js").History} history @param {{ tools: Node[], onLive: () => void }} around */
  constructor(id, history, { tools, onLive }) {
    this.#history = history;
    const copies = h("button", { type: "button", class: "icon-button", "aria-label": "Copy the id", onclick: () => void copy(id, "The id") }, drawing(COPY));
    this.#past.append(this.#pastText, h("button", { type: "button", class: "button small", onclick: onLive }, "Back to now"));
    this.element = h("section", { class: "card hero", "aria-label": "Task" },
      h("div", { class: "hero-top" },
        h("div", { class: "hero-name" }, h("div", { class: "hero-title" }, this.#name, this.#badge), h("div", { class: "hero-id" }, this.#type, h("code", {}, id), copies)),
        h("div", { class: "hero-tools" }, ...tools)),
      this.#past,
      h("div", { class: "hero-progress" },
        h("div", { class: "hero-line" }, this.#percent, this.#message, this.#left), this.#bar, this.#stages),
      this.#facts);
  }

  /**
   * @param {any} task
   * @param {number} at which entry is shown
   * @param {boolean} isLive
   * @param {number | undefined} secondsLeft
   */
  paint(task, at, isLive, secondsLeft) {
    const name = nameOf(task);
    write(this.#name, name);
    write(this.#type, name === task.taskType ? "" : task.taskType);
    setBadge(this.#badge, task);
    mark(this.element, "data-tone", task.status);
    const moment = this.#history.moments[at];
    const isDone = isLive && task.status === "completed";
    const percent = isDone ? 100 : moment?.percent;
    const isUnknown = percent === undefined && task.status === "in_progress" && isLive;
    this.#bar.toggleAttribute("data-unknown", isUnknown);
    // A bar of no width is painted as none, also where its ends are round.
    this.#fill.style.transform = isUnknown ? "" : `translateX(${(percent ?? 0) - 100}%)`;
    mark(this.#bar, "aria-valuenow", isUnknown ? null : Math.floor(percent ?? 0));
    write(this.#percent, percent === undefined ? "" : `${Math.floor(percent)}%`);
    const says = [moment?.message, moment?.count && `${moment.count.current.toLocaleString()} of ${moment.count.total.toLocaleString()}`];
    const failure = isLive && ENDED.has(task.status) ? this.#failure(task) : undefined;
    write(this.#message, failure ?? (says.filter(Boolean).join(" · ") || this.#otherwise(task)));
    mark(this.#message, "data-severity", failure !== undefined ? (task.status === "cancelled" ? null : 3) : severity(moment?.level));
    write(this.#left, isLive && secondsLeft !== undefined ? `about ${inWords(secondsLeft)} left` : "");
    mark(this.#bar, "aria-valuetext", [percent === undefined ? "" : `${Math.floor(percent)}%`, this.#badge.textContent, this.#left.textContent].filter(Boolean).join(", "));
    this.#past.hidden = isLive;
    if (!isLive && moment) write(this.#pastText, `As it stood with entry ${moment.seqId}, ${exact(moment.timestamp)}.`);
    this.#paintStages(moment?.stage ?? -1, isDone);
    this.#paintFacts(task);
  }

  /** @param {any} task */
  #failure({ status, error, cancelReason }) {
    if (status === "completed") return undefined;
    if (status === "cancelled") return cancelReason ?? undefined;
    return typeof error?.message === "string" && error.message.trim() !== "" ? error.message : undefined;
  }

  /** @param {any} task */
  #otherwise({ status }) {
    return { pending: "Waits for a worker", in_progress: "Nothing was said yet", completed: "Done" }[/** @type {string} */ (status)] ?? "";
  }

  /** In their order, and the present one marked. @param {number} present @param {boolean} isDone */
  #paintStages(present, isDone) {
    const { stages } = this.#history;
    const drawn = `${stages.length} ${present} ${isDone}`;
    if (drawn === this.#drawnStages) return;
    this.#drawnStages = drawn;
    this.#stages.hidden = stages.length === 0;
    const first = stages.length <= STAGES ? 0 : Math.max(0, Math.min(present - Math.floor(STAGES / 2), stages.length - STAGES));
    const shown = stages.slice(first, first + STAGES).map((name, n) => {
      const index = first + n;
      const state = isDone || index < present ? "done" : index === present ? "present" : "later";
      return h("li", { "data-state": state, ...(state === "present" && { "aria-current": "step" }) }, h("span", { class: "stage-sign", "aria-hidden": "true" }), h("span", { class: "cut", title: name }, name));
    });
    const more = (/** @type {number} */ many) => (many > 0 ? [h("li", { class: "muted" }, `${many} more`)] : []);
    this.#stages.replaceChildren(...more(first), ...shown, ...more(stages.length - first - shown.length));
  }

  /** @param {any} task */
  #paintFacts(task) {
    const { status, workerId, attempt, maxAttempts, createdAt, startedAt, completedAt, timeoutAt, leaseExpiresAt, cancelDeadline, cancelRequestedAt } = task;
    const isEnded = ENDED.has(status);
    this.#fact("Worker", workerId ?? "—");
    this.#fact("Attempt", attempt === 0 ? `none of ${maxAttempts} yet` : `${attempt} of ${maxAttempts}`);
    this.#time("Registered", createdAt);
    this.#time("Started", startedAt);
    this.#time("Ended", completedAt);
    this.#span(isEnded ? "Took" : startedAt ? "Running for" : "Waiting for", isEnded || startedAt ? startedAt : createdAt, completedAt);
    this.#time("Deadline", isEnded ? null : timeoutAt);
    this.#time("Lease", isEnded || status !== "in_progress" ? null : leaseExpiresAt);
    this.#time("Cut off", cancelRequestedAt && !isEnded ? cancelDeadline : null);
  }

  /** @param {string} name @param {HTMLElement} value */
  #row(name, value) {
    const row = h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const made = { row, value };
    this.#rows.set(name, made);
    this.#facts.append(row);
    return made;
  }

  /** @param {string} name @param {string} text */
  #fact(name, text) {
    const { value } = this.#rows.get(name) ?? this.#row(name, h("span", {}));
    write(value, text);
  }

  /** @param {string} name @param {string | null | undefined} timestamp */
  #time(name, timestamp) {
    const { row, value } = this.#rows.get(name) ?? this.#row(name, ago(timestamp));
    row.hidden = !timestamp;
    setAgo(/** @type {HTMLTimeElement} */ (value), timestamp);
    // A lease that is over and that nobody has taken yet.
    mark(row, "data-over", (name === "Lease" || name === "Cut off") && Boolean(timestamp) && Date.parse(timestamp ?? "") < now());
  }

  /** @param {string} name @param {string | null} from @param {string | null} to */
  #span(name, from, to) {
    for (const other of ["Took", "Running for", "Waiting for"]) {
      const known = this.#rows.get(other);
      if (known && other !== name) known.row.hidden = true;
    }
    const { row, value } = this.#rows.get(name) ?? this.#row(name, lasting(from, to));
    row.hidden = !from;
    setLasting(/** @type {HTMLTimeElement} */ (value), from, to);
  }
}
