/** The list: live, filtered by its address, of any length, and what is done to many at once. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ids, isClean, isLive, launch, open, percent, row, rows, Server, until, word } from "./harness.js";

let server, client, browser;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));

/** The list of one type, so that tests see their own tasks. */
const list = (type, more = "") => open(browser, `${server.url}#/tasks?type=${type}${more}`);
const register = async (taskType, more = {}) => (await client.register({ taskType, ...more })).taskId;
const search = (page) => page.getByRole("searchbox", { name: "Search" });
const chip = (page, name) => page.getByRole("group", { name: "Status" }).getByRole("button", { name });

test("a bar moves while its task runs, and the row says how it ended", async () => {
  const taskId = await server.started("moves");
  const site = await list("moves");
  const { page } = site;
  await isLive(page);
  await until(async () => (await word(page, taskId)) === "Running", "running");
  const fill = row(page, taskId).locator(".bar-fill");
  /** How much of the bar is filled; it takes a moment to get there. */
  const filled = () => fill.evaluate((fill) => {
    const [{ right }, track] = [fill.getBoundingClientRect(), fill.parentElement.getBoundingClientRect()];
    return (right - track.left) / track.width;
  });
  for (const current of [1, 2, 3]) {
    await client.progress(taskId, { current, total: 4, stage: "reading", message: `part ${current}` });
    await until(async () => (await percent(page, taskId)) === current * 25, `${current} of 4`);
    await until(async () => Math.abs((await filled()) - current / 4) < 0.01, "the bar is as far");
    assert.equal(await row(page, taskId).locator(".says").innerText(), `reading · part ${current}`);
  }
  await client.fail(taskId, { error: { message: "the disk is full" } });
  await until(async () => (await word(page, taskId)) === "Failed", "failed");
  assert.equal(await row(page, taskId).locator(".says").innerText(), "the disk is full");
  assert.equal(await percent(page, taskId), 75, "how far it came");
  assert.equal(site.loads.length, 1, "nothing was loaded anew");
  isClean(site);
  await site.close();
});

test("what is new comes by itself at the top, and waits behind a button for those who read below", async () => {
  for (let n = 0; n < 40; n++) await register("news");
  const site = await list("news");
  const { page } = site;
  await isLive(page);
  const first = await register("news");
  await until(async () => (await ids(page))[0] === first, "the new one");
  await page.mouse.wheel(0, 600);
  await until(() => page.evaluate(() => scrollY > 300), "further down");
  const place = await page.evaluate(() => scrollY);
  const before = await ids(page);
  const [second, third] = [await register("news"), await register("news")];
  await page.getByRole("button", { name: "2 new" }).waitFor();
  assert.deepEqual([await ids(page), await page.evaluate(() => scrollY)], [before, place], "nothing jumped");
  await page.getByRole("button", { name: "2 new" }).click();
  await until(async () => (await ids(page)).slice(0, 3).join() === [third, second, first].join(), "they are let in");
  isClean(site);
  await site.close();
});

test("a task that is registered while the list is read is not missed", async () => {
  const site = await open(browser, `${server.url}#/`);
  const { page } = site;
  await isLive(page);
  let taskId;
  await page.route("**/api/v1/tasks?*taskType=meanwhile*", async (route) => {
    const response = await route.fetch();
    taskId = await register("meanwhile");
    // The head is told by the same stream.
    await page.locator("#recent").getByText("meanwhile").first().waitFor({ state: "attached" });
    await route.fulfill({ response });
  }, { times: 1 });
  await page.evaluate(() => (location.hash = "#/tasks?type=meanwhile"));
  await until(() => taskId, "it is registered");
  await row(page, taskId).waitFor();
  isClean(site);
  await site.close();
});

test("filters are an address: they are shared, survive a reload, and are gone back through", async () => {
  const waiting = await register("filtered", { params: { month: "2026-11" } });
  const running = await server.started("filtered");
  const failed = await server.started("filtered");
  await client.fail(failed, { error: { message: "the disk is full" } });
  const site = await list("filtered");
  const { page } = site;
  const shows = (...wanted) => until(async () => (await ids(page)).join() === wanted.join(), wanted.join(", "));
  await shows(failed, running, waiting);
  await chip(page, "Failed").click();
  await shows(failed);
  await chip(page, "Waiting").click();
  await shows(failed, waiting);
  assert.match(page.url(), /#\/tasks\?status=pending,failed&type=filtered$/);
  await search(page).fill("2026-11");
  await shows(waiting);
  assert.match(page.url(), /q=2026-11$/);
  await page.reload();
  await shows(waiting);
  assert.equal(await search(page).inputValue(), "2026-11");
  assert.equal(await chip(page, "Failed").getAttribute("aria-pressed"), "true");
  const shared = await open(browser, page.url());
  await until(async () => (await ids(shared.page)).join() === waiting, "the same elsewhere");
  await shared.close();
  await page.goBack();
  await shows(failed, waiting);
  await page.goBack();
  await shows(failed);
  await page.goForward();
  await shows(failed, waiting);
  await page.getByLabel("Order").selectOption("oldest");
  await shows(waiting, failed);
  await search(page).fill("nothing is like this");
  await page.getByText("No task is like that").waitFor();
  await page.getByRole("button", { name: "Show all tasks" }).click();
  await until(async () => (await rows(page).count()) > 3, "all");
  isClean(site);
  await site.close();
});

test("a task that comes to be of a filter appears, and one that leaves it says so", async () => {
  const taskId = await server.started("comes");
  const site = await list("comes", "&status=failed,timeout");
  const { page } = site;
  await isLive(page);
  await page.getByText("No task is like that").waitFor();
  await client.timeOut(taskId);
  await row(page, taskId).waitFor();
  const running = await open(browser, `${server.url}#/tasks?type=comes&status=in_progress`);
  await isLive(running.page);
  const second = await server.started("comes");
  await until(async () => (await ids(running.page)).join() === second, "it appears");
  await client.complete(second);
  await until(async () => (await word(running.page, second)) === "Completed", "it says so");
  await running.close();
  isClean(site);
  await site.close();
});

test("ten thousand tasks are scrolled through, and stay live", async () => {
  for (let n = 0; n < 10; n++) await client.registerMany(Array.from({ length: 1000 }, () => ({ taskType: "many" })));
  const site = await list("many");
  const { page } = site;
  await isLive(page);
  let most = 0;
  const total = async () => Number((await page.locator(".total").innerText()).replaceAll(/\D/g, ""));
  await until(async () => {
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    most = Math.max(most, await rows(page).count());
    return (await total()) === 10_000 && !/loaded/.test(await page.locator(".total").innerText());
  }, "all of them", 240_000);
  assert.ok(most < 100, `${most} rows at once`);
  // Wherever one is, the screen is full of rows.
  for (const part of [0.13, 0.77, 0.5, 0.999]) {
    await page.evaluate((part) => scrollTo(0, part * (document.documentElement.scrollHeight - innerHeight)), part);
    await until(async () => page.evaluate(() => {
      const at = (y) => document.elementFromPoint(innerWidth / 2, y)?.closest(".task-row");
      return at(200) && at(400) && at(600);
    }), `rows at ${part}`);
    assert.ok((await rows(page).count()) < 100);
  }
  const [, , , , fifth] = await ids(page);
  await client.start(fifth);
  await client.progress(fifth, { percent: 42 });
  await until(async () => (await percent(page, fifth)) === 42, "live at the other end");
  // A frame of scrolling costs little, however many there are.
  const slowest = await page.evaluate(async () => {
    const took = [];
    for (let n = 0; n < 60; n++) {
      const begun = performance.now();
      scrollBy(0, -700);
      dispatchEvent(new Event("scroll"));
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      took.push(performance.now() - begun);
    }
    return took.sort((a, b) => a - b)[30];
  });
  assert.ok(slowest < 250, `half of the frames took more than ${slowest} ms`);
  isClean(site);
  await site.close();
});

test("many are cancelled at once, and it is said which were refused", async () => {
  const all = [];
  for (let n = 0; n < 5; n++) all.push(await register("ends"));
  await client.complete(await server.started("ends"));
  const site = await list("ends");
  const { page } = site;
  await until(async () => (await rows(page).count()) === 6, "six");
  await isLive(page);
  await page.getByRole("checkbox", { name: "Select all that are loaded" }).check();
  await page.getByText("6 selected").waitFor();
  await page.getByRole("button", { name: "Cancel …" }).click();
  const dialog = page.getByRole("dialog");
  assert.match(await dialog.innerText(), /Cancel 5 tasks\?[\s\S]*1 task of those selected has ended already/);
  await dialog.getByRole("button", { name: "Leave them running" }).click();
  assert.equal((await client.get(all[0])).status, "pending", "nothing is done unasked");
  await page.getByRole("button", { name: "Cancel …" }).click();
  await dialog.getByRole("textbox", { name: "Reason" }).fill("the month was reopened");
  // It ends while the question stands there.
  await client.cancel(all[2]);
  await dialog.getByRole("button", { name: "Cancel 5 tasks" }).click();
  await page.getByRole("heading", { name: "4 done, 1 refused" }).waitFor();
  assert.ok((await dialog.innerText()).includes(all[2]), "which one");
  await dialog.getByRole("button", { name: "Close" }).click();
  for (const id of all) await until(async () => (await word(page, id)) === "Cancelled", "cancelled");
  assert.equal((await client.get(all[0])).cancelReason, "the month was reopened");
  await until(async () => !(await page.getByRole("toolbar").isVisible()), "nothing is selected");
  isClean(site);
  await site.close();
});

test("many are retried at once, and what becomes of them is there", async () => {
  const all = [await server.started("again"), await server.started("again"), await server.started("again")];
  await client.fail(all[0], { error: { message: "no" } });
  await client.timeOut(all[1]);
  const site = await list("again");
  const { page } = site;
  await until(async () => (await rows(page).count()) === 3, "three");
  await isLive(page);
  for (const id of all) await row(page, id).getByRole("checkbox").check();
  await page.getByRole("button", { name: "Retry …" }).click();
  await page.getByRole("button", { name: "Retry 2 tasks" }).click();
  await page.getByText("2 tasks registered anew.").waitFor();
  await until(async () => (await rows(page).count()) === 5, "two more");
  const children = (await client.list({ taskType: "again", status: "pending" })).items;
  assert.deepEqual(children.map(({ originalTaskId }) => originalTaskId).sort(), [all[0], all[1]].sort());
  isClean(site);
  await site.close();
});

test("all of it is done with the keyboard", async () => {
  const all = [];
  for (let n = 0; n < 60; n++) all.unshift(await register("keys"));
  const site = await list("keys");
  const { page } = site;
  await until(async () => (await rows(page).count()) > 10, "rows");
  const active = () => page.evaluate(() => document.activeElement.dataset.id);
  await page.evaluate(() => document.querySelector('.task-row[tabindex="0"]').focus());
  assert.equal(await active(), all[0]);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.equal(await active(), all[2]);
  await page.keyboard.press("Space");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Shift+Space");
  await page.getByText("2 selected").waitFor();
  await page.keyboard.press("End");
  await until(async () => (await active()) === all.at(-1), "the last");
  assert.ok(await row(page, all.at(-1)).evaluate((row) => row.getBoundingClientRect().bottom <= innerHeight), "it is on the screen");
  await page.keyboard.press("Escape");
  await until(async () => !(await page.getByRole("toolbar").isVisible()), "none selected");
  await page.keyboard.press("Home");
  await until(async () => (await active()) === all[0], "the first");
  await page.keyboard.press("Enter");
  await until(() => page.url().endsWith(`#/tasks/${all[0]}`), "its page");
  await site.close();
});

test("whoever comes back from a task finds the list where it was", async () => {
  for (let n = 0; n < 150; n++) await register("back");
  const site = await list("back");
  const { page } = site;
  await until(async () => (await rows(page).count()) > 10, "rows");
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await until(async () => /^150$/.test(await page.locator(".total").innerText()), "both pages");
  await until(() => page.evaluate(() => document.documentElement.scrollHeight > 150 * 56), "room for them");
  await page.evaluate(() => scrollTo(0, 120 * 56));
  const wanted = await until(() => page.evaluate(() => scrollY > 6000 && document.elementFromPoint(600, 500)?.closest(".task-row[data-id]")?.dataset.id), "a row");
  const place = await page.evaluate(() => scrollY);
  await row(page, wanted).locator(".cell-created").click();
  await until(() => page.url().endsWith(wanted), "its page");
  await page.goBack();
  await row(page, wanted).waitFor();
  assert.equal(await page.evaluate(() => scrollY), place);
  isClean(site);
  await site.close();
});
