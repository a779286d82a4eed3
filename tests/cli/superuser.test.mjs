// The owner of the domain as an attacker: whatever `postgres` does, it stays what it is. It cannot become superuser, run
// programs, read files or the signing key, and nothing that the superuser runs can be made to run its code. Passwords stand
// in no process that has no use for them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';

const root = path.resolve(import.meta.dirname, '../..');
const home = process.env.TEST_HOME;
const port = process.env.TEST_PORT;
assert.ok(home && port, 'TEST_HOME and TEST_PORT name the running test stack: use ./kijko test cli');

function kijko(args, environment = {}) {
  const env = { ...process.env, KIJKO_HOME: home, KIJKO_API_PORT: port, KIJKO_YES: '1', ...environment };
  return new Promise((resolve) => {
    execFile(path.join(root, 'kijko'), args, { env, timeout: 120_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr }),
    );
  });
}

async function session(url, body) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await body(client);
  } finally {
    await client.end();
  }
}

const asPostgres = (body) => session(process.env.DB_URL, body);
const asSuperuser = (body) => session(process.env.ADMIN_DB_URL, body);
const asSidecar = (body) => session(process.env.ADMIN_DB_URL.replace(/\/\/[^@]+@/, `//kijko_sidecar:${passwords().SIDECAR}@`), body);

const passwords = () =>
  Object.fromEntries(
    [...fs.readFileSync(path.join(home, 'secrets/passwords'), 'utf8').matchAll(/KIJKO_(\w+)_PASSWORD=(\S+)/g)].map(([, name, value]) => [
      name,
      value,
    ]),
  );

/** The statements in one transaction that is rolled back: the last must fail, with 42501 or one of these codes. */
async function denied(statements, codes = ['42501']) {
  await asPostgres(async (client) => {
    await client.query('begin');
    let failure;
    let refused;
    for (const statement of statements) {
      try {
        await client.query(statement);
      } catch (error) {
        [failure, refused] = [error, statement];
        break;
      }
    }
    await client.query('rollback');
    assert.ok(failure, `nothing refused: ${statements.join('; ')}`);
    assert.equal(refused, statements.at(-1), `refused too early: ${failure.code} ${failure.message}`);
    assert.ok(codes.includes(failure.code), `${statements.join('; ')}: ${failure.code} ${failure.message}`);
  });
}

describe('postgres', () => {
  it('is no superuser, makes no roles on 15, and belongs to none that could do more', async () => {
    await asSuperuser(async (client) => {
      const {
        rows: [role],
      } = await client.query(`
        select rolsuper, rolcreaterole, rolreplication, current_setting('server_version_num')::integer as version
        from pg_roles where rolname = 'postgres'`);
      assert.deepEqual([role.rolsuper, role.rolreplication], [false, false]);
      if (role.version < 160000) assert.equal(role.rolcreaterole, false);
      const { rows } = await client.query(`
        with recursive mine as (
          select oid from pg_roles where rolname = 'postgres'
          union select m.roleid from pg_auth_members as m join mine on mine.oid = m.member
        )
        select r.rolname from mine join pg_roles as r using (oid) order by 1`);
      assert.deepEqual(
        rows.map((row) => row.rolname),
        ['anon', 'authenticated', 'postgres', 'service_role'],
      );
    });
  });

  it('cannot grant itself a role of Postgres, or make or change one', async () => {
    const { rows } = await asSuperuser((client) => client.query(`select rolname from pg_roles where rolname like 'pg\\_%' order by 1`));
    assert.ok(rows.length > 5);
    for (const { rolname } of rows) await denied([`grant ${rolname} to postgres`], ['42501', '0LP01']);
    for (const role of ['supabase_admin', 'supabase_auth_admin', 'authenticator', 'kijko_sidecar', 'kijko_login']) {
      await denied([`grant ${role} to postgres`]);
      await denied([`set role ${role}`]);
      await denied([`alter role ${role} password 'x'`]);
      await denied([`alter role ${role} set search_path = public`]);
    }
    await denied(['create role intruder superuser']);
    await denied(['create role intruder']);
    await denied(['alter role postgres superuser']);
    await denied(['alter role postgres createrole']);
    await denied(['set session authorization supabase_admin']);
  });

  it("runs no programs and reads no files: not the server's, not the signing key", async () => {
    const key = path.join(home, 'secrets/jwt.pem');
    await denied([`create temp table t (l text)`, `copy t from program 'id'`]);
    await denied([`copy (select 1) to program 'id'`]);
    await denied([`create temp table t (l text)`, `copy t from '${key}'`]);
    await denied([`copy (select 1) to '/var/tmp/intruder'`]);
    for (const call of [
      `pg_read_file('${key}')`,
      `pg_read_binary_file('${key}')`,
      `lo_import('${key}')`,
      `lo_export(1, '/var/tmp/intruder')`,
      `pg_ls_dir('.')`,
      `pg_stat_file('${key}')`,
      `pg_ls_logdir()`,
      `pg_ls_waldir()`,
      `pg_hba_file_rules()`,
      `pg_show_all_file_settings()`,
      `pg_reload_conf()`,
      `pg_read_file('/proc/self/environ')`,
      `pg_current_logfile()`,
    ]) {
      await denied([`select ${call}`], ['42501', '42883']);
    }
    await denied(['show kijko.jwt_key_file']);
    await denied([
      `select setting from pg_settings where name = 'kijko.jwt_key_file' and 1 / (setting is null)::integer = 1`,
      'show kijko.jwt_key_file',
    ]);
    await denied(['select * from pg_authid']);
    await denied(['select * from pg_shadow']);
    await denied([`select kijko.sign_jwt('{"role": "service_role"}')`]);
  });

  it('makes no functions in C, no event triggers, no extensions that need a superuser, and changes none', async () => {
    await denied([`create function f(text) returns text language internal as 'pg_read_file_all'`]);
    await denied([`create function f() returns integer language c as 'kijko', 'kijko_admit_request'`]);
    await denied([`load '/var/tmp/intruder.so'`]);
    await denied([
      `create function f() returns event_trigger language plpgsql as 'begin end'`,
      'create event trigger e on ddl_command_start execute function f()',
    ]);
    for (const extension of ['file_fdw', 'postgres_fdw', 'dblink', 'adminpack', 'pageinspect'])
      await denied([`create extension ${extension}`], ['42501', '0A000', '58P01']);
    for (const extension of ['kijko', 'pg_cron', 'pgcrypto']) {
      await denied([`alter extension ${extension} update`]);
      await denied([`drop extension ${extension} cascade`]);
      await denied([
        `create function public.f() returns integer language sql as 'select 1'`,
        `alter extension ${extension} add function public.f()`,
      ]);
    }
    await denied([`create function f(internal) returns internal language plpgsql as 'begin end'`], ['42501', '42P13', '0A000']);
    await denied([`create language plpython3u`], ['42501', '58P01', '0A000']);
    await denied([`create subscription s connection 'host=127.0.0.1' publication p with (connect = false)`]);
    await denied(['create foreign data wrapper w']);
  });

  it('puts nothing before what others look for: no settings of the database or the server, no objects in their schemas', async () => {
    for (const setting of ['search_path = public', `role = postgres`, 'log_statement = none', `session_preload_libraries = 'x'`]) {
      await denied([`alter database postgres set ${setting}`]);
    }
    // Not in a transaction, which it may not be in.
    await asPostgres((client) => assert.rejects(client.query('alter system set log_connections = on'), { code: '42501' }));
    await denied([`set kijko.clock_offset = '1 day'`]);
    await denied([`set kijko.trusted_session_users = 'postgres'`], ['42501', '55P02']);
    await denied(['alter database postgres owner to postgres']);
    for (const schema of ['pg_catalog', 'kijko', 'auth', 'auth_api', 'cron', 'extensions', 'information_schema']) {
      await denied([`create function ${schema}.now() returns timestamptz language sql as 'select null::timestamptz'`]);
      await denied([`create view ${schema}.intruder as select 1`]);
    }
    await denied(['alter default privileges for role supabase_admin grant all on tables to postgres']);
    await denied(['alter default privileges for role supabase_auth_admin grant all on tables to postgres']);
    for (const table of [
      'cron.job',
      'cron.job_run_details',
      'kijko.ledger',
      'kijko.rate_limit_policies',
      'kijko.membership_changes',
      'auth_api.settings',
    ]) {
      await denied([
        `create function f() returns trigger language plpgsql as 'begin return null; end'`,
        `create trigger t after insert on ${table} execute function f()`,
      ]);
      await denied([`create rule r as on insert to ${table} do also select 1`]);
      await denied([`alter table ${table} owner to postgres`]);
    }
  });

  it('schedules jobs as itself only', async () => {
    await denied([`select cron.schedule_in_database('intruder', '* * * * *', 'select 1', 'postgres', 'supabase_admin')`]);
    await denied([`insert into cron.job (schedule, command, username) values ('* * * * *', 'select 1', 'supabase_admin')`]);
    await denied([`update cron.job set username = 'supabase_admin'`]);
    await denied([`select cron.alter_job(jobid, username => 'supabase_admin') from cron.job limit 1`]);
    const { rows } = await asSuperuser((client) => client.query(`select distinct username from cron.job`));
    assert.deepEqual(rows, [{ username: 'postgres' }]);
  });

  it('runs nothing as the superuser by operators and functions of its own in the search path', async () => {
    await asPostgres(async (client) => {
      const ran = [];
      client.on('notice', ({ message }) => {
        if (message.startsWith('trap ')) ran.push(message);
      });
      await client.query('begin');
      await client.query('create schema trap');
      for (const type of ['bigint', 'text', 'uuid', 'integer', 'timestamptz', 'interval', 'boolean']) {
        await client.query(`create function trap.same(a ${type}, b ${type}) returns boolean language plpgsql as $$
          begin raise notice 'trap %', current_user; return a operator(pg_catalog.=) b; end $$`);
        await client.query(`create operator trap.= (leftarg = ${type}, rightarg = ${type}, procedure = trap.same)`);
      }
      for (const [name, argument] of [
        ['nextval', 'text'],
        ['now', ''],
        ['length', 'text'],
        ['format', 'text'],
        ['coalesce', 'text'],
      ]) {
        await client.query(
          `create function trap."${name}"(${argument}) returns text language plpgsql as $$ begin raise notice 'trap %', current_user; return null; end $$`,
        );
      }
      await client.query('set local search_path = trap, pg_catalog');
      const org = "'00000000-0000-4000-8000-00000000000a'";
      for (const call of [
        `trap.same(1, 1)`,
        `cron.schedule('trap', '* * * * *', 'select 1')`,
        `cron.schedule('trap', '* * * * *', 'select 2')`,
        `cron.unschedule('trap')`,
        `kijko.set_tier(${org}, 'FREE')`,
        `kijko.set_statement_timeout('TRAP', '1 s')`,
        `kijko.set_rate_limit_policy('trap', 'user', 1, '1 minute')`,
        `kijko.drop_rate_limit_policy('trap')`,
        `kijko.set_limit(${org}, 'trap', 'month', 5)`,
        `kijko.consume(${org}, 'trap', 1, 'key')`,
        `kijko.usage(${org})`,
        `kijko.usage_by_day(${org}, 'trap', '2026-01-01', '2026-01-02')`,
        `kijko.revoke_session(${org})`,
        `kijko.maintain_usage()`,
      ]) {
        await client.query(`select ${call}`);
      }
      await client.query('rollback');
      assert.deepEqual([...new Set(ran)], ['trap postgres'], 'the trap works, and nobody else fell into it');
    });
  });

  it('owns nothing that a function or worker of the superuser reads', async () => {
    // What the superuser's definer functions may call or read lies in schemas that postgres cannot write to; their text names no other.
    const { rows } = await asSuperuser((client) =>
      client.query(`
      select p.oid::regprocedure::text as function
      from pg_proc as p join pg_roles as r on r.oid = p.proowner
      where r.rolsuper and p.prosecdef and p.pronamespace::regnamespace::text not in ('pg_catalog', 'information_schema')
        and (p.prosrc ~* '\\m(public|private|supabase_migrations)\\.' or not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false))
        and p.pronamespace::regnamespace::text <> 'cron'`),
    );
    assert.deepEqual(rows, []);
  });
});

describe('what the superuser runs', () => {
  // A view with a function in place of the table, functions that fit better than Postgres' own, and a trigger: each writes down who ran it.
  const trap = `
    create table public.ran_by (who text, how text);
    grant all on public.ran_by to public;
    create function public.trap(how text) returns boolean language plpgsql volatile as $$
      begin
        insert into public.ran_by values (current_user || '/' || session_user, trap.how);
        return true;
      end $$;
    create schema trap;
    grant usage on schema trap to public;
    create function public.to_regclass(unknown_text varchar) returns regclass language plpgsql as $$ begin perform public.trap('to_regclass'); return null; end $$;
    create function public.array_to_string(anyarray, varchar) returns text language plpgsql as $$ begin perform public.trap('array_to_string'); return ''; end $$;
    create function public.jsonb_build_object(text, text, text, text, text, bigint, text, integer) returns jsonb language plpgsql as $$ begin perform public.trap('jsonb_build_object'); return '{}'; end $$;
    create function public.jsonb_build_object(varchar, text, text, text, text, bigint, text, integer) returns jsonb language plpgsql as $$ begin perform public.trap('jsonb_build_object'); return '{}'; end $$;
    alter table supabase_migrations.schema_migrations rename to real_migrations;
    create view supabase_migrations.schema_migrations as
      select * from supabase_migrations.real_migrations where public.trap('schema_migrations');`;
  const untrap = `
    drop view if exists supabase_migrations.schema_migrations;
    alter table if exists supabase_migrations.real_migrations rename to schema_migrations;
    drop schema if exists trap cascade;
    drop function if exists public.to_regclass(varchar), public.array_to_string(anyarray, varchar),
      public.jsonb_build_object(text, text, text, text, text, bigint, text, integer), public.jsonb_build_object(varchar, text, text, text, text, bigint, text, integer);
    drop function if exists public.trap(text);
    drop table if exists public.ran_by;`;
  let keys;
  before(async () => {
    keys = fs.readFileSync(path.join(home, 'secrets/api_keys'));
    await asPostgres((client) => client.query(trap));
  });
  after(async () => {
    await asPostgres((client) => client.query(untrap));
    fs.writeFileSync(path.join(home, 'secrets/api_keys'), keys);
  });

  it('up reads the migrations as postgres, and signs its keys with functions of Postgres alone', async () => {
    fs.rmSync(path.join(home, 'secrets/api_keys')); // so that they are signed anew
    await kijko(['up']);
    const { rows } = await asPostgres((client) => client.query('select distinct who, how from public.ran_by order by 1, 2'));
    assert.ok(
      rows.some((row) => row.how === 'schema_migrations'),
      'the trap was sprung',
    );
    assert.deepEqual([...new Set(rows.map((row) => row.who))], ['postgres/postgres'], JSON.stringify(rows));
  });

  it('a session of psql --admin finds nothing of public by its bare name', async () => {
    const { stdout } = await kijko(['psql', '--admin', '-X', '-At', '-c', 'show search_path']);
    assert.equal(stdout.trim().replaceAll(' ', ''), 'pg_catalog,pg_temp');
  });
});

describe('passwords', () => {
  const pidOf = (name) => Number(fs.readFileSync(path.join(home, 'run', `${name}.pid`), 'utf8').split(' ')[0]);
  const children = (pid) =>
    fs
      .readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((child) => {
        try {
          return Number(/\) \S (\d+)/.exec(fs.readFileSync(`/proc/${child}/stat`, 'utf8'))[1]) === pid;
        } catch {
          return false;
        }
      });
  const read = (pid, file) => {
    try {
      return fs.readFileSync(`/proc/${pid}/${file}`, 'utf8');
    } catch {
      return '';
    }
  };

  it('stand in the environment and the arguments of no part but the sidecar, which has its own', async () => {
    // Started anew by somebody who has exported all there is.
    assert.equal((await kijko(['down'])).code, 0);
    const all = passwords();
    const { code, stderr } = await kijko(['up'], {
      ...Object.fromEntries(Object.entries(all).map(([name, value]) => [`KIJKO_${name}_PASSWORD`, value])),
      OPENAI_API_KEY: '',
      PGPASSWORD: all.ADMIN,
    });
    assert.equal(code, 0, stderr);
    const postmaster = Number(fs.readFileSync(path.join(home, 'data/postmaster.pid'), 'utf8').split('\n')[0]);
    const processes = [
      ['postgres', postmaster],
      ...children(postmaster).map((pid) => ['backend', pid]),
      ...['caddy', 'sidecar', 'rest', 'login'].map((name) => [name, pidOf(name)]),
    ];
    assert.ok(processes.length > 8);
    for (const [name, pid] of processes) {
      const text = read(pid, 'environ') + read(pid, 'cmdline');
      for (const [role, password] of Object.entries(all)) {
        if (name === 'sidecar' && role === 'SIDECAR') continue;
        assert.ok(!text.includes(password), `the password of ${role} stands in the process of ${name}`);
      }
      assert.ok(!text.includes('SERVICE_ROLE_KEY') && !text.includes('ADMIN_DB_URL'), name);
    }
    assert.ok(read(pidOf('sidecar'), 'environ').includes('DATABASE_URL='), 'the environment could be read');
  });

  it('and the service key are printed by status -o env only', async () => {
    const { stdout, stderr } = await kijko(['up']);
    const environment = (await kijko(['status', '-o', 'env'])).stdout;
    const serviceKey = /SERVICE_ROLE_KEY="([^"]+)"/.exec(environment)[1];
    for (const text of [stdout, stderr, (await kijko(['status'])).stdout, (await kijko(['help'])).stdout]) {
      assert.ok(!text.includes(serviceKey), 'the service key');
      for (const [name, password] of Object.entries(passwords())) assert.ok(!text.includes(password), name);
    }
    assert.match(stdout, /status -o env/);
  });
});

describe('notify pgrst', () => {
  const call = (name) =>
    fetch(`${process.env.API_URL}/rest/v1/rpc/${name}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${process.env.SERVICE_ROLE_KEY}` },
    });
  const served = async (name) => {
    const answer = await call(name);
    await answer.text();
    return answer.status === 200;
  };

  it('of any login does nothing: the channel is secret, and ./kijko reload asks PostgREST instead', async () => {
    const name = `made_at_${process.pid}`;
    await asPostgres((client) => client.query(`create function public.${name}() returns integer language sql as 'select 1'`));
    try {
      const channels = `select query from pg_stat_activity where query ~* '^\\s*listen' and usename <> 'kijko_sidecar'`;
      const { rows } = await asSuperuser((client) => client.query(channels));
      assert.equal(rows.length, 2, 'both PostgRESTs listen');
      for (const { query } of rows) assert.match(query, /pgrst_[0-9a-f]{32}/);
      assert.deepEqual((await asSidecar((client) => client.query(channels))).rows, [], 'the sidecar cannot see where');
      for (const payload of ['reload schema', 'reload config']) {
        await asSidecar((client) => client.query(`notify pgrst, '${payload}'`));
        await asSidecar((client) => client.query(`select pg_notify('pgrst', $1)`, [payload]));
      }
      assert.equal(await served(name), false);
      assert.equal((await kijko(['reload'])).code, 0);
      for (let tries = 0; !(await served(name)); tries += 1) {
        assert.ok(tries < 100, 'PostgREST has not read the schema again');
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    } finally {
      await asPostgres((client) => client.query(`drop function public.${name}()`));
    }
  });
});
