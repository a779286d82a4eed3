// Processor time of a gateway and of what it asks: on a busy machine it says more than the clock does.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HOME } from '../service.mjs';

/** Of Linux: clock ticks a second, as /proc counts. */
const TICK_MS = 10;

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // It has ended.
  }
}

/** Processor time of a process with its children, of those that have ended, too, in ms. */
export function processorMs(pid) {
  // After the name, which may have blanks: state is the first field, utime the twelfth.
  const fields = read(`/proc/${pid}/stat`).split(') ').at(-1).split(' ');
  const own = fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * TICK_MS;
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean);
  return children.reduce((sum, child) => sum + processorMs(child), own || 0);
}

/** The processes of the stack that the gateway asks: the PostgREST of the API, and the server of the database. */
export async function askedBy(database) {
  const [{ data_directory: folder }] = (await database.query('show data_directory')).rows;
  const postmaster = Number(readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n')[0]);
  const config = new RegExp(`postgrest\0${HOME}/.*/rest\\.conf\0`);
  const postgrest = readdirSync('/proc').find((pid) => /^\d+$/.test(pid) && config.test(read(`/proc/${pid}/cmdline`)));
  if (!postgrest) throw new Error('the PostgREST of the stack is not found');
  return { PostgREST: Number(postgrest), Postgres: postmaster };
}
