// One request is bounded: embedding, size, memory and statement time.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { newPerson, ok, refused, setPlan } from './domain.mjs';
import { backends, direct, json } from './raw_http.mjs';
import { admin, adminSql, env, http, sql } from './support.mjs';

describe('one request is bounded', () => {
  let person;
  before(async () => {
    person = await newPerson('PRO');
    await ok(person.client.from('skills').insert({ name: 'One', prompt_template: 'Hello', model: 'echo/echo' }).select());
  });

  const nested = (levels) => (levels === 0 ? 'id' : `id,${levels % 2 ? 'organizations' : 'skills'}(${nested(levels - 1)})`);
  const from = (levels) => (levels % 2 ? 'skills' : 'organizations');
  const wide = (n) => ['id', ...Array.from({ length: n }, (_, i) => `o${i}:organizations(id)`)].join(',');

  test('three levels and twelve embedded resources pass', async () => {
    for (const path of [`${from(3)}?select=${nested(3)}`, `skills?select=${wide(12)}`]) {
      const answer = await http('GET', `/rest/v1/${path}`, { token: person.token });
      assert.equal(answer.status, 200, answer.text);
    }
  });

  test('more are 400 in every notation and by every method', async () => {
    const encode = (text) => [...text].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('');
    const select = nested(4);
    const asked = [
      `${from(4)}?select=${select}`,
      `${from(4)}?select=${encode(select)}`,
      `${from(4)}?%73elect=${encodeURIComponent(select)}`,
      `${from(4)}?select=${select.replaceAll('(', '%28').replaceAll(')', '%29')}`,
      `${from(4)}?select=${select.replaceAll(',', ' , ').replaceAll(' ', '%20')}`,
      `${from(4)}?select=${select.replaceAll('skills(', 's:skills!inner(')}`,
      `skills?select=${wide(13)}`,
      'skills?select=id,...organizations(...subscriptions(organizations(skills(id))))',
    ];
    for (const path of asked) {
      for (const base of [`${env.API_URL}/rest/v1/`, `${direct}/`]) {
        const answer = await fetch(base + path, { headers: { Authorization: `Bearer ${person.token}` } });
        const body = await answer.json();
        assert.deepEqual([answer.status, body.code], [400, 'bad_request'], `${base}${path}: ${JSON.stringify(body)}`);
      }
    }
    const writes = [
      ['POST', 'skills', { name: 'Two', prompt_template: 'Hello', model: 'echo/echo' }],
      ['PATCH', 'skills', { name: 'Three' }],
    ];
    for (const [method, table, body] of writes) {
      const answer = await http(method, `/rest/v1/${table}?select=organizations(${nested(4)})&name=eq.One`, {
        token: person.token,
        headers: { ...json, Prefer: 'return=representation' },
        body,
      });
      assert.equal(answer.status, 400, answer.text);
    }
    assert.deepEqual(
      (await ok(person.client.from('skills').select('name'))).map((row) => row.name),
      ['One'],
      'what is refused changes nothing',
    );
  });

  test('the service key is bounded, too', async () => {
    await refused(admin().from(from(4)).select(nested(4)), 400, 'bad_request');
  });

  test('an address of more than 16384 bytes is 414', async () => {
    const answer = await http('GET', `/rest/v1/skills?select=id&name=eq.${'x'.repeat(17_000)}`, { token: person.token });
    assert.deepEqual([answer.status, answer.body.code], [414, 'uri_too_long']);
  });

  test('a bad token is 401 also when the body is long, of which PostgREST reads nothing', async () => {
    const body = JSON.stringify({ name: 'x'.repeat(2_000_000) });
    const headers = { 'Content-Type': 'application/json' };
    for (let at = 0; at < 40; at++) {
      const answer = await http('POST', '/rest/v1/skills', { token: 'x', body, headers });
      assert.deepEqual([answer.status, answer.body.code], [401, 'PGRST301'], `request ${at}: ${answer.text}`);
    }
  });

  test('a response that grows too large is refused while it grows, and the connection stays', async () => {
    const big = await newPerson('ENTERPRISE');
    await adminSql(
      `insert into public.skills (org_id, name, model, prompt_template)
      select $1, 'Skill ' || i, 'echo/echo', repeat('x', 90000) from generate_series(1, 60) as i`,
      [big.orgId],
    );
    await ok(big.client.from('skills').select('id').limit(1));
    const before = await backends();
    const error = await refused(big.client.from('skills').select('id,organizations(id,skills(*))'), 400, 'bad_request');
    assert.match(error.details, /memory/);
    const now = await backends();
    assert.ok(
      before.every((pid) => now.includes(pid)),
      'no connection was lost',
    );
    assert.equal((await ok(big.client.from('skills').select('*'))).length, 60);
  });
});

describe('the time of a statement', () => {
  // A column that takes its time: a function of the row, which PostgREST reads as one.
  const name = `slow_${randomUUID().slice(0, 8)}`;
  const seconds = `seconds_${randomUUID().slice(0, 8)}`;
  before(() =>
    sql(`
    create function public.${name}(public.plans) returns text language sql volatile as $$ select pg_sleep(4)::text $$;
    create function public.${seconds}(public.organizations) returns text language sql volatile as $$ select current_setting('statement_timeout') $$;
    grant execute on function public.${name}(public.plans), public.${seconds}(public.organizations) to anon, authenticated;`),
  );
  after(() => sql(`drop function public.${name}(public.plans); drop function public.${seconds}(public.organizations)`));

  const slow = (person) => person.client.from('plans').select(name).limit(1);
  const time = async (person) => (await ok(person.client.from('organizations').select(seconds).limit(1)))[0][seconds];

  test('a statement that takes longer than the plan allows is cancelled, and passes on a higher plan', async () => {
    const person = await newPerson();
    const { error } = await slow(person);
    assert.equal(error?.code, '57014', JSON.stringify(error));
    await setPlan(person.orgId, 'ENTERPRISE');
    await ok(slow(person));
  });

  test('each plan has its own limit, and a change of plan applies from the next request on', async () => {
    const person = await newPerson();
    for (const [plan, expected] of [
      ['FREE', '3s'],
      ['PRO', '5s'],
      ['TEAMS', '8s'],
      ['ENTERPRISE', '10s'],
      ['FREE', '3s'],
    ]) {
      await setPlan(person.orgId, plan);
      assert.equal(await time(person), expected, plan);
      assert.equal(await time(person), expected, plan);
    }
  });

  test('a request without an organization has the limit of FREE', async () => {
    const person = await newPerson('TEAMS');
    await sql('delete from private.active_organizations where user_id = $1', [person.user.id]);
    assert.equal(await time(person), '3s');
    assert.deepEqual(await sql(`select rolname, rolconfig from pg_roles where rolname in ('anon', 'authenticated') order by 1`), [
      { rolname: 'anon', rolconfig: ['statement_timeout=3s'] },
      { rolname: 'authenticated', rolconfig: ['statement_timeout=3s'] },
    ]);
  });
});
