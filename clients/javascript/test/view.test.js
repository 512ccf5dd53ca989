/** What is shown of a task, as its events say it. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { TaskView, inWords } from "../client/view.js";

const START = Date.parse("2026-11-20T12:00:00.000Z");

/** A view that has heard these entries, each `[second, fields]`, on a machine whose clock is `behind` by some seconds. */
function heard(entries, { behind = 0 } = {}) {
  const view = new TaskView();
  for (const [n, [second, fields]] of entries.entries()) {
    const at = START + second * 1000;
    const timestamp = new Date(at).toISOString();
    const isStatus = typeof fields === "string";
    const data = isStatus ? { status: fields } : { seqId: n + 1, ...fields };
    view.fold({ event: isStatus ? "status_change" : "progress", data, taskId: "t", timestamp }, at - behind * 1000);
  }
  return { view, left: (second) => view.secondsLeft(START + (second - behind) * 1000) };
}

test("how far it is: by percent, else by count, within bounds", () => {
  const percent = (...entries) => heard(entries.map((entry) => [0, entry])).view.percent;
  assert.equal(percent({ percent: 40 }), 40);
  assert.equal(percent({ current: 3, total: 4 }), 75);
  assert.equal(percent({ percent: 10, current: 3, total: 4 }), 10);
  assert.equal(percent({ percent: 140 }), 100);
  assert.equal(percent({ percent: -1 }), 0);
  assert.equal(percent({ current: 3, total: 0 }), undefined);
  for (const odd of ["40", null, NaN, Infinity, {}, true]) assert.equal(percent({ percent: odd }), undefined);
  assert.equal(percent({ percent: 40 }, { message: "on it" }), 40, "what an entry does not say stays");
});

test("an entry says that it runs, also to those who missed its beginning", () => {
  assert.equal(heard([[0, "pending"], [1, {}]]).view.status, "in_progress");
  assert.equal(heard([[0, "completed"], [1, {}]]).view.status, "completed");
});

test("a level is of the message that it came with", () => {
  assert.equal(heard([[0, { message: "a", level: "WARN" }]]).view.level, "warn");
  assert.equal(heard([[0, { message: "a", level: "warn" }], [1, { message: "b" }]]).view.level, undefined);
});

test("the time left is what the worker says, counted down", () => {
  const { left } = heard([[0, { percent: 10, etaSeconds: 60 }], [10, { percent: 11 }]]);
  assert.equal(left(10), 50);
  assert.equal(left(40), 20);
});

test("else it is that of the rate", () => {
  const { left } = heard([[0, { percent: 10 }], [10, { percent: 20 }], [20, { percent: 30 }]]);
  assert.equal(left(20), 70);
  assert.equal(left(50), 40);
  assert.equal(left(100), undefined, "nobody knows any more");
});

test("a rate is that of late, and begins anew with the work", () => {
  const slow = Array.from({ length: 30 }, (_, n) => [n * 100, { percent: n }]);
  const fast = Array.from({ length: 60 }, (_, n) => [2900 + n + 1, { percent: 30 + n }]);
  const { left } = heard([...slow, ...fast]);
  assert.ok(left(2960) < 20, `${left(2960)}`);
  assert.equal(heard([[0, { percent: 10 }], [10, { percent: 60 }], [11, { percent: 5 }]]).left(11), undefined);
  assert.equal(heard([[0, { percent: 10 }], [10, { percent: 60 }], [11, "pending"], [12, "in_progress"]]).left(12), undefined);
});

test("nothing is estimated from next to nothing, and not of what stands still", () => {
  assert.equal(heard([[0, { percent: 10 }]]).left(1), undefined);
  assert.equal(heard([[0, { percent: 10 }], [0.2, { percent: 11 }]]).left(1), undefined);
  assert.equal(heard([[0, { percent: 10 }], [9, { percent: 10 }]]).left(9), undefined);
  const stalled = heard([[0, { percent: 10 }], [9, { percent: 20 }]]);
  stalled.view.fold({ event: "stalled", data: { since: "" }, taskId: "t", timestamp: "" }, START);
  assert.equal(stalled.left(9), undefined);
});

test("a clock that is wrong here changes nothing", () => {
  for (const behind of [-3600, 3600]) {
    assert.equal(heard([[0, { percent: 10 }], [10, { percent: 20 }]], { behind }).left(10), 80);
  }
});

test("an error is shown in words, and whatever else it has beside it", () => {
  const failed = (error) => {
    const view = new TaskView();
    view.fold({ event: "status_change", data: { status: "failed", error }, taskId: "t", timestamp: "" }, 0);
    return view.error;
  };
  assert.deepEqual(failed({ message: "no" }), { text: "no" });
  assert.deepEqual(failed({ message: "no", code: 1 }), { text: "no", details: { message: "no", code: 1 } });
  assert.deepEqual(failed({ code: 1 }), { text: '{"code":1}' });
  assert.equal(failed(undefined), undefined);
});

test("a time is no more exact than anybody knows it", () => {
  const said = [0.2, 19, 21, 90, 150, 5400, 100_000, 200_000].map(inWords);
  assert.deepEqual(said, ["1 s", "19 s", "25 s", "2 min", "3 min", "2 h", "28 h", "2 days"]);
});
