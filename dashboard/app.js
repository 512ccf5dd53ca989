/** The shell: what is around every page, and which page it is. */

import { TaskTracker } from "../client.js";
import "../elements.js";
import { drawing, h, mark, write } from "./parts/dom.js";
import { Feed } from "./parts/feed.js";
import { reason } from "./parts/toast.js";

/** @type {{ path: RegExp, page: string, title: (params: Record<string, string>) => string, tab?: string }[]} */
const ROUTES = [
  { path: /^\/$/, page: "overview", title: () => "Overview" },
  { path: /^\/tasks$/, page: "tasks", title: () => "Tasks" },
  { path: /^\/tasks\/(?<id>[^/]+)$/, page: "task", title: ({ id }) => `Task ${id}`, tab: "tasks" },
  { path: /^\/operations$/, page: "operations", title: () => "Operations" },
];

const [main, announcer, connection, themeButton] = ["main", "announcer", "connection", "theme"].map((id) => /** @type {HTMLElement} */ (document.getElementById(id)));

const api = new TaskTracker();
const feed = new Feed(showConnection);

/** @typedef {{ api: TaskTracker, params: Record<string, string>, query: URLSearchParams, navigate: typeof navigate, signal: AbortSignal, feed: Feed }} Context */
/** What is shown: `update` takes other filters of the same page. @type {{ key: string, leaving: AbortController, update?: (query: URLSearchParams) => void } | undefined} */
let shown;

/**
 * Goes to `#/…`; with `replace` in place of where it is.
 * @param {string} to
 * @param {{ replace?: boolean }} [options]
 */
function navigate(to, { replace = false } = {}) {
  if (to === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  void route();
}

function here() {
  const [path = "", query = ""] = (location.hash.startsWith("#/") ? location.hash.slice(1) : "/").split(/\?(.*)/s);
  for (const { path: pattern, page, title, tab = page } of ROUTES) {
    const found = pattern.exec(path);
    if (!found) continue;
    try {
      const params = Object.fromEntries(Object.entries(found.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]));
      return { page, params, tab, title: title(params), query: new URLSearchParams(query), key: path };
    } catch {
      // What is no encoded text names no task.
    }
  }
  return { page: undefined, params: {}, tab: undefined, title: "Not found", query: new URLSearchParams(), key: path };
}

async function route() {
  const { page, params, tab, title, query, key } = here();
  if (shown?.key === key && shown.update) return shown.update(query);
  const isFirst = !shown;
  shown?.leaving.abort();
  feed.close();
  const leaving = new AbortController();
  const { signal } = leaving;
  shown = { key, leaving };

  document.title = `${title} · Task Tracker`;
  for (const link of document.querySelectorAll("#pages a")) mark(link, "aria-current", link.getAttribute("data-page") === tab ? "page" : null);
  const host = h("div", { class: `page page-${page ?? "nowhere"}` });
  main.replaceChildren(host);
  scrollTo(0, 0);
  try {
    if (page === undefined) nowhere(host);
    else {
      const module = await import(`./pages/${page}.js`);
      if (signal.aborted) return;
      const update = await module.show(host, { api, params, query, navigate, signal, feed });
      if (!signal.aborted) shown.update = update?.update;
    }
  } catch (error) {
    if (signal.aborted) return;
    console.warn(error);
    host.replaceChildren(broken(error));
  }
  if (!signal.aborted && !isFirst) arrive(host, title);
}

/** Who does not see that the page is another one hears it, and goes on from its beginning. @param {HTMLElement} host @param {string} title */
function arrive(host, title) {
  write(announcer, title);
  const heading = host.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  // A page may have put it where it belongs already.
  if (!host.contains(document.activeElement)) (heading ?? main).focus({ preventScroll: true });
}

/** @param {HTMLElement} host */
function nowhere(host) {
  host.append(h("div", { class: "empty" },
    h("h1", {}, "There is no such page"),
    h("p", {}, "The address may be mistyped, or from another version."),
    h("a", { class: "button", href: "#/" }, "To the overview")));
}

/** @param {unknown} error */
function broken(error) {
  return h("div", { class: "empty", role: "alert" },
    h("h1", {}, "This page could not be shown"),
    h("p", {}, reason(error)),
    h("button", { type: "button", class: "button", onclick: () => location.reload() }, "Load it again"));
}

/** @type {Record<string, { word: string, says: string }>} */
const CONNECTIONS = {
  streaming: { word: "Live", says: "What happens is shown as it happens." },
  polling: { word: "Polling", says: "Streams do not get through, perhaps because of a proxy; the server is asked again and again." },
  waiting: { word: "Reconnecting", says: "The server does not answer; it is tried again by itself." },
  refused: { word: "Not live", says: "The server refuses the stream." },
};

/** @param {{ state: string, failures?: number }} now */
function showConnection(now) {
  const known = CONNECTIONS[now.state];
  // An hourly change of streams is no news.
  if (!known || (now.state === "waiting" && now.failures === 0)) return;
  connection.hidden = false;
  mark(connection, "data-state", now.state);
  connection.title = known.says;
  if (connection.textContent === known.word) return;
  if (connection.textContent !== "" || now.state !== "streaming") write(announcer, `${known.word}. ${known.says}`);
  write(connection, known.word);
}

const THEMES = {
  system: { says: "Theme: as the system", sign: "M2.5 3.5h11v7h-11zM6 13h4M8 10.5V13" },
  light: { says: "Theme: light", sign: "M8 5a3 3 0 1 1 0 6a3 3 0 1 1 0-6|M8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9" },
  dark: { says: "Theme: dark", sign: "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z" },
};
function showTheme() {
  const { says, sign } = THEMES[/** @type {keyof typeof THEMES} */ (globalThis.theme.current)];
  mark(themeButton, "aria-label", says);
  themeButton.title = says;
  themeButton.replaceChildren(drawing(sign));
}
themeButton.addEventListener("click", () => {
  globalThis.theme.next();
  showTheme();
});
showTheme();

document.getElementById("skip")?.addEventListener("click", (event) => {
  // It is no place in the history, and no page.
  event.preventDefault();
  main.focus();
});

// The elements may not have it, or bring it later.
void customElements.whenDefined("task-recent").then(() => {
  const recent = document.createElement("task-recent");
  recent.setAttribute("href", "#/tasks/{id}");
  recent.setAttribute("label", "Recent");
  document.getElementById("recent")?.append(recent);
});

// Pages say themselves where they were.
history.scrollRestoration = "manual";
addEventListener("hashchange", () => void route());
void route();
