/** One stream for whatever follows many tasks on a page: browsers allow six connections to a host. */

/** @import { Connection, EventsOptions, FeedEvent, OpenEvent } from "../client.js" */

import { Feed, distribute } from "./feed.js";
import { watchSight } from "./sight.js";

/** As many types as one stream may name. */
const TYPES_MOST = 100;
/** The server's, unless something else is asked for. */
const EVERY_MS = 250;

/** @typedef {Omit<EventsOptions, "taskIds" | "after" | "onEvent" | "progress"> & { progress?: "latest" | "none" }} SharedOptions */
/**
 * @typedef {object} Reader
 * @property {SharedOptions} options
 * @property {SharedStream} stream
 * @property {boolean} isOpen it was told that from here on nothing is missed
 * @property {Promise<unknown>} telling what it was told last, and is not through with
 * @property {(error: unknown) => void} end
 */

/** Those that one more may join. @type {Set<SharedStream>} */
const streams = new Set();

/**
 * As `events`, on a stream with others: a reader may be told of more than it asked for, and more often. One that joins later is told
 * that it is open once it hears everything. It ends by its signal or by a refusal, and both are rejections.
 * @param {SharedOptions} options
 * @returns {Promise<never>}
 */
export function share(options) {
  const found = [...streams].find((stream) => stream.serves(options));
  const stream = found ?? new SharedStream(options);
  streams.add(stream);
  return stream.join(options);
}

/** @template Value @param {(Value[] | undefined)[]} lists what each wants, or all @returns {Value[] | undefined} what they want together */
function together(lists) {
  const all = new Set(lists.flatMap((list) => list ?? []));
  return lists.every((list) => list?.length) ? [...all].sort() : undefined;
}

class SharedStream {
  #service;
  /** @type {Set<Reader>} */
  #readers = new Set();
  /** @type {AbortController | undefined} */
  #running;
  /** What is asked for at present. */
  #asked = "";
  /** What it said when it opened, while it is open. @type {OpenEvent | undefined} */
  #opened;
  #isPlanned = false;
  /** Behind which another stream goes on. @type {string | undefined} */
  #cursor;
  /** @type {Connection | undefined} */
  #connection;
  /** A page that comes back into view goes on where it was. */
  #sight = watchSight({ onSeen: () => this.#running || this.#plan(), onLost: () => this.#hangUp() });

  /** @param {Pick<SharedOptions, "baseUrl" | "headers" | "fetch" | "timing">} service */
  constructor({ baseUrl, headers, fetch, timing }) {
    this.#service = { baseUrl, headers, fetch, timing };
  }

  /** @param {SharedOptions} options */
  serves({ baseUrl, headers, fetch, timing }) {
    const mine = this.#service;
    return mine.baseUrl === baseUrl && mine.headers === headers && mine.fetch === fetch && JSON.stringify(mine.timing) === JSON.stringify(timing);
  }

  /** @param {SharedOptions} options @returns {Promise<never>} */
  join(options) {
    return new Promise((_, reject) => {
      const { signal, onConnection } = options;
      if (signal?.aborted) return reject(signal.reason);
      const end = (/** @type {unknown} */ error) => {
        reader.stream.#leave(reader);
        signal?.removeEventListener("abort", aborted);
        reject(error);
      };
      const aborted = () => end(signal?.reason);
      /** @type {Reader} */
      const reader = { options, stream: this, isOpen: false, telling: Promise.resolve(), end };
      signal?.addEventListener("abort", aborted);
      if (this.#connection) onConnection?.(this.#connection);
      this.#take(reader);
    });
  }

  /** @param {Reader} reader */
  #take(reader) {
    reader.stream = this;
    this.#readers.add(reader);
    this.#plan();
  }

  /** @param {Reader} reader */
  #leave(reader) {
    this.#readers.delete(reader);
    this.#plan();
  }

  /** Those who come and go at once are one change. */
  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    queueMicrotask(() => {
      this.#isPlanned = false;
      if (this.#readers.size === 0) this.#close();
      else if (this.#running || !globalThis.document?.hidden || this.#cursor === undefined) this.#ask();
    });
  }

  #close() {
    streams.delete(this);
    this.#sight.end();
    this.#hangUp();
  }

  #hangUp() {
    this.#running?.abort();
    this.#running = undefined;
    this.#opened = undefined;
  }

  /** What is asked for for all of them. */
  #wish() {
    const all = [...this.#readers].map(({ options }) => options);
    const taskTypes = together(all.map(({ taskTypes }) => taskTypes));
    return {
      taskTypes: taskTypes && taskTypes.length <= TYPES_MOST ? taskTypes : undefined,
      statuses: together(all.map(({ statuses }) => statuses)),
      progress: all.some(({ progress = "latest" }) => progress === "latest") ? /** @type {const} */ ("latest") : /** @type {const} */ ("none"),
      everyMs: Math.min(...all.map(({ everyMs = EVERY_MS }) => everyMs)),
    };
  }

  /** Another wish is another stream, which goes on behind the one before. */
  #ask() {
    const wish = this.#wish();
    const asked = JSON.stringify(wish);
    if (this.#running && asked === this.#asked) {
      const opened = this.#opened;
      if (opened) for (const reader of this.#readers) reader.isOpen || void this.#open(reader, opened);
      return;
    }
    this.#hangUp();
    this.#asked = asked;
    this.#running = new AbortController();
    this.#sight.look();
    void this.#read(wish, this.#running.signal);
  }

  /** @param {Omit<EventsOptions, "signal">} wish @param {AbortSignal} signal */
  async #read(wish, signal) {
    const onConnection = (/** @type {Connection} */ connection) => signal.aborted || this.#connected(connection);
    const feed = new Feed({ ...this.#service, ...wish, after: this.#cursor, signal, onConnection });
    try {
      for await (const event of feed.events()) {
        if (signal.aborted) return;
        await this.#tell(event);
        if (signal.aborted) return;
        // What was told to nobody to the end is told again.
        this.#cursor = feed.cursor;
      }
    } catch (error) {
      if (!signal.aborted) this.#refused(error);
    }
  }

  /** @param {FeedEvent} event */
  #tell(event) {
    if (event.event === "open") {
      this.#opened = event;
      return Promise.all([...this.#readers].map((reader) => this.#open(reader, event)));
    }
    const isFor = (/** @type {Reader} */ { isOpen, options: { taskTypes } }) =>
      isOpen && (event.event !== "task" || !taskTypes?.length || taskTypes.includes(event.data.taskType));
    return Promise.all([...this.#readers].filter(isFor).map((reader) => this.#pass(reader, event)));
  }

  /** For whom it is the first time nothing is resumed. @param {Reader} reader @param {OpenEvent} event */
  #open(reader, event) {
    const resumed = reader.isOpen && event.data.resumed;
    reader.isOpen = true;
    return this.#pass(reader, { ...event, data: { resumed } });
  }

  /** Each hears one thing after the other; what its listeners throw ends it, and it alone. @param {Reader} reader @param {FeedEvent} event */
  #pass(reader, event) {
    const told = () => (this.#readers.has(reader) ? distribute(event, reader.options) : undefined);
    return (reader.telling = reader.telling.then(told).catch(reader.end));
  }

  /** @param {Connection} connection */
  #connected(connection) {
    this.#connection = connection;
    for (const { options } of this.#readers) options.onConnection?.(connection);
  }

  /** What is refused to several may be the fault of one: from now on each asks by itself. @param {unknown} error */
  #refused(error) {
    const readers = [...this.#readers];
    if (readers.length === 1) return readers[0]?.end(error);
    for (const reader of readers) {
      this.#readers.delete(reader);
      new SharedStream(this.#service).#take(reader);
    }
    this.#close();
  }
}
