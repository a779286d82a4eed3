// The goals of search in code, with what was measured: what the benchmark ends with.
const rows = [];

/** A goal is an upper bound. */
export function goal(name, measured, bound, unit) {
  rows.push({ name, measured, bound, unit });
}

/** Each goal with its ratio: below 1 it is kept. True if all are. */
export function printGoals() {
  console.log('\nGoals: measured / bound');
  for (const { name, measured, bound, unit } of rows) {
    const ratio = measured / bound;
    const figures = `${measured.toFixed(2)} / ${bound} ${unit}`;
    console.log(`  ${ratio <= 1 ? 'kept  ' : 'missed'} ${ratio.toFixed(2).padStart(6)}   ${name.padEnd(52)} ${figures}`);
  }
  return rows.every(({ measured, bound }) => measured <= bound);
}
