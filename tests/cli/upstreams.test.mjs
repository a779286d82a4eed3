// Every upstream of Caddy, also one that is added later.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { it } from 'node:test';

const file = path.resolve(import.meta.dirname, '../../deploy/Caddyfile');

const handlers = (value, name) =>
  value === null || typeof value !== 'object'
    ? []
    : [...(value.handler === name ? [value] : []), ...Object.values(value).flatMap((inner) => handlers(inner, name))];

// PostgREST closes an idle connection after 30 to 60 seconds, and one whose request it answered without reading its body. A POST
// that meets the closing connection is answered by 502.
it('shares connections for short bodies only, and gives up idle ones before the upstream closes them', () => {
  const config = JSON.parse(
    execFileSync('caddy', ['adapt', '--config', file, '--adapter', 'caddyfile'], { stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  const connections = new Map();
  for (const proxy of handlers(config, 'reverse_proxy')) {
    const { enabled, idle_timeout: nanoseconds } = proxy.transport?.keep_alive ?? {};
    const kind = enabled === false ? 'own' : nanoseconds > 0 && nanoseconds < 30e9 ? 'shared' : 'unsafe';
    const [{ dial }] = proxy.upstreams;
    connections.set(dial, [...(connections.get(dial) ?? []), kind].sort());
  }
  assert.ok(connections.size >= 3, `${connections.size} upstreams`);
  for (const [dial, kinds] of connections) assert.deepEqual(kinds, ['own', 'shared'], dial);
});
