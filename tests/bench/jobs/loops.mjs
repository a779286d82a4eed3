// Loops that take and complete batches, as a worker process runs them.
import { setTimeout as sleep } from 'node:timers/promises';
import { LOOPS, MIN_POLL_MS } from './settings.mjs';

export async function drainLoops(n, take, complete) {
  let left = n;
  await Promise.all(
    Array.from({ length: LOOPS }, async (_, i) => {
      while (left > 0) {
        const jobs = await take(i);
        if (!jobs?.length) {
          if (left > 0) await sleep(2);
          continue;
        }
        await complete(i, jobs);
        left -= jobs.length;
      }
    }),
  );
}

// A loop that runs when woken, again while there is more, and at the latest after a poll interval.
export class Waker {
  #wake = () => {};
  #woken = false;
  #stopped = false;

  wake() {
    this.#woken = true;
    this.#wake();
  }

  // A step says true to go on at once, or how soon to look again; null is: later than last time.
  async run(step, pollMs) {
    // As in the sidecar: soon after a reason to look, then less and less often.
    let reason = -Infinity;
    while (!this.#stopped) {
      const woken = this.#woken;
      if (woken) reason = performance.now();
      this.#woken = false;
      const next = await step();
      if (next !== null) reason = performance.now();
      if (next === true || this.#woken || this.#stopped) continue;
      const pause = next ?? (woken ? MIN_POLL_MS : Math.min(Math.max(2 * MIN_POLL_MS, (performance.now() - reason) / 4), pollMs));
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async stop(running) {
    this.#stopped = true;
    this.wake();
    await running;
  }
}
