/** Following many tasks of a real server, through a proxy that cuts, mutes and refuses. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { TaskTracker, TaskTrackerError } from "../client.js";
import { Proxy, Server, hurried, timing, until } from "./harness.js";

let server, proxy, client;
before(async () => {
  server = await Server.start();
  client = server.client;
});
after(() => server.stop());
beforeEach(async () => (proxy = await Proxy.start(server.url)));
/** Whoever still follows when its test is over. */
const followers = new Set();
afterEach(() => {
  for (const controller of followers) controller.abort(new Error("the test is over"));
  followers.clear();
  return proxy.stop();
});

/** Follows until it is stopped, and keeps what it heard: of each task its states and its numbers. */
function following(options, baseUrl = proxy.url) {
  const controller = new AbortController();
  followers.add(controller);
  const heard = { opens: [], states: [], gaps: [], tasks: new Map(), numbers: new Map(), entries: new Map() };
  const note = (map, taskId, what) => map.set(taskId, [...(map.get(taskId) ?? []), what]);
  const over = new TaskTracker({ baseUrl }).events({
    timing, everyMs: 0, ...options, signal: controller.signal,
    onOpen: ({ resumed }) => void heard.opens.push(resumed),
    onTask: (task) => note(heard.tasks, task.id, task),
    onProgress: async (taskId, entry) => {
      note(heard.numbers, taskId, entry.seqId);
      note(heard.entries, taskId, entry);
      await options.onProgress?.(taskId, entry);
    },
    onGap: (taskId, gap) => void heard.gaps.push(gap),
    onConnection: ({ state }) => heard.states.at(-1) === state || heard.states.push(state),
  });
  const ended = over.catch((error) => error);
  const stop = async () => {
    controller.abort(new Error("enough"));
    assert.equal((await ended).message, "enough");
  };
  return { heard, stop, ended, statuses: (id) => (heard.tasks.get(id) ?? []).map(({ status }) => status) };
}
const numbers = (count) => Array.from({ length: count }, (_, n) => n + 1);

test("tasks are told of as they are registered, begin, report and end", async () => {
  const { heard, stop, statuses } = following({ taskTypes: ["told"], everyMs: 0 });
  await until(() => heard.opens.length === 1, "open");
  const { taskId } = await client.register({ taskType: "told", params: { a: 1 }, metadata: { title: "x" } });
  await client.register({ taskType: "other" });
  await until(() => statuses(taskId).at(-1) === "pending", "registered");
  await client.start(taskId, { workerId: "w" });
  await until(() => statuses(taskId).at(-1) === "in_progress", "begun");
  await client.progress(taskId, { percent: 40 });
  await until(() => heard.entries.get(taskId)?.at(-1).percent === 40, "40%");
  await client.complete(taskId, { workerId: "w", result: { rows: 1 } });
  await until(() => statuses(taskId).at(-1) === "completed", "completed");
  const [listed] = (await client.list({ taskType: "told" })).items;
  assert.deepEqual(heard.tasks.get(taskId).at(-1), listed, "the whole state, as a list has it");
  assert.deepEqual([...heard.tasks.keys()], [taskId]);
  await stop();
});

test("all entries of tasks that are named come once and in order over cuts at any place", async () => {
  const ids = await Promise.all([server.started(), server.started(), server.started()]);
  let cuts = 0;
  Object.assign(proxy, { fault: "cut", cutAfter: () => 150 + ((cuts++ * 379) % 5000) });
  const { heard, stop } = following({ taskIds: ids, progress: "all", timing: { ...timing, backoffMs: 1, longestBackoffMs: 1 }, fetch: hurried });
  for (let n = 1; n <= 120; n++) await Promise.all(ids.map((id) => client.progress(id, { n, text: "ä€🦀".repeat(n % 30) })));
  await Promise.all(ids.map((id) => client.complete(id)));
  await until(() => ids.every((id) => heard.tasks.get(id)?.at(-1).status === "completed"), "the ends", 60_000);
  for (const id of ids) {
    const { progressHistory } = await client.get(id);
    assert.deepEqual(heard.entries.get(id), progressHistory, "as the history has them");
    assert.deepEqual(heard.numbers.get(id), numbers(120));
  }
  assert.ok(cuts > 5, `${cuts} cuts`);
  assert.deepEqual(heard.gaps, []);
  await stop();
});

test("a server that is killed and started again on its data loses nothing and repeats nothing", async () => {
  const own = await Server.start();
  try {
    const ids = [await own.started(), await own.started()];
    const { heard, stop } = following({ taskIds: ids, progress: "all" }, own.url);
    let isBack = Promise.resolve();
    const kills = [30, 60];
    for (let n = 1; n <= 90; ) {
      try {
        for (const id of ids) await own.client.progress(id, { n }, {}, { idempotencyKey: `${id}-${n}` });
        n += 1;
      } catch (error) {
        if (error instanceof TaskTrackerError) throw error;
        // Whether it was done nobody knows: it is said again, under its key.
        await isBack;
      }
      if (n === kills[0]) {
        kills.shift();
        await until(() => heard.numbers.get(ids[0])?.length > n - 5, "it listens");
        isBack = own.kill("SIGKILL").then(() => own.startAgain());
      }
    }
    await Promise.all(ids.map((id) => own.client.complete(id)));
    await until(() => ids.every((id) => heard.tasks.get(id)?.at(-1).status === "completed"), "the ends", 60_000);
    for (const id of ids) {
      const { progressHistory } = await own.client.get(id);
      assert.deepEqual(heard.entries.get(id), progressHistory);
      assert.equal(progressHistory.length, 90);
    }
    assert.ok(heard.opens.slice(1).every(Boolean), "each time it went on where it was");
    assert.ok(heard.opens.length >= 3, `${heard.opens}`);
    await stop();
  } finally {
    await own.stop();
  }
});

test("the newest entries are told at a rate, and the last of them for certain", async () => {
  const taskId = await server.started("quick");
  const { heard, stop } = following({ taskTypes: ["quick"], everyMs: 400 });
  await until(() => heard.opens.length === 1, "open");
  for (let n = 1; n <= 20; n++) await client.progress(taskId, Array.from({ length: 20 }, (_, k) => ({ percent: n, k })));
  await until(() => heard.numbers.get(taskId)?.at(-1) === 400, "the newest");
  const told = heard.numbers.get(taskId);
  assert.ok(told.length < 100, `${told.length} of 400 were told`);
  assert.deepEqual(told, [...told].sort((a, b) => a - b));
  assert.equal(new Set(told).size, told.length);
  await stop();
});

test("a proxy that holds streams back is polled through, and streamed through once it does not", async () => {
  proxy.fault = "mute";
  const taskId = await server.started("muted");
  const { heard, stop, statuses } = following({ taskIds: [taskId], progress: "all" });
  await until(() => statuses(taskId).length > 0, "where it stands");
  for (let n = 1; n <= 30; n++) await client.progress(taskId, { n });
  await until(() => heard.numbers.get(taskId)?.length === 30, "polls bring them");
  assert.deepEqual(heard.states, ["polling"]);
  const { taskId: later } = await client.register({ taskType: "elsewhere" });
  proxy.fault = "pass";
  let n = 31;
  await until(async () => {
    await client.progress(taskId, { n: n++ });
    return heard.states.at(-1) === "streaming";
  }, "it streams");
  await client.complete(taskId);
  await until(() => statuses(taskId).at(-1) === "completed", "the end");
  assert.deepEqual(heard.numbers.get(taskId), numbers(n - 1));
  assert.equal(heard.tasks.has(later), false);
  await stop();
});

test("it goes on behind an id, and says so", async () => {
  const taskId = await server.started("behind");
  const ids = [];
  const read = async () => {
    // The id is in the frames: whoever wants to go on later keeps the last.
    const response = await fetch(`${server.url}api/v1/events?taskId=${taskId}&progress=all&follow=false${ids.length ? `&after=${encodeURIComponent(ids.at(-1))}` : ""}`);
    ids.push(...[...(await response.text()).matchAll(/^id: (.*)$/gm)].map(([, id]) => id));
  };
  await client.progress(taskId, [{ n: 1 }, { n: 2 }]);
  await read();
  await client.progress(taskId, [{ n: 3 }, { n: 4 }]);
  const { heard, stop } = following({ taskIds: [taskId], progress: "all", after: ids.at(-1) });
  await until(() => heard.numbers.get(taskId)?.at(-1) === 4, "the newer ones");
  assert.deepEqual(heard.opens, [true]);
  assert.ok(!heard.numbers.get(taskId).includes(1));
  await stop();
});

test("what it cannot have it is told", async () => {
  const { ended } = following({ progress: "all" });
  const error = await ended;
  assert.ok(error instanceof TaskTrackerError);
  assert.deepEqual([error.status, error.code], [422, "validation_failed"]);
});
