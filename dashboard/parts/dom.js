/** Elements, made by hand. Whatever comes from tasks goes in as text, and nothing here takes markup. */

const SVG = "http://www.w3.org/2000/svg";

/** @param {Element} element @param {Record<string, any>} attributes */
function dress(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

/**
 * An element with its attributes, listeners (`onclick: …`) and children; children that are not there are left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | number | false | null | undefined)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  dress(element, attributes);
  for (const child of children) {
    if (child !== undefined && child !== null && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** A drawing of one path or several, as large as the text around it. @param {string} paths @param {Record<string, any>} [attributes] */
export function drawing(paths, attributes = {}) {
  const svg = dress(document.createElementNS(SVG, "svg"), { viewBox: "0 0 16 16", "aria-hidden": "true", class: "drawing", ...attributes });
  for (const d of paths.split("|")) svg.append(dress(document.createElementNS(SVG, "path"), { d }));
  return svg;
}

/** Writes what has changed, and nothing else: a page may show very many. @param {Element} element @param {string} text */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Element} element @param {string} name @param {string | number | boolean | null | undefined} value */
export function mark(element, name, value) {
  if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** For screen readers alone. @param {string} text */
export const unseen = (text) => h("span", { class: "unseen" }, text);

/**
 * Makes the children of `parent` those of `items`, in order: what is there already stays where it is, and keeps its focus.
 * @template Item
 * @param {Element} parent
 * @param {Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => HTMLElement} make
 * @param {(element: HTMLElement, item: Item) => void} update also of what was just made
 */
export function keyed(parent, items, keyOf, make, update) {
  const known = new Map(Array.from(/** @type {HTMLCollectionOf<HTMLElement>} */ (parent.children), (child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = known.get(key);
    known.delete(key);
    if (!element) {
      element = make(item);
      element.dataset.key = key;
    }
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const gone of known.values()) gone.remove();
}
