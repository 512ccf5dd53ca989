/** Every page, light and dark, wide and on a phone: nothing hard to read or to reach; and pictures, if they are wanted. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { aged, work } from "./gallery.js";
import { findings, isClean, isLive, launch, open, picture, rows, Server, until } from "./harness.js";

let server, browser;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  await work(server);
});
after(() => Promise.all([browser.close(), server.stop()]));

const PAGES = {
  overview: { address: "#/", isThere: async (page) => (await page.locator(".failures li").count()) > 0 && (await page.locator(".chart canvas").count()) === 2 },
  tasks: { address: "#/tasks", isThere: async (page) => (await rows(page).count()) > 5 },
  operations: { address: "#/operations", isThere: async (page) => (await page.locator(".workers tbody tr").count()) > 0 && (await page.locator(".nodes tbody tr").count()) > 0 },
  nowhere: { address: "#/nowhere", isThere: async (page) => (await page.locator("h1").count()) > 0, isSilent: true },
};

for (const colorScheme of ["light", "dark"]) {
  for (const [size, width, height] of [["wide", 1440, 900], ["phone", 390, 844]]) {
    test(`nothing is hard to read or to reach, ${colorScheme}, ${size}`, async () => {
      const phone = { isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
      const found = {};
      for (const [name, { address, isThere, isSilent }] of Object.entries(PAGES)) {
        const site = await open(browser, "about:blank", { origin: server.url, width, height, colorScheme, reducedMotion: "reduce", ...(size === "phone" && phone) });
        const { page } = site;
        await aged(page);
        await page.goto(server.url + address);
        await until(() => isThere(page), `${name} is there`);
        if (!isSilent) await isLive(page);
        await picture(page, `dashboard-${name}-${colorScheme}-${size}`);
        const isTooWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
        assert.ok(!isTooWide, `${name} is wider than the screen`);
        const serious = await findings(page);
        if (serious.length > 0) found[name] = serious;
        isClean(site);
        await site.close();
      }
      assert.deepEqual(found, {});
    });
  }
}

test("what is asked and what is selected is easy to read and to reach, too", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const site = await open(browser, `${server.url}#/tasks`, { colorScheme, reducedMotion: "reduce" });
    const { page } = site;
    await until(async () => (await rows(page).count()) > 5, "rows");
    await page.getByRole("checkbox", { name: "Select all that are loaded" }).check();
    await page.locator(".when summary").click();
    assert.deepEqual(await findings(page), [], "selected");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Cancel …" }).click();
    await page.getByRole("dialog").waitFor();
    assert.deepEqual(await findings(page), [], "asked");
    isClean(site);
    await site.close();
  }
});

test("colours are the system's where they are forced, and what moves stands still for those who wish it", async () => {
  const site = await open(browser, `${server.url}#/tasks?status=in_progress`, { forcedColors: "active", reducedMotion: "reduce" });
  const { page } = site;
  await until(async () => (await rows(page).count()) > 2, "rows");
  const style = (what, name) => page.locator(what).first().evaluate((node, name) => getComputedStyle(node)[name], name);
  assert.equal(await style(".bar-fill", "transitionDuration"), "0s");
  assert.equal(await style(".bar[data-unknown] .bar-fill", "animationName"), "none");
  assert.notEqual(await style(".bar", "borderTopWidth"), "0px");
  isClean(site);
  await site.close();
});
