// The limits engine: its throughput on one hot tenant beside other ways to count, and how fast a cold counter is loaded (these
// on throwaway clusters), what it takes of a request, and events of other services (on the benchmark's instance). Writes
// docs/img/limits.svg.
//
//   ./kijko bench limits         KIJKO_BENCH_ONLY=hot|reload|requests|ingest   KIJKO_BENCH_SECONDS=3   KIJKO_BENCH_ROUNDS=3
//   KIJKO_BENCH_LEDGER=1,10,30   millions of rows for the reload; a few by default
//   KIJKO_BENCH_VARIANTS=consume,insert,update   some of hot's variants only; no picture
//   KIJKO_BENCH_SYNC_US=500      as if the disk took so much longer to sync; no picture
//   TMPDIR=/dev/shm              clusters in memory: what is left when commits need not wait for a disk
import { hotTenant } from './limits/hot.mjs';
import { ingest } from './limits/ingest.mjs';
import { reload } from './limits/reload.mjs';
import { requests } from './limits/requests.mjs';

const PARTS = { hot: hotTenant, reload, requests, ingest };
const only = process.env.KIJKO_BENCH_ONLY;
if (only && !PARTS[only]) throw new Error(`KIJKO_BENCH_ONLY must be one of ${Object.keys(PARTS).join(', ')}`);
for (const [name, part] of Object.entries(PARTS)) {
  if (only && only !== name) continue;
  console.log(`\n== ${name}`);
  await part();
}
