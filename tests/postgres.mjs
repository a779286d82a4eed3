// A copy of Postgres in Debian's layout, which has one major version in it.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The folder of its programs. */
export const binaries = (prefix) => {
  const versions = join(prefix, 'lib/postgresql');
  return join(versions, ...readdirSync(versions).filter((name) => /^\d+$/.test(name)), 'bin');
};
