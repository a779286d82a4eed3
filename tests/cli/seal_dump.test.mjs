// A dump of the database holds no usable secret: it is restored into another cluster, as docs/operations/backups.md says, and opens
// there only with the file of keys that it was made with.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Image } from './image.mjs';
import { asPostgres, home, passwords, port } from './stack.mjs';

const image = new Image(path.join(process.env.TEST_HOME, 'restored'));
const dump = path.join(image.folder, 'kijko.dump');
const plain = path.join(image.folder, 'kijko.sql');
const value = `value-${randomUUID()}`;
const keys = fs.readFileSync(path.join(home, 'secrets/seal.keys'), 'utf8').trim();
const source = `postgres://supabase_admin:${passwords().ADMIN}@127.0.0.1:${Number(port) + 1}/postgres`;

async function program(name, args) {
  const { code, stderr } = await image.program(name, args);
  assert.equal(code, 0, `${name}: ${stderr}`);
}

describe('a dump', () => {
  let secret;
  before(async () => {
    await image.prepare();
    secret = await asPostgres(async (client) => {
      const { rows } = await client.query(
        `with made as (insert into public.secrets (org_id, name) values (kijko.platform_org_id(), $1) returning org_id, name)
         select org_id, name, kijko.seal($2, private.secrets_context(org_id, name)) as sealed from made`,
        [`DUMPED_${process.pid}`, value],
      );
      await client.query('insert into private.secret_values (organization, name, sealed) values ($1, $2, $3)', Object.values(rows[0]));
      return rows[0];
    });
  });
  after(async () => {
    await asPostgres((client) => client.query('delete from public.secrets where name = $1', [secret.name]));
    await image.remove();
  });

  it('has the sealed value, and neither the value nor a key', async () => {
    await program('pg_dump', ['-Fc', '-f', dump, source]);
    await program('pg_dump', ['-f', plain, source]);
    const text = fs.readFileSync(plain, 'utf8');
    assert.ok(text.includes(secret.sealed));
    assert.ok(!text.includes(value));
    for (const key of keys.split('\n').map((line) => line.split(' ')[1])) assert.ok(!text.includes(key));
    assert.ok(!text.includes('seal.keys'), 'nor where they are');
  });

  it('opens in another cluster with the file of keys, and not without it', async () => {
    await image.start();
    const target = (database) =>
      `postgres://supabase_admin:${fs
        .readFileSync(path.join(image.folder, 'secrets/admin_password'), 'utf8')
        .trim()}@127.0.0.1:${image.environment.KIJKO_DB_PORT}/${database}`;
    for (const statement of [
      'drop database postgres with (force)',
      'create database postgres owner postgres template template0',
      'revoke all on database postgres from public',
      'grant connect on database postgres to authenticator, kijko_login, kijko_sidecar',
    ]) {
      await program('psql', ['-X', '-v', 'ON_ERROR_STOP=1', '-d', target('template1'), '-c', statement]);
    }
    await program('pg_restore', ['--single-transaction', '--exit-on-error', '-d', target('postgres'), dump]);
    const secrets = (action) => image.run('kijko-secrets', [action]);
    const read = () =>
      image.run('kijko-psql', ['-X', '-At', '-c', `select private.secrets_value(kijko.platform_org_id(), '${secret.name}')`]);

    const closed = await read();
    assert.notEqual(closed.code, 0);
    assert.match(closed.stderr, /cannot_unseal/);
    assert.equal((await secrets('check')).code, 1);
    const status = await secrets('status');
    assert.equal(status.code, 1);
    assert.match(status.stdout, new RegExp(`${keys.slice(0, 16)} +\\| MISSING`));

    // Its own key seals on; the lines of the other file are added below.
    const file = image.environment.KIJKO_SEAL_KEY_FILE;
    fs.appendFileSync(file, `${keys}\n`);
    assert.equal((await read()).stdout.trim(), value);
    for (const action of ['check', 'reseal', 'prune', 'status']) {
      const { code, stderr } = await secrets(action);
      assert.equal(code, 0, `${action}: ${stderr}`);
    }
    assert.equal((await read()).stdout.trim(), value);
    assert.equal(fs.readFileSync(file, 'utf8').trim().split('\n').length, 1);
    if (process.getuid() === 0) assert.equal(fs.statSync(file).uid, Number(execFileSync('id', ['-u', 'postgres'])));
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
  });
});
