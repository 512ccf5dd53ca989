/** The overview, and the demonstration that a newcomer begins there. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ids, isClean, isLive, launch, open, percent, Server, until, word } from "./harness.js";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const number = async (page, status) => Number((await page.locator(`.tile[data-tone="${status}"] .tile-number`).innerText()).replaceAll(/\D/g, ""));

test("a newcomer presses one button, and watches a task from its first entry to its end", async () => {
  const server = await Server.start();
  const site = await open(browser, server.url);
  const { page } = site;
  await page.locator(".first").getByRole("button", { name: "Run a demonstration" }).click();
  await until(() => /#\/tasks\/[^/]+$/.test(page.url()), "the page of the task");
  const taskId = decodeURIComponent(page.url().split("/").at(-1));
  const bar = page.getByRole("progressbar").first();
  /** What the bar said, as it moved. */
  const seen = new Set();
  await until(async () => {
    seen.add(Number(await bar.getAttribute("aria-valuenow")));
    return seen.has(100);
  }, "done", 90_000);
  assert.ok(seen.size > 10, `it moved: ${[...seen].join(", ")}`);
  assert.deepEqual([...seen], [...seen].sort((a, b) => a - b), "and never back");
  const task = await until(async () => {
    const task = await server.client.get(taskId);
    return task.status === "completed" && task;
  }, "completed");
  assert.equal(task.taskType, "demonstration");
  assert.deepEqual(task.progressHistory.map(({ seqId }) => seqId), Array.from({ length: 40 }, (_, n) => n + 1));
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Overview" }).click();
  await until(async () => (await number(page, "completed")) === 1, "it is counted");
  assert.equal(site.loads.length, 1, "nothing was loaded anew");
  isClean(site);
  await site.close();
  await server.stop();
});

test("a demonstration that is cancelled ends by its worker's word, and one whose page is closed ends, too", async () => {
  const server = await Server.start();
  const { client } = server;
  const begin = async () => {
    const site = await open(browser, `${server.url}#/tasks`);
    await site.page.getByRole("button", { name: "Run a demonstration" }).first().click().catch(() => {});
    await until(() => /#\/tasks\/[^/]+$/.test(site.page.url()), "the page of the task");
    const taskId = decodeURIComponent(site.page.url().split("/").at(-1));
    await until(async () => (await client.get(taskId)).progressHistory.length > 0, "it works");
    return { site, taskId };
  };
  const ended = (taskId) => until(async () => {
    const task = await client.get(taskId);
    return task.status === "cancelled" && task;
  }, "cancelled");
  const first = await begin();
  await client.cancel(first.taskId, { graceSeconds: 600 });
  await ended(first.taskId);
  await first.site.page.goto(`${server.url}#/`);
  await first.site.page.getByRole("button", { name: "Run a demonstration" }).first().click();
  await until(async () => (await client.list({ status: "in_progress" })).items[0]?.latestProgress, "another works");
  const [{ id }] = (await client.list({ status: "in_progress" })).items;
  await first.site.page.close({ runBeforeUnload: true });
  assert.match((await ended(id)).cancelReason ?? "", /was closed/);
  await first.site.close();
  await server.stop();
});

test("the figures are those of the tasks, lead to them, and move with them", async () => {
  const server = await Server.start();
  const { client } = server;
  await client.registerMany(Array.from({ length: 12 }, () => ({ taskType: "report.build" })));
  const [one, two] = [await server.started("import"), await server.started("import")];
  await client.fail(await server.started("export"), { error: { message: "the disk is full" } });
  const site = await open(browser, server.url);
  const { page } = site;
  await until(async () => (await number(page, "pending")) === 12, "12 wait");
  assert.deepEqual([await number(page, "in_progress"), await number(page, "failed")], [2, 1]);
  const queue = page.locator(".queues tbody tr").first();
  assert.match(await queue.innerText(), /report\.build\s+12\s+0/);
  assert.match(await page.locator(".failures li").first().innerText(), /export[\s\S]*the disk is full/);
  await isLive(page);
  await client.complete(one);
  await until(async () => (await number(page, "completed")) === 1, "completed");
  await until(async () => (await number(page, "in_progress")) === 1, "no longer running");
  await until(async () => /1 completed/.test(await page.locator(".chart-canvas").first().getAttribute("aria-label")), "the chart says so, too");
  await page.locator('.tile[data-tone="in_progress"]').click();
  await until(async () => (await ids(page)).join() === two, "those that run");
  assert.equal(await word(page, two), "Running");
  assert.equal(await percent(page, two), 0);
  isClean(site);
  await site.close();
  await server.stop();
});

test("the time shown is part of the address, and a chart can be read as a table", async () => {
  const server = await Server.start();
  await server.client.complete(await server.started());
  const site = await open(browser, `${server.url}#/?range=24h`);
  const { page } = site;
  const chosen = () => page.locator('.segments [aria-pressed="true"]').innerText();
  assert.equal(await chosen(), "24 h");
  await page.getByRole("button", { name: "15 m" }).click();
  assert.equal(await chosen(), "15 m");
  assert.match(page.url(), /#\/\?range=15m$/);
  await page.reload();
  assert.equal(await chosen(), "15 m");
  await page.goBack();
  await until(async () => (await chosen()) === "24 h", "back");
  await page.getByRole("button", { name: "Throughput as a table" }).click();
  const table = page.getByRole("region", { name: "Throughput, as a table" });
  assert.deepEqual(await table.locator("thead th").allInnerTexts(), ["Time", "Completed", "Failed", "Timed out", "Cancelled", "Registered"]);
  const completed = await table.locator("tbody tr td:nth-child(2)").allInnerTexts();
  assert.ok(completed.length >= 20 && completed.length <= 200, `${completed.length} rows`);
  assert.equal(completed.reduce((sum, text) => sum + Number(text), 0), 1);
  await page.getByRole("button", { name: "Throughput as a table" }).click();
  // Whoever points at the newest step is told its figures.
  const box = await page.locator(".chart .u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width - 3, box.y + 40);
  await until(async () => /Completed\s*1/.test(await page.locator(".chart-tip").first().innerText()), "what is there");
  isClean(site);
  await site.close();
  await server.stop();
});
