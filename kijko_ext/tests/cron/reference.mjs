// The rule that kijko_ext/README.md states, and cron-parser's own answer: what kijko.cron_upcoming is compared with.
import { CronExpressionParser } from 'cron-parser';
import { IANAZone } from 'luxon';

export const TIMES = 8;
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
export const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

// Gaps and overlaps of an hour in the small hours, on both sides of the equator, and zones without changes.
export const ORDINARY = [
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
export const ODD = [
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

// ---- zones

export const zones = new Map([...ORDINARY, ...ODD].map((name) => [name, IANAZone.create(name)]));

export const offset = (zone, instant) => zones.get(zone).offset(instant) * MINUTE;

/** The changes of a zone's clock between two instants: {at, before, after}. */
export function changes(zone, from, to) {
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

export const YEARS = [Date.UTC(2011, 0, 1), Date.UTC(2031, 0, 1)];
export const allChanges = new Map([...zones.keys()].map((zone) => [zone, changes(zone, ...YEARS)]));

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
export function withoutDuplicates(text) {
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

export function* wallTimes(text, from) {
  const times = CronExpressionParser.parse(text, { currentDate: new Date(from), tz: 'UTC' });
  for (;;) yield times.next().getTime();
}

/** The stated rule; `skipped` says what becomes of a time in a gap. */
export function byRule(text, zone, after, skipped) {
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
export function secondPass(text, zone, after) {
  const change = allChanges.get(zone).find((c) => c.after < c.before && after >= c.at && after < c.at + c.before - c.after);
  if (!change) return [];
  const found = [];
  for (const wall of wallTimes(text, after + change.after)) {
    if (wall >= change.at + change.before) return found;
    found.push(wall - change.after);
  }
}

export function theirs(text, zone, after) {
  const times = CronExpressionParser.parse(text, { currentDate: new Date(after), tz: zone });
  return Array.from({ length: TIMES }, () => times.next().getTime());
}
