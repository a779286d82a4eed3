// Providers, routes and budgets of an organization, as a client sets them, and what a call leaves behind. The gateway itself has
// tests of its own.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { anonymous, assertAnonymousSeesNothing, newPerson, newTeam, ok, refused } from './domain.mjs';
import { sql } from './support.mjs';

const TABLES = ['llm_providers', 'llm_routes', 'llm_budgets', 'llm_settings', 'llm_calls', 'llm_call_contents'];
const authorize = (client, body) =>
  client.rpc('authorize_llm_call', { model: 'echo/echo', input_tokens: 100, max_output_tokens: 100, ...body });
/** What the sidecar does with a ticket. */
const open = async (ticket) => (await sql('select private.llm_open($1) as call', [ticket]))[0].call;
const settle = async (id, usage) => (await sql('select private.llm_settle($1, $2) as settled', [id, usage]))[0].settled;
const states = (person, orgId) =>
  ok(person.client.rpc('llm_budget_usage').select('name, used, held, remaining, resets_at').setHeader('x-org-id', orgId));

describe('llm', () => {
  test('an unauthenticated caller and a non-member see and do nothing', async () => {
    const [owner, stranger] = await Promise.all([newPerson(), newPerson()]);
    await assertAnonymousSeesNothing(TABLES);
    for (const [name, body] of [
      ['authorize_llm_call', { model: 'echo/echo' }],
      ['list_llm_models', {}],
      ['llm_budget_usage', {}],
      ['set_llm_settings', {}],
      ['set_llm_provider_key', { provider_id: owner.orgId, key: 'x' }],
    ]) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
      await refused(stranger.client.rpc(name, body).setHeader('x-org-id', owner.orgId), 403, 'not_a_member');
    }
    for (const table of TABLES) assert.deepEqual(await ok(stranger.client.from(table).select().eq('org_id', owner.orgId)), []);
  });

  test('a call holds against the budgets, is settled once, and is recorded', async () => {
    const team = await newTeam();
    const { client, user } = team.member;
    await refused(
      client.from('llm_budgets').insert({ org_id: team.orgId, name: 'x', scope: 'organization', period: 'day', unit: 'tokens', amount: 1 }),
      403,
      '42501',
    );
    await ok(
      team.admin.client
        .from('llm_budgets')
        .insert({ org_id: team.orgId, name: 'All', scope: 'organization', period: 'day', unit: 'tokens', amount: 500 })
        .select(),
    );
    const { ticket } = await ok(authorize(client).setHeader('x-org-id', team.orgId));
    const { call_id: id, targets } = await open(ticket);
    assert.deepEqual([targets[0].kind, targets[0].max_output_tokens], ['echo', 100]);
    const [held] = await states(team.viewer, team.orgId);
    assert.deepEqual([held.used, held.held, held.remaining], [0, 200, 300]);
    const refusal = await refused(authorize(client, { input_tokens: 201 }).setHeader('x-org-id', team.orgId), 429, 'budget_exceeded');
    assert.match(
      refusal.details,
      /^budget All \([0-9a-f-]{36}\): used 200 of 500 tokens, asked for 301; resets at \d{4}-\d\d-\d\dT00:00:00Z$/,
    );

    const usage = { status: 'succeeded', prompt_tokens: 40, completion_tokens: 10, model: 'echo', total_ms: 5 };
    assert.deepEqual(await settle(id, usage), { tokens: 50, estimated: false, cost_microusd: 12 });
    assert.equal(await settle(id, usage), null);
    const [call] = await ok(
      team.viewer.client
        .from('llm_calls')
        .select('id, status, member_id, input_tokens, output_tokens, cost_microusd')
        .eq('org_id', team.orgId),
    );
    assert.deepEqual(call, { id, status: 'succeeded', member_id: user.id, input_tokens: 40, output_tokens: 10, cost_microusd: 12 });
    const [settled] = await states(team.viewer, team.orgId);
    assert.deepEqual([settled.used, settled.held, settled.remaining], [50, 0, 450]);
    assert.equal(
      (await ok(client.rpc('usage_by', { dimension: 'member', only_meter: 'llm_tokens' }).setHeader('x-org-id', team.orgId)))[0].used,
      50,
    );
  });

  test('a key calls with its permission, within the budget of its own', async () => {
    const owner = await newPerson();
    const key = await createKey(owner, { permissions: ['llm:call'] });
    const calls = keyClient(key.secret);
    await ok(
      owner.client
        .from('llm_budgets')
        .insert({ org_id: owner.orgId, name: 'Key', scope: 'key', key_id: key.id, period: 'hour', unit: 'microusd', amount: 100 })
        .select(),
    );
    // 100 tokens in and 100 out cost 75.
    await ok(authorize(calls));
    await refused(authorize(calls), 429, 'budget_exceeded');
    await ok(authorize(owner.client));
    const reads = keyClient((await createKey(owner, { permissions: ['*:read', '*:write'] })).secret);
    await refused(authorize(reads), 403, 'permission_denied');
    await refused(reads.rpc('set_llm_settings', { record_content: true }), 403, 'permission_denied');
  });

  test('the key of a provider is never given back', async () => {
    const owner = await newPerson();
    const provider = await ok(
      owner.client.from('llm_providers').insert({ org_id: owner.orgId, name: 'own', kind: 'openai' }).select().single(),
    );
    const set = await ok(owner.client.rpc('set_llm_provider_key', { provider_id: provider.id, key: 'sk-never-shown' }));
    const listed = await ok(owner.client.from('llm_providers').select().eq('org_id', owner.orgId));
    assert.ok(set.key_set_at && !JSON.stringify([set, listed]).includes('never-shown'));
    const { ticket } = await ok(authorize(owner.client, { model: 'own/some-model' }));
    assert.ok(!ticket.includes('never-shown'));
    const { targets } = await open(ticket);
    assert.deepEqual([targets[0].key, targets[0].own_key, targets[0].base_url], ['sk-never-shown', true, 'https://api.openai.com/v1']);
    const trail = await sql(`select after from public.audit_log where org_id = $1 and target_type = 'llm_provider'`, [owner.orgId]);
    assert.ok(trail.length > 0 && !JSON.stringify(trail).includes('never-shown'));
  });
});
