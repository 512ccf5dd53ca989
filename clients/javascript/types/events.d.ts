/** The stream of many tasks. */

import type { ClientOptions, Connection, Gap, GapEvent, ProgressEntry, ProgressEvent, Status, Timing } from "../client.js";
import type { TaskItem } from "./calls.js";

type Awaitable = void | Promise<void>;

/** From here on nothing is missed. Unless it is resumed, list what is to be shown now, and then apply what comes. */
export interface OpenEvent {
  event: "open";
  data: { resumed: boolean };
  timestamp: string;
}
/** A task as it stands now: it was registered, changed its status, is to be cancelled, stalled or recovered. The whole of it. */
export interface TaskStateEvent {
  event: "task";
  data: TaskItem;
  taskId: string;
  timestamp: string;
}
/** Too much has changed to be told: list anew. */
export interface ResyncEvent {
  event: "resync";
  data: object;
  timestamp: string;
}
export type FeedEvent<P extends object = ProgressEntry> = OpenEvent | TaskStateEvent | ProgressEvent<P> | GapEvent | ResyncEvent;

export interface EventsOptions<P extends object = ProgressEntry> extends ClientOptions {
  /** Values of one are alternatives; of different ones all must hold. At most 100 ids and 100 types. */
  taskIds?: string[];
  taskTypes?: string[];
  statuses?: Status[];
  /** The newest entry of each task (unless said otherwise), every entry (needs `taskIds`), or none. */
  progress?: "latest" | "all" | "none";
  /** Within which changes of one task are told once, the newest: 0 to 60,000 (250). */
  everyMs?: number;
  /** The id of an event of this stream: goes on behind it. */
  after?: string;
  /** Ends it, with the signal's reason as a rejection. */
  signal?: AbortSignal;
  timing?: Timing;

  /** Listeners are called in the order of the events, each after the one before has returned or resolved. */
  onEvent?(event: FeedEvent<P>): Awaitable;
  onOpen?(open: OpenEvent["data"], event: OpenEvent): Awaitable;
  /** To be put in the place of what is known of the task. It may be told again, and is never older than what was told. */
  onTask?(task: TaskItem, event: TaskStateEvent): Awaitable;
  onProgress?(taskId: string, entry: P & { seqId: number }, event: ProgressEvent<P>): Awaitable;
  onGap?(taskId: string, gap: Gap, event: GapEvent): Awaitable;
  onResync?(event: ResyncEvent): Awaitable;
  onConnection?(connection: Connection): void;
}

/**
 * Iterate it, or give it listeners and await what ends it: its signal, or a refusal that no further attempt would mend. Both
 * are rejections.
 */
export interface Events<P extends object = ProgressEntry> extends Promise<never>, AsyncIterable<FeedEvent<P>> {
  [Symbol.asyncIterator](): AsyncGenerator<FeedEvent<P>, void, void>;
}

/** Follows all tasks of a filter on one connection, whatever happens to it. */
export function events<P extends object = ProgressEntry>(options?: EventsOptions<P>): Events<P>;
