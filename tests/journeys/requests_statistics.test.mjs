// Statistics, query plans, catalogs and casts disclose nothing about other tenants' rows, in any spelling.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { newPerson, ok } from './domain.mjs';
import { as, direct, json, raw } from './raw_http.mjs';
import { adminSql, env, http } from './support.mjs';

describe('statistics', () => {
  let a;
  let b;
  before(async () => {
    [a, b] = [await newPerson('TEAMS'), await newPerson('TEAMS')];
    await adminSql(
      `insert into public.projects (org_id, name, created_by)
      select $1, 'Project ' || i, $2 from generate_series(1, 90) as i`,
      [a.orgId, a.user.id],
    );
    await adminSql('analyze public.projects');
  });

  const spellings = [
    [['Prefer', 'count=planned']],
    [['Prefer', 'count=estimated']],
    [['prefer', 'COUNT=Planned']],
    [['PREFER', 'count = planned']],
    [['Prefer', 'count="planned"']],
    [['Prefer', "count='estimated'"]],
    [['Prefer', '\tcount=planned\t']],
    [['Prefer', 'return=minimal,count=planned']],
    [['Prefer', 'count=planned, return=minimal']],
    [['Prefer', 'count=planned;a=b']],
    [
      ['Prefer', 'count=planned'],
      ['Prefer', 'return=minimal'],
    ],
    [
      ['Prefer', 'return=minimal'],
      ['prefer', 'count=estimated'],
    ],
    [
      ['Prefer', 'count=planned'],
      ['Prefer', 'count=planned'],
    ],
  ];
  for (const headers of spellings) {
    test(`another tenant's rows are not estimated: ${JSON.stringify(headers)}`, async () => {
      for (const path of [`/projects?org_id=eq.${a.orgId}`, `/projects?created_by=eq.${a.user.id}`, '/projects?name=eq.Project%207']) {
        const answer = await raw('HEAD', env.API_URL, `/rest/v1${path}`, as(b.token, ...headers));
        assert.equal(answer.status, 200);
        assert.ok(['*/0', '*/*'].includes(answer.headers['content-range']), `${path}: ${answer.headers['content-range']}`);
      }
      // The own ones are counted.
      const own = await raw('HEAD', env.API_URL, '/rest/v1/projects?limit=1', as(a.token, ...headers));
      assert.ok(['0-0/90', '0-0/*'].includes(own.headers['content-range']), own.headers['content-range']);
    });

    test(`PostgREST itself answers 400 or discloses nothing: ${JSON.stringify(headers)}`, async () => {
      const answer = await raw('GET', direct, `/projects?org_id=eq.${a.orgId}`, as(b.token, ...headers));
      if (answer.status === 400) assert.equal(answer.body.code, 'bad_request');
      else assert.ok(['*/0', '*/*'].includes(answer.headers['content-range']), answer.headers['content-range']);
    });
  }

  test('PostgREST itself refuses planned and estimated counts from every role, also in a second header', async () => {
    for (const token of [b.token, env.ANON_KEY, env.SERVICE_ROLE_KEY]) {
      for (const count of ['planned', 'estimated']) {
        const one = await raw('GET', direct, '/projects', as(token, ['Prefer', `count=${count}`]));
        assert.deepEqual([one.status, one.body.code], [400, 'bad_request'], `${count}: ${one.text}`);
      }
    }
    for (const token of [b.token, env.SERVICE_ROLE_KEY]) {
      const hidden = await raw('GET', direct, '/projects', as(token, ['Prefer', 'count=planned'], ['Prefer', 'return=minimal']));
      assert.deepEqual([hidden.status, hidden.body.code], [400, 'bad_request'], hidden.text);
    }
  });

  test('query plans are refused', async () => {
    for (const accept of [
      'application/vnd.pgrst.plan',
      'application/vnd.pgrst.plan+json; options=analyze|verbose',
      'application/vnd.pgrst.plan+text;for="text/csv"',
    ]) {
      for (const [base, path] of [
        [env.API_URL, '/rest/v1/projects'],
        [direct, '/projects'],
      ]) {
        const answer = await raw('GET', base, path, as(env.SERVICE_ROLE_KEY, ['Accept', accept]));
        assert.equal(answer.status, 415, answer.text);
      }
    }
  });

  test('the catalogs are not served', async () => {
    for (const name of ['pg_stats', 'pg_class', 'pg_stat_user_tables', 'rpc/pg_stat_get_live_tuples', 'rpc/pg_relation_size']) {
      for (const profile of ['pg_catalog', 'information_schema', 'kijko', 'private']) {
        const answer = await http('GET', `/rest/v1/${name}`, { token: b.token, headers: { 'Accept-Profile': profile } });
        assert.equal(answer.status, 406, `${profile}.${name}: ${answer.text}`);
      }
      assert.equal((await http('GET', `/rest/v1/${name}`, { token: b.token })).status, 404, name);
    }
  });
});

describe('casts', () => {
  let person;
  before(async () => {
    person = await newPerson('PRO');
    await ok(person.client.from('projects').insert({ name: 'postgres' }).select());
  });

  for (const type of [
    'regrole',
    'REGROLE',
    '_regrole',
    ' regrole ',
    'regclass',
    'regproc',
    'regprocedure',
    'regoper',
    'regoperator',
    'regtype',
    'regnamespace',
    'regcollation',
    'regconfig',
    'regdictionary',
    'aclitem',
    '_aclitem',
    'pg_authid',
    'pg_class',
    'oid',
    'oidvector',
  ]) {
    test(`a value is never cast to ${type}`, async () => {
      const cast = encodeURIComponent(`name::${type}`);
      const paths = [
        `projects?select=${cast}`,
        `projects?select=x:${cast}`,
        `projects?select=id,organizations(${cast})`,
        `projects?select=name%3A%3A${encodeURIComponent(type)}`,
      ];
      for (const path of paths) {
        const answer = await http('GET', `/rest/v1/${path}`, { token: person.token });
        assert.equal(answer.status, 400, `${path}: ${answer.text}`);
        assert.equal(answer.body.code, 'bad_request', answer.text);
      }
      const written = await http('POST', `/rest/v1/projects?select=${cast}`, {
        token: person.token,
        headers: { ...json, Prefer: 'return=representation' },
        body: { name: randomUUID() },
      });
      assert.equal(written.body.code, 'bad_request', written.text);
    });
  }

  test("a row's type cannot be read by a function's name", async () => {
    for (const path of ['projects?select=pg_typeof', 'projects?select=id&pg_typeof=eq.regrole', 'projects?select=id&order=pg_typeof']) {
      const answer = await http('GET', `/rest/v1/${path}`, { token: person.token });
      assert.equal(answer.body?.code, 'bad_request', `${path}: ${answer.text}`);
    }
  });

  test('casts to plain types pass', async () => {
    const [row] = await ok(person.client.from('projects').select('id::text,created_at::date,name::varchar').limit(1));
    assert.equal(row.name, 'postgres');
  });
});
