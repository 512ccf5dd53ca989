/** What operators see and do. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { isClean, isLive, launch, open, Server, until } from "./harness.js";

let server, client, browser;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  client = server.client;
});
after(() => Promise.all([browser.close(), server.stop()]));

test("it says how the service does, which nodes there are, and who holds what", async () => {
  const { taskId } = await client.register({ taskType: "report.build" });
  await client.claim({ taskTypes: ["report.build", "report.send"], workerId: "worker-7" });
  const site = await open(browser, `${server.url}#/operations`);
  const { page } = site;
  const health = page.getByRole("region", { name: "Health" });
  await until(async () => /This node[\s\S]*Up[\s\S]*Database[\s\S]*Up[\s\S]*Live log[\s\S]*Up/.test(await health.innerText()), "up");
  await until(async () => /this one[\s\S]*embedded/.test(await page.locator(".nodes").innerText()), "this node");
  const worker = page.locator(".workers tbody tr");
  await until(async () => (await worker.innerText()).includes(taskId), "what it holds");
  assert.match(await worker.innerText(), /worker-7[\s\S]*report\.build, report\.send/);
  await isLive(page);
  await client.complete(taskId, { workerId: "worker-7" });
  await until(async () => !(await worker.innerText()).includes(taskId), "nothing more");
  isClean(site);
  await site.close();
});

test("what is overdue is ended on request, once it is confirmed", async () => {
  const site = await open(browser, `${server.url}#/operations`);
  const { page } = site;
  const ask = page.getByRole("button", { name: "End what is overdue now" });
  await ask.click();
  await page.getByRole("button", { name: "Not now" }).click();
  await ask.click();
  await page.getByRole("button", { name: "End them now" }).click();
  await page.getByText(/Nothing was overdue\.|timed out\.$/).waitFor();
  isClean(site);
  await site.close();
});

test("what it links to is there", async () => {
  const site = await open(browser, `${server.url}#/operations`);
  const links = site.page.locator(".links a");
  await links.first().waitFor();
  for (const href of await links.evaluateAll((all) => all.map(({ href }) => href))) {
    assert.equal((await fetch(href)).status, 200, href);
  }
  await site.close();
});

test("a service that does not answer is said to be down, and is up again by itself", async () => {
  const own = await Server.start();
  const site = await open(browser, `${own.url}#/operations`);
  const { page } = site;
  const health = page.getByRole("region", { name: "Health" });
  await until(async () => /Up/.test(await health.innerText()), "up");
  await own.kill();
  await until(async () => /Down[\s\S]*does not answer/.test(await health.innerText()), "down");
  await own.startAgain();
  await until(async () => /Database[\s\S]*Up/.test(await health.innerText()), "up again");
  await site.close();
  await own.stop();
});
