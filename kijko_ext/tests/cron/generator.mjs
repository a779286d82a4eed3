// Cron expressions by a seeded generator: the same seed gives the same cases.
import { DAYS, MONTHS } from './reference.mjs';

export const SEED = Number(process.env.KIJKO_CRON_SEED ?? 20260329);

// ---- a small generator of pseudo-random numbers (mulberry32)

let state = SEED;

export function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

export const below = (n) => Math.floor(random() * n);
export const between = (min, max) => min + below(max - min + 1);
export const pick = (list) => list[below(list.length)];

// ---- expressions

const NICKNAMES = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@hourly'];

export function item(min, max, names) {
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

export function field(min, max, star, names) {
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
export function expression(near) {
  if (random() < 0.03) return pick(NICKNAMES);
  const hour =
    random() < (near ? 0.8 : 0.2) ? pick(['0', '1', '2', '3', '1-3', '0,2', '*/2', '2,3', '0-4/2', '1,2,23', '*']) : field(0, 23, 0.3);
  const star = near ? 0.9 : 0.5;
  return [field(0, 59, 0.15), hour, field(1, 31, star), field(1, 12, star, MONTHS), field(0, 7, star, DAYS)].join(' ');
}
