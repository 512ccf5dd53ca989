/** A real server, a worker, and a proxy that misbehaves on demand. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

import { TaskTracker } from "../client.js";

const BINARY = process.env.TASK_TRACKER_BINARY ?? fileURLToPath(new URL("../../../target/debug/task-tracker", import.meta.url));

/** For tests: what takes seconds of a person's patience takes less here, and more than a busy machine needs. */
export const timing = { openMs: 700, silenceMs: 3000, pollMs: 20, streamAgainMs: 300, backoffMs: 20, longestBackoffMs: 200 };

/** An embedded server in a process and a folder of its own. */
export class Server {
  #process;

  static async start() {
    const server = new Server();
    server.data = await mkdtemp(join(tmpdir(), "task-tracker-client-"));
    server.port = 0;
    await server.startAgain();
    return server;
  }

  /** On the same port, over the same data. */
  async startAgain() {
    const env = { PATH: process.env.PATH, TASK_TRACKER_PORT: String(this.port), TASK_TRACKER_DATA_DIR: this.data, TASK_TRACKER_LOG_FORMAT: "json" };
    this.#process = spawn(BINARY, ["serve"], { env, stdio: ["ignore", "ignore", "pipe"] });
    this.#process.once("error", (error) => console.error(`${BINARY}: ${error.message}`));
    for await (const line of readline.createInterface({ input: this.#process.stderr })) {
      const listening = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
      if (!listening) continue;
      this.port = Number(listening[1]);
      this.url = `http://127.0.0.1:${this.port}/`;
      this.#process.stderr.resume();
      return;
    }
    throw new Error("the server did not start");
  }

  async kill(signal = "SIGKILL") {
    const isOver = once(this.#process, "exit");
    this.#process.kill(signal);
    await isOver;
  }

  async stop() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await this.kill("SIGTERM");
    await rm(this.data, { recursive: true, force: true });
  }

  /** How many streams it holds open. */
  async streams() {
    const metrics = await (await fetch(`${this.url}metrics`)).text();
    return Number(/^streams_open (\d+)$/m.exec(metrics)?.[1]);
  }

  get client() {
    return new TaskTracker({ baseUrl: this.url });
  }

  /** A task in progress, by its id. */
  async started(taskType = "t") {
    const { taskId } = await this.client.register({ taskType });
    await this.client.start(taskId);
    return taskId;
  }
}

/**
 * Passes requests on to `target`, which may change; below `prefix` alone, if there is one, and beside it whatever `pages`
 * has. What it does to answers is said by `fault`: `pass`; `mute`, which passes on what is complete and nothing
 * before; `unavailable`; or `cut`, which breaks off each after `cutAfter()` bytes.
 */
export class Proxy {
  fault = "pass";
  cutAfter = () => 0;
  /** Paths that were asked for, in order. */
  asked = [];
  #sockets = new Set();

  static async start(target, { prefix = "/", pages = {} } = {}) {
    const proxy = new Proxy();
    Object.assign(proxy, { target, prefix, pages });
    proxy.server = http.createServer((request, response) => proxy.#answer(request, response));
    proxy.server.on("connection", (socket) => {
      proxy.#sockets.add(socket);
      socket.on("close", () => proxy.#sockets.delete(socket));
    });
    proxy.server.listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    proxy.origin = `http://127.0.0.1:${proxy.server.address().port}`;
    proxy.url = proxy.origin + prefix;
    return proxy;
  }

  #answer(request, response) {
    this.asked.push(request.url);
    const page = this.pages[request.url];
    if (page) return response.writeHead(200, page.headers).end(page.body);
    // As web servers do for what looks like a folder.
    if (`${request.url}/` === this.prefix) return response.writeHead(301, { location: this.prefix }).end();
    if (!request.url.startsWith(this.prefix)) return response.writeHead(404).end();
    if (this.fault === "unavailable") return response.writeHead(503, { "retry-after": "0" }).end("<h1>no backend</h1>");
    const path = request.url.slice(this.prefix.length - 1);
    const [{ fault }, { hostname, port }] = [this, new URL(this.target)];
    const { method, headers } = request;
    const upstream = http.request({ hostname, port, path, method, headers, agent: false }, (answer) => {
      answer.on("error", () => response.destroy());
      if (fault === "mute") return this.#whole(answer, response);
      response.writeHead(answer.statusCode, answer.headers);
      if (fault === "cut") this.#cut(answer, response);
      else answer.pipe(response);
    });
    // Also one that has not answered yet: nobody waits for it any more.
    response.on("close", () => upstream.destroy());
    upstream.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    request.pipe(upstream);
  }

  /** As a proxy that buffers answers does. */
  #whole(answer, response) {
    const pieces = [];
    answer.on("data", (piece) => pieces.push(piece));
    answer.on("end", () => response.writeHead(answer.statusCode, answer.headers).end(Buffer.concat(pieces)));
  }

  #cut(answer, response) {
    let left = this.cutAfter();
    answer.on("data", (piece) => {
      // What comes between the last byte and the break is not passed on.
      if (left <= 0) return;
      response.write(piece.subarray(0, left), () => left <= 0 && response.destroy());
      left -= piece.length;
    });
    answer.on("end", () => left > 0 && response.end());
  }

  /** Breaks every connection that there is. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop() {
    this.cut();
    this.server.close();
    await once(this.server, "close");
  }
}

/** The server asks for a second or more between two streams: a test of many cuts takes that word away. */
export async function hurried(url, init) {
  const answer = await fetch(url, init);
  const hasten = new TransformStream({
    transform(bytes, out) {
      out.enqueue(Buffer.from(Buffer.from(bytes).toString("latin1").replace(/^retry: \d+$/m, "retry: 1"), "latin1"));
    },
  });
  const { body, ...rest } = { body: answer.body?.pipeThrough(hasten), ok: answer.ok, status: answer.status, headers: answer.headers };
  return { ...rest, body, url: answer.url, json: () => answer.json() };
}

/** Resolves once `fact` holds; it is looked at whenever something may have happened. */
export async function until(fact, what, deadlineMs = 20_000) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await fact();
    if (value) return value;
    if (Date.now() > end) throw new Error(`still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
