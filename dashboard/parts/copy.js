/** Puts text where it can be pasted from. */

import { h } from "./dom.js";
import { toast } from "./toast.js";

/** @param {string} text @param {string} what as in "The id is copied" */
export async function copy(text, what) {
  const isDone = await byClipboard(text).catch(() => false) || bySelection(text);
  toast(isDone ? `${what} is copied.` : `${what} could not be copied: the browser does not allow it.`, { tone: isDone ? "plain" : "bad" });
}

/** @param {string} text */
async function byClipboard(text) {
  await navigator.clipboard.writeText(text);
  return true;
}

/** Where the page came without TLS from another machine there is no clipboard, and this still works. @param {string} text */
function bySelection(text) {
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const field = h("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  field.value = text;
  // A dialog that is open lets nothing outside of it be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  before?.focus();
  return isDone;
}
