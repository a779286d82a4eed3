// What the postgres image runs, outside of a container, in a folder of its own: entrypoint, health check, psql, keys, migrations.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../ports.mjs';
import { binaries } from '../postgres.mjs';

export const root = path.resolve(import.meta.dirname, '../..');
assert.ok(process.env.TEST_HOME, 'TEST_HOME names the running test stack: use ./kijko test cli');

/** What postgres.Dockerfile copies from the checkout, as pairs of a source and a path in the image. */
function copies() {
  const text = fs.readFileSync(path.join(root, 'deploy/docker/postgres.Dockerfile'), 'utf8').replaceAll('\\\n', ' ');
  const [, image] = text.split(/^FROM debian.*$/m);
  return [...image.matchAll(/^COPY (?!--from)(.+)$/gm)].flatMap(([, line]) => {
    const words = line.split(/\s+/).filter((word) => word && !word.startsWith('--'));
    const to = words.pop();
    return words.map((from) => [from, to.endsWith('/') && !from.endsWith('/') ? to + path.basename(from) : to]);
  });
}

/** Gives a file or folder to the user of the server. */
export function giveToServer(place) {
  if (process.getuid() === 0) execFileSync('chown', ['-R', 'postgres:', place]);
}

// As the images do: never as root.
function asServerUser(command, args) {
  if (process.getuid() !== 0) return [command, args];
  return ['setpriv', ['--reuid=postgres', '--regid=postgres', '--init-groups', '--', command, ...args]];
}

export class Image {
  /** `folder` is beside the test stack, where the user that runs Postgres can enter; the stack's own Postgres has the extension. */
  constructor(folder) {
    this.folder = folder;
    // The image's tree: the server's user may not be able to enter the checkout.
    this.tree = path.join(folder, 'tree');
  }

  prepare = async () => {
    const { folder, tree } = this;
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(path.join(folder, 'home'), { recursive: true });
    fs.mkdirSync(path.join(folder, 'migrate'));
    // Nothing else, so that a script that the image lacks fails here as well.
    for (const [from, to] of copies()) fs.cpSync(path.join(root, from), path.join(tree, to), { recursive: true });
    execFileSync(path.join(root, 'deploy/docker/make-secrets.sh'), [path.join(folder, 'secrets')], { stdio: 'ignore' });
    // The image has a volume for it.
    fs.mkdirSync(path.join(folder, 'keys'));
    giveToServer(folder);
    this.environment = {
      PATH: process.env.PATH,
      HOME: folder,
      KIJKO_ROOT: path.join(tree, 'opt/kijko'),
      KIJKO_HOME: path.join(folder, 'home'),
      KIJKO_DB_PORT: String(await freePort()),
      KIJKO_DB_HOST: '127.0.0.1',
      KIJKO_PG_PREFIX: path.join(process.env.TEST_HOME, 'pgsql'),
      KIJKO_SECRET_FILES: path.join(folder, 'secrets'),
      KIJKO_SIGNING_KEY_FILE: path.join(folder, 'keys/signing.keys'),
      KIJKO_SEAL_KEY_FILE: path.join(folder, 'keys/seal.keys'),
      KIJKO_STORAGE_DIR: path.join(folder, 'objects'),
      KIJKO_BACKUP_DIR: path.join(folder, 'backups'),
      KIJKO_BACKUP_SECRETS_DIR: path.join(folder, 'backup-secrets'),
      KIJKO_POSTGREST: '', // none runs
    };
  };

  remove = async () => {
    await this.stop();
    fs.rmSync(this.folder, { recursive: true, force: true });
  };

  execute = ([command, args], extra = {}) =>
    new Promise((resolve) => {
      const env = { ...this.environment, ...extra };
      execFile(command, args, { env, timeout: 600_000 }, (error, stdout, stderr) =>
        resolve({ code: error ? error.code : 0, stdout, stderr }),
      );
    });

  #command = (name) => path.join(this.tree, 'usr/local/bin', name);

  /** A command of the image, such as kijko-keys. */
  run = (name, args = [], extra = {}) => this.execute(asServerUser('bash', [this.#command(name), ...args]), extra);

  /** A program of the server's Postgres, as its user. */
  program = (name, args) => this.execute(asServerUser(path.join(binaries(this.environment.KIJKO_PG_PREFIX), name), args));

  /** Its image has the checkout's node_modules and no server, so it may be any user. */
  migrate = (extra = {}) =>
    this.execute(['bash', [path.join(root, 'deploy/docker/migrate-entrypoint.sh')]], {
      KIJKO_ROOT: root,
      KIJKO_HOME: path.join(this.folder, 'migrate'),
      ...extra,
    });

  start = async (extra = {}) => {
    const [command, args] = asServerUser('bash', [this.#command('kijko-entrypoint')]);
    const log = [];
    this.server = spawn(command, args, { env: { ...this.environment, ...extra }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.server.stdout, this.server.stderr]) stream.on('data', (data) => log.push(String(data)));
    const ended = new Promise((resolve) => this.server.once('exit', (code) => resolve(code ?? -1)));
    for (let tries = 0; tries < 600; tries++) {
      if ((await this.run('kijko-healthy')).code === 0) return;
      const code = await Promise.race([ended, pause(100)]);
      assert.equal(code, undefined, `the server ended with ${code}:\n${log.join('')}`);
    }
    assert.fail(`the server did not become healthy:\n${log.join('')}`);
  };

  /** By the images' stop signal. The process is Postgres itself, since the entrypoint becomes it. */
  stop = async (signal = 'SIGINT') => {
    const { server } = this;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill(signal);
    await ended;
  };

  query = async (sql) => {
    const { code, stdout, stderr } = await this.run('kijko-psql', ['--admin', '-X', '-At', '-c', sql]);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
}
