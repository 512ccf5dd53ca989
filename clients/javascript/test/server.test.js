/** The client against a real server, through a proxy that cuts, mutes and refuses. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { TaskTracker, TaskTrackerError, track } from "../client.js";
import { Proxy, Server, hurried, timing, until } from "./harness.js";

let server, proxy, client;
before(async () => {
  server = await Server.start();
  client = server.client;
});
after(() => server.stop());
beforeEach(async () => (proxy = await Proxy.start(server.url)));
afterEach(() => proxy.stop());

/** Follows through the proxy, with deeds to be done once an entry has arrived. */
async function followed(taskId, deeds = {}, options = {}) {
  const [events, states] = [[], []];
  const onConnection = ({ state }) => states.at(-1) === state || states.push(state);
  for await (const event of track(taskId, { baseUrl: proxy.url, timing, onConnection, ...options })) {
    events.push(event);
    if (event.event === "progress") await deeds[event.data.seqId]?.();
  }
  return { events, states };
}

/** Every entry once, in order, as the history has it, and then the end. */
async function isWhole(taskId, events, { after = 0, status = "completed" } = {}) {
  const { progressHistory } = await client.get(taskId);
  const entries = events.filter(({ event }) => event === "progress").map(({ data }) => data);
  assert.deepEqual(entries, progressHistory.slice(after));
  assert.deepEqual(entries.map(({ seqId }) => seqId), Array.from(entries, (_, n) => after + n + 1));
  assert.equal(events.at(-1).event, "status_change");
  assert.equal(events.at(-1).data.status, status);
  return entries.length;
}

async function report(taskId, count, from = 1) {
  for (let n = from; n < from + count; n++) await client.progress(taskId, { n, text: "ä€🦀".repeat(n % 40) });
}

test("a task is followed live, from its history on", async () => {
  const taskId = await server.started();
  await report(taskId, 5);
  const { events, states } = await followed(taskId, {
    5: () => report(taskId, 1, 6),
    6: () => client.complete(taskId, { result: { rows: 42 } }),
  });
  assert.equal(await isWhole(taskId, events), 6);
  assert.deepEqual(events.at(-1).data, { status: "completed", result: { rows: 42 } });
  assert.deepEqual(states, ["streaming"]);
});

test("a stream that is cut anywhere, again and again, is whole", async () => {
  const taskId = await server.started();
  let cuts = 0;
  Object.assign(proxy, { fault: "cut", cutAfter: () => 100 + ((cuts++ * 379) % 4000) });
  const working = report(taskId, 250).then(() => client.complete(taskId));
  const { events } = await followed(taskId, {}, { timing: { ...timing, backoffMs: 1, longestBackoffMs: 1 }, fetch: hurried });
  await working;
  assert.equal(await isWhole(taskId, events), 250);
  assert.ok(cuts > 10, `${cuts} cuts`);
});

test("a proxy that holds streams back is polled through, and streamed through once it does not", async () => {
  const taskId = await server.started();
  proxy.fault = "mute";
  await report(taskId, 40);
  const states = [];
  const untilItStreams = async () => {
    for (let n = 43; states.at(-1) !== "streaming"; n++) await report(taskId, 1, n);
    await client.complete(taskId);
  };
  let working;
  const deeds = {
    40: () => report(taskId, 1, 41),
    41: () => report(taskId, 1, 42),
    42: () => {
      proxy.fault = "pass";
      // Not awaited: polls bring what comes meanwhile.
      working = untilItStreams();
    },
  };
  const { events } = await followed(taskId, deeds, { onConnection: ({ state }) => states.push(state) });
  await working;
  assert.ok((await isWhole(taskId, events)) > 42);
  assert.deepEqual(states, ["polling", "streaming"]);
});

test("polls alone bring a task to its end", async () => {
  const taskId = await server.started();
  proxy.fault = "mute";
  const { events, states } = await followed(taskId, { 1: () => report(taskId, 2, 2), 3: () => client.fail(taskId, { error: { message: "no" } }) }, {
    onStatus: async ({ status }) => status === "in_progress" && report(taskId, 1),
  });
  assert.equal(await isWhole(taskId, events, { status: "failed" }), 3);
  assert.deepEqual(events.at(-1).data.error, { message: "no" });
  // The stream that is tried beside the polls is whole once the task has ended, and may bring that.
  assert.equal(states[0], "polling");
});

test("a service that is away for a while is waited for", async () => {
  const taskId = await server.started();
  await report(taskId, 3);
  proxy.fault = "unavailable";
  let refused = 0;
  const onConnection = ({ state, error }) => {
    if (state !== "waiting") return;
    assert.equal(error.status, 503);
    if (++refused === 6) proxy.fault = "pass";
  };
  const { events } = await followed(taskId, { 3: () => client.complete(taskId) }, { onConnection });
  assert.equal(await isWhole(taskId, events), 3);
});

test("a server that is killed and started again on its data loses nothing and repeats nothing", async () => {
  const own = await Server.start();
  try {
    const taskId = await own.started();
    const acknowledged = [];
    let isBack = Promise.resolve();
    const kills = [];
    /** Whether it was done nobody knows once a server dies: it is said again, under its key, once somebody hears. */
    const said = async (deed) => {
      for (;;) {
        try {
          return await deed();
        } catch (error) {
          if (error instanceof TaskTrackerError) throw error;
          await isBack;
        }
      }
    };
    const working = (async () => {
      for (let n = 1; n <= 120; n++) {
        acknowledged.push((await said(() => own.client.progress(taskId, { n }, {}, { idempotencyKey: `entry-${n}` }))).seqId);
      }
      await said(() => own.client.complete(taskId, {}, { idempotencyKey: "end" }));
    })();
    const kill = () => {
      isBack = isBack.then(() => own.kill("SIGKILL")).then(() => own.startAgain());
      kills.push(isBack);
    };
    const seen = [];
    for await (const event of track(taskId, { baseUrl: own.url, timing })) {
      if (event.event !== "progress") continue;
      seen.push(event.data);
      // Not awaited: it reads on meanwhile, into the cut.
      if (event.data.n === 30 || event.data.n === 80) kill();
    }
    await Promise.all([working, ...kills]);
    const all = Array.from({ length: 120 }, (_, n) => n + 1);
    assert.deepEqual(acknowledged, all);
    assert.deepEqual(seen, all.map((n) => ({ seqId: n, n })));
  } finally {
    await own.stop();
  }
});

test("it begins where it is asked to", async () => {
  const taskId = await server.started();
  await report(taskId, 9);
  const done = { 9: () => report(taskId, 1, 10), 10: () => client.complete(taskId) };
  assert.equal(await isWhole(taskId, (await followed(taskId, done, { afterSeqId: 4 })).events, { after: 4 }), 6);
  const { events } = await followed(taskId, {}, { last: 3 });
  assert.equal(await isWhole(taskId, events, { after: 7 }), 3);
  assert.deepEqual((await followed(taskId, {}, { ignoreHistory: true })).events.map(({ event }) => event), ["status_change"]);
});

test("refusals are told as they are", async () => {
  await assert.rejects(track("nobody", { baseUrl: proxy.url }), (error) => {
    assert.ok(error instanceof TaskTrackerError);
    assert.deepEqual([error.status, error.code], [404, "task_not_found"]);
    return error.title !== "" && error.detail.includes("nobody");
  });
  const taskId = await server.started();
  await client.complete(taskId);
  await assert.rejects(client.start(taskId), (error) => error.code === "invalid_transition" && error.problem.from === "completed");
  await assert.rejects(client.register({}), (error) => error.status === 422 && error.problem.errors[0].path === "taskType");
});

test("a worker can be written with it, and whoever asks for the work, too", async () => {
  const tracker = new TaskTracker({ baseUrl: new URL(proxy.url), headers: async () => ({ "x-correlation-id": "from-node" }) });
  const waiting = tracker.claim({ taskTypes: ["report"], workerId: "node", waitSeconds: 30, leaseSeconds: 60 });
  const { taskId } = await tracker.register({ taskType: "report", params: { month: 11 } }, { idempotencyKey: 'nightly,"x"' });
  assert.equal((await tracker.register({ taskType: "report", params: { month: 11 } }, { idempotencyKey: 'nightly,"x"' })).taskId, taskId);
  const { id, params, leaseToken } = await waiting;
  assert.deepEqual([id, params], [taskId, { month: 11 }]);
  const me = { workerId: "node", leaseToken };
  assert.equal((await tracker.progress(id, { percent: 10 }, me)).seqId, 1);
  assert.deepEqual((({ seqId, count }) => [seqId, count])(await tracker.progress(id, [{ percent: 20 }, { percent: 30 }], me)), [3, 2]);
  assert.equal((await tracker.heartbeat(id, me)).status, "in_progress");
  assert.equal((await tracker.why(id)).code, "running");
  const standing = await tracker.standing([id, "nobody"]);
  assert.deepEqual(standing.map(({ id, status, latestProgress }) => [id, status, latestProgress?.seqId]), [[id, "in_progress", 3]]);
  assert.deepEqual((await tracker.workers({ limit: 10 })).items[0].holds.map(({ taskId }) => taskId), [id]);
  assert.equal((await tracker.release(id, me)).status, "pending");
  const again = await tracker.claim({ taskTypes: ["report"], workerId: "node" });
  assert.equal((await tracker.fail(again.id, { workerId: "node", error: { message: "no" } })).status, "failed");
  const { newTaskId, retryCount } = await tracker.retry(id);
  assert.equal(retryCount, 1);
  assert.equal((await tracker.cancel(newTaskId, { reason: "not needed" })).status, "cancelled");
  assert.deepEqual(await tracker.track(newTaskId), { status: "cancelled", reason: "not needed" });
  const listed = await tracker.list({ taskType: "report", status: "failed", cursor: null });
  assert.deepEqual(listed.items.map(({ id, latestProgress }) => [id, latestProgress.seqId]), [[taskId, 3]]);
  const many = await tracker.registerMany([{ taskType: "a" }, { taskType: "" }]);
  assert.deepEqual([many.created, many.failed], [1, 1]);
  assert.equal((await tracker.timeOut(many.results[0].taskId)).status, "timeout");
  assert.equal(await tracker.claim({ taskTypes: ["nothing"], workerId: "node" }), null);
  const end = await tracker.start((await tracker.register({ taskType: "b" })).taskId, { workerId: "node" });
  assert.equal((await tracker.complete(end.taskId, { workerId: "node", result: { rows: 1 } })).status, "completed");
  assert.equal((await tracker.get(end.taskId)).result.rows, 1);
});

test("all tasks are seen at a glance, and the nodes that serve them", async () => {
  const taskId = await server.started();
  await client.fail(taskId, { error: { message: "no" } });
  let overview;
  // What it says may be a few seconds old.
  await until(async () => (overview = await client.overview()).failures.some(({ id }) => id === taskId), "the failure");
  assert.equal(overview.window.stepSeconds, 60);
  assert.equal(overview.series.length, 61);
  assert.ok(overview.counts.failed >= 1 && overview.series.some(({ failed }) => failed >= 1));
  const failure = overview.failures.find(({ id }) => id === taskId);
  assert.deepEqual([failure.status, failure.error, "params" in failure], ["failed", { message: "no" }, false]);
  assert.equal((await client.overview({ windowSeconds: 60 })).window.stepSeconds, 1);
  await assert.rejects(client.overview({ windowSeconds: 59 }), (error) => error.status === 422 && error.problem.errors[0].path === "windowSeconds");
  const { items } = await client.nodes();
  assert.deepEqual(items.filter(({ isThis }) => isThis).map(({ mode, openStreams }) => [mode, openStreams]), [["embedded", 0]]);
});

test("many are listed, cancelled and retried, as they are chosen", async () => {
  const { results } = await client.registerMany(Array.from({ length: 5 }, (_, n) => ({ taskType: "many", params: { n, text: "a needle" } })));
  const ids = results.map(({ taskId }) => taskId);
  await client.start(ids[4], { workerId: "node" });
  await client.fail(ids[4], { workerId: "node", error: { message: "the disk" } });
  const cancelled = await client.cancelMany([ids[3], "nobody", ids[4]], { reason: "not needed", graceSeconds: 1 });
  assert.deepEqual([cancelled.done, cancelled.failed], [1, 2]);
  assert.deepEqual(cancelled.results.map(({ taskId, status }) => [taskId, status]), [[ids[3], 200], ["nobody", 404], [ids[4], 409]]);
  assert.deepEqual(cancelled.results.map(({ taskStatus, problem }) => taskStatus ?? problem.code), ["cancelled", "task_not_found", "invalid_transition"]);
  assert.equal((await client.get(ids[3])).cancelReason, "not needed");
  const listed = async (filter) => (await client.list({ taskType: "many", ...filter })).items.map(({ id }) => id);
  assert.deepEqual(await listed({ status: ["failed", "cancelled"] }), [ids[4], ids[3]]);
  assert.deepEqual(await listed({ status: "pending", order: "asc" }), ids.slice(0, 3));
  assert.deepEqual(await listed({ sort: "completedAt" }), [ids[3], ids[4]]);
  assert.deepEqual(await listed({ q: "THE DISK" }), [ids[4]]);
  const brief = await client.list({ q: "needle", fields: "brief", limit: 2 });
  assert.deepEqual(brief.items.map((item) => [item.id, "params" in item, item.latestProgress]), [[ids[4], false, null], [ids[3], false, null]]);
  const next = await client.list({ q: "needle", fields: "brief", limit: 2, cursor: brief.nextCursor });
  assert.deepEqual(next.items.map(({ id }) => id), [ids[2], ids[1]]);
  const retried = await client.retryMany([ids[3], ids[4], ids[0]]);
  assert.deepEqual(retried.results.map(({ status }) => status), [201, 201, 409]);
  assert.deepEqual(await listed({ originalTaskId: ids[4] }), [retried.results[1].newTaskId, ids[4]]);
  await assert.rejects(client.cancelMany([ids[0], ids[0]]), (error) => error.status === 422 && error.problem.errors[0].path === "taskIds[1]");
  await assert.rejects(client.list({ sort: "updatedAt" }), (error) => error.code === "validation_failed");
});
