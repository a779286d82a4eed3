// Events per second of ingest_usage, in batches of 10,000 CloudEvents, beside the obvious alternative: one INSERT of the
// same batch into a table of events with ON CONFLICT DO NOTHING.
//
// The two do not do the same: the INSERT takes what comes and answers with a number; ingest_usage checks every event, tells
// what became of each, counts it in the period of its time, for whom and for what it was, and the limits know at once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { median, ROUNDS } from './load.mjs';

const env = process.env;
const BATCHES = Number(env.KIJKO_BENCH_BATCHES ?? 12);
const CLIENTS = [1, 4];
const SIZE = 10_000;
const GOAL = 20_000;
const RULES = JSON.stringify({ 'build.done': { meter: 'own.minutes', field: 'minutes' } });

const INSERT = `
  insert into bench_events (org_id, source, id, type, subject, time, data)
  select $2, e ->> 'source', e ->> 'id', e ->> 'type', e ->> 'subject', (e ->> 'time')::timestamptz, e -> 'data'
  from jsonb_array_elements($1::jsonb) as e
  on conflict (org_id, source, id) do nothing`;
const INGEST = `select count(*) filter (where status = 'accepted')::int as accepted from kijko.ingest_usage($2, $1, '${RULES}')`;

let [clients, admin, org] = [];

// On the benchmark's instance, as an organization of its own.
async function prepare() {
  clients = await Promise.all(
    Array.from({ length: Math.max(...CLIENTS) }, async () => {
      const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
      await client.connect();
      return client;
    }),
  );
  [admin] = clients;
  ({
    rows: [{ id: org }],
  } = await admin.query('insert into public.organizations (name, slug) values ($1, $1) returning id', [`bench-${randomUUID()}`]));
  await admin.query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]); // no limit of events
  await admin.query(
    `insert into public.usage_meters (org_id, event_type, meter, amount_field) values ($1, 'build.done', 'own.minutes', 'minutes')`,
    [org],
  );
  await admin.query(`create table bench_events (
    org_id uuid, source text, id text, type text, subject text, time timestamptz, data jsonb, received_at timestamptz default now(), primary key (org_id, source, id))`);
}

let counted = 0;

// As a service would send them: twenty customers, five people, the last hour.
function newBatch(count) {
  const now = Date.now();
  return JSON.stringify(
    Array.from({ length: SIZE }, (_, n) => {
      const minutes = 1 + (n % 7);
      if (count) counted += minutes;
      return {
        specversion: '1.0',
        source: '/services/build',
        id: randomUUID(),
        type: 'build.done',
        subject: `customer-${n % 20}`,
        time: new Date(now - (n % 3600) * 1000).toISOString(),
        data: { minutes, member: `member-${n % 5}` },
      };
    }),
  );
}

const WAYS = {
  'INSERT … ON CONFLICT': {
    run: (client, batch) => client.query({ name: 'insert', text: INSERT, values: [batch, org] }).then((r) => r.rowCount),
  },
  'kijko.ingest_usage': {
    counts: true,
    run: (client, batch) => client.query({ name: 'ingest', text: INGEST, values: [batch, org] }).then((r) => r.rows[0].accepted),
  },
  'POST /rpc/ingest_usage': {
    counts: true,
    run: async (_, batch) => {
      const answer = await fetch(`${env.API_URL}/rest/v1/rpc/ingest_usage`, {
        method: 'POST',
        headers: { apikey: env.SERVICE_ROLE_KEY, Authorization: `Bearer ${env.SERVICE_ROLE_KEY}`, 'Content-Type': 'application/json' },
        body: `{"org_id":"${org}","events":${batch}}`,
      });
      const body = await answer.json();
      assert.equal(body.events?.length, SIZE, JSON.stringify(body).slice(0, 300));
      return body.accepted;
    },
  },
};

async function drive(name, clientCount) {
  const way = WAYS[name];
  const batches = Array.from({ length: BATCHES }, () => newBatch(way.counts));
  const took = [];
  const started = performance.now();
  await Promise.all(
    clients.slice(0, clientCount).map(async (client) => {
      while (batches.length > 0) {
        const batch = batches.pop();
        const begun = performance.now();
        assert.equal(await way.run(client, batch), SIZE);
        took.push(performance.now() - begun);
      }
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  return { name, clientCount, perSecond: (BATCHES * SIZE) / seconds, p50: took.sort((a, b) => a - b)[Math.floor(took.length / 2)] };
}

async function measure() {
  const results = [];
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const clientCount of CLIENTS) {
      for (const name of Object.keys(WAYS).sort(() => Math.random() - 0.5)) {
        const result = await drive(name, clientCount);
        // The first round only warms up.
        if (round > 0) results.push(result);
      }
    }
  }
  const {
    rows: [{ used }],
  } = await admin.query(`select used from kijko.usage($1) where meter = 'own.minutes'`, [org]);
  assert.equal(Number(used), counted, 'every event was counted, once');
  return results;
}

function report(results) {
  console.log(`batches of ${SIZE} events, synchronous_commit = on, medians of ${ROUNDS} rounds\n`);
  for (const clientCount of CLIENTS) {
    const of = (name, pick) => median(results.filter((r) => r.name === name && r.clientCount === clientCount).map(pick));
    const plain = of('INSERT … ON CONFLICT', (r) => r.perSecond);
    for (const name of Object.keys(WAYS)) {
      const perSecond = of(name, (r) => r.perSecond);
      console.log(
        `${String(clientCount).padStart(2)} clients  ${name.padEnd(24)} ${perSecond.toFixed(0).padStart(7)} events/s  (${(perSecond / plain).toFixed(2)} of the INSERT)   p50 of a batch ${of(name, (r) => r.p50).toFixed(0)} ms`,
      );
    }
    const reached = of('kijko.ingest_usage', (r) => r.perSecond);
    console.log(
      `${reached >= GOAL ? 'met   ' : 'missed'} ${reached.toFixed(0)} events/s by kijko.ingest_usage at ${clientCount} clients (goal ${GOAL})`,
    );
  }
}

export async function ingest() {
  await prepare();
  try {
    report(await measure());
  } finally {
    await admin.query('drop table bench_events');
    await admin.query('delete from public.organizations where id = $1', [org]);
    await admin.query('delete from kijko.ingested_events where subject = $1', [org]);
    await Promise.all(clients.map((client) => client.end()));
  }
}
