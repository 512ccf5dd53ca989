/** Several readers on one stream, with a server that is scripted: what is asked, and who is told what. */
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { TaskTrackerError } from "../client.js";
import { share } from "../client/shared.js";
import { until } from "./harness.js";
import { frame, hang, head, problem, scripted, stream } from "./scripted.js";

const opened = (id, resumed) => head + frame(id, { event: "open", data: { resumed }, timestamp: "" });
const task = (id, taskId, taskType) => frame(id, { event: "task", data: { id: taskId, taskType, updatedAt: "2026-11-20T12:00:00.000Z" }, taskId, timestamp: "" });

/** What was begun in a test ends with it. */
let leaving = new AbortController();
afterEach(() => {
  leaving.abort();
  leaving = new AbortController();
});

/** Joins, and notes what it is told. */
function reader(options) {
  const ending = new AbortController();
  const heard = [];
  const note = (text) => void heard.push(text);
  const over = share({
    ...options,
    signal: AbortSignal.any([leaving.signal, ending.signal]),
    onOpen: ({ resumed }) => note(resumed ? "resumed" : "open"),
    onTask: ({ id }) => note(id),
    onResync: () => note("resync"),
  });
  over.catch((error) => note(error instanceof TaskTrackerError ? error.code : error.name));
  const hears = (...texts) => until(() => texts.length === heard.length || heard.length > texts.length, `${texts}, heard ${heard}`, 5000).then(() => assert.deepEqual(heard, texts));
  return { heard, over, hears, leave: () => ending.abort() };
}

/** A stream to which one can add. */
function growing(first) {
  let push;
  const answer = new Response(new ReadableStream({
    start(controller) {
      push = (text) => controller.enqueue(new TextEncoder().encode(text));
      push(first);
    },
  }), { headers: { "content-type": "text/event-stream" } });
  return { answer, push };
}
const queries = (asked) => asked.map(({ query }) => decodeURIComponent(query));

test("those who come at once are on one stream, which asks for what they want together", async () => {
  const { answer, push } = growing(opened("1", false));
  const { asked, options } = scripted([answer]);
  const [reports, mails] = [reader({ ...options, taskTypes: ["report"], progress: "none", everyMs: 1000 }), reader({ ...options, taskTypes: ["mail", "report"], statuses: ["pending"], everyMs: 500 })];
  await Promise.all([reports.hears("open"), mails.hears("open")]);
  push(task("2", "a", "report") + task("3", "b", "mail"));
  await Promise.all([reports.hears("open", "a"), mails.hears("open", "a", "b")]);
  assert.deepEqual(queries(asked), ["?taskType=mail&taskType=report&progress=latest&every=500ms"]);
});

test("one that joins later hears that it is open, and the others are not disturbed", async () => {
  const { answer, push } = growing(opened("1", false));
  const { asked, options } = scripted([answer]);
  const first = reader(options);
  await first.hears("open");
  push(task("2", "a", "t"));
  await first.hears("open", "a");
  const second = reader({ ...options, taskTypes: ["u"], progress: "none" });
  await second.hears("open");
  push(task("3", "b", "t") + task("4", "c", "u"));
  await Promise.all([first.hears("open", "a", "b", "c"), second.hears("open", "c")]);
  assert.equal(asked.length, 1);
});

test("another wish is another stream, which goes on where the one before was", async () => {
  const [narrow, wide, all] = [growing(opened("1", false) + task("2", "a", "t")), growing(opened("2", true) + task("3", "b", "u")), growing(opened("3", true) + task("4", "c", "v"))];
  const { asked, options } = scripted([narrow.answer, wide.answer, all.answer]);
  const first = reader({ ...options, taskTypes: ["t"] });
  await first.hears("open", "a");
  const second = reader({ ...options, taskTypes: ["u"] });
  await Promise.all([first.hears("open", "a", "resumed"), second.hears("open", "b")]);
  const third = reader(options);
  await Promise.all([second.hears("open", "b", "resumed"), third.hears("open", "c")]);
  assert.deepEqual(queries(asked), ["?taskType=t&progress=latest&every=250ms", "?taskType=t&taskType=u&progress=latest&every=250ms", "?progress=latest&every=250ms"]);
  assert.deepEqual(asked.map(({ last }) => last), [null, "2", "3"]);
});

test("who leaves hears no more, and with the last the stream ends", async () => {
  const { answer, push } = growing(opened("1", false));
  const later = growing(opened("1", false));
  const { asked, options } = scripted([answer, later.answer]);
  const [one, other] = [reader(options), reader(options)];
  await Promise.all([one.hears("open"), other.hears("open")]);
  one.leave();
  await assert.rejects(one.over, { name: "AbortError" });
  push(task("2", "a", "t"));
  await Promise.all([other.hears("open", "a"), one.hears("open", "AbortError")]);
  other.leave();
  await assert.rejects(other.over, { name: "AbortError" });
  // A new one begins anew: what happened in between it has to read.
  const third = reader(options);
  await third.hears("open");
  assert.deepEqual(asked.map(({ last }) => last), [null, null]);
});

test("one whose listener fails is told so, and nobody else", async () => {
  const { answer, push } = growing(opened("1", false));
  const { options } = scripted([answer]);
  const fails = share({ ...options, signal: leaving.signal, onOpen: () => Promise.reject(new RangeError("no")) });
  const other = reader(options);
  await assert.rejects(fails, RangeError);
  push(task("2", "a", "t"));
  await other.hears("open", "a");
});

test("what is refused to several may be the fault of one, which alone is refused", async () => {
  const { asked, options } = scripted([problem(400, "validation_failed"), problem(400, "validation_failed"), stream(opened("1", false), hang)]);
  const [bad, good] = [reader({ ...options, taskTypes: ["\n"] }), reader({ ...options, taskTypes: ["t"] })];
  await Promise.all([bad.hears("validation_failed"), good.hears("open")]);
  assert.deepEqual(queries(asked).slice(1), ["?taskType=\n&progress=latest&every=250ms", "?taskType=t&progress=latest&every=250ms"]);
});

test("a page that nobody looks at hangs up after a minute, and goes on where it was when somebody does", async () => {
  const page = Object.assign(new EventTarget(), { hidden: false });
  const look = (hidden) => {
    page.hidden = hidden;
    page.dispatchEvent(new Event("visibilitychange"));
  };
  globalThis.document = page;
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    let isHungUp = false;
    const held = (signal) => {
      signal.addEventListener("abort", () => (isHungUp = true));
      return stream(opened("1", false) + task("2", "a", "t"), hang);
    };
    const { asked, options } = scripted([held, stream(opened("2", true) + task("3", "b", "t"), hang)]);
    // Nothing else is due within these minutes.
    const one = reader({ ...options, timing: { openMs: 1e9, silenceMs: 1e9 } });
    const turns = async (fact) => {
      for (let turn = 0; turn < 1000 && !fact(); turn++) await new Promise(setImmediate);
      assert.ok(fact());
    };
    await turns(() => one.heard.length === 2);
    look(true);
    mock.timers.tick(59_000);
    look(false);
    mock.timers.tick(59_000);
    assert.equal(isHungUp, false, "somebody has looked");
    look(true);
    mock.timers.tick(60_000);
    assert.equal(isHungUp, true);
    look(false);
    await turns(() => one.heard.length === 4);
    assert.deepEqual([one.heard, asked.map(({ last }) => last)], [["open", "a", "resumed", "b"], [null, "2"]]);
  } finally {
    mock.timers.reset();
    delete globalThis.document;
  }
});
