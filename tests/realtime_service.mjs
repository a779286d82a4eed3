// Realtime services of a test's own, beside the stack's: several instances, killed or asked to stop.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { until } from './until.mjs';

const ROOT = join(import.meta.dirname, '..');
const HOME = process.env.TEST_HOME ?? process.env.KIJKO_HOME ?? join(ROOT, '.kijko');

const started = new Set();

export class RealtimeService {
  /** Starts one. On a port that a former one had, clients find it again. */
  static async start({ port, variables = {} } = {}) {
    const service = new RealtimeService();
    service.port = port ?? (await freePort());
    const operatorsPort = await freePort();
    const logs = join(HOME, 'log');
    mkdirSync(logs, { recursive: true });
    service.log = join(logs, `test-realtime-${service.port}.log`);
    const log = openSync(service.log, 'a');
    const url = new URL(process.env.DB_URL);
    url.username = 'kijko_realtime';
    url.password = password();
    url.searchParams.set('sslmode', 'disable');
    service.child = spawn(binary(), {
      stdio: ['ignore', log, log],
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: url.href,
        KIJKO_REALTIME_BIND: `127.0.0.1:${service.port}`,
        KIJKO_REALTIME_OPERATORS_BIND: `127.0.0.1:${operatorsPort}`,
        ...variables,
      },
    });
    closeSync(log);
    started.add(service);
    service.url = `http://127.0.0.1:${service.port}`;
    service.operatorsUrl = `http://127.0.0.1:${operatorsPort}`;
    service.exited = once(service.child, 'exit').then(([code, signal]) => {
      started.delete(service);
      return { code, signal };
    });
    await until(`a realtime service to be ready (log: ${service.log})`, () => {
      assert.equal(service.child.exitCode, null, `it ended at once (log: ${service.log})`);
      return service.isReady();
    });
    return service;
  }

  isReady() {
    return fetch(`${this.operatorsUrl}/ready`).then(
      (response) => response.ok,
      () => false,
    );
  }

  /** A value of /metrics. */
  async metric(name) {
    const text = await (await fetch(`${this.operatorsUrl}/metrics`)).text();
    return Number(text.match(new RegExp(`^${name.replace(/[{}"]/g, '\\$&')} (\\S+)$`, 'm'))?.[1] ?? 'NaN');
  }

  kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }

  terminate() {
    this.child.kill('SIGTERM');
    return this.exited;
  }
}

/** Whatever a failed test left behind. */
export const killRealtimeServices = () => Promise.all([...started].map((service) => service.kill()));

function binary() {
  const found = [join(HOME, 'bin/kijko-realtime'), join(ROOT, 'target/release/kijko-realtime')].find(existsSync);
  assert.ok(found, 'there is no kijko-realtime to start: ./kijko up builds it');
  return found;
}

function password() {
  const file = join(HOME, 'secrets/passwords');
  const [, found] = /KIJKO_REALTIME_PASSWORD=(\S+)/.exec(readFileSync(file, 'utf8')) ?? [];
  assert.ok(found, `${file} has no KIJKO_REALTIME_PASSWORD`);
  return found;
}
