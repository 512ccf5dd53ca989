/**
 * JSON as a tree that can be read: with the keyboard, too, and however large it is. Of a branch nothing is made before it is
 * opened, and of a long list a hundred at a time.
 */

import { copy } from "./copy.js";
import { h, write } from "./dom.js";

/** Children of a branch that are made at once. */
const CHUNK = 100;
/** Characters of a string that are shown before somebody wants more, and then each time. */
const SHORT = 240;
const LONG = 20_000;
/** Lines that are open from the beginning, and children that a branch may have to be. */
const OPEN_LINES = 40;
const OPEN_CHILDREN = 20;

/** @typedef {{ value: any, path: string, level: number, key: string | undefined, children?: HTMLElement, grow?: () => void }} Leaf */
/** What is open or closed because somebody wanted it so, by path: kept for the next tree in the same place. @typedef {Map<string, boolean>} Memory */

const isBranch = (/** @type {unknown} */ value) => typeof value === "object" && value !== null;
const count = (/** @type {any} */ value) => (Array.isArray(value) ? value.length : Object.keys(value).length);
const number = new Intl.NumberFormat();

/**
 * @param {unknown} value
 * @param {{ label: string, memory?: Memory }} options
 */
export function tree(value, { label, memory = new Map() }) {
  /** @type {WeakMap<Element, Leaf>} */
  const leaves = new WeakMap();
  let left = OPEN_LINES;
  const root = h("div", { class: "tree", role: "tree", "aria-label": label });

  /** @param {any} value @param {string | undefined} key @param {string} path @param {number} level @param {boolean} [isIndex] */
  const make = (value, key, path, level, isIndex = false) => {
    const row = h("span", { class: "tree-row" });
    if (key !== undefined) row.append(h("span", { class: isIndex ? "tree-index" : "tree-key" }, key), h("span", { class: "tree-colon" }, ": "));
    const item = h("div", { role: "treeitem", class: "tree-item", "aria-level": String(level), tabindex: "-1" }, row);
    /** @type {Leaf} */
    const leaf = { value, path, level, key };
    leaves.set(item, leaf);
    if (!isBranch(value)) {
      simple(value, row, item, leaf);
      return item;
    }
    const size = count(value);
    const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    row.append(h("span", { class: "tree-sum" }, size === 0 ? open + close : `${open} ${number.format(size)} ${close}`));
    if (size === 0) return item;
    row.prepend(h("span", { class: "tree-arrow", "aria-hidden": "true" }));
    const isOpen = memory.get(path) ?? (left > 0 && (size <= OPEN_CHILDREN || level === 1));
    item.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) fill(item, leaf);
    return item;
  };

  /** @param {any} value @param {HTMLElement} row @param {HTMLElement} item @param {Leaf} leaf */
  const simple = (value, row, item, leaf) => {
    const kind = value === null ? "null" : typeof value;
    const text = kind === "string" ? value : String(value);
    const shown = h("span", { class: `tree-${kind}` }, kind === "string" ? `"${text.slice(0, SHORT)}` : text);
    row.append(shown);
    if (kind !== "string") return;
    if (text.length <= SHORT) return shown.append('"');
    // Folded: as much again as somebody wants.
    let told = SHORT;
    const more = h("span", { class: "tree-more" });
    const say = () => {
      shown.textContent = `"${text.slice(0, told)}${told < text.length ? "…" : '"'}`;
      write(more, told < text.length ? `${number.format(text.length)} characters, show ${told === SHORT ? "all" : "more"}` : "show less");
      item.setAttribute("aria-expanded", String(told > SHORT));
    };
    row.append(more);
    leaf.grow = () => {
      told = told >= text.length ? SHORT : Math.min(text.length, told === SHORT ? LONG : told + LONG);
      say();
    };
    say();
  };

  /** @param {HTMLElement} item @param {Leaf} leaf */
  const fill = (item, leaf) => {
    if (leaf.children) return void (leaf.children.hidden = false);
    const group = (leaf.children = h("div", { role: "group", class: "tree-group" }));
    const keys = Array.isArray(leaf.value) ? undefined : Object.keys(leaf.value);
    const size = keys?.length ?? leaf.value.length;
    let made = 0;
    const more = h("div", { role: "treeitem", class: "tree-item", "aria-level": String(leaf.level + 1), tabindex: "-1" });
    const grow = () => {
      const end = Math.min(size, made + CHUNK);
      left -= end - made;
      const items = [];
      for (; made < end; made++) {
        const key = keys ? keys[made] : String(made);
        items.push(make(leaf.value[key], key, `${leaf.path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, leaf.level + 1, !keys));
      }
      const wasActive = document.activeElement === more;
      more.remove();
      group.append(...items);
      if (made < size) {
        more.replaceChildren(h("span", { class: "tree-row" }, h("span", { class: "tree-more" }, `show ${number.format(Math.min(CHUNK, size - made))} more of ${number.format(size - made)}`)));
        group.append(more);
      }
      if (wasActive) focus(items[0]);
    };
    leaves.set(more, { value: undefined, path: `${leaf.path}/…`, level: leaf.level + 1, key: undefined, grow });
    grow();
    item.append(group);
  };

  /** @param {HTMLElement} item @param {boolean} isOpen */
  const toggle = (item, isOpen) => {
    const leaf = /** @type {Leaf} */ (leaves.get(item));
    memory.set(leaf.path, isOpen);
    item.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) fill(item, leaf);
    else if (leaf.children) leaf.children.hidden = true;
  };

  /** @param {HTMLElement} item */
  const act = (item) => {
    const leaf = /** @type {Leaf} */ (leaves.get(item));
    if (leaf.grow) leaf.grow();
    else if (item.hasAttribute("aria-expanded")) toggle(item, item.getAttribute("aria-expanded") !== "true");
  };

  /** One of them is reached by Tab. @type {HTMLElement} */
  let active;
  /** @param {HTMLElement | undefined} item */
  const focus = (item) => {
    if (!item) return;
    active.tabIndex = -1;
    active = item;
    item.tabIndex = 0;
    item.focus();
  };
  const visible = () => /** @type {HTMLElement[]} */ ([...root.querySelectorAll('[role="treeitem"]')]).filter((item) => !item.parentElement?.closest("[hidden]"));

  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const leaf = /** @type {Leaf} */ (leaves.get(active));
    const isOpen = active.getAttribute("aria-expanded");
    const parent = /** @type {HTMLElement | null | undefined} */ (active.parentElement?.closest('[role="treeitem"]'));
    const step = (/** @type {number} */ by) => {
      const items = visible();
      focus(items[items.indexOf(active) + by]);
    };
    const deeds = /** @type {Record<string, () => void>} */ ({
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      ArrowRight: () => (isOpen === "false" ? act(active) : isOpen && leaf.children && step(1)),
      ArrowLeft: () => (isOpen === "true" && leaf.children ? toggle(active, false) : focus(parent ?? undefined)),
      Home: () => focus(visible()[0]),
      End: () => focus(visible().at(-1)),
      Enter: () => act(active),
      " ": () => act(active),
      c: () => void copy(typeof leaf.value === "string" ? leaf.value : JSON.stringify(leaf.value, null, 2), leaf.key ?? label),
    });
    const deed = deeds[event.key];
    if (!deed || (event.key === "c" && leaf.value === undefined)) return;
    event.preventDefault();
    deed();
  };
  root.addEventListener("keydown", key);
  root.addEventListener("click", (event) => {
    const item = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest('[role="treeitem"]'));
    // Who selects text does not fold it.
    if (!item || !getSelection()?.isCollapsed) return;
    focus(item);
    act(item);
  });

  active = make(value, undefined, "", 1);
  active.tabIndex = 0;
  root.append(active);
  return root;
}

/** A tree with its heading, and a button that copies all of it. @param {string} title @param {unknown} value @param {{ tone?: string, memory?: Memory }} [options] */
export function treeCard(title, value, { tone, memory } = {}) {
  const button = h("button", { type: "button", class: "button small", onclick: () => void copy(JSON.stringify(value, null, 2), title) }, "Copy", h("span", { class: "unseen" }, ` ${title}`));
  return h("section", { class: "card json-card", "data-tone": tone, "aria-label": title },
    h("div", { class: "card-head" }, h("h2", {}, title), h("span", { class: "aside" }, button)),
    h("div", { class: "card-body" }, tree(value, { label: title, ...(memory && { memory }) })));
}
