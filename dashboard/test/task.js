/** What the page of a task shows, for its tests. */
import { readFile } from "node:fs/promises";

import { open, until } from "./harness.js";

/** @param {string} home where the service is @param {string} id */
export const show = (browser, home, id, options = {}) => open(browser, `${home}#/tasks/${encodeURIComponent(id)}`, { origin: home, ...options });
export const bar = (page) => page.locator(".hero").getByRole("progressbar");
export const far = async (page) => Number(await bar(page).getAttribute("aria-valuenow"));
export const word = async (page) => (await page.locator(".hero .badge").innerText()).trim();
export const says = (page) => page.locator(".hero-message").innerText();
export const slider = (page) => page.getByRole("slider", { name: "Entry" });
export const place = (page) => page.locator(".timeline-where").innerText();
export const lines = (page) => page.locator(".line-text").allInnerTexts();
export const marks = (page) => page.locator(".mark-text").allInnerTexts();
export const is = (page, status) => until(async () => (await word(page)) === status, status);
export const has = (page, text) => until(async () => (await page.locator("main").innerText()).includes(text), text);
export const button = (page, name) => page.getByRole("button", { name, exact: true });
/** What is noted of a network that was cut is the browser's own. */
export const own = ({ complaints }) => complaints.filter((text) => !/net::ERR_|status of 50/.test(text));
export async function taken(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name }).click()]);
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), "utf8") };
}
/** The numbers that the page has, as it gives them away. */
export const shown = async (page) => (await taken(page, /^JSON lines/)).text.trim().split("\n").map((line) => JSON.parse(line));
