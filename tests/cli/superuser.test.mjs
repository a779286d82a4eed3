// The role `postgres`, the domain's owner, as an attacker: it cannot become superuser, run programs, read files or the signing
// key, or make the superuser run its code.
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { allowedAsSuperuser, asPostgres, asSuperuser, denied, home } from './stack.mjs';

describe('postgres', () => {
  it('is not a superuser, cannot create roles on PostgreSQL 15, and belongs to no stronger role', async () => {
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
      // The last two, as on Supabase, own the schemas realtime and storage and nothing else.
      assert.deepEqual(
        rows.map((row) => row.rolname),
        ['anon', 'authenticated', 'postgres', 'service_role', 'supabase_realtime_admin', 'supabase_storage_admin'],
      );
    });
  });

  it('cannot grant itself a predefined role, or create or change a role', async () => {
    const { rows } = await asSuperuser((client) => client.query(`select rolname from pg_roles where rolname like 'pg\\_%' order by 1`));
    assert.ok(rows.length > 5);
    for (const { rolname } of rows) await denied([`grant ${rolname} to postgres`]);
    for (const role of [
      'supabase_admin',
      'supabase_auth_admin',
      'authenticator',
      'kijko_sidecar',
      'kijko_login',
      'kijko_realtime',
      'kijko_realtime_admin',
      'kijko_storage',
      'kijko_storage_admin',
      'kijko_indexer',
      'kijko_gateway',
    ]) {
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

  it('cannot run programs or read files, among them the signing key', async () => {
    const key = path.join(home, 'secrets/signing.keys');
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
      await denied([`select ${call}`]);
    }
    await denied(['show kijko.signing_key_file']);
    await denied([
      `select setting from pg_settings where name = 'kijko.signing_key_file' and 1 / (setting is null)::integer = 1`,
      'show kijko.signing_key_file',
    ]);
    await denied(['select * from pg_authid']);
    await denied(['select * from pg_shadow']);
    await denied([`select kijko.sign_jwt('{"role": "service_role"}')`]);
  });

  it('cannot create C functions, event triggers or subscriptions, or change an extension', async () => {
    await denied([`create function f(text) returns text language internal as 'pg_read_file_all'`]);
    await denied([`create function f() returns integer language c as 'kijko', 'kijko_admit_request'`]);
    await denied([`load '/var/tmp/intruder.so'`]);
    await denied([
      `create function f() returns event_trigger language plpgsql as 'begin end'`,
      'create event trigger e on ddl_command_start execute function f()',
    ]);
    for (const extension of ['kijko', 'pg_cron', 'pgcrypto']) {
      await denied([`alter extension ${extension} update`]);
      await denied([`drop extension ${extension} cascade`]);
      await denied([
        `create function public.f() returns integer language sql as 'select 1'`,
        `alter extension ${extension} add function public.f()`,
      ]);
    }
    await denied([`create subscription s connection 'host=127.0.0.1' publication p with (connect = false)`]);
    await denied(['create foreign data wrapper w']);
  });

  it('cannot create an extension that needs a superuser, while the superuser can create each of them here', async () => {
    const { rows } = await asSuperuser((client) =>
      client.query(`
        select v.name from pg_available_extension_versions as v join pg_available_extensions as e on e.name = v.name and e.default_version = v.version
        where v.superuser and not v.trusted and e.installed_version is null order by 1`),
    );
    const names = rows.map((row) => row.name);
    for (const name of ['dblink', 'file_fdw', 'pageinspect', 'postgres_fdw'])
      assert.ok(names.includes(name), `${name} is not there to be refused`);
    for (const name of names) {
      await allowedAsSuperuser(`create extension ${name} cascade`);
      await denied([`create extension ${name} cascade`]);
    }
  });

  it("cannot change settings of the database or the server, or create objects in other owners' schemas", async () => {
    for (const setting of ['search_path = public', `role = postgres`, 'log_statement = none', `session_preload_libraries = 'x'`]) {
      await denied([`alter database postgres set ${setting}`]);
    }
    // Not in a transaction, which it may not be in.
    await asPostgres((client) => assert.rejects(client.query('alter system set log_connections = on'), { code: '42501' }));
    await denied([`set kijko.clock_offset = '1 day'`]);
    await denied([`set kijko.trusted_session_users = 'postgres'`], '55P02');
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
      'kijko.cache_changes',
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

  it('can schedule jobs only as itself', async () => {
    await denied([`select cron.schedule_in_database('intruder', '* * * * *', 'select 1', 'postgres', 'supabase_admin')`]);
    await denied([`insert into cron.job (schedule, command, username) values ('* * * * *', 'select 1', 'supabase_admin')`]);
    await denied([`update cron.job set username = 'supabase_admin'`]);
    await denied([`select cron.alter_job(jobid, username => 'supabase_admin') from cron.job limit 1`]);
    const { rows } = await asSuperuser((client) => client.query(`select distinct username from cron.job`));
    assert.deepEqual(rows, [{ username: 'postgres' }]);
  });

  it('cannot make the superuser run its operators and functions by a search path', async () => {
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
      assert.deepEqual([...new Set(ran)], ['trap postgres'], 'the trap works, and only postgres ran it');
    });
  });

  it("owns nothing that a superuser's function or worker reads", async () => {
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
