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
import { IANAZone } from 'luxon';
import pg from 'pg';

const CASES = Number(process.env.KIJKO_CRON_CASES ?? 3000);
const SEED = Number(process.env.KIJKO_CRON_SEED ?? 20260329);
const TIMES = 8;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

// Gaps and overlaps of an hour in the small hours, on both sides of the equator, and zones without changes.
const ORDINARY = [
  'UTC',
  'Europe/Amsterdam',
  'Europe/London',
  'America/New_York',
  'America/Los_Angeles',
  'Australia/Sydney',
  'Pacific/Auckland',
  'Asia/Kolkata',
  'Asia/Kathmandu',
];
// Midnight, within an hour, half an hour, a whole day: cron-parser drops times there, or gives up.
const ODD = [
  'Asia/Beirut',
  'America/Santiago',
  'America/Havana',
  'Australia/Lord_Howe',
  'Africa/Cairo',
  'Pacific/Apia',
  'America/Asuncion',
  'America/St_Johns',
  'Pacific/Chatham',
];

// ---- a small generator of pseudo-random numbers (mulberry32)

let state = SEED;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const between = (min, max) => min + below(max - min + 1);
const pick = (list) => list[below(list.length)];

// ---- expressions

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const NICKNAMES = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@hourly'];

function item(min, max, names) {
  const name = (n) =>
    names && random() < 0.4 && names[n - (names === MONTHS ? 1 : 0)] ? names[n - (names === MONTHS ? 1 : 0)] : String(n);
  const kind = random();
  if (kind < 0.5) return name(between(min, max));
  const first = between(min, max - 1);
  const last = between(first + 1, max);
  if (kind < 0.75) return `${name(first)}-${name(last)}`;
  if (kind < 0.88) return `${first}-${last}/${between(1, Math.max(1, last - first))}`;
  return `*/${between(1, max)}`;
}

function field(min, max, star, names) {
  if (random() < star) return '*';
  const text = pick([
    item,
    item,
    item,
    (...a) => [item(...a), item(...a)].join(','),
    (...a) => [item(...a), item(...a), item(...a)].join(','),
  ])(min, max, names);
  return random() < 0.1 ? text.toUpperCase() : text;
}

/** Near a change of the clock: hours that it meets, on most days. */
function expression(near) {
  if (random() < 0.03) return pick(NICKNAMES);
  const hour =
    random() < (near ? 0.8 : 0.2) ? pick(['0', '1', '2', '3', '1-3', '0,2', '*/2', '2,3', '0-4/2', '1,2,23', '*']) : field(0, 23, 0.3);
  const star = near ? 0.9 : 0.5;
  return [field(0, 59, 0.15), hour, field(1, 31, star), field(1, 12, star, MONTHS), field(0, 7, star, DAYS)].join(' ');
}

// ---- zones

const zones = new Map([...ORDINARY, ...ODD].map((name) => [name, IANAZone.create(name)]));
const offset = (zone, instant) => zones.get(zone).offset(instant) * MINUTE;

/** The changes of a zone's clock between two instants: {at, before, after}. */
function changes(zone, from, to) {
  const found = [];
  for (let day = from; day < to; day += DAY) {
    if (offset(zone, day) === offset(zone, day + DAY)) continue;
    let [low, high] = [day, day + DAY];
    while (high - low > 1000) {
      const middle = low + Math.floor((high - low) / 2000) * 1000;
      if (offset(zone, middle) === offset(zone, low)) low = middle;
      else high = middle;
    }
    found.push({ at: high, before: offset(zone, low), after: offset(zone, high) });
  }
  return found;
}

const YEARS = [Date.UTC(2011, 0, 1), Date.UTC(2031, 0, 1)];
const allChanges = new Map([...zones.keys()].map((zone) => [zone, changes(zone, ...YEARS)]));

/** What a wall clock time (as if it were UTC) is: an instant, and whether it is skipped, and by how much. */
function locate(zone, wall) {
  for (const { at, before, after } of allChanges.get(zone)) {
    if (after > before && wall >= at + before && wall < at + after) return { instant: at, gap: true, shifted: wall - before };
    // A repeated time is taken the first time.
    if (after < before && wall >= at + after && wall < at + before) return { instant: wall - before };
  }
  const guess = wall - offset(zone, wall);
  for (const candidate of [wall - offset(zone, guess), wall - offset(zone, guess - DAY), wall - offset(zone, guess + DAY)]) {
    if (candidate + offset(zone, candidate) === wall) return { instant: candidate };
  }
  throw new Error(`${zone} ${new Date(wall).toISOString()}`);
}

// ---- the three answers

/**
 * cron-parser refuses a field that names a value twice (1,1 or 0,7 or mon-wed,tue), which cron allows: it gets such a
 * field as the set of its values.
 */
function withoutDuplicates(text) {
  if (text.startsWith('@')) return text;
  const ranges = [
    [0, 59],
    [0, 23],
    [1, 31],
    [1, 12, MONTHS],
    [0, 7, DAYS],
  ];
  return text
    .split(' ')
    .map((part, place) => {
      if (part === '*') return part;
      const [min, max, names] = ranges[place];
      const number = (word) => (names?.includes(word.toLowerCase()) ? names.indexOf(word.toLowerCase()) + min : Number(word));
      const values = part.split(',').flatMap((one) => {
        const [range, step = '1'] = one.split('/');
        const [first, last = first] = range === '*' ? [min, max] : range.split('-').map(number);
        return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => first + i * step);
      });
      const all = values.map((value) => (place === 4 ? value % 7 : value));
      const set = [...new Set(all)].sort((a, b) => a - b);
      return set.length === all.length ? part : set.join(',');
    })
    .join(' ');
}

function* wallTimes(text, from) {
  const times = CronExpressionParser.parse(text, { currentDate: new Date(from), tz: 'UTC' });
  for (;;) yield times.next().getTime();
}

/** The stated rule; `skipped` says what becomes of a time in a gap. */
function byRule(text, zone, after, skipped) {
  const everyHour = text === '@hourly' || text.trim().split(/\s+/)[1] === '*';
  const found = [];
  let gaps = 0;
  if (everyHour) {
    // Elapsed time: walk from one change to the next, the clock moves evenly in between.
    let start = after;
    const ends = allChanges
      .get(zone)
      .map((change) => change.at)
      .filter((at) => at > after);
    for (const end of [...ends, Infinity]) {
      const shift = offset(zone, start);
      for (const wall of wallTimes(text, start + shift - (start === after ? 0 : 1))) {
        if (wall - shift >= end) break;
        found.push(wall - shift);
        if (found.length === TIMES) return { times: found, gaps };
      }
      start = end;
    }
  }
  // A day earlier, since the clock may have been put back or forward meanwhile.
  for (const wall of wallTimes(text, after + offset(zone, after) - DAY - 1)) {
    const place = locate(zone, wall);
    const instant = place.gap ? skipped(place) : place.instant;
    if (instant <= after || found.includes(instant)) continue;
    if (place.gap) gaps += 1;
    found.push(instant);
    found.sort((a, b) => a - b);
    // One more: a shifted time may overtake an ordinary one.
    if (found.length > TIMES + 60) break;
    if (found.length > TIMES && !place.gap && instant > found[TIMES - 1] + 3 * HOUR) break;
  }
  return { times: found.slice(0, TIMES), gaps };
}

/** Asked during the second pass of a repeated hour, cron-parser fires the rest of it: it cannot know of the first pass. */
function secondPass(text, zone, after) {
  const change = allChanges.get(zone).find((c) => c.after < c.before && after >= c.at && after < c.at + c.before - c.after);
  if (!change) return [];
  const found = [];
  for (const wall of wallTimes(text, after + change.after)) {
    if (wall >= change.at + change.before) return found;
    found.push(wall - change.after);
  }
}

function theirs(text, zone, after) {
  const times = CronExpressionParser.parse(text, { currentDate: new Date(after), tz: zone });
  return Array.from({ length: TIMES }, () => times.next().getTime());
}

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
