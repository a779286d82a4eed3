// What supabase-js promises its callers: upserts by every key, embedding, catalogues without a sign-in.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { asWritten, execute, newPerson, newSkill, ok, refused, until, usageOf } from './domain.mjs';
import { api, http, sql } from './support.mjs';

// Every table into which users insert: what a row needs, and what is changed about it.
const WRITABLE = {
  projects: { row: () => ({ name: 'First' }), change: { name: 'Second', description: 'Changed' }, keys: ['org_id,slug', 'org_id,id'] },
  skills: { row: () => ({ name: 'First', prompt_template: 'x' }), change: { name: 'Second', prompt_template: 'y' }, keys: ['org_id,id'] },
  habits: {
    row: ({ skill }) => ({ name: 'First', skill_id: skill.id, cron: '@daily' }),
    change: { name: 'Second', cron: '@weekly' },
    keys: ['org_id,id'],
  },
  project_members: {
    row: ({ project, user }) => ({ project_id: project.id, user_id: user.id }),
    change: { role: 'admin' },
    keys: ['org_id,project_id,user_id'],
  },
  reflexes: { row: ({ skill }) => ({ skill_id: skill.id, name: 'First' }), change: { name: 'Second' }, keys: ['org_id,id'] },
  event_properties: {
    row: () => ({ event_name: 'First', property: 'colour', kind: 'dimension' }),
    change: { kind: 'measure' },
    keys: ['org_id,event_name,property'],
  },
  dashboards: { row: () => ({ name: 'First' }), change: { description: 'Second' }, keys: ['org_id,id', 'org_id,name'] },
  analytics_queries: {
    row: () => ({ name: 'First', kind: 'series', query: { event: 'Ordered', from: { days: 7 } } }),
    change: { name: 'Second' },
    keys: [],
  },
  documents: { row: () => ({ path: 'first.md' }), change: { content: 'Second' }, keys: ['org_id,id', 'org_id,project_id,path'] },
  repositories: {
    row: ({ project }) => ({ project_id: project.id, clone_url: 'https://github.com/acme/app.git' }),
    change: { default_branch: 'second' },
    keys: ['org_id,id', 'org_id,project_id,clone_url'],
  },
  api_keys: {
    row: () => ({ name: 'First', permissions: ['skills:read', 'jobs:read'] }),
    change: { name: 'Second', rate_limit: 7, permissions: ['skills:read'] },
    keys: ['org_id,id'],
  },
  custom_roles: {
    row: () => ({ name: 'First', permissions: ['skills:read'] }),
    change: { description: 'Changed', permissions: ['jobs:read', 'skills:read'] },
    keys: ['org_id,name'],
    // The comparison with the caller's permissions comes before row level security.
    elsewhere: 'permission_denied',
  },
  notification_types: { row: () => ({ name: 'custom.first' }), change: { in_app: false }, keys: ['org_id,name'] },
  webhook_endpoints: {
    row: () => ({ url: 'https://hooks.example.com/', event_types: ['webhook.test'] }),
    change: { description: 'Second' },
    keys: ['org_id,id'],
  },
  billing_details: { row: () => ({ kind: 'consumer', name: 'First', country: 'NL' }), change: { name: 'Second' }, keys: ['org_id'] },
  llm_providers: { row: () => ({ name: 'first', kind: 'openai' }), change: { description: 'Changed' }, keys: ['org_id,id', 'org_id,name'] },
  llm_routes: { row: () => ({ name: 'first', targets: ['echo/a'] }), change: { targets: ['echo/b'] }, keys: ['org_id,name'] },
  llm_budgets: {
    row: () => ({ name: 'First', scope: 'organization', period: 'day', unit: 'tokens', amount: 1 }),
    change: { amount: 2 },
    keys: ['org_id,id', 'org_id,name'],
  },
  feature_flags: { row: () => ({ name: 'first' }), change: { description: 'Second' }, keys: ['org_id,id', 'org_id,name'] },
  flag_segments: { row: () => ({ name: 'First' }), change: { description: 'Second' }, keys: ['org_id,id', 'org_id,name'] },
  flag_strategies: { row: ({ flag }) => ({ flag_id: flag.id, name: 'default' }), change: { title: 'Second' }, keys: ['org_id,id'] },
  flag_constraints: {
    row: ({ segment }) => ({ segment_id: segment.id, context_name: 'userId', operator: 'IN', values: ['a'] }),
    change: { values: ['b'] },
    keys: [],
  },
  flag_variants: {
    row: ({ flag }) => ({ flag_id: flag.id, name: 'first', weight: 1 }),
    change: { weight: 2 },
    keys: ['org_id,flag_id,strategy_id,name'],
  },
  flag_dependencies: {
    row: ({ flag, parent }) => ({ flag_id: flag.id, parent_id: parent.id }),
    change: { enabled: false },
    keys: ['org_id,flag_id,parent_id'],
  },
  topics: { row: () => ({ title: 'First' }), change: { title: 'Second' }, keys: ['org_id,id'] },
  research_sources: {
    row: ({ topic }) => ({ topic_id: topic.id, url: 'https://example.com/first' }),
    change: { title: 'Second' },
    keys: ['org_id,id'],
  },
  blog_comments: { row: ({ post }) => ({ post_id: post.id, body: 'First' }), change: { body: 'Second' }, keys: ['org_id,id'] },
  discoveries: {
    row: () => ({ name: 'First', collector: 'searxng', query: 'first', enabled: false }),
    change: { name: 'Second', collector: 'feed', url: 'https://feeds.example.com/', query: null },
    keys: ['org_id,id'],
  },
  social_posts: { row: () => ({ platform: 'twitter', text: 'First' }), change: { text: 'Second' }, keys: ['org_id,id'] },
  usage_meters: { row: () => ({ event_type: 'built', meter: 'own.built' }), change: { meter: 'own.made' }, keys: ['org_id,event_type'] },
};

describe('upsert', () => {
  let person;
  let other;
  let own;
  let foreign;
  const parents = async (of) => ({
    user: of.user,
    skill: await newSkill(of),
    project: await ok(of.client.from('projects').insert({ name: 'Parent' }).select().single()),
    topic: await ok(of.client.from('topics').insert({ title: 'Parent' }).select().single()),
    post: await ok(of.client.rpc('create_post', { title: 'Parent' })),
    flag: await ok(of.client.from('feature_flags').insert({ name: 'child' }).select().single()),
    segment: await ok(of.client.from('flag_segments').insert({ name: 'Parent' }).select().single()),
    parent: await ok(of.client.from('feature_flags').insert({ name: 'parent' }).select().single()),
  });
  before(async () => {
    [person, other] = await Promise.all([newPerson(), newPerson()]);
    [own, foreign] = await Promise.all([parents(person), parents(other)]);
  });

  test('the cases below cover every table into which users can insert', async () => {
    const tables = await sql(`
      select c.relname as name from pg_class as c
      where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and has_any_column_privilege('authenticated', c.oid, 'insert') order by 1`);
    assert.deepEqual(
      tables.map(({ name }) => name),
      [...Object.keys(WRITABLE), 'profiles'].sort(),
    );
  });

  for (const [table, { row, change, keys, elsewhere = '42501' }] of Object.entries(WRITABLE)) {
    test(`${table}: by id and by each unique key, inserts missing rows and updates existing ones`, async () => {
      const id = randomUUID();
      const made = await ok(
        person.client
          .from(table)
          .upsert({ id, ...row(own) })
          .select()
          .single(),
      );
      assert.equal(made.id, id);
      assert.equal(made.org_id, person.orgId);
      const changed = await ok(
        person.client
          .from(table)
          .upsert({ ...row(own), id, ...change })
          .select()
          .single(),
      );
      assert.deepEqual({ ...changed, ...change }, changed, 'changed by id');
      assert.deepEqual(
        [changed.id, changed.org_id, changed.created_by, changed.created_at],
        [id, person.orgId, made.created_by, made.created_at],
      );
      for (const onConflict of keys) {
        const key = Object.fromEntries(onConflict.split(',').map((name) => [name, made[name]]));
        const again = await ok(
          person.client
            .from(table)
            .upsert({ ...row(own), ...key, ...change }, { onConflict })
            .select()
            .single(),
        );
        assert.deepEqual([again.id, again.created_at], [id, made.created_at], onConflict);
        // supabase-js sends the organization of the request when none is named: it is the column's default.
        const { org_id: _, ...rest } = key;
        if (Object.keys(rest).length > 0)
          assert.equal(
            (
              await ok(
                person.client
                  .from(table)
                  .upsert({ ...row(own), ...rest, ...change }, { onConflict })
                  .select()
                  .single(),
              )
            ).id,
            id,
          );
        await ok(person.client.from(table).upsert({ ...row(own), ...key }, { onConflict, ignoreDuplicates: true }));
      }
      assert.equal((await ok(person.client.from(table).select('id').eq('org_id', person.orgId).eq('id', id))).length, 1);
      await ok(person.client.from(table).delete().eq('id', id));
    });

    test(`${table}: neither changes nor moves a row of another organization`, async () => {
      const made = await ok(person.client.from(table).insert(row(own)).select().single());
      const stolen = { ...row(foreign), ...change, id: made.id };
      await refused(other.client.from(table).upsert(stolen), 403, '42501');
      await refused(other.client.from(table).upsert({ ...stolen, org_id: person.orgId }), 403, elsewhere);
      await refused(person.client.from(table).update({ id: randomUUID() }).eq('id', made.id), 403, 'permission_denied');
      await refused(person.client.from(table).update({ org_id: other.orgId }).eq('id', made.id), 403, 'permission_denied');
      assert.deepEqual(asWritten(await ok(person.client.from(table).select().eq('id', made.id).single())), asWritten(made));
      await ok(person.client.from(table).delete().eq('id', made.id));
    });
  }

  test("profiles: changes only the caller's own", async () => {
    const profiles = person.client.from('profiles');
    const mine = { id: person.user.id, display_name: 'Ada L.' };
    const changed = await ok(
      profiles
        .upsert({ ...mine, avatar_url: 'https://example.com/ada.png' })
        .select()
        .single(),
    );
    assert.deepEqual([changed.id, changed.display_name, changed.avatar_url], [mine.id, 'Ada L.', 'https://example.com/ada.png']);
    assert.equal((await ok(profiles.upsert(mine).select().single())).avatar_url, changed.avatar_url, 'what is not named stays');
    for (const id of [other.user.id, randomUUID()]) await refused(profiles.upsert({ ...mine, id }), 403, '42501');
    await refused(profiles.upsert({ ...mine, email: 'else@example.com' }), 403, '42501');
    await refused(profiles.update({ id: randomUUID() }).eq('id', mine.id), 403, 'permission_denied');
    await refused(profiles.insert(mine), 409, '23505');
  });

  test('of existing rows does not count against the plan; with one row too many it changes nothing', async () => {
    const full = await newPerson();
    const rows = await ok(
      full.client
        .from('projects')
        .insert([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
        .select('id, name'),
    );
    const renamed = rows.map(({ id, name }) => ({ id, name: `${name}!` }));
    await ok(full.client.from('projects').upsert(renamed));
    assert.equal((await usageOf(full)).projects.used, 3);
    await refused(full.client.from('projects').upsert([...rows, { id: randomUUID(), name: 'd' }]), 429, 'quota_exceeded');
    const names = await ok(full.client.from('projects').select('name').eq('org_id', full.orgId).order('name'));
    assert.deepEqual(
      names.map(({ name }) => name),
      ['a!', 'b!', 'c!'],
    );
    await ok(full.client.from('projects').delete().eq('id', rows[0].id));
    await ok(full.client.from('projects').upsert([renamed[1], { id: randomUUID(), name: 'd' }]));
    assert.equal((await usageOf(full)).projects.used, 3);
  });
});

describe('embedding', () => {
  test('an execution embeds the execution that it retries, and its retries', async () => {
    const [person, nonMember] = [await newPerson(), await newPerson()];
    const skill = await newSkill(person);
    const first = await ok(execute(person, skill.id, {}));
    // The template asks for what this input lacks.
    await until(
      'the failure',
      async () => (await ok(person.client.from('executions').select('status').eq('id', first.id).single())).status === 'failed',
    );
    const second = await ok(person.client.rpc('retry_execution', { id: first.id }));
    const rows = await ok(
      person.client
        .from('executions')
        .select('id, retried_execution(id, status), retries(id)')
        .eq('org_id', person.orgId)
        .in('id', [first.id, second.id])
        .order('created_at'),
    );
    assert.deepEqual(rows, [
      { id: first.id, retried_execution: null, retries: [{ id: second.id }] },
      { id: second.id, retried_execution: { id: first.id, status: 'failed' }, retries: [] },
    ]);
    assert.deepEqual(await ok(nonMember.client.from('executions').select('id, retried_execution(id)').eq('id', second.id)), []);
  });
});

test('a subscription embeds its plan and a plan its subscriptions, also when an operator has set the plan', async () => {
  const person = await newPerson();
  await sql(`update public.subscriptions set plan_override = 'PRO' where org_id = $1`, [person.orgId]);
  assert.deepEqual(await ok(person.client.from('subscriptions').select('plans(name)').eq('org_id', person.orgId).single()), {
    plans: { name: 'Pro' },
  });
  const pro = await ok(person.client.from('plans').select('subscriptions(org_id)').eq('code', 'PRO').single());
  assert.deepEqual(pro.subscriptions, [{ org_id: person.orgId }]);
});

describe('without signing in', () => {
  test('the API describes itself, with the functions that anybody can call', async () => {
    const { status, body } = await http('GET', '/rest/v1/');
    assert.equal(status, 200);
    assert.ok(body.paths['/plans']);
    assert.equal(body.paths['/rpc/invite_member'], undefined);
  });

  test('plans, their limits and model prices can be read and not written', async () => {
    const plans = await ok(api().from('plans').select('code, rate_per_minute, plan_limits(meter, amount)').eq('code', 'FREE').single());
    assert.equal(plans.plan_limits.find(({ meter }) => meter === 'executions').amount, 50);
    assert.ok((await ok(api().from('llm_models').select('id, input_microusd_per_mtok'))).length > 0);
    await refused(api().from('plans').insert({ code: 'MINE', name: 'Mine', rank: 99, rate_per_minute: 1 }), 401, '42501');
    await refused(api().from('plan_limits').update({ amount: null }).eq('plan', 'FREE'), 401, '42501');
    await refused(api().from('llm_models').delete().eq('id', 'echo/*'), 401, '42501');
  });
});
