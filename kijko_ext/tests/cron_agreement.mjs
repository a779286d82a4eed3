// Agreement of kijko.cron_upcoming with npm cron-parser, over seeded generated expressions, zones and instants.
//
// Three answers are compared for each case:
//   ours       kijko.cron_upcoming
//   rule       the rule that kijko_ext/README.md states, applied to the times that cron-parser finds in UTC, with the
//              zone's offsets from Node's own tz data: another parser, another tz database, another program
//   theirs     cron-parser in the zone
// ours = rule always. ours = theirs wherever no time is skipped by a clock change. Where one is, theirs must be what
// cron-parser does with it: each skipped time fires later by the length of the gap, where ours all fire once at its end.
// Asked in the second pass of a repeated hour, theirs fires the rest of that pass; ours has fired in the first one.
// Nothing is left out: every case counts under exactly one of these, or fails.
import assert from 'node:assert/strict';
import { CronExpressionParser } from 'cron-parser';
import pg from 'pg';
import { between, expression, pick, random, SEED } from './cron/generator.mjs';
import {
  allChanges,
  byRule,
  DAY,
  HOUR,
  MINUTE,
  ODD,
  ORDINARY,
  secondPass,
  TIMES,
  theirs,
  withoutDuplicates,
  YEARS,
} from './cron/reference.mjs';

const CASES = Number(process.env.KIJKO_CRON_CASES ?? 3000);

// ---- the cases

const db = new pg.Client();

await db.connect();

async function ours(list) {
  const { rows } = await db.query(
    `select n, array(select (extract(epoch from u) * 1000)::bigint::text from kijko.cron_upcoming(e, z, a, ${TIMES}) as u) as times
         from unnest($1::text[], $2::text[], $3::timestamptz[]) with ordinality as c(e, z, a, n) order by n`,
    [list.map((c) => c.text), list.map((c) => c.zone), list.map((c) => new Date(c.after).toISOString())],
  );
  return rows.map((row) => row.times.map(Number));
}

async function problems(texts) {
  const { rows } = await db.query(
    'select (select p.reason from kijko.cron_problem(e) as p) as reason from unnest($1::text[]) with ordinality as c(e, n) order by n',
    [texts],
  );
  return rows.map((row) => row.reason);
}

function instant(zone, near) {
  const list = allChanges.get(zone).filter(({ at }) => at > YEARS[0] + 30 * DAY && at < YEARS[1] - 800 * DAY);
  const base =
    near && list.length
      ? pick(list).at + between(-26 * 60, 3 * 60) * MINUTE
      : YEARS[0] + 30 * DAY + random() * (YEARS[1] - YEARS[0] - 830 * DAY);
  return pick([1000, MINUTE, HOUR].map((unit) => Math.floor(base / unit) * unit));
}

const show = (times) => times.map((time) => (Number.isFinite(time) ? new Date(time).toISOString() : String(time)));
const same = (a, b) => a.length === b.length && a.every((time, i) => time === b[i]);
const generated = [];

while (generated.length < CASES) {
  const zone = random() < 0.75 ? pick(ORDINARY) : pick(ODD);
  const near = random() < 0.5;
  generated.push({ text: expression(near), zone, after: instant(zone, near) });
}

const counts = {
  equal: 0,
  'shifted through a gap': 0,
  'asked while an hour is repeated': 0,
  'odd zone at a change': 0,
  'odd zone: cron-parser gives up': 0,
  'never fires': 0,
  sparse: 0,
  'of these, with a value named twice': 0,
};

const reasons = await problems(generated.map((c) => c.text));
const usable = [];

for (const [i, c] of generated.entries()) {
  if (!reasons[i]) {
    usable.push(c);
    continue;
  }
  // What we refuse must be what never fires, and cron-parser must find nothing either.
  assert.match(reasons[i], /this never fires$/, `${c.text}: ${reasons[i]}`);
  assert.throws(() => CronExpressionParser.parse(c.text, { currentDate: new Date(c.after), tz: 'UTC' }).next(), c.text);
  counts['never fires'] += 1;
}

const started = Date.now();

for (let from = 0; from < usable.length; from += 500) {
  const batch = usable.slice(from, from + 500);
  const answers = await ours(batch);
  for (const [i, { text, zone, after }] of batch.entries()) {
    const unique = withoutDuplicates(text);
    if (unique !== text) counts['of these, with a value named twice'] += 1;
    const label = `${text} | ${zone} | ${new Date(after).toISOString()} | seed ${SEED}`;
    const answer = answers[i];
    assert.equal(answer.length, TIMES, label);
    // Beyond the years whose changes were collected the rule cannot be applied: compared as far as they reach.
    const reach = answer.findIndex((time) => time > YEARS[1] - 2 * DAY);
    const until = reach === -1 ? TIMES : reach;
    if (until === 0) {
      counts.sparse += 1;
      continue;
    }
    const { times: expected } = byRule(unique, zone, after, (place) => place.instant);
    assert.deepEqual(show(answer.slice(0, until)), show(expected.slice(0, until)), `ours differs from the stated rule: ${label}`);
    const near = allChanges.get(zone).some(({ at }) => at > after - 2 * DAY && at < answer[until - 1] + 2 * DAY);
    let parser;
    try {
      parser = theirs(unique, zone, after);
    } catch (error) {
      // It moves by whole hours, and where half an hour is repeated it goes round in circles until it gives up.
      assert.match(error.message, /loop limit exceeded/, label);
      assert.ok(zone === 'Australia/Lord_Howe' && near, `cron-parser gives up: ${label}`);
      counts['odd zone: cron-parser gives up'] += 1;
      continue;
    }
    if (same(answer.slice(0, until), parser.slice(0, until))) {
      counts.equal += 1;
      continue;
    }
    assert.ok(near, `differs from cron-parser without a change of the clock: ${label}\nours   ${show(answer)}\ntheirs ${show(parser)}`);
    if (ODD.includes(zone)) {
      counts['odd zone at a change'] += 1;
      continue;
    }
    const repeated = secondPass(unique, zone, after);
    const { times: shifted } = byRule(unique, zone, after, (place) => place.shifted);
    const model = [...new Set([...repeated, ...shifted])].sort((a, b) => a - b).slice(0, until);
    assert.deepEqual(show(parser.slice(0, until)), show(model), `cron-parser does something new: ${label}\nours   ${show(answer)}`);
    counts[repeated.length ? 'asked while an hour is repeated' : 'shifted through a gap'] += 1;
  }
}

// ---- one by one: cron-parser where the clock changes oddly, and what neither can use

const QUIRKS = [
  // Half an hour is skipped: cron-parser leaves the day out.
  [
    '15 2 * * *',
    'Australia/Lord_Howe',
    '2026-10-02T12:00Z',
    ['2026-10-02T15:45Z', '2026-10-03T15:30Z', '2026-10-04T15:15Z'],
    ['2026-10-02T15:45Z', '2026-10-04T15:15Z', '2026-10-05T15:15Z'],
  ],
  // A gap from 02:45 to 03:45: cron-parser leaves out what falls into its first quarter of an hour.
  [
    '50 2 * * *',
    'Pacific/Chatham',
    '2028-09-22T14:30Z',
    ['2028-09-23T14:00Z', '2028-09-24T13:05Z'],
    ['2028-09-24T13:05Z', '2028-09-25T13:05Z'],
  ],
  // The whole day is skipped, and is the only one: cron-parser waits a year.
  [
    '0 12 30 12 *',
    'Pacific/Apia',
    '2011-12-29T00:00Z',
    ['2011-12-30T10:00Z', '2012-12-29T22:00Z'],
    ['2012-12-29T22:00Z', '2013-12-29T22:00Z'],
  ],
  // One minute past midnight is skipped (Newfoundland changed its clock then until 2011): cron-parser waits a year.
  [
    '1 0 13 3 *',
    'America/St_Johns',
    '2011-03-11T21:00Z',
    ['2011-03-13T03:31Z', '2012-03-13T02:31Z'],
    ['2012-03-13T02:31Z', '2013-03-13T02:31Z'],
  ],
];

for (const [text, zone, after, mine, other] of QUIRKS) {
  const { rows } = await db.query('select array(select u from kijko.cron_upcoming($1, $2, $3, $4) as u) as times', [
    text,
    zone,
    after,
    mine.length,
  ]);
  assert.deepEqual(
    rows[0].times.map((time) => time.getTime()),
    mine.map((time) => Date.parse(time)),
    `${text} ${zone}`,
  );
  const times = CronExpressionParser.parse(text, { currentDate: new Date(after), tz: zone });
  assert.deepEqual(
    other.map(() => times.next().getTime()),
    other.map((time) => Date.parse(time)),
    `cron-parser: ${text} ${zone}`,
  );
}

for (const text of [
  '0 0 30 2 *',
  '0 0 31 4,6,9,11 *',
  '0 0 30-31 feb *',
  '* * * * 8',
  '60 * * * *',
  '5-1 * * * *',
  '* * * *x',
  '1,,2 * * * *',
]) {
  const [reason] = await problems([text]);
  assert.ok(reason, text);
  assert.throws(() => CronExpressionParser.parse(text).next(), text);
}

// cron-parser takes these, which are not cron's five fields.
for (const text of ['0 0 * * * *', '* * * *', '5/10 * * * *', '0 0 L * *', '0 0 ? * *', '0 0 * * 5#2']) {
  const [reason] = await problems([text]);
  assert.ok(reason, text);
  CronExpressionParser.parse(text).next();
}

assert.ok(counts.equal > usable.length * 0.7, JSON.stringify(counts));
assert.ok(counts['shifted through a gap'] > usable.length * 0.005, JSON.stringify(counts));
await db.end();
console.log(`${usable.length} expressions, ${TIMES} times each, in ${((Date.now() - started) / 1000).toFixed(1)} s (seed ${SEED})`);
console.log(counts);
