// Drives one statement from so many clients for some seconds; transactions a second.
export const SECONDS = Number(process.env.KIJKO_BENCH_SECONDS ?? 3);
export const ROUNDS = Number(process.env.KIJKO_BENCH_ROUNDS ?? 3);

export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

export async function pgbench(cluster, script, clients) {
  const { stdout } = await cluster.program(
    'pgbench',
    '-n',
    '-M',
    'prepared',
    '-c',
    String(clients),
    '-j',
    String(Math.min(clients, 2)),
    '-T',
    String(SECONDS),
    '-h',
    cluster.home,
    '-p',
    String(cluster.port),
    '-U',
    'postgres',
    '-f',
    script,
    'postgres',
  );
  return Number(/tps = ([0-9.]+)/.exec(stdout)[1]);
}

// From node, each client with a connection of its own; `work(client, n, call)` is one transaction. `onShare` is called with how much
// of one processor node itself took.
export async function throughNode(cluster, clients, work, onShare = () => {}) {
  const until = Date.now() + SECONDS * 1_000;
  const [began, before] = [performance.now(), process.cpuUsage()];
  let done = 0;
  await Promise.all(
    Array.from({ length: clients }, async (_, n) => {
      const client = await cluster.connect();
      for (let call = 0; Date.now() < until; call++) {
        await work(client, n, call);
        done += 1;
      }
      await client.end();
    }),
  );
  const { user, system } = process.cpuUsage(before);
  onShare((user + system) / 1_000 / (performance.now() - began));
  return done / SECONDS;
}

// What a commit must wait for, in microseconds: it says more about the figures than anything else.
export async function fdatasync(cluster) {
  const { stdout } = await cluster.program('pg_test_fsync', '-s', '1', '-f', `${cluster.home}/fsync`);
  return Number(/^\s*fdatasync\s.*?([0-9]+) usecs\/op/m.exec(stdout)[1]);
}
