// What the superuser runs: nothing that postgres owns is read or called by it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { asPostgres, home, kijko } from './stack.mjs';

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

  it('up reads the migrations as postgres and signs its keys with built-in functions only', async () => {
    fs.rmSync(path.join(home, 'secrets/api_keys')); // so that they are signed anew
    const { code, stderr } = await kijko(['up']);
    assert.equal(code, 0, stderr);
    const { rows } = await asPostgres((client) => client.query('select distinct who, how from public.ran_by order by 1, 2'));
    assert.ok(
      rows.some((row) => row.how === 'schema_migrations'),
      'the trap was sprung',
    );
    assert.deepEqual([...new Set(rows.map((row) => row.who))], ['postgres/postgres'], JSON.stringify(rows));
  });

  it('psql --admin resolves no unqualified name in the schema public', async () => {
    const { stdout } = await kijko(['psql', '--admin', '-X', '-At', '-c', 'show search_path']);
    assert.equal(stdout.trim().replaceAll(' ', ''), 'pg_catalog,pg_temp');
  });
});
