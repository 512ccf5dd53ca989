/** An event stream of the service, whatever happens to connections: what following a task and following many have in common. */

/** @import { Connection, EventFrame, Timing } from "../client.js" */

import { EventStreamParser } from "./parser.js";
import { Bound, Endpoint, Silence, TaskTrackerError } from "./wire.js";

/** @type {Required<Timing>} */
const TIMING = {
  openMs: 8_000,
  // Two and a half of the comments that the server sends every 15 s on a quiet stream.
  silenceMs: 40_000,
  pollMs: 2_000,
  streamAgainMs: 30_000,
  backoffMs: 500,
  longestBackoffMs: 30_000,
};
/** Failures in a row after which it is asked whether polls get through where streams do not. */
const PATIENT_FAILURES = 3;
/** Refusals that time may mend. */
const PASSING = new Set([408, 425, 429]);

export const backoffMs = /** @type {typeof import("../client.js").backoffMs} */ (
  (failures, floorMs, { backoffMs, longestBackoffMs }, random = Math.random) =>
    floorMs + random() * Math.min(longestBackoffMs, backoffMs * 2 ** failures)
);

/** Whether the next attempt may fare better. @param {unknown} error */
export const isPassing = (error) => !(error instanceof TaskTrackerError) || error.status >= 500 || PASSING.has(error.status);

/** @typedef {{ bound: Bound, reader: ReadableStreamDefaultReader<Uint8Array>, first: ReadableStreamReadResult<Uint8Array>, openedAt: number }} Answer */
/** @typedef {import("../client.js").ClientOptions & { signal?: AbortSignal, timing?: Timing, onConnection?(connection: Connection): void }} LinkOptions */
/**
 * What is read, and how far it has been.
 * @template Event
 * @typedef {object} Source
 * @property {string} path
 * @property {boolean} isOver nothing more will come
 * @property {boolean} isSettled it is known where to begin
 * @property {(link: Link<Event>) => AsyncGenerator<Event, void, void>} settle finds out where to begin
 * @property {(follow: boolean) => { query: object, headers?: Record<string, string> }} ask what is asked for, as a stream or as what is there
 * @property {(frame: EventFrame, isStream: boolean) => Event | undefined} accept the event in a frame, unless it was passed on before
 */

/**
 * It streams; where streams are held back, or fail again and again, it polls behind the same cursor, and tries a stream
 * beside the polls now and then. An answer counts as a stream once its first byte is here, and no earlier.
 * @template Event
 */
export class Link {
  #options;
  /** @type {Source<Event>} */
  #source;
  #timing;
  #retryMs = 0;
  /** Streams in a row that fell silent. */
  #hushed = 0;
  #streamAgainMs;
  /** Ends the present pause. */
  #wake = () => {};

  /** @param {LinkOptions} options @param {Source<Event>} source */
  constructor(options, source) {
    this.endpoint = new Endpoint(options);
    this.#options = options;
    this.#source = source;
    this.#timing = { ...TIMING, ...options.timing };
    this.#streamAgainMs = this.#timing.streamAgainMs;
  }

  /** @returns {AsyncGenerator<Event, void, void>} */
  async *events() {
    this.#options.signal?.throwIfAborted();
    /** @type {Answer | undefined} */
    let answer;
    for (let failures = 0; !this.#source.isOver; ) {
      let error;
      try {
        if (!this.#source.isSettled) yield* this.#source.settle(this);
        answer ??= await this.#open(true);
        failures = 0;
        this.#tell({ state: "streaming" });
        yield* this.#take(answer, true);
      } catch (caught) {
        error = this.#passing(caught);
        failures += 1;
      }
      answer = undefined;
      if (this.#source.isOver) return;
      const isMute = error instanceof Silence && error.isMute;
      const isRefused = failures >= PATIENT_FAILURES && this.#source.isSettled;
      if (isMute || isRefused) answer = yield* this.#poll(isMute ? 0 : failures);
      else await this.#rest(failures, error);
    }
  }

  /**
   * Asks again and again for what is behind the cursor, until there is a stream that gets through.
   * @param {number} failures
   * @returns {AsyncGenerator<Event, Answer | undefined, void>}
   */
  async *#poll(failures) {
    this.#tell({ state: "polling" });
    /** @type {Answer | undefined} */
    let stream;
    let [isOver, isTrying, dueAt] = [false, false, Date.now() + this.#streamAgainMs];
    const tryStream = async () => {
      isTrying = true;
      try {
        const opened = await this.#open(true);
        if (isOver) return opened.bound.close();
        stream = opened;
        this.#wake();
      } catch {
        // Whatever it is, the polls hear it too.
      }
      isTrying = false;
      // A proxy is seldom mended; each attempt costs it a connection.
      this.#streamAgainMs = Math.min(this.#streamAgainMs * 2, this.#timing.streamAgainMs * 10);
      dueAt = Date.now() + this.#streamAgainMs;
    };
    try {
      for (;;) {
        let error;
        try {
          yield* this.#take(await this.#open(false), false);
          if (this.#source.isOver) return undefined;
          // The server is back, and nothing is known against streams.
          if (failures > 0) dueAt = 0;
          failures = 0;
        } catch (caught) {
          error = this.#passing(caught);
          failures += 1;
        }
        if (!stream && !isTrying && Date.now() >= dueAt) void tryStream();
        if (!stream && error) await this.#rest(failures, error);
        else if (!stream) await this.#pause(this.#timing.pollMs * (0.75 + Math.random() / 2));
        if (stream) {
          const opened = stream;
          stream = undefined;
          return opened;
        }
      }
    } finally {
      isOver = true;
      /** @type {Answer | undefined} */ (stream)?.bound.close();
    }
  }

  /** What one request says, in time. @param {string} path @returns {Promise<any>} */
  json(path) {
    const bound = new Bound(this.#options.signal);
    const asked = this.endpoint.json(path, { signal: bound.signal });
    return bound.within(this.#timing.silenceMs, asked, () => false).finally(bound.close);
  }

  /**
   * A stream, or what is there at the moment; with its first bytes.
   * @param {boolean} follow
   */
  async #open(follow) {
    const bound = new Bound(this.#options.signal);
    const { query, headers } = this.#source.ask(follow);
    const request = { headers: { accept: "text/event-stream", ...headers }, query: { ...query, follow: follow ? undefined : false } };
    const ask = async () => {
      const response = await this.endpoint.send(this.#source.path, { ...request, signal: bound.signal });
      const type = response.headers.get("content-type") ?? "";
      if (!response.body || !/^text\/event-stream\b/i.test(type)) {
        const detail = `${response.url} answers with ${type || "nothing"}, which is no event stream`;
        throw new TaskTrackerError(response.status, { code: "no_event_stream", detail });
      }
      const reader = response.body.getReader();
      const first = await reader.read();
      // The server begins with a comment: whoever answers with nothing is not it.
      if (first.done) throw new Error("the stream ended before it began");
      return { bound, reader, first, openedAt: Date.now() };
    };
    try {
      const ms = follow ? this.#timing.openMs : this.#timing.silenceMs;
      return await bound.within(ms, ask(), () => follow);
    } catch (error) {
      bound.close();
      throw error;
    }
  }

  /**
   * @param {Answer} answer
   * @param {boolean} isStream
   * @returns {AsyncGenerator<Event, void, void>}
   */
  async *#take({ bound, reader, first, openedAt }, isStream) {
    const { silenceMs } = this.#timing;
    const parser = new EventStreamParser();
    // One silence is a connection that died; two in a row are a proxy that lets the beginning through.
    const isMute = () => isStream && ++this.#hushed > 1;
    try {
      for (let part = first; !part.done; part = await bound.within(silenceMs, reader.read(), isMute)) {
        if (isStream && Date.now() - openedAt > silenceMs / 4) {
          this.#hushed = 0;
          this.#streamAgainMs = this.#timing.streamAgainMs;
        }
        for (const frame of parser.push(part.value)) {
          const event = this.#source.accept(frame, isStream);
          if (event) yield event;
          if (this.#source.isOver) return;
        }
        this.#retryMs = parser.retryMs ?? this.#retryMs;
      }
    } finally {
      bound.close();
    }
  }

  /** The error, if the next attempt may fare better. @param {unknown} error */
  #passing(error) {
    this.#options.signal?.throwIfAborted();
    if (!isPassing(error)) throw error;
    return error;
  }

  /** @param {number} failures @param {unknown} [error] */
  async #rest(failures, error) {
    const asked = error instanceof TaskTrackerError ? error.retryAfterMs : undefined;
    const delayMs = backoffMs(failures, asked ?? this.#retryMs, this.#timing);
    this.#tell({ state: "waiting", failures, delayMs, error });
    await this.#pause(delayMs);
  }

  /** @param {number} ms */
  #pause(ms) {
    const { signal } = this.#options;
    return new Promise((resolve, reject) => {
      const over = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", over);
        globalThis.removeEventListener?.("online", over);
        if (signal?.aborted) reject(signal.reason);
        else resolve(undefined);
      };
      const timer = setTimeout(over, ms);
      signal?.addEventListener("abort", over);
      // A device that has a network again does not wait.
      globalThis.addEventListener?.("online", over);
      this.#wake = over;
    });
  }

  /** In a microtask: what a listener throws is not taken for a failure of the connection. @param {Connection} connection */
  #tell(connection) {
    const { onConnection } = this.#options;
    if (onConnection) queueMicrotask(() => onConnection(connection));
  }
}
