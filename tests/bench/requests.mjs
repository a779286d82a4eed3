// What the algorithm of a token costs PostgREST: the same GET of one row, with tokens of an RS256, an ES256 and an EdDSA key that
// stand side by side in the file of keys. The stack's own PostgREST, which keeps no verified tokens; wrk with 16 connections, in
// rounds, in another order each time.
//
//   ./kijko bench requests       KIJKO_BENCH_SECONDS=3   KIJKO_BENCH_ROUNDS=3
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';
import { median, ROUNDS, SECONDS } from './limits/load.mjs';

const { API_URL, ANON_KEY, ADMIN_DB_URL, TEST_HOME, TEST_PORT } = process.env;
const ROOT = new URL('../../', import.meta.url).pathname;
const UNLIMITED = 1_000_000_000;
const run = promisify(execFile);
const kijko = (...args) =>
  run('./kijko', args, { cwd: ROOT, env: { ...process.env, KIJKO_HOME: TEST_HOME, KIJKO_API_PORT: TEST_PORT, KIJKO_YES: '1' } });
const shuffled = (values) => [...values].sort(() => Math.random() - 0.5);

const admin = new pg.Client({ connectionString: ADMIN_DB_URL });
await admin.connect();
const one = async (text, values) => (await admin.query(text, values)).rows[0];

// The first key is an RS256 key: now it is the previous one, an ES256 key signs, and an EdDSA key is the next one.
await kijko('keys', 'rotate', 'ES256');
await kijko('keys', 'next', 'EdDSA');
const { rows: keys } = await admin.query(
  `select key ->> 'alg' as algorithm, key ->> 'kid' as id from jsonb_array_elements(kijko.jwks() -> 'keys') as key`,
);
assert.deepEqual(keys.map(({ algorithm }) => algorithm).sort(), ['ES256', 'EdDSA', 'RS256']);

/** The claims of a signed-in user whose organization no limit stops, and a project of it. */
async function prepare() {
  const client = createClient(API_URL, ANON_KEY, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: class {} },
  });
  const { data, error } = await client.auth.signUp({
    email: `bench-${Date.now()}@example.com`,
    password: `pw-${Math.random()}-${Date.now()}`,
  });
  if (error) throw error;
  const user = data.user.id;
  const { org } = await one('select active_org_id as org from private.active_organizations where user_id = $1', [user]);
  await admin.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  await admin.query(
    `select kijko.set_rate_limit_policy('requests', 'organization', ${UNLIMITED}, '1 minute', 'TEAMS'),
      kijko.set_rate_limit_policy('user_requests', 'user', ${UNLIMITED}, '1 minute', 'TEAMS')`,
  );
  await admin.query(`select kijko.set_limit($1, 'api_requests', 'month', ${UNLIMITED})`, [org]);
  // One tenant may have every connection.
  await admin.query('alter system set kijko.connection_time_rate = 1000');
  await admin.query('select pg_reload_conf()');
  const { id: project } = await one(`insert into public.projects (org_id, name, created_by) values ($1, 'Bench', $2) returning id`, [
    org,
    user,
  ]);
  const claims = JSON.parse(Buffer.from(data.session.access_token.split('.')[1], 'base64url'));
  return { claims, project };
}

async function requestsPerSecond(url, token) {
  const { stdout } = await run('wrk', ['-t1', '-c16', `-d${SECONDS}s`, '-H', `Authorization: Bearer ${token}`, url]);
  assert.doesNotMatch(stdout, /Non-2xx/, stdout);
  return Number(/Requests\/sec:\s+([0-9.]+)/.exec(stdout)[1]);
}

const { claims, project } = await prepare();
const url = `http://127.0.0.1:${Number(TEST_PORT) + 10}/projects?select=id,name&id=eq.${project}`;
const figures = {};
for (let round = 0; round <= ROUNDS; round += 1) {
  for (const { algorithm, id } of shuffled(keys)) {
    const { token } = await one('select kijko.sign_jwt_with_key($1, $2) as token', [claims, id]);
    const figure = await requestsPerSecond(url, token);
    // The first round warms caches.
    if (round > 0) (figures[algorithm] ??= []).push(figure);
  }
}
console.log('GET/s, every token verified anew:');
for (const [algorithm, of] of Object.entries(figures)) {
  console.log(
    `${algorithm.padEnd(6)} ${Math.round(median(of))}   (${of.map(Math.round).join(' ')}), ${(median(of) / median(figures.RS256)).toFixed(2)} of RS256`,
  );
}
await admin.end();
