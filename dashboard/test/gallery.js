/** A service at work, as pictures of it should have one: of an hour that nobody waits for. */

const TYPES = ["report.build", "invoice.render", "import.customers", "search.reindex", "video.transcode", "report.build"];
/** What waits longer than others: nobody works on it. */
const IDLE = "mail.digest";
const ERRORS = [
  { message: "The disk is full", path: "/var/lib/exports", code: 28 },
  { message: "Connection to warehouse.internal was refused after 3 attempts" },
  { message: "Row 4,711 has no address" },
];
const RUNNING = [
  { taskType: "report.build", percent: 64, stage: "Drawing", message: "page 8 of 12", etaSeconds: 40 },
  { taskType: "import.customers", current: 41_200, total: 50_000, stage: "Reading", message: "customers-2026-11.csv" },
  { taskType: "video.transcode", percent: 23.4, stage: "Second pass", message: "1080p, frame 12,406" },
  { taskType: "search.reindex", message: "Collecting documents" },
  { taskType: "invoice.render", percent: 91, stage: "Packing", message: "3 invoices have no address", level: "warning" },
  { taskType: "report.build", percent: 12, stage: "Reading", message: "orders of Berlin" },
];

/** Tasks of every kind, newest last; some with a worker that waits for more. */
export async function work({ client }) {
  const started = async (taskType, worker, more = {}) => {
    const { taskId } = await client.register({ taskType, params: { month: "2026-11" }, ...more });
    await client.claim({ taskTypes: [taskType], workerId: worker, leaseSeconds: 3600 });
    return taskId;
  };
  await client.registerMany(Array.from({ length: 14 }, () => ({ taskType: IDLE })));
  for (let n = 0; n < 34; n++) {
    const [taskType, workerId] = [TYPES[(n * n + n) % 4 === 0 ? n % 3 : (n * 5) % 6], `worker-${1 + (n % 6)}`];
    const id = await started(taskType, workerId);
    await client.progress(id, { percent: n % 11 === 8 ? 30 + n : n % 7 === 3 ? 20 + n : 100, stage: "Writing", message: `part ${n}` }, { workerId });
    if (n % 11 === 8) await client.fail(id, { workerId, error: ERRORS[n % 3] });
    else if (n === 14) await client.timeOut(id);
    else if (n === 21) await client.cancel(id, { workerId, reason: "Sent by mistake" });
    else await client.complete(id, { workerId, result: { rows: 42 * n } });
  }
  for (const [n, { taskType, ...entry }] of RUNNING.entries()) {
    const workerId = `worker-${1 + n}`;
    await client.progress(await started(taskType, workerId), entry, { workerId });
  }
  await client.registerMany([TYPES[1], TYPES[4]].map((taskType) => ({ taskType })));
}

const earlier = (time, ms) => (time ? new Date(Date.parse(time) - ms).toISOString() : time);

/** Lets the page believe that what happened just now happened over the last hour, and more of it. */
export async function aged(page) {
  const change = (address, work) => page.route(address, async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    work(json);
    await route.fulfill({ response, json });
  });
  const age = (task, n) => {
    const ms = 25_000 * n + 3_500 * (n % 5) + 900 * n * n;
    const took = task.startedAt && task.completedAt ? 9_000 + ((n * 7_919) % 60_000) : 0;
    Object.assign(task, { createdAt: earlier(task.createdAt, ms + took), startedAt: earlier(task.startedAt, ms + took), completedAt: earlier(task.completedAt, ms) });
  };
  await change(/\/api\/v1\/tasks\?(?!.*status=in_progress)/, ({ items }) => items.forEach(age));
  await change(/\/api\/v1\/overview/, (overview) => {
    const totals = { completed: 0, failed: 0, timeout: 0, cancelled: 0 };
    overview.series.forEach((step, n) => {
      const wave = 9 + 6 * Math.sin(n / 7) + 3 * Math.sin(n / 2.3) + ((n * 37) % 5);
      const completed = Math.max(1, Math.round(wave));
      Object.assign(step, { completed, failed: n % 9 === 4 ? 2 : n % 13 === 6 ? 1 : 0, timeout: n % 21 === 11 ? 1 : 0, cancelled: n % 17 === 9 ? 1 : 0 });
      step.registered = completed + step.failed + ((n * 13) % 4);
      step.durationP50Ms = 8_000 + 1_800 * Math.sin(n / 8) + ((n * 97) % 900);
      step.durationP95Ms = 21_000 + 5_000 * Math.sin(n / 6 + 1) + ((n * 331) % 4_000);
      for (const name of Object.keys(totals)) totals[name] += step[name];
    });
    for (const [name, total] of Object.entries(totals)) overview.counts[name] += total * 12;
    overview.failures.forEach(age);
  });
}
