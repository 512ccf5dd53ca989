/** Every entry of a task on one line, which can be gone along: with the pointer, the keyboard, or by playing it again. */

import { drawing, h, mark, write } from "./dom.js";
import { severity } from "./history.js";
import { exact } from "./time.js";

/** However many entries there are, they are played in about this time. */
const PLAY_MS = 15_000;
/** An entry is not shown for longer than that while they are played. */
const SLOWEST_MS = 250;
const SIGNS = { play: "M5 3.5l7.5 4.5L5 12.5z", pause: "M5 3.5v9M11 3.5v9", back: "M10 3.5L5.5 8l4.5 4.5", on: "M6 3.5L10.500 8L6 12.5" };
const number = new Intl.NumberFormat();

export class Timeline {
  #history;
  #onMove;
  /** Which entry is shown; the newest unless somebody went back. */
  #at = -1;
  #isLive = true;
  #isEnded = false;
  /** @type {number | undefined} */
  #playing;
  #drawn = "";
  #canvas = h("canvas", { class: "timeline-canvas", "aria-hidden": "true" });
  #slider = h("input", { type: "range", class: "timeline-slider", "aria-label": "Entry", min: "0", max: "0", step: "1", value: "0", disabled: true });
  #where = h("span", { class: "timeline-where" });
  #when = h("span", { class: "muted timeline-when" });
  #play = h("button", { type: "button", class: "icon-button", "aria-label": "Play" }, drawing(SIGNS.play));
  #back = h("button", { type: "button", class: "icon-button", "aria-label": "The entry before" }, drawing(SIGNS.back));
  #on = h("button", { type: "button", class: "icon-button", "aria-label": "The next entry" }, drawing(SIGNS.on));
  #live = h("button", { type: "button", class: "button small live", "aria-pressed": "true" });
  #marks = h("ol", { class: "marks", "aria-label": "What happened" });
  #markEdition = "";

  /** @param {import("./history.js").History} history @param {() => void} onMove */
  constructor(history, onMove) {
    this.#history = history;
    this.#onMove = onMove;
    this.element = h("section", { class: "card timeline", "aria-label": "Timeline" },
      h("div", { class: "card-head" }, h("h2", {}, "Timeline"), h("span", { class: "timeline-place" }, this.#where, this.#when), h("span", { class: "aside timeline-tools" }, this.#back, this.#play, this.#on, this.#live)),
      h("div", { class: "card-body" }, h("div", { class: "timeline-track" }, this.#canvas, this.#slider), this.#marks));
    this.#slider.addEventListener("input", () => {
      this.pause();
      this.go(Number(this.#slider.value));
    });
    this.#back.addEventListener("click", () => (this.pause(), this.go(this.at - 1)));
    this.#on.addEventListener("click", () => (this.pause(), this.go(this.at + 1)));
    this.#play.addEventListener("click", () => (this.#playing === undefined ? this.#start() : this.pause()));
    this.#live.addEventListener("click", () => this.live());
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
    const redraw = () => ((this.#drawn = ""), this.#draw());
    addEventListener("themechange", redraw);
    this.close = () => {
      this.pause();
      removeEventListener("themechange", redraw);
    };
  }

  get isLive() { return this.#isLive; }
  /** @returns {number} which entry is shown; -1 where there is none */
  get at() { return this.#isLive ? this.#history.last : this.#at; }

  /** Shows an entry; the newest follows those that come. @param {number} index */
  go(index) {
    this.#at = Math.max(0, Math.min(index, this.#history.last));
    this.#isLive = this.#at === this.#history.last;
    this.#onMove();
  }

  live() {
    this.pause();
    this.#isLive = true;
    this.#onMove();
  }

  #start() {
    if (this.#history.last < 1) return;
    if (this.#isLive) this.go(0);
    const msEach = Math.min(SLOWEST_MS, PLAY_MS / this.#history.moments.length);
    let [beganAt, began] = [performance.now(), this.at];
    const step = (/** @type {number} */ now) => {
      this.#playing = requestAnimationFrame(step);
      const to = began + Math.floor(Math.max(0, now - beganAt) / msEach);
      if (to === this.at) return;
      if (to >= this.#history.last) this.pause();
      this.go(to);
    };
    this.#playing = requestAnimationFrame(step);
    this.#onMove();
  }

  pause() {
    if (this.#playing === undefined) return;
    cancelAnimationFrame(this.#playing);
    this.#playing = undefined;
    this.#onMove();
  }

  /** @param {boolean} isEnded the task: what is newest stays so */
  paint(isEnded) {
    const { moments, last } = this.#history;
    this.#isEnded = isEnded;
    const moment = moments[this.at];
    this.#slider.disabled = last < 1;
    mark(this.#slider, "max", Math.max(0, last));
    if (Number(this.#slider.value) !== Math.max(0, this.at)) this.#slider.value = String(Math.max(0, this.at));
    mark(this.#slider, "aria-valuetext", moment ? `Entry ${moment.seqId} of ${moments[last].seqId}, ${exact(moment.timestamp)}` : "No entries yet");
    write(this.#where, moment ? `Entry ${number.format(moment.seqId)} of ${number.format(moments[last].seqId)}` : "No entries yet");
    write(this.#when, moment ? exact(moment.timestamp) : "");
    const isPlaying = this.#playing !== undefined;
    mark(this.#play, "aria-label", isPlaying ? "Pause" : "Play");
    if (this.#play.dataset.state !== String(isPlaying)) {
      this.#play.dataset.state = String(isPlaying);
      this.#play.replaceChildren(drawing(isPlaying ? SIGNS.pause : SIGNS.play));
    }
    this.#play.disabled = last < 1;
    this.#back.disabled = this.at <= 0;
    this.#on.disabled = this.at >= last;
    write(this.#live, isEnded ? "Newest" : "Live");
    mark(this.#live, "aria-pressed", String(this.#isLive && !isPlaying));
    mark(this.#live, "data-ended", isEnded);
    this.#draw();
    this.#list();
  }

  /** Where on the line an entry is, from 0 to 1. @param {number} index */
  #place(index) {
    return this.#history.last < 1 ? (this.#history.last < 0 ? 0 : 1) : index / this.#history.last;
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (width === 0) return;
    const { moments, edition } = this.#history;
    const ratio = devicePixelRatio || 1;
    const drawn = `${width} ${height} ${ratio} ${moments.length} ${edition} ${this.at} ${this.#isEnded}`;
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    Object.assign(this.#canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    context.scale(ratio, ratio);
    const style = getComputedStyle(this.#canvas);
    const colour = (/** @type {string} */ name) => {
      // Only a property that is a colour is computed to one: tokens are `light-dark(…)`.
      this.#canvas.style.color = `var(${name})`;
      return style.color;
    };
    // The slider's thumb has half its width beside each end.
    const [edge, floor, top] = [8, height - 14, 6];
    const x = (/** @type {number} */ index) => edge + this.#place(index) * (width - 2 * edge);
    const y = (/** @type {number} */ percent) => floor - (percent / 100) * (floor - top);

    context.fillStyle = colour("--line");
    context.fillRect(edge, floor, width - 2 * edge, 1);
    // Of a thousand entries in one column of pixels the last is drawn.
    const each = Math.max(1, Math.floor(moments.length / (width * 2)));
    const curve = (/** @type {number} */ from, /** @type {number} */ to, /** @type {string} */ stroke, /** @type {number} */ area) => {
      let begun = -1;
      context.beginPath();
      for (let index = from; index <= to; index = index === to ? to + 1 : Math.min(to, index + each)) {
        const { percent } = moments[index];
        if (percent === undefined) continue;
        if (begun < 0) context.moveTo(x(index), y(percent));
        else context.lineTo(x(index), y(percent));
        if (begun < 0) begun = index;
      }
      if (begun < 0) return;
      [context.strokeStyle, context.lineWidth, context.lineJoin] = [stroke, 1.75, "round"];
      context.stroke();
      context.lineTo(x(to), floor);
      context.lineTo(x(begun), floor);
      [context.globalAlpha, context.fillStyle] = [area, stroke];
      context.fill();
      context.globalAlpha = 1;
    };
    if (moments.length > 0) {
      if (this.at < moments.length - 1) curve(this.at, moments.length - 1, colour("--line-strong"), 0.18);
      curve(0, this.at, colour("--running"), 0.14);
    }
    const [warned, failed] = [colour("--timeout"), colour("--failed")];
    for (let index = 0; index < moments.length; index++) {
      const { says, level } = moments[index];
      if (says === undefined || severity(level) < 2) continue;
      context.fillStyle = severity(level) === 3 ? failed : warned;
      context.fillRect(x(index) - 1, floor + 3, 2, 6);
    }
    for (const { kind, before, tone } of this.#history.marks()) {
      // What begins and ends is where the line does.
      if (kind === "registered" || kind === "ended" || (kind === "started" && before === 0)) continue;
      // Between the entry before it and the one behind it.
      const at = Math.max(edge, Math.min(width - edge, x(before - 0.5)));
      context.fillStyle = context.strokeStyle = colour(tone);
      context.lineWidth = 1.5;
      context.setLineDash(kind === "gap" ? [3, 3] : []);
      context.beginPath();
      context.moveTo(at, top - 4);
      context.lineTo(at, floor);
      context.stroke();
      context.beginPath();
      context.arc(at, floor + 6, 3, 0, 2 * Math.PI);
      context.fill();
    }
    context.setLineDash([]);
    this.#canvas.style.color = "";
  }

  /** What is no entry, in its place: each leads to it. */
  #list() {
    const { edition, moments } = this.#history;
    const marks = this.#history.marks();
    // Those before the entry that is shown have happened.
    const reached = this.#isLive ? marks.length : marks.filter(({ before }) => before <= this.#at).length;
    const now = `${edition} ${moments.length > 0} ${reached}`;
    if (now === this.#markEdition) return;
    const isOther = !this.#markEdition.startsWith(`${edition} ${moments.length > 0} `);
    this.#markEdition = now;
    if (isOther) {
      this.#marks.replaceChildren(...marks.map(({ text, timestamp, tone, before }) => {
        const go = () => (this.pause(), this.go(before));
        const sign = h("span", { class: "mark-sign", "aria-hidden": "true" });
        sign.style.setProperty("--tone", `var(${tone})`);
        const said = h("span", { class: "mark-text" }, text);
        const time = h("time", { datetime: timestamp, title: exact(timestamp) }, clock(timestamp));
        return h("li", {}, moments.length > 0 ? h("button", { type: "button", class: "mark", onclick: go }, sign, said, time) : h("span", { class: "mark" }, sign, said, time));
      }));
    }
    for (const [index, item] of [...this.#marks.children].entries()) item.toggleAttribute("data-later", index >= reached);
  }
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
/** @param {string} timestamp */
export const clock = (timestamp) => CLOCK.format(Date.parse(timestamp));
