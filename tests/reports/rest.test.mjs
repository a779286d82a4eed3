// Reports about PostgREST and products whose tenants share tables: embedding, filters, upserts, keys that point elsewhere, pools.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before } from 'node:test';
import { createKey, keyClient } from '../journeys/api_keys_support.mjs';
import { call, newPerson, newSkill, newTeam, ok, refused, TENANT_TABLES } from '../journeys/domain.mjs';
import { http, sql } from '../journeys/support.mjs';
import { report } from './report.mjs';

let team;
let other;
before(async () => {
  [team, other] = [await newTeam(), await newTeam()];
});

report('rest-1', 'each two tables of the API that belong together embed in both directions without a hint', async () => {
  const pairs = await sql(
    `select distinct s.relname as child, t.relname as parent
     from pg_constraint as c join pg_class as s on s.oid = c.conrelid join pg_class as t on t.oid = c.confrelid
     where c.contype = 'f' and s.relnamespace = 'public'::regnamespace and t.relnamespace = 'public'::regnamespace and s.oid <> t.oid
       and has_table_privilege('authenticated', s.oid, 'select') and has_table_privilege('authenticated', t.oid, 'select')`,
  );
  assert.ok(pairs.length > 30, `${pairs.length} pairs`);
  const ambiguous = [];
  for (const { child, parent } of pairs) {
    for (const [from, to] of [
      [child, parent],
      [parent, child],
    ]) {
      const { status, body } = await http('GET', `/rest/v1/${from}?select=*,${to}(*)&limit=1`, { token: team.owner.token });
      if (status !== 200) ambiguous.push(`${from}(${to}): ${status} ${body.code}`);
    }
  }
  assert.deepEqual(ambiguous, []);
});

report('rest-2', 'a value with a comma, parentheses or quotes is one value', async () => {
  const names = ['a,b', 'a', 'b', '(x)', 'say "hi"', 'back\\slash', '{c}', 'null', ''].map((name) => `${name}|${randomUUID().slice(0, 8)}`);
  const { client } = team.owner;
  await ok(client.from('projects').insert(names.map((name) => ({ name }))));
  for (const name of names) {
    const equal = await ok(client.from('projects').select('name').eq('org_id', team.orgId).eq('name', name));
    assert.deepEqual(equal, [{ name }]);
    const quoted = `"${name.replace(/["\\]/g, '\\$&')}"`;
    const or = await ok(client.from('projects').select('name').eq('org_id', team.orgId).or(`name.eq.${quoted},name.eq.nothing`));
    assert.deepEqual(or, [{ name }]);
    const found = await http('GET', `/rest/v1/projects?select=name&org_id=eq.${team.orgId}&name=in.(${encodeURIComponent(quoted)})`, {
      token: team.owner.token,
    });
    assert.deepEqual(found.body, [{ name }]);
  }
  assert.deepEqual(await ok(client.from('projects').select('name').in('id', [])), [], 'an empty list is nothing, and no error');
});

report('rest-3', 'an upsert changes a row of its own, and neither takes nor reveals one of another tenant', async () => {
  const { client } = team.owner;
  const project = await ok(client.from('projects').insert({ name: 'Before' }).select().single());
  assert.equal((await ok(client.from('projects').upsert({ id: project.id, name: 'After' }).select().single())).name, 'After');
  const theirs = await ok(other.owner.client.from('projects').insert({ name: 'Theirs' }).select().single());
  for (const options of [{}, { ignoreDuplicates: true }, { onConflict: 'id' }]) {
    const { data, error } = await client.from('projects').upsert({ id: theirs.id, name: 'Taken' }, options).select();
    assert.ok(error || data.length === 0, JSON.stringify(data));
    if (error) assert.ok(['42501', '23505'].includes(error.code), error.code);
  }
  const [row] = await sql('select name, org_id from public.projects where id = $1', [theirs.id]);
  assert.deepEqual(row, { name: 'Theirs', org_id: other.orgId });
});

report('rest-4', 'a key that may write and not read inserts without returning rows, and upserts nothing', async () => {
  const { secret } = await createKey(team.owner, { permissions: ['projects:write'] });
  const client = keyClient(secret);
  assert.equal((await client.from('projects').insert({ name: 'Blind' })).status, 201);
  await refused(client.from('projects').insert({ name: 'Blind' }).select(), 403, '42501');
  await refused(client.from('projects').upsert({ id: randomUUID(), name: 'Blind' }), 403, '42501');
});

report('rest-5', 'a row that points to another tenant is refused as one that points to nothing', async () => {
  const theirs = await newSkill(other.owner);
  const refusal = async (skillId) => {
    const { error, status } = await team.owner.client.from('habits').insert({ skill_id: skillId, name: 'H', cron: '@daily' }).select();
    return {
      status,
      code: error.code,
      message: error.message.replaceAll(skillId, 'ID'),
      details: error.details?.replaceAll(skillId, 'ID'),
      hint: error.hint,
    };
  };
  const [of, nothing] = [await refusal(theirs.id), await refusal(randomUUID())];
  assert.deepEqual(of, nothing);
  assert.ok(of.status >= 400 && of.status < 500);
  const moved = await newSkill(team.owner);
  const { error, data } = await team.owner.client.from('skills').update({ org_id: other.orgId }).eq('id', moved.id).select();
  assert.ok(error || data.length === 0, 'no row moves to another tenant');
});

report('rest-6', 'connections that are shared by requests carry nothing of one tenant to the next', async () => {
  const people = [team.owner, other.owner, await newPerson(), await newPerson()];
  const answers = await Promise.all(
    Array.from({ length: 120 }, async (_, n) => {
      const person = people[n % people.length];
      const { data, error } = await person.client.rpc('org_id');
      return error ? `${error.code}` : data === person.orgId;
    }),
  );
  assert.deepEqual([...new Set(answers)], [true]);
  // A setting of a request ends with it, also one that failed.
  await Promise.all(
    Array.from({ length: 20 }, () =>
      http('GET', '/rest/v1/projects?select=nothing', { token: team.owner.token, headers: { 'x-org-id': team.orgId } }),
    ),
  );
  const answer = await call(people[2], 'org_id', {});
  assert.equal(answer.body, people[2].orgId);
});

report('rest-7', 'a NUL in a body, a filter or a header is the fault of the request', async () => {
  const body = '{"name":"a\\u0000b"}';
  const inserted = await http('POST', '/rest/v1/projects', {
    token: team.owner.token,
    body,
    headers: { 'Content-Type': 'application/json' },
  });
  assert.deepEqual([inserted.status, inserted.body.code], [400, '22P05']);
  // Postgres ends a text at a NUL: what stands before it would be searched for.
  for (const query of ['name=eq.a%00b', 'name=in.(a%00b)', 'or=(name.eq.a%00b)', 'name=like.a%00*', 'select=name%00']) {
    const filtered = await http('GET', `/rest/v1/projects?${query}`, { token: team.owner.token });
    assert.equal(filtered.status, 400, query);
  }
  const half = await http('POST', '/rest/v1/projects', {
    token: team.owner.token,
    body: '{"name":"\\ud800"}',
    headers: { 'Content-Type': 'application/json' },
  });
  assert.equal(half.status, 400);
});

report('rest-8', 'no policy of a tenant table shows a row to a stranger', async () => {
  const stranger = await newPerson();
  const own = new Set([stranger.orgId]);
  for (const table of TENANT_TABLES) {
    const { status, body } = await http('GET', `/rest/v1/${table}?select=*&limit=1000`, { token: stranger.token });
    assert.equal(status, 200, table);
    const foreign = body.filter((row) => row.org_id !== undefined && !own.has(row.org_id));
    assert.deepEqual(foreign, [], table);
  }
  const permissive = await sql(
    `select c.relname, p.polcmd, count(*)::int as n from pg_policy as p join pg_class as c on c.oid = p.polrelid
     where c.relnamespace = 'public'::regnamespace and p.polpermissive and 'authenticated'::regrole = any (p.polroles)
     group by 1, 2 having count(*) > 1`,
  );
  assert.deepEqual(permissive, [], 'policies of one operation are alternatives, so each has one');
});

report('rest-9', 'a filter by null and by an empty text are two questions', async () => {
  const { client } = team.owner;
  const name = `Nulls ${randomUUID()}`;
  await ok(
    client.from('projects').insert([
      { name: `${name} 1`, description: null },
      { name: `${name} 2`, description: '' },
    ]),
  );
  const names = async (query) =>
    (await ok(query))
      .map((row) => row.name.at(-1))
      .sort()
      .join('');
  const base = () => client.from('projects').select('name').eq('org_id', team.orgId).like('name', `${name}%`);
  assert.equal(await names(base().is('description', null)), '1');
  assert.equal(await names(base().eq('description', '')), '2');
  assert.equal(await names(base().neq('description', 'x')), '2', 'null is not unequal, as in SQL');
  assert.equal(await names(base().not('description', 'is', null)), '2');
});

report('rest-10', 'an id of another tenant is answered as one that does not exist, by each function that takes one', async () => {
  const { client } = other.owner;
  const skill = await newSkill(other.owner);
  const project = await ok(client.from('projects').insert({ name: 'Theirs' }).select('id').single());
  const habit = await ok(client.from('habits').insert({ skill_id: skill.id, name: 'H', cron: '@daily' }).select('id').single());
  const reflex = await ok(client.from('reflexes').insert({ skill_id: skill.id, name: 'R' }).select('id').single());
  const endpoint = await ok(client.from('webhook_endpoints').insert({ url: 'https://hooks.example.com/' }).select('id').single());
  const ids = { skill_id: skill.id, project_id: project.id, habit_id: habit.id, reflex_id: reflex.id, endpoint_id: endpoint.id };
  const functions = await sql(
    `select p.proname as name, p.proargnames[1] as argument from pg_proc as p
     where p.pronamespace = 'public'::regnamespace and p.pronargs - p.pronargdefaults = 1 and p.proargtypes[0] = 'uuid'::regtype
       and p.proargnames[1] = any ($1) and has_function_privilege('authenticated', p.oid, 'execute') order by 1`,
    [Object.keys(ids)],
  );
  assert.ok(functions.length >= 10, functions.map(({ name }) => name).join());
  for (const { name, argument } of functions) {
    const ask = async (id) => {
      const { status, text } = await call(team.owner, name, { [argument]: id });
      return [status, text.replaceAll(id, 'ID')];
    };
    assert.deepEqual(await ask(ids[argument]), await ask(randomUUID()), name);
  }
});
