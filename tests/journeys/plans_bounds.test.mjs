// Every table and every function that writes has a bound. Compares the list in docs/reference/bounds.md with the database.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { sql } from './support.mjs';

const page = await readFile(new URL('../../docs/reference/bounds.md', import.meta.url), 'utf8');
/** The rows of the page's tables: the names in the first column, and what the last one says. */
const listed = page
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .flatMap((line) => {
    const cells = line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    return [...cells[0].matchAll(/`([^`]+)`/g)].map(([, name]) => ({ name, bound: cells.at(-1) }));
  });
const boundOf = new Map(listed.map(({ name, bound }) => [name, bound]));

test('each table has one line that says what bounds it', async () => {
  const tables = await sql(`
    select n.nspname || '.' || c.relname as name
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'private', 'kijko', 'auth', 'auth_api')
      -- On Supabase itself auth holds GoTrue's tables, which are not ours.
      and (n.nspname <> 'auth' or c.relname in ('users', 'identities', 'sessions', 'refresh_tokens', 'mfa_amr_claims'))`);
  assert.deepEqual(
    tables.map(({ name }) => name).filter((name) => !boundOf.has(name)),
    [],
    'add them to docs/reference/bounds.md',
  );
  assert.equal(boundOf.size, listed.length, 'no name is there twice');
  assert.deepEqual(
    listed.filter(({ bound }) => bound.length < 10),
    [],
  );
});

test('each function by which a request writes has one, too', async () => {
  const functions = await sql(`
    select distinct p.proname as name from pg_proc as p
    where p.pronamespace = 'public'::regnamespace and p.provolatile = 'v'
      and (has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))`);
  assert.ok(functions.length > 5);
  assert.deepEqual(
    functions.map(({ name }) => name).filter((name) => !boundOf.has(name)),
    [],
    'add them to docs/reference/bounds.md',
  );
});

test('the gauges and meters on the page exist, and each plan limits them', async () => {
  const gauges = new Map(
    (
      await sql(`
    select distinct t.tgrelid::regclass::text as name, convert_from(trim(trailing '\\x00'::bytea from t.tgargs), 'UTF8') as meter
    from pg_trigger as t where t.tgfoid = 'private.sync_gauge()'::regprocedure`)
    ).map(({ name, meter }) => [name.includes('.') ? name : `public.${name}`, meter]),
  );
  const named = new Map(
    listed
      .filter(({ name }) => name.includes('.'))
      .flatMap(({ name, bound }) => [...bound.matchAll(/gauge `(\w+)`/g)].map(([, meter]) => [name, meter])),
  );
  assert.deepEqual(named, gauges);
  const limits = await sql('select meter, period, count(*)::int as plans from public.plan_limits group by 1, 2');
  const plansOf = (meter, period) => limits.find((l) => l.meter === meter && l.period === period)?.plans;
  for (const meter of named.values()) assert.equal(plansOf(meter, 'lifetime'), 4, meter);
  const monthly = new Set(listed.flatMap(({ bound }) => [...bound.matchAll(/`(\w+)` a month/g)].map(([, meter]) => meter)));
  assert.deepEqual([...monthly].sort(), [
    'api_requests',
    'code_searches',
    'events',
    'executions',
    'llm_cost_microusd',
    'llm_tokens',
    'publish_cost_microusd',
  ]);
  for (const meter of monthly) assert.equal(plansOf(meter, 'month'), 4, meter);
});
