/** Run by each runtime: works on a task and watches another, and says what it heard, a line each. */
import { TaskTracker } from "../client.js";
import { timing } from "./harness.js";

const [baseUrl, taskId] = globalThis.process.argv.slice(2);
const tracker = new TaskTracker({ baseUrl });
const say = (...words) => console.log(JSON.stringify(words));

const { taskId: own } = await tracker.register({ taskType: "own" });
const claimed = await tracker.claim({ taskTypes: ["own"], workerId: "runtime" });
await tracker.progress(claimed.id, { percent: 50 }, { workerId: "runtime", leaseToken: claimed.leaseToken });
await tracker.complete(claimed.id, { workerId: "runtime", leaseToken: claimed.leaseToken, result: { ok: true } });
say("worked", claimed.id === own, (await tracker.standing([own]))[0].status);

const following = new AbortController();
const feed = tracker.events({ taskIds: [taskId], progress: "none", timing, signal: following.signal, onTask: ({ status }) => say("task", status) });
feed.catch((error) => say("feed", error.name));
for await (const { event, data } of tracker.track(taskId, { timing })) {
  if (event === "progress") say("entry", data.seqId, data.message);
  else if (event === "status_change") say("status", data.status, data.result ?? null);
}
following.abort();
