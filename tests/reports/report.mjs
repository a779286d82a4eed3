// A public report against another product, tried here. Its id names its line in LOG.md, which says what is right and why.
import { test } from 'node:test';

/** The test of one report. `tests/lint/reports.mjs` compares the ids with LOG.md. */
export const report = (id, what, run) => test(`${id}: ${what}`, run);
