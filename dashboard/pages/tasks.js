/** All tasks, live: filtered, in order, page by page as one scrolls, to be cancelled and retried together. */

import { bulk, eligible } from "../parts/bulk.js";
import { demonstrationButton } from "../parts/demonstration.js";
import { drawing, h, mark, write } from "../parts/dom.js";
import { filterBar } from "../parts/filterbar.js";
import { address, isAny, read } from "../parts/filters.js";
import { Loader } from "../parts/loader.js";
import { setTaskRow, taskRow } from "../parts/row.js";
import { Selection } from "../parts/selection.js";
import { Tasks } from "../parts/tasks.js";
import { VirtualList } from "../parts/virtual.js";

const count = new Intl.NumberFormat();
/** What the list was when it was left, for whoever comes back to it. @type {{ visit: string, tasks: Tasks, y: number } | undefined} */
let kept;
let visits = 0;

/** @param {HTMLElement} host @param {import("../app.js").Context} context */
export async function show(host, context) {
  const { api, navigate, signal, feed } = context;
  let tasks = new Tasks(read(context.query));
  /** Ends what is read for other filters. */
  let asking = new AbortController();

  const bar = filterBar((change, { isTyped }) => {
    const filters = { ...tasks.filters, ...change };
    // Letters of one word are one step back.
    const goesOn = isTyped && Object.keys(change).every((name) => tasks.filters[/** @type {keyof typeof filters} */ (name)] !== "");
    navigate(address(filters), { replace: goesOn });
  });
  const news = h("button", { type: "button", class: "button primary news", hidden: true });
  const state = h("div", { class: "list-state", role: "status" });
  const all = h("input", { type: "checkbox", "aria-label": "Select all that are loaded" });
  const heads = ["Status", "Task", "Progress", "Worker", "Registered", "Took"];
  const head = h("div", { role: "row", class: "task-row task-head", "aria-rowindex": "1" },
    h("div", { role: "columnheader", class: "cell cell-select" }, h("label", { class: "hit" }, all)),
    ...heads.map((text) => h("div", { role: "columnheader", class: `cell cell-head-${text.toLowerCase()}` }, text)));
  const phone = matchMedia("(max-width: 720px)");
  const list = new VirtualList({
    make: (id) => taskRow(id, { onToggle: (id, isRange) => selection.toggle(id, isRange) }),
    update: (row, id, index) => setTaskRow(row, tasks.known.get(id), { index, isSelected: selection.has(id), isActive: id === (active || tasks.shown[0]), hasLeft: tasks.left.has(id) }),
    height: () => (phone.matches ? 112 : 56),
    covered: () => head.getBoundingClientRect().height + (parseFloat(getComputedStyle(head).insetBlockStart) || 0),
    onSeen: (ids, isNearEnd) => loader?.look(ids, isNearEnd),
  }, signal);
  list.element.setAttribute("role", "rowgroup");
  const grid = h("div", { role: "grid", class: "task-grid card", "aria-label": "Tasks", "aria-multiselectable": "true", "aria-colcount": "7" }, h("div", { role: "rowgroup" }, head), list.element);
  const selection = new Selection(() => tasks.shown, () => paint());
  const actions = actionBar(api, () => [...selection.ids].map((id) => tasks.known.get(id)).filter(Boolean), selection);
  all.addEventListener("change", () => (all.checked ? selection.all() : selection.clear()));

  const total = h("span", { class: "muted total" });
  host.append(h("div", { class: "page-head" }, h("h1", {}, "Tasks"), total), bar.element, news, grid, state, actions.element);

  /** The row that the keyboard is at. */
  let active = "";
  const isAtTop = () => scrollY < 40 && !list.element.contains(document.activeElement) && selection.ids.size === 0;
  const admit = () => {
    if (tasks.isOverflowing) return begin(new Tasks(tasks.filters));
    tasks.admit();
    paint();
  };
  news.addEventListener("click", () => {
    scrollTo(0, 0);
    admit();
  });
  addEventListener("scroll", () => tasks.fresh.size > 0 && isAtTop() && admit(), { passive: true, signal });

  function paint() {
    if (tasks.fresh.size > 0 && isAtTop() && !tasks.isOverflowing) tasks.admit();
    selection.keep((id) => tasks.known.has(id));
    news.hidden = tasks.fresh.size === 0;
    write(news, `${tasks.isOverflowing ? `${count.format(1000)} or more` : count.format(tasks.fresh.size)} new`);
    mark(grid, "aria-rowcount", tasks.next === null ? tasks.shown.length + 1 : -1);
    const shown = tasks.shown.length;
    write(total, shown === 0 ? "" : tasks.next === null ? count.format(shown) : `${count.format(shown)} loaded`);
    [all.checked, all.indeterminate] = [shown > 0 && selection.ids.size === shown, selection.ids.size > 0 && selection.ids.size < shown];
    actions.show();
    list.set(tasks.shown);
    grid.hidden = shown === 0;
    sayState();
  }

  function sayState() {
    const { isLoading, error, isPaused } = loader ?? {};
    const key = [Boolean(isLoading), error, isPaused, tasks.shown.length === 0, tasks.next === null, isAny(tasks.filters)].join("|");
    if (state.dataset.key === key) return;
    state.dataset.key = key;
    if (error) return state.replaceChildren(h("p", { class: "notice" }, `The list could not be read: ${error}. `, h("button", { type: "button", class: "button small", onclick: () => loader?.more(true) }, "Try again")));
    if (isPaused) return state.replaceChildren(h("button", { type: "button", class: "button", onclick: () => loader?.more(true) }, "Search further back"));
    if (tasks.next !== null) return state.replaceChildren(h("p", { class: "muted" }, isLoading || tasks.next === undefined ? "Reading …" : ""));
    if (tasks.shown.length > 0) return state.replaceChildren();
    const nothing = isAny(tasks.filters)
      ? h("div", { class: "empty" }, h("h2", {}, "Nothing has been registered yet"), h("p", {}, "A demonstration registers a task and works on it from this page."), demonstrationButton(context, { isPrimary: true }))
      : h("div", { class: "empty" }, h("h2", {}, "No task is like that"), h("p", {}, "One that comes to be appears here by itself."), h("button", { type: "button", class: "button", onclick: () => navigate("#/tasks") }, "Show all tasks"));
    state.replaceChildren(nothing);
  }

  /** @type {Loader | undefined} */
  let loader;
  /** @param {Tasks} with_ */
  function begin(with_) {
    asking.abort();
    asking = new AbortController();
    signal.addEventListener("abort", () => asking.abort(), { once: true });
    tasks = with_;
    const mine = tasks;
    bar.show(tasks.filters);
    loader = new Loader(mine, (query, signal) => api.list(query, { signal }), asking.signal, () => {
      bar.suggest(new Set([...mine.known.values()].slice(-200).map(({ taskType }) => taskType)));
      paint();
    });
    const { type, statuses } = tasks.filters;
    feed.open({
      taskTypes: type ? [type] : [], statuses, progress: "latest", everyMs: 500,
      onOpen: ({ resumed }) => {
        // What was asked for before it was open may have changed since.
        if (!resumed) mine.expire();
        paint();
      },
      onTask: (task) => void (mine.take(task) !== "none" && paint()),
      onProgress: (id, entry) => void (mine.progress(id, entry) && list.due()),
      onResync: () => {
        mine.expire();
        paint();
      },
    });
    paint();
    if (tasks.next === undefined) void loader.more();
  }

  keys(list, grid, {
    ids: () => tasks.shown,
    now: () => Math.max(0, tasks.shown.indexOf(active)),
    at: (id) => (active = id),
    open: (id) => navigate(`#/tasks/${encodeURIComponent(id)}`),
    toggle: (id, isRange) => selection.toggle(id, isRange),
    clear: () => selection.clear(),
  });

  let visit = "";
  /** Its place in the history has a name, by which it is found again. */
  const visiting = () => {
    visit = `${Date.now()}-${++visits}`;
    history.replaceState({ visit }, "");
    kept = { visit, tasks, y: scrollY };
  };
  const before = kept && history.state?.visit === kept.visit ? kept : undefined;
  begin(before?.tasks ?? tasks);
  if (before) {
    tasks.expire();
    // There is nothing to scroll before it is painted.
    list.paint();
    scrollTo(0, before.y);
    list.paint();
  }
  visiting();
  // Once it is left the place is that of the next page.
  addEventListener("scroll", () => (kept = { visit, tasks, y: scrollY }), { passive: true, signal });
  return {
    update: (/** @type {URLSearchParams} */ query) => {
      selection.clear();
      active = "";
      scrollTo(0, 0);
      begin(new Tasks(read(query)));
      visiting();
    },
  };
}

/** What can be done to those that are selected. @param {import("../../client.js").TaskTracker} api @param {() => any[]} chosen @param {Selection} selection */
function actionBar(api, chosen, selection) {
  const says = h("span", { class: "selected-count" });
  const act = (/** @type {"cancel" | "retry"} */ what, /** @type {string} */ word) => {
    const button = h("button", { type: "button", class: "button" }, word);
    button.addEventListener("click", async () => {
      if (await bulk(api, what, chosen())) selection.clear();
    });
    return button;
  };
  const [cancel, retry] = [act("cancel", "Cancel …"), act("retry", "Retry …")];
  const none = h("button", { type: "button", class: "icon-button", "aria-label": "Select none", title: "Select none", onclick: () => selection.clear() }, drawing("M4.5 4.5l7 7M11.5 4.5l-7 7"));
  const element = h("div", { class: "actions", role: "toolbar", "aria-label": "Selected tasks", hidden: true }, says, cancel, retry, none);
  return {
    element,
    show() {
      element.hidden = selection.ids.size === 0;
      if (element.hidden) return;
      const all = chosen();
      write(says, `${count.format(all.length)} selected`);
      cancel.disabled = eligible("cancel", all).length === 0;
      retry.disabled = eligible("retry", all).length === 0;
    },
  };
}

/**
 * One row is where the keyboard is; Tab comes to it, and arrows go on from it.
 * @param {VirtualList} list
 * @param {HTMLElement} grid
 * @param {{ ids: () => string[], now: () => number, at: (id: string) => void, open: (id: string) => void, toggle: (id: string, isRange: boolean) => void, clear: () => void }} ways
 */
function keys(list, grid, { ids, now, at, open, toggle, clear }) {
  const go = (/** @type {number} */ index) => {
    const place = Math.min(ids().length - 1, Math.max(0, index));
    const id = ids()[place];
    if (id === undefined) return;
    at(id);
    list.reach(place)?.focus({ preventScroll: true });
  };
  const page = () => Math.max(1, Math.floor(innerHeight / 80));
  grid.addEventListener("keydown", (event) => {
    const row = /** @type {HTMLElement | null} */ (/** @type {HTMLElement} */ (event.target).closest(".task-row[data-id]"));
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const id = row.dataset.id ?? "";
    /** @type {Record<string, () => void>} */
    const ways = {
      ArrowDown: () => go(now() + 1), ArrowUp: () => go(now() - 1), PageDown: () => go(now() + page()), PageUp: () => go(now() - page()),
      Home: () => go(0), End: () => go(ids().length - 1), Enter: () => open(id), " ": () => toggle(id, event.shiftKey), Escape: clear,
    };
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    if (event.shiftKey && event.key.startsWith("Arrow")) toggle(id, false);
    way();
  });
  grid.addEventListener("focusin", (event) => {
    const id = /** @type {HTMLElement} */ (event.target).closest("[data-id]")?.getAttribute("data-id");
    if (id) at(id);
  });
  grid.addEventListener("click", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const id = target.closest("[data-id]")?.getAttribute("data-id");
    // What is marked to be copied is no click, and links know where they lead.
    if (!id || target.closest("a, .cell-select") || getSelection()?.toString()) return;
    open(id);
  });
}
