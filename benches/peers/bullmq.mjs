// BullMQ on the run's Redis. Fast as its guide says: bulk adds, a worker with concurrency, jobs removed
// when they are done, one shared connection for adding (ioredis pipelines what one tick issues).

import { Queue, QueueEvents, Worker } from 'bullmq';
import { BULK, SHORT, Window, drive, ensure, entry, main, options, payload, until } from './common.mjs';

const url = new URL(options.redis);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const prefix = options.prefix;
// Its events are a stream that is cut at 10,000; a listener that is behind would lose some.
const streams = { events: { maxLen: 5_000_000 } };
const queue = new Queue('load', {
  connection,
  prefix,
  streams,
  defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
});
const jobs = (count) => Array.from({ length: count }, () => ({ name: 'load', data: payload }));

async function backlog(count) {
  for (let left = count; left > 0; left -= BULK) await queue.addBulk(jobs(Math.min(left, BULK)));
}

/** A worker that remembers whom it had. */
function worker(processor, concurrency) {
  const seen = new Set();
  const made = new Worker(
    'load',
    async (job) => {
      ensure(!seen.has(job.id), `job ${job.id} came twice`);
      seen.add(job.id);
      await processor(job);
    },
    { connection, prefix, concurrency, removeOnComplete: { count: 0 }, removeOnFail: { count: 0 }, autorun: false },
  );
  const failures = [];
  made.on('failed', (job, error) => failures.push(error));
  made.on('error', (error) => failures.push(error));
  return { worker: made, seen, failures };
}

await main({
  async register() {
    await queue.waitUntilReady();
    let added = 0;
    const figure = await drive(32, async () => {
      await queue.add('load', payload);
      added += 1;
      return 1;
    });
    const there = await queue.getWaitingCount();
    ensure(there === added, `${there} jobs are there of ${added}`);
    return figure;
  },

  async bulk() {
    await queue.waitUntilReady();
    let added = 0;
    const figure = await drive(8, async () => {
      const made = await queue.addBulk(jobs(BULK));
      added += made.length;
      return made.length;
    });
    const there = await queue.getWaitingCount();
    ensure(there === added, `${there} jobs are there of ${added}`);
    return figure;
  },

  async process() {
    await backlog(options.backlog);
    const window = new Window();
    let done = 0;
    const { worker: crew, seen, failures } = worker(async () => {}, 64);
    crew.on('completed', () => {
      done += 1;
      window.count(1);
      if (done === options.backlog) window.exhausted();
    });
    crew.run();
    await window.pass(SHORT);
    await crew.close();
    const left = (await queue.getWaitingCount()) + (await queue.getActiveCount());
    ensure(failures.length === 0, `a job failed: ${failures[0]}`);
    ensure(seen.size + left === options.backlog, `${seen.size} done and ${left} left of ${options.backlog}`);
    return window.figure();
  },

  async progress() {
    const tasks = await queue.addBulk(jobs(100));
    const heard = new Map(tasks.map((job) => [job.id, 0]));
    let wrong;
    // From the beginning: what is told before it listens would be missed otherwise.
    const events = new QueueEvents('load', { connection, prefix, lastEventId: '0-0' });
    await events.waitUntilReady();
    events.on('progress', ({ jobId, data }) => {
      if (data.n !== heard.get(jobId) + 1) wrong ??= `entry ${data.n} of job ${jobId} came after ${heard.get(jobId)}`;
      heard.set(jobId, data.n);
    });
    const sent = tasks.map(() => 0);
    let next = 0;
    const figure = await drive(32, async () => {
      const at = next++ % tasks.length;
      sent[at] += 1;
      await tasks[at].updateProgress({ n: sent[at], ...entry });
      return 1;
    });
    const all = () => tasks.every((job, at) => heard.get(job.id) === sent[at]);
    await until(() => wrong !== undefined || all(), 'the listener did not hear everything');
    ensure(wrong === undefined, wrong);
    return figure;
  },

  async lifecycle() {
    const waiting = new Map();
    const { worker: crew, failures } = worker(async (job) => {
      for (let n = 1; n <= 10; n += 1) await job.updateProgress({ n, ...entry });
    }, 64);
    const ended = new Set();
    crew.on('completed', (job) => {
      if (waiting.has(job.id)) waiting.get(job.id)();
      else ended.add(job.id);
      waiting.delete(job.id);
    });
    crew.run();
    await crew.waitUntilReady();
    const figure = await drive(64, async () => {
      const job = await queue.add('load', payload);
      // It may have ended before its adder heard of its id.
      if (!ended.delete(job.id)) await new Promise((resolve) => waiting.set(job.id, resolve));
      return 1;
    });
    await crew.close();
    ensure(failures.length === 0, `a job failed: ${failures[0]}`);
    const left = (await queue.getWaitingCount()) + (await queue.getActiveCount());
    ensure(left === 0 && ended.size === 0, `${left} jobs are left`);
    return figure;
  },
});
