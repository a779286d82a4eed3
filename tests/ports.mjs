// Ports for servers that a test starts, kills and starts again.
import { createServer } from 'node:net';

// Two that ask at the same time find the same port free: each process has 200 of its own, and takes them in turn.
const FIRST = 10_000 + 200 * (process.pid % 50);
let taken = Math.floor(Math.random() * 200);

/**
 * A free port between 10000 and 19999: below those that Linux gives to outgoing connections (32768 on), one of which could
 * have it while the server is down, and apart from those of the test stack (20000 on) and of stacks that a test makes (30000 on).
 */
export async function freePort() {
  for (;;) {
    taken += 1;
    const port = FIRST + (taken % 200);
    // fetch() refuses to speak to 10080.
    if (port !== 10_080 && (await isFree(port))) return port;
  }
}

/**
 * A base port for a stack, whose parts listen on it, the next one, and the ten from base + 10: all of them free, and apart from
 * those that freePort gives to others. This process holds a port in between, so that nobody else is given the same range while
 * the stack does not run.
 */
export async function freeStackPorts() {
  for (;;) {
    const base = 30_000 + 20 * Math.floor(Math.random() * 100);
    const held = await listen(base + 5);
    const free = await Promise.all([0, 1, ...Array.from({ length: 10 }, (_, n) => n + 10)].map((offset) => isFree(base + offset)));
    if (held && free.every(Boolean)) {
      held.unref();
      return base;
    }
    held?.close();
  }
}

async function isFree(port) {
  const server = await listen(port);
  if (server) await new Promise((resolve) => server.close(resolve));
  return server !== null;
}

const listen = (port) =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
