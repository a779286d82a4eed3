// How long ./kijko waits for a service that stops in good order, tried with a process in its place.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { it } from 'node:test';

const services = path.resolve(import.meta.dirname, '../../scripts/services.sh');

/** Starts a process in the service's place that takes `seconds` to stop, and stops it: whether it ended in good order. */
function stop(name, seconds, environment) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-down-'));
  try {
    const script = `trap 'sleep ${seconds}; echo in good order > "$1/ended"; exit 0' TERM; echo > "$1/ready"; while :; do sleep 0.1; done`;
    execFileSync(
      'bash',
      [
        '-euc',
        `
      RUN=$1 LOGS=$1 AS_OS_USER=()
      . ${services}
      start_service ${name} bash -c '${script.replaceAll("'", `'\\''`)}' bash "$1"
      until [ -e "$1/ready" ]; do sleep 0.1; done
      stop_service ${name}
      ! service_pid ${name}
    `,
        'bash',
        folder,
      ],
      { env: { ...process.env, ...environment } },
    );
    return fs.existsSync(path.join(folder, 'ended'));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

it('down gives the sidecar its grace period for jobs and time to release the rest', () => {
  assert.equal(stop('sidecar', 18, { KIJKO_SHUTDOWN_SECONDS: '5' }), true);
});

it('the time limit follows the setting that the sidecar was started with', () => {
  // Until it has its own environment.
  const started = `until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.05; done`;
  const limits = ['', '40', 'x'].map((grace) =>
    spawnSync('bash', ['-euc', `. ${services}; sleep 60 & ${started}; stop_limit sidecar $!; stop_limit caddy $!; kill $!`], {
      env: { ...process.env, KIJKO_SHUTDOWN_SECONDS: grace },
      encoding: 'utf8',
    })
      .stdout.split('\n')
      .slice(0, 2),
  );
  assert.deepEqual(limits, [
    ['40', '15'],
    ['55', '15'],
    ['40', '15'],
  ]);
});
