// Graphile Worker on the run's Postgres. Fast as its page on performance says: jobs in batches, a local
// queue that fetches ahead, completions in batches.

import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';
import { BULK, SHORT, Window, drive, ensure, main, options, payload, until } from './common.mjs';

const CONCURRENCY = 64;
const logger = new Logger(() => () => {});
const pgPool = new pg.Pool({ connectionString: options.database, max: 20 });
// A lost connection is a void run; the library wants it said.
const broken = (error) => {
  throw error;
};
pgPool.on('error', broken);
pgPool.on('connect', (client) => client.on('error', broken));
const utils = await makeWorkerUtils({ pgPool, logger });
await utils.migrate();
const specs = (count) => Array.from({ length: count }, () => ({ identifier: 'load', payload }));

async function there() {
  const { rows } = await pgPool.query('SELECT count(*)::int AS there FROM graphile_worker._private_jobs');
  return rows[0].there;
}

await main({
  async register() {
    let added = 0;
    const figure = await drive(32, async () => {
      await utils.addJob('load', payload);
      added += 1;
      return 1;
    });
    const kept = await there();
    ensure(kept === added, `${kept} jobs are there of ${added}`);
    return figure;
  },

  async bulk() {
    let added = 0;
    const figure = await drive(8, async () => {
      const made = await utils.addJobs(specs(BULK));
      added += made.length;
      return made.length;
    });
    const kept = await there();
    ensure(kept === added, `${kept} jobs are there of ${added}`);
    return figure;
  },

  async process() {
    for (let left = options.backlog; left > 0; left -= BULK) await utils.addJobs(specs(Math.min(left, BULK)));
    await pgPool.query('ANALYZE graphile_worker._private_jobs');
    const window = new Window();
    const seen = new Set();
    let wrong;
    const runner = await run({
      pgPool,
      logger,
      noHandleSignals: true,
      taskList: {
        load: async (_, { job }) => {
          if (seen.has(job.id)) wrong ??= `job ${job.id} came twice`;
          seen.add(job.id);
          window.count(1);
          if (seen.size === options.backlog) window.exhausted();
        },
      },
      preset: {
        worker: {
          concurrentJobs: CONCURRENCY,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    });
    await window.pass(SHORT);
    await runner.stop();
    ensure(wrong === undefined, wrong);
    // Completions go in batches: those of the last may still be on their way.
    await until(async () => (await there()) + seen.size === options.backlog, 'jobs done and left are not all');
    return window.figure();
  },
});
