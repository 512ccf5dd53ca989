import type { ClientOptions, Connection, End, TaskEvent, TaskTrackerError, Timing } from "./client.js";

/**
 * `<task-progress task-id="…">`: the bar of a task, its label, how long it will take, where it stands, and what went
 * wrong. Attributes: `task-id`, `base-url`, `label`; what is between its tags is the label, if there is anything.
 *
 * Fires `task-event` (its `detail` is the event) for each event since the page shows the task and of at most 200 entries before,
 * `task-end` (how it ended), and `task-error` where it cannot be followed. They bubble.
 */
export class TaskProgressElement extends HTMLElement {
  /** What it says, for pages in other languages. */
  static words: {
    statuses: Record<string, string>;
    stalled: string;
    cancelling: string;
    connecting: string;
    unavailable: string;
    reconnecting: string;
    details: string;
    left(time: string): string;
    count(current: number, total: number): string;
  };
  taskId: string;
  baseUrl: string;
  label: string;
  /** Sent with every request. */
  headers: ClientOptions["headers"];
  timing: Timing | undefined;
  /** How the events arrive at the moment. */
  readonly connection: Connection | undefined;
}

declare global {
  interface HTMLElementTagNameMap {
    "task-progress": TaskProgressElement;
  }
  interface HTMLElementEventMap {
    "task-event": CustomEvent<TaskEvent>;
    "task-end": CustomEvent<End>;
    "task-error": CustomEvent<TaskTrackerError | Error>;
  }
}
