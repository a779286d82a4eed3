// PostgREST reads again what it knows of the database.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from './lint/tree.mjs';

/** Its schema, as after a migration, and its settings. Returns before it has read them. */
export const reloadApi = () =>
  promisify(execFile)(join(ROOT, 'kijko'), ['reload'], {
    env: { ...process.env, ...(process.env.TEST_HOME && { KIJKO_HOME: process.env.TEST_HOME, KIJKO_API_PORT: process.env.TEST_PORT }) },
  });
