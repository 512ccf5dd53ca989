/** The retries of a task, from the first on; and what became of its attempts. */

import { badge } from "./badge.js";
import { h, mark, write } from "./dom.js";
import { ago } from "./time.js";

/** @param {any[]} tasks @param {string} id of the one that is shown */
export function chain(tasks, id) {
  const rows = tasks.map((task) => {
    const isThis = task.id === id;
    const name = task.retryCount === 0 ? "First" : `Retry ${task.retryCount}`;
    const link = isThis ? h("span", { "aria-current": "true" }, `${name} (this)`) : h("a", { href: `#/tasks/${encodeURIComponent(task.id)}`, title: task.id }, name);
    return h("li", { "data-this": isThis }, link, badge(task), ago(task.createdAt));
  });
  return h("ol", { class: "chain" }, ...rows);
}

/** Counted and in words. */
export class Attempts {
  #dots = h("div", { class: "attempts", "aria-hidden": "true" });
  #says = h("p", { class: "muted" });
  element = h("section", { class: "card", "aria-label": "Attempts" }, h("div", { class: "card-head" }, h("h2", {}, "Attempts")), h("div", { class: "card-body" }, this.#dots, this.#says));

  /** @param {any} task */
  paint({ attempt, lostAttempts, maxAttempts, status }) {
    // As many as fit; the words say the rest.
    const shown = Math.min(maxAttempts, 24);
    if (this.#dots.childElementCount !== shown) this.#dots.replaceChildren(...Array.from({ length: shown }, () => h("span", { class: "attempt" })));
    for (const [index, dot] of [...this.#dots.children].entries()) {
      const state = index < lostAttempts ? "lost" : index === lostAttempts && attempt > lostAttempts && status !== "pending" ? status : "left";
      mark(dot, "data-state", state);
      mark(dot, "data-tone", state === "lost" || state === "left" ? null : status);
    }
    const begun = attempt === 0 ? "No worker has begun it yet." : attempt === 1 ? "One worker has begun it." : `${attempt} workers have begun it.`;
    const lost = lostAttempts === 0 ? "None lost it." : `${lostAttempts} lost it: ${lostAttempts === 1 ? "it" : "they"} fell silent.`;
    write(this.#says, `${begun} ${attempt > 0 ? lost : ""} It fails once ${maxAttempts === 1 ? "one has" : `${maxAttempts} have`} lost it.`.replace("  ", " "));
  }
}
