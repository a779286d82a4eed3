// A service of a test's own, beside the stack's: with other settings, several at once, killed or asked to stop.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { until } from './until.mjs';

const ROOT = join(import.meta.dirname, '..');
export const HOME = process.env.TEST_HOME ?? process.env.KIJKO_HOME ?? join(ROOT, '.kijko');
const started = new Set();

export class Service {
  /** Starts `kijko-NAME` with the password of its login. On a port that a former one had, clients find it again. */
  static async start(name, { port, variables = {}, arguments: given = [], spawnOptions = {} } = {}) {
    const service = new Service();
    service.port = port ?? (await freePort());
    service.name = `test-${name}-${service.port}`;
    const operatorsPort = await freePort();
    const prefix = `KIJKO_${name.toUpperCase()}`;
    const logs = join(HOME, 'log');
    mkdirSync(logs, { recursive: true });
    service.log = join(logs, `${service.name}.log`);
    const log = openSync(service.log, 'a');
    service.child = spawn(binary(name), given, {
      ...spawnOptions,
      stdio: ['ignore', log, log],
      env: {
        PATH: process.env.PATH,
        // Where a program that counts its coverage writes it.
        ...(process.env.LLVM_PROFILE_FILE && { LLVM_PROFILE_FILE: process.env.LLVM_PROFILE_FILE }),
        DATABASE_URL: databaseUrl(name, prefix, service.name),
        ...(name === 'sidecar' && { KIJKO_GATEWAY_DATABASE_URL: databaseUrl('gateway', 'KIJKO_GATEWAY', service.name) }),
        [`${prefix}_BIND`]: `127.0.0.1:${service.port}`,
        [`${prefix}_OPERATORS_BIND`]: `127.0.0.1:${operatorsPort}`,
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
    await until(`${service.name} to be ready (log: ${service.log})`, () => {
      assert.equal(service.child.exitCode, null, `${service.name} ended at once (log: ${service.log})`);
      return service.isReady();
    });
    return service;
  }

  /** What /ready answers, or null when it does not answer. */
  isReady() {
    return fetch(`${this.operatorsUrl}/ready`).then(
      (response) => response.ok,
      () => null,
    );
  }

  /** A value of /metrics. */
  async metric(name) {
    const text = await (await fetch(`${this.operatorsUrl}/metrics`)).text();
    return Number(text.match(new RegExp(`^${name.replace(/[{}"]/g, '\\$&')} (\\S+)$`, 'm'))?.[1] ?? 'NaN');
  }

  signal(name) {
    this.child.kill(name);
  }

  async kill() {
    this.signal('SIGKILL');
    const { signal } = await atMost(this.exited, 60_000, `${this.name} to die`);
    assert.equal(signal, 'SIGKILL');
  }

  // Waits until the process is in state T: SIGSTOP may take effect after kill() has returned.
  async freeze() {
    this.signal('SIGSTOP');
    await until(`${this.name} to be stopped`, () => /^State:\s+T/m.test(readFileSync(`/proc/${this.child.pid}/status`, 'utf8')));
  }

  /** Asks it to stop, and waits until it has: its exit code and the signal that ended it. */
  terminate() {
    this.signal('SIGTERM');
    return atMost(this.exited, 120_000, `${this.name} to end after SIGTERM`);
  }
}

/** The services that a failed test left behind. */
export const killServices = () => Promise.all([...started].map((service) => service.kill()));

/** The promise's value, unless it takes longer. */
export function atMost(promise, timeoutMs, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${timeoutMs} ms for ${what}`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function binary(name) {
  const built = join(ROOT, 'target', process.env.KIJKO_BUILD_PROFILE ?? 'quick', `kijko-${name}`);
  const found = [join(HOME, `bin/kijko-${name}`), built].find(existsSync);
  assert.ok(found, `there is no kijko-${name} to start: ./kijko up builds it`);
  return found;
}

export function databaseUrl(name, prefix, application) {
  const file = join(HOME, 'secrets/passwords');
  const [, password] = new RegExp(`${prefix}_PASSWORD=(\\S+)`).exec(readFileSync(file, 'utf8')) ?? [];
  assert.ok(password, `${file} has no ${prefix}_PASSWORD`);
  const url = new URL(process.env.DB_URL);
  Object.assign(url, { username: `kijko_${name}`, password });
  url.searchParams.set('sslmode', 'disable');
  url.searchParams.set('application_name', application);
  return url.href;
}
