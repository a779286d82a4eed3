// What each part of a stack takes: memory and processor time, idle, and while clients work with all of it. Memory is the proportional
// set size of a part's processes (/proc/PID/smaps_rollup, proc(5)): what several share counts once. Clients run on the same machine,
// and are not counted.
//
//   ./kijko bench services       KIJKO_BENCH_SECONDS=20
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';
import WebSocket from 'ws';

const { API_URL, ANON_KEY, SERVICE_ROLE_KEY, ADMIN_DB_URL, TEST_HOME } = process.env;
const SECONDS = Number(process.env.KIJKO_BENCH_SECONDS ?? 20);
const CLIENTS = 4;
const KIB_OF_MIB = 1024;
/** sysconf(_SC_CLK_TCK) on Linux. */
const TICKS_A_SECOND = 100;

const admin = new pg.Client({ connectionString: ADMIN_DB_URL });
await admin.connect();

// ---- processes

function parts() {
  const files = fs.readdirSync(path.join(TEST_HOME, 'run')).filter((name) => name.endsWith('.pid'));
  const pids = Object.fromEntries(
    files.map((name) => [path.basename(name, '.pid'), Number.parseInt(fs.readFileSync(path.join(TEST_HOME, 'run', name), 'utf8'), 10)]),
  );
  return { postgres: Number.parseInt(fs.readFileSync(path.join(TEST_HOME, 'data', 'postmaster.pid'), 'utf8'), 10), ...pids };
}

/** Fields of /proc/PID/stat behind the name, which may have spaces; null when it has ended. */
function stat(pid) {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [, parent, ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // utime, stime, and those of children that have ended.
    const ticks = rest.slice(9, 13).reduce((sum, field) => sum + Number(field), 0);
    return { pid: Number(pid), parent: Number(parent), ticks };
  } catch {
    return null;
  }
}

function tree(root) {
  const all = fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(stat)
    .filter(Boolean);
  const found = all.filter(({ pid }) => pid === root);
  for (const { pid } of found) found.push(...all.filter(({ parent }) => parent === pid));
  return found;
}

function memory(pid) {
  try {
    return Number(/^Pss: +(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);
  } catch {
    return 0; // it has ended
  }
}

/** MiB, processes and seconds of processor time so far, of each part. */
function sample(pids) {
  return Object.fromEntries(
    Object.entries(pids).map(([name, pid]) => {
      const processes = tree(pid);
      const mib = processes.reduce((sum, each) => sum + memory(each.pid), 0) / KIB_OF_MIB;
      const seconds = processes.reduce((sum, { ticks }) => sum + ticks, 0) / TICKS_A_SECOND;
      return [name, { mib, seconds, processes: processes.length }];
    }),
  );
}

/** The largest memory of each part while `work` runs, and its share of one processor. */
async function observe(pids, work) {
  const [before, began] = [sample(pids), performance.now()];
  const most = before;
  let over = false;
  const watching = (async () => {
    while (!over) {
      await sleep(500);
      for (const [name, now] of Object.entries(sample(pids)))
        if (now.mib > most[name].mib) most[name] = { ...now, seconds: most[name].seconds };
    }
  })();
  await work();
  over = true;
  await watching;
  const [after, took] = [sample(pids), (performance.now() - began) / 1_000];
  return Object.fromEntries(
    Object.keys(pids).map((name) => [
      name,
      { mib: most[name].mib, processes: most[name].processes, share: (after[name].seconds - before[name].seconds) / took },
    ]),
  );
}

// ---- work

const OPTIONS = { auth: { persistSession: false, autoRefreshToken: false }, realtime: { transport: WebSocket } };
const service = createClient(API_URL, SERVICE_ROLE_KEY, OPTIONS);

const counts = {};
const data = ({ data: answer, error }) => {
  assert.ifError(error);
  return answer;
};

/** A tenant that no limit stops. */
async function tenant() {
  const client = createClient(API_URL, ANON_KEY, OPTIONS);
  const { session } = data(await client.auth.signUp({ email: `bench-${randomUUID()}@example.com`, password: randomUUID() }));
  const org = data(await client.rpc('org_id'));
  await admin.query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]);
  await client.realtime.setAuth(session.access_token);
  return { client, org, token: session.access_token };
}

async function each(name, work, until) {
  while (Date.now() < until) {
    await work();
    counts[name] = (counts[name] ?? 0) + 1;
  }
}

/** One tenant's rows, files, searches, messages and executions, each from a client that waits for its answer. */
async function load({ client, org, token }, until) {
  const project = data(
    await client
      .from('projects')
      .insert({ org_id: org, name: `Bench ${randomUUID()}` })
      .select()
      .single(),
  );
  const skill = data(
    await client.from('skills').insert({ org_id: org, name: 'Bench', prompt_template: 'Say: {{ text }}' }).select().single(),
  );
  const bytes = randomBytes(64 * 1024);
  const channel = client.channel(`org:${org}`, { config: { private: true } });
  await new Promise((resolve, reject) => {
    channel.subscribe((status, error) => (status === 'SUBSCRIBED' ? resolve() : status === 'CHANNEL_ERROR' && reject(error)));
  });
  const headers = { Authorization: `Bearer ${token}`, apikey: ANON_KEY };
  await Promise.all([
    each('reads of a row', async () => data(await client.from('projects').select('id, name').eq('org_id', org).limit(20)), until),
    each(
      'updates of a row',
      async () => data(await client.from('projects').update({ name: randomUUID() }).eq('id', project.id).select()),
      until,
    ),
    each('uploads of 64 KiB', async () => data(await service.storage.from('bench').upload(`${org}/${randomUUID()}`, bytes)), until),
    each('executions', async () => data(await client.rpc('execute_skill', { skill_id: skill.id, input: { text: 'a word' } })), until),
    each(
      'searches by the sidecar',
      async () => {
        const answer = await fetch(`${API_URL}/api/v1/symbols/search?query=parse`, { headers });
        assert.equal(answer.status, 200, await answer.text());
      },
      until,
    ),
  ]);
  await client.removeAllChannels();
}

const format = (figures) => figures.map(([text, width]) => String(text).padStart(width)).join('');

try {
  const pids = parts();
  const idle = await observe(pids, () => sleep(SECONDS * 1_000));
  data(await service.storage.createBucket('bench'));
  const tenants = await Promise.all(Array.from({ length: CLIENTS }, tenant));
  const until = Date.now() + SECONDS * 1_000;
  const loaded = await observe(pids, () => Promise.all(tenants.map((each) => load(each, until))));
  console.log(`idle for ${SECONDS} s, then ${CLIENTS} tenants at work for ${SECONDS} s; the share is of one processor`);
  console.log(
    format([
      ['part', 12],
      ['processes', 11],
      ['idle MiB', 11],
      ['idle share', 12],
      ['loaded MiB', 12],
      ['loaded share', 14],
    ]),
  );
  for (const name of Object.keys(pids)) {
    const [before, after] = [idle[name], loaded[name]];
    const percent = (share) => `${(share * 100).toFixed(1)} %`;
    console.log(
      format([
        [name, 12],
        [after.processes, 11],
        [before.mib.toFixed(1), 11],
        [percent(before.share), 12],
        [after.mib.toFixed(1), 12],
        [percent(after.share), 14],
      ]),
    );
  }
  for (const [name, count] of Object.entries(counts)) console.log(`${name}: ${(count / SECONDS).toFixed(0)} a second`);
} finally {
  await admin.end();
}
