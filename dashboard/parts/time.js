/** Times for people. They are those of the server: a browser's clock may be anywhere. */

import { h, write } from "./dom.js";

/** How far the server's clock is ahead of ours; what has just happened there says it best. */
let ahead = -Infinity;

/** @param {string | undefined} timestamp of something that happened at the server, never of something to come */
export function noteServerTime(timestamp) {
  const at = Date.parse(timestamp ?? "");
  if (Number.isFinite(at)) ahead = Math.max(ahead, at - Date.now());
}

/** By the server's clock, in milliseconds. */
export const now = () => Date.now() + (Number.isFinite(ahead) ? ahead : 0);

const two = (/** @type {number} */ n) => String(n).padStart(2, "0");

/** @param {number} ms */
export function duration(ms) {
  if (!Number.isFinite(ms) || ms < 0) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const EXACT = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});

/** @param {string} timestamp */
export function relative(timestamp) {
  const at = Date.parse(timestamp);
  const seconds = Math.round((now() - at) / 1000);
  const size = Math.abs(seconds);
  const words = (/** @type {string} */ span) => (seconds < 0 ? `in ${span}` : `${span} ago`);
  if (size < 5) return "just now";
  if (size < 60) return words(`${size} s`);
  if (size < 60 * 60) return words(`${Math.floor(size / 60)} min`);
  if (size < 24 * 60 * 60) return words(`${Math.floor(size / 3600)} h`);
  if (size < 7 * 24 * 60 * 60) return words(`${Math.floor(size / 86400)} d`);
  return DAY.format(at);
}

/** @param {string} timestamp */
export const exact = (timestamp) => EXACT.format(Date.parse(timestamp));

/** `<time>` that says how long ago, by itself. @param {string | null | undefined} timestamp */
export function ago(timestamp) {
  const element = h("time", { "data-ago": "" });
  setAgo(element, timestamp);
  return element;
}

/** @param {HTMLTimeElement} element @param {string | null | undefined} timestamp */
export function setAgo(element, timestamp) {
  if (!timestamp) {
    element.removeAttribute("datetime");
    element.removeAttribute("title");
    return write(element, "");
  }
  if (element.dateTime !== timestamp) {
    element.dateTime = timestamp;
    element.title = exact(timestamp);
  }
  write(element, relative(timestamp));
}

/** `<time>` that counts how long something takes, up to its end if it has one. @param {string | null | undefined} from @param {string | null | undefined} [to] */
export function lasting(from, to) {
  const element = h("time", { "data-lasting": "" });
  setLasting(element, from, to);
  return element;
}

/** @param {HTMLTimeElement} element @param {string | null | undefined} from @param {string | null | undefined} [to] */
export function setLasting(element, from, to) {
  element.dataset.from = from ?? "";
  element.dataset.to = to ?? "";
  const end = to ? Date.parse(to) : now();
  const took = from ? Math.max(0, end - Date.parse(from)) : NaN;
  // What goes on is counted in whole seconds: tenths would flicker.
  write(element, to || took >= 10_000 ? duration(took) : from ? `${Math.floor(took / 1000)} s` : "");
}

// There are as many as rows on the screen.
setInterval(() => {
  if (document.hidden) return;
  for (const element of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll("time[data-ago][datetime]"))) {
    write(element, relative(element.dateTime));
  }
  for (const element of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll('time[data-lasting]:not([data-from=""])[data-to=""]'))) {
    setLasting(element, element.dataset.from);
  }
}, 1000);
