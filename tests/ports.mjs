// Ports for servers that a test starts, kills and starts again.
import { createServer } from 'node:net';

/**
 * A free port between 10000 and 19999: below those that Linux gives to outgoing connections (32768 on), one of which could
 * have it while the server is down, and apart from those of the test stack (20000 on).
 */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 10_000);
    // fetch() refuses to speak to 10080.
    if (port !== 10_080 && (await isFree(port))) return port;
  }
}

const isFree = (port) =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
