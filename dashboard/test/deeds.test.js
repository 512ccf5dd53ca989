/** What may be done on the page of a task: each button does what it says, and says what is refused. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { findings, isClean, launch, Server, until } from "./harness.js";
import { button, has, is, show as open } from "./task.js";

let server, client, browser;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));
const show = (id, { home = server.url, ...options } = {}) => open(browser, home, id, options);

test("a task is cancelled, with a reason, and what is refused is said in words", async () => {
  const taskId = await server.started("cancelled");
  const site = await show(taskId);
  const { page } = site;
  await button(page, "Cancel…").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/^Reason/).fill("sent by mistake");
  await dialog.getByLabel(/^Grace/).fill("300");
  await button(page, "Let it go on").click();
  assert.equal((await client.get(taskId)).cancelRequestedAt, null, "nothing is done that was not confirmed");
  await button(page, "Cancel…").click();
  await dialog.getByLabel(/^Reason/).fill("sent by mistake");
  await dialog.getByLabel(/^Grace/).fill("300");
  await button(page, "Cancel the task").click();
  await is(page, "Cancelling");
  const { cancelReason, cancelDeadline, cancelRequestedAt } = await client.get(taskId);
  assert.equal(cancelReason, "sent by mistake");
  assert.ok(Math.abs(Date.parse(cancelDeadline) - Date.parse(cancelRequestedAt) - 300_000) < 2_000);
  await button(page, "Cancel now…").click();
  await dialog.getByLabel(/^Now/).check();
  await button(page, "Cancel the task").click();
  await is(page, "Cancelled");
  assert.equal(await button(page, "Cancel now…").isVisible(), false);
  assert.equal(await button(page, "Retry…").isVisible(), true);
  isClean(site);
  await site.close();

  const other = await server.started("refused");
  const late = await show(other);
  await button(late.page, "Time out…").click();
  await client.complete(other);
  await button(late.page, "Time it out").click();
  await until(async () => (await late.page.getByRole("alert").count()) > 0, "a refusal");
  assert.match(await late.page.getByRole("alert").innerText(), /completed/);
  await late.close();
});

test("a task is timed out, and retried: that leads to the new one, and both know each other", async () => {
  const { taskId } = await client.register({ taskType: "retried", params: { a: 1 }, metadata: { title: "Again" } });
  const site = await show(taskId);
  const { page } = site;
  await button(page, "Time out…").click();
  await button(page, "Time it out").click();
  await is(page, "Timed out");
  await button(page, "Retry…").click();
  await button(page, "Retry").click();
  await is(page, "Waiting");
  const id = decodeURIComponent(new URL(page.url()).hash.split("/").at(-1));
  const { originalTaskId, retryCount } = await client.get(id);
  assert.deepEqual([originalTaskId, retryCount], [taskId, 1]);
  const chain = page.getByRole("region", { name: "Retries" });
  await until(async () => (await chain.locator("li").count()) === 2, "the chain");
  assert.deepEqual((await chain.locator("li .badge").allInnerTexts()).map((text) => text.trim()), ["Timed out", "Waiting"]);
  await chain.getByRole("link", { name: "First" }).click();
  await is(page, "Timed out");
  assert.equal(site.loads.length, 1);
  isClean(site);
  await site.close();
});

test("what is copied for a shell is what a shell understands", async () => {
  const params = { text: "it's $HOME `x` \"y\" \\ \n !", deep: [{ "a'b": null }] };
  const { taskId } = await client.register({ taskType: "curl's", params, timeoutSeconds: 77 });
  const site = await show(taskId);
  await is(site.page, "Waiting");
  await button(site.page, "Copy as curl…").click();
  const texts = await site.page.locator(".curl pre").allInnerTexts();
  // What a shell makes of it, without the program.
  const parsed = (text) => execFileSync("sh", ["-c", `curl() { for word; do printf '%s\\0' "$word"; done; }; ${text}`], { encoding: "utf8" }).split("\0").slice(0, -1);
  const [register, follow, cancel] = texts.map(parsed);
  assert.equal(register[2], `${server.url}api/v1/tasks`);
  const made = await (await fetch(register[2], { method: register[1], headers: { "content-type": "application/json" }, body: register.at(-1) })).json();
  const twin = await client.get(made.taskId);
  assert.deepEqual([twin.params, twin.taskType, twin.timeoutSeconds], [params, "curl's", 77]);
  assert.deepEqual(follow, ["-N", `${server.url}api/v1/tasks/${taskId}/track`]);
  assert.equal(cancel[2], `${server.url}api/v1/tasks/${taskId}/cancel`);
  assert.deepEqual(await findings(site.page), []);
  isClean(site);
  await site.close();
});

test("why it waits is said, and changes with what is the case", async () => {
  const older = (await client.register({ taskType: "waits" })).taskId;
  const { taskId } = await client.register({ taskType: "waits" });
  const site = await show(taskId);
  await has(site.page, "1 older task of type waits waits before it");
  await client.claim({ taskTypes: ["waits"], workerId: "worker-1" });
  await client.complete(older, { workerId: "worker-1" });
  await has(site.page, "It is the next of its type.");
  await has(site.page, "worker-1");
  isClean(site);
  await site.close();
});
