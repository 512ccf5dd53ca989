/** Very many lines of one height, of which those are there that can be seen. */

import { h } from "./dom.js";

/** Lines above and below what is seen. */
const SPARE = 8;

export class Lines {
  #count = 0;
  #height;
  #render;
  /** @type {Map<number, HTMLElement>} */
  #made = new Map();
  #inner = h("div", { class: "lines-inner", role: "presentation" });
  #isDue = false;
  /** Sticks to the end, unless somebody scrolls up. */
  isFollowing = true;
  /** @type {(isFollowing: boolean) => void} */
  onFollow = () => {};

  /**
   * @param {{ height: number, attributes: Record<string, any>, render: (index: number) => HTMLElement }} options
   */
  constructor({ height, attributes, render }) {
    this.#height = height;
    this.#render = render;
    this.element = h("div", { class: "lines", tabindex: "0", ...attributes }, this.#inner);
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      this.follow(scrollHeight - scrollTop - clientHeight < this.#height);
      this.#paintSoon();
    });
    new ResizeObserver(() => this.#paintSoon()).observe(this.element);
  }

  /** @param {boolean} isFollowing */
  follow(isFollowing) {
    if (isFollowing === this.isFollowing) return;
    this.isFollowing = isFollowing;
    this.onFollow(isFollowing);
  }

  /** There are so many now; `isOther` where lines that were there are others. @param {number} count @param {boolean} isOther */
  set(count, isOther) {
    if (isOther) this.clear();
    this.#count = count;
    this.#inner.style.blockSize = `${count * this.#height}px`;
    if (this.isFollowing) this.toEnd();
    this.#paintSoon();
  }

  clear() {
    this.#made.clear();
    this.#inner.replaceChildren();
    this.#paintSoon();
  }

  toEnd() {
    this.element.scrollTop = this.#count * this.#height;
  }

  /** Into view, in the middle if it was out of it. @param {number} index */
  show(index) {
    const { clientHeight, scrollTop } = this.element;
    const top = index * this.#height;
    if (top >= scrollTop && top + this.#height <= scrollTop + clientHeight) return;
    this.follow(false);
    this.element.scrollTop = top - clientHeight / 2;
  }

  #paintSoon() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#paint();
    });
  }

  #paint() {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / this.#height) - SPARE);
    const end = Math.min(this.#count, Math.ceil((scrollTop + clientHeight) / this.#height) + SPARE);
    for (const [index, line] of this.#made) {
      if (index >= first && index < end) continue;
      line.remove();
      this.#made.delete(index);
    }
    // They stand in their order, for those who are read them.
    let next = this.#inner.firstElementChild;
    for (let index = first; index < end; index++) {
      const known = this.#made.get(index);
      if (known) next = known.nextElementSibling;
      else {
        const line = this.#render(index);
        line.style.insetBlockStart = `${index * this.#height}px`;
        this.#made.set(index, line);
        this.#inner.insertBefore(line, next);
      }
    }
  }
}
