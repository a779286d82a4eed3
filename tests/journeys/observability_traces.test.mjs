// One trace follows a request through every part: the proxy, the sidecar, PostgREST, the call of a model, and storage.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { freePort } from '../ports.mjs';
import { Service } from '../service.mjs';
import { StorageService } from '../storage_service.mjs';
import { until } from '../until.mjs';
import { newTeam } from './domain.mjs';
import { newKey, newVendor, openaiAnswer } from './llm_support.mjs';
import { env } from './support.mjs';

const root = new URL('../..', import.meta.url).pathname;
const near = (more) => Number(new URL(process.env.SIDECAR_URL).port) + more;

/** The fields of a message of Protocol Buffers: number and bytes, or number and value. */
function* fieldsOf(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const size = { 0: null, 1: 8, 2: 'varint', 5: 4 }[key & 7];
    if (size === null) yield [key >> 3, varint()];
    else {
      const length = size === 'varint' ? Number(varint()) : size;
      yield [key >> 3, bytes.subarray(at, at + length)];
      at += length;
    }
  }
}
const inside = (bytes, number) => [...fieldsOf(bytes)].filter(([field]) => field === number).map(([, value]) => value);
const pair = (bytes) => {
  const [value] = [...fieldsOf(inside(bytes, 2)[0])];
  return [inside(bytes, 1)[0].toString(), value[0] === 1 ? value[1].toString() : String(value[1])];
};

/** The spans of an ExportTraceServiceRequest. */
const spansOf = (body) =>
  inside(body, 1).flatMap((resource) => {
    const attributes = Object.fromEntries(inside(inside(resource, 1)[0], 1).map(pair));
    return inside(resource, 2)
      .flatMap((scope) => inside(scope, 2))
      .map((span) => ({
        service: attributes['service.name'],
        trace: inside(span, 1)[0].toString('hex'),
        id: inside(span, 2)[0].toString('hex'),
        parent: inside(span, 4)[0]?.toString('hex') ?? '',
        name: inside(span, 5)[0].toString(),
        attributes: Object.fromEntries(inside(span, 9).map(pair)),
      }));
  });

let folder, collector, caddy, sidecar, storage, team, key, vendor, url;
const spans = [];
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kijko-traces-'));
  collector = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    spans.push(...spansOf(Buffer.concat(parts)));
    response.setHeader('Content-Type', 'application/x-protobuf').end();
  });
  await new Promise((resolve) => collector.listen(0, '127.0.0.1', resolve));
  const variables = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.address().port}` };
  const log = join(folder, 'access.log');
  team = await newTeam();
  key = (await newKey(team.owner)).secret;
  vendor = await newVendor('openai', openaiAnswer);
  [sidecar, storage] = await Promise.all([
    Service.start('sidecar', {
      variables: {
        ...variables,
        KIJKO_REST_URL: `http://127.0.0.1:${near(-2)}`,
        KIJKO_ACCESS_LOG: log,
        KIJKO_WORKER_CONCURRENCY: '0',
        KIJKO_LLM_ALLOWED_HOSTS: 'localhost',
      },
    }),
    StorageService.start({ variables }),
  ]);
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  caddy = spawn('caddy', ['run', '--config', join(root, 'deploy/Caddyfile'), '--adapter', 'caddyfile'], {
    stdio: 'ignore',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      KIJKO_SITE: `http://:${port}`,
      KIJKO_ACCESS_LOGGING: 'access_log',
      KIJKO_ACCESS_LOG: log,
      KIJKO_REST_UPSTREAM: `127.0.0.1:${near(-2)}`,
      KIJKO_SIDECAR_UPSTREAM: new URL(sidecar.url).host,
      KIJKO_STORAGE_UPSTREAM: new URL(storage.url).host,
    },
  });
  await until('Caddy to answer', () =>
    fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => null,
    ),
  );
});
after(async () => {
  caddy?.kill();
  await Promise.all([sidecar, storage].map((service) => service?.kill()));
  collector?.close();
  rmSync(folder, { recursive: true });
});

const isProxy = ({ attributes }) => attributes['kijko.part'] === 'proxy';

const ofTrace = (trace, enough) =>
  until(`the spans of ${trace}`, () => {
    const found = spans.filter((span) => span.trace === trace);
    return enough(found) ? found : null;
  });

test('a request to a model: the client, the proxy, the sidecar, the database and the vendor', async () => {
  const [trace, parent] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  const client = new OpenAI({
    apiKey: key,
    baseURL: `${url}/llm/v1`,
    maxRetries: 0,
    defaultHeaders: { traceparent: `00-${trace}-${parent}-01` },
  });
  await client.chat.completions.create({ model: vendor.model, messages: [{ role: 'user', content: 'a prompt that nobody traces' }] });
  const wanted = [isProxy, ({ name }) => name === 'postgres authorize_llm_call', ({ name }) => name.startsWith('chat ')];
  const found = await ofTrace(trace, (list) => wanted.every((is) => list.some(is)));
  const one = (is) => {
    const matching = found.filter(is);
    assert.equal(matching.length, 1, JSON.stringify(found));
    return matching[0];
  };
  const [proxy, postgres, model] = wanted.map(one);
  const answered = one(({ id, attributes }) => id !== proxy.id && attributes['http.route']);
  assert.deepEqual([proxy.parent, answered.parent, postgres.parent, model.parent], [parent, proxy.id, answered.id, answered.id]);
  assert.deepEqual([proxy.attributes['http.route'], answered.attributes['http.route']], Array(2).fill('/llm/v1/chat/completions'));
  assert.equal(proxy.attributes['kijko.request.id'], answered.attributes['kijko.request.id']);
  assert.ok(!JSON.stringify(found).includes('a prompt that nobody traces'));
});

test('without a trace of the client the proxy begins one, which storage joins', async () => {
  const answer = await fetch(`${url}/storage/v1/bucket`, {
    headers: { apikey: env.ANON_KEY, Authorization: `Bearer ${team.owner.token}` },
  });
  assert.equal(answer.status, 200);
  const trace = answer.headers.get('x-kijko-request').replaceAll('-', '');
  const found = await ofTrace(trace, (list) => list.length >= 2);
  const proxy = found.find(isProxy);
  const stored = found.find(({ service }) => service === 'kijko-storage');
  assert.deepEqual([proxy.parent, proxy.id, stored.parent], ['', trace.slice(0, 16), proxy.id]);
});

test('a trace of the client that is not valid is not joined', async () => {
  const [trace, span] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  const told = async (traceparent) => {
    const { headers } = await fetch(`${url}/health`, { headers: { traceparent } });
    return { told: headers.get('x-kijko-trace'), own: headers.get('x-kijko-request').replaceAll('-', '') };
  };
  const [zeros, none] = ['0'.repeat(32), '0'.repeat(16)];
  for (const bad of [`00-${zeros}-${span}-01`, `00-${trace}-${none}-01`, `ff-${trace}-${span}-01`, `00-${trace}-${span}`, 'x"y']) {
    const answer = await told(bad);
    assert.equal(answer.told.trim(), `00-${answer.own}-${answer.own.slice(0, 16)}-01`, bad);
  }
  const joined = await told(`00-${trace}-${span}-00`);
  assert.equal(joined.told, `00-${trace}-${joined.own.slice(0, 16)}-01 ${span}`);
});
