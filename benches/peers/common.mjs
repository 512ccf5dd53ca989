// What the drivers of the other products share: the closed loop, the window, and how a run is told
// to the load driver. It reads the CPU time of this process and of the servers when it is told
// `begin` and `end`; the last line is the figure, or why there is none.

import { performance } from 'node:perf_hooks';

/** Which work, and with what: both are the load driver's words. */
export const work = process.argv[2];
export const options = JSON.parse(process.argv[3]);

/** What a small job carries; Task Tracker's scenarios send the same. */
export const payload = {
  metadata: { tenant: 'acme', source: 'load' },
  params: { rows: 1000, from: 's3://bucket/in.csv', to: 's3://bucket/out.csv' },
};
export const entry = { at: 42, percent: 42, message: 'rows 41000 to 42000 of 100000' };

/** Tasks of one bulk request. */
export const BULK = 1000;

const say = (line) => process.stdout.write(`${line}\n`);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** The run is void unless this holds. */
export function ensure(holds, reason) {
  if (!holds) throw new Error(reason);
}

/** The measured seconds; what ends inside of them counts. */
export class Window {
  #open = false;
  #latencies = [];
  #ops = 0;
  #begun = 0;
  #last = 0;
  over = false;

  count(ops, started) {
    if (!this.#open) return;
    this.#last = performance.now();
    this.#ops += ops;
    if (started !== undefined) this.#latencies.push(this.#last - started);
  }

  /** Nothing is left to do. */
  exhausted() {
    this.over = true;
  }

  /** Waits for the warm-up and the window to pass. */
  async pass(warmup = options.warmup) {
    await this.#wait(warmup);
    this.#open = true;
    this.#begun = performance.now();
    say('begin');
    await this.#wait(options.seconds);
    this.#open = false;
    say('end');
    const until = this.over ? this.#last : performance.now();
    this.over = true;
    this.elapsed = (until - this.#begun) / 1000;
  }

  async #wait(seconds) {
    const end = performance.now() + seconds * 1000;
    while (!this.over && performance.now() < end) {
      await sleep(Math.min(0.02, Math.max(0, (end - performance.now()) / 1000)));
    }
  }

  figure() {
    ensure(this.#ops > 0 && this.elapsed > 0, 'nothing ended inside the window');
    this.#latencies.sort((one, other) => one - other);
    const quantile = (q) => (this.#latencies[Math.floor(q * (this.#latencies.length - 1))] ?? 0) / 1000;
    return { ops: this.#ops, seconds: this.elapsed, p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999) };
  }
}

/** The warm-up of what works off a backlog, which would be gone after a longer one. */
export const SHORT = 0.1;

/** So many lanes do `step` again and again; it tells how many operations it did, 0 when nothing is left. */
export async function drive(lanes, step, warmup = options.warmup) {
  const window = new Window();
  const lane = async (index) => {
    while (!window.over) {
      const started = performance.now();
      const ops = await step(index);
      if (ops === 0) return window.exhausted();
      window.count(ops, started);
    }
  };
  const all = Promise.all(Array.from({ length: lanes }, (_, index) => lane(index)));
  await Promise.all([all, window.pass(warmup)]);
  return window.figure();
}

/** Waits until a fact holds. */
export async function until(fact, reason) {
  const end = performance.now() + 30_000;
  while (!(await fact())) {
    ensure(performance.now() < end, reason);
    await sleep(0.05);
  }
}

/** Does the work of this name, and says what came of it. */
export async function main(works) {
  try {
    ensure(works[work], `no such work: ${work}`);
    say(JSON.stringify(await works[work]()));
    process.exit(0);
  } catch (error) {
    say(JSON.stringify({ void: String(error?.stack ?? error) }));
    process.exit(1);
  }
}
