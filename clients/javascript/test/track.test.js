/** Following a task, with a server that is scripted: what is asked, when, and what becomes of each answer. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { TaskTrackerError, backoffMs, track } from "../client.js";
import { hang, head, json, problem, scripted, silent, stream, timing } from "./scripted.js";


const entry = (seqId, data = {}) =>
  `id: ${seqId}\nevent: progress\ndata: ${JSON.stringify({ event: "progress", data: { seqId, ...data }, taskId: "t", timestamp: "" })}\n\n`;
const status = (status, id) =>
  `${id ? `id: ${id}\n` : ""}event: status_change\ndata: ${JSON.stringify({ event: "status_change", data: { status }, taskId: "t", timestamp: "" })}\n\n`;
const gap = (from, to) =>
  `id: ${to}\nevent: gap\ndata: ${JSON.stringify({ event: "gap", data: { from, to }, taskId: "t", timestamp: "" })}\n\n`;

async function collected(tracking) {
  const events = [];
  for await (const event of tracking) events.push(event);
  return events;
}
const numbers = (events) => events.filter((event) => event.event === "progress").map((event) => event.data.seqId);

test("a task is followed to its end, once, and then nobody asks again", async () => {
  const { asked, options } = scripted([stream(head, entry(1) + entry(2), status("completed", "2-end"))]);
  const events = await collected(track("a b", { ...options, headers: { authorization: "Bearer x" } }));
  assert.deepEqual(numbers(events), [1, 2]);
  assert.equal(events.at(-1).data.status, "completed");
  assert.deepEqual(asked.map(({ path, query, last }) => [path, query, last]), [["/under/api/v1/tasks/a%20b/track", "", null]]);
  assert.equal(asked[0].headers.get("authorization"), "Bearer x");
});

test("it resumes behind the last entry, and what comes twice is told once", async () => {
  const { asked, options } = scripted([
    stream(head, entry(6)),
    stream(head, entry(7), new TypeError("reset")),
    new TypeError("refused"),
    stream(head, entry(6) + entry(7) + entry(8), status("failed", "8-end")),
  ]);
  const events = await collected(track("t", { ...options, afterSeqId: 5 }));
  assert.deepEqual(numbers(events), [6, 7, 8]);
  assert.deepEqual(asked.map(({ last }) => last), [null, "6", "7", "7"]);
  assert.deepEqual([...new Set(asked.map(({ query }) => query))], ["?afterSeqId=5"]);
});

test("a gap moves where it resumes, and what was seen of it before is not gone", async () => {
  const { asked, options } = scripted([stream(head, entry(1) + gap(1, 9)), stream(head, gap(5, 9) + status("completed", "9-end"))]);
  const gaps = [];
  await track("t", { ...options, onGap: (gap) => void gaps.push(gap) });
  assert.deepEqual(gaps, [{ from: 2, to: 9 }]);
  assert.equal(asked[1].last, "9");
});

test("what cannot be mended is a rejection that says why, at once", async () => {
  for (const status of [400, 401, 403, 404, 422]) {
    const { asked, options } = scripted([problem(status, "some_code")]);
    await assert.rejects(track("t", options), (error) => {
      assert.ok(error instanceof TaskTrackerError);
      assert.deepEqual([error.status, error.code, error.title, error.detail], [status, "some_code", "No", "no: some_code"]);
      return true;
    });
    assert.equal(asked.length, 1);
  }
  const page = new Response("<html>", { headers: { "content-type": "text/html" } });
  await assert.rejects(track("t", scripted([page]).options), { code: "no_event_stream" });
  await assert.rejects(collected(track("t", scripted([new Response("nothing", { status: 410 })]).options)), { code: "http_410" });
});

test("what time may mend is asked again when the server said", async () => {
  const { asked, options } = scripted([
    problem(503, "unavailable", { "retry-after": "0" }),
    problem(429, "too_many_streams"),
    stream(head, status("completed", "0-end")),
  ]);
  const waits = [];
  const onConnection = (connection) => waits.push(connection);
  assert.deepEqual(await track("t", { ...options, onConnection }), { status: "completed" });
  assert.equal(asked.length, 3);
  assert.deepEqual(waits.map(({ state, failures }) => failures ?? state), [1, 2, "streaming"]);
});

test("retry and Retry-After are the least that it waits", () => {
  const limits = { backoffMs: 500, longestBackoffMs: 30_000 };
  assert.equal(backoffMs(0, 1437, limits, () => 0), 1437);
  assert.equal(backoffMs(3, 0, limits, () => 0.5), 2000);
  assert.equal(backoffMs(40, 7000, limits, () => 1), 37_000);
  const spread = Array.from({ length: 1000 }, () => backoffMs(4, 0, limits));
  assert.ok(Math.min(...spread) < 800 && Math.max(...spread) > 7200 && Math.max(...spread) <= 8000, "full jitter");
});

test("a stream that is held back is polled behind the same cursor, until streams get through", async () => {
  let isMended = false;
  const streams = [
    silent,
    ...Array(20).fill((signal) => (isMended ? stream(head, status("in_progress") + entry(2) + entry(3) + entry(4), status("completed", "4-end")) : silent(signal))),
  ];
  const polls = [
    stream(head, entry(1), status("in_progress")),
    stream(head, status("in_progress")),
    stream(head, entry(2), status("in_progress")),
    ...Array.from({ length: 2000 }, () => () => ((isMended = true), stream(head, status("in_progress")))),
  ];
  const { asked, options } = scripted(streams, polls);
  const states = [];
  const events = await collected(track("t", { ...options, onConnection: ({ state }) => states.push(state) }));
  assert.deepEqual(numbers(events), [1, 2, 3, 4]);
  assert.deepEqual(events.filter(({ event }) => event === "status_change").map(({ data }) => data.status), ["in_progress", "completed"]);
  assert.deepEqual(states, ["polling", "streaming"]);
  const polled = asked.filter(({ isPoll }) => isPoll);
  assert.deepEqual(polled.slice(0, 4).map(({ last }) => last), [null, "1", "1", "2"]);
});

test("polls alone bring a task to its end", async () => {
  const polls = [stream(head, entry(1), status("in_progress")), problem(503, "unavailable"), stream(head, entry(2), status("completed", "2-end"))];
  const { options } = scripted(Array(100).fill(silent), polls);
  assert.deepEqual(numbers(await collected(track("t", options))), [1, 2]);
});

test("one silence is a connection that died, two in a row are a proxy that lets the beginning through", async () => {
  const streams = [stream(head, entry(1), hang), stream(head, entry(2), hang)];
  const { asked, options } = scripted(streams, [stream(head, entry(3), status("completed", "3-end"))]);
  assert.deepEqual(numbers(await collected(track("t", options))), [1, 2, 3]);
  assert.deepEqual(asked.map(({ isPoll }) => isPoll), [false, false, true]);
});

test("streams that fail where polls do not are given up", async () => {
  const { options } = scripted(
    [problem(502, "x"), problem(504, "x"), problem(502, "x"), ...Array.from({ length: 9 }, () => problem(502, "x"))],
    [stream(head, entry(1), status("in_progress")), stream(head, entry(2), status("completed", "2-end"))],
  );
  assert.deepEqual(numbers(await collected(track("t", options))), [1, 2]);
});

test("the newest entries alone are settled once, so that a cut loses nothing", async () => {
  const why = { taskId: "t", status: "in_progress", latestProgress: { seqId: 9 }, serverTime: "now", cancelRequested: true, cancelDeadline: "soon" };
  for (const [wish, after] of [[{ ignoreHistory: true }, 9], [{ last: 3 }, 6], [{ last: 50 }, undefined]]) {
    const { asked, options } = scripted([json(why), stream(head), stream(head, status("completed", "9-end"))]);
    const told = [];
    await track("t", { ...options, ...wish, onEvent: ({ event, data }) => void told.push(data.status ?? event) });
    assert.deepEqual(told, ["in_progress", "cancel_requested", "completed"]);
    assert.deepEqual(asked.map(({ path }) => path.split("/").at(-1)), ["why", "track", "track"]);
    const query = after === undefined ? "" : `?afterSeqId=${after}`;
    assert.deepEqual(asked.map(({ query }) => query), ["", query, query], "the cut moved nothing");
  }
});

test("whoever wants the newest entries alone is not given all of them by a service that was away", async () => {
  const why = { taskId: "t", status: "in_progress", latestProgress: { seqId: 9 }, serverTime: "now" };
  const away = Array.from({ length: 5 }, () => problem(503, "unavailable"));
  const { asked, options } = scripted([...away, json(why), stream(head, status("completed", "9-end"))]);
  await track("t", { ...options, ignoreHistory: true });
  assert.equal(asked.at(-1).query, "?afterSeqId=9");
});

test("an answer of nothing is a failure, not a stream", async () => {
  const waits = [];
  const onConnection = ({ state, failures }) => waits.push(failures ?? state);
  const { options } = scripted([stream(), stream(), stream(head, status("completed", "0-end"))]);
  await track("t", { ...options, onConnection });
  assert.deepEqual(waits, [1, 2, "streaming"]);
});

test("a signal ends it with its reason, wherever it is", async () => {
  for (const answers of [[silent], [stream(head, hang)], [problem(503, "unavailable", { "retry-after": "3600" })]]) {
    const controller = new AbortController();
    const { options } = scripted(answers);
    const slow = { ...timing, openMs: 60_000, silenceMs: 60_000 };
    const tracking = track("t", { ...options, timing: slow, signal: controller.signal, onConnection: () => controller.abort(new Error("enough")) });
    if (answers[0] === silent) setImmediate(() => controller.abort(new Error("enough")));
    await assert.rejects(tracking, { message: "enough" });
  }
  const { options, asked } = scripted([]);
  await assert.rejects(track("t", { ...options, signal: AbortSignal.abort(new Error("before")) }), { message: "before" });
  assert.equal(asked.length, 0);
});

test("who leaves the loop hangs up", async () => {
  let isOver = false;
  const { options } = scripted([(signal) => (signal.addEventListener("abort", () => (isOver = true)), stream(head, entry(1), hang))]);
  for await (const event of track("t", options)) {
    assert.equal(event.data.seqId, 1);
    break;
  }
  assert.ok(isOver);
});

test("listeners are called in order, one after the other, and what they throw is a rejection", async () => {
  const answer = () => stream(head, status("in_progress") + entry(1) + entry(2) + status("completed", "2-end"));
  const told = [];
  await new Promise((resolve, reject) => {
    const { options } = scripted([answer()]);
    // Nobody awaits it: with listeners it runs by itself.
    track("t", {
      ...options,
      onProgress: async ({ seqId }) => (await null, told.push(seqId)),
      onStatus: ({ status }) => (told.push(status), status === "completed" && resolve()),
    }).catch(reject);
  });
  assert.deepEqual(told, ["in_progress", 1, 2, "completed"]);
  const { options, asked } = scripted([answer()]);
  const onProgress = () => {
    throw new RangeError("a defect of the page");
  };
  await assert.rejects(track("t", { ...options, onProgress }), RangeError);
  assert.equal(asked.length, 1, "it is no failure of the connection");
});
