/** Asks before something is done that cannot be undone. */

import { h } from "./dom.js";

/**
 * Resolves to whether it was confirmed. A `note` is what is said below the question: text, or an element of the caller's, which may
 * hold fields.
 * @param {{ title: string, note?: string | Node, confirm: string, dismiss?: string, tone?: "plain" | "danger" }} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, note, confirm, dismiss = "Not now", tone = "plain" }) {
  return new Promise((resolve) => {
    let answer = false;
    const close = (/** @type {boolean} */ said) => {
      answer = said;
      dialog.close();
    };
    const yes = h("button", { type: "button", class: `button ${tone === "danger" ? "danger" : "primary"}`, onclick: () => close(true) }, confirm);
    const no = h("button", { type: "button", class: "button", onclick: () => close(false) }, dismiss);
    const body = typeof note === "string" ? h("p", {}, note) : note;
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" },
      h("h2", { id: "dialog-title" }, title), body, h("div", { class: "dialog-buttons" }, no, yes));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    // A click beside it is a no.
    dialog.addEventListener("click", (event) => event.target === dialog && close(false));
    document.body.append(dialog);
    dialog.showModal();
    // Enter does not confirm what destroys something.
    (tone === "danger" ? no : yes).focus();
  });
}

/** Says something that has to be read. @param {{ title: string, note: string | Node, dismiss?: string }} message @returns {Promise<void>} */
export function told({ title, note, dismiss = "Close" }) {
  return new Promise((resolve) => {
    const body = typeof note === "string" ? h("p", {}, note) : note;
    const button = h("button", { type: "button", class: "button primary", onclick: () => dialog.close() }, dismiss);
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" },
      h("h2", { id: "dialog-title" }, title), body, h("div", { class: "dialog-buttons" }, button));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
    button.focus();
  });
}
