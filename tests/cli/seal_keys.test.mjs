// ./kijko secrets: the keys that seal secrets change on the running stack, whatever is killed, locked, broken or missing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { until } from '../until.mjs';
import { asPostgres, asSuperuser, home, kijko, logs, port, root, session } from './stack.mjs';

const file = path.join(home, 'secrets/seal.keys');
const lines = () => fs.readFileSync(file, 'utf8').trim().split('\n');
const ids = () => lines().map((line) => line.split(' ')[0]);
const ROWS = 1300; // three transactions of reseal
const impatient = { KIJKO_SECRETS_WAIT_SECONDS: '1' };

const query = async (text, values) => (await asPostgres((client) => client.query(text, values))).rows;
const one = async (text, values) => Object.values((await query(text, values))[0])[0];
const wrong = () =>
  one(`select count(*)::int from private.cli_sealed where kijko.unseal(sealed, 'cli/' || id) is distinct from 'value ' || id`);
const under = (id) => one('select count(*)::int from private.cli_sealed where kijko.seal_key_id(sealed) = $1', [id]);

/** ./kijko secrets ACTION. No key is ever printed. */
async function secrets(action, environment) {
  const keys = lines().map((line) => line.split(' ')[1]);
  const result = await kijko(['secrets', action], environment);
  for (const key of keys) assert.ok(!(result.stdout + result.stderr).includes(key), `${action} prints a key`);
  return result;
}
async function done(action) {
  const { code, stdout, stderr } = await secrets(action);
  assert.equal(code, 0, stderr);
  return stdout + stderr;
}
async function failed(action, says, environment) {
  const { code, stderr } = await secrets(action, environment);
  assert.equal(code, 1, `${action} should fail`);
  assert.match(stderr, says);
}

describe('the keys that seal secrets', () => {
  let schedules;
  before(async () => {
    // What other tests have sealed would be counted, too, and so would mails that a schedule writes meanwhile.
    ({ rows: schedules } = await asSuperuser((client) => client.query('update cron.job set active = false where active returning jobid')));
    const tables = await query('select distinct table_name from private.sealed_columns');
    for (const { table_name } of tables) await asSuperuser((client) => client.query(`delete from ${table_name}`));
    await query(`
      create table private.cli_sealed (id integer primary key, sealed kijko.sealed not null);
      create function private.cli_context(r private.cli_sealed) returns text language sql immutable as $$ select 'cli/' || r.id $$;
      select private.seal_column('private.cli_sealed', 'sealed', context => 'private.cli_context(private.cli_sealed)');
      insert into private.cli_sealed select n, kijko.seal('value ' || n, 'cli/' || n) from generate_series(1, ${ROWS}) as n`);
  });
  after(async () => {
    await query(
      `drop table private.cli_sealed cascade; drop function if exists private.cli_hold; delete from private.sealed_columns where table_name = 'private.cli_sealed'`,
    );
    const ids = schedules.map(({ jobid }) => jobid);
    await asSuperuser((client) => client.query('update cron.job set active = true where jobid = any ($1)', [ids]));
  });

  it('are in a file outside the data, which the server alone can read', async () => {
    const { mode, uid } = fs.statSync(file);
    assert.equal(mode & 0o777, 0o600);
    assert.equal(uid, fs.statSync(path.join(home, 'data')).uid);
    assert.equal(lines().length, 1);
    assert.match(lines()[0], /^[0-9a-f]{16} [A-Za-z0-9+/]{43}=$/);
    const status = await done('status');
    assert.match(status, new RegExp(`${ids()[0]} +\\| seals +\\| +${ROWS}`));
    assert.match(await done('check'), new RegExp(`^${ROWS} sealed values, 0 cannot be opened$`, 'm'));
  });

  it('rotate: a connected session seals by the new key at its next call, and opens what is there', async () => {
    const [former] = ids();
    const before = fs.statSync(file);
    await asPostgres(async (client) => {
      const sealedBy = async () => (await client.query(`select kijko.seal_key_id(kijko.seal('x', 'x')) as id`)).rows[0].id;
      assert.equal(await sealedBy(), former);
      await done('rotate');
      assert.deepEqual([ids().length, ids()[1]], [2, former]);
      assert.equal(await sealedBy(), ids()[0]);
    });
    const now = fs.statSync(file);
    assert.deepEqual([now.mode, now.uid, now.gid], [before.mode, before.uid, before.gid]);
    assert.deepEqual(
      fs.readdirSync(path.dirname(file)).filter((name) => name.startsWith('seal.keys')),
      ['seal.keys'],
    );
    assert.equal(await wrong(), 0);
  });

  it('prune keeps a key that is needed, and says so', async () => {
    const kept = lines();
    await failed('prune', new RegExp(`kept: ${kept[1].split(' ')[0]}`));
    assert.deepEqual(lines(), kept);
  });

  it('reseal: killed in the middle it loses nothing, goes on where it was, and readers read on', async () => {
    const [, former] = ids();
    let reading = true;
    const reader = (async () => {
      let reads = 0;
      for (; reading; reads += 1) assert.equal(await wrong(), 0);
      return reads;
    })();
    // Its second transaction waits for this lock, and is killed there.
    await query(`
      create function private.cli_hold() returns trigger language plpgsql as $$
      begin
        if (select count(*) from private.cli_sealed where kijko.seal_key_id(sealed) <> '${former}') >= 500 then
          perform pg_advisory_xact_lock(4711);
        end if;
        return new;
      end $$;
      create trigger hold before update on private.cli_sealed for each row execute function private.cli_hold()`);
    const running = (condition) => async () =>
      (await asSuperuser((admin) => admin.query(`select from pg_stat_activity where query ~ 'private.reseal_rows' and ${condition}`))).rows
        .length === 1;
    await asPostgres(async (client) => {
      await client.query('select pg_advisory_lock(4711)');
      const child = spawn(path.join(root, 'kijko'), ['secrets', 'reseal'], {
        env: { ...process.env, KIJKO_HOME: home, KIJKO_API_PORT: port },
        detached: true,
        stdio: 'ignore',
      });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      await until('the second transaction to wait', running(`wait_event = 'advisory'`));
      process.kill(-child.pid, 'SIGKILL');
      await ended;
      assert.equal(await under(former), ROWS - 500);
      assert.equal(await wrong(), 0);
    });
    await until('the killed session to end', async () => !(await running('pid <> pg_backend_pid()')()));
    await query('drop function private.cli_hold cascade');
    const left = await under(former);
    assert.ok(left > 0 && left < ROWS, `${left} are left`);
    assert.match(await done('reseal'), new RegExp(`^${left} values were sealed anew, 0 are left`, 'm'));
    reading = false;
    assert.ok((await reader) > 0);
    assert.equal(await wrong(), 0);
    assert.equal(await under(ids()[0]), ROWS);
    assert.match(await done('reseal'), /^0 values were sealed anew, 0 are left/m);
  });

  it('prune waits for transactions that began before it, and then removes the former key', async () => {
    const [current, former] = ids();
    await asPostgres(async (client) => {
      await client.query('begin');
      await client.query('select 1');
      await failed('prune', /transactions have been open/, impatient);
      assert.deepEqual(ids(), [current, former]);
      await client.query('commit');
    });
    assert.match(await done('prune'), new RegExp(`removed: ${former}`));
    assert.deepEqual(ids(), [current]);
    assert.equal(await wrong(), 0);
    assert.match(await done('prune'), /there is no former key/);
  });

  it('reseal passes over a locked row and a broken value, reports them, and does the rest', async () => {
    const broken = await one('select sealed::text from private.cli_sealed where id = 2');
    await query('update private.cli_sealed set sealed = (select sealed from private.cli_sealed where id = 1) where id = 2');
    await done('rotate');
    const [current, former] = ids();
    await asPostgres(async (client) => {
      await client.query('begin');
      await client.query('select from private.cli_sealed where id = 3 for update');
      await failed('reseal', /2 are left under a former key/, impatient);
      assert.equal(await under(former), 2);
      await client.query('commit');
    });
    await failed('reseal', /1 are left/);
    await failed('check', /1 cannot be opened/);
    await failed('prune', new RegExp(former));
    await query('update private.cli_sealed set sealed = $1 where id = 2', [broken]);
    await done('reseal');
    assert.equal(await wrong(), 0);
    assert.equal(await under(current), ROWS);
    await done('prune');
  });

  it('reseal reaches a table of another role, as login has, and leaves there what nobody sealed', async () => {
    await asSuperuser((admin) =>
      admin.query(`
        create table auth.cli_seeds (id integer, secret text);
        alter table auth.cli_seeds owner to supabase_auth_admin;
        grant select, insert, update on auth.cli_seeds to postgres`),
    );
    await query(`
      create function private.cli_seed_context(r auth.cli_seeds) returns text language sql immutable as $$ select 'seed/' || r.id $$;
      select private.seal_column('auth.cli_seeds', 'secret', context => 'private.cli_seed_context(auth.cli_seeds)');
      insert into auth.cli_seeds values (1, kijko.seal('seed 1', 'seed/1')), (2, 'plain'), (3, null)`);
    await done('rotate');
    const [current] = ids();
    assert.match(await done('reseal'), new RegExp(`^${ROWS + 1} values were sealed anew, 0 are left`, 'm'));
    await done('prune');
    const seeds = await query(`
      select id, case when kijko.seal_key_id(secret) is null then secret else kijko.unseal(secret, 'seed/1') end as secret,
        kijko.seal_key_id(secret) as key
      from auth.cli_seeds order by id`);
    assert.deepEqual(seeds, [
      { id: 1, secret: 'seed 1', key: current },
      { id: 2, secret: 'plain', key: null },
      { id: 3, secret: null, key: null },
    ]);
    await query(`delete from private.sealed_columns where table_name = 'auth.cli_seeds'; drop function private.cli_seed_context`);
    await asSuperuser((admin) => admin.query('drop table auth.cli_seeds'));
  });

  it('a key that is missing from the file is named, and its line brings the values back', async () => {
    const [former] = lines();
    await done('rotate');
    const both = fs.readFileSync(file);
    fs.writeFileSync(file, `${lines()[0]}\n`);
    await failed('status', new RegExp(`${ROWS} values need a key`));
    assert.match((await secrets('status')).stdout, new RegExp(`${former.split(' ')[0]} +\\| MISSING +\\| +${ROWS}`));
    await failed('check', new RegExp(`${ROWS} cannot be opened`));
    fs.writeFileSync(file, both);
    assert.equal(await wrong(), 0);
    await done('reseal');
    await done('prune');
  });

  it('a missing or exposed file stops secrets and nothing else; up does not replace it; put back it works at once', async () => {
    const kept = `${file}.kept`;
    fs.renameSync(file, kept);
    const seal = () => query(`select kijko.seal('x', 'x')`);
    await assert.rejects(seal(), { code: 'KJ503' });
    assert.equal(await one('select 1'), 1);
    const up = await kijko(['up']);
    assert.equal(up.code, 0, up.stderr);
    assert.match(up.stderr, /seal\.keys is missing/);
    assert.equal(fs.existsSync(file), false);
    assert.equal((await kijko(['secrets', 'status'])).code, 1);
    fs.renameSync(kept, file);
    await seal();
    fs.chmodSync(file, 0o644);
    await assert.rejects(seal(), { code: 'KJ503' });
    fs.chmodSync(file, 0o600);
    await seal();
    await done('status');
  });

  it('two commands at once, another file, or a file that is there already are refused', async () => {
    await failed('create', /already/);
    const elsewhere = path.join(home, 'other.keys');
    fs.writeFileSync(elsewhere, '0123456789abcdef AAAA\n', { mode: 0o600 });
    for (const action of ['rotate', 'reseal', 'prune', 'status']) {
      await failed(action, /reads another file/, { KIJKO_SEAL_KEY_FILE: elsewhere });
    }
    assert.equal(fs.readFileSync(elsewhere, 'utf8'), '0123456789abcdef AAAA\n');
    fs.rmSync(elsewhere);
    const holder = spawn('flock', [path.join(home, 'seal-keys.lock'), 'sleep', '60'], { detached: true, stdio: 'ignore' });
    const held = () => fs.existsSync(`/proc/${holder.pid}/task/${holder.pid}/children`);
    await until('the lock to be held', async () => held() && (await kijko(['secrets', 'status'])).code === 1);
    await failed('rotate', /another 'secrets' command/);
    process.kill(-holder.pid, 'SIGKILL');
    await until('the lock to be free', async () => (await kijko(['secrets', 'status'])).code === 0);
  });

  it('anything else is misuse', async () => {
    for (const args of [['no-such-action'], ['status', 'more']]) assert.equal((await kijko(['secrets', ...args])).code, 2);
  });
});

describe('the value of a secret', () => {
  it('is in no log, whatever is logged of statements', async () => {
    const { newUser } = await import('../journeys/support.mjs');
    const log = path.join(home, 'log/postgres.log');
    const value = `value-${process.pid}-${Math.random()}`;
    const settings = [`log_statement = 'all'`, 'log_min_duration_statement = 0', 'log_duration = on', 'log_error_verbosity = verbose'];
    const { client } = await newUser();
    const start = fs.statSync(log).size;
    const written = () => fs.readFileSync(log).subarray(start).toString();
    await asSuperuser(async (admin) => {
      for (const setting of settings) await admin.query(`alter system set ${setting}`);
      await admin.query('select pg_reload_conf()');
    });
    try {
      await until('statements to be logged', async () => {
        await client.rpc('set_secret', { name: 'TOKEN', value });
        return written().includes('set_secret');
      });
      assert.equal((await client.rpc('set_secret', { name: 'bad name', value })).error.code, 'invalid_input');
      assert.ok((await client.rpc('set_secret', { name: 'TOKEN', value, more: 1 })).error);
      const rows = await session(process.env.DB_URL, (postgres) =>
        postgres.query(`select private.secrets_value(s.org_id, s.name) as value from public.secrets as s where s.name = 'TOKEN'`),
      );
      assert.ok(rows.rows.some((row) => row.value === value));
    } finally {
      await asSuperuser(async (admin) => {
        for (const setting of settings) await admin.query(`alter system reset ${setting.split(' ')[0]}`);
        await admin.query('select pg_reload_conf()');
      });
    }
    assert.match(written(), /secrets_value/);
    for (const { name, text } of logs()) assert.ok(!text.includes(value), name);
  });
});
