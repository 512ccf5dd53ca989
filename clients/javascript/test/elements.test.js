/** The elements in a real browser, on a page with a strict policy, in front of a real server below a prefix. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { axe, launch, open, picture, show, site } from "./browser.js";
import { Server, timing, until } from "./harness.js";

let server, client, browser, proxy;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));
beforeEach(async () => (proxy = await site(server)));
afterEach(() => proxy.stop());

const bar = (element) => element.getByRole("progressbar");
const now = async (element) => Number(await bar(element).getAttribute("aria-valuenow"));
const text = (element, part) => element.locator(`[part="${part}"]`).innerText();
const width = (element) => element.locator('[part="fill"]').evaluate((fill) => fill.getBoundingClientRect().width);
const seqIds = (page, taskId) =>
  page.evaluate((id) => told.filter(({ taskId, event }) => taskId === id && event === "progress").map(({ seqId }) => seqId), taskId);
const isClean = ({ complaints, strangers }) => assert.deepEqual({ complaints, strangers }, { complaints: [], strangers: [] });

test("the bar moves while the task runs, and the element says how it ended", async () => {
  const taskId = await server.started();
  const site = await open(browser, proxy);
  const element = await show(site.page, taskId, { label: "Report of November" });
  await until(async () => (await text(element, "status")) === "Running", "running");
  assert.equal(await bar(element).getAttribute("aria-valuenow"), null, "nothing is known: it is indeterminate");
  assert.equal(await site.page.getByRole("progressbar", { name: "Report of November" }).count(), 1);
  let before = -1;
  for (const current of [1, 2, 3]) {
    await client.progress(taskId, { current, total: 4, message: `part ${current}`, stage: "reading" });
    await until(async () => (await now(element)) === current * 25, `${current} of 4`);
    await until(async () => (await width(element)) > before + 20, "the bar grows");
    before = await width(element);
    assert.equal(await text(element, "message"), `reading · part ${current} · ${current} of 4`);
  }
  await client.progress(taskId, { percent: 90, etaSeconds: 3600 });
  await until(async () => (await text(element, "time")) === "about 60 min left", "the time left");
  assert.match(await bar(element).getAttribute("aria-valuetext"), /^90%, Running, about 60 min left$/);
  await client.complete(taskId);
  await until(async () => (await text(element, "status")) === "Completed", "completed");
  assert.equal(await now(element), 100);
  assert.deepEqual(await seqIds(site.page, taskId), [1, 2, 3, 4]);
  const ends = await site.page.evaluate(() => told.filter(({ name }) => name !== "task-event"));
  assert.deepEqual(ends.map(({ name, status }) => [name, status]), [["task-end", "completed"]]);
  assert.equal(await element.getByRole("status").innerText(), "Report of November: Completed");
  isClean(site);
  assert.ok(proxy.asked.every((path) => !path.startsWith("/client")), "everything of it is below the prefix");
  await site.close();
});

test("what a page sets before the elements are there counts", async () => {
  const taskId = await server.started();
  await client.progress(taskId, { percent: 12 });
  const site = await open(browser, proxy);
  await site.page.evaluate(async (taskId) => {
    const frame = document.implementation.createHTMLDocument();
    const early = frame.createElement("task-progress");
    Object.assign(early, { taskId, headers: { "x-correlation-id": "early" } });
    document.querySelector("main").append(early);
  }, taskId);
  const element = site.page.locator(`task-progress[task-id="${taskId}"]`);
  await until(async () => (await now(element)) === 12, "12%");
  isClean(site);
  await site.close();
});

test("a stream that is cut goes on with no entry missing", async () => {
  const taskId = await server.started();
  const site = await open(browser, proxy);
  const element = await show(site.page, taskId, { timing });
  await until(async () => (await text(element, "status")) === "Running", "running");
  for (let percent = 1; percent <= 60; percent++) {
    await client.progress(taskId, { percent });
    if (percent % 25 === 0) {
      await until(async () => (await now(element)) >= percent - 10, "it is listening");
      proxy.cut();
    }
  }
  await client.complete(taskId);
  await until(async () => (await text(element, "status")) === "Completed", "completed");
  assert.deepEqual(await seqIds(site.page, taskId), Array.from({ length: 60 }, (_, n) => n + 1));
  // The browser itself notes connections that break, and nothing else is said.
  assert.deepEqual(site.complaints.filter((text) => !/net::ERR_/.test(text)), []);
  await site.close();
});

test("a proxy that holds streams back does not hold the bar back", async () => {
  const taskId = await server.started();
  proxy.fault = "mute";
  const site = await open(browser, proxy);
  const element = await show(site.page, taskId, { timing });
  for (const percent of [10, 55]) {
    await client.progress(taskId, { percent });
    await until(async () => (await now(element)) === percent, `${percent}%`);
  }
  assert.equal(await element.evaluate((element) => element.connection.state), "polling");
  await client.fail(taskId, { error: { message: "the disk is full", path: "/var/lib", code: 28 } });
  await until(async () => (await text(element, "error")) === "the disk is full", "the error");
  assert.equal(await now(element), 55, "how far it came");
  await site.page.keyboard.press("Tab");
  await site.page.keyboard.press("Enter");
  assert.match(await text(element, "details-text"), /"path": "\/var\/lib"/);
  isClean(site);
  await site.close();
});

test("it follows whatever task it is given, and nobody once it is taken away", async () => {
  const [first, second] = [await server.started(), await server.started()];
  await client.progress(first, { percent: 30 });
  await client.progress(second, { percent: 70 });
  const site = await open(browser, proxy);
  const shown = await show(site.page, first);
  await until(async () => (await now(shown)) === 30, "the first");
  await shown.evaluate((element, id) => (element.taskId = id), second);
  const element = site.page.locator("task-progress");
  await until(async () => (await now(element)) === 70, "the second");
  const streams = async () => Number(/^streams_open (\d+)$/m.exec(await (await fetch(`${server.url}metrics`)).text())?.[1]);
  await until(async () => (await streams()) === 1, "one stream");
  await element.evaluate((element) => element.remove());
  await until(async () => (await streams()) === 0, "no stream");
  const nobody = await show(site.page, "nobody");
  await until(async () => (await text(nobody, "status")) === "Unavailable", "refused");
  assert.match(await text(nobody, "error"), /nobody/);
  const errors = await site.page.evaluate(() => told.filter(({ name }) => name === "task-error"));
  assert.deepEqual(errors.map(({ code }) => code), ["task_not_found"]);
  await site.close();
});

test("a screen reader hears what has changed, and not every percent", async () => {
  const taskId = await server.started();
  await client.progress(taskId, { percent: 1 });
  const site = await open(browser, proxy);
  const element = await show(site.page, taskId);
  await until(async () => (await now(element)) === 1, "shown");
  await element.evaluate((element) => {
    globalThis.heard = [];
    const live = element.shadowRoot.querySelector('[role="status"]');
    new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
  });
  for (let percent = 2; percent <= 99; percent++) await client.progress(taskId, { percent });
  await client.complete(taskId);
  await until(async () => (await text(element, "status")) === "Completed", "completed");
  const heard = await site.page.evaluate(() => heard);
  assert.ok(heard.length <= 4, `${heard.length} times`);
  assert.equal(heard.at(-1), `${taskId}: Completed`);
  await site.close();
});

/** One task of each kind, as a page might have them. */
async function gallery(page) {
  const made = {};
  const add = async (name, label, entries, finish = () => {}) => {
    const taskId = name === "waiting" ? (await client.register({ taskType: "gallery" })).taskId : await server.started("gallery");
    for (const entry of entries) await client.progress(taskId, entry);
    await finish(taskId);
    made[name] = await show(page, taskId, { label });
  };
  await add("waiting", "Invoices of December", []);
  await add("unknown", "Rebuilding the search index", [{ message: "collecting documents" }]);
  await add("running", "Report of November", [{ current: 412, total: 1000, stage: "reading", message: "orders of Berlin", etaSeconds: 185 }]);
  await add("warned", "Import of customers", [{ percent: 71, message: "3 rows have no address", level: "warning" }]);
  await add("cancelling", "Thumbnails", [{ percent: 18, message: "summer.jpg" }], (id) => client.cancel(id, { graceSeconds: 600 }));
  await add("completed", "Nightly backup", [{ percent: 99 }], (id) => client.complete(id, { result: { rows: 42 } }));
  const error = { message: "the disk is full", path: "/var/lib/exports", code: 28 };
  await add("failed", "Export to the warehouse", [{ percent: 64 }], (id) => client.fail(id, { error }));
  await add("timeout", "Geocoding", [{ percent: 35 }], (id) => client.timeOut(id));
  await add("cancelled", "Newsletter", [{ percent: 52 }], (id) => client.cancel(id, { force: true, reason: "sent by mistake" }));
  const words = { waiting: "Waiting", unknown: "Running", running: "Running", warned: "Running", cancelling: "Cancelling", completed: "Completed", failed: "Failed", timeout: "Timed out", cancelled: "Cancelled" };
  for (const [name, word] of Object.entries(words)) {
    await until(async () => (await text(made[name], "status")) === word, `${name}: ${word}`);
  }
  return made;
}

for (const colorScheme of ["light", "dark"]) {
  test(`nothing is hard to read or to reach, ${colorScheme}`, async () => {
    // Its own script runs outside of the page's policy; everything else is under it.
    const site = await open(browser, proxy, { colorScheme, reducedMotion: "reduce" });
    const made = await gallery(site.page);
    await made.failed.locator("summary").click();
    await picture(site.page, `elements-${colorScheme}`);
    await site.page.evaluate(await axe());
    const { violations } = await site.page.evaluate(() => globalThis.axe.run());
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => [html, failureSummary])]), []);
    isClean(site);
    await site.close();
  });
}

test("what moves stands still for those who wish it, and colours are the system's where they are forced", async () => {
  const site = await open(browser, proxy, { forcedColors: "active", reducedMotion: "reduce" });
  const made = await gallery(site.page);
  const style = (element, part, name) => element.locator(`[part="${part}"]`).evaluate((node, name) => getComputedStyle(node)[name], name);
  assert.equal(await style(made.unknown, "fill", "animationName"), "none");
  assert.equal(await style(made.running, "fill", "transitionDuration"), "0s");
  assert.notEqual(await style(made.running, "bar", "borderTopWidth"), "0px");
  await picture(site.page, "elements-forced");
  await site.close();
});
