// Logs stay bounded: the rotation, tried with a process that writes without end, and on the running stack.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { until } from '../until.mjs';
import { home, kijko, pidOf, root } from './stack.mjs';

describe('rotation of logs', () => {
  it('keeps a log that is written without end, and one former file, at about the limit', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-logs-'));
    const [log, former, step] = ['rest.log', 'rest.log.1', 'up-build.log'].map((name) => path.join(folder, name));
    fs.writeFileSync(step, 'x'.repeat(20_000));
    // Appends, as the parts of the stack do: 10 lines of 100 bytes each 10 ms.
    const script = 'for ((n = 0; ; n++)); do for i in 1 2 3 4 5 6 7 8 9 0; do printf "%099d\\n" "$n"; done; sleep 0.01; done >> "$1"';
    const writer = spawn('bash', ['-c', script, 'bash', log], { stdio: 'ignore' });
    const rotation = spawn('bash', [path.join(root, 'scripts/rotate-logs.sh'), folder, '10000'], {
      stdio: 'ignore',
      env: { ...process.env, KIJKO_ROTATION_SECONDS: '0.05' },
    });
    const last = () => Number(fs.readFileSync(log, 'utf8').trim().split('\n').at(-1));
    try {
      await until('a former file', () => fs.existsSync(former));
      const [before, inode] = [last() || 0, fs.statSync(log).ino];
      // Twenty times the limit.
      await until('the writer to go on', () => last() > before + 200, { everyMs: 5 });
      assert.equal(fs.statSync(log).ino, inode, 'the writer has the same file open');
      assert.doesNotMatch(fs.readFileSync(log, 'utf8'), /\0/, 'it is written at its end, and not where it ended before');
      // More than this was written, so logs are bounded only if the rotation goes on. It is killed after this wait, when it is between
      // two copies: a kill within a copy would leave a part of a file.
      const bounded = () => fs.statSync(former).size > 10_000 && fs.statSync(log).size + fs.statSync(former).size < 200_000;
      await until('both files to be bounded', bounded, { everyMs: 5 });
    } finally {
      for (const child of [writer, rotation]) child.kill('SIGKILL');
    }
    assert.equal(fs.statSync(step).size, 20_000);
    fs.rmSync(folder, { recursive: true });
  });

  it('runs with the stack, and status reports when it does not', async () => {
    assert.match((await kijko(['status'])).stdout, /^rotation +running/m);
    process.kill(pidOf('rotation'), 'SIGKILL');
    const { code, stdout } = await kijko(['status']);
    assert.equal(code, 1);
    assert.match(stdout, /^rotation +crashed/m);
    assert.equal((await kijko(['up'])).code, 0);
    assert.match((await kijko(['status'])).stdout, /^rotation +running/m);
  });

  it('bounds the log of a part that runs', async () => {
    const log = path.join(home, 'log', 'caddy.log');
    fs.appendFileSync(log, `${'x'.repeat(999)}\n`.repeat(11_000));
    await until('the log to be emptied', () => fs.statSync(log).size < 1_000_000);
    assert.ok(fs.statSync(`${log}.1`).size >= 11_000_000);
    fs.rmSync(`${log}.1`);
  });

  it('refuses a limit that is no number', async () => {
    assert.equal((await kijko(['status'], { KIJKO_LOG_MEGABYTES: '10k' })).code, 2);
  });
});
