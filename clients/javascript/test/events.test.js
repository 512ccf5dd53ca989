/** Following many tasks, with a server that is scripted: what is asked, and what is told of what is answered. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { TaskTracker, TaskTrackerError, events } from "../client.js";
import { frame, hang, head, problem, scripted, silent, stream } from "./scripted.js";

const opened = (id, resumed = false) => head + frame(id, { event: "open", data: { resumed }, timestamp: "" });
const task = (id, taskId, second, fields = {}) =>
  frame(id, { event: "task", data: { id: taskId, updatedAt: `2026-11-20T12:00:0${second}.000Z`, ...fields }, taskId, timestamp: "" });
const entry = (id, taskId, seqId) => frame(id, { event: "progress", data: { seqId }, taskId, timestamp: "" });
const gap = (id, taskId, from, to) => frame(id, { event: "gap", data: { from, to }, taskId, timestamp: "" });
const resync = (id) => frame(id, { event: "resync", data: {}, timestamp: "" });

/** What one is told, up to so many events. */
async function told(options, count) {
  const heard = [];
  for await (const { event, taskId, data } of events(options)) {
    heard.push([event, taskId ?? data.resumed, data.seqId ?? data.updatedAt?.at(-6) ?? data.from].filter((part) => part !== undefined).join(" "));
    if (heard.length === count) break;
  }
  return heard;
}

test("it asks for what is wanted, each value by itself", async () => {
  const { asked, options } = scripted([stream(opened("a"), hang)]);
  const wish = { taskIds: ["x y", "z"], taskTypes: ["t,u"], statuses: ["pending", "in_progress"], progress: "all", everyMs: 1500, after: "before" };
  await told({ ...options, headers: { authorization: "Bearer x" }, ...wish }, 1);
  assert.equal(asked[0].path, "/under/api/v1/events");
  const query = new URLSearchParams(asked[0].query);
  assert.deepEqual([...query], [
    ["taskId", "x y"], ["taskId", "z"], ["taskType", "t,u"], ["status", "pending"], ["status", "in_progress"], ["progress", "all"], ["every", "1500ms"],
  ]);
  assert.equal(asked[0].last, "before");
  assert.equal(asked[0].headers.get("authorization"), "Bearer x");
});

test("it goes on behind the last id, and what comes twice is told once", async () => {
  const { asked, options } = scripted([
    stream(opened("1"), task("2", "a", 1) + entry("3", "a", 1) + entry("", "a", 2)),
    stream(opened("3", true), task("3", "a", 1) + entry("4", "a", 2) + entry("5", "a", 3), new TypeError("reset")),
    new TypeError("refused"),
    // The state from before what was told is old; as new as that it is told again.
    stream(opened("5", true), task("6", "a", 0) + task("7", "a", 1) + task("8", "a", 2) + entry("9", "b", 1), hang),
  ]);
  assert.deepEqual(await told({ ...options, taskIds: ["a", "b"] }, 11), [
    "open false", "task a 1", "progress a 1", "progress a 2", "open true", "task a 1", "progress a 3", "open true", "task a 1", "task a 2", "progress b 1",
  ]);
  assert.deepEqual(asked.map(({ last }) => last), [null, "3", "5", "5"]);
});

test("a gap is told once, and what was seen of it before is not gone", async () => {
  const { options } = scripted([
    stream(opened("1"), entry("2", "a", 1) + gap("3", "a", 1, 9) + gap("4", "a", 2, 9) + entry("5", "a", 9) + entry("6", "a", 10) + resync("7"), hang),
  ]);
  assert.deepEqual(await told(options, 5), ["open false", "progress a 1", "gap a 2", "progress a 10", "resync"]);
});

test("a stream that is held back is polled behind the same id, and polls do not say each time that they opened", async () => {
  const polls = [
    stream(opened("1"), task("2", "a", 1)),
    stream(opened("2", true)),
    problem(503, "unavailable"),
    stream(opened("2", true), entry("3", "a", 1)),
    stream(opened("4", false), entry("5", "a", 2)),
  ];
  const { asked, options } = scripted(Array(100).fill(silent), polls);
  const states = [];
  const heard = await told({ ...options, onConnection: ({ state }) => states.push(state) }, 5);
  assert.deepEqual(heard, ["open false", "task a 1", "progress a 1", "open false", "progress a 2"]);
  const polled = asked.filter(({ isPoll }) => isPoll);
  assert.deepEqual(polled.map(({ query }) => new URLSearchParams(query).get("after")), [null, "2", "2", "2", "3"]);
  assert.deepEqual(states.slice(0, 2), ["polling", "waiting"]);
});

test("once streams get through again it streams, and tells nothing twice", async () => {
  let isMended = false;
  const streams = [silent, ...Array.from({ length: 50 }, () => (signal) => (isMended ? stream(opened("2", true), entry("3", "a", 1) + entry("4", "a", 2), hang) : silent(signal)))];
  const polls = [
    stream(opened("1"), task("2", "a", 1)),
    stream(opened("2", true), entry("3", "a", 1)),
    ...Array.from({ length: 2000 }, () => () => ((isMended = true), stream(opened("3", true)))),
  ];
  const { options } = scripted(streams, polls);
  const states = [];
  const heard = await told({ ...options, onConnection: ({ state }) => states.push(state) }, 5);
  assert.deepEqual(heard, ["open false", "task a 1", "progress a 1", "open true", "progress a 2"]);
  assert.deepEqual(states, ["polling", "streaming"]);
});

test("it never ends by itself: by a refusal, by its signal, or by what a listener throws", async () => {
  const refused = events(scripted([stream(opened("1")), stream(opened("1", true)), problem(422, "validation_failed")]).options);
  await assert.rejects(refused, (error) => error instanceof TaskTrackerError && error.code === "validation_failed");
  const controller = new AbortController();
  const { options } = scripted([stream(opened("1"), hang)]);
  const onOpen = () => controller.abort(new Error("enough"));
  await assert.rejects(events({ ...options, signal: controller.signal, onOpen }), { message: "enough" });
  const onTask = () => {
    throw new RangeError("a defect of the page");
  };
  await assert.rejects(events({ ...scripted([stream(opened("1"), task("2", "a", 1), hang)]).options, onTask }), RangeError);
});

test("listeners run by themselves, in order, one after the other", async () => {
  const heard = [];
  const { options } = scripted([stream(opened("1"), task("2", "a", 1) + entry("3", "a", 1) + gap("4", "a", 2, 3) + resync("5"), hang)]);
  const controller = new AbortController();
  await new Promise((resolve) => {
    const tracker = new TaskTracker(options);
    const listeners = {
      onOpen: async ({ resumed }) => (await null, heard.push(`open ${resumed}`)),
      onTask: (task, event) => void heard.push(`${event.event} ${task.id}`),
      onProgress: (taskId, { seqId }, event) => void heard.push(`${event.event} ${taskId} ${seqId}`),
      onGap: (taskId, { from, to }) => void heard.push(`gap ${taskId} ${from} ${to}`),
      onResync: () => (heard.push("resync"), resolve()),
    };
    tracker.events({ signal: controller.signal, ...listeners }).catch(() => {});
  });
  controller.abort();
  assert.deepEqual(heard, ["open false", "task a", "progress a 1", "gap a 2 3", "resync"]);
});

test("who leaves the loop hangs up", async () => {
  let isOver = false;
  const { options } = scripted([(signal) => (signal.addEventListener("abort", () => (isOver = true)), stream(opened("1"), hang))]);
  await told(options, 1);
  assert.ok(isOver);
});

test("what is remembered of tasks is bounded, and those of late are not forgotten", async () => {
  const many = Array.from({ length: 10_001 }, (_, n) => entry(String(n + 2), `t${n}`, 5)).join("");
  const { options } = scripted([stream(opened("1"), many + entry("z", "t10000", 5) + entry("z", "t1", 5) + entry("z", "t0", 5), hang)]);
  const heard = await told(options, 10_003);
  assert.equal(heard.at(-1), "progress t0 5", "the one that was not heard of for longest is told again");
  assert.equal(heard.filter((text) => text === "progress t10000 5" || text === "progress t1 5").length, 2);
});
