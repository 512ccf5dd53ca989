/** Says in a corner what has just happened, and goes away by itself. */

import { drawing, h } from "./dom.js";

const LONG_ENOUGH_MS = 6_000;

/** @param {string} text @param {{ tone?: "plain" | "good" | "bad" }} [options] */
export function toast(text, { tone = "plain" } = {}) {
  const close = h("button", { type: "button", class: "icon-button", "aria-label": "Dismiss", onclick: () => element.remove() }, drawing("M4.5 4.5l7 7M11.5 4.5l-7 7"));
  const element = h("div", { class: "toast", "data-tone": tone, role: tone === "bad" ? "alert" : "status" }, h("span", {}, text), close);
  document.getElementById("toasts")?.append(element);
  let timer = setTimeout(() => element.remove(), LONG_ENOUGH_MS);
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("pointerleave", () => (timer = setTimeout(() => element.remove(), LONG_ENOUGH_MS)));
  return element;
}

/** What went wrong, in the words of whoever refused. @param {unknown} error */
export function reason(error) {
  const { detail, message } = /** @type {{ detail?: string, message?: string }} */ (error ?? {});
  return detail || message || String(error);
}
