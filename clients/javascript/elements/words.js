/** What the elements say, for pages in other languages to replace. */

export const words = {
  statuses: /** @type {Record<string, string>} */ ({
    pending: "Waiting", in_progress: "Running", completed: "Completed", failed: "Failed", timeout: "Timed out", cancelled: "Cancelled",
  }),
  stalled: "Stalled",
  cancelling: "Cancelling",
  connecting: "Connecting",
  unavailable: "Unavailable",
  reconnecting: "reconnecting …",
  details: "Details",
  left: (/** @type {string} */ time) => `about ${time} left`,
  count: (/** @type {number} */ current, /** @type {number} */ total) => `${current} of ${total}`,
  tasks: "Tasks",
  recent: "Recent tasks",
  none: "No tasks yet",
  running: (/** @type {string} */ count) => `${count} running`,
  ago: (/** @type {string} */ time) => `${time} ago`,
  waits: (/** @type {string} */ time) => `for ${time}`,
  several: (/** @type {number} */ count) => `${count} tasks have changed`,
};
