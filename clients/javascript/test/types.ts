/** What the declarations promise to callers; `tsc` checks it, nothing runs it. */
import { TaskTracker, TaskTrackerError, events, track, type End, type Events, type FeedEvent, type Gap, type TaskEvent, type TaskItem, type Tracking } from "task-tracker-client";
import { TaskListElement, TaskProgressElement, TaskRecentElement } from "task-tracker-client/elements.js";

/** Compiles where both are the same type, and nowhere else. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <T extends true>(): T | undefined => undefined;

interface Rows {
  rows: number;
  table?: string;
}

export async function tracking(): Promise<void> {
  const end = await track("t", { afterSeqId: 3, headers: () => ({ authorization: "Bearer x" }), signal: AbortSignal.timeout(1) });
  is<Same<typeof end, End>>();
  is<Same<typeof end.status, "completed" | "failed" | "timeout" | "cancelled">>();

  for await (const event of track<Rows>("t")) {
    is<Same<typeof event, TaskEvent<Rows>>>();
    if (event.event === "progress") {
      is<Same<typeof event.data.rows, number>>();
      is<Same<typeof event.data.seqId, number>>();
      // @ts-expect-error its worker says nothing of that
      event.data.percent;
    } else if (event.event === "gap") is<Same<typeof event.data, Gap>>();
    else if (event.event === "stalled") is<Same<typeof event.data.since, string>>();
  }

  const following: Tracking = track("t", {
    onProgress: ({ percent, seqId }) => {
      is<Same<typeof percent, number | undefined>>();
      is<Same<typeof seqId, number>>();
    },
    onStatus: async ({ status, error }) => void [status, error],
    onConnection: (connection) => {
      if (connection.state === "waiting") is<Same<typeof connection.delayMs, number>>();
      // @ts-expect-error only who waits does so for some time
      else connection.delayMs;
    },
  });
  following.catch((error: unknown) => error instanceof TaskTrackerError && is<Same<typeof error.status, number>>());
  // @ts-expect-error it is a number
  track("t", { afterSeqId: "3" });
  // @ts-expect-error a task has a name
  track();
}

export async function many(): Promise<void> {
  for await (const event of events<Rows>({ taskIds: ["t"], progress: "all", everyMs: 0 })) {
    is<Same<typeof event, FeedEvent<Rows>>>();
    if (event.event === "task") is<Same<typeof event.data, TaskItem>>();
    else if (event.event === "open") is<Same<typeof event.data.resumed, boolean>>();
    else if (event.event === "progress") is<Same<typeof event.data.rows, number>>();
    // @ts-expect-error it is of no task
    else if (event.event === "resync") event.taskId;
  }
  const following: Events = new TaskTracker().events({
    onTask: ({ id, latestProgress }) => void [id, latestProgress?.percent],
    onProgress: (taskId, { seqId }) => void [is<Same<typeof taskId, string>>(), seqId],
    onGap: (taskId, gap) => void [taskId, is<Same<typeof gap, Gap>>()],
  });
  // It has no end, but what goes wrong.
  const end = await following;
  is<Same<typeof end, never>>();
  // @ts-expect-error one of three
  events({ progress: "some" });
}

export async function calls(): Promise<void> {
  const tracker = new TaskTracker({ baseUrl: "http://localhost:3002" });
  const { taskId } = await tracker.register({ taskType: "t", params: { a: [1] } }, { idempotencyKey: "k" });
  is<Same<typeof taskId, string>>();
  const claimed = await tracker.claim({ taskTypes: ["t"], workerId: "w" });
  // @ts-expect-error there may be none
  claimed.leaseToken;
  await tracker.progress(taskId, [{ percent: 1 }], { workerId: "w", leaseToken: claimed?.leaseToken ?? undefined });
  const whole = await tracker.list({ status: ["failed", "timeout"], q: "disk", sort: "completedAt", order: "asc" });
  is<Same<(typeof whole.items)[0]["retryCount"], number>>();
  whole.items[0]?.params;
  const brief = await tracker.list({ fields: "brief" });
  brief.items[0]?.latestProgress;
  // @ts-expect-error it is left out
  brief.items[0]?.params;
  // @ts-expect-error there is no such order
  await tracker.list({ sort: "updatedAt" });
  for (const result of (await tracker.retryMany([taskId])).results) {
    if (result.problem) is<Same<typeof result.problem.code, string>>();
    else is<Same<typeof result.newTaskId, string>>();
  }
  // @ts-expect-error whoever gives it back says who it is
  await tracker.release(taskId, {});
  // @ts-expect-error a task has a type
  await tracker.register({});
}

const element = document.createElement("task-progress");
is<Same<typeof element, TaskProgressElement>>();
element.addEventListener("task-end", ({ detail }) => is<Same<typeof detail, End>>());

const list: TaskListElement = document.createElement("task-list");
list.limit = 5;
const recent: TaskRecentElement = document.createElement("task-recent");
recent.addEventListener("task-added", ({ detail }) => is<Same<typeof detail, TaskItem>>());
// @ts-expect-error it is a number
list.limit = "5";
