// What the container images run, outside of containers: secrets, the cluster's first and second start, health, keys, migrations.
// The images share their functions with ./kijko, so a change there can break them unnoticed by who builds no image.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../ports.mjs';

const root = path.resolve(import.meta.dirname, '../..');
assert.ok(process.env.TEST_HOME, 'TEST_HOME names the running test stack: use ./kijko test cli');
// Beside the test stack, where the user that runs Postgres can enter; the stack's own Postgres has the extension.
const folder = path.join(process.env.TEST_HOME, 'containers');
// The image's tree: the server's user may not be able to enter the checkout.
const tree = path.join(folder, 'tree');
const inTree = ['scripts', 'sql/platform', 'deploy/docker'];
const docker = (name) => path.join(root, 'deploy/docker', name);

let environment;
let server;

// As the images do: never as root.
function asServerUser(command, args) {
  if (process.getuid() !== 0) return [command, args];
  return ['setpriv', ['--reuid=postgres', '--regid=postgres', '--init-groups', '--', command, ...args]];
}

function execute([command, args], extra = {}) {
  return new Promise((resolve) => {
    execFile(command, args, { env: { ...environment, ...extra }, timeout: 120_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr }),
    );
  });
}

const serverScript = (name) => path.join(tree, 'deploy/docker', name);
const run = (script, args = [], extra = {}) => execute(asServerUser('bash', [serverScript(script), ...args]), extra);

// Its image has the checkout's node_modules and no server, so it may be any user.
const migrate = () => execute(['bash', [docker('migrate-entrypoint.sh')]], { KIJKO_ROOT: root, KIJKO_HOME: path.join(folder, 'migrate') });

async function start(extra = {}) {
  const [command, args] = asServerUser('bash', [serverScript('postgres-entrypoint.sh')]);
  const log = [];
  server = spawn(command, args, { env: { ...environment, ...extra }, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (data) => log.push(String(data)));
  const ended = new Promise((resolve) => server.once('exit', (code) => resolve(code ?? -1)));
  for (let tries = 0; tries < 600; tries++) {
    if ((await run('postgres-healthy.sh')).code === 0) return;
    const code = await Promise.race([ended, pause(100)]);
    assert.equal(code, undefined, `the server ended with ${code}:\n${log.join('')}`);
  }
  assert.fail(`the server did not become healthy:\n${log.join('')}`);
}

// The images' stop signal. The process is Postgres itself, since the entrypoint becomes it.
async function stop(signal = 'SIGINT') {
  if (!server || server.exitCode !== null || server.signalCode !== null) return;
  const ended = new Promise((resolve) => server.once('exit', resolve));
  server.kill(signal);
  await ended;
}

const query = async (sql) => {
  const { code, stdout, stderr } = await run('postgres-psql.sh', ['--admin', '-X', '-At', '-c', sql]);
  assert.equal(code, 0, stderr);
  return stdout.trim();
};

describe('the containers', () => {
  before(async () => {
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(path.join(folder, 'home'), { recursive: true });
    fs.mkdirSync(path.join(folder, 'migrate'));
    const filter = (file) => file !== path.join(root, 'deploy/docker/secrets');
    for (const name of inTree) fs.cpSync(path.join(root, name), path.join(tree, name), { recursive: true, filter });
    execFileSync(docker('make-secrets.sh'), [path.join(folder, 'secrets')], { stdio: 'ignore' });
    if (process.getuid() === 0) execFileSync('chown', ['-R', 'postgres:', folder]);
    environment = {
      PATH: process.env.PATH,
      HOME: folder,
      KIJKO_ROOT: tree,
      KIJKO_HOME: path.join(folder, 'home'),
      KIJKO_DB_PORT: String(await freePort()),
      KIJKO_DB_HOST: '127.0.0.1',
      KIJKO_PG_PREFIX: path.join(process.env.TEST_HOME, 'pgsql'),
      KIJKO_SECRET_FILES: path.join(folder, 'secrets'),
    };
  });

  after(async () => {
    await stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it('make-secrets writes files that only their owner can read, and changes nothing when run again', () => {
    const secrets = path.join(folder, 'secrets');
    assert.equal(fs.statSync(secrets).mode & 0o777, 0o700);
    const contents = () =>
      fs
        .readdirSync(secrets)
        .sort()
        .map((name) => [name, fs.readFileSync(path.join(secrets, name), 'utf8')]);
    const made = contents();
    execFileSync(docker('make-secrets.sh'), [secrets], { stdio: 'ignore' });
    assert.deepEqual(contents(), made);
  });

  it('every secret of docker-compose.yml is made', () => {
    const compose = fs.readFileSync(path.join(root, 'docker-compose.yml'), 'utf8');
    const wanted = [...compose.matchAll(/\{ file: "\$\{KIJKO_SECRETS_DIR:-[^}]+\}\/([^"]+)" \}/g)].map(([, name]) => name);
    assert.ok(wanted.length > 5);
    for (const name of wanted) assert.ok(fs.existsSync(path.join(folder, 'secrets', name)), name);
  });

  it('a missing secret stops the start and is named', async () => {
    const { code, stderr } = await run('postgres-entrypoint.sh', [], { KIJKO_SECRET_FILES: path.join(folder, 'nowhere') });
    assert.equal(code, 1);
    assert.match(stderr, /nowhere\/admin_password/);
    assert.equal(fs.existsSync(path.join(folder, 'home/data')), false);
  });

  it('the first start creates a healthy cluster and signs its keys', async () => {
    await start();
    const { code, stdout } = await run('postgres-api-keys.sh');
    assert.equal(code, 0);
    const keys = Object.fromEntries([...stdout.matchAll(/^(\w+)="([^"]+)"$/gm)].map(([, name, value]) => [name, value]));
    assert.equal(await query(`select kijko.verify_jwt('${keys.ANON_KEY}') ->> 'role'`), 'anon');
    assert.equal(await query(`select kijko.verify_jwt('${keys.SERVICE_ROLE_KEY}') ->> 'role'`), 'service_role');
    assert.equal(await query(`select rolsuper from pg_roles where rolname = 'postgres'`), 'f');
  });

  it('the migration job applies everything once and nothing the second time', async () => {
    const first = await migrate();
    assert.equal(first.code, 0, first.stdout + first.stderr);
    const files = fs.readdirSync(path.join(root, 'supabase/migrations')).length;
    assert.equal(Number(await query('select count(*) from supabase_migrations.schema_migrations')), files);
    const second = await migrate();
    assert.equal(second.code, 0, second.stderr);
    assert.match(second.stderr, /no migration is pending/);
  });

  it('a start after a crash keeps the data; a new public URL becomes the issuer', async () => {
    await stop('SIGKILL');
    assert.notEqual((await run('postgres-healthy.sh')).code, 0);
    await start({ KIJKO_PUBLIC_URL: 'https://api.example.com' });
    assert.equal(await query('select issuer from auth_api.settings'), 'https://api.example.com/auth/v1');
    assert.equal(await query('select count(*) > 0 from public.plans'), 't');
  });
});
