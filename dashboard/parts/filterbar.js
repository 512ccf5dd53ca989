/** Where the filters of the list are chosen. */

import { STATUSES } from "./badge.js";
import { drawing, h, mark, write } from "./dom.js";
import { isAny, ORDERS } from "./filters.js";

/** What is typed counts once nothing was typed for so long. */
const TYPED_MS = 300;

/** A time as a field for it has it, in the browser's zone. @param {string} timestamp */
function local(timestamp) {
  if (!timestamp) return "";
  const date = new Date(timestamp);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const MOMENT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** @param {import("./filters.js").Filters} filters */
function spanOf({ from, to }) {
  const [since, before] = [from, to].map((time) => time && MOMENT.format(Date.parse(time)));
  if (since && before) return `${since} – ${before}`;
  return since ? `Since ${since}` : before ? `Before ${before}` : "Any time";
}

/**
 * @param {(change: Partial<import("./filters.js").Filters>, how: { isTyped: boolean }) => void} onChange
 */
export function filterBar(onChange) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const typed = (/** @type {"q" | "type" | "worker"} */ name, /** @type {HTMLInputElement} */ field) => {
    const say = () => {
      clearTimeout(timer);
      onChange({ [name]: field.value.trim() }, { isTyped: true });
    };
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(say, TYPED_MS);
    });
    field.addEventListener("change", say);
  };
  const q = h("input", { type: "search", class: "field search-field", placeholder: "Search ids, types, params, errors", "aria-label": "Search", autocomplete: "off", spellcheck: "false" });
  const types = h("datalist", { id: "known-types" });
  const type = h("input", { class: "field", list: "known-types", placeholder: "Any", autocomplete: "off", spellcheck: "false" });
  const worker = h("input", { class: "field", placeholder: "Any", autocomplete: "off", spellcheck: "false" });
  typed("q", q);
  typed("type", type);
  typed("worker", worker);
  const chips = Object.entries(STATUSES).map(([status, { word, sign }]) => {
    const chip = h("button", { type: "button", class: "chip", "data-tone": status, "aria-pressed": "false" }, drawing(sign), word);
    chip.addEventListener("click", () => mark(chip, "aria-pressed", String(chip.getAttribute("aria-pressed") !== "true")));
    chip.addEventListener("click", () => onChange({ statuses: chips.filter(({ chip }) => chip.getAttribute("aria-pressed") === "true").map(({ status }) => status) }, { isTyped: false }));
    return { status, chip };
  });
  const time = (/** @type {"from" | "to"} */ name) => {
    const field = h("input", { type: "datetime-local", class: "field" });
    field.addEventListener("change", () => onChange({ [name]: field.value ? new Date(field.value).toISOString() : "" }, { isTyped: false }));
    return field;
  };
  const [from, to] = [time("from"), time("to")];
  const order = h("select", { class: "field", "aria-label": "Order" }, ...Object.entries(ORDERS).map(([name, { says }]) => h("option", { value: name }, says)));
  order.addEventListener("change", () => onChange({ order: order.value }, { isTyped: false }));
  const clear = h("button", { type: "button", class: "button", onclick: () => onChange({ statuses: [], type: "", worker: "", from: "", to: "", q: "" }, { isTyped: false }) }, "Clear");
  const labelled = (/** @type {string} */ text, /** @type {HTMLElement} */ field) => h("label", { class: "labelled" }, h("span", {}, text), field);
  const span = h("summary", { class: "button small" });
  const when = h("details", { class: "when" }, span, h("div", { class: "when-fields" }, labelled("Registered from", from), labelled("and before", to)));
  // It is put away like any menu.
  when.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !when.open) return;
    when.open = false;
    span.focus();
  });
  when.addEventListener("focusout", ({ relatedTarget }) => relatedTarget instanceof Node && !when.contains(relatedTarget) && (when.open = false));
  const more = h("div", { class: "filter-more", id: "filter-more" },
    h("div", { class: "chips", role: "group", "aria-label": "Status" }, ...chips.map(({ chip }) => chip)),
    h("div", { class: "filter-fields" }, labelled("Type", type), labelled("Worker", worker), when, types));
  const toggle = h("button", { type: "button", class: "button filter-toggle", "aria-expanded": "false", "aria-controls": "filter-more" }, drawing("M2 4h12M4.5 8h7M6.5 12h3"), h("span", {}, "Filters"));
  toggle.addEventListener("click", () => mark(toggle, "aria-expanded", String(toggle.getAttribute("aria-expanded") !== "true")));

  return {
    element: h("search", { class: "filters", "aria-label": "Filters" }, h("div", { class: "filter-first" }, q, order, toggle, clear), more),
    /** @param {import("./filters.js").Filters} filters */
    show(filters) {
      const put = (/** @type {HTMLInputElement} */ field, /** @type {string} */ value) => {
        // What is being typed is not written over.
        if (field !== document.activeElement && field.value !== value) field.value = value;
      };
      put(q, filters.q);
      put(type, filters.type);
      put(worker, filters.worker);
      put(from, local(filters.from));
      put(to, local(filters.to));
      write(span, spanOf(filters));
      order.value = filters.order;
      for (const { status, chip } of chips) mark(chip, "aria-pressed", String(filters.statuses.includes(status)));
      clear.hidden = isAny(filters);
      const set = [filters.statuses.length > 0, filters.type, filters.worker, filters.from, filters.to].filter(Boolean).length;
      write(/** @type {Element} */ (toggle.lastElementChild), set > 0 ? `Filters (${set})` : "Filters");
    },
    /** Types to choose from. @param {Iterable<string>} known */
    suggest(known) {
      for (const name of known) if (![...types.children].some((option) => option.getAttribute("value") === name) && types.childElementCount < 200) types.append(h("option", { value: name }));
    },
    focus: () => q.focus(),
  };
}
