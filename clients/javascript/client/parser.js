/** An event stream, taken apart (WHATWG HTML, 9.2.6), however its bytes were cut on the way. */

/** @import { EventFrame } from "../client.js" */

export class EventStreamParser {
  // It joins characters that were cut in two, and drops a byte order mark at the beginning.
  #decoder = new TextDecoder();
  /** The pieces of a line that goes on: to put them together each time would be quadratic. @type {string[]} */
  #line = [];
  #endsInCr = false;
  #event = "";
  #id = "";
  /** @type {string[]} */
  #data = [];
  /** @type {number | undefined} */
  retryMs = undefined;

  /** @param {Uint8Array} bytes */
  push(bytes) {
    /** @type {EventFrame[]} */
    const frames = [];
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return frames;
    // CR and LF are one line break, also when they come apart.
    if (this.#endsInCr && text.startsWith("\n")) text = text.slice(1);
    let begin = 0;
    for (const { index, 0: found } of text.matchAll(/\r\n?|\n/g)) {
      this.#line.push(text.slice(begin, index));
      this.#read(this.#line.join(""), frames);
      this.#line = [];
      begin = index + found.length;
    }
    this.#line.push(text.slice(begin));
    this.#endsInCr = text.endsWith("\r");
    return frames;
  }

  /** @param {string} line @param {EventFrame[]} frames */
  #read(line, frames) {
    if (line === "") return this.#dispatch(frames);
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    // A comment has no field; a field that is not known is ignored.
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }

  /** @param {EventFrame[]} frames */
  #dispatch(frames) {
    if (this.#data.length > 0) {
      frames.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
    }
    this.#event = "";
    this.#data = [];
  }
}
