/**
 * Custom elements that show tasks. Nothing of them needs inline styles or scripts: sheets are constructed and what moves
 * is set through the CSSOM, so they work under `style-src 'self'; script-src 'self'`.
 */

import { TaskListElement } from "./elements/list.js";
import { TaskProgressElement } from "./elements/progress.js";
import { TaskRecentElement } from "./elements/recent.js";

export { TaskListElement, TaskProgressElement, TaskRecentElement };

globalThis.customElements?.define("task-progress", TaskProgressElement);
globalThis.customElements?.define("task-list", TaskListElement);
globalThis.customElements?.define("task-recent", TaskRecentElement);
