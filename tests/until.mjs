// Waiting for something, with an end.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Calls `probe` until it returns a truthy value; after the timeout it fails and names what it waited for. The timeout costs nothing
 * while the condition comes, so it is one that a busy machine does not miss.
 */
export async function until(what, probe, { timeoutMs = 120_000, everyMs = 50 } = {}) {
  const started = performance.now();
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(performance.now() - started < timeoutMs, `waited ${timeoutMs} ms for ${what}`);
    await sleep(everyMs);
  }
}
