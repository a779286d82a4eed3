// Stripe events per second, durable and applied, through HTTP: the sidecar beside npm @supabase/stripe-sync-engine, with the
// same events, the same signatures, as many connections, on the same Postgres, in turns.
//
//   ./kijko bench stripe        (on a fresh instance of its own)
//
// The two do not do the same: the engine mirrors rows and keeps no events, so whatever comes last by arrival within a second
// wins; the sidecar also stores every event, finds the latest one from contents, links it to an organization and derives plan
// and limits. Checkout sessions are left out, since the engine asks Stripe for their lines.
// The same lives are driven a second time with prices that belong to no plan: then no event changes a plan.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import pg from 'pg';
import { recorded, signature } from '../journeys/stripe_events.mjs';

const env = process.env;
const LIVES = Number(env.KIJKO_BENCH_LIVES ?? 40);
const ROUNDS = Number(env.KIJKO_BENCH_ROUNDS ?? 3);
const CLIENTS = Number(env.KIJKO_BENCH_CLIENTS ?? 16);
const CONNECTIONS = 8; // the sidecar's default
const SYNC_DATABASE = 'kijko_bench_stripe';

const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
await admin.connect();
const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });
const orgs = [];

function post(url, body, header) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      `${url}/webhooks/stripe`,
      {
        method: 'POST',
        agent,
        headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), 'Stripe-Signature': header },
      },
      (response) => {
        let text = '';
        response
          .setEncoding('utf8')
          .on('data', (chunk) => {
            text += chunk;
          })
          .on('end', () => resolve({ status: response.statusCode, text }));
      },
    );
    request.on('error', reject).end(body);
  });
}

// The lives of as many customers, each in its own order, all mixed: what an endpoint sees.
async function newLives(round, plans) {
  const lives = [];
  for (let n = 0; n < LIVES; n += 1) {
    const {
      rows: [{ id }],
    } = await admin.query('insert into public.organizations (name, slug) values ($1, $1) returning id', [`bench-${randomUUID()}`]);
    orgs.push(id);
    const events = recorded('lifecycle', { orgId: id, tag: `B${round}x${n}x${Date.now()}${plans ? '' : '0'}` });
    for (const {
      data: { object },
    } of events)
      if (object.object === 'subscription') object.metadata = { org_id: id };
    const kept = events.filter((event) => event.data.object.object !== 'checkout.session').map((event) => JSON.stringify(event));
    lives.push(plans ? kept : kept.map((body) => body.replaceAll(/"lookup_key":"[a-z]+_/g, '"lookup_key":"addon_')));
  }
  return lives[0].flatMap((_, step) => lives.map((life) => life[step]));
}

async function drive(name, url, bodies, secret, accepted) {
  const queue = bodies.map((body) => [body, signature(body, secret)]);
  const took = [];
  let next = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (next < queue.length) {
        const [body, header] = queue[next++];
        const begun = performance.now();
        const { status, text } = await post(url, body, header);
        took.push(performance.now() - begun);
        assert.ok(status === 200 && accepted(text), `${name}: ${status} ${text}`);
      }
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  took.sort((a, b) => a - b);
  return {
    name,
    perSecond: bodies.length / seconds,
    p50: took[Math.floor(took.length * 0.5)],
    p95: took[Math.floor(took.length * 0.95)],
    p99: took[Math.floor(took.length * 0.99)],
  };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
let engine;
try {
  await admin.query(`drop database if exists ${SYNC_DATABASE} with (force)`);
  await admin.query(`create database ${SYNC_DATABASE}`);
  const syncUrl = new URL(env.ADMIN_DB_URL);
  syncUrl.pathname = `/${SYNC_DATABASE}`;
  engine = fork(new URL('stripe_sync_engine.mjs', import.meta.url), {
    env: { ...env, SYNC_DATABASE_URL: syncUrl.href, SYNC_SECRET: env.STRIPE_WEBHOOK_SECRET_LOCAL, SYNC_CONNECTIONS: String(CONNECTIONS) },
  });
  const { port } = await new Promise((resolve, reject) => {
    engine.once('message', resolve).once('exit', (code) => reject(new Error(`the engine ended: ${code}`)));
  });

  const results = [];
  for (let turn = 0; turn < 2 * (ROUNDS + 1); turn += 1) {
    const [round, plans] = [turn >> 1, turn % 2 === 0];
    const bodies = await newLives(round, plans);
    const ours = () =>
      drive('kijko', env.SIDECAR_URL, bodies, env.STRIPE_WEBHOOK_SECRET_LOCAL, (text) => JSON.parse(text).status === 'applied');
    const theirs = () => drive('stripe-sync-engine', `http://127.0.0.1:${port}`, bodies, env.STRIPE_WEBHOOK_SECRET_LOCAL, () => true);
    for (const run of round % 2 ? [theirs, ours] : [ours, theirs]) {
      const result = await run();
      // The first round only warms both up.
      if (round > 0) results.push({ ...result, plans });
      console.log(
        `${round ? `round ${round}` : 'warm-up'}  ${plans ? 'plans change' : 'no plan    '}  ${result.name.padEnd(20)} ${result.perSecond.toFixed(0).padStart(6)} events/s   p50 ${result.p50.toFixed(1)} ms  p95 ${result.p95.toFixed(1)} ms  p99 ${result.p99.toFixed(1)} ms`,
      );
    }
  }
  const {
    rows: [ends],
  } = await admin.query(
    `select count(*) filter (where s.status = 'canceled' and s.plan = 'FREE')::int as right, count(*)::int as all from public.subscriptions as s where s.org_id = any ($1)`,
    [orgs],
  );
  assert.equal(ends.right, ends.all, 'every life ended as it should');
  console.log(`\n${LIVES} lives of 24 events, ${CLIENTS} clients, ${CONNECTIONS} connections each, medians of ${ROUNDS} rounds`);
  for (const plans of [true, false]) {
    const of = (name, pick) => median(results.filter((result) => result.name === name && result.plans === plans).map(pick));
    const ratio = (pick) => (of('kijko', pick) / of('stripe-sync-engine', pick)).toFixed(2);
    console.log(plans ? '\nplans change' : '\nno plan changes');
    for (const name of ['kijko', 'stripe-sync-engine'])
      console.log(
        `${name.padEnd(20)} ${of(name, (r) => r.perSecond).toFixed(0)} events/s, p50 ${of(name, (r) => r.p50).toFixed(1)} ms, p95 ${of(name, (r) => r.p95).toFixed(1)} ms, p99 ${of(name, (r) => r.p99).toFixed(1)} ms`,
      );
    console.log(
      `kijko : engine      ${ratio((r) => r.perSecond)} events/s, ${ratio((r) => r.p50)} p50, ${ratio((r) => r.p95)} p95, ${ratio((r) => r.p99)} p99`,
    );
  }
} finally {
  engine?.disconnect();
  agent.destroy();
  await admin.query('delete from public.organizations where id = any ($1)', [orgs]);
  for (const table of ['private.stripe_events', 'public.stripe_customers', 'public.stripe_subscriptions', 'public.stripe_invoices']) {
    await admin.query(`delete from ${table} where id ~ 'B[0-9]+x[0-9]+x[0-9]+$'`);
  }
  await admin.query(`drop database if exists ${SYNC_DATABASE} with (force)`);
  await admin.end();
}
