// What an application does whose limits live in Redis: it asks a script there, then inserts the row. The official client,
// one connection for all, as it is meant to be used; the server keeps nothing on disk.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import { throughNode } from './load.mjs';

const sql = (file) => readFileSync(new URL(file, import.meta.url), 'utf8');
const INSERT = { name: 'insert', text: sql('insert.sql') };
const CONSUME = { name: 'consume', text: sql('consume.sql') };

export class Redis {
  static async start() {
    const redis = new Redis();
    const port = 40_000 + Math.floor(Math.random() * 20_000);
    redis.server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], {
      stdio: 'ignore',
    });
    const missing = new Promise((_, reject) =>
      redis.server.once('error', () =>
        reject(
          new Error(
            "redis-server is not here, and one of the comparisons needs it: run './kijko bench limits', or apt-get install redis-server",
          ),
        ),
      ),
    );
    await Promise.race([missing, reachable(port)]);
    redis.client = createClient({ url: `redis://127.0.0.1:${port}` });
    await redis.client.connect();
    redis.script = await redis.client.scriptLoad(sql('redis.lua'));
    return redis;
  }

  async stop() {
    await this.client.close();
    this.server.kill();
  }

  throughput(cluster, clients, onShare) {
    return throughNode(
      cluster,
      clients,
      async (client, n, call) => {
        const now = Math.round((performance.timeOrigin + performance.now()) * 1_000);
        // A short window, so that the sorted set stays at about a thousand members as in the other variants.
        const answer = await this.client.evalSha(this.script, {
          keys: ['tenant'],
          arguments: [String(now), '100000', '1000000', `${n}-${call}`],
        });
        if (answer !== 1) throw new Error(`Redis answered ${answer}`);
        await client.query(INSERT);
      },
      onShare,
    );
  }
}

// The same program without Redis, to compare like with like: node is slower than pgbench.
export const consumeThroughNode = (cluster, clients, onShare) => throughNode(cluster, clients, (client) => client.query(CONSUME), onShare);

async function reachable(port) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const open = await new Promise((resolve) => {
      const socket = createConnection(port, '127.0.0.1', () => resolve(socket.destroy())).once('error', () => resolve(null));
    });
    if (open) return;
    await sleep(100);
  }
  throw new Error('redis-server does not answer');
}
