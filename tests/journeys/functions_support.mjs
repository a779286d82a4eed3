// What the journeys of functions share: servers on this machine, which the test's stack may reach by kijko.http_allowed_hosts.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { after } from 'node:test';
import { ok } from './domain.mjs';
import { admin } from './support.mjs';

const servers = [];
after(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server on this machine that answers by `handler(request, response)`; its address. */
export async function newServer(handler) {
  // A request may break off; that is its sender's business.
  const server = createServer((request, response) => Promise.resolve(handler(request, response)).catch(() => response.destroy()));
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  servers.push(server);
  return `http://localhost:${server.address().port}`;
}

/** Declares a function as an operator does; its name. */
export async function declare(fields) {
  const name = `fn-${randomUUID()}`;
  await ok(
    admin()
      .from('functions')
      .insert({ name, ...fields }),
  );
  return name;
}

/** The body of a request. */
export async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

export const json = (response, value, status = 200, headers = {}) =>
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(value));

/** A promise with its resolve function. */
export function gate() {
  let open;
  const opened = new Promise((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

/** What supabase-js makes of a call: its data, or the kind of its error with status and code. */
export async function invoke(client, name, options) {
  const { data, error } = await client.functions.invoke(name, options);
  if (!error) return data;
  const { status } = error.context;
  const body = await error.context.json().catch(() => ({}));
  return { error: error.name, status, code: body.code };
}

export const http4xx = (status, code) => ({ error: 'FunctionsHttpError', status, code });
export const relayed = (status, code) => ({ error: 'FunctionsRelayError', status, code });
