import { h } from "../parts/dom.js";

/** @param {HTMLElement} host */
export async function show(host) {
  host.append(h("h1", {}, "Overview"));
}
