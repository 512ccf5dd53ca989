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
/** A task as lists and events have it. With `fields=brief` the keys of what it was given and gave are absent. */
export interface TaskItem extends TaskFields {
  latestProgress: ProgressEntry | null;
  /** `false` while entries that are not sealed yet cannot be read. */
  latestProgressComplete?: false;
}
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
  sort?: "createdAt" | "completedAt" | (string & {});
  order?: "asc" | "desc";
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


/** Of many at once, each with an outcome of its own, in order: what the call alone would answer, or a problem. */
export interface Outcomes {
  /** `status` is that of HTTP: 200 or 201, or that of the `problem`. */
  results: (JsonObject & { index: number; taskId: string; status: number; problem?: JsonObject & { code: string; title: string; detail: string } })[];
  done: number;
  failed: number;
}
export interface Overview {
  serverTime: string;
  counts: Record<string, number>;
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
    durationP50Ms: number | null;
    durationP95Ms: number | null;
  }[];
  workers: { seen: number; holding: number };
  /** The newest of those that failed or timed out, brief. */
  failures: TaskItem[];
}
export interface ServiceNode {
  nodeId: string;
  version: string;
  mode: "embedded" | "node";
  host: string;
  startedAt: string;
  seenAt: string;
  isThis: boolean;
  openStreams: number;
  waitingWorkers: number;
}
