import type {
  BriefTask, CallOptions, Caller, Changed, ClaimedTask, ListFilter, NewTask, ServiceNode, Outcomes, Overview, Page, Registered, Standing, Task, TaskItem, Why, Worker,
} from "./types/calls.js";
import type { Events, EventsOptions } from "./types/events.js";

export * from "./types/calls.js";
export * from "./types/events.js";

/** Where a task stands. Statuses that a later server adds are possible. */
export type Status = "pending" | "in_progress" | EndStatus | (string & {});
/** How a task may have ended. */
export type EndStatus = "completed" | "failed" | "timeout" | "cancelled";
export type JsonObject = Record<string, unknown>;

/** What a worker reported. It may hold anything; these fields are shown well. */
export interface ProgressEntry {
  /** Its place in the history: 1, 2, 3 … */
  seqId: number;
  /** 0 to 100. */
  percent?: number;
  current?: number;
  total?: number;
  message?: string;
  stage?: string;
  level?: string;
  etaSeconds?: number;
  [member: string]: unknown;
}

interface EventOf<Name extends string, Data> {
  event: Name;
  data: Data;
  taskId: string;
  /** When it happened (RFC 3339): of an entry the same, whenever and wherever it is read. */
  timestamp: string;
}

/** How a task ended. */
export interface End {
  status: EndStatus;
  /** Of a completed task. */
  result?: JsonObject;
  /** Of a failed task. */
  error?: JsonObject;
  /** Of a cancelled task. */
  reason?: string;
}
/** Numbers whose entries are gone for good. */
export interface Gap {
  from: number;
  to: number;
}

/** An entry. `P` is what the workers of this task put into it. */
export type ProgressEvent<P extends object = ProgressEntry> = EventOf<"progress", P & { seqId: number }>;
/** The task stands somewhere else now, or has ended. */
export type StatusEvent = EventOf<"status_change", { status: Status } & Omit<Partial<End>, "status">>;
export type GapEvent = EventOf<"gap", Gap>;
/** What is to be known of a task that goes on. */
export type NoticeEvent =
  | EventOf<"cancel_requested", { reason: string | null; deadline: string | null }>
  | EventOf<"stalled", { since: string }>
  | EventOf<"recovered", JsonObject>;
export type TaskEvent<P extends object = ProgressEntry> = ProgressEvent<P> | StatusEvent | GapEvent | NoticeEvent;

/** How the events arrive at the moment. */
export type Connection =
  | { state: "streaming" }
  /** Streams do not get through: it is asked again and again. */
  | { state: "polling" }
  /** Nothing got through; the next attempt is in `delayMs`. `failures` counts those in a row. */
  | { state: "waiting"; failures: number; delayMs: number; error: unknown };

export interface ClientOptions {
  /**
   * The service, without `/api/v1`. Unless it is given: where this module came from, if that was over HTTP (as from the
   * service itself), else `http://localhost:3002`.
   */
  baseUrl?: string | URL;
  /** Sent with every request; a function is asked each time, for credentials that expire. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  fetch?: (input: URL, init: RequestInit) => Promise<Response>;
}

/** All in milliseconds. */
export interface Timing {
  /** For which a stream may be without its first byte before it is polled instead (8 s). */
  openMs?: number;
  /** For which an open stream may be silent: it has a comment every 15 s (40 s). */
  silenceMs?: number;
  /** Between two polls, give or take a quarter (2 s). */
  pollMs?: number;
  /** After which streaming is tried again while polling; it doubles, up to tenfold (30 s). */
  streamAgainMs?: number;
  /** Of the first failure; it doubles with each (0.5 s). */
  backoffMs?: number;
  /** At most (30 s). */
  longestBackoffMs?: number;
}

type Awaitable = void | Promise<void>;

export interface TrackOptions<P extends object = ProgressEntry> extends ClientOptions {
  /** Only entries above this number. */
  afterSeqId?: number;
  /** No entries that are there already. An `afterSeqId` beside it wins. */
  ignoreHistory?: boolean;
  /** Of the entries that are there already only so many, the newest. An `afterSeqId` beside it wins. */
  last?: number;
  /** Ends it, with the signal's reason as a rejection. */
  signal?: AbortSignal;
  timing?: Timing;

  /** Listeners are called in the order of the events, each after the one before has returned or resolved. */
  onEvent?(event: TaskEvent<P>): Awaitable;
  onProgress?(entry: P & { seqId: number }, event: ProgressEvent<P>): Awaitable;
  onStatus?(change: StatusEvent["data"], event: StatusEvent): Awaitable;
  onGap?(gap: Gap, event: GapEvent): Awaitable;
  /** `cancel_requested`, `stalled`, `recovered`, and what a later server may say. */
  onNotice?(event: NoticeEvent): Awaitable;
  onConnection?(connection: Connection): void;
}

/**
 * A task that is followed: iterate it for its events, or await it for its end. With listeners it runs by itself. It
 * rejects with a `TaskTrackerError` where no further attempt would help, with the signal's reason, or with what a listener threw.
 */
export interface Tracking<P extends object = ProgressEntry> extends Promise<End>, AsyncIterable<TaskEvent<P>> {
  [Symbol.asyncIterator](): AsyncGenerator<TaskEvent<P>, void, void>;
}

/**
 * Follows a task to its end: every entry once, in order, whatever happens to connections and servers in between. With
 * `ignoreHistory` or `last` it says first where the task stands.
 */
export function track<P extends object = ProgressEntry>(taskId: string, options?: TrackOptions<P>): Tracking<P>;

/** A refusal, as the server says it (RFC 9457). */
export class TaskTrackerError extends Error {
  constructor(status: number, problem: JsonObject & { code?: string; title?: string; detail?: string }, retryAfterMs?: number);
  /** Of HTTP. */
  readonly status: number;
  /** What happened, for programs: `task_not_found`, `lease_lost` …; `http_<status>` where it is not the service that answers. */
  readonly code: string;
  /** What the code means, for people. */
  readonly title: string;
  /** What happened here, for people. */
  readonly detail: string;
  /** The whole document: `errors` of `validation_failed`, `from` of `invalid_transition` … */
  readonly problem: JsonObject;
  /** When to come again, if the server said so. */
  readonly retryAfterMs: number | undefined;
}

/** A frame of an event stream. */
export interface EventFrame {
  event: string;
  data: string;
  /** The last id so far. */
  id: string;
}

/** Takes an event stream apart (WHATWG HTML, 9.2.6), however its bytes were cut on the way. */
export class EventStreamParser {
  /** The frames that are complete now. */
  push(bytes: Uint8Array): EventFrame[];
  /** What the stream last said of reconnecting. */
  retryMs: number | undefined;
}

/** How long to wait after so many failures in a row: what the server asked for, and a random part on top that doubles. */
export function backoffMs(
  failures: number,
  floorMs: number,
  timing: Pick<Required<Timing>, "backoffMs" | "longestBackoffMs">,
  random?: () => number,
): number;

/** Calls one service; each method is one request, and rejects with a `TaskTrackerError` where it is refused. */
export class TaskTracker {
  constructor(options?: ClientOptions);

  register(task: NewTask, call?: CallOptions): Promise<Registered>;
  /** Up to 1,000, each with an outcome of its own, in order: 201, or a problem. */
  registerMany(
    tasks: NewTask[],
    call?: CallOptions,
  ): Promise<{ results: (JsonObject & { status: number | Status; taskId?: string })[]; created: number; failed: number }>;
  /** With its whole history. */
  get(id: string, call?: CallOptions): Promise<Task>;
  /** Newest first, unless another order is asked for. The last page is the one whose `nextCursor` is `null`. */
  list(filter: ListFilter & { fields: "brief" }, call?: CallOptions): Promise<Page<BriefTask>>;
  list(filter?: ListFilter & { fields?: "all" }, call?: CallOptions): Promise<Page<TaskItem>>;

  /** Where these stand, at most 100, without their histories; those that are not there are left out. */
  standing(ids: string[], call?: CallOptions): Promise<TaskItem[]>;

  /** The oldest pending task of these types, or `null` if there is none after `waitSeconds`. */
  claim(
    wish: { taskTypes: string[]; workerId: string; waitSeconds?: number; leaseSeconds?: number },
    call?: CallOptions,
  ): Promise<ClaimedTask | null>;
  start(
    id: string,
    body?: { workerId?: string; leaseSeconds?: number },
    call?: CallOptions,
  ): Promise<Changed & { attempt: number; leaseToken: string | null }>;
  /** One entry, or many at once, all or none. */
  progress(
    id: string,
    entry: object | object[],
    caller?: Caller,
    call?: CallOptions,
  ): Promise<Standing & { taskId: string; seqId: number; count?: number; timestamp: string }>;
  complete(id: string, body?: Caller & { result?: JsonObject }, call?: CallOptions): Promise<Changed>;
  fail(id: string, body?: Caller & { error?: JsonObject }, call?: CallOptions): Promise<Changed>;
  release(id: string, body: Caller & { workerId: string }, call?: CallOptions): Promise<Standing & { taskId: string; status: Status; message: string }>;
  heartbeat(id: string, body?: Caller & { leaseSeconds?: number }, call?: CallOptions): Promise<Changed>;

  /** At once what waits; what runs when its worker agrees, or after the grace (30 s). */
  cancel(
    id: string,
    body?: Caller & { reason?: string; force?: boolean; graceSeconds?: number },
    call?: CallOptions,
  ): Promise<Changed & { cancelDeadline: string | null }>;
  /** At most 1000 different ones, each as if alone. */
  cancelMany(
    ids: string[],
    body?: { reason?: string; force?: boolean; graceSeconds?: number },
    call?: CallOptions,
  ): Promise<Outcomes<{ taskStatus: Status; updatedAt: string; cancelDeadline: string | null }>>;
  timeOut(id: string, call?: CallOptions): Promise<Changed>;
  retry(
    id: string,
    call?: CallOptions,
  ): Promise<{ newTaskId: string; originalTaskId: string; status: Status; retryCount: number }>;
  /** At most 1000 different ones, each as if alone. */
  retryMany(
    ids: string[],
    call?: CallOptions,
  ): Promise<Outcomes<{ newTaskId: string; originalTaskId: string; retryCount: number }>>;

  why(id: string, call?: CallOptions): Promise<Why>;
  workers(page?: { limit?: number; cursor?: string | null }, call?: CallOptions): Promise<Page<Worker>>;

  /** Ends what is overdue, as the server does by itself every few seconds. */
  processTimeouts(call?: CallOptions): Promise<{ processedCount: number }>;
  overview(query?: { windowSeconds?: number }, call?: CallOptions): Promise<Overview>;
  nodes(call?: CallOptions): Promise<{ items: ServiceNode[] }>;

  /** The functions of these names, with the options of this client. */
  events<P extends object = ProgressEntry>(options?: EventsOptions<P>): Events<P>;
  track<P extends object = ProgressEntry>(taskId: string, options?: TrackOptions<P>): Tracking<P>;
}
