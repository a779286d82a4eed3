// A throwaway cluster with the extension, that may be killed in every way. Its server programs are the test stack's
// or KIJKO_TEST_PG_PREFIX's; when the tests run as root, the server runs as the system user postgres.
import { execFile, execFileSync } from 'node:child_process';
import { appendFileSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from '../../ports.mjs';
import { binaries } from '../../postgres.mjs';

const run = promisify(execFile);
const ROOT = new URL('../../../', import.meta.url).pathname;
const PREFIX = process.env.KIJKO_TEST_PG_PREFIX ?? join(ROOT, '.kijko/test/pgsql');
const BIN = binaries(PREFIX);
const AS_ROOT = process.getuid() === 0;

export class Cluster {
  static async start(settings = {}) {
    const cluster = new Cluster();
    cluster.home = mkdtempSync(join(tmpdir(), 'kijko-limits-'));
    if (AS_ROOT) chownSync(cluster.home, idOf('-u'), idOf('-g'));
    cluster.data = join(cluster.home, 'data');
    cluster.port = await freePort();
    await cluster.program('initdb', '-D', cluster.data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync');
    const all = {
      port: cluster.port,
      listen_addresses: "'127.0.0.1'",
      unix_socket_directories: `'${cluster.home}'`,
      shared_preload_libraries: "'kijko'",
      max_connections: 300,
      shared_buffers: "'128MB'",
      max_prepared_transactions: 10,
      log_min_messages: 'warning',
      restart_after_crash: 'on',
      ...settings,
    };
    appendFileSync(
      join(cluster.data, 'postgresql.conf'),
      Object.entries(all)
        .map(([k, v]) => `${k} = ${v}\n`)
        .join(''),
    );
    await cluster.boot(0);
    await cluster.sql('create extension kijko');
    return cluster;
  }

  program(name, ...args) {
    const command = [join(BIN, name), ...args];
    if (AS_ROOT) command.unshift('setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups');
    // A backtrace for each of thousands of refusals would slow the server down.
    const { RUST_BACKTRACE, ...env } = process.env;
    return run(command[0], command.slice(1), { env: { ...env, HOME: this.home }, cwd: this.home });
  }

  // After a kill -9 of the postmaster its children hold the shared memory for a moment.
  async boot(patience = 60_000) {
    const deadline = Date.now() + patience;
    for (;;) {
      try {
        await this.program('pg_ctl', '-D', this.data, '-l', join(this.home, 'log'), '-w', '-t', '60', 'start');
        return;
      } catch (error) {
        if (Date.now() >= deadline) throw new Error(`${error.message}\n${this.log()}`);
        await sleep(200);
      }
    }
  }

  client(options = {}) {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'postgres', database: 'postgres', ...options });
    client.on('error', () => {}); // killed; its next use fails
    return client;
  }

  // Connects while the cluster comes back.
  async connect(options) {
    const deadline = Date.now() + 60_000;
    for (;;) {
      const client = this.client(options);
      try {
        await client.connect();
        return client;
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await sleep(50);
      }
    }
  }

  async sql(text, values) {
    const client = await this.connect();
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await client.end().catch(() => {});
    }
  }

  async someBackend() {
    const rows = await this.sql(
      "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1",
    );
    return rows[0]?.pid;
  }

  async terminateBackend() {
    const pid = await this.someBackend();
    if (pid) await this.sql('select pg_terminate_backend($1)', [pid]);
  }

  // The whole cluster restarts, with empty shared memory.
  async killBackend() {
    const pid = await this.someBackend();
    if (pid) kill(pid);
  }

  async killPostmaster() {
    kill(Number(readFileSync(join(this.data, 'postmaster.pid'), 'utf8').split('\n')[0]));
    await sleep(100);
    await this.boot();
  }

  async restart() {
    await this.program('pg_ctl', '-D', this.data, '-m', 'fast', '-w', 'stop');
    await this.boot();
  }

  log() {
    try {
      return readFileSync(join(this.home, 'log'), 'utf8');
    } catch {
      return '';
    }
  }

  async stop() {
    await this.program('pg_ctl', '-D', this.data, '-m', 'immediate', '-w', 'stop').catch(() => {});
    rmSync(this.home, { recursive: true, force: true });
  }
}

function idOf(flag) {
  return Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
