// What the container images run, outside of containers: secrets, the cluster's first and second start, health, keys, migrations.
// The images share their functions with ./kijko, so a change there can break them unnoticed by who builds no image.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { until } from '../until.mjs';
import { giveToServer, Image, root } from './image.mjs';

const folder = path.join(process.env.TEST_HOME, 'containers');
const image = new Image(folder);
const { run, migrate, start, stop, query } = image;
const docker = (name) => path.join(root, 'deploy/docker', name);

describe('the containers', () => {
  before(() => image.prepare());

  after(() => image.remove());

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
    const { code, stderr } = await run('kijko-entrypoint', [], { KIJKO_SECRET_FILES: path.join(folder, 'nowhere') });
    assert.equal(code, 1);
    assert.match(stderr, /nowhere\/admin_password/);
    assert.equal(fs.existsSync(path.join(folder, 'home/data')), false);
  });

  it('the first start creates a healthy cluster and signs its keys', async () => {
    await start();
    const { code, stdout } = await run('kijko-api-keys');
    assert.equal(code, 0);
    const keys = Object.fromEntries([...stdout.matchAll(/^(\w+)="([^"]+)"$/gm)].map(([, name, value]) => [name, value]));
    assert.equal(await query(`select kijko.verify_jwt('${keys.ANON_KEY}') ->> 'role'`), 'anon');
    assert.equal(await query(`select kijko.verify_jwt('${keys.SERVICE_ROLE_KEY}') ->> 'role'`), 'service_role');
    assert.equal(await query(`select rolsuper from pg_roles where rolname = 'postgres'`), 'f');
  });

  it('its signing keys are outside the data, and kijko-keys rotates them', async () => {
    const keys = async (...args) => {
      const { code, stdout, stderr } = await run('kijko-keys', args, { KIJKO_YES: '1' });
      return { code, output: stdout + stderr };
    };
    const file = path.join(folder, 'keys/signing.keys');
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    const signer = () => query(`select kijko.jwks() #>> '{keys,0,kid}'`);
    const former = await signer();
    const rotated = await keys('rotate', 'es256');
    assert.equal(rotated.code, 0, rotated.output);
    assert.notEqual(await signer(), former);
    const { stdout } = await run('kijko-api-keys');
    const [, token] = /^ANON_KEY="([^"]+)"$/m.exec(stdout);
    assert.equal(JSON.parse(Buffer.from(token.split('.')[0], 'base64url')).kid, await signer());
    assert.equal((await keys('prune')).code, 1);
    // A PostgREST that nothing of this container can signal: the key is published, and does not sign until it is known there.
    const unknown = { KIJKO_YES: '1', KIJKO_POSTGREST: 'no-such-host.invalid:3000' };
    const current = await signer();
    const waiting = await run('kijko-keys', ['rotate'], unknown);
    assert.equal(waiting.code, 1);
    assert.match(waiting.stderr, /docker compose kill -s SIGUSR2 rest login/);
    assert.equal(await signer(), current);
    assert.match((await keys('status')).output, / next /);
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
    assert.notEqual((await run('kijko-healthy')).code, 0);
    await start({
      KIJKO_PUBLIC_URL: 'https://api.example.com',
      KIJKO_SITE_URL: 'https://app.example.com',
      KIJKO_REDIRECT_URLS: 'https://*.example.com/** myapp://**',
      KIJKO_MAIL_CONFIRM: 'required',
    });
    assert.equal(await query('select issuer from auth_api.settings'), 'https://api.example.com/auth/v1');
    assert.equal(
      await query(`select concat_ws(' ', site_url, array_to_string(redirect_urls, ' '), mailer_autoconfirm) from auth_api.settings`),
      'https://app.example.com https://*.example.com/** myapp://** f',
    );
    assert.equal(await query('select count(*) > 0 from public.plans'), 't');
  });

  it('its schedules run, also those that were made under another address', async () => {
    await query(`update cron.job set nodename = 'localhost', nodeport = 1`);
    await stop();
    // As an image that keeps them elsewhere has left it.
    const prepared = path.join(folder, 'home/prepared');
    fs.writeFileSync(prepared, fs.readFileSync(prepared, 'utf8').replace(/^@kijko-.*$/m, 'localhost'));
    await start();
    const port = image.environment.KIJKO_DB_PORT;
    assert.equal(await query(`select distinct nodename || ' ' || nodeport from cron.job`), `@kijko-${port} ${port}`);
    const before = await query('select coalesce(max(runid), 0) from cron.job_run_details');
    const runs = `select count(*) > 0 from cron.job_run_details where runid > ${before} and status = 'succeeded'`;
    // They begin at full minutes.
    await until('a schedule to succeed', async () => (await query(runs)) === 't', { timeoutMs: 300_000, everyMs: 1000 });
  });

  it('a second server on the same volume does not start', async () => {
    const { code, stderr } = await run('kijko-restore');
    assert.equal(code, 1);
    assert.match(stderr, /another container uses the volume/);
  });

  describe('backups', () => {
    const objects = path.join(folder, 'objects');
    const version = 'abcd0000-0000-4000-8000-000000000001';
    const object = path.join(objects, 'ab/cd', version);
    const owner = async (sql) => {
      const { code, stdout, stderr } = await run('kijko-psql', ['-X', '-At', '-c', sql]);
      assert.equal(code, 0, stderr);
      return stdout.trim();
    };
    const succeeds = async (...command) => {
      const { code, stdout, stderr } = await run(...command);
      assert.equal(code, 0, stdout + stderr);
      return stdout + stderr;
    };
    const libraries = () => query('show shared_preload_libraries');
    let moment;

    before(async () => {
      // As the storage service does it, which runs as the same user.
      fs.mkdirSync(path.dirname(object), { recursive: true });
      fs.writeFileSync(object, 'bytes');
      giveToServer(objects);
      await query(`insert into storage.buckets (id, name) values ('kept', 'kept')`);
      await query(`insert into storage.objects (bucket_id, name, version, metadata) values ('kept', 'one', '${version}', '{"size": 5}')`);
      await owner('create table public.kept as select 1 as n');
    });

    it('kijko-backup copies the cluster, the objects and the keys, and archives WAL', async () => {
      assert.notEqual((await run('kijko-backup', ['status'])).code, 0);
      await succeeds('kijko-backup');
      await succeeds('kijko-backup', ['status']);
      await succeeds('kijko-backup', ['verify']);
      assert.ok(fs.existsSync(path.join(folder, 'backups/objects/ab/cd', version)));
      const [secrets] = fs.readdirSync(path.join(folder, 'backup-secrets'));
      const listed = execFileSync('tar', ['-tf', path.join(folder, 'backup-secrets', secrets)], { encoding: 'utf8' });
      for (const name of ['passwords', 'signing.keys', 'seal.keys', 'api_keys']) assert.match(listed, new RegExp(`^\\./${name}$`, 'm'));
      await owner('insert into public.kept select 2');
      moment = await owner('select clock_timestamp()');
      await owner('select pg_sleep(0.1); drop table public.kept');
    });

    it('kijko-restore goes back to a moment, paused, and kijko-resume ends the pause', async () => {
      await stop();
      assert.equal((await run('kijko-restore', ['--database', 'other', '--replace'])).code, 2);
      assert.equal((await run('kijko-restore', ['--at', moment])).code, 1, 'the data were not to be replaced');
      fs.rmSync(object);
      const said = await succeeds('kijko-restore', ['--at', moment, '--replace']);
      assert.match(said, /docker compose up -d/);
      await start();
      assert.equal(await owner("select string_agg(n::text, ',' order by n) from public.kept"), '1,2');
      assert.equal(fs.readFileSync(object, 'utf8'), 'bytes');
      assert.equal(await libraries(), 'kijko');
      assert.equal(await owner('select count(*) from private.job_queue_pause'), '1');
      assert.match(await succeeds('kijko-resume', ['--cancel']), /docker compose restart postgres/);
      assert.equal(await owner('select count(*) from private.job_queue_pause'), '0');
      await stop();
      await start();
      assert.equal(await libraries(), 'pg_cron,kijko');
    });

    it('on a new machine, with new passwords, the data and the keys are those of the backup', async () => {
      const anon = async () => (await succeeds('kijko-api-keys')).match(/^ANON_KEY="(.*)"$/m)[1];
      const [former, sealed] = [await anon(), await query('select kijko.seal_key_ids()')];
      await succeeds('kijko-backup');
      await stop();
      for (const name of ['home', 'keys', 'objects', 'secrets']) fs.rmSync(path.join(folder, name), { recursive: true });
      execFileSync(docker('make-secrets.sh'), [path.join(folder, 'secrets')], { stdio: 'ignore' });
      for (const name of ['home', 'keys', 'objects']) fs.mkdirSync(path.join(folder, name));
      for (const name of ['home', 'keys', 'objects', 'secrets']) giveToServer(path.join(folder, name));
      const secrets = fs.readdirSync(path.join(folder, 'backup-secrets')).sort().at(-1);
      await succeeds('kijko-restore', ['--secrets', path.join(folder, 'backup-secrets', secrets)]);
      await start();
      assert.equal(await owner('select count(*) from public.kept'), '2');
      assert.equal(fs.readFileSync(object, 'utf8'), 'bytes');
      assert.equal(await query('select kijko.seal_key_ids()'), sealed);
      assert.equal(await anon(), former);
      const password = fs.readFileSync(path.join(folder, 'secrets/sidecar_password'), 'utf8').trim();
      const url = `postgres://kijko_sidecar:${password}@127.0.0.1:${image.environment.KIJKO_DB_PORT}/postgres?sslmode=disable`;
      assert.equal((await image.program('psql', ['-X', '-d', url, '-c', 'select 1'])).code, 0);
    });
  });
});

describe('docker-compose.yml', () => {
  const { services, volumes } = parse(fs.readFileSync(path.join(root, 'docker-compose.yml'), 'utf8'), { merge: true });
  const dockerfile = (name) => fs.readFileSync(docker(name), 'utf8');
  const mounts = (name) => services[name].volumes.map((mount) => mount.match(/^(\$\{[^}]*\}|[^:]+):([^:]+)(:ro)?$/).slice(1));

  it('gives the objects to the user of Postgres, who copies them, in both images', () => {
    const [, user] = dockerfile('postgres.Dockerfile').match(/^USER (\d+:\d+)$/m);
    assert.equal(services.storage.user, user);
    assert.match(
      dockerfile('sidecar.Dockerfile'),
      new RegExp(`^RUN install -d -o ${user.replace(':', ' -g ')} .* /var/lib/kijko-storage( |$)`, 'm'),
    );
  });

  it('mounts what the postgres image works with, and each volume is declared', () => {
    const [, made] = dockerfile('postgres.Dockerfile').match(/^RUN install -d -o postgres .* -m 0700 (.*)$/m);
    for (const name of ['postgres', 'restore']) {
      const places = mounts(name).map(([, place]) => place);
      for (const folder of made.split(' ')) assert.ok(places.includes(folder), `${name}: ${folder}`);
    }
    const named = Object.values(services)
      .flatMap(({ volumes: list }) => list ?? [])
      .map((mount) => mount.match(/^(?:\$\{[A-Z_]+:-)?([a-z-]+)\}?:/)?.[1])
      .filter(Boolean);
    assert.deepEqual([...new Set(named)].sort(), Object.keys(volumes).sort());
  });

  it('restores in a container that no other one reaches, with the settings of backups', () => {
    const { restore, postgres } = services;
    assert.deepEqual(restore.profiles, ['restore']);
    assert.equal(restore.network_mode, 'none');
    assert.equal(restore.image, postgres.image);
    assert.deepEqual(restore.secrets, postgres.secrets);
    for (const [name, value] of Object.entries(restore.environment)) assert.equal(postgres.environment[name], value);
    assert.match(dockerfile('postgres.Dockerfile'), /^COPY .* \/usr\/local\/bin\/kijko-restore$/m);
  });
});
