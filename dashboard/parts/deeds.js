/** What may be done to a task, once somebody has said that it is meant. */

import { nameOf } from "../../elements/rows.js";
import { MAY_RETRY } from "./badge.js";
import { confirmed } from "./confirm.js";
import { h, mark } from "./dom.js";
import { reason, toast } from "./toast.js";

/** @typedef {{ api: any, task: any, navigate: (to: string) => void }} Deed */

/** @param {() => Promise<void>} deed @param {HTMLButtonElement} button */
async function done(deed, button) {
  button.disabled = true;
  try {
    await deed();
  } catch (error) {
    toast(reason(error), { tone: "bad" });
  }
  button.disabled = false;
}

/** @param {Deed} deed @param {HTMLButtonElement} button */
async function cancel({ api, task }, button) {
  const isRunning = task.status === "in_progress";
  const why = h("input", { class: "field", type: "text", maxlength: "1000", autocomplete: "off" });
  const grace = h("input", { class: "field", type: "number", min: "0", max: "86400", value: "30" });
  const force = h("input", { type: "checkbox" });
  force.addEventListener("change", () => (grace.disabled = force.checked));
  const note = h("div", { class: "dialog-fields" },
    h("p", {}, isRunning
      ? "Its worker is told with its next report, and may finish what it does. If it does not end the task within the grace, the service does."
      : "It waits for a worker: it ends at once."),
    h("label", {}, "Reason, for those who look at it later", why),
    isRunning && h("label", {}, "Grace in seconds", grace),
    isRunning && h("label", { class: "check" }, force, "Now, without asking the worker"));
  const answer = confirmed({ title: `Cancel ${nameOf(task)}?`, note, confirm: "Cancel the task", dismiss: "Let it go on", tone: "danger" });
  why.focus();
  if (!(await answer)) return;
  await done(async () => {
    const body = {
      ...(why.value.trim() && { reason: why.value.trim() }),
      ...(isRunning && (force.checked ? { force: true } : grace.value !== "" && { graceSeconds: Number(grace.value) })),
    };
    const { status } = await api.cancel(task.id, body);
    toast(status === "cancelled" ? "The task is cancelled." : "Its worker is asked to end it.");
  }, button);
}

/** @param {Deed} deed @param {HTMLButtonElement} button */
async function timeOut({ api, task }, button) {
  const note = "It ends now as timed out, as it would at its deadline. Whoever works on it is told with its next report.";
  if (!(await confirmed({ title: `Time out ${nameOf(task)}?`, note, confirm: "Time it out", tone: "danger" }))) return;
  await done(async () => {
    await api.timeOut(task.id);
    toast("The task is timed out.");
  }, button);
}

/** @param {Deed} deed @param {HTMLButtonElement} button */
async function retry({ api, task, navigate }, button) {
  const note = "A new task of the same type, with the same params, metadata and timeout, waits for a worker. This one stays as it is.";
  if (!(await confirmed({ title: `Retry ${nameOf(task)}?`, note, confirm: "Retry" }))) return;
  await done(async () => {
    const { newTaskId } = await api.retry(task.id);
    toast("This is the new task.", { tone: "good" });
    navigate(`#/tasks/${encodeURIComponent(newTaskId)}`);
  }, button);
}

const DEEDS = [
  { text: "Retry…", kind: "button primary", may: (/** @type {any} */ { status }) => MAY_RETRY.has(status), act: retry },
  { text: "Cancel…", kind: "button", may: (/** @type {any} */ { status, cancelRequestedAt }) => status === "pending" || (status === "in_progress" && !cancelRequestedAt), act: cancel },
  // Whoever was asked nicely and did not listen.
  { text: "Cancel now…", kind: "button", may: (/** @type {any} */ { status, cancelRequestedAt }) => status === "in_progress" && Boolean(cancelRequestedAt), act: cancel },
  { text: "Time out…", kind: "button", may: (/** @type {any} */ { status }) => status === "pending" || status === "in_progress", act: timeOut },
];

/** The buttons of a task: those that its status allows. @param {() => Deed} now */
export function deeds(now) {
  const element = h("span", { class: "deeds" });
  const buttons = DEEDS.map(({ text, kind, may, act }) => {
    const button = h("button", { type: "button", class: kind, hidden: true }, text);
    button.addEventListener("click", () => void act(now(), button));
    element.append(button);
    return { button, may };
  });
  /** @param {any} task */
  const paint = (task) => {
    for (const { button, may } of buttons) {
      const hides = !may(task);
      // The focus of a button that goes away would be nowhere.
      if (hides && button === document.activeElement) document.querySelector("h1")?.focus();
      mark(button, "hidden", hides);
    }
  };
  return { element, paint };
}
