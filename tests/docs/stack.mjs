// The running stack as the documentation's examples use it: new users, and the names of functions, tables, settings and metrics.
import { ok } from '../journeys/domain.mjs';
import { admin, adminSql, env, newUser, sql } from '../journeys/support.mjs';
import { labelsOfMetrics } from './data.mjs';

// supabase-js wants the class before Node.js 22, and opens no socket until a channel is joined.
globalThis.WebSocket ??= class {
  constructor() {
    throw new Error('the examples open no realtime channel');
  }
};

/** A new owner with an organization on PRO, a project and a skill; and Bob, who is not a member. */
async function person() {
  const owner = await newUser({ display_name: 'Ada' });
  const bob = await newUser({ display_name: 'Bob' });
  const { client } = owner;
  const { active_org_id: orgId } = await ok(client.from('profiles').select('active_org_id').eq('id', owner.user.id).single());
  await ok(admin().from('subscriptions').update({ plan: 'PRO' }).eq('org_id', orgId).select().single());
  const project = await ok(client.from('projects').insert({ name: 'Release notes' }).select().single());
  const skill = await ok(
    client
      .from('skills')
      .insert({
        project_id: project.id,
        name: 'Summarise changes',
        prompt_template: 'Summarise in one sentence: {{ changes }}',
        input_schema: { type: 'object', properties: { changes: { type: 'string' } }, required: ['changes'] },
        model: 'echo/echo',
      })
      .select()
      .single(),
  );
  const ids = { orgId, userId: owner.user.id, bobId: bob.user.id, projectId: project.id, skillId: skill.id };
  const { API_URL, ANON_KEY, SERVICE_ROLE_KEY, DB_URL, ADMIN_DB_URL } = env;
  const clients = { supabase: client, bob: bob.client, service: admin() };
  return {
    given: { ...clients, ...ids, API_URL, ANON_KEY, SERVICE_ROLE_KEY, email: `new-${owner.email}`, password: owner.password },
    values: { org: orgId, user: ids.userId, other_user: ids.bobId, project: project.id, skill: skill.id },
    claims: JSON.parse(Buffer.from(owner.session.access_token.split('.')[1], 'base64url').toString()),
    shell: {
      API_URL,
      ANON_KEY,
      SERVICE_ROLE_KEY,
      DB_URL,
      ADMIN_DB_URL,
      ACCESS_TOKEN: owner.session.access_token,
      SKILL_ID: skill.id,
      ORG_ID: orgId,
      ...(process.env.TEST_HOME && { KIJKO_HOME: process.env.TEST_HOME, KIJKO_API_PORT: process.env.TEST_PORT }),
    },
  };
}

const names = (rows) => new Set(rows.map(({ name }) => name));

async function knownNames() {
  const functions = await sql(`select distinct proname as name from pg_proc where pronamespace = 'public'::regnamespace`);
  const tenantTables = await sql(`
    select c.relname as name from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attname = 'org_id' and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')`);
  const settings = await adminSql('select name from pg_settings');
  return {
    functions: names(functions),
    settings: names(settings),
    tenantTables: names(tenantTables),
    labelsOf: labelsOfMetrics(),
  };
}

export const stack = { env, person, known: await knownNames() };
