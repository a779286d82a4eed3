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
// that meets the closing connection is answered by 502, whoever sent it.
it('gives each request a connection of its own', () => {
  const config = JSON.parse(
    execFileSync('caddy', ['adapt', '--config', file, '--adapter', 'caddyfile'], { stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  const proxies = handlers(config, 'reverse_proxy');
  assert.ok(proxies.length >= 3, `${proxies.length} upstreams`);
  for (const proxy of proxies) assert.equal(proxy.transport?.keep_alive?.enabled, false, JSON.stringify(proxy.upstreams));
});
