/** The dashboard of a real server in a real browser, which notes everything that it complains of or asks for elsewhere. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";

import { axe, launch } from "../../clients/javascript/test/browser.js";
import { Proxy, Server, until } from "../../clients/javascript/test/harness.js";

export { launch, Proxy, Server, until };

/** @param {string} address with its hash; what is of `origin` is no stranger */
export async function open(browser, address, { origin = address, width = 1440, height = 900, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const [complaints, strangers, loads] = [[], [], []];
  const home = new URL(origin).origin;
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => new URL(request.url()).origin === home || strangers.push(request.url()));
  page.on("load", () => loads.push(page.url()));
  await page.goto(address);
  return { page, complaints, strangers, loads, close: () => context.close() };
}

/** Nothing to complain of, and nothing from elsewhere: a violation of the policy is among the complaints. */
export function isClean({ complaints, strangers }) {
  assert.deepEqual({ complaints, strangers }, { complaints: [], strangers: [] });
}

/** What axe-core finds that is serious. */
export async function findings(page) {
  await page.evaluate(await axe());
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => [html, failureSummary])]);
}

/** What is on the screen, as a small picture, if pictures are wanted. */
export async function picture(page, name) {
  const folder = process.env.PICTURES;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  const devtools = await page.context().newCDPSession(page);
  const { width, height } = page.viewportSize();
  const clip = { x: 0, y: 0, width, height, scale: await page.evaluate(() => devicePixelRatio) };
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: 84, clip });
  writeFileSync(`${folder}/${name}.webp`, Buffer.from(data, "base64"));
}

export const row = (page, id) => page.locator(`.task-row[data-id="${id}"]`);
export const rows = (page) => page.locator(".task-row[data-id]");
/** The ids of the rows that are in the page, from the top. */
export const ids = (page) =>
  page.evaluate(() => {
    const all = [...document.querySelectorAll(".task-row[data-id]")].map((row) => ({ id: row.dataset.id, at: row.getBoundingClientRect().top }));
    return all.sort((a, b) => a.at - b.at).map(({ id }) => id);
  });
export const percent = async (page, id) => Number(await row(page, id).getByRole("progressbar").getAttribute("aria-valuenow"));
export const word = async (page, id) => (await row(page, id).locator(".badge").innerText()).trim();
/** Resolves once the page says that it is live. */
export const isLive = (page) => until(async () => (await page.locator("#connection").getAttribute("data-state")) === "streaming", "live");
