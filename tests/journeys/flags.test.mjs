// Flags as programs use them: Unleash's own clients and OpenFeature's provider, by publishable keys, and what each caller may.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';
import { initialize } from 'unleash-client';
import { UnleashClient } from 'unleash-proxy-client';
import { createKey } from './api_keys_support.mjs';
import { anonymous, assertAnonymousSeesNothing, newTeam, ok, refused, setPlan, transaction, until } from './domain.mjs';
import { adminSql, env, http, sql } from './support.mjs';

const BASE = '/api/v1/flags';
const ORIGIN = 'https://shop.example';
const TABLES = [
  'feature_flags',
  'flag_environments',
  'flag_segments',
  'flag_strategies',
  'flag_constraints',
  'flag_variants',
  'flag_dependencies',
  'flag_evaluations',
  'flag_changes',
  'flag_applications',
];
const rpc = (person, name, body) => person.client.rpc(name, body).setHeader('x-org-id', person.orgId);
const byKey = (secret, method, path, options = {}) =>
  http(method, `${BASE}/${path}`, {
    ...options,
    headers: { Authorization: secret, Origin: ORIGIN, 'Content-Type': 'application/json', ...options.headers },
  });
const change = (person, flag, environment, to) => ok(rpc(person, 'change_flag', { flag, environment, change: to }));

describe('flags', () => {
  let team;
  // Of a page, and of a program that needs no page.
  let secret;
  let server;
  const toggles = async (query, options) => {
    const answer = await byKey(secret, 'GET', `frontend?${new URLSearchParams(query)}`, options);
    assert.equal(answer.status, 200, answer.text);
    return Object.fromEntries(answer.body.toggles.map((toggle) => [toggle.name, toggle]));
  };
  before(async () => {
    team = await newTeam();
    const key = await createKey(team.owner, { kind: 'publishable', permissions: ['flags:evaluate'], origins: [ORIGIN], rate_limit: 6000 });
    secret = key.secret;
    server = (await createKey(team.owner, { permissions: ['flags:evaluate'], rate_limit: 6000 })).secret;
    const flags = await ok(
      team.member.client
        .from('feature_flags')
        .insert(
          [
            { name: 'checkout', org_id: team.orgId },
            { name: 'half', org_id: team.orgId },
            { name: 'colour', org_id: team.orgId },
            { name: 'pro', org_id: team.orgId, required_plans: ['PRO'] },
            { name: 'pattern', org_id: team.orgId },
          ],
          { defaultToNull: false },
        )
        .select(),
    );
    const id = (name) => flags.find((flag) => flag.name === name).id;
    await ok(
      team.member.client.from('flag_variants').insert([
        {
          org_id: team.orgId,
          flag_id: id('colour'),
          name: 'blue',
          weight: 1,
          payload: { type: 'string', value: '#00f' },
          overrides: [{ contextName: 'userId', values: ['b'] }],
        },
        {
          org_id: team.orgId,
          flag_id: id('colour'),
          name: 'red',
          weight: 1,
          payload: { type: 'string', value: '#f00' },
          overrides: [{ contextName: 'userId', values: ['r'] }],
        },
      ]),
    );
    const segment = await ok(
      rpc(team.member, 'set_flag_segment', { name: 'beta', constraints: [{ contextName: 'group', operator: 'IN', values: ['beta'] }] }),
    );
    const strategies = await ok(
      team.member.client
        .from('flag_strategies')
        .insert([
          { org_id: team.orgId, flag_id: id('checkout'), name: 'default', segment_ids: [segment.id], parameters: {} },
          {
            org_id: team.orgId,
            flag_id: id('half'),
            name: 'flexibleRollout',
            parameters: { rollout: '50', stickiness: 'userId', groupId: 'half' },
            segment_ids: [],
          },
          { org_id: team.orgId, flag_id: id('pattern'), name: 'default', parameters: {}, segment_ids: [] },
        ])
        .select(),
    );
    const pattern = strategies.find((strategy) => strategy.flag_id === id('pattern'));
    await ok(
      team.member.client
        .from('flag_constraints')
        .insert({ org_id: team.orgId, strategy_id: pattern.id, context_name: 'email', operator: 'REGEX', value: '@example\\.com$' }),
    );
    const embedded = await ok(
      team.viewer.client
        .from('feature_flags')
        .select('flag_variants(name), flag_strategies(name, flag_constraints(operator), flag_variants(name))')
        .eq('org_id', team.orgId)
        .eq('name', 'pattern')
        .single(),
    );
    assert.deepEqual(embedded, {
      flag_variants: [],
      flag_strategies: [{ name: 'default', flag_constraints: [{ operator: 'REGEX' }], flag_variants: [] }],
    });
    for (const flag of ['checkout', 'half', 'colour', 'pro', 'pattern']) await change(team.member, flag, 'production', { enabled: true });
  });

  test('unauthenticated callers and non-members see and do nothing', async () => {
    await assertAnonymousSeesNothing(TABLES);
    for (const table of TABLES) assert.deepEqual(await ok(team.nonMember.client.from(table).select().eq('org_id', team.orgId)), []);
    for (const [method, path] of [
      ['GET', 'client/features'],
      ['GET', 'frontend'],
      ['POST', 'frontend'],
      ['POST', 'client/metrics'],
      ['POST', 'ofrep/v1/evaluate/flags'],
      ['POST', 'ofrep/v1/evaluate/flags/checkout'],
    ]) {
      const body = method === 'POST' ? {} : undefined;
      assert.equal((await anonymous(method, `${BASE}/${path}`, { body })).status, 401, path);
      const stranger = { token: team.nonMember.token, headers: { 'x-org-id': team.orgId }, body };
      assert.equal((await http(method, `${BASE}/${path}`, stranger)).status, 403, path);
    }
    const elsewhere = await byKey(secret, 'GET', 'frontend', { headers: { Origin: 'https://evil.example' } });
    assert.deepEqual([elsewhere.status, elsewhere.body.code], [401, 'not_identified']);
    const wrong = await byKey(secret, 'GET', 'environments/nowhere/frontend');
    assert.deepEqual([wrong.status, wrong.body.code], [404, 'not_found']);
    // A key of another organization sees that one's flags, of which there are none.
    const { secret: foreign } = await createKey(team.nonMember, { permissions: ['flags:evaluate'] });
    assert.deepEqual((await byKey(foreign, 'GET', 'frontend?group=beta')).body, { toggles: [] });
    const { secret: reader } = await createKey(team.owner, { permissions: ['skills:read'] });
    assert.equal((await byKey(reader, 'GET', 'frontend')).status, 403);
    await refused(
      rpc(team.viewer, 'change_flag', { flag: 'half', environment: 'production', change: { enabled: false } }),
      403,
      'permission_denied',
    );
  });

  test('the frontend gets what is on for a context, and a change counts at once', async () => {
    assert.deepEqual(Object.keys(await toggles({ userId: 'b' })), ['colour', ...((await toggles({ userId: 'b' })).half ? ['half'] : [])]);
    assert.ok((await toggles({ 'properties[group]': 'beta' })).checkout);
    assert.ok((await toggles({ email: 'a@example.com' })).pattern);
    assert.deepEqual((await toggles({ userId: 'r' })).colour, {
      name: 'colour',
      enabled: true,
      impressionData: false,
      variant: { name: 'red', enabled: true, feature_enabled: true, payload: { type: 'string', value: '#f00' } },
    });
    assert.deepEqual((await byKey(secret, 'GET', 'environments/development/frontend?userId=b')).body, { toggles: [] });
    const on = await Promise.all(Array.from({ length: 40 }, (_, n) => toggles({ userId: `user-${n}` })));
    const half = on.filter((found) => found.half).length;
    assert.ok(half > 8 && half < 32, `${half} of 40`);
    await change(team.member, 'colour', 'production', { enabled: false });
    assert.equal((await toggles({ userId: 'b' })).colour, undefined);
    await change(team.member, 'colour', 'production', { enabled: true });
    assert.ok((await toggles({ userId: 'b' })).colour);
  });

  test('a plan decides, whatever the context says', async () => {
    assert.equal((await toggles({ plan: 'PRO', 'properties[plan]': 'PRO' })).pro, undefined);
    await setPlan(team.orgId, 'PRO');
    assert.ok((await toggles({ plan: 'FREE' })).pro);
  });

  test('unleash-client evaluates by itself, polls by ETag, and reports', async () => {
    const unleash = initialize({
      url: `${env.API_URL}${BASE}/`,
      appName: 'shop',
      customHeaders: { Authorization: server },
      refreshInterval: 200,
      metricsInterval: 300,
      disableMetrics: false,
    });
    // The client's own timers do not keep the process waiting.
    const alive = setInterval(() => {}, 1000);
    try {
      await new Promise((resolve, reject) => {
        unleash.once('synchronized', resolve);
        unleash.once('error', reject);
      });
      assert.equal(unleash.isEnabled('checkout', { properties: { group: 'beta' } }), true);
      assert.equal(unleash.isEnabled('checkout', { properties: { group: 'x' } }), false);
      assert.equal(unleash.isEnabled('pattern', { properties: { email: 'a@example.com' } }), true);
      assert.equal(unleash.getVariant('colour', { userId: 'r' }).name, 'red');
      const here = await toggles({ userId: 'user-7' });
      assert.equal(unleash.isEnabled('half', { userId: 'user-7' }), here.half !== undefined, 'both answer the same');
      await new Promise((resolve) => unleash.once('unchanged', resolve));
      await change(team.member, 'checkout', 'production', { enabled: false });
      await until('the change at the client', () => !unleash.isEnabled('checkout', { properties: { group: 'beta' } }));
      await change(team.member, 'checkout', 'production', { enabled: true });
      const rows = await until('the report', async () => {
        const found = await ok(
          team.viewer.client.from('flag_evaluations').select('yes, no, variants, feature_flags!inner(name)').eq('org_id', team.orgId),
        );
        const colour = found.find((row) => row.feature_flags.name === 'colour');
        return colour?.variants.red === 1 && found;
      });
      const pattern = rows.find((row) => row.feature_flags.name === 'pattern');
      assert.deepEqual([pattern.yes, pattern.no], [1, 0]);
      const [program] = await ok(team.viewer.client.from('flag_applications').select().eq('org_id', team.orgId).eq('app_name', 'shop'));
      assert.match(program.sdk_version, /^unleash-/);
      assert.ok(program.instance_id && program.strategies.includes('flexibleRollout'));
      assert.deepEqual(program.unknown_strategies, []);
    } finally {
      clearInterval(alive);
      unleash.destroy();
    }
  });

  test('unleash-proxy-client shows what is on', async () => {
    const proxy = new UnleashClient({
      url: `${env.API_URL}${BASE}/frontend`,
      clientKey: secret,
      appName: 'page',
      fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, Origin: ORIGIN } }),
      createAbortController: () => new AbortController(),
      disableMetrics: true,
      disableRefresh: true,
      context: { userId: 'b', properties: { group: 'beta' } },
    });
    await proxy.start();
    assert.equal(proxy.isEnabled('checkout'), true);
    assert.equal(proxy.getVariant('colour').payload.value, '#00f');
    assert.equal(proxy.isEnabled('pro-x'), false);
    proxy.stop();
  });

  test("OpenFeature's provider evaluates one flag at a time, and is counted", async () => {
    await OpenFeature.setProviderAndWait(
      'flags',
      new OFREPProvider({ baseUrl: `${env.API_URL}${BASE}`, headers: { Authorization: server } }),
    );
    const client = OpenFeature.getClient('flags');
    assert.equal(await client.getBooleanValue('checkout', false, { targetingKey: 'u', group: 'beta' }), true);
    assert.equal(await client.getBooleanValue('checkout', true, { targetingKey: 'u' }), false);
    const colour = await client.getStringDetails('colour', 'none', { targetingKey: 'r' });
    assert.deepEqual([colour.value, colour.variant, colour.reason], ['#f00', 'red', 'TARGETING_MATCH']);
    assert.equal((await client.getBooleanDetails('missing', true, {})).errorCode, 'FLAG_NOT_FOUND');
    await OpenFeature.close();
    const all = await byKey(secret, 'POST', 'ofrep/v1/evaluate/flags', { body: { context: { targetingKey: 'b' } } });
    const tag = all.headers.get('etag');
    const again = await byKey(secret, 'POST', 'ofrep/v1/evaluate/flags', {
      body: { context: { targetingKey: 'b' } },
      headers: { 'If-None-Match': tag },
    });
    assert.deepEqual([all.status, again.status], [200, 304]);
    for (const [body, code] of [
      ['{', 'PARSE_ERROR'],
      ['{"context": 1}', 'INVALID_CONTEXT'],
    ]) {
      const bad = await byKey(secret, 'POST', 'ofrep/v1/evaluate/flags/colour', { body });
      assert.deepEqual([bad.status, bad.body.errorCode], [400, code]);
    }
    await until('the count of the sidecar', async () => {
      const found = await ok(
        team.viewer.client.from('flag_evaluations').select('yes, no, feature_flags!inner(name)').eq('feature_flags.name', 'checkout'),
      );
      return found.length > 0 && found[0].yes > 0 && found[0].no > 0;
    });
  });

  test('a protected environment needs a second person', async () => {
    await ok(rpc(team.owner, 'set_flag_environment', { name: 'staging', protected: true }));
    const asked = await change(team.member, 'half', 'staging', { enabled: true });
    assert.equal(asked.applied, false);
    assert.deepEqual((await byKey(secret, 'GET', 'environments/staging/frontend')).body.toggles, []);
    await ok(team.owner.client.rpc('approve_change', { approval_id: asked.approval_id }));
    const { body } = await byKey(secret, 'GET', 'environments/staging/frontend');
    assert.deepEqual(
      body.toggles.map(({ name }) => name),
      ['half'],
    );
  });

  test('hostile input is refused, and harms nobody', async () => {
    for (const [path, body, status] of [
      ['frontend', '[]', 400],
      ['frontend', '{"context": []}', 400],
      ['frontend', '{"userId": "\\u0000"}', 400],
      ['frontend', JSON.stringify({ properties: { email: 'x'.repeat(1_001) } }), 400],
      ['client/metrics', '{"bucket": {"toggles": []}}', 400],
      ['client/metrics', '{"bucket": []}', 400],
      ['client/metrics', `{"bucket": {"toggles": {"${randomUUID()}": {"yes": -1}, "half": {"yes": "x", "variants": {"a": 1e300}}}}}`, 202],
      ['client/metrics', '{}', 202],
      ['client/register', '{}', 202],
      ['client/register', '[]', 400],
      ['client/register', '{"appName": "page", "strategies": ["ours"]}', 202],
      ['environments/nowhere/client/register', '{"appName": "page"}', 404],
      ['frontend', JSON.stringify({ context: { userId: 'x'.repeat(110_000) } }), 413],
      [
        'frontend',
        JSON.stringify({ context: { properties: Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`p${n}`, 'x'])) } }),
        200,
      ],
    ]) {
      const answer = await byKey(secret, 'POST', path, { body });
      assert.equal(answer.status, status, `${path} ${body.slice(0, 80)}: ${answer.text}`);
    }
    const kept = await ok(team.viewer.client.from('flag_applications').select('app_name').eq('org_id', team.orgId).eq('app_name', 'page'));
    assert.deepEqual(kept, [], 'a publishable key, which everybody has, fills no list');
  });

  test('an entity tag is of one organization and environment', async () => {
    const tagOf = async (key, path, known) => {
      const answer = await byKey(key, 'GET', path, { headers: known ? { 'If-None-Match': known } : {} });
      return [answer.status, answer.headers.get('etag')];
    };
    const [, tag] = await tagOf(server, 'client/features');
    assert.deepEqual(await tagOf(server, 'client/features', tag), [304, tag]);
    assert.equal((await tagOf(server, 'environments/development/client/features', tag))[0], 200, 'not of another environment');
    const { secret: foreign } = await createKey(team.nonMember, { permissions: ['flags:evaluate'] });
    assert.equal((await tagOf(foreign, 'client/features', tag))[0], 200, 'nor of another organization');
  });

  test("evaluations of the platform's flags in SQL are counted, also in a READ ONLY transaction that rolls back", async () => {
    const flag = `counted-${randomUUID()}`;
    const [{ id }] = await sql('insert into public.feature_flags (org_id, name) values (kijko.platform_org_id(), $1) returning id', [flag]);
    try {
      const change = { enabled: true, strategies: [{ name: 'userWithId', parameters: { userIds: 'ada' } }] };
      await sql(`select private.flags_apply(f, 'production', $2) from public.feature_flags as f where f.id = $1`, [id, change]);
      const rollback = new Error('rolled back');
      await transaction(async (query) => {
        await query('set transaction read only');
        await query(
          `select kijko.flag_enabled($1, jsonb_build_object('userId', u.name)) from unnest('{ada,bob,bob}'::text[]) as u (name)`,
          [flag],
        );
        throw rollback;
      }).catch((error) => assert.equal(error, rollback));
      // The worker writes them within a second, and a job takes them each minute.
      const counted = `
        select sum(c.yes)::integer as yes, sum(c.no)::integer as no
        from (
          select e.yes, e.no from kijko.flag_evaluations as e where e.flag = $1
          union all
          select e.yes, e.no from public.flag_evaluations as e join public.feature_flags as f on f.id = e.flag_id where f.name = $1
        ) as c`;
      const found = await until('the count', async () => {
        const [row] = await adminSql(counted, [flag]);
        return row.yes !== null && row;
      });
      assert.deepEqual(found, { yes: 1, no: 2 });
      const kept = await until('the row', async () => {
        await adminSql('select private.flags_collect()');
        return (await sql('select yes::integer, no::integer from public.flag_evaluations where flag_id = $1', [id]))[0];
      });
      assert.deepEqual(kept, { yes: 1, no: 2 });
    } finally {
      await sql('delete from public.feature_flags where id = $1', [id]);
    }
  });
});
