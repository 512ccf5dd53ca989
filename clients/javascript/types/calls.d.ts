/** What is sent to the service, and what it answers. */

import type { JsonObject, ProgressEntry, Status } from "../client.js";

export interface CallOptions {
  signal?: AbortSignal;
  /** With the same key a request is done once, however often it is sent; for 24 hours. Not for `claim`, `heartbeat` and `cancel`. */
  idempotencyKey?: string;
}

/** Who calls: where a task has a worker, that one. */
export interface Caller {
  workerId?: string;
  /** What the claim or the start gave: refused with `lease_lost` once its attempt is over. */
  leaseToken?: string;
}

/** What every answer to a worker says. */
export interface Standing {
  leaseExpiresAt: string | null;
  /** Whether somebody wants the task to end. */
  cancelRequested: boolean;
  serverTime: string;
}
export interface Changed extends Standing {
  taskId: string;
  status: Status;
  updatedAt: string;
}

export interface TaskFields {
  id: string;
  taskType: string;
  status: Status;
  metadata: JsonObject | null;
  params: JsonObject | null;
  result: JsonObject | null;
  error: JsonObject | null;
  timeoutSeconds: number;
  workerId: string | null;
  originalTaskId: string | null;
  retryCount: number;
  createdAt: string;
  updatedAt: string;
  startedAt: string | null;
  completedAt: string | null;
  timeoutAt: string;
  attempt: number;
  maxAttempts: number;
  lostAttempts: number;
  leaseSeconds: number | null;
  leaseExpiresAt: string | null;
  lastHeartbeatAt: string | null;
  stallSeconds: number | null;
  stalledAt: string | null;
  cancelRequestedAt: string | null;
  cancelReason: string | null;
  cancelDeadline: string | null;
}
export interface Task extends TaskFields {
  progressHistory: ProgressEntry[];
  /** `false` while entries that are not sealed yet cannot be read. */
  progressHistoryComplete?: false;
}
export interface ClaimedTask extends Task {
  leaseToken: string | null;
  cancelRequested: boolean;
  serverTime: string;
}

export interface NewTask {
  taskType: string;
  taskId?: string;
  metadata?: JsonObject;
  params?: JsonObject;
  timeoutSeconds?: number;
  maxAttempts?: number;
  stallSeconds?: number;
}
export interface Registered {
  taskId: string;
  status: Status;
  createdAt: string;
  timeoutAt: string;
}
export interface Page<Item> {
  items: Item[];
  nextCursor: string | null;
}
/** A task as lists and events have it. */
export interface TaskItem extends TaskFields {
  latestProgress: ProgressEntry | null;
  /** `false` while entries that are not sealed yet cannot be read. */
  latestProgressComplete?: false;
}
/** The same without what may be large. */
export type BriefTask = Omit<TaskItem, "metadata" | "params" | "result">;
export interface ListFilter {
  taskType?: string;
  /** Several are alternatives. */
  status?: Status | Status[];
  workerId?: string;
  createdAfter?: string;
  createdBefore?: string;
  completedAfter?: string;
  completedBefore?: string;
  /** Text of the id, the type, the worker, metadata, params or the error. A page may then hold fewer than `limit`, and not be the last. */
  q?: string;
  /** The chain of retries that began with this task. */
  originalTaskId?: string;
  /** By `completedAt` only what has ended. */
  sort?: "createdAt" | "completedAt";
  order?: "desc" | "asc";
  /** `brief`: without `params`, `metadata` and `result`. */
  fields?: "all" | "brief";
  limit?: number;
  cursor?: string | null;
}
export interface Why extends Standing {
  taskId: string;
  status: Status;
  code: string;
  explanation: string;
  workerId: string | null;
  attempt: number;
  lostAttempts: number;
  maxAttempts: number;
  lastHeartbeatAt: string | null;
  lastProgressAt: string | null;
  latestProgress: ProgressEntry | null;
  stalledAt: string | null;
  cancelDeadline: string | null;
  timeoutAt: string;
  ahead: number | null;
  typePolledAt: string | null;
  typePolledBy: string | null;
}
export interface Worker {
  workerId: string;
  taskTypes: string[];
  lastSeenAt: string;
  holds: { taskId: string; taskType: string; attempt: number; startedAt: string | null; leaseExpiresAt: string | null }[];
}

/** What became of one of many tasks, at its `index`: as if it had come alone. */
export type Outcome<Done = JsonObject> =
  | ({ index: number; taskId: string; status: 200 | 201; problem?: undefined } & Done)
  | { index: number; taskId: string; status: 404 | 409 | 500 | 503; problem: JsonObject & { code: string; title: string; detail: string } };
export interface Outcomes<Done = JsonObject> {
  results: Outcome<Done>[];
  done: number;
  failed: number;
}
/** All tasks at a glance; what stands in it may be a few seconds old. */
export interface Overview {
  serverTime: string;
  counts: { pending: number; in_progress: number; completed: number; failed: number; timeout: number; cancelled: number };
  /** The counts may be some seconds old. */
  countedAt: string;
  /** Most pending first. */
  queues: { taskType: string; pending: number; inProgress: number; oldestPendingAt: string | null }[];
  window: { from: string; to: string; stepSeconds: number };
  series: {
    at: string;
    registered: number;
    completed: number;
    failed: number;
    timeout: number;
    cancelled: number;
    /** Of the tasks that completed in it, within 2.5 %; `null` if none did. */
    durationP50Ms: number | null;
    durationP95Ms: number | null;
  }[];
  workers: { seen: number; holding: number };
  /** The newest of those that failed or timed out, brief. */
  failures: BriefTask[];
}
export interface ServiceNode {
  nodeId: string;
  version: string;
  mode: "embedded" | "node";
  host: string;
  startedAt: string;
  seenAt: string;
  /** Whether it is the one that answers. */
  isThis: boolean;
  openStreams: number;
  waitingWorkers: number;
}
