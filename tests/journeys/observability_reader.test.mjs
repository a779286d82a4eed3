// On Kubernetes the log of requests is in the pod of Caddy, and so is its reader (deploy/kubernetes/base/caddy.yaml): it records the
// requests while Caddy runs, and what is left when it is asked to stop after Caddy has ended.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { freePort } from '../ports.mjs';
import { Service } from '../service.mjs';
import { until } from '../until.mjs';
import { newTeam } from './domain.mjs';
import { env, sql } from './support.mjs';

const root = new URL('../..', import.meta.url).pathname;
const [deployment] = parseAllDocuments(readFileSync(join(root, 'deploy/kubernetes/base/caddy.yaml'), 'utf8'));
const { initContainers, containers } = deployment.toJS().spec.template.spec;
const [reader, proxy] = [initContainers, containers].map(([container]) => ({
  arguments: container.args,
  ...Object.fromEntries(container.env.map(({ name, value }) => [name, value])),
}));

let folder, log, team, caddy, url;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kijko-reader-'));
  log = join(folder, 'access.log');
  team = await newTeam();
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  caddy = spawn('caddy', ['run', '--config', join(root, 'deploy/Caddyfile'), '--adapter', 'caddyfile'], {
    stdio: 'ignore',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      KIJKO_SITE: `http://:${port}`,
      KIJKO_ACCESS_LOGGING: proxy.KIJKO_ACCESS_LOGGING,
      KIJKO_ACCESS_LOG: log,
      KIJKO_REST_UPSTREAM: `127.0.0.1:${Number(new URL(process.env.SIDECAR_URL).port) - 2}`,
    },
  });
  await until('Caddy to answer', () => fetch(url).then(Boolean, () => null));
});
after(() => {
  caddy?.kill();
  rmSync(folder, { recursive: true });
});

const read = () =>
  Service.start('sidecar', {
    arguments: reader.arguments,
    variables: { KIJKO_DB_POOL_SIZE: reader.KIJKO_DB_POOL_SIZE, KIJKO_ACCESS_LOG: log },
  });

const ask = async () => {
  const id = randomUUID();
  const headers = { apikey: env.ANON_KEY, Authorization: `Bearer ${team.owner.token}`, 'x-org-id': team.orgId, 'x-request-id': id };
  const answer = await fetch(`${url}/rest/v1/projects`, { headers });
  await answer.text();
  assert.equal(answer.status, 200);
  return id;
};
const recorded = (id) => sql('select route, status, caller from public.api_usage where request_id = $1', [id]);

test('the reader records requests, serves no path, and records the last ones when it ends after Caddy', async () => {
  const service = await read();
  const first = await ask();
  assert.deepEqual(await until('the request', async () => (await recorded(first))[0]), {
    route: '/rest/v1/projects',
    status: 200,
    caller: 'user',
  });
  assert.equal((await fetch(`${service.url}/functions/v1/any`)).status, 404);
  assert.equal((await fetch(`${service.operatorsUrl}/health`)).status, 200);
  const metrics = await (await fetch(`${service.operatorsUrl}/metrics`)).text();
  assert.match(metrics, /^kijko_api_requests_total\{.*part="rest".*\} /m);
  assert.doesNotMatch(metrics, /kijko_worker_slots/);

  // In its pause of a second.
  const last = await Promise.all(Array.from({ length: 20 }, ask));
  const ended = once(caddy, 'exit');
  caddy.kill();
  await ended;
  assert.deepEqual(await service.terminate(), { code: 0, signal: null });
  for (const id of last) assert.equal((await recorded(id)).length, 1, id);
});
