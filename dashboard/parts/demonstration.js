/** A task to look at: this page registers one, and is the worker that does it, over the API that every worker has. */

import { drawing, h } from "./dom.js";
import { reason, toast } from "./toast.js";

const TYPE = "demonstration";
/** After which nobody waits for a page that was closed. */
const LEASE_SECONDS = 15;

/** How it goes: stages with their messages, about half a second each. @type {[string, string[]][]} */
const SCRIPT = [
  ["Preparing", ["Reading the list of months", "Opening 12 files", "Checking that all of them are there"]],
  ["Reading", ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"].map((month) => `Reading ${month}`)],
  ["Sorting", ["Sorting 48,000 rows", "Merging what belongs together", "Leaving out 3 rows without a date", "Counting what is left"]],
  ["Drawing", Array.from({ length: 12 }, (_, page) => `Drawing page ${page + 1}`)],
  ["Binding", ["Numbering the pages", "Writing the contents", "Adding the cover", "Adding the index", "Packing the pages"]],
  ["Checking", ["Comparing the sums", "Looking through every page", "Signing the report", "Putting it on the shelf"]],
];
const STEP_MS = 500;

/** Every entry, with how long it takes before the next. */
function* entries() {
  const total = SCRIPT.reduce((sum, [, messages]) => sum + messages.length, 0);
  let done = 0;
  for (const [stage, messages] of SCRIPT) {
    for (const [at, message] of messages.entries()) {
      done += 1;
      const level = message.startsWith("Leaving out") ? "warn" : "info";
      const isCounted = messages.length >= 10;
      yield {
        stage, message, level,
        percent: Math.round((1000 * done) / total) / 10,
        ...(isCounted && { current: at + 1, total: messages.length }),
        etaSeconds: Math.round(((total - done) * STEP_MS) / 1000),
      };
    }
  }
}

const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Does one task to its end, or until somebody wants it to end. @param {import("../../client.js").TaskTracker} api @param {any} task @param {string} workerId */
async function work(api, task, workerId) {
  const caller = { workerId, leaseToken: task.leaseToken };
  const path = `../../api/v1/tasks/${encodeURIComponent(task.id)}/cancel`;
  /** A page that is closed works no more, and says so while it can. */
  const leave = () => {
    const body = JSON.stringify({ ...caller, reason: "The page that worked on it was closed" });
    navigator.sendBeacon(new URL(path, import.meta.url), new Blob([body], { type: "application/json" }));
  };
  addEventListener("pagehide", leave);
  try {
    for (const entry of entries()) {
      await pause(STEP_MS * (0.7 + Math.random() * 0.6));
      const { cancelRequested } = await persistently(() => api.progress(task.id, entry, caller));
      if (cancelRequested) return await api.cancel(task.id, { ...caller, reason: "It was asked to end" });
    }
    const result = { pages: 12, rows: 47_997, leftOut: 3, title: "The report of the year" };
    await persistently(() => api.complete(task.id, { ...caller, result }));
  } finally {
    removeEventListener("pagehide", leave);
  }
}

/** A server that restarts is waited for, as long as the lease may last. @template T @param {() => Promise<T>} attempt @returns {Promise<T>} */
async function persistently(attempt) {
  const end = performance.now() + LEASE_SECONDS * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const { status } = /** @type {{ status?: number }} */ (error);
      if ((status !== undefined && status < 500) || performance.now() > end) throw error;
      await pause(500);
    }
  }
}

/** Registers one and begins to work; resolves to its id once it is there. @param {import("../../client.js").TaskTracker} api */
export async function demonstrate(api) {
  const workerId = `page-${crypto.getRandomValues(new Uint32Array(1))[0]?.toString(36)}`;
  const { taskId } = await api.register({
    taskType: TYPE,
    params: { title: "The report of the year", months: 12, cover: { paper: "blue", size: "A4" } },
    metadata: { from: "the dashboard" },
    timeoutSeconds: 600,
    maxAttempts: 1,
  });
  void (async () => {
    // The oldest goes first: what another page left, or a retry of an earlier one, is done beside it.
    for (let isOurs = false; !isOurs; ) {
      const task = await api.claim({ taskTypes: [TYPE], workerId, leaseSeconds: LEASE_SECONDS });
      if (!task) return;
      isOurs = task.id === taskId;
      void work(api, task, workerId).catch((error) => toast(`The demonstration has ended: ${reason(error)}`));
    }
  })().catch((error) => toast(`The demonstration could not begin: ${reason(error)}`, { tone: "bad" }));
  return taskId;
}

/** The button that runs it, and goes where it can be watched. @param {import("../app.js").Context} context @param {{ isPrimary?: boolean }} [options] */
export function demonstrationButton({ api, navigate }, { isPrimary = false } = {}) {
  const button = h("button", { type: "button", class: `button${isPrimary ? " primary" : ""}` }, drawing("M5 3.2v9.6l8-4.8z"), "Run a demonstration");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      navigate(`#/tasks/${encodeURIComponent(await demonstrate(api))}`);
    } catch (error) {
      toast(`The demonstration could not begin: ${reason(error)}`, { tone: "bad" });
    }
    button.disabled = false;
  });
  return button;
}
