/** What a page does, as a line for a shell. */

import { told } from "./confirm.js";
import { copy } from "./copy.js";
import { h } from "./dom.js";

/** For a POSIX shell, whatever is in it. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Where the service is: where this page is. @param {string} path */
const address = (path) => new URL(`api/v1/${path}`, new URL(".", location.href)).href;

/** @param {string} path @param {object} body */
const post = (path, body) => `curl -X POST ${quoted(address(path))} \\\n  -H 'content-type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;

/** Those of a task. @param {any} task */
export function curls(task) {
  const { id, taskType, metadata, params, timeoutSeconds, maxAttempts, stallSeconds } = task;
  const path = `tasks/${encodeURIComponent(id)}`;
  const body = {
    taskType, ...(params && { params }), ...(metadata && { metadata }), timeoutSeconds, maxAttempts, ...(stallSeconds !== null && { stallSeconds }),
  };
  return [
    { title: "Register a task like this", text: post("tasks", body) },
    { title: "Follow it", text: `curl -N ${quoted(address(`${path}/track`))}` },
    { title: "Cancel it", text: post(`${path}/cancel`, {}) },
  ];
}

/** @param {any} task */
export function showCurls(task) {
  const blocks = curls(task).map(({ title, text }) =>
    h("section", { class: "curl", "aria-label": title },
      h("div", { class: "curl-head" }, h("h3", {}, title),
        h("button", { type: "button", class: "button small", onclick: () => void copy(text, "The command") }, "Copy", h("span", { class: "unseen" }, `: ${title}`))),
      // A million characters in one line help nobody; what is copied is whole.
      h("pre", { tabindex: "0", role: "region", "aria-label": `Command: ${title}` }, text.length > 4_000 ? `${text.slice(0, 4_000)}…` : text)));
  return told({ title: "Copy as curl", note: h("div", { class: "curls" }, ...blocks) });
}
