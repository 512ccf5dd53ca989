/** Which tasks are selected, by id. */

export class Selection {
  /** @type {Set<string>} */
  ids = new Set();
  #shown;
  #onChange;
  /** Where a range begins. */
  #anchor = "";

  /** @param {() => string[]} shown @param {() => void} onChange */
  constructor(shown, onChange) {
    this.#shown = shown;
    this.#onChange = onChange;
  }

  /** @param {string} id */
  has(id) {
    return this.ids.has(id);
  }

  /** One, or with `isRange` all from the one before to this. @param {string} id @param {boolean} isRange */
  toggle(id, isRange) {
    const isOn = !this.ids.has(id);
    const shown = this.#shown();
    const [a, b] = [shown.indexOf(this.#anchor), shown.indexOf(id)];
    const range = isRange && a >= 0 && b >= 0 ? shown.slice(Math.min(a, b), Math.max(a, b) + 1) : [id];
    for (const one of range) isOn ? this.ids.add(one) : this.ids.delete(one);
    this.#anchor = id;
    this.#onChange();
  }

  all() {
    for (const id of this.#shown()) this.ids.add(id);
    this.#onChange();
  }

  clear() {
    if (this.ids.size === 0) return;
    this.ids.clear();
    this.#onChange();
  }

  /** Forgets those that are not there. @param {(id: string) => boolean} isThere */
  keep(isThere) {
    for (const id of this.ids) if (!isThere(id)) this.ids.delete(id);
  }
}
