/** A list of any length, of which those rows are in the page that can be seen, and a few around them. It scrolls with the page. */

/** Rows beyond the edge of the screen. */
const AROUND = 8;

/**
 * @template Row
 * @typedef {object} Ways
 * @property {(id: string) => HTMLElement} make
 * @property {(element: HTMLElement, id: string, index: number) => void} update
 * @property {() => number} height of one row, in pixels
 * @property {() => number} covered by what stands at the top of the screen, in pixels
 * @property {(ids: string[], isNearEnd: boolean) => void} onSeen
 */

export class VirtualList {
  #ways;
  /** @type {readonly string[]} */
  #ids = [];
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  #isDue = false;
  element = document.createElement("div");

  /** @param {Ways<any>} ways @param {AbortSignal} signal */
  constructor(ways, signal) {
    this.#ways = ways;
    this.element.className = "virtual";
    const due = () => this.due();
    addEventListener("scroll", due, { passive: true, signal });
    const observer = new ResizeObserver(due);
    observer.observe(document.documentElement);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** @param {readonly string[]} ids */
  set(ids) {
    this.#ids = ids;
    this.due();
  }

  /** However much happens, it is painted once a frame. */
  due() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      if (this.element.isConnected) this.paint();
    });
  }

  paint() {
    const height = this.#ways.height();
    const top = -this.element.getBoundingClientRect().top;
    const all = this.#ids.length;
    const extent = `${all * height}px`;
    if (this.element.style.blockSize !== extent) this.element.style.blockSize = extent;
    const first = Math.max(0, Math.min(all, Math.floor(top / height) - AROUND));
    const last = Math.max(first, Math.min(all, Math.ceil((top + innerHeight) / height) + AROUND));
    const seen = this.#ids.slice(first, last);
    const kept = new Set(seen);
    for (const [id, row] of this.#rows) {
      // Who is reading there with the keyboard is not thrown out.
      if (kept.has(id) || (row.contains(document.activeElement) && this.#ids.includes(id))) continue;
      row.remove();
      this.#rows.delete(id);
    }
    for (const [at, id] of seen.entries()) this.#place(id, first + at, height);
    for (const id of this.#rows.keys()) if (!kept.has(id)) this.#place(id, this.#ids.indexOf(id), height);
    this.#ways.onSeen(seen, all === 0 || top + 3 * innerHeight > all * height);
  }

  /** @param {string} id @param {number} index @param {number} height */
  #place(id, index, height) {
    let row = this.#rows.get(id);
    if (!row) {
      row = this.#ways.make(id);
      this.#rows.set(id, row);
      this.element.append(row);
    }
    const place = `translateY(${index * height}px)`;
    if (row.style.transform !== place) row.style.transform = place;
    this.#ways.update(row, id, index);
  }

  /** The row of this place, on the screen. @param {number} index */
  reach(index) {
    const id = this.#ids[index];
    if (id === undefined) return undefined;
    const height = this.#ways.height();
    const at = this.element.getBoundingClientRect().top + scrollY + index * height;
    const covered = this.#ways.covered();
    if (at < scrollY + covered) scrollTo(0, at - covered);
    else if (at + height > scrollY + innerHeight - 8) scrollTo(0, at + height - innerHeight + 8);
    this.paint();
    return this.#rows.get(id);
  }
}
