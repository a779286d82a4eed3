// Storage services of a test's own, beside the stack's: with other limits, and killed. All of them share the stack's folder.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './ports.mjs';
import { until } from './until.mjs';

const ROOT = join(import.meta.dirname, '..');
export const HOME = process.env.TEST_HOME ?? process.env.KIJKO_HOME ?? join(ROOT, '.kijko');
const started = new Set();

export class StorageService {
  /** Starts one, as the user of the folder. */
  static async start({ variables = {} } = {}) {
    const service = new StorageService();
    service.port = await freePort();
    const operatorsPort = await freePort();
    const logs = join(HOME, 'log');
    mkdirSync(logs, { recursive: true });
    service.log = join(logs, `test-storage-${service.port}.log`);
    const log = openSync(service.log, 'a');
    const url = new URL(process.env.DB_URL);
    url.username = 'kijko_storage';
    url.password = password();
    url.searchParams.set('sslmode', 'disable');
    const folder = join(HOME, 'storage');
    const { uid, gid } = statSync(folder);
    service.child = spawn(binary(), {
      ...(process.getuid() === 0 && { uid, gid }),
      stdio: ['ignore', log, log],
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: url.href,
        KIJKO_STORAGE_BIND: `127.0.0.1:${service.port}`,
        KIJKO_STORAGE_OPERATORS_BIND: `127.0.0.1:${operatorsPort}`,
        KIJKO_STORAGE_DIR: folder,
        KIJKO_STORAGE_SIGNING_KEY: 'a-key-of-a-test-which-is-long-enough',
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
    await until(`a storage service to be ready (log: ${service.log})`, () => {
      assert.equal(service.child.exitCode, null, `it ended at once (log: ${service.log})`);
      return fetch(`${service.operatorsUrl}/ready`).then(
        (response) => response.ok,
        () => false,
      );
    });
    return service;
  }

  kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }
}

/** Whatever a failed test left behind. */
export const killStorageServices = () => Promise.all([...started].map((service) => service.kill()));

function binary() {
  const found = [join(HOME, 'bin/kijko-storage'), join(ROOT, 'target/release/kijko-storage')].find(existsSync);
  assert.ok(found, 'there is no kijko-storage to start: ./kijko up builds it');
  return found;
}

function password() {
  const file = join(HOME, 'secrets/passwords');
  const [, found] = /KIJKO_STORAGE_PASSWORD=(\S+)/.exec(readFileSync(file, 'utf8')) ?? [];
  assert.ok(found, `${file} has no KIJKO_STORAGE_PASSWORD`);
  return found;
}
