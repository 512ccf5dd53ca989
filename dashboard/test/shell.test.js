/** What is around every page: addresses, themes, the keyboard, and what happens to the connection. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ids, isClean, isLive, launch, open, percent, Proxy, row, Server, until } from "./harness.js";

let server, client, browser;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));

const heading = (page) => page.locator("h1").innerText();
const isAt = (page, text) => until(async () => (await page.locator("h1").count()) === 1 && (await heading(page)) === text, text);

test("every page is reached by its address, and another address says that there is none", async () => {
  const site = await open(browser, server.url);
  const { page } = site;
  await isAt(page, "Overview");
  for (const name of ["Tasks", "Operations", "Overview"]) {
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
    await isAt(page, name);
    assert.equal(await page.title(), `${name} · Task Tracker`);
    assert.equal(await page.locator("#pages [aria-current]").innerText(), name);
    await until(() => page.evaluate(() => document.activeElement.tagName === "H1"), "a screen reader goes on from the heading");
    assert.equal(await page.locator("#announcer").innerText(), name);
  }
  await page.goBack();
  await isAt(page, "Operations");
  for (const nowhere of ["#/nowhere", "#/tasks/a/b", "#/tasks/%ff"]) {
    await page.evaluate((hash) => (location.hash = hash), nowhere);
    await isAt(page, "There is no such page");
  }
  await page.getByRole("link", { name: "To the overview" }).click();
  await isAt(page, "Overview");
  assert.equal(site.loads.length, 1, "nothing was loaded anew");
  isClean(site);
  await site.close();
});

test("a theme that is chosen is kept, and the charts follow it", async () => {
  await client.complete(await server.started());
  const site = await open(browser, server.url, { colorScheme: "light" });
  const { page } = site;
  await page.locator(".chart canvas").first().waitFor();
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const drawn = () => page.locator(".chart canvas").first().evaluate((canvas) => canvas.toDataURL());
  const [light, lightChart] = [await ground(), await drawn()];
  const button = page.locator("#theme");
  assert.equal(await button.getAttribute("aria-label"), "Theme: as the system");
  await button.click();
  await button.click();
  assert.equal(await button.getAttribute("aria-label"), "Theme: dark");
  const dark = await ground();
  assert.notEqual(dark, light);
  await until(async () => (await drawn()) !== lightChart, "another drawing");
  await page.reload();
  assert.equal(await ground(), dark);
  assert.equal(await button.getAttribute("aria-label"), "Theme: dark");
  await button.click();
  assert.equal(await ground(), light);
  isClean(site);
  await site.close();
});

test("the keyboard skips what is the same on every page", async () => {
  const site = await open(browser, `${server.url}#/operations`);
  const { page } = site;
  await isAt(page, "Operations");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.match(page.url(), /#\/operations$/);
  isClean(site);
  await site.close();
});

test("it works below a prefix, also where that was asked for without its slash", async () => {
  const taskId = await server.started("below");
  const proxy = await Proxy.start(server.url, { prefix: "/tools/tracker/" });
  const site = await open(browser, `${proxy.origin}/tools/tracker`);
  const { page } = site;
  await isAt(page, "Overview");
  assert.equal(new URL(page.url()).pathname, "/tools/tracker/");
  await page.getByRole("link", { name: /Running/ }).first().click();
  await row(page, taskId).waitFor();
  await isLive(page);
  await client.progress(taskId, { percent: 35 });
  await until(async () => (await percent(page, taskId)) === 35, "35%");
  for (const name of ["Operations", "Overview"]) {
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
    await isAt(page, name);
  }
  assert.deepEqual(proxy.asked.filter((path) => !path.startsWith("/tools/tracker")), []);
  isClean(site);
  await site.close();
  await proxy.stop();
});

test("a page holds one stream however many tasks it shows, and that of a task one for its entries", async () => {
  const own = await Server.start();
  const task = await own.started("t");
  for (let n = 0; n < 20; n++) await own.started("u");
  const site = await open(browser, own.url);
  for (const [hash, streams] of [["#/", 1], ["#/tasks", 1], ["#/tasks?type=u&status=in_progress", 1], [`#/tasks/${task}`, 2], ["#/operations", 1]]) {
    await site.page.evaluate((hash) => (location.hash = hash), hash);
    await site.page.locator("main h1").waitFor();
    await isLive(site.page);
    await until(async () => (await own.streams()) === streams, `${hash}: ${streams}`);
  }
  isClean(site);
  await site.close();
  await own.stop();
});

test("a server that restarts is waited for, and nothing is missed", async () => {
  const own = await Server.start();
  const [first, second] = [await own.started("a"), await own.started("b")];
  const site = await open(browser, `${own.url}#/tasks`);
  const { page } = site;
  await isLive(page);
  await own.client.progress(first, { percent: 10 });
  await until(async () => (await percent(page, first)) === 10, "10%");
  await own.kill();
  await until(async () => (await page.locator("#connection").getAttribute("data-state")) === "waiting", "it says so");
  await own.startAgain();
  const third = await own.started("c");
  await own.client.complete(second);
  await own.client.progress(first, { percent: 60 });
  await isLive(page);
  await until(async () => (await percent(page, first)) === 60, "60%");
  await until(async () => (await ids(page))[0] === third, "what was registered meanwhile");
  await until(async () => (await row(page, second).locator(".badge").innerText()) === "Completed", "what ended meanwhile");
  assert.equal(site.loads.length, 1, "nothing was loaded anew");
  // The browser itself notes connections that break, and nothing else is said.
  assert.deepEqual(site.complaints.filter((text) => !/net::ERR_/.test(text)), []);
  await site.close();
  await own.stop();
});

const evil = `<img src="x" onerror="document.title='taken'">`;
test("what tasks say is shown as text, whatever it says", async () => {
  const { taskId } = await client.register({ taskType: evil, params: { evil }, metadata: { evil } });
  await client.claim({ taskTypes: [evil], workerId: evil });
  await client.progress(taskId, { percent: 50, message: evil, stage: evil, level: evil }, { workerId: evil });
  const running = { page: "#/tasks?status=in_progress", seen: ".task-row" };
  const failed = { page: "#/tasks?status=failed", seen: ".task-row" };
  const looks = async (pages) => {
    for (const { page: address, seen } of pages) {
      const site = await open(browser, server.url + address);
      await until(async () => (await site.page.locator(seen).allInnerTexts()).join(" ").includes("<img src="), `${address} says it`);
      assert.equal(await site.page.locator("img").count(), 0, address);
      assert.doesNotMatch(await site.page.title(), /taken/);
      isClean(site);
      await site.close();
    }
  };
  await looks([running, { page: "#/", seen: ".queues" }, { page: "#/operations", seen: ".workers" }]);
  await client.fail(taskId, { workerId: evil, error: { message: evil, evil } });
  await looks([failed, { page: "#/", seen: ".failures" }]);
});
