/** What needs no browser: types, the filters of an address, the tasks of a list, and the library as it was published. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { address, matches, read } from "../parts/filters.js";
import { Tasks } from "../parts/tasks.js";

const filters = (text = "") => read(new URLSearchParams(text));
const at = (second) => `2026-11-20T12:00:${String(second).padStart(2, "0")}.000Z`;
const task = (second, more = {}) => ({ id: `t${second}`, taskType: "t", status: "pending", workerId: null, createdAt: at(second), updatedAt: at(second), completedAt: null, latestProgress: null, ...more });
/** A page that is asked for, and there at once. */
const append = (tasks, begin, page) => tasks.append(begin, page, tasks.moment);
const again = (tasks, begin, page) => tasks.again(begin, page, tasks.moment);
const page = (seconds, nextCursor = null) => ({ items: seconds.map((second) => task(second)), nextCursor });

test("the modules are well typed", () => {
  const here = (path) => fileURLToPath(new URL(path, import.meta.url));
  try {
    execFileSync(process.execPath, [here("../../clients/javascript/node_modules/typescript/bin/tsc"), "-p", here("..")], { encoding: "utf8" });
  } catch (error) {
    assert.fail(error.stdout || error.message);
  }
});

test("uPlot is the one that was published", async () => {
  const published = (name) => readFile(new URL(`../../clients/javascript/node_modules/uplot/${name}`, import.meta.url));
  for (const [ours, theirs] of [["uPlot.esm.js", "dist/uPlot.esm.js"], ["uPlot.min.css", "dist/uPlot.min.css"], ["uPlot.LICENSE.txt", "LICENSE"]]) {
    const kept = await readFile(new URL(`../vendor/${ours}`, import.meta.url));
    assert.ok(kept.equals(await published(theirs)), `${ours} is not ${theirs} of the package`);
  }
});

test("an address says which tasks are shown, and comes out as it went in", () => {
  const all = "#/tasks?status=failed,timeout&type=report.build&worker=w-1&from=2026-11-20T12:00:00.000Z&q=disk+full&order=ended";
  assert.equal(address(filters(all.split("?")[1])), all);
  assert.equal(address(filters("")), "#/tasks");
});

test("what an address says that is not known is left out", () => {
  assert.equal(address(filters("status=failed,nonsense,failed&order=upside-down&from=yesterday&other=1")), "#/tasks?status=failed");
});

test("a task is judged as the service would list it", () => {
  const failed = task(5, { status: "failed", workerId: "w-1", error: { message: "The disk is full" }, params: { month: "2026-11" } });
  for (const text of ["", "status=failed,timeout", "type=t", "worker=w-1", `from=${at(5)}`, `to=${at(6)}`, "q=disk+IS", "q=t5", "q=2026-11"]) {
    assert.ok(matches(filters(text), failed), text);
  }
  for (const text of ["status=pending", "type=T", "worker=w", `from=${at(6)}`, `to=${at(5)}`, "q=nothing", "q=5", "order=ended"]) {
    assert.ok(!matches(filters(text), failed), text);
  }
});

test("what is new waits to be let in, and comes in its place", () => {
  const tasks = new Tasks(filters());
  append(tasks, "", page([30, 20, 10], "next"));
  assert.equal(tasks.take(task(40)), "fresh");
  assert.equal(tasks.take(task(25)), "fresh");
  assert.equal(tasks.take(task(5)), "none", "a later page has it");
  assert.deepEqual(tasks.shown, ["t30", "t20", "t10"]);
  tasks.admit();
  assert.deepEqual(tasks.shown, ["t40", "t30", "t25", "t20", "t10"]);
  append(tasks, "next", page([5, 1]));
  assert.deepEqual(tasks.shown, ["t40", "t30", "t25", "t20", "t10", "t5", "t1"]);
  assert.equal(tasks.take(task(0)), "fresh", "behind the last page nothing else tells of it");
});

test("an older word on a task changes nothing", () => {
  const tasks = new Tasks(filters());
  append(tasks, "", { items: [task(1, { status: "in_progress", updatedAt: at(9), latestProgress: { seqId: 4 } })], nextCursor: null });
  assert.equal(tasks.take(task(1)), "none");
  assert.equal(tasks.known.get("t1").status, "in_progress");
  assert.ok(!tasks.progress("t1", { seqId: 4 }));
  assert.ok(tasks.progress("t1", { seqId: 5, percent: 50 }));
  tasks.take(task(1, { status: "completed", updatedAt: at(10), latestProgress: { seqId: 4 } }));
  assert.deepEqual(tasks.known.get("t1").latestProgress, { seqId: 5, percent: 50 });
});

test("a task that leaves the filter stays until the list moves anyway", () => {
  const tasks = new Tasks(filters("status=pending"));
  append(tasks, "", page([30, 20, 10]));
  tasks.take(task(20, { status: "completed", updatedAt: at(40) }));
  assert.deepEqual([tasks.shown, [...tasks.left]], [["t30", "t20", "t10"], ["t20"]]);
  tasks.take(task(20, { updatedAt: at(41) }));
  assert.deepEqual([...tasks.left], [], "it came back");
  tasks.take(task(10, { status: "completed", updatedAt: at(42) }));
  tasks.take(task(50));
  tasks.admit();
  assert.deepEqual(tasks.shown, ["t50", "t30", "t20"]);
});

test("a page that is read again says what became of its tasks", () => {
  const tasks = new Tasks(filters());
  append(tasks, "", page([40, 30], "b"));
  append(tasks, "b", page([20, 10]));
  tasks.expire();
  assert.deepEqual([tasks.staleOf("t40"), tasks.staleOf("t10")], ["", "b"]);
  again(tasks, "", page([50, 40], "b2"));
  assert.deepEqual([[...tasks.fresh], [...tasks.left]], [["t50"], []], "what is new pushed the last one into the next page");
  again(tasks, "b", page([10]));
  assert.deepEqual([...tasks.left], ["t20"]);
  assert.equal(tasks.stale.size, 0);
});

test("a page that was asked for before everything changed is read again", () => {
  const tasks = new Tasks(filters());
  const before = tasks.moment;
  tasks.expire();
  tasks.append("", page([40], "b"), before);
  assert.equal(tasks.staleOf("t40"), "");
  const meanwhile = tasks.moment;
  tasks.expire();
  tasks.again("", page([40]), meanwhile);
  assert.equal(tasks.staleOf("t40"), "", "nor is it true then");
  again(tasks, "", page([40]));
  assert.equal(tasks.stale.size, 0);
});

test("a page that was asked for before a task came to be of it is read again", () => {
  const tasks = new Tasks(filters());
  const first = tasks.moment;
  assert.equal(tasks.take(task(40)), "none");
  tasks.append("", page([30, 20], "b"), first);
  assert.deepEqual([...tasks.stale], [""]);
  again(tasks, "", page([40, 30, 20]));
  assert.deepEqual([...tasks.fresh, tasks.stale.size], ["t40", 0]);
  const second = tasks.moment;
  assert.equal(tasks.take(task(5)), "none");
  tasks.append("b", page([10]), second);
  assert.deepEqual([...tasks.stale], ["b"]);
});
