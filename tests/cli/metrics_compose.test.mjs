// deploy/docker/metrics.yml: what it publishes is what the containers listen on, to the host alone.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { it } from 'node:test';
import { parse } from 'yaml';
import { root } from './stack.mjs';

const read = (file) => parse(fs.readFileSync(path.join(root, file), 'utf8'), { merge: true }).services;

it('every part with a listener for operators is published, on the loopback of the host', () => {
  const stack = read('docker-compose.yml');
  const metrics = read('deploy/docker/metrics.yml');
  const parts = Object.keys(stack).filter((name) =>
    Object.keys(stack[name].environment ?? {}).some((key) => key.endsWith('_OPERATORS_BIND')),
  );
  assert.deepEqual(Object.keys(metrics).sort(), parts.sort());
  assert.ok(parts.includes('sidecar'));
  for (const [name, { environment, ports }] of Object.entries(metrics)) {
    const [[setting, address]] = Object.entries(environment);
    assert.ok(Object.hasOwn(stack[name].environment, setting), setting);
    const port = address.replace('0.0.0.0:', '');
    assert.match(ports[0], new RegExp(`^\\$\\{KIJKO_[A-Z]+_METRICS_PUBLISH:-127\\.0\\.0\\.1:${port}\\}:${port}$`));
    // A network that leads out, without which nothing is published.
    assert.ok(stack[name].networks.includes('front'));
  }
});

it('without it no port but that of Caddy is published', () => {
  const published = Object.entries(read('docker-compose.yml')).filter(([, { ports }]) => ports);
  assert.deepEqual(
    published.map(([name]) => name),
    ['caddy'],
  );
});
