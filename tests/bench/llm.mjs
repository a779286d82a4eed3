// What the LLM gateway adds to a call, how many calls a second it holds, and its memory, beside @portkey-ai/gateway and litellm[proxy] in
// the same run, with the same vendor on this machine.
//
//   ./kijko bench llm        (on a fresh instance of its own)
//
// The vendor answers after KIJKO_BENCH_DELAY_MS (20). Each gateway has the machine to itself in turns, with the vendor and the clients on
// it: KIJKO_BENCH_RATE (200) calls a second for KIJKO_BENCH_SECONDS (10), in KIJKO_BENCH_ROUNDS (3) turns with calls without a gateway in
// between; what is added is the difference to these, its median over the turns. Then the rate grows until a hundredth of the calls takes
// 100 ms more than without a gateway. Then KIJKO_BENCH_STREAMS (1,000) answers come slowly at once.
//
// KIJKO_BENCH_GATEWAYS=kijko,portkey,litellm chooses some of them, KIJKO_BENCH_PARTS=added,rate,streams what is measured. The
// processor time of a call is that of the gateway and of what it asks, less what these used in a turn without it.
//
// Ours asks the database who calls, holds each call against a budget, and settles it; the others do not.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Service } from '../service.mjs';
import { litellm, portkey } from './llm_others.mjs';
import { askedBy, processorMs } from './llm_processor.mjs';
import { newUser } from './realtime_user.mjs';

const env = process.env;
const DELAY_MS = Number(env.KIJKO_BENCH_DELAY_MS ?? 20);
const RATE = Number(env.KIJKO_BENCH_RATE ?? 200);
const SECONDS = Number(env.KIJKO_BENCH_SECONDS ?? 10);
const ROUNDS = Number(env.KIJKO_BENCH_ROUNDS ?? 3);
const PARTS = (env.KIJKO_BENCH_PARTS ?? 'added,rate,streams').split(',');
const STREAMS = Number(env.KIJKO_BENCH_STREAMS ?? 1_000);
const STREAM_SECONDS = Number(env.KIJKO_BENCH_STREAM_SECONDS ?? 20);
const LATE_MS = 100;
const CHUNK_MS = 250;
const MIB = 1 << 20;

/** Resident memory of a process and its children, in bytes. */
function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const own = Number(status.match(/^VmRSS:\s+(\d+) kB/m)?.[1] ?? 0) * 1024;
  const tasks = readdirSync(`/proc/${pid}/task`);
  const children = tasks.flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean));
  return children.reduce((sum, child) => sum + memory(child), own);
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const mib = (bytes) => Math.round(bytes / MIB);

const vendor = fork(join(import.meta.dirname, 'llm_vendor.mjs'), [], {
  env: { ...env, DELAY_MS, CHUNK_MS, CHUNKS: Math.ceil((STREAM_SECONDS * 1000) / CHUNK_MS) },
});
const [{ port: vendorPort }] = await once(vendor, 'message');
const upstream = `http://127.0.0.1:${vendorPort}/v1`;
const direct = { name: 'no gateway', target: { url: upstream, headers: {}, model: 'bench' } };

const clients = fork(join(import.meta.dirname, 'llm_clients.mjs'));
await once(clients, 'message');
async function drive(command, onBegun = () => {}) {
  clients.send(command);
  for (;;) {
    const [message] = await once(clients, 'message');
    if (message.result) return message.result;
    onBegun();
  }
}
const atRate = (gateway, perSecond, seconds) => drive({ target: gateway.target, perSecond, seconds });

// ---- ours: a user with a session, a plan without limits, and a budget that refuses

const database = new pg.Client({ connectionString: env.ADMIN_DB_URL });
await database.connect();
const token = await newUser();
const {
  rows: [{ org }],
} = await database.query(`select org_id as org from public.memberships where user_id = $1`, [
  JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).sub,
]);
await database.query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]);
await database.query(
  `select kijko.set_rate_limit_policy('requests', 'organization', 100000000, '1 minute', 'bench'), kijko.set_tier($1, 'bench')`,
  [org],
);
await database.query(
  `insert into public.llm_budgets (org_id, name, scope, period, unit, amount)
   values ($1, 'bench', 'organization', 'month', 'microusd', 1000000000000), ($1, 'each', 'member', 'day', 'tokens', 1000000000000)`,
  [org],
);
// A provider with an address of its own: the stack's sidecar has no key of OpenAI's, and says so to the database.
await database.query(
  `insert into public.llm_providers (org_id, name, kind, base_url) values (kijko.platform_org_id(), 'bench', 'openai', $1)`,
  [upstream.replace('127.0.0.1', 'localhost')],
);
await database.query(
  `insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('bench/bench', 1000000, 2000000)`,
);

async function ours() {
  const service = await Service.start('sidecar', {
    variables: {
      KIJKO_REST_URL: `http://127.0.0.1:${Number(new URL(env.API_URL).port) + 10}`,
      KIJKO_WORKER_CONCURRENCY: '0',
      KIJKO_LLM_MAX_CALLS: '10000',
      KIJKO_LLM_MAX_CALLS_OF_CALLER: '10000',
      KIJKO_LLM_MAX_CALLS_OF_PROVIDER: '10000',
      KIJKO_LOG: 'error',
    },
  });
  return {
    name: 'kijko',
    pid: service.child.pid,
    asks: await askedBy(database),
    stop: () => service.terminate(),
    target: { url: `${service.url}/llm/v1`, headers: { Authorization: `Bearer ${token}` }, model: 'bench/bench' },
  };
}

// ---- what is measured

/** Turns of calls with and without the gateway. */
async function added(gateway) {
  await atRate(gateway, RATE / 2, 2);
  const idle = memory(gateway.pid);
  const [p50, p99, base, own] = [[], [], [], []];
  const processes = { gateway: gateway.pid, ...gateway.asks };
  const processor = Object.fromEntries(Object.keys(processes).map((name) => [name, []]));
  const times = () => Object.entries(processes).map(([name, pid]) => [name, processorMs(pid)]);
  let lost = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const first = times();
    const without = await atRate(direct, RATE, SECONDS);
    const second = times();
    const through = await atRate(gateway, RATE, SECONDS);
    for (const [n, [name, ms]] of times().entries()) processor[name].push((ms - 2 * second[n][1] + first[n][1]) / through.good);
    lost += through.sent - through.good;
    if (through.failures.length > 0) console.error(gateway.name, through.failures);
    p50.push(through.p50 - without.p50);
    p99.push(through.p99 - without.p99);
    base.push(without.p99);
    own.push(through.p99);
  }
  const spent = Object.entries(processor).map(([name, ms]) => `${name} ${median(ms).toFixed(2)}`);
  return { idle, processor: spent.join(', '), p50: median(p50), p99: median(p99), base: median(base), own: median(own), lost };
}

/** The highest rate at which the calls are answered, and in time. */
async function held(gateway) {
  let best = 0;
  for (let perSecond = 50; perSecond < 20_000; perSecond = Math.ceil(perSecond * 1.4)) {
    const without = await atRate(direct, perSecond, Math.min(SECONDS, 5));
    if (without.p99 > DELAY_MS + LATE_MS) return { best, bound: 'the clients' };
    const through = await atRate(gateway, perSecond, Math.min(SECONDS, 5));
    if (through.good < through.sent || through.p99 - without.p99 > LATE_MS) return { best, bound: 'the gateway' };
    best = perSecond;
  }
  return { best, bound: 'the benchmark' };
}

/** Memory while many answers come slowly: when all have begun, and at most until they end. */
async function streaming(gateway) {
  const samples = [];
  let timer;
  const result = await drive({ target: gateway.target, count: STREAMS }, () => {
    timer = setInterval(() => samples.push(memory(gateway.pid)), 500);
  });
  clearInterval(timer);
  const last = samples.slice(0, -2);
  return {
    first: last[0] ?? 0,
    most: Math.max(0, ...last),
    end: last.at(-1) ?? 0,
    lost: result.sent - result.good,
    failures: result.failures,
  };
}

async function measure(make) {
  const gateway = await make(upstream);
  try {
    const latency = PARTS.includes('added') ? await added(gateway) : { idle: memory(gateway.pid), p50: NaN, p99: NaN, base: NaN, own: NaN };
    const rate = PARTS.includes('rate') ? await held(gateway) : { best: NaN };
    await sleep(2_000);
    const streams = PARTS.includes('streams') ? await streaming(gateway) : { first: NaN, most: NaN, end: NaN, failures: [] };
    return { name: gateway.name, latency, rate, streams };
  } finally {
    await gateway.stop();
  }
}

console.log(`${RATE} calls a second for ${ROUNDS} × ${SECONDS} s, a vendor of ${DELAY_MS} ms, ${STREAMS} streams of ${STREAM_SECONDS} s`);
const GATEWAYS = { kijko: ours, portkey, litellm };
const all = [];
for (const chosen of (env.KIJKO_BENCH_GATEWAYS ?? Object.keys(GATEWAYS).join()).split(',')) {
  const make = GATEWAYS[chosen];
  const { name, latency, rate, streams } = await measure(make);
  all.push({ name, p50: latency.p50, p99: latency.p99, rate: rate.best, idle: latency.idle, streaming: streams.most });
  const figures = {
    'added p50 ms': latency.p50.toFixed(2),
    'added p99 ms': latency.p99.toFixed(2),
    'p99 ms with and without': `${latency.own.toFixed(1)} ${latency.base.toFixed(1)}`,
    'processor ms a call': latency.processor,
    lost: latency.lost,
    'calls a second held': rate.best,
    'bound by': rate.bound,
    'idle MiB': mib(latency.idle),
    'streaming MiB: first, most, last': [streams.first, streams.most, streams.end].map(mib).join(' '),
    'streams lost': streams.lost,
  };
  console.log(name.padEnd(18), JSON.stringify(figures));
  if (streams.failures.length > 0) console.error(name, streams.failures);
}
const [kijko, ...others] = all;
const ratio = (one, other) => (other / one).toFixed(1);
for (const other of others) {
  console.log(
    `beside ${other.name}: added p50 ×${ratio(kijko.p50, other.p50)}, p99 ×${ratio(kijko.p99, other.p99)}, rate ×${ratio(other.rate, kijko.rate)}, idle memory ×${ratio(kijko.idle, other.idle)}, streaming ×${ratio(kijko.streaming, other.streaming)}`,
  );
}
clients.disconnect();
vendor.disconnect();
await database.end();
