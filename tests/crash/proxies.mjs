// Proxies in front of a worker's database and of a service, which stop it at a step: before the other side has heard of it, or when it
// is done and the worker has not heard of that.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

/** Stops a worker once. `reached` resolves when it stands there; nothing of that connection goes on until the proxy is closed. */
class Stop {
  #reach;

  constructor(isIt, at) {
    this.isIt = isIt;
    this.at = at;
    this.reached = new Promise((resolve) => {
      this.#reach = resolve;
    });
  }

  /** True for the first that is meant. */
  takes(what) {
    if (this.taken || !this.isIt(what)) return false;
    this.taken = true;
    return true;
  }

  reach() {
    this.#reach();
  }
}

async function listen(server, close) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: server.address().port, close };
}

/**
 * A proxy of Postgres' protocol 3 without TLS (https://www.postgresql.org/docs/current/protocol-message-formats.html). A statement is
 * meant by its text; it is done when the server is ready for the next one, which it says after the commit.
 */
export async function stopAtStatement(port, isIt, at) {
  const stop = new Stop(isIt, at);
  const sockets = new Set();
  const server = net.createServer((client) => {
    const upstream = net.connect(port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket.on('error', () => {}).on('close', () => client.destroy() && upstream.destroy()));
    }
    proxyStatements(client, upstream, stop);
  });
  const proxy = await listen(server, () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { ...proxy, reached: stop.reached };
}

function proxyStatements(client, upstream, stop) {
  const texts = new Map();
  let asked = 0;
  // The start of a connection, which no statement asked for, ends with one answer more.
  let answered = -1;
  let held = false;
  let awaited = null;
  const isMeant = (type, body) => {
    const [first, second] = body.toString('latin1').split('\0', 2);
    if (type === 'P') texts.set(first, second);
    // A bind names a portal, and then the statement.
    return type === 'B' && stop.takes(texts.get(second) ?? '');
  };
  split(client, true, (message, type, body) => {
    if (held) return;
    const meant = isMeant(type, body);
    if (meant && stop.at === 'before') {
      held = true;
      stop.reach();
      return;
    }
    if (meant) awaited = asked + 1;
    if (type === 'S' || type === 'Q') asked += 1;
    upstream.write(message);
  });
  split(upstream, false, (message, type) => {
    if (type === 'Z') answered += 1;
    if (awaited === null) client.write(message);
    else if (answered >= awaited) stop.reach();
  });
}

/** Takes the whole messages of a stream. `hasStart`: the first one has no type. */
function split(socket, hasStart, take) {
  let rest = Buffer.alloc(0);
  let started = !hasStart;
  socket.on('data', (data) => {
    rest = Buffer.concat([rest, data]);
    for (;;) {
      const typed = started ? 1 : 0;
      if (rest.length < typed + 4) return;
      const end = typed + rest.readInt32BE(typed);
      if (rest.length < end) return;
      const message = rest.subarray(0, end);
      rest = rest.subarray(end);
      started = true;
      take(message, typed ? String.fromCharCode(message[0]) : '', message.subarray(typed + 4));
    }
  });
}

/** A proxy of HTTP. A request is meant by its path; it is done when its answer has come whole. */
export async function stopAtRequest(origin, isIt, at) {
  const stop = new Stop(isIt, at);
  const server = http.createServer(async (request, response) => {
    const meant = stop.takes(request.url);
    if (meant && stop.at === 'before') return stop.reach();
    const upstream = http.request(origin + request.url, {
      method: request.method,
      headers: { ...request.headers, host: new URL(origin).host },
    });
    request.pipe(upstream);
    const [answer] = await once(upstream, 'response').catch(() => [null]);
    if (answer === null) return response.destroy();
    if (!meant) return answer.pipe(response.writeHead(answer.statusCode, answer.headers));
    answer.resume();
    await once(answer, 'end');
    stop.reach();
  });
  const proxy = await listen(server, () => {
    server.closeAllConnections();
    server.close();
  });
  return { ...proxy, reached: stop.reached };
}
