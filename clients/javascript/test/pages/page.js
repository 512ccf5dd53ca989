/** Notes what the elements tell, for the tests to read. */
globalThis.told = [];
for (const name of ["task-event", "task-end", "task-error"]) {
  document.addEventListener(name, ({ detail, target }) => {
    globalThis.told.push({ name, taskId: target.taskId, event: detail.event, seqId: detail.data?.seqId, status: detail.status ?? detail.data?.status, code: detail.code });
  });
}
