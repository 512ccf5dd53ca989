/** Debian's Chromium, and a page under a strict policy in front of a real server. */
import { existsSync, mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

import { Proxy } from "./harness.js";

const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'";
const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const ARGUMENTS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

export function launch() {
  const executablePath = CANDIDATES.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("there is no Chromium; CHROMIUM says where one is");
  return chromium.launch({ executablePath, args: ARGUMENTS });
}

/** The test's page at `/`, and the service below `/under/`. */
export async function site(server) {
  const file = (name) => readFile(new URL(`pages/${name}`, import.meta.url));
  const of = (type, body) => ({ headers: { "content-type": `${type}; charset=utf-8`, "content-security-policy": POLICY }, body });
  const pages = {
    "/": of("text/html", await file("page.html")),
    "/page.css": of("text/css", await file("page.css")),
    "/page.js": of("text/javascript", await file("page.js")),
    "/favicon.ico": of("image/x-icon", ""),
  };
  return Proxy.start(server.url, { prefix: "/under/", pages });
}

/** A page that notes everything that it complains of or asks for elsewhere. */
export async function open(browser, proxy, options = {}) {
  const context = await browser.newContext({ viewport: { width: 640, height: 720 }, ...options });
  // What is not there at once is a failure that should say so soon.
  context.setDefaultTimeout(5_000);
  const page = await context.newPage();
  const [complaints, strangers] = [[], []];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => new URL(request.url()).origin === proxy.origin || strangers.push(request.url()));
  await page.goto(proxy.origin);
  return { page, complaints, strangers, close: () => context.close() };
}

/** Adds an element for a task; `label` is what stands between its tags. */
export async function show(page, taskId, { label = "", timing } = {}) {
  await page.evaluate(([taskId, label, timing]) => {
    const element = document.createElement("task-progress");
    Object.assign(element, { timing });
    element.setAttribute("task-id", taskId);
    element.textContent = label;
    document.querySelector("main").append(element);
  }, [taskId, label, timing]);
  return page.locator(`task-progress[task-id="${taskId}"]`);
}

/** Where pictures go, if they are wanted. */
export async function picture(page, name) {
  const folder = process.env.PICTURES;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

export const axe = () => readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
