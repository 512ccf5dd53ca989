/** Figures over time, drawn by uPlot; each has its values as a table, too. */

import uPlot from "../vendor/uPlot.esm.js";
import { drawing, h, write } from "./dom.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {string} token of its colour
 * @property {"bar" | "line" | "dash"} kind bars stand on each other, in the order of the lines
 * @property {string} [total] what the legend says of it
 */
/** @typedef {{ title: string, lines: Line[], height?: number, format: (value: number) => string, isWhole?: boolean, nothing: string }} Shape */

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const MOMENT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Canvases know no custom properties. @param {string} token */
function colour(token) {
  const probe = h("span", { hidden: true });
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

export class Chart {
  #shape;
  /** @type {uPlot | undefined} */
  #plot;
  #stepSeconds = 60;
  /** Of each line, at each time. @type {(number | null)[][]} */
  #values = [];
  /** @type {number[]} */
  #times = [];
  #isStale = false;
  #stage = h("div", { class: "chart-stage" });
  #tip = h("div", { class: "chart-tip", hidden: true });
  #nothing = h("p", { class: "chart-nothing", hidden: true });
  #table = h("div", { class: "chart-table", hidden: true, tabindex: "0", role: "region" });
  #legend = h("ul", { class: "legend" });
  #canvas = h("div", { class: "chart-canvas", role: "img" });

  /** @param {Shape} shape @param {AbortSignal} signal */
  constructor(shape, signal) {
    this.#shape = shape;
    write(this.#nothing, shape.nothing);
    this.#table.setAttribute("aria-label", `${shape.title}, as a table`);
    const sign = "M2 3h12v10H2zM2 6.5h12M2 9.8h12M6.5 6.5V13";
    const toggle = h("button", { type: "button", class: "icon-button small", "aria-pressed": "false", "aria-label": `${shape.title} as a table`, title: "As a table" }, drawing(sign));
    toggle.addEventListener("click", () => {
      const isTable = toggle.getAttribute("aria-pressed") !== "true";
      toggle.setAttribute("aria-pressed", String(isTable));
      [this.#table.hidden, this.#stage.hidden] = [!isTable, isTable];
      if (isTable) this.#tabulate();
    });
    this.#stage.append(this.#canvas, this.#nothing, this.#tip);
    this.element = h("section", { class: "card chart", "aria-label": shape.title },
      h("div", { class: "card-head" }, h("h2", {}, shape.title), this.#legend, toggle),
      h("div", { class: "card-body" }, this.#stage, this.#table));

    const observer = new ResizeObserver(() => this.#fit());
    observer.observe(this.#stage);
    // Colours are in the drawing: with another theme it is another drawing.
    const repaint = () => {
      this.#plot?.destroy();
      this.#plot = undefined;
      this.#draw();
    };
    addEventListener("themechange", repaint, { signal });
    signal.addEventListener("abort", () => {
      observer.disconnect();
      this.#plot?.destroy();
    });
  }

  /**
   * @param {number[]} times in seconds
   * @param {(number | null)[][]} values of each line
   * @param {{ stepSeconds: number, totals: string[], summary: string }} about
   */
  set(times, values, { stepSeconds, totals, summary }) {
    [this.#times, this.#values, this.#stepSeconds] = [times, values, stepSeconds];
    this.#canvas.setAttribute("aria-label", `${this.#shape.title}: ${summary}`);
    this.#legend.replaceChildren(...this.#shape.lines.map(({ name, token, kind }, at) => {
      const swatch = h("span", { class: "swatch", "data-kind": kind });
      swatch.style.setProperty("--tone", `var(${token})`);
      return h("li", {}, swatch, name, totals[at] ? h("b", {}, totals[at]) : null);
    }));
    this.#nothing.hidden = values.some((line) => line.some((value) => value));
    if (!this.#table.hidden) this.#tabulate();
    this.#draw();
  }

  #size() {
    return { width: Math.max(200, Math.floor(this.#stage.clientWidth)), height: this.#shape.height ?? 220 };
  }

  #fit() {
    if (this.#stage.clientWidth === 0) return;
    if (this.#isStale || !this.#plot) this.#draw();
    else if (this.#plot.width !== this.#size().width) this.#plot.setSize(this.#size());
  }

  /** As it is drawn: a bar reaches as high as all below it, and the highest is drawn first. */
  #drawn() {
    const order = this.#order();
    const isBar = (/** @type {number} */ line) => this.#shape.lines[line]?.kind === "bar";
    return [this.#times.map((at) => this.#middle(at)), ...order.map((line) => {
      if (!isBar(line)) return this.#values[line] ?? [];
      return this.#times.map((_, at) => {
        let sum = 0;
        for (let below = 0; below <= line; below++) if (isBar(below)) sum += this.#values[below]?.[at] ?? 0;
        return sum;
      });
    })];
  }

  /** What happened in a step stands in its middle. @param {number} at */
  #middle(at) {
    return at + this.#stepSeconds / 2;
  }

  /** Bars from the highest to the lowest, then the lines. */
  #order() {
    const all = this.#shape.lines.map((_, line) => line);
    const isBar = (/** @type {number} */ line) => this.#shape.lines[line]?.kind === "bar";
    return [...all.filter(isBar).reverse(), ...all.filter((line) => !isBar(line))];
  }

  #draw() {
    // A canvas that is not on the screen has no size.
    this.#isStale = this.#stage.clientWidth === 0;
    if (this.#isStale || this.#times.length === 0) return;
    const data = /** @type {any} */ (this.#drawn());
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.#canvas);
  }

  #options() {
    const [line, muted] = ["--line", "--muted"].map(colour);
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: muted, font, ticks: { show: false }, grid: { stroke: line, width: 1 } };
    const { format, isWhole, lines } = this.#shape;
    const hasBars = lines.some(({ kind }) => kind === "bar");
    const series = this.#order().map((at) => {
      const { kind, token } = /** @type {Line} */ (lines[at]);
      const tone = colour(token);
      if (kind === "bar") return { fill: tone, stroke: tone, width: 0, paths: uPlot.paths.bars?.({ size: [0.72, 22], radius: 0 }), points: { show: false } };
      return { stroke: tone, width: 2, spanGaps: true, ...(kind === "dash" && { dash: [5, 4], width: 1.5 }), points: { show: this.#values[at]?.filter((value) => value !== null).length === 1, size: 5, fill: tone } };
    });
    return /** @type {any} */ ({
      ...this.#size(),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      padding: [10, 20, 0, 0],
      scales: { x: { time: true, range: (/** @type {any} */ _, /** @type {number} */ from, /** @type {number} */ to) => (hasBars ? [from - this.#stepSeconds / 2, to + this.#stepSeconds / 2] : [from, to]) }, y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ most) => [0, Math.max(most * 1.08, isWhole ? 4 : 1)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, gap: 6, space: 72, values: (/** @type {any} */ _, /** @type {number[]} */ splits, /** @type {any} */ __, /** @type {any} */ ___, /** @type {number} */ step) => splits.map((at) => this.#label(at, step)) },
        { ...axis, size: 58, gap: 6, space: 36, ...(isWhole && { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7] }), values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map(format) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(/** @type {uPlot} */ plot) => this.#point(plot)] },
    });
  }

  /** @param {number} at @param {number} step */
  #label(at, step) {
    const date = new Date(at * 1000);
    if (step >= 86_400 || (date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0)) return DAY.format(date);
    return (step < 60 ? SECONDS : CLOCK).format(date);
  }

  /** What the figures are where somebody points. @param {uPlot} plot */
  #point(plot) {
    const at = plot.cursor.idx;
    const left = plot.cursor.left ?? -1;
    this.#tip.hidden = at === null || at === undefined || left < 0;
    if (this.#tip.hidden) return;
    const index = /** @type {number} */ (at);
    const rows = this.#shape.lines.map(({ name, token, kind }, line) => {
      const swatch = h("span", { class: "swatch", "data-kind": kind });
      swatch.style.setProperty("--tone", `var(${token})`);
      const value = this.#values[line]?.[index];
      return h("div", {}, swatch, h("span", {}, name), h("b", {}, value === null || value === undefined ? "–" : this.#shape.format(value)));
    });
    this.#tip.replaceChildren(h("p", {}, this.#span(index)), ...rows);
    const place = plot.over.offsetLeft + plot.valToPos(this.#middle(this.#times[index] ?? 0), "x");
    const isRight = place > this.#stage.clientWidth / 2;
    const shift = isRight ? place - this.#tip.offsetWidth - 14 : place + 14;
    this.#tip.style.transform = `translate(${Math.max(0, Math.round(shift))}px, 8px)`;
  }

  /** From when to when a value is. @param {number} index */
  #span(index) {
    const from = (this.#times[index] ?? 0) * 1000;
    const format = this.#stepSeconds < 60 ? SECONDS : this.#stepSeconds < 3600 ? CLOCK : MOMENT;
    return `${format.format(from)} – ${format.format(from + this.#stepSeconds * 1000)}`;
  }

  #tabulate() {
    const head = h("tr", {}, h("th", { scope: "col" }, "Time"), ...this.#shape.lines.map(({ name }) => h("th", { scope: "col", class: "number" }, name)));
    const rows = this.#times.map((_, at) => h("tr", {}, h("td", {}, this.#span(at)),
      ...this.#shape.lines.map((_, line) => h("td", { class: "number" }, this.#values[line]?.[at] == null ? "–" : this.#shape.format(Number(this.#values[line]?.[at]))))));
    this.#table.replaceChildren(h("table", { class: "table" }, h("thead", {}, head), h("tbody", {}, ...rows.reverse())));
  }
}
