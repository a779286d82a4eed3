// Reports about schedules: clocks that change, days of the month and of the week, dates that are rare.
import assert from 'node:assert/strict';
import { newPerson, newSkill, ok, refused } from '../journeys/domain.mjs';
import { sql } from '../journeys/support.mjs';
import { report } from './report.mjs';

/** The next n times after a moment, as UTC. */
const upcoming = async (expression, zone, after, n) =>
  (await sql('select at from kijko.cron_upcoming($1, $2, $3::timestamptz, $4) as at', [expression, zone, after, n])).map(({ at }) =>
    at.toISOString().replace('.000Z', 'Z'),
  );

const local = (zone) => {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'short' });
  return (at) => format.format(new Date(at));
};

report('cron-1', 'a time that spring skips runs once that day, and one that autumn repeats runs once', async () => {
  // New York: 02:00 to 03:00 on 14 March 2027, and back on 7 November 2027.
  assert.deepEqual(await upcoming('30 2 * * *', 'America/New_York', '2027-03-13T12:00Z', 2), [
    '2027-03-14T07:00:00Z',
    '2027-03-15T06:30:00Z',
  ]);
  assert.deepEqual(await upcoming('30 1 * * *', 'America/New_York', '2027-11-06T12:00Z', 2), [
    '2027-11-07T05:30:00Z',
    '2027-11-08T06:30:00Z',
  ]);
});

report('cron-2', 'a midnight that does not exist, or exists twice, is one run of its day', async () => {
  // Chile changes its clocks at midnight: 5 September 2027 begins at 01:00, 4 April 2027 has 23:00 twice the evening before.
  for (const month of ['2027-09', '2027-04']) {
    const times = await upcoming('0 0 * * *', 'America/Santiago', `${month}-01T12:00Z`, 10);
    const days = times.map((at) => local('America/Santiago')(at).slice(0, 10));
    assert.deepEqual(
      days,
      Array.from({ length: 10 }, (_, n) => `${month}-${String(n + 2).padStart(2, '0')}`),
    );
  }
});

report('cron-3', 'what runs every few minutes neither stops nor runs on for the hour that comes twice', async () => {
  // Amsterdam: 01:00 UTC on 31 October 2027 is the second 02:00.
  const times = await upcoming('*/15 * * * *', 'Europe/Amsterdam', '2027-10-30T23:59Z', 13);
  const steps = times.slice(1).map((at, n) => new Date(at) - new Date(times[n]));
  assert.deepEqual([times[0], new Set(steps)], ['2027-10-31T00:00:00Z', new Set([900_000])]);
});

report('cron-4', 'each time comes once and in order where the clock changes by half an hour', async () => {
  // Lord Howe: half an hour, on 4 April and 3 October 2027.
  const zone = 'Australia/Lord_Howe';
  for (const from of ['2027-04-02T00:00Z', '2027-10-01T00:00Z']) {
    const times = await upcoming('45 1,2 * * *', zone, from, 8);
    assert.deepEqual([...new Set(times)].sort(), times);
    const days = times.map((at) => local(zone)(at).slice(0, 10));
    for (const day of new Set(days)) assert.equal(days.filter((one) => one === day).length, 2, day);
  }
});

report('cron-5', 'a year of any zone has 365 runs of a daily time, each a day after the one before', async () => {
  for (const zone of [
    'Europe/Amsterdam',
    'America/Santiago',
    'Australia/Lord_Howe',
    'Africa/Casablanca',
    'Asia/Kathmandu',
    'America/Nuuk',
  ]) {
    for (const expression of ['0 0 * * *', '30 1 * * *', '30 2 * * *', '59 23 * * *']) {
      const [found] = await sql(
        `select count(*)::int as runs, extract(epoch from min(pause))::int / 3600.0 as shortest, extract(epoch from max(pause))::int / 3600.0 as longest,
           max(at) < '2028-01-02' as ends
         from (
           select at, at - lag(at) over (order by n) as pause
           from kijko.cron_upcoming($1, $2, '2027-01-01 00:00'::timestamp at time zone $2 - interval '1 second', 365) with ordinality as t (at, n)
         ) as year`,
        [expression, zone],
      );
      const where = `${expression} ${zone}: ${JSON.stringify(found)}`;
      assert.ok(found.runs === 365 && found.ends, where);
      assert.ok(Number(found.shortest) >= 23 - 1 && Number(found.longest) <= 25 + 1, where);
    }
  }
});

report('cron-6', 'day of month and day of week: either is enough, and 7 is a Sunday', async () => {
  assert.deepEqual(await upcoming('0 0 1 1 0', 'UTC', '2027-01-01T00:00Z', 3), [
    '2027-01-03T00:00:00Z',
    '2027-01-10T00:00:00Z',
    '2027-01-17T00:00:00Z',
  ]);
  assert.deepEqual(await upcoming('0 9 * * 7', 'UTC', '2027-01-01T00:00Z', 1), ['2027-01-03T09:00:00Z']);
  assert.deepEqual(await upcoming('0 9 * * fri-sun', 'UTC', '2027-01-01T10:00Z', 3), [
    '2027-01-02T09:00:00Z',
    '2027-01-03T09:00:00Z',
    '2027-01-08T09:00:00Z',
  ]);
});

report('cron-7', 'a day that its month never has is no fault where a day of the week is named, too', async () => {
  assert.deepEqual(await upcoming('0 0 31 2 1-5', 'UTC', '2027-02-26T12:00Z', 2), ['2028-02-01T00:00:00Z', '2028-02-02T00:00:00Z']);
  const person = await newPerson();
  await refused(person.client.rpc('preview_cron', { expression: '0 0 31 2 *' }), 422, 'invalid_cron');
});

report('cron-8', 'a step over all days restricts them, so that beside a day of the week either is enough', async () => {
  assert.deepEqual(await upcoming('0 0 */3 * 1-5', 'UTC', '2024-04-03T12:00Z', 4), [
    '2024-04-04T00:00:00Z',
    '2024-04-05T00:00:00Z',
    '2024-04-07T00:00:00Z',
    '2024-04-08T00:00:00Z',
  ]);
});

report('cron-9', '29 February is found across a century without one', async () => {
  assert.deepEqual(await upcoming('0 0 29 2 *', 'UTC', '2096-03-01T00:00Z', 2), ['2104-02-29T00:00:00Z', '2108-02-29T00:00:00Z']);
});

report('cron-10', 'each schedule has its own zone, whatever that of the server or the session is', async () => {
  const person = await newPerson();
  const skill = await newSkill(person);
  const habit = (timezone) =>
    ok(person.client.from('habits').insert({ skill_id: skill.id, name: timezone, cron: '0 9 * * *', timezone }).select().single());
  for (const zone of ['Asia/Kolkata', 'Asia/Tokyo']) {
    const { next_run_at: next } = await habit(zone);
    assert.match(local(zone)(next), / 09:00$/);
  }
});
