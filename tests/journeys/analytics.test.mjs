// Product events over HTTP: Segment's API and its own client, which is given lost answers, errors and doubles; then a series.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import http from 'node:http';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { Analytics } from '@segment/analytics-node';
import { createKey } from './api_keys_support.mjs';
import {
  anonymous,
  assertAnonymousSeesNothing,
  inTurn,
  join,
  newPerson,
  newTeam,
  ok,
  refused,
  setPlan,
  until,
  withinRate,
} from './domain.mjs';
import { env, http as request, sql } from './support.mjs';

const INGEST = `${env.API_URL}/api/v1/ingest`;
const PYTHON = fileURLToPath(new URL('../../target/tools/python-tests/bin/python', import.meta.url));
const SCRIPT = fileURLToPath(new URL('analytics_segment.py', import.meta.url));
const basic = (key) => ({ Authorization: `Basic ${Buffer.from(`${key}:`).toString('base64')}` });

/** Forwards each request, and then fails some: the answer is lost, the request sent twice, or never forwarded. */
async function faultyProxy() {
  let requests = 0;
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const fault = ['lost', 'failed', 'double', 'limited', 'none'][requests++ % 5];
    const { host, connection, ...headers } = request.headers;
    const forward = () => fetch(`${env.API_URL}${request.url}`, { method: 'POST', headers, body: Buffer.concat(parts) });
    if (fault === 'failed') return response.writeHead(500).end();
    if (fault === 'limited') return response.writeHead(429, { 'retry-after': '1' }).end();
    const [answer] = await Promise.all(fault === 'double' ? [forward(), forward()] : [forward()]);
    await answer.text();
    if (fault === 'lost') return request.socket.destroy();
    response.writeHead(answer.status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close(), requests: () => requests };
}

describe('analytics', () => {
  let team;
  let key;
  before(async () => {
    team = await newTeam();
    ({ secret: key } = await createKey(team.owner, { permissions: ['events:ingest'], rate_limit: 6000 }));
    await setPlan(team.nonMember.orgId, 'PRO');
  });
  const send = (method, body, headers = basic(key)) =>
    fetch(`${INGEST}/${method}`, { method: 'POST', headers, body: typeof body === 'string' ? body : JSON.stringify(body) });
  const count = async (name) =>
    (await sql('select count(*)::int as n from public.events where org_id = $1 and name = $2', [team.orgId, name]))[0].n;

  test('wrong keys, other tenants and missing permissions first', async () => {
    await assertAnonymousSeesNothing([
      'events',
      'persons',
      'quarantined_events',
      'event_intake',
      'dashboards',
      'analytics_queries',
      'event_properties',
    ]);
    const { secret: other } = await createKey(team.owner, { permissions: ['skills:read'] });
    for (const [headers, status] of [
      [{}, 401],
      [basic('wk'), 401],
      [basic(`kjk_live_${'x'.repeat(38)}`), 401],
      [basic(other), 403],
      [{ ...basic(key), 'x-api-key': other }, 400],
    ]) {
      const answer = await send('track', { event: 'Stolen', userId: 'u' }, headers);
      assert.equal(answer.status, status, await answer.text());
    }
    const { secret: stranger } = await createKey(team.nonMember, { permissions: ['events:ingest'] });
    const answer = await send('track', { event: 'Stolen', userId: 'u' }, { ...basic(stranger), 'x-org-id': team.orgId });
    assert.equal(answer.status, 403);
    assert.equal(await count('Stolen'), 0);
  });

  test('each method, by Basic credentials or a key of the body, packed or not', async () => {
    for (const [path, body] of [
      ['track', { event: 'Tried', userId: 'u1' }],
      ['v1/identify', { userId: 'u1', traits: { plan: 'pro' } }],
      ['p', { anonymousId: 'a1' }],
      ['v1/screen', { anonymousId: 'a1' }],
      ['group', { userId: 'u1', groupId: 'g1' }],
      ['v1/a', { userId: 'u1', previousId: 'a1' }],
      ['batch', { batch: [{ type: 'track', event: 'Tried', userId: 'u1' }, { type: 'vote' }] }],
    ]) {
      const answer = await send(path, body);
      assert.deepEqual([answer.status, await answer.json()], [200, { success: true }], path);
    }
    const packed = gzipSync(
      JSON.stringify({ writeKey: key, batch: [{ type: 'track', event: 'Tried', userId: 'u2', properties: { a: '\u0000' } }] }),
    );
    const answer = await fetch(`${INGEST}/v1/b`, { method: 'POST', headers: { 'content-encoding': 'gzip' }, body: packed });
    assert.equal(answer.status, 200, await answer.text());
    assert.equal(await count('Tried'), 3);
    const names = await ok(team.viewer.client.from('events').select('name').eq('org_id', team.orgId).neq('name', 'Tried').order('name'));
    assert.deepEqual(
      names.map(({ name }) => name),
      ['$alias', '$group', '$identify', '$page', '$screen'],
    );
    const [fault] = await ok(team.viewer.client.from('quarantined_events').select('code, message').eq('org_id', team.orgId));
    assert.equal(fault.code, 'invalid_type');
    assert.equal(fault.message.type, 'vote');
    const persons = await ok(team.viewer.client.from('persons').select('user_id, traits').eq('org_id', team.orgId).order('user_id'));
    assert.deepEqual(persons, [
      { user_id: 'u1', traits: { plan: 'pro' } },
      { user_id: 'u2', traits: {} },
    ]);
    assert.deepEqual(await ok(team.nonMember.client.from('events').select('id').eq('org_id', team.orgId)), []);
  });

  test('malformed and oversized bodies are 400, other paths 404', async () => {
    for (const body of ['{', '[]', '{"batch": 1}', JSON.stringify({ batch: [{ a: 'x'.repeat(520_000) }] })]) {
      assert.equal((await send('batch', body)).status, 400, body.slice(0, 20));
    }
    const bomb = gzipSync(Buffer.alloc(5_000_000, ' '));
    const headers = { ...basic(key), 'content-encoding': 'gzip' };
    assert.equal((await fetch(`${INGEST}/batch`, { method: 'POST', headers, body: bomb })).status, 400);
    assert.equal((await send('delete', {})).status, 404);
  });

  test('a page sends with a publishable key, from its origin only', async () => {
    const page = await createKey(team.owner, { kind: 'publishable', permissions: ['events:ingest'], origins: ['https://app.example.com'] });
    const body = { event: 'Clicked', anonymousId: 'a9', writeKey: page.secret };
    for (const [origin, status] of [
      [{}, 401],
      [{ Origin: 'https://evil.example' }, 401],
      [{ Origin: 'https://app.example.com' }, 200],
    ]) {
      const answer = await send('v1/t', body, { 'content-type': 'text/plain', ...origin });
      assert.equal(answer.status, status, await answer.text());
    }
    assert.equal(await count('Clicked'), 1);
  });

  /** What both clients sent is there, each once. */
  async function delivered(name, proxy) {
    assert.ok(proxy.requests() > 5, 'requests were repeated');
    const rows = await sql(`select distinct (properties ->> 'n')::int as n from public.events where org_id = $1 and name = $2`, [
      team.orgId,
      name,
    ]);
    assert.equal(rows.length, 100, 'nothing is lost');
    assert.equal(await count(name), 100, 'nothing is doubled');
  }

  describe("Segment's clients lose nothing and double nothing", { concurrency: true }, () => {
    test('for Node.js', async () => {
      const proxy = await faultyProxy();
      const settings = { maxEventsInBatch: 20, maxRetries: 20, flushInterval: 50 };
      const client = new Analytics({ writeKey: key, host: proxy.url, path: '/api/v1/ingest/v1/batch', ...settings });
      const failures = [];
      client.on('error', (error) => failures.push(error));
      for (let n = 0; n < 100; n += 1) client.track({ event: 'From Node.js', userId: `user-${n % 20}`, properties: { n } });
      await client.closeAndFlush({ timeout: 60_000 });
      proxy.close();
      assert.deepEqual(failures, []);
      await delivered('From Node.js', proxy);
    });

    test('for Python, packed', async () => {
      assert.ok(existsSync(PYTHON), 'target/tools/python-tests is missing: ./kijko test journeys installs it');
      const proxy = await faultyProxy();
      const script = spawn(PYTHON, [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
      const out = [];
      script.stdout.on('data', (part) => out.push(part));
      script.stdin.end(JSON.stringify({ key, host: `${proxy.url}/api/v1/ingest`, name: 'From Python', events: 100 }));
      const [code] = await once(script, 'close');
      proxy.close();
      assert.equal(code, 0);
      assert.deepEqual(JSON.parse(Buffer.concat(out)), []);
      await delivered('From Python', proxy);
    });
  });

  test('batches that meet the end of the plan at once: each is answered 200, and exactly what is left is taken', async () => {
    const { orgId, ...person } = await newPerson();
    const { secret } = await createKey({ orgId, ...person }, { permissions: ['events:ingest'], rate_limit: 6000 });
    const [{ left }] = await sql(`select (q.remaining - 500)::int as left from kijko.quota_status($1::uuid, 'events') as q`, [orgId]);
    await sql(`select kijko.try_consume($1::uuid, 'events', $2)`, [orgId, left]);
    // Each message is sent twice, by two batches.
    const batch = (of) =>
      Array.from({ length: 200 }, (_, n) => ({ type: 'track', event: 'Last', userId: `u${n}`, messageId: `last-${of % 4}-${n}` }));
    const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => send('batch', { batch: batch(n) }, basic(secret))));
    assert.deepEqual(
      answers.map(({ status }) => status),
      Array(8).fill(200),
    );
    const [intake] = await sql(
      `select sum(accepted)::int as accepted, sum(accepted + duplicates + dropped)::int as sent,
         (select count(*)::int from public.events as e where e.org_id = $1) as stored,
         (select count(distinct e.message_id)::int from public.events as e where e.org_id = $1) as messages,
         (select q.remaining::int from kijko.quota_status($1::uuid, 'events') as q) as remaining
       from public.event_intake where org_id = $1`,
      [orgId],
    );
    assert.deepEqual(intake, { accepted: 500, sent: 1600, stored: 500, messages: 500, remaining: 0 });
    assert.equal((await send('track', { event: 'Last', userId: 'u1', messageId: 'one-more' }, basic(secret))).status, 200);
    const [{ dropped }] = await sql('select sum(dropped)::int as dropped from public.event_intake where org_id = $1', [orgId]);
    assert.ok(dropped > 300, `${dropped} are counted as dropped`);
  });

  test('series, funnels and saved queries', async () => {
    const { client, orgId } = team.member;
    const from = new Date(Date.now() - 86_400_000).toISOString();
    const messages = ['Visited', 'Bought'].map((event, n) => ({
      type: 'track',
      event,
      userId: 'f1',
      messageId: randomUUID(),
      timestamp: new Date(Date.now() - 60_000 + n).toISOString(),
    }));
    assert.deepEqual(await ok(client.rpc('track', { events: [...messages, messages[0]] })), {
      accepted: 2,
      duplicates: 1,
      dropped: 0,
      quarantined: 0,
    });
    const query = { steps: [{ event: 'Visited' }, { event: 'Bought' }], from };
    const { funnels } = await ok(client.rpc('analytics_funnel', { query }));
    assert.deepEqual(
      funnels[0].steps.map(({ persons }) => persons),
      [1, 1],
    );
    const saved = await ok(
      client
        .from('analytics_queries')
        .insert({ org_id: orgId, name: 'Visits', kind: 'series', query: { event: 'Visited', from, filters: [] } })
        .select('id')
        .single(),
    );
    await sql('select private.analytics_roll_changes(1000)');
    const { series } = await ok(team.viewer.client.rpc('run_analytics_query', { query_id: saved.id }));
    assert.equal(series.length, 1);
    await refused(team.nonMember.client.rpc('run_analytics_query', { query_id: saved.id }), 404, 'not_found');
    await refused(team.viewer.client.from('dashboards').insert({ org_id: orgId, name: 'x' }), 403, '42501');
    await refused(client.rpc('analytics_series', { query: { event: 'Visited' } }), 422, 'invalid_input');
  });

  test('who loses analytics:read is answered from no cache', async () => {
    const reader = await newPerson();
    await join(reader, team.orgId, 'viewer', team.owner);
    await ok(reader.client.rpc('set_active_organization', { org_id: team.orgId }));
    const role = await ok(
      team.owner.client
        .from('custom_roles')
        .insert({ org_id: team.orgId, name: 'Reports', permissions: ['analytics:read', 'flags:read', 'flags:evaluate'] })
        .select()
        .single(),
    );
    const assign = (fields) =>
      ok(team.owner.client.from('memberships').update(fields).eq('org_id', team.orgId).eq('user_id', reader.user.id).select());
    await assign({ custom_role_id: role.id });
    const query = { event: 'Reported', from: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' };
    const saved = await ok(
      team.member.client
        .from('analytics_queries')
        .insert({ org_id: team.orgId, name: 'Reported', kind: 'series', query: { ...query, measure: 'persons' } })
        .select('id')
        .single(),
    );
    const headers = { 'x-org-id': team.orgId, 'Content-Type': 'application/json' };
    const reports = [
      ['POST', '/rest/v1/rpc/analytics_series', { query }],
      ['POST', '/rest/v1/rpc/run_analytics_query', { query_id: saved.id }],
      ['GET', `/rest/v1/rpc/run_analytics_query?query_id=${saved.id}`],
    ];
    const flags = [
      ['GET', '/api/v1/flags/client/features'],
      ['GET', '/api/v1/flags/frontend'],
      ['POST', '/api/v1/flags/ofrep/v1/evaluate/flags', { context: {} }],
    ];
    const ask = ([method, path, body], tag) =>
      request(method, path, { token: reader.token, headers: { ...headers, ...(tag && { 'If-None-Match': tag }) }, body });
    // Hours of other tests may be summed up in between.
    const cached = () => until('the report in the cache', async () => (await ask(reports[0])).body.cached);
    // All of them are open, and known to every cache.
    const tags = new Map();
    for (const report of [...reports, ...flags, ...reports, ...flags]) {
      const answer = await ask(report);
      assert.equal(answer.status, 200, `${report[1]}: ${answer.text}`);
      assert.equal(answer.headers.get('cache-control'), 'private, no-cache', report[1]);
      tags.set(report[1], answer.headers.get('etag'));
    }
    await cached();
    assert.equal((await ask(flags[0], tags.get(flags[0][1]))).status, 304);
    const refusedNow = async (refusedReports, code) => {
      for (const report of refusedReports) {
        const answer = await withinRate(() => ask(report, tags.get(report[1]) ?? '"x"'));
        assert.deepEqual([answer.status, answer.body?.code], [403, code], `${report[1]}: ${answer.text}`);
      }
    };
    // The role loses the permission while somebody looks at the report again and again.
    const looking = (async () => {
      let answer;
      do answer = await ask(reports[0]);
      while (answer.status === 200);
      return answer.status;
    })();
    await ok(team.owner.client.from('custom_roles').update({ permissions: [] }).eq('id', role.id).select());
    assert.equal(await looking, 403);
    await refusedNow([...reports, ...flags], 'permission_denied');
    for (const table of ['events', 'persons', 'dashboards', 'analytics_queries']) {
      assert.deepEqual(await ok(reader.client.from(table).select('id').eq('org_id', team.orgId)), [], table);
    }
    // Another role has them again; who leaves has them no more.
    await assign({ role: 'viewer' });
    await cached();
    await refusedNow(flags, 'permission_denied');
    await ok(team.owner.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', reader.user.id).select());
    await refusedNow([...reports, ...flags], 'not_a_member');
  });

  test('an organization erases one of its users, also while events of theirs arrive', async () => {
    const { client, orgId } = team.member;
    const erase = (by, fields) => by.client.rpc('delete_analytics_person', fields).setHeader('x-org-id', orgId);
    await ok(
      client.rpc('track', { events: [{ type: 'track', event: 'Erased', userId: 'gone', properties: { mail: 'gone@example.test' } }] }),
    );
    const stranger = await anonymous('POST', '/rest/v1/rpc/delete_analytics_person', { body: { user_id: 'gone' } });
    assert.equal(stranger.status, 401, stranger.text);
    await refused(erase(team.nonMember, { user_id: 'gone' }), 403, 'not_a_member');
    await refused(erase(team.viewer, { user_id: 'gone' }), 403, 'permission_denied');
    await refused(erase(team.member, { user_id: 'gone', anonymous_id: 'x' }), 422, 'invalid_input');
    assert.equal(await count('Erased'), 1);
    assert.deepEqual(await ok(erase(team.member, { user_id: 'gone' })), { persons: 1, events: 1, quarantined: 0, complete: true });
    assert.deepEqual(await ok(erase(team.member, { user_id: 'gone' })), { persons: 0, events: 0, quarantined: 0, complete: true });
    assert.equal(await count('Erased'), 0);

    // Each batch makes the person again, or adds to them; none names a person who is gone.
    const batch = (n) =>
      Array.from({ length: 20 }, (_, m) => ({ type: 'track', event: 'Arriving', userId: 'gone', messageId: `${n}-${m}` }));
    const work = Array.from({ length: 24 }, (_, n) =>
      n % 3 === 2
        ? inTurn(() => erase(team.owner, { user_id: 'gone' }))
        : inTurn(async () => {
            const answer = await send('batch', { batch: batch(n) });
            const body = await answer.json();
            return { error: answer.status === 200 ? null : body };
          }),
    );
    for (const answer of await Promise.all(work)) assert.equal(answer.error, null, JSON.stringify(answer));
    const [orphans] = await sql(
      `select count(*)::int as events from public.events as e
       where e.org_id = $1 and not exists (select from public.persons as p where p.org_id = e.org_id and p.id = e.person_id)
         and not exists (select from private.analytics_merges as m where m.organization = e.org_id and m.person_id = e.person_id)`,
      [orgId],
    );
    assert.equal(orphans.events, 0);
    assert.equal((await ok(erase(team.owner, { user_id: 'gone' }))).complete, true);
    assert.equal(await count('Arriving'), 0);
    const entries = await ok(
      team.owner.client.from('audit_log').select('after').eq('org_id', orgId).eq('action', 'analytics.person_deleted').order('created_at'),
    );
    assert.deepEqual(entries[0].after, { persons: 1, events: 1, quarantined: 0 });
    assert.ok(!JSON.stringify(entries).includes('gone'));
  });
});
