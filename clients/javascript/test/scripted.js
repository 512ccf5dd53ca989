/** A server that is scripted: what is asked of it is noted, and each request is given the next answer. */
import assert from "node:assert/strict";

/** In milliseconds: what takes seconds of a person's patience takes none here. */
export const timing = { openMs: 60, silenceMs: 120, pollMs: 1, streamAgainMs: 20, backoffMs: 1, longestBackoffMs: 4 };
/** What every stream begins with. */
export const head = ": open\nretry: 1\n\n";

/** One event of a stream. */
export const frame = (id, event) => `${id ? `id: ${id}\n` : ""}event: ${event.event}\ndata: ${JSON.stringify(event)}\n\n`;

/** An answer of these pieces; then it ends, breaks (an error), or says nothing more (`hang`). */
export function stream(...pieces) {
  const headers = { "content-type": "text/event-stream" };
  const body = new ReadableStream({
    pull(controller) {
      const next = pieces.shift();
      if (typeof next === "string") controller.enqueue(new TextEncoder().encode(next));
      else if (next instanceof Error) controller.error(next);
      else if (next !== hang) controller.close();
      else return new Promise(() => {});
    },
  });
  return new Response(body, { headers });
}
export const hang = Symbol("nothing more");
export const problem = (status, code, headers = {}) =>
  new Response(JSON.stringify({ status, code, title: "No", detail: `no: ${code}` }), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });
export const json = (value) => new Response(JSON.stringify(value), { headers: { "content-type": "application/json" } });

/** A server that gives each request the next of `answers`, and to polls those of `polls`. */
export function scripted(answers, polls = []) {
  const asked = [];
  const fetch = async (url, { headers, signal }) => {
    const isPoll = url.searchParams.get("follow") === "false";
    asked.push({ path: url.pathname, query: url.search, last: headers.get("last-event-id"), isPoll, headers });
    const answer = (isPoll ? polls : answers).shift();
    assert.ok(answer, `nobody expected ${url}`);
    if (answer instanceof Error) throw answer;
    const response = typeof answer === "function" ? await answer(signal) : answer;
    // As a real one does: who hangs up is told so, whatever the body does.
    const aborted = new Promise((_, reject) => {
      const abort = () => reject(signal.reason);
      if (signal.aborted) abort();
      signal.addEventListener("abort", abort);
    });
    aborted.catch(() => {});
    if (!response.body || !/event-stream/.test(response.headers.get("content-type"))) return response;
    const reader = response.body.getReader();
    return {
      ok: true,
      status: 200,
      url: String(url),
      headers: response.headers,
      body: { getReader: () => ({ read: () => Promise.race([reader.read(), aborted]) }) },
    };
  };
  return { asked, options: { baseUrl: "http://tracker.test/under/", fetch, timing } };
}
export const silent = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
