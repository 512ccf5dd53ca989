/** How one service is called: where it is, what goes with every request, and what its refusals become. */

/** @import { ClientOptions } from "../client.js" */

export class TaskTrackerError extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, title?: string, detail?: string } & Record<string, unknown>} problem
   * @param {number} [retryAfterMs]
   */
  constructor(status, problem, retryAfterMs) {
    super(problem.detail ?? problem.title ?? `the server answered ${status}`);
    this.name = "TaskTrackerError";
    this.status = status;
    this.code = problem.code ?? `http_${status}`;
    this.title = problem.title ?? "";
    this.detail = problem.detail ?? "";
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Nothing came for too long: `isMute` where that looks like a proxy that holds a stream back. */
export class Silence extends Error {
  /** @param {boolean} isMute */
  constructor(isMute) {
    super("nothing arrived for too long");
    this.name = "Silence";
    this.isMute = isMute;
  }
}

/** Where the service is: where these modules came from, if that was over HTTP. */
function home() {
  return /^https?:/.test(import.meta.url) ? new URL("..", import.meta.url) : "http://localhost:3002/";
}

/** A request that ends when it is told to, when nothing came for too long, or when it was read. */
export class Bound {
  #controller = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;

  /** @param {AbortSignal} [outer] */
  constructor(outer) {
    const end = () => this.#controller.abort(outer?.reason);
    if (outer?.aborted) end();
    outer?.addEventListener("abort", end);
    this.signal = this.#controller.signal;
    this.close = () => {
      clearTimeout(this.#timer);
      outer?.removeEventListener("abort", end);
      this.#controller.abort();
    };
  }

  /**
   * What the promise says, if it says it in time.
   * @template T
   * @param {number} ms
   * @param {Promise<T>} promise
   * @param {() => boolean} isMute
   */
  async within(ms, promise, isMute) {
    this.#timer = setTimeout(() => this.#controller.abort(new Silence(isMute())), ms);
    try {
      return await promise;
    } catch (error) {
      // Some implementations of `fetch` say that it was aborted, and not why.
      throw this.signal.aborted ? this.signal.reason : error;
    } finally {
      clearTimeout(this.#timer);
    }
  }
}

/** How one service is called. */
export class Endpoint {
  /** @param {ClientOptions} options */
  constructor({ baseUrl = home(), headers, fetch }) {
    const root = new URL(baseUrl, globalThis.location?.href);
    if (!root.pathname.endsWith("/")) root.pathname += "/";
    this.root = new URL("api/v1/", root);
    this.headers = headers;
    this.fetch = fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /**
   * @param {string} path
   * @param {{ method?: string, headers?: Record<string, string>, query?: object, body?: unknown, signal?: AbortSignal }} request
   */
  async send(path, { method, headers = {}, query = {}, body, signal }) {
    const url = new URL(path, this.root);
    for (const [name, value] of Object.entries(query)) {
      // Several of one name are alternatives.
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined && one !== null) url.searchParams.append(name, String(one));
      }
    }
    const all = new Headers(typeof this.headers === "function" ? await this.headers() : this.headers);
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    if (body !== undefined) all.set("content-type", "application/json");
    const response = await this.fetch(url, {
      method: method ?? "GET",
      headers: all,
      cache: "no-store",
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** @param {string} path @param {Parameters<Endpoint["send"]>[1]} request @returns {Promise<any>} */
  async json(path, request) {
    return (await this.send(path, { ...request, headers: { accept: "application/json", ...request.headers } })).json();
  }

  /** Values with a line each. @param {string} path @param {Parameters<Endpoint["send"]>[1]} request @returns {Promise<any[]>} */
  async lines(path, request) {
    const answer = await this.send(path, { ...request, headers: { accept: "application/x-ndjson" } });
    return (await answer.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }
}

/** @param {Response} response */
async function refusal(response) {
  /** @type {Record<string, unknown>} */
  let problem = {};
  try {
    const json = await response.json();
    if (json && typeof json === "object") problem = json;
  } catch {
    // A proxy's own page says no more than its status.
  }
  const after = response.headers.get("retry-after") ?? "";
  const ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now();
  // No timer is set for longer than an hour, however far away the clocks are.
  return new TaskTrackerError(response.status, problem, ms >= 0 ? Math.min(ms, 3_600_000) : undefined);
}
