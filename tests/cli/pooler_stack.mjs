// PostgREST behind PgBouncer in transaction mode, with a Caddy of its own, beside the running stack: the same database and logins.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';
import { home, passwords, port, root } from './stack.mjs';

export class PooledStack {
  #processes = [];

  static async start({ poolSize }) {
    const stack = new PooledStack();
    stack.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-pooler-'));
    fs.chmodSync(stack.folder, 0o755);
    for (const name of ['pooler', 'rest', 'restAdmin', 'caddy']) stack[`${name}Port`] = await freePort();
    stack.url = `http://127.0.0.1:${stack.caddyPort}`;
    stack.poolerUrl = `postgres://authenticator:${passwords().AUTHENTICATOR}@127.0.0.1:${stack.poolerPort}/postgres`;
    try {
      await stack.#startPooler(poolSize);
      await stack.#startRest();
      await stack.#startCaddy();
    } catch (error) {
      await stack.stop();
      throw error;
    }
    return stack;
  }

  async stop() {
    for (const child of this.#processes.reverse()) {
      if (child.exitCode !== null) continue;
      await new Promise((resolve) => child.once('exit', resolve).kill());
    }
    fs.rmSync(this.folder, { recursive: true });
  }

  log = (name) => fs.readFileSync(path.join(this.folder, `${name}.log`), 'utf8');

  #start(name, program, args, env = {}) {
    const log = fs.openSync(path.join(this.folder, `${name}.log`), 'a');
    this.#processes.push(
      spawn(program, args, { stdio: ['ignore', log, log], env: { PATH: `${process.env.PATH}:/usr/sbin`, HOME: this.folder, ...env } }),
    );
    fs.closeSync(log);
  }

  #file(name, text) {
    const file = path.join(this.folder, name);
    fs.writeFileSync(file, text, { mode: 0o600 });
    // PgBouncer refuses to be root.
    if (process.getuid() === 0) execFileSync('chown', ['postgres:', file]);
    return file;
  }

  // The file that operators copy, with this stack's ports.
  async #startPooler(poolSize) {
    const users = this.#file('userlist.txt', `"authenticator" "${passwords().AUTHENTICATOR}"\n`);
    const wanted = {
      postgres: `host=127.0.0.1 port=${Number(port) + 1} dbname=postgres`,
      listen_port: this.poolerPort,
      auth_file: users,
      default_pool_size: poolSize,
    };
    let text = fs.readFileSync(path.join(root, 'deploy/pgbouncer.ini'), 'utf8');
    for (const [name, value] of Object.entries(wanted)) {
      assert.match(text, new RegExp(`^${name} = `, 'm'));
      text = text.replace(new RegExp(`^${name} = .*$`, 'm'), `${name} = ${value}`);
    }
    const user = process.getuid() === 0 ? ['-u', 'postgres'] : [];
    this.#start('pooler', 'pgbouncer', [...user, this.#file('pgbouncer.ini', text)]);
  }

  // The running stack's own configuration, with what the operators' page says of a pooler.
  async #startRest() {
    const text = fs
      .readFileSync(path.join(home, 'secrets/rest.conf'), 'utf8')
      .replace(/^db-uri = .*$/m, `db-uri = "${this.poolerUrl}?sslmode=disable"`)
      .replace(/^server-port = .*$/m, `server-port = ${this.restPort}`)
      .replace(/^admin-server-port = .*$/m, `admin-server-port = ${this.restAdminPort}`)
      .replace(/^db-channel = .*$/m, 'db-channel-enabled = false\ndb-prepared-statements = false');
    this.#start('rest', path.join(home, 'bin/postgrest'), [this.#file('rest.conf', text)]);
    await until(`PostgREST to be ready: ${this.log('rest')} ${this.log('pooler')}`, () =>
      fetch(`http://127.0.0.1:${this.restAdminPort}/ready`).then(
        (answer) => answer.ok,
        () => null,
      ),
    );
  }

  async #startCaddy() {
    const part = (offset) => `127.0.0.1:${Number(port) + offset}`;
    this.#start('caddy', 'caddy', ['run', '--config', path.join(root, 'deploy/Caddyfile'), '--adapter', 'caddyfile'], {
      KIJKO_SITE: `http://:${this.caddyPort}`,
      KIJKO_REST_UPSTREAM: `127.0.0.1:${this.restPort}`,
      KIJKO_LOGIN_UPSTREAM: part(11),
      KIJKO_SIDECAR_UPSTREAM: part(12),
      KIJKO_REALTIME_UPSTREAM: part(16),
      KIJKO_STORAGE_UPSTREAM: part(18),
    });
    await until('Caddy to answer', () => fetch(`${this.url}/health`).catch(() => null));
  }
}
