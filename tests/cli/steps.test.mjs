// A step of ./kijko, as `up` and others print it: nothing of it stays behind, so whoever reads the output waits for the step alone.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, it } from 'node:test';
import { until } from '../until.mjs';

const scripts = path.resolve(import.meta.dirname, '../../scripts');
const logs = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-steps-'));
after(() => fs.rmSync(logs, { recursive: true }));

/** Bash in a session of its own, with the functions of ui.sh. */
const bash = (script) =>
  spawn('bash', ['-euc', `LOGS=$1; . "$2/ui.sh"; ${script}`, 'bash', logs, scripts], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });

/** What runs in the session of that process. */
const left = ({ pid: script }) =>
  fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        // The state and the session, behind the name in parentheses.
        const [state, , , session] = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ');
        const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim();
        return Number(session) === script && state !== 'Z' ? [{ pid: Number(pid), command }] : [];
      } catch {
        return []; // it has ended
      }
    });

it('a step that ends leaves no process', async () => {
  const script = bash(`step 'one that is quick' '' true; step 'another' '' true`);
  const [code] = await once(script, 'exit');
  assert.equal(code, 0);
  assert.deepEqual(left(script), []);
});

it('so does one that fails', async () => {
  const script = bash(`step 'one that fails' 'a hint' false`);
  const [code] = await once(script, 'exit');
  assert.equal(code, 1);
  assert.deepEqual(left(script), []);
});

it('no dots are printed for a script that was killed', async () => {
  const script = bash(`step 'one that lasts' '' sleep 600`);
  let said = '';
  script.stderr.on('data', (data) => {
    said += data;
  });
  const own = ({ command }) => command === 'sleep 600';
  await until('the step to begin', () => said.includes('one that lasts') && left(script).some(own));
  script.kill('SIGKILL');
  await once(script, 'exit');
  try {
    // The step's own process goes on.
    await until('the rest to end', () => left(script).every(own));
  } finally {
    for (const { pid } of left(script)) process.kill(pid, 'SIGKILL');
  }
});
