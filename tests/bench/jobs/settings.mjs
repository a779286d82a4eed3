// How much the benchmark of the queue does, and the server that it uses.
import pg from 'pg';

export const { DB_URL, ADMIN_DB_URL } = process.env;
if (!DB_URL || !ADMIN_DB_URL) throw new Error('DB_URL and ADMIN_DB_URL are not set: run this by ./kijko bench jobs');
export const number = (name, fallback) => Number(process.env[name] ?? fallback);
export const JOBS = number('KIJKO_BENCH_JOBS', 20_000);

// A second or two, or a single pause of the machine decides.
export const FULL = number('KIJKO_BENCH_FULL', 3 * JOBS);

export const SINGLES = number('KIJKO_BENCH_SINGLES', 2_000);
export const ROUNDS = number('KIJKO_BENCH_ROUNDS', 3);
export const RATE = number('KIJKO_BENCH_RATE', 200);
export const SECONDS = number('KIJKO_BENCH_SECONDS', 10);

// For a closer look: some of the phases, some of the queues.
export const ONLY = process.env.KIJKO_BENCH_ONLY?.split(',');

export const QUEUES = process.env.KIJKO_BENCH_QUEUES?.split(',');
export const BATCH = 1_000;
export const LOOPS = 4;
export const TAKE = 500;
export const POOL = 12;

// As in the sidecar: how soon a worker looks again where there was work.
export const MIN_POLL_MS = 1;

export const connection = { connectionString: DB_URL };
export const admin = new pg.Pool({ connectionString: ADMIN_DB_URL, max: 2 });
export const chunks = (n, size) => Array.from({ length: Math.ceil(n / size) }, (_, i) => Math.min(size, n - i * size));
