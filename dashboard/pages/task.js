/** One task. */

import { h } from "../parts/dom.js";

/** @param {HTMLElement} host @param {import("../app.js").Context} context */
export async function show(host, { params }) {
  const element = document.createElement("task-progress");
  element.setAttribute("task-id", params.id);
  host.append(h("h1", {}, params.id), element);
}
