import type { ClientOptions, Connection, End, TaskEvent, TaskItem, TaskTrackerError, Timing } from "./client.js";

/** What the elements say, for pages in other languages; one for all of them. */
export interface Words {
  statuses: Record<string, string>;
  stalled: string;
  cancelling: string;
  connecting: string;
  unavailable: string;
  reconnecting: string;
  details: string;
  left(time: string): string;
  count(current: number, total: number): string;
  tasks: string;
  recent: string;
  none: string;
  running(count: string): string;
  ago(time: string): string;
  waits(time: string): string;
  several(count: number): string;
}

interface Watching extends HTMLElement {
  baseUrl: string;
  label: string;
  /** Sent with every request. */
  headers: ClientOptions["headers"];
  timing: Timing | undefined;
  /** How the events arrive at the moment. */
  readonly connection: Connection | undefined;
}
interface ManyTasks extends Watching {
  /** One, or several with commas between them. */
  taskType: string;
  /** One, or several with commas between them. */
  status: string;
  limit: number;
  /** Where a row leads to: `{id}` stands for the task's id, as `#/tasks/{id}`. */
  href: string;
}

/**
 * `<task-progress task-id="…">`: the bar of a task, its label, how long it will take, where it stands, and what went
 * wrong. Attributes: `task-id`, `base-url`, `label`; what is between its tags is the label, if there is anything.
 *
 * Fires `task-event` (its `detail` is the event) for each event since the page shows the task and of at most 200 entries before,
 * `task-end` (how it ended), and `task-error` where it cannot be followed. They bubble.
 */
export class TaskProgressElement extends HTMLElement {
  static words: Words;
  taskId: string;
}
export interface TaskProgressElement extends Watching {}

/**
 * `<task-list>`: the newest tasks, live. All lists of a page share one connection. Attributes: `task-type`, `status`, `limit` (20, at most 100), `base-url`,
 * `href`, `label`; what has `slot="empty"` is shown where there is none.
 *
 * Fires `task-added` and `task-ended` (their `detail` is the task), and `task-error`. They bubble.
 */
export class TaskListElement extends HTMLElement {
  static words: Words;
}
export interface TaskListElement extends ManyTasks {}

/**
 * `<task-recent>`: a button with how many tasks run, and a panel with the newest ones. Attributes: those of `<task-list>` (`limit` is 8),
 * and `open-on-add`: it opens when a task is added, and leaves the focus where it is. What is between its tags is on the button.
 *
 * Fires what `<task-list>` does, and `task-toggle` (`{ open }`).
 */
export class TaskRecentElement extends HTMLElement {
  static words: Words;
  open: boolean;
  openOnAdd: boolean;
}
export interface TaskRecentElement extends ManyTasks {}

declare global {
  interface HTMLElementTagNameMap {
    "task-progress": TaskProgressElement;
    "task-list": TaskListElement;
    "task-recent": TaskRecentElement;
  }
  interface HTMLElementEventMap {
    "task-event": CustomEvent<TaskEvent>;
    "task-end": CustomEvent<End>;
    "task-error": CustomEvent<TaskTrackerError | Error>;
    "task-added": CustomEvent<TaskItem>;
    "task-ended": CustomEvent<TaskItem>;
    "task-toggle": CustomEvent<{ open: boolean }>;
  }
}
