/** The elements that show several tasks, in a real browser, under a strict policy, in front of a real server below a prefix. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { axe, launch, open, picture, site } from "./browser.js";
import { Server, timing, until } from "./harness.js";

let server, client, browser, proxy;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));
beforeEach(async () => (proxy = await site(server)));
afterEach(() => proxy.stop());

const isClean = ({ complaints, strangers }) => assert.deepEqual({ complaints, strangers }, { complaints: [], strangers: [] });
const streams = () => proxy.asked.filter((path) => path.includes("/events"));

/** Adds an element with these attributes. */
async function add(page, tag, attributes = {}, text = "") {
  await page.evaluate(([tag, attributes, text, timing]) => {
    const element = document.createElement(tag);
    Object.assign(element, { timing });
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.innerHTML = text;
    document.querySelector("main").append(element);
  }, [tag, attributes, text, timing]);
  return page.locator(tag);
}
/** What the rows say: label, percent and status of each. */
const rows = (element) => element.locator("li").evaluateAll((all) => all.map((row) => ["label", "percent", "status"].map((part) => row.querySelector(`[part="${part}"]`).textContent)));
const labels = async (element) => (await rows(element)).map(([label]) => label);
const row = (element, id) => element.locator(`li[data-task-id="${id}"]`);
const registered = async (taskType, title) => (await client.register({ taskType, ...(title && { metadata: { title } }) })).taskId;

test("the newest tasks are shown live, all by one stream", async () => {
  const first = await registered("live", "First");
  const page = await open(browser, proxy);
  const list = await add(page.page, "task-list", { "task-type": "live", limit: "3", label: "Jobs" });
  await until(async () => (await rows(list)).join() === "First,,Waiting", "the first");
  await client.start(first);
  await client.progress(first, { percent: 25, message: "on it" });
  await until(async () => (await rows(list)).join() === "First,25%,Running", "it moves");
  assert.equal(await row(list, first).getByRole("progressbar", { name: "First" }).getAttribute("aria-valuenow"), "25");
  const others = [];
  for (const title of ["Second", "Third", "Fourth"]) others.push(await registered("live", title));
  await registered("elsewhere", "Not this");
  await until(async () => (await labels(list)).join() === "Fourth,Third,Second", "the newest three");
  await client.start(others[2]);
  await client.fail(others[2], { error: { message: "the disk is full" } });
  await until(async () => (await rows(list))[0].join() === "Fourth,,Failed", "it failed");
  assert.equal(await row(list, others[2]).locator('[part="error"]').innerText(), "the disk is full");
  await until(async () => (await list.getByRole("status").innerText()) === "Fourth: Failed", "it is said");
  assert.equal(await page.page.getByRole("list", { name: "Jobs" }).count(), 1);
  assert.equal(streams().length, 1);
  const told = await page.page.evaluate(() => [document.querySelector("task-list").connection.state]);
  assert.deepEqual(told, ["streaming"]);
  isClean(page);
  await page.close();
});

test("of a filter by status those that leave it go, and others take their place", async () => {
  const ids = [];
  for (const title of ["a", "b", "c", "d"]) ids.push(await registered("leaves", title));
  const page = await open(browser, proxy);
  const list = await add(page.page, "task-list", { "task-type": "leaves", status: "pending, in_progress", limit: "2" });
  await until(async () => (await labels(list)).join() === "d,c", "the newest two");
  await client.start(ids[3]);
  await client.complete(ids[3]);
  await until(async () => (await labels(list)).join() === "c,b", "another takes the place");
  isClean(page);
  await page.close();
});

test("a server that is killed and started again is gone back to, and what came meanwhile is there", async () => {
  const own = await Server.start();
  const page = await open(browser, await (proxy.target = own.url, proxy));
  const list = await add(page.page, "task-list", { "task-type": "killed" });
  const first = (await own.client.register({ taskType: "killed", metadata: { title: "before" } })).taskId;
  await until(async () => (await labels(list)).join() === "before", "before");
  await own.kill("SIGKILL");
  await until(async () => (await list.evaluate((element) => element.connection.state)) !== "streaming", "it notices");
  await own.startAgain();
  await own.client.register({ taskType: "killed", metadata: { title: "after" } });
  await own.client.start(first);
  await until(async () => JSON.stringify(await rows(list)) === '[["after","","Waiting"],["before","","Running"]]', "both");
  await page.close();
  await own.stop();
});

test("polls bring it where streams are held back, and a refusal is said", async () => {
  proxy.fault = "mute";
  const page = await open(browser, proxy);
  const list = await add(page.page, "task-list", { "task-type": "muted" }, '<b slot="empty">Nothing to do</b>');
  await until(async () => list.locator("b").isVisible(), "nothing yet");
  await registered("muted", "by polls");
  await until(async () => (await labels(list)).join() === "by polls", "by polls");
  await list.evaluate((element) => element.setAttribute("status", "nonsense"));
  await until(async () => list.getByRole("alert").isVisible(), "refused");
  assert.match(await list.getByRole("alert").innerText(), /status/);
  await page.close();
});

test("what tasks are called is text, and a row leads where it is said to", async () => {
  const evil = '<img src=x onerror="globalThis.evil=1"><script>globalThis.evil=1</script>';
  const { taskId } = await client.register({ taskType: "evil", taskId: "a:b", metadata: { title: evil } });
  const page = await open(browser, proxy);
  const list = await add(page.page, "task-list", { "task-type": "evil", href: "#/tasks/{id}" });
  await until(async () => (await labels(list)).join() === evil, "as text");
  assert.equal(await row(list, taskId).getByRole("link").getAttribute("href"), "#/tasks/a%3Ab");
  assert.equal(await page.page.evaluate(() => globalThis.evil), undefined);
  isClean(page);
  await page.close();
});

test("the head of a page says how many run, and opens when a task is added, without taking the focus", async () => {
  await registered("recent", "Old one");
  const page = await open(browser, proxy);
  const recent = await add(page.page, "task-recent", { "task-type": "recent", "open-on-add": "", href: "#/tasks/{id}" }, "Jobs");
  const button = page.page.getByRole("button", { name: /^Jobs/ });
  const panel = page.page.getByRole("group", { name: "Recent tasks" });
  await until(async () => (await recent.locator("li").count()) === 1, "listed");
  assert.equal(await button.getAttribute("aria-expanded"), "false");
  assert.equal(await panel.isVisible(), false);
  await page.page.evaluate(() => {
    const field = document.createElement("input");
    field.setAttribute("aria-label", "field");
    document.querySelector("main").append(field);
    field.focus();
  });
  const added = await registered("recent", "New one");
  await until(() => panel.isVisible(), "it opens");
  assert.equal(await page.page.evaluate(() => document.activeElement.tagName), "INPUT");
  assert.deepEqual(await labels(recent), ["New one", "Old one"]);
  await client.start(added);
  const called = (name) => until(async () => (await page.page.getByRole("button", { name }).count()) === 1, String(name));
  await called(/^Jobs ?, 1 running$/);
  assert.equal(await recent.locator('[part="count"]').innerText(), "1");
  // Elsewhere is pressed: it closes.
  await page.page.mouse.click(5, 700);
  await until(async () => !(await panel.isVisible()), "it closes");
  await client.complete(added);
  await called(/^Jobs$/);
  assert.equal(await panel.isVisible(), false, "what happens to tasks opens nothing");
  assert.equal(streams().length, 1);
  isClean(page);
  await page.close();
});

test("it can be used with the keyboard alone", async () => {
  for (const title of ["one", "two", "three"]) await registered("keys", title);
  const page = await open(browser, proxy);
  const recent = await add(page.page, "task-recent", { "task-type": "keys", href: "#/tasks/{id}" });
  await until(async () => (await recent.locator("li").count()) === 3, "listed");
  const { keyboard } = page.page;
  const focused = () => page.page.evaluate(() => document.activeElement.shadowRoot?.activeElement?.textContent.trim());
  const isOpen = () => recent.evaluate((element) => element.open);
  await keyboard.press("Tab");
  assert.equal(await focused(), "Tasks");
  await keyboard.press("Enter");
  assert.equal(await isOpen(), true);
  await keyboard.press("Escape");
  assert.equal(await isOpen(), false);
  assert.equal(await focused(), "Tasks");
  await keyboard.press("ArrowDown");
  assert.deepEqual([await isOpen(), await focused()], [true, "three"]);
  for (const [key, at] of [["ArrowDown", "two"], ["End", "one"], ["ArrowDown", "one"], ["Home", "three"], ["ArrowUp", "Tasks"], ["ArrowDown", "three"]]) {
    await keyboard.press(key);
    assert.equal(await focused(), at, key);
  }
  // A row that comes does not take the focus from the one that has it.
  await registered("keys", "four");
  await until(async () => (await recent.locator("li").count()) === 4, "a fourth");
  assert.equal(await focused(), "three");
  await keyboard.press("Enter");
  assert.match(page.page.url(), /#\/tasks\//);
  assert.equal(await isOpen(), false, "who goes there has chosen");
  await recent.evaluate((element) => (element.open = true));
  await recent.getByRole("button").focus();
  await keyboard.press("Shift+Tab");
  isClean(page);
  await page.close();
});

for (const colorScheme of ["light", "dark"]) {
  test(`nothing is hard to read or to reach, ${colorScheme}`, async () => {
    const type = `gallery-${colorScheme}`;
    const running = await registered(type, "Report of November");
    await client.start(running);
    await client.progress(running, { percent: 41, stage: "reading", message: "3 rows have no address", level: "warning" });
    const failed = await registered(type, "Export to the warehouse");
    await client.start(failed);
    await client.fail(failed, { error: { message: "the disk is full" } });
    const done = await registered(type, "Nightly backup");
    await client.start(done);
    await client.complete(done);
    await client.cancel(await registered(type, "Newsletter"), { reason: "sent by mistake" });
    await registered(type);
    const page = await open(browser, proxy, { colorScheme, reducedMotion: "reduce" });
    const recent = await add(page.page, "task-recent", { "task-type": type, href: "#/tasks/{id}" });
    const list = await add(page.page, "task-list", { "task-type": type, label: "Other tasks", href: "#/tasks/{id}" });
    await until(async () => (await list.locator("li").count()) === 5 && (await recent.locator("li").count()) === 5, "all of them");
    await picture(page.page, `list-${colorScheme}`);
    const check = async () => {
      const { violations } = await page.page.evaluate(() => globalThis.axe.run());
      const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => [html, failureSummary])]), []);
    };
    // Its own script runs outside of the page's policy; everything else is under it.
    await page.page.evaluate(await axe());
    await check();
    await recent.evaluate((element) => (element.open = true));
    await picture(page.page, `recent-${colorScheme}`);
    await check();
    const box = await recent.locator('[part="panel"]').boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 640, "it is in the window");
    isClean(page);
    await page.close();
  });
}

test("what a page sets before the elements are there counts, and one that is taken away follows nothing", async () => {
  await registered("early", "Early");
  const page = await open(browser, proxy);
  await page.page.evaluate(() => {
    const early = document.implementation.createHTMLDocument().createElement("task-list");
    Object.assign(early, { taskType: "early", limit: 5, headers: { "x-correlation-id": "early" } });
    document.querySelector("main").append(early);
  });
  const list = page.page.locator("task-list");
  await until(async () => (await labels(list)).join() === "Early", "shown");
  await until(async () => (await server.streams()) === 1, "one stream");
  await list.evaluate((element) => element.remove());
  await until(async () => (await server.streams()) === 0, "no stream");
  isClean(page);
  await page.close();
});

test("however many elements a page has, they are on one stream", async () => {
  const page = await open(browser, proxy);
  for (const type of ["one", "two", "three", "one"]) await add(page.page, "task-list", { "task-type": type });
  const recent = await add(page.page, "task-recent");
  await recent.evaluate((element) => (element.open = true));
  const lists = page.page.locator("task-list");
  // Each type is of one list or two, and everything is in the head.
  for (const [at, type] of [[0, "one"], [1, "two"], [2, "three"], [3, "one"]]) {
    const title = `${type} ${at}`;
    await registered(type, title);
    for (const shown of [lists.nth(at), recent]) await until(async () => (await labels(shown))[0] === title, title);
  }
  await until(async () => (await server.streams()) === 1, "one stream");
  await page.page.evaluate(() => document.querySelectorAll("task-list, task-recent").forEach((element) => element.remove()));
  await until(async () => (await server.streams()) === 0, "no stream");
  isClean(page);
  await page.close();
});
