// Random choices that a seed repeats: the same seed sends the same attacks against the same surface.
import { createHash } from 'node:crypto';

const SIZES = { full: 1, sample: 0.05 };
const size = process.env.KIJKO_ATTACKS || 'sample';
if (!(size in SIZES)) throw new Error(`KIJKO_ATTACKS is '${size}': ${Object.keys(SIZES).join(' or ')}`);

/** The seed of this run. A sample is the same each time; all attacks have other values each day. */
export const SEED = Number(process.env.KIJKO_ATTACKS_SEED ?? (size === 'full' ? Math.floor(Date.now() / 86_400_000) : 1));

/** The share of its attacks on one table, function, relationship or route that an attacker sends, and always the first of them. */
export const SHARE = SIZES[size];

/** Choices of one part. Each part has its own, so that a new table does not change the attacks on the others. */
export class Random {
  #seed;
  #count = 0;

  constructor(...part) {
    this.#seed = `${SEED} ${part.join(' ')}`;
  }

  /** A whole number below `bound`. */
  below(bound) {
    const hash = createHash('sha256')
      .update(`${this.#seed} ${this.#count++}`)
      .digest();
    return hash.readUInt32BE(0) % bound;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  /** This share of a list, at least one element of it. */
  share(list, depth) {
    return this.sample(list, Math.ceil(list.length * depth));
  }

  /** The first element of a list and this share of the others, in its order. */
  firstAndShare(list, depth) {
    const taken = new Set(this.share([...list.keys()].slice(1), depth));
    return depth === 1 ? list : list.filter((_, at) => at === 0 || taken.has(at));
  }

  /** `count` different elements; all of a shorter list. */
  sample(list, count) {
    const rest = [...list];
    const taken = [];
    while (taken.length < count && rest.length > 0) taken.push(...rest.splice(this.below(rest.length), 1));
    return taken;
  }
}
