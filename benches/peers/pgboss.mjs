// pg-boss on the run's Postgres. Fast as its documentation says: inserts in bulk, and jobs fetched and
// completed in batches. Its `work` looks twice a second at most, so batches are fetched directly.

import PgBoss from 'pg-boss';
import pg from 'pg';
import { BULK, SHORT, drive, ensure, main, options, payload } from './common.mjs';

const boss = new PgBoss({ connectionString: options.database, max: 20, supervise: false, schedule: false });
boss.on('error', (error) => {
  throw error;
});
await boss.start();
await boss.createQueue('load');
const pool = new pg.Pool({ connectionString: options.database, max: 1 });
const jobs = (count) => Array.from({ length: count }, () => ({ name: 'load', data: payload }));

async function there(state) {
  const { rows } = await pool.query('SELECT count(*)::int AS there FROM pgboss.job WHERE state = $1', [state]);
  return rows[0].there;
}

await main({
  async register() {
    let added = 0;
    const figure = await drive(32, async () => {
      ensure(await boss.send('load', payload), 'a job was not taken');
      added += 1;
      return 1;
    });
    const kept = await there('created');
    ensure(kept === added, `${kept} jobs are there of ${added}`);
    return figure;
  },

  async bulk() {
    let added = 0;
    const figure = await drive(8, async () => {
      await boss.insert(jobs(BULK));
      added += BULK;
      return BULK;
    });
    const kept = await there('created');
    ensure(kept === added, `${kept} jobs are there of ${added}`);
    return figure;
  },

  async process() {
    for (let left = options.backlog; left > 0; left -= BULK) await boss.insert(jobs(Math.min(left, BULK)));
    await pool.query('ANALYZE');
    const seen = new Set();
    const figure = await drive(8, async () => {
      const batch = await boss.fetch('load', { batchSize: 500 });
      if (batch.length === 0) return 0;
      for (const { id } of batch) {
        ensure(!seen.has(id), `job ${id} came twice`);
        seen.add(id);
      }
      await boss.complete(
        'load',
        batch.map(({ id }) => id),
      );
      return batch.length;
    }, SHORT);
    const completed = await there('completed');
    ensure(completed === seen.size, `${completed} jobs are completed of ${seen.size}`);
    return figure;
  },
});
