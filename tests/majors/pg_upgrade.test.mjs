// ./kijko upgrade --pg: a stack with data moves from one major version of Postgres to another, and everything is there. Run by
// `./kijko test --pg 17 pg_upgrade` in a Debian that has both.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { it } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { asSuperuser, home, kijko } from '../cli/stack.mjs';
import { until } from '../until.mjs';

const TO = process.env.KIJKO_UPGRADE_TO;
const { API_URL, ANON_KEY } = process.env;
const TABLES = ['auth.users', 'auth.identities', 'public.organizations', 'public.memberships', 'public.projects', 'public.subscriptions'];
const email = `upgrade-${Date.now()}@example.com`;
const password = 'correct horse battery staple';
const connect = () =>
  createClient(API_URL, ANON_KEY, { auth: { persistSession: false, autoRefreshToken: false }, realtime: { transport: class {} } });
const data = ({ data: answer, error }) => {
  assert.ifError(error);
  return answer;
};

/** What has to be the same on both sides. */
const state = (org) =>
  asSuperuser(async (client) => {
    const one = async (text, values) => (await client.query(text, values)).rows[0];
    const sums = {};
    for (const table of TABLES) {
      sums[table] = await one(`select count(*)::integer as rows, md5(string_agg(t::text, '|' order by t::text)) as sum from ${table} as t`);
    }
    const usage = await client.query('select meter, used, "limit" from kijko.usage($1) order by meter', [org]);
    const jobs = await client.query('select jobname, schedule, command, active from cron.job order by jobname');
    return { sums, usage: usage.rows, jobs: jobs.rows };
  });

const version = () => asSuperuser(async (client) => (await client.query('show server_version')).rows[0].server_version);

it('keeps users, tenants, usage, schedules and keys', { timeout: 900_000 }, async () => {
  const client = connect();
  data(await client.auth.signUp({ email, password }));
  const org = data(await client.rpc('org_id'));
  const project = data(await client.from('projects').insert({ name: 'Before' }).select('id').single());
  const key = data(await client.rpc('create_api_key', { name: 'Before', permissions: ['projects:read'] }));
  await asSuperuser((admin) => admin.query(`select kijko.consume($1, 'executions', 3)`, [org]));
  const before = await state(org);
  assert.ok(before.usage.some(({ meter, used }) => meter === 'executions' && Number(used) === 3));
  assert.ok(before.jobs.length > 0);

  const upgraded = await kijko(['upgrade', '--pg', TO], { KIJKO_PG_MAJOR: '', KIJKO_PREBUILT: '1' });
  assert.equal(upgraded.code, 0, upgraded.stderr);
  assert.ok((await version()).startsWith(`${TO}.`));
  assert.deepEqual(await state(org), before);

  // The session from before, the key from before, and a new session.
  assert.deepEqual(data(await client.from('projects').select('name').eq('id', project.id)), [{ name: 'Before' }]);
  const byKey = await fetch(`${API_URL}/rest/v1/projects?select=name&id=eq.${project.id}`, {
    headers: { apikey: ANON_KEY, 'X-API-Key': key.secret },
  });
  assert.deepEqual(await byKey.json(), [{ name: 'Before' }]);
  data(await connect().auth.signInWithPassword({ email, password }));

  const behind = 'select name, installed_version from pg_available_extensions where installed_version <> default_version';
  assert.deepEqual((await asSuperuser((admin) => admin.query(behind))).rows, [], 'extensions are those of the new system');
  // They begin at full minutes.
  const runs = `select count(*)::integer as runs from cron.job_run_details where status = 'succeeded' and start_time > pg_postmaster_start_time()`;
  await until('a schedule to succeed', async () => (await asSuperuser((admin) => admin.query(runs))).rows[0].runs > 0, {
    timeoutMs: 300_000,
    everyMs: 1000,
  });
  assert.ok(fs.existsSync(`${home}/data.${process.env.KIJKO_PG_MAJOR}/PG_VERSION`), 'the former cluster stays');
});

it('refuses what is no newer major version', async () => {
  for (const to of ['15', TO, '99', '']) {
    const refused = await kijko(['upgrade', '--pg', to], { KIJKO_PG_MAJOR: '' });
    assert.equal(refused.code, 2, refused.stderr);
  }
});

it('a new cluster in its place is of the version that is asked for, whatever programs are there', { timeout: 900_000 }, async () => {
  const from = process.env.KIJKO_PG_MAJOR;
  const down = await kijko(['down'], { KIJKO_PG_MAJOR: '' });
  assert.equal(down.code, 0, down.stderr);
  for (const name of ['data', 'applied']) fs.rmSync(`${home}/${name}`, { recursive: true });
  const up = await kijko(['up'], { KIJKO_PREBUILT: '1' });
  assert.equal(up.code, 0, up.stderr);
  assert.ok((await version()).startsWith(`${from}.`));
});
