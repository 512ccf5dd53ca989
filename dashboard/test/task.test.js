/** The page of a task: it moves, nothing is missing, and the past can be seen. */
import assert from "node:assert/strict";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { findings, isClean, launch, picture, Proxy, Server, until } from "./harness.js";
import { button, far, has, is, lines, marks, own, place, says, shown, slider, taken, word, show as open } from "./task.js";

let server, client, browser;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));
const show = (id, { home = server.url, ...options } = {}) => open(browser, home, id, options);

test("a task that runs is seen to move, with no reload, to its end", async () => {
  const { taskId } = await client.register({ taskType: "report", params: { month: 11 }, metadata: { title: "Report of November" } });
  const site = await show(taskId);
  const { page } = site;
  await is(page, "Waiting");
  assert.equal(await page.locator("h1").innerText(), "Report of November");
  await has(page, "no worker has asked for tasks of type report");
  await client.claim({ taskTypes: ["report"], workerId: "worker-7", leaseSeconds: 60 });
  await is(page, "Running");
  await until(async () => (await page.locator(".facts").innerText()).includes("worker-7"), "its worker");
  for (const [n, stage] of ["reading", "reading", "writing"].entries()) {
    await client.progress(taskId, { percent: 20 + n * 25, stage, message: `part ${n}` }, { workerId: "worker-7" });
    await until(async () => (await far(page)) === 20 + n * 25, `${20 + n * 25}%`);
    await until(async () => (await says(page)) === `part ${n}`, `part ${n}`);
    assert.equal(await page.locator(".stages [aria-current]").innerText(), stage);
    assert.equal(await place(page), `Entry ${n + 1} of ${n + 1}`);
  }
  assert.match(await page.locator(".why").innerText(), /worker-7 has it/);
  await client.complete(taskId, { workerId: "worker-7", result: { rows: 42 } });
  await is(page, "Completed");
  await until(async () => (await far(page)) === 100, "100%");
  await until(async () => (await page.getByRole("tree", { name: "Result" }).innerText()).replace(/\s/g, "").includes("rows:42"), "its result");
  assert.deepEqual(await lines(page), ["Registered", "Started by worker-7", "part 0", "part 1", "part 2", "Completed"]);
  assert.equal(site.loads.length, 1);
  isClean(site);
  await site.close();
});

test("a network that is cut, again and again, leaves no entry out", async () => {
  const proxy = await Proxy.start(server.url);
  const taskId = await server.started("cut");
  const site = await show(taskId, { home: proxy.url });
  await is(site.page, "Running");
  for (let n = 1; n <= 90; n++) {
    await client.progress(taskId, { percent: n, message: `entry ${n}` });
    if (n % 30 !== 0) continue;
    await until(async () => (await far(site.page)) >= n - 5, `it listens at ${n}`);
    proxy.cut();
  }
  await client.complete(taskId);
  await is(site.page, "Completed");
  await until(async () => (await place(site.page)) === "Entry 90 of 90", "all of them");
  const { progressHistory } = await client.get(taskId);
  assert.deepEqual((await shown(site.page)).map(({ timestamp, ...entry }) => entry), progressHistory);
  assert.deepEqual(own(site), []);
  await site.close();
  await proxy.stop();
});

test("a server that is killed and started again is gone back to, and it says so meanwhile", async () => {
  const mine = await Server.start();
  const taskId = await mine.started("killed");
  await mine.client.progress(taskId, [{ percent: 10 }, { percent: 20 }]);
  const site = await show(taskId, { home: mine.url });
  await until(async () => (await far(site.page)) === 20, "20%");
  await mine.kill("SIGKILL");
  await has(site.page, "nothing will be missing");
  await mine.startAgain();
  for (let percent = 21; percent <= 60; percent++) await mine.client.progress(taskId, { percent });
  await until(async () => (await far(site.page)) === 60, "60%");
  await mine.client.fail(taskId, { error: { message: "the disk is full" } });
  await is(site.page, "Failed");
  await until(async () => (await says(site.page)) === "the disk is full", "why");
  const { progressHistory } = await mine.client.get(taskId);
  assert.deepEqual((await shown(site.page)).map(({ timestamp, ...entry }) => entry), progressHistory);
  assert.ok(!(await site.page.locator("main").innerText()).includes("nothing will be missing"));
  assert.deepEqual(own(site), []);
  await site.close();
  await mine.stop();
});

test("the past is shown as it was, and what comes meanwhile does not disturb it", async () => {
  const taskId = await server.started("past");
  for (let n = 1; n <= 20; n++) await client.progress(taskId, { percent: n * 4, stage: n < 10 ? "first" : "second", message: `step ${n}`, detail: { n } });
  const site = await show(taskId);
  const { page } = site;
  await until(async () => (await place(page)) === "Entry 20 of 20", "all of them");
  await slider(page).focus();
  for (let n = 0; n < 15; n++) await page.keyboard.press("ArrowLeft");
  await until(async () => (await place(page)) === "Entry 5 of 20", "entry 5");
  assert.match(await slider(page).getAttribute("aria-valuetext"), /^Entry 5 of 20, .*\d\d:\d\d:\d\d\.\d{3}$/);
  assert.equal(await far(page), 20);
  assert.equal(await says(page), "step 5");
  assert.equal(await page.locator(".stages [aria-current]").innerText(), "first");
  assert.deepEqual(await page.locator(".stages li").evaluateAll((all) => all.map(({ dataset }) => dataset.state)), ["present", "later"]);
  assert.match((await page.getByRole("tree", { name: "Entry 5" }).innerText()).replace(/\s/g, ""), /"step5".*n:5/);
  await has(page, "As it stood with entry 5");
  await client.progress(taskId, { percent: 90, message: "later" });
  await until(async () => (await place(page)) === "Entry 5 of 21", "one more came");
  assert.equal(await far(page), 20);
  await page.getByRole("option", { name: /step 9/ }).click();
  await until(async () => (await place(page)) === "Entry 9 of 21", "a line leads to its entry");
  await button(page, "The next entry").click();
  await until(async () => (await place(page)) === "Entry 10 of 21", "the next");
  await button(page, "Live").click();
  await until(async () => (await far(page)) === 90, "now");
  await client.progress(taskId, { percent: 95 });
  await until(async () => (await far(page)) === 95, "it goes on");
  await button(page, "Play").click();
  await until(async () => (await far(page)) < 20, "from the beginning");
  await until(async () => (await place(page)) === "Entry 22 of 22" && (await button(page, "Play").count()) === 1, "to the end");
  isClean(site);
  await site.close();
});

test("a log is searched, filtered, followed and taken along", async () => {
  const taskId = await server.started("log");
  const levels = ["debug", "info", "warn", "error"];
  await client.progress(taskId, Array.from({ length: 200 }, (_, n) => ({ message: `line ${n + 1} of <b>Berlin</b>`, level: levels[n % 4] })));
  const site = await show(taskId);
  const { page } = site;
  const log = page.getByRole("listbox", { name: "Log" });
  const count = page.locator(".log-count");
  await until(async () => (await lines(page)).includes("line 200 of <b>Berlin</b>"), "the end");
  await page.getByRole("searchbox").fill("LINE 12");
  await until(async () => (await count.innerText()) === "11 of 11", "line 12, and 120 to 129");
  assert.equal(await page.locator('[role="option"][aria-selected="true"] mark').innerText(), "line 12");
  const active = () => page.locator('[role="option"][aria-selected="true"] .line-text').innerText();
  assert.equal(await active(), "line 129 of <b>Berlin</b>");
  await page.keyboard.press("Enter");
  await until(async () => (await count.innerText()) === "1 of 11", "around");
  await until(async () => (await active()) === "line 12 of <b>Berlin</b>", "line 12");
  await button(page, "The match before").click();
  await until(async () => (await active()) === "line 129 of <b>Berlin</b>", "and back");
  await page.getByRole("searchbox").fill("nowhere");
  await until(async () => (await count.innerText()) === "No match", "none");
  await page.getByRole("searchbox").fill("");
  await page.getByRole("combobox", { name: "Levels" }).selectOption("Errors");
  await until(async () => (await lines(page)).every((text) => /line \d*[02468] |Started|Registered/.test(text)), "errors only");
  assert.equal(await log.getByRole("option").first().getAttribute("aria-setsize"), "52", "50 errors, and what happened");
  await page.getByRole("combobox", { name: "Levels" }).selectOption("All levels");
  // It stays where one has scrolled to, until it is to follow.
  await button(page, "Follow").click();
  await log.evaluate((element) => element.scrollTo(0, 0));
  await until(async () => (await lines(page))[0] === "Registered", "the beginning");
  assert.equal(await button(page, "Follow").getAttribute("aria-pressed"), "false");
  await client.progress(taskId, { message: "a new line" });
  await until(async () => (await place(page)) === "Entry 201 of 201", "it came");
  assert.equal(await log.evaluate((element) => element.scrollTop), 0);
  await button(page, "Follow").click();
  await until(async () => (await lines(page)).at(-1) === "a new line", "it follows");
  await log.focus();
  for (const key of ["ArrowUp", "ArrowUp"]) await page.keyboard.press(key);
  await until(async () => (await active()) === "line 200 of <b>Berlin</b>", "by the keyboard");
  await page.keyboard.press("Enter");
  await until(async () => (await place(page)) === "Entry 200 of 201", "shown");
  const text = await taken(page, /^Text/);
  assert.equal(text.name, `${taskId}.log`);
  assert.match(text.text.split("\n")[4], /^20\d\d-\S+Z WARN  line 3 of <b>Berlin<\/b>$/);
  assert.equal((await shown(page)).length, 201);
  isClean(site);
  await site.close();
});

test("what is lost, what stalls and who wants it to end stands in its place", async () => {
  const mine = await Server.start();
  const { taskId } = await mine.client.register({ taskType: "marks", stallSeconds: 1 });
  await mine.client.start(taskId, { workerId: "w" });
  await mine.client.progress(taskId, [{ message: "one" }, { message: "two" }], { workerId: "w" });
  const site = await show(taskId, { home: mine.url });
  await until(async () => (await marks(site.page)).includes("Stalled: no progress for too long"), "it stalled");
  await is(site.page, "Stalled");
  await mine.client.progress(taskId, { message: "three" }, { workerId: "w" });
  await until(async () => (await marks(site.page)).includes("Recovered: there is progress again"), "it recovered");
  // The live log is gone, as with a disk that was lost; what was sealed is not.
  await mine.kill("SIGKILL");
  for (const file of await readdir(mine.data)) if (file.startsWith("live.db")) await rm(join(mine.data, file));
  await mine.startAgain();
  await until(async () => (await mine.client.progress(taskId, { message: "after" }, { workerId: "w" }).catch(() => undefined)) !== undefined, "it goes on");
  await until(async () => (await marks(site.page)).some((text) => /^Entries \d+ to \d+ were lost$|^Entry \d+ was lost$/.test(text)), "a gap");
  await mine.client.cancel(taskId, { reason: "no longer needed", graceSeconds: 600 });
  await until(async () => (await marks(site.page)).some((text) => /^Asked to end.*: no longer needed$/.test(text)), "asked to end");
  const said = await lines(site.page);
  const order = ["Stalled: no progress for too long", "three", "after"].map((text) => said.indexOf(text));
  assert.deepEqual(order, [...order].sort((a, b) => a - b));
  assert.ok(said.findIndex((text) => /lost$/.test(text)) < said.indexOf("after"), `${said}`);
  await is(site.page, "Cancelling");
  assert.equal(await button(site.page, "Cancel now…").isVisible(), true);
  assert.deepEqual(own(site), []);
  await site.close();
  await mine.stop();
});

test("whatever a task is called or says is text", async () => {
  const evil = `"><img src=x onerror="globalThis.evil=1"><script>globalThis.evil=1</script>`;
  const json = { [evil]: evil, ["__proto__"]: { a: evil } };
  const { taskId } = await client.register({ taskType: evil, taskId: "x:1.2-_", params: json, metadata: { title: evil, [evil]: [evil] } });
  await client.start(taskId, { workerId: evil });
  await client.progress(taskId, { percent: 5, stage: evil, message: evil, level: evil, [evil]: evil }, { workerId: evil });
  const site = await show(taskId);
  await until(async () => (await says(site.page)).startsWith('"><img'), "its message");
  assert.equal(await site.page.locator("h1").innerText(), evil);
  await site.page.getByRole("searchbox").fill("<img");
  await until(async () => (await site.page.locator(".line mark").count()) > 0, "found");
  await button(site.page, "Copy as curl…").click();
  await button(site.page, "Close").click();
  await button(site.page, "Cancel…").click();
  await button(site.page, "Cancel the task").click();
  await is(site.page, "Cancelling");
  await client.fail(taskId, { workerId: evil, error: { message: evil } });
  await until(async () => ["Failed", "Cancelled"].includes(await word(site.page)), "ended");
  assert.equal(await site.page.evaluate(() => globalThis.evil), undefined);
  assert.equal(await site.page.locator("main img, main script").count(), 0);
  isClean(site);
  await site.close();
});

test("ten thousand entries and a megabyte of JSON are no burden", async () => {
  const params = { rows: Array.from({ length: 9_000 }, (_, n) => ({ n, text: "x".repeat(60) })), long: "y".repeat(150_000) };
  const { taskId } = await client.register({ taskType: "large", params });
  await client.start(taskId);
  for (let n = 0; n < 10_000; n += 1_000) {
    await client.progress(taskId, Array.from({ length: 1_000 }, (_, k) => ({ percent: (n + k) / 100, message: `line ${n + k + 1}`, stage: `stage ${Math.floor(n / 2_000)}` })));
  }
  const site = await show(taskId);
  const { page } = site;
  await until(async () => (await place(page)) === "Entry 10,000 of 10,000", "all of them", 60_000);
  assert.ok((await page.locator(".line").count()) < 120, "as many lines as can be seen");
  assert.ok((await page.locator('[role="treeitem"]').count()) < 400, "as much of a tree as is open");
  // However busy the machine: what takes a frame takes no second, and the page has no long pause.
  const took = await page.evaluate(async () => {
    const slider = document.querySelector('input[type="range"]');
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const times = [];
    for (let n = 0; n < 40; n++) {
      const began = performance.now();
      slider.value = String((n * 2_377) % 10_000);
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      await frame();
      await frame();
      times.push(performance.now() - began);
    }
    return times.sort((a, b) => a - b)[20];
  });
  assert.ok(took < 500, `${took} ms in the middle`);
  await page.getByRole("searchbox").fill("line 777");
  await until(async () => (await page.locator(".log-count").innerText()) === "11 of 11", "found");
  const tree = page.getByRole("tree", { name: "Params" });
  await tree.getByText(/^rows/).click();
  await until(async () => (await tree.innerText()).includes("8,900"), "a hundred of them");
  await tree.getByText("150,000 characters, show all").click();
  await until(async () => (await tree.innerText()).length > 20_000, "more of it");
  isClean(site);
  await site.close();
});

test("a tree of JSON is gone through with the keyboard", async () => {
  const { taskId } = await client.register({ taskType: "tree", params: { a: { b: [1, 2] }, c: "text", big: 1.5, none: null, yes: true } });
  const site = await show(taskId);
  const { page } = site;
  const tree = page.getByRole("tree", { name: "Params" });
  await tree.waitFor();
  await tree.locator('[tabindex="0"]').focus();
  const active = () => page.evaluate(() => document.activeElement.querySelector(".tree-row").textContent);
  for (const [key, text] of [["ArrowDown", "a: { 1 }"], ["ArrowRight", "b: [ 2 ]"], ["ArrowDown", "0: 1"], ["ArrowLeft", "b: [ 2 ]"], ["ArrowLeft", "b: [ 2 ]"], ["ArrowDown", 'c: "text"'], ["End", "yes: true"], ["Home", "{ 5 }"]]) {
    await page.keyboard.press(key);
    assert.equal(await active(), text, key);
  }
  assert.equal(await tree.getByRole("treeitem", { name: /^b/ }).first().getAttribute("aria-expanded"), "false");
  isClean(site);
  await site.close();
});

test("a task that is not there is said not to be", async () => {
  const site = await show("nobody/at:all");
  await has(site.page, "There is no such task");
  assert.match(await site.page.locator("main").innerText(), /nobody\/at:all/);
  await site.close();
});

for (const colorScheme of ["light", "dark"]) {
  test(`nothing of it is hard to read or to reach, ${colorScheme}, wide and on a phone`, async () => {
    const { taskId } = await client.register({ taskType: "report.build", params: { month: "2026-11", regions: ["north", "south"], draft: false, note: null }, metadata: { title: "Report of November" } });
    await client.claim({ taskTypes: ["report.build"], workerId: "worker-7", leaseSeconds: 3600 });
    const stages = ["Collecting", "Reading", "Drawing"];
    for (let n = 1; n <= 60; n++) {
      await client.progress(taskId, { percent: n, stage: stages[Math.floor(n / 25)], message: n % 14 === 0 ? `${n} rows have no address` : n % 23 === 0 ? "connection reset, trying again" : `orders of day ${n}`, level: n % 14 === 0 ? "warn" : n % 23 === 0 ? "error" : "info", current: n * 200, total: 20_000 }, { workerId: "worker-7" });
    }
    for (const [form, size] of [["wide", { width: 1440, height: 1000 }], ["phone", { width: 390, height: 844 }]]) {
      const site = await show(taskId, { colorScheme, reducedMotion: "reduce", ...size });
      await until(async () => (await place(site.page)) === "Entry 60 of 60", "all of them");
      await has(site.page, "worker-7 has it");
      await picture(site.page, `task-${form}-${colorScheme}`);
      assert.deepEqual(await findings(site.page), []);
      assert.ok(await site.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${form}: nothing is wider than the page`);
      await slider(site.page).focus();
      for (let n = 0; n < 14; n++) await site.page.keyboard.press("ArrowLeft");
      await site.page.getByRole("searchbox").fill("connection");
      await has(site.page, "As it stood with entry 46");
      assert.deepEqual(await findings(site.page), []);
      await button(site.page, "Cancel…").click();
      assert.deepEqual(await findings(site.page), []);
      isClean(site);
      await site.close();
    }
    await client.fail(taskId, { workerId: "worker-7", error: { message: "the disk is full", code: 28 } });
    const failed = await show(taskId, { colorScheme, reducedMotion: "reduce" });
    await is(failed.page, "Failed");
    await until(async () => (await failed.page.getByRole("tree", { name: "Error" }).count()) === 1, "why");
    assert.deepEqual(await findings(failed.page), []);
    await failed.close();
  });
}
