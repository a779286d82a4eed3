// What the container images run, outside of containers: secrets, the cluster's first and second start, health, keys, migrations.
// The images share their functions with ./kijko, so a change there can break them unnoticed by who builds no image.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Image, root } from './image.mjs';

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

  it('its signing keys are outside the data, and kijko-keys rotates them', async () => {
    const keys = async (...args) => {
      const { code, stdout, stderr } = await run('postgres-keys.sh', args, { KIJKO_YES: '1' });
      return { code, output: stdout + stderr };
    };
    const file = path.join(folder, 'keys/signing.keys');
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    const signer = () => query(`select kijko.jwks() #>> '{keys,0,kid}'`);
    const former = await signer();
    const rotated = await keys('rotate', 'es256');
    assert.equal(rotated.code, 0, rotated.output);
    assert.notEqual(await signer(), former);
    const { stdout } = await run('postgres-api-keys.sh');
    const [, token] = /^ANON_KEY="([^"]+)"$/m.exec(stdout);
    assert.equal(JSON.parse(Buffer.from(token.split('.')[0], 'base64url')).kid, await signer());
    assert.equal((await keys('prune')).code, 1);
    // A PostgREST that nothing of this container can signal: the key is published, and does not sign until it is known there.
    const unknown = { KIJKO_YES: '1', KIJKO_POSTGREST: 'no-such-host.invalid:3000' };
    const current = await signer();
    const waiting = await run('postgres-keys.sh', ['rotate'], unknown);
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
    assert.notEqual((await run('postgres-healthy.sh')).code, 0);
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
});
