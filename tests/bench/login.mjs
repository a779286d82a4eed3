// Whether answers of login take a different time for an address with an account and one without.
//
//   ./kijko bench login        (on a fresh instance of its own)
//
// Each request is made for one of each in turns, in changing order, on one connection: what else the machine does falls on both. Over
// HTTP, as a stranger would measure, in blocks of 20 of each kind: the figure is the median of the known ones over that of the unknown
// ones. On a busy machine blocks differ more from each other than the two kinds do, so the same is done in the database, as PostgREST
// would call it, with 200 of each and without waiting for the disk.
import { randomBytes, randomUUID } from 'node:crypto';
import http from 'node:http';
import pg from 'pg';

const env = process.env;
const BLOCKS = Number(env.KIJKO_BENCH_BLOCKS ?? 9);
const PAIRS = Number(env.KIJKO_BENCH_PAIRS ?? 200);

const database = new pg.Client({ connectionString: env.ADMIN_DB_URL });
await database.connect();
await database.query('set synchronous_commit = off');
await database.query(
  `update auth_api.settings set sends_per_minute = 1000000, sends_per_hour = 1000000, stranger_sends_per_hour = 1000000,
     verifications_per_minute = 1000000, mails_per_hour = 100000, codes_per_hour = 100000`,
);
await database.query('update private.mail_settings set mailbox_per_hour = 90000, mailbox_per_day = 90000, total_per_hour = 1000000');

async function newAddress(kind) {
  const email = `${kind}-${randomUUID()}@example.com`;
  if (kind === 'known') await database.query(`select auth_api.create_email_user($1, null, '{}', true)`, [email]);
  return email;
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const milliseconds = (started) => Number(process.hrtime.bigint() - started) / 1e6;

const overHttp = (path, body) =>
  new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = { apikey: env.ANON_KEY, 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
    const started = process.hrtime.bigint();
    http
      .request(`${env.API_URL}/auth/v1${path}`, { method: 'POST', agent, headers }, (response) => {
        response.resume().on('end', () => resolve(milliseconds(started)));
      })
      .on('error', reject)
      .end(text);
  });

async function inDatabase(path, body) {
  const network = `2001:db8:${randomBytes(2).toString('hex')}:${randomBytes(2).toString('hex')}::1`;
  const headers = { 'x-forwarded-for': network, 'x-kijko-method': 'POST', 'x-kijko-uri': path };
  await database.query('begin');
  await database.query(`select set_config('request.headers', $1, true), set_config('response.headers', '', true)`, [
    JSON.stringify(headers),
  ]);
  const started = process.hrtime.bigint();
  await database.query('select auth_api.handle($1)', [JSON.stringify(body)]);
  await database.query('commit');
  return milliseconds(started);
}

const recover = (ask, email) => ask('/recover', { email });
const guess = (ask, email) => ask('/verify', { email, token: '000000', type: 'email' });
const CASES = {
  recover: { call: recover },
  otp: { call: (ask, email) => ask('/otp', { email }) },
  'otp, shouldCreateUser: false': { call: (ask, email) => ask('/otp', { email, create_user: false }) },
  // As somebody asks who has caused a mail before.
  'verify, the first wrong code': { before: recover, call: guess },
  'verify, the second wrong code': {
    before: async (ask, email) => {
      await recover(ask, email);
      await guess(ask, email);
    },
    call: guess,
  },
};

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

async function block({ before, call }, ask, size) {
  const times = { known: [], unknown: [] };
  for (let n = 0; n < size; n += 1) {
    const pair = [];
    for (const kind of ['known', 'unknown']) pair.push([kind, await newAddress(kind)]);
    for (const [, email] of pair) await before?.(ask, email);
    for (const [kind, email] of n % 2 ? pair : pair.toReversed()) times[kind].push(await call(ask, email));
  }
  const [known, unknown] = [median(times.known), median(times.unknown)];
  return { known, unknown, difference: (known / unknown - 1) * 100 };
}
const percent = (value) => `${value.toFixed(1)} %`;

for (const [name, each] of Object.entries(CASES)) {
  await block(each, inDatabase, 20); // warms the connection
  const { known, unknown, difference } = await block(each, inDatabase, PAIRS);
  console.log(`${name}, in the database: known ${known.toFixed(2)} ms, unknown ${unknown.toFixed(2)} ms, ${percent(difference)}`);
  const blocks = [];
  for (let n = 0; n < BLOCKS; n += 1) blocks.push((await block(each, overHttp, 20)).difference);
  const sorted = blocks.toSorted((a, b) => a - b);
  console.log(`${name}, over HTTP: ${percent(median(blocks))} (blocks of 20 from ${percent(sorted[0])} to ${percent(sorted.at(-1))})`);
}
agent.destroy();
await database.end();
