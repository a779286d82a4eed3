// What an app does with supabase-js, from sign-up to sign-out, in whatever runs JavaScript. Imports nothing, so that a browser
// can load it as it is; runtimes.test.mjs gives it a createClient and looks at what it returns.

function equal(got, wanted, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: got ${a}, not ${b}`);
}

async function ok(request, what) {
  const { data, error, count } = await request;
  if (error) throw new Error(`${what}: ${JSON.stringify(error)} ${error.message}`);
  return count ?? data;
}

async function refused(request, code, what) {
  const { error } = await request;
  equal(error?.code, code, what);
}

/** Login hashes few passwords of a network at once and refuses the others. A client that is refused tries again. */
async function inTurn(request) {
  for (const until = Date.now() + 30_000; ; ) {
    const answer = await request();
    if (answer.error?.code !== 'over_request_rate_limit' || Date.now() > until) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const steps = {
  async 'signs up and knows itself'(app) {
    const email = `runtime-${crypto.randomUUID()}@example.com`;
    app.credentials = { email, password: `pw-${crypto.randomUUID()}` };
    await refused(app.client.from('projects').select(), '42501', 'unauthenticated');
    const { session, user } = await ok(
      inTurn(() => app.client.auth.signUp({ ...app.credentials, options: { data: { display_name: 'Ünï 🦀' } } })),
      'sign-up',
    );
    equal(Boolean(session.access_token), true, 'session');
    equal((await ok(app.client.auth.getUser(), 'getUser')).user.id, user.id, 'getUser');
    const profile = await ok(app.client.from('profiles').select('display_name, active_org_id').eq('id', user.id).single(), 'profile');
    equal(profile.display_name, 'Ünï 🦀', 'display name');
    app.orgId = profile.active_org_id;
  },

  async 'writes and reads rows'(app) {
    const { client, orgId } = app;
    const project = await ok(client.from('projects').insert({ name: 'Ré 1' }).select().single(), 'insert');
    equal(project.org_id, orgId, 'organization');
    await ok(client.from('projects').upsert({ id: project.id, name: 'Ré 2' }), 'upsert by id');
    await ok(client.from('projects').upsert({ slug: project.slug, name: 'Ré 3' }, { onConflict: 'org_id,slug' }), 'upsert by key');
    equal(
      await ok(client.from('projects').update({ description: 'd' }).eq('id', project.id).select('name, description').single(), 'update'),
      { name: 'Ré 3', description: 'd' },
      'update',
    );
    equal(await ok(client.from('projects').select('*', { count: 'exact', head: true }).eq('org_id', orgId), 'count'), 1, 'count');
    await refused(client.from('projects').select().eq('id', crypto.randomUUID()).single(), 'PGRST116', 'no row');
    await refused(client.from('projects').insert({ name: ' ' }), '23514', 'a check');
    app.project = project;
  },

  async 'runs a skill and embeds what belongs to it'({ client, orgId, project }) {
    const skill = await ok(
      client.from('skills').insert({ name: 's', prompt_template: '{{ text }}', project_id: project.id }).select().single(),
      'skill',
    );
    const key = crypto.randomUUID();
    const run = await ok(client.rpc('execute_skill', { skill_id: skill.id, input: { text: 'hi' }, idempotency_key: key }), 'execute_skill');
    equal(
      (await ok(client.rpc('execute_skill', { skill_id: skill.id, input: { text: 'hi' }, idempotency_key: key }), 'again')).id,
      run.id,
      'idempotency',
    );
    const rows = await ok(
      client
        .from('executions')
        .select('id, skills(name, projects(name)), retried_execution(id)')
        .eq('org_id', orgId)
        .order('created_at', { ascending: false })
        .limit(1),
      'embed',
    );
    equal(rows, [{ id: run.id, skills: { name: 's', projects: { name: 'Ré 3' } }, retried_execution: null }], 'embed');
    await refused(client.rpc('execute_skill', { skill_id: crypto.randomUUID() }), 'not_found', 'an error of ours');
    equal(await ok(client.rpc('can', { org: orgId, permission: 'skills:write' }), 'can'), true, 'a scalar');
  },

  async 'reads catalogues as a visitor, with a header of its own'({ visitor, client, orgId }) {
    equal(
      (await ok(visitor.from('plans').select('code').order('rank'), 'plans')).map(({ code }) => code),
      ['FREE', 'PRO', 'TEAMS', 'ENTERPRISE'],
      'plans',
    );
    const summary = client.rpc('usage_summary').setHeader('x-org-id', orgId);
    equal(
      (await ok(summary, 'usage_summary')).some(({ meter, used }) => meter === 'projects' && used === 1),
      true,
      'usage',
    );
    await refused(client.rpc('usage_summary').setHeader('x-org-id', crypto.randomUUID()), 'not_a_member', 'a non-member');
  },

  // The second part is sent once the first has arrived.
  async 'reads a function that streams'({ client, functionName }) {
    const id = crypto.randomUUID();
    const stream = await ok(client.functions.invoke(`${functionName}?id=${id}`), 'invoke');
    const reader = stream.body.getReader();
    const text = ({ value }) => new TextDecoder().decode(value);
    equal(text(await reader.read()), 'data: one\n\n', 'first part');
    await ok(client.functions.invoke(`${functionName}?id=${id}`, { method: 'PUT', body: { next: true } }), 'next');
    equal(text(await reader.read()), 'data: two\n\n', 'second part');
    equal((await reader.read()).done, true, 'end');
    const missing = await client.functions.invoke(`missing-${id}`);
    equal(missing.error?.name, 'FunctionsRelayError', 'a function that is not there');
    equal((await missing.error.context.json()).code, 'not_found', 'its body');
  },

  async 'deletes, refreshes its session and signs out'({ client, project, credentials }) {
    equal((await ok(client.from('projects').delete().eq('id', project.id).select('id'), 'delete')).length, 1, 'delete');
    const { session } = await ok(client.auth.refreshSession(), 'refresh');
    await ok(client.auth.signOut(), 'sign-out');
    equal((await client.auth.getSession()).data.session, null, 'no session');
    await refused(client.from('projects').select(), '42501', 'unauthenticated again');
    equal((await client.auth.setSession(session)).error?.name, 'AuthSessionMissingError', 'the old session');
    const signIn = (password) => inTurn(() => client.auth.signInWithPassword({ ...credentials, password }));
    await refused(signIn('wrong'), 'invalid_credentials', 'a wrong password');
    await ok(signIn(credentials.password), 'sign-in');
  },
};

/** Runs every step, each of which needs the ones before: [name, null or what went wrong]. */
export async function conformance(createClient, { url, anonKey, functionName }, options = {}) {
  const app = {
    functionName,
    client: createClient(url, anonKey, options),
    visitor: createClient(url, anonKey, { ...options, auth: { ...options.auth, storageKey: 'visitor' } }),
  };
  const results = [];
  for (const [name, step] of Object.entries(steps)) {
    results.push([
      name,
      await step(app).then(
        () => null,
        (error) => `${error.message}`,
      ),
    ]);
  }
  app.client.auth.stopAutoRefresh();
  app.visitor.auth.stopAutoRefresh();
  return results;
}

export const STEPS = Object.keys(steps);
