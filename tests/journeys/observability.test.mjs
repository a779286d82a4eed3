// Each request of the API is recorded from the proxy's log with its caller and its costs, operators see what the whole does, and an
// alert fires when its cause is there.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { labelsOfMetrics } from '../docs/data.mjs';
import { createKey, withKey } from './api_keys_support.mjs';
import { anonymous, call, newTeam, ok, until } from './domain.mjs';
import { newKey, newVendor, openai, openaiAnswer } from './llm_support.mjs';
import { admin, http, sql } from './support.mjs';

const root = new URL('../..', import.meta.url).pathname;
// The operators' ports of the sidecar, the realtime and the storage service (docs/operations/operator.md).
const operators = [0, 2, 4].map((more) => process.env.SIDECAR_OPERATORS_URL.replace(/\d+$/, (port) => Number(port) + more));

let team;
before(async () => {
  team = await newTeam();
});

/** The record of the request with this id of ours; it is read from the log within a second or two. */
const recorded = (id, person = team.owner) =>
  until(`request ${id}`, async () => (await ok(person.client.from('api_usage').select().eq('org_id', team.orgId).eq('request_id', id)))[0]);

const asOwner = (path, id, more = {}) =>
  http('GET', path, { token: team.owner.token, ...more, headers: { 'x-org-id': team.orgId, 'x-request-id': id, ...more.headers } });

describe('requests', () => {
  test('non-members and unauthenticated callers see none', async () => {
    const id = randomUUID();
    assert.equal((await asOwner('/rest/v1/projects?select=id&name=eq.secret-name', id)).status, 200);
    await recorded(id);
    assert.equal((await anonymous('GET', '/rest/v1/api_usage')).status, 401);
    assert.deepEqual(await ok(team.nonMember.client.from('api_usage').select().eq('org_id', team.orgId)), []);
    for (const name of ['usage_metrics', 'service_levels']) {
      assert.equal((await anonymous('POST', `/rest/v1/rpc/${name}`, { body: {} })).status, 401);
      const nonMember = await call(team.nonMember, name, {}, { 'x-org-id': team.orgId });
      assert.deepEqual([nonMember.status, nonMember.body.code], [403, 'not_a_member'], name);
    }
  });

  test('each has its route, status, time and caller, and no value of the address', async () => {
    const [own, key, refused] = [randomUUID(), randomUUID(), randomUUID()];
    await asOwner('/rest/v1/projects?select=id&name=eq.secret-name', own);
    const made = await createKey(team.owner, { permissions: ['projects:read'] });
    assert.equal((await withKey(made.secret, 'GET', '/projects', { headers: { 'x-request-id': key } })).status, 200);
    assert.equal(
      (
        await withKey(made.secret, 'POST', '/projects', {
          body: { name: 'x' },
          headers: { 'Content-Type': 'application/json', 'x-request-id': refused },
        })
      ).status,
      403,
    );
    const row = await recorded(own);
    assert.deepEqual(
      [row.method, row.route, row.status, row.caller, row.member_id, row.key_id, row.cost_microusd, row.sampled],
      ['GET', '/rest/v1/projects', 200, 'user', team.owner.user.id, null, 0, 1],
    );
    assert.ok(row.duration_ms > 0 && row.duration_ms < 60_000);
    assert.ok(!JSON.stringify(row).includes('secret-name'));
    const byKey = await recorded(key);
    assert.deepEqual([byKey.caller, byKey.key_id, byKey.member_id], ['service_key', made.id, null]);
    const denied = await recorded(refused);
    assert.deepEqual([denied.method, denied.status, denied.key_id], ['POST', 403, made.id], 'a refused request has a caller, too');
  });

  test('a client cannot give its request to another caller', async () => {
    const id = randomUUID();
    // The header of the proxy and a request id that another tenant uses.
    await asOwner('/rest/v1/projects', id, { headers: { 'x-kijko-request': randomUUID() } });
    await http('GET', '/rest/v1/projects', { token: team.nonMember.token, headers: { 'x-request-id': id } });
    assert.equal((await recorded(id)).member_id, team.owner.user.id);
    await until('both', async () => (await sql('select 1 from public.api_usage where request_id = $1', [id])).length === 2);
    const rows = await sql('select org_id, member_id from public.api_usage where request_id = $1', [id]);
    assert.ok(rows.every(({ org_id, member_id }) => (org_id === team.orgId) === (member_id === team.owner.user.id)));
  });

  test('those that the sidecar and storage take have a caller and the costs of their models', async () => {
    const vendor = await newVendor('openai', openaiAnswer);
    const id = randomUUID();
    const client = openai((await newKey(team.owner)).secret, { defaultHeaders: { 'x-request-id': id } });
    await client.chat.completions.create({ model: vendor.model, messages: [{ role: 'user', content: 'Hello' }] });
    const [spent] = await until('the costs', async () =>
      ok(
        team.owner.client.from('llm_calls').select().eq('org_id', team.orgId).eq('requested_model', vendor.model).eq('status', 'succeeded'),
      ),
    );
    const row = await until('the costs of the request', async () => {
      await sql('select private.observability_settle_costs()');
      const found = await recorded(id);
      return found.cost_microusd === null ? null : found;
    });
    assert.deepEqual([row.route, row.caller, row.cost_microusd], ['/llm/v1/chat/completions', 'service_key', spent.cost_microusd]);
    assert.ok(row.cost_microusd > 0);
    assert.equal(spent.request_id, row.id);

    const listed = randomUUID();
    await asOwner('/storage/v1/bucket', listed);
    assert.deepEqual([(await recorded(listed)).route, (await recorded(listed)).caller], ['/storage/v1/bucket', 'user']);
  });

  test('a viewer has figures of all and no rows; operators have the whole platform', async () => {
    const id = randomUUID();
    await http('GET', '/rest/v1/projects', { token: team.viewer.token, headers: { 'x-org-id': team.orgId, 'x-request-id': id } });
    assert.equal((await recorded(id, team.admin)).member_id, team.viewer.user.id);
    assert.deepEqual(await ok(team.viewer.client.from('api_usage').select().eq('org_id', team.orgId)), []);
    const metrics = await ok(team.viewer.client.rpc('usage_metrics'));
    assert.ok(metrics.some(({ route }) => route === '/rest/v1/projects'));
    assert.ok(metrics.reduce((sum, { requests }) => sum + requests, 0) > 1, 'those of colleagues are among them');
    const levels = await ok(team.viewer.client.rpc('service_levels'));
    assert.deepEqual(
      levels.map(({ name }) => name),
      ['request_p95', 'query_p95', 'error_rate', 'job_success', 'publishing_success', 'first_topic', 'article', 'cost_per_user'],
    );
    const whole = await ok(admin().rpc('service_levels'));
    const samples = (list) => list.find(({ name }) => name === 'error_rate').samples;
    assert.ok(samples(whole) > samples(levels) && samples(levels) > 0);
  });
});

test('health says how the database and the queue are, and names nobody', async () => {
  const { status, body } = await http('GET', '/health', { token: null });
  assert.deepEqual([status, Object.keys(body)], [200, ['status', 'version', 'database', 'queue']]);
  assert.ok(body.database.up && body.database.latency_ms > 0);
  assert.deepEqual(Object.keys(body.queue), ['queued', 'running', 'oldest_seconds']);
});

describe('rules and dashboards', () => {
  const rules = () => parse(readFileSync(join(root, 'deploy/prometheus/kijko.rules.yml'), 'utf8'));
  const scrape = async (url) => (await fetch(`${url}/metrics`)).text();

  test('each metric that they use exists', async () => {
    const types = new Map();
    for (const text of await Promise.all(operators.map(scrape))) {
      for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) types.set(name, type);
    }
    // A series without samples is not in the text; the page has exactly the series that there are (sidecar/src/app.rs).
    const documented = labelsOfMetrics();
    const exists = (name) =>
      types.has(name) ||
      documented.has(name) ||
      documented.has(name.replace(/_bucket$/, '')) ||
      types.get(name.replace(/_total$/, '')) === 'counter' ||
      types.get(name.replace(/_(bucket|count|sum)$/, '')) === 'histogram';
    const expressions = rules()
      .groups.flatMap((group) => group.rules)
      .map(({ expr }) => expr);
    for (const name of ['api', 'jobs', 'models', 'machine']) {
      const { panels } = JSON.parse(readFileSync(join(root, `deploy/grafana/kijko-${name}.json`), 'utf8'));
      const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
      assert.ok(queries.length > 5, name);
      expressions.push(...queries);
    }
    const used = new Set(expressions.flatMap((text) => text.match(/\b(?:kijko|process)_[a-z_0-9]+/g) ?? []));
    assert.ok(used.size > 30);
    assert.deepEqual(
      [...used].filter((name) => !exists(name)),
      [],
    );
  });

  test('an alert fires when its cause is there', async () => {
    const kind = `own.alert_${randomUUID().slice(0, 8)}`;
    const series = async () => {
      const found = (await scrape(operators[0])).match(new RegExp(`^(kijko_queue_oldest_seconds\\{kind="${kind}"\\}) (\\S+)$`, 'm'));
      return found && { name: found[1], value: Number(found[2]) };
    };
    assert.equal(await series(), null);
    // A job that nobody takes, due for an hour.
    await sql(`select private.jobs_enqueue($1, $2, '{}', 0::smallint, now() - interval '1 hour')`, [team.orgId, kind]);
    const folder = mkdtempSync(join(tmpdir(), 'kijko-alerts-'));
    try {
      const caused = await until('its series', series);
      assert.ok(caused.value > 3500, String(caused.value));
      writeFileSync(join(folder, 'kijko.rules.yml'), stringify(rules()));
      const evaluated = (value, exp_alerts) => {
        writeFileSync(
          join(folder, 'kijko.test.yml'),
          stringify({
            rule_files: ['kijko.rules.yml'],
            evaluation_interval: '1m',
            tests: [
              {
                interval: '1m',
                input_series: [{ series: caused.name, values: `${value}x10` }],
                alert_rule_test: [{ eval_time: '8m', alertname: 'KijkoQueueOld', exp_alerts }],
              },
            ],
          }),
        );
        execFileSync('promtool', ['test', 'rules', join(folder, 'kijko.test.yml')], { stdio: 'pipe' });
      };
      evaluated(0, []);
      assert.throws(() => evaluated(Math.round(caused.value), []), /FAILED|exp/s, 'it fires');
    } finally {
      rmSync(folder, { recursive: true });
      await sql('delete from public.jobs where org_id = $1 and kind = $2', [team.orgId, kind]);
    }
  });
});
