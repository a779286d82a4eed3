// The edge: what may be asked at all, by whatever spelling, and how long and how much it may take. Statistics, plans and
// the catalogs tell nothing; what is not text is 400; preflights let every header through.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import nodeHttp from 'node:http';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { newPerson, ok, refused, setPlan } from './domain.mjs';
import { admin, adminSql, env, http, sql } from './support.mjs';

const url = new URL(env.API_URL);
// The internal ports are the API's plus 10 to 14.
const direct = `http://127.0.0.1:${Number(url.port) + 10}`;

/** A request whose headers may repeat and hold any byte (latin1), and whose path is sent as it is. */
function raw(method, base, path, headers = [], body) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(base);
    const request = nodeHttp
      .request({ method, hostname, port, path, headers: headers.flat(), setHost: false }, (answer) => {
        const chunks = [];
        answer
          .on('data', (chunk) => chunks.push(chunk))
          .on('end', () => {
            const text = Buffer.concat(chunks).toString();
            let json;
            try {
              json = JSON.parse(text);
            } catch {
              json = undefined;
            }
            resolve({ status: answer.statusCode, headers: answer.headers, body: json, text });
          });
      })
      .on('error', reject);
    request.end(body);
  });
}

/** Bytes that node's own client would not send: the answer's status. */
function bytes(text) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(url.port), url.hostname, () => socket.write(Buffer.from(text, 'latin1')));
    let answer = '';
    socket
      .on('data', (data) => {
        answer += data.toString('latin1');
      })
      .on('error', reject);
    socket.on('close', () => resolve(Number(answer.split(' ')[1])));
  });
}

const json = { 'Content-Type': 'application/json' };
const as = (token, ...more) => [['Host', url.host], ['apikey', env.ANON_KEY], ['Authorization', `Bearer ${token}`], ...more];

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

    test(`what arrives at PostgREST all the same is 400, or tells nothing: ${JSON.stringify(headers)}`, async () => {
      const answer = await raw('GET', direct, `/projects?org_id=eq.${a.orgId}`, as(b.token, ...headers));
      if (answer.status === 400) assert.equal(answer.body.code, 'bad_request');
      else assert.ok(['*/0', '*/*'].includes(answer.headers['content-range']), answer.headers['content-range']);
    });
  }

  test('PostgREST itself is refused planned and estimated counts, by everybody, also in the header that the database cannot see', async () => {
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

  test('there are no plans', async () => {
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

  test('a row is not asked for its type by the name of a function', async () => {
    for (const path of ['projects?select=pg_typeof', 'projects?select=id&pg_typeof=eq.regrole', 'projects?select=id&order=pg_typeof']) {
      const answer = await http('GET', `/rest/v1/${path}`, { token: person.token });
      assert.equal(answer.body?.code, 'bad_request', `${path}: ${answer.text}`);
    }
  });

  test('plain types may be cast to', async () => {
    const [row] = await ok(person.client.from('projects').select('id::text,created_at::date,name::varchar').limit(1));
    assert.equal(row.name, 'postgres');
  });
});

describe('one request is bounded', () => {
  let person;
  before(async () => {
    person = await newPerson('PRO');
    await ok(person.client.from('skills').insert({ name: 'One', prompt_template: 'Hello', model: 'echo/echo' }).select());
  });

  const nested = (levels) => (levels === 0 ? 'id' : `id,${levels % 2 ? 'organizations' : 'skills'}(${nested(levels - 1)})`);
  const from = (levels) => (levels % 2 ? 'skills' : 'organizations');
  const wide = (n) => ['id', ...Array.from({ length: n }, (_, i) => `o${i}:organizations(id)`)].join(',');

  test('three levels and twelve embeds pass', async () => {
    for (const path of [`${from(3)}?select=${nested(3)}`, `skills?select=${wide(12)}`]) {
      const answer = await http('GET', `/rest/v1/${path}`, { token: person.token });
      assert.equal(answer.status, 200, answer.text);
    }
  });

  test('more are 400, in every spelling and by every method', async () => {
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

  test('the service key is bounded like everybody', async () => {
    await refused(admin().from(from(4)).select(nested(4)), 400, 'bad_request');
  });

  test('an address of more than 16384 bytes is 414', async () => {
    const answer = await http('GET', `/rest/v1/skills?select=id&name=eq.${'x'.repeat(17_000)}`, { token: person.token });
    assert.deepEqual([answer.status, answer.body.code], [414, 'uri_too_long']);
  });

  test('what would be put together of too much is refused while it grows, and the connection stays', async () => {
    const big = await newPerson('ENTERPRISE');
    await adminSql(
      `insert into public.skills (org_id, name, model, prompt_template)
      select $1, 'Skill ' || i, 'echo/echo', repeat('x', 90000) from generate_series(1, 60) as i`,
      [big.orgId],
    );
    const backends = async () =>
      (await adminSql(`select pid from pg_stat_activity where usename = 'authenticator' order by pid`)).map((row) => row.pid);
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

  test('what takes longer than the plan allows is cancelled, and passes on a higher plan', async () => {
    const person = await newPerson();
    const { error } = await slow(person);
    assert.equal(error?.code, '57014', JSON.stringify(error));
    await setPlan(person.orgId, 'PRO');
    await ok(slow(person));
  });

  test('each plan has its own, also when the member is known already, and a change holds from the next request on', async () => {
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

  test("a request without an organization has FREE's, and so has a function", async () => {
    const person = await newPerson('TEAMS');
    await sql('delete from private.active_organizations where user_id = $1', [person.user.id]);
    assert.equal(await time(person), '3s');
    assert.deepEqual(await sql(`select rolname, rolconfig from pg_roles where rolname in ('anon', 'authenticated') order by 1`), [
      { rolname: 'anon', rolconfig: ['statement_timeout=3s'] },
      { rolname: 'authenticated', rolconfig: ['statement_timeout=3s'] },
    ]);
  });
});

describe('what is not text', () => {
  let person;
  before(async () => {
    person = await newPerson('PRO');
  });
  const invalid = ['\xff\xfe', '\xc3', '\xc0\x80', '\xed\xa0\x80'];

  test('in a header, of any name: 400, and no connection is lost', async () => {
    const backends = async () =>
      (await adminSql(`select pid from pg_stat_activity where usename = 'authenticator' order by pid`)).map((row) => row.pid);
    await ok(person.client.from('projects').select('id'));
    const known = await backends();
    for (const value of invalid) {
      for (const header of ['X-Anything', 'X-Org-Id', 'Prefer', 'X-Client-Info', 'Cookie', 'User-Agent', 'If-None-Match']) {
        const answer = await raw('GET', env.API_URL, '/rest/v1/projects?select=id', as(person.token, [header, `a${value}b`]));
        // PostgREST takes cookies out of the headers; there the character stays one.
        assert.equal(answer.status, header === 'Cookie' ? 200 : 400, `${header}: ${answer.text}`);
      }
      for (const header of ['Accept-Profile', 'Accept', 'Range']) {
        const answer = await raw('GET', env.API_URL, '/rest/v1/projects?select=id', as(person.token, [header, value]));
        assert.ok(answer.status >= 400 && answer.status < 500, `${header}: ${answer.text}`);
      }
      const login = await raw('GET', env.API_URL, '/auth/v1/user', as(person.token, ['X-Anything', value]));
      assert.ok(login.status < 500, login.text);
      const sidecar = await raw('POST', env.API_URL, '/webhooks/stripe', as(person.token, ['Stripe-Signature', value]), '{}');
      assert.ok(sidecar.status >= 400 && sidecar.status < 500, sidecar.text);
    }
    const now = await backends();
    assert.ok(
      known.every((pid) => now.includes(pid)),
      'no connection was lost',
    );
  });

  test('in the address, percent-encoded or not: 400', async () => {
    for (const part of ['%ff', '%FF%fe', '%c3', '%c3%28', '%c0%80', '%e0%80%80', '%ed%a0%80', '%f5%80%80%80', '%F4%90%80%80']) {
      for (const path of [`/rest/v1/projects?name=eq.${part}`, `/rest/v1/projects?${part}=eq.1`, `/rest/v1/pro${part}jects`]) {
        const answer = await raw('GET', env.API_URL, path, as(person.token));
        assert.deepEqual([answer.status, answer.body.code], [400, 'bad_request'], `${path}: ${answer.text}`);
      }
      for (const path of [`/auth/v1/${part}`, `/auth/v1/user?a=${part}`, `/functions/v1/${part}`]) {
        const answer = await raw('GET', env.API_URL, path, as(person.token));
        assert.ok(answer.status < 500, `${path}: ${answer.text}`);
      }
    }
    for (const line of ['GET /rest/v1/projects?name=eq.\xff', 'GET /rest/v1/pro\xffjects', 'G\xffT /rest/v1/projects']) {
      assert.equal(await bytes(`${line} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`), 400, line);
    }
    for (const text of ['é', '€', '😀', '100%25', '%zz', '%']) {
      const answer = await raw(
        'GET',
        env.API_URL,
        `/rest/v1/projects?select=id&name=eq.${text.startsWith('%') || text.endsWith('%25') ? text : encodeURIComponent(text)}`,
        as(person.token),
      );
      assert.equal(answer.status, 200, `${text}: ${answer.text}`);
    }
  });

  test('a NUL is refused wherever it comes', async () => {
    assert.equal(await bytes(`GET /rest/v1/projects HTTP/1.1\r\nHost: ${url.host}\r\nX-A: a\0b\r\nConnection: close\r\n\r\n`), 400);
    for (const path of ['/rest/v1/projects?name=eq.a%00b', '/rest/v1/projects?name%00=eq.a', '/rest/v1/pro%00jects']) {
      assert.ok((await raw('GET', env.API_URL, path, as(person.token))).status < 500, path);
    }
    const { status } = await http('POST', '/rest/v1/projects', {
      token: person.token,
      headers: { 'Content-Type': 'application/json' },
      body: '{"name":"a\\u0000b"}',
    });
    assert.equal(status, 400);
  });

  test('in a body: 400, or 415 for what PostgREST cannot take apart', async () => {
    for (const [type, query, status] of [
      ['application/json', '', 400],
      ['application/json', '?columns=name', 400],
      ['text/csv', '', 415],
      ['Text/CSV;charset=utf-8', '', 415],
      ['application/x-www-form-urlencoded', '', 415],
    ]) {
      const answer = await raw(
        'POST',
        env.API_URL,
        `/rest/v1/projects${query}`,
        as(person.token, ['Content-Type', type]),
        Buffer.from('{"name":"\xff"}', 'latin1'),
      );
      assert.equal(answer.status, status, `${type}: ${answer.text}`);
    }
  });

  test('a method that there is not: 405', async () => {
    assert.equal((await raw('PURGE', env.API_URL, '/rest/v1/projects', as(person.token))).status, 405);
  });
});

describe('a rollback', () => {
  test('that a client asks for is refused: nothing is committed that should not be', async () => {
    const person = await newPerson('PRO');
    const { error, status } = await person.client.from('projects').insert({ name: 'Only tried' }).rollback();
    assert.deepEqual([status, error?.code], [400, 'bad_request'], JSON.stringify(error));
    assert.deepEqual(await ok(person.client.from('projects').select('id')), []);
    for (const prefer of ['tx=rollback', 'return=minimal, TX = "Rollback"']) {
      const answer = await http('POST', '/rest/v1/projects', {
        token: person.token,
        headers: { ...json, Prefer: prefer },
        body: { name: 'Only tried' },
      });
      assert.deepEqual([answer.status, answer.body?.code], [400, 'bad_request'], prefer);
    }
    const commit = await http('POST', '/rest/v1/projects', {
      token: person.token,
      headers: { ...json, Prefer: 'tx=commit' },
      body: { name: 'Kept' },
    });
    assert.equal(commit.status, 201);
  });
});

describe('preflights', () => {
  const places = [
    '/rest/v1/projects',
    '/rest/v1/rpc/execute_skill',
    '/auth/v1/token',
    '/functions/v1/anything',
    '/webhooks/stripe',
    '/nothing',
    '/',
  ];
  for (const place of places) {
    test(`echo what they ask for: ${place}`, async () => {
      for (const [method, headers] of [
        ['PATCH', 'x-my-own, x-retry-count, traceparent'],
        ['DELETE', 'baggage'],
        ['PUT', ''],
      ]) {
        const answer = await http('OPTIONS', place, {
          headers: {
            Origin: 'https://app.example',
            'Access-Control-Request-Method': method,
            ...(headers && { 'Access-Control-Request-Headers': headers }),
          },
        });
        assert.equal(answer.status, 204, answer.text);
        assert.equal(answer.headers.get('access-control-allow-origin'), '*');
        assert.equal(answer.headers.get('access-control-allow-methods'), method);
        if (headers) assert.equal(answer.headers.get('access-control-allow-headers'), headers);
        else assert.match(answer.headers.get('access-control-allow-headers'), /authorization/);
        assert.match(answer.headers.get('vary'), /access-control-request-headers/i);
      }
    });
  }

  test('every answer can be read by a page of another origin, errors too', async () => {
    for (const [path, headers] of [
      ['/rest/v1/nothing', {}],
      ['/auth/v1/nothing', {}],
      ['/functions/v1/nothing', {}],
      ['/webhooks/stripe', {}],
      ['/nothing', {}],
      ['/rest/v1/projects?a=%ff', {}],
      [`/rest/v1/projects?a=${'x'.repeat(17_000)}`, {}],
    ]) {
      const answer = await http('GET', path, { headers: { Origin: 'https://app.example', ...headers } });
      assert.ok(answer.status >= 400, path);
      assert.equal(answer.headers.get('access-control-allow-origin'), '*', path);
      assert.match(answer.headers.get('access-control-expose-headers'), /RateLimit/, path);
    }
  });

  test('a client of supabase-js with headers of its own works through them', async () => {
    const person = await newPerson();
    const own = createClient(env.API_URL, env.ANON_KEY, {
      auth: { persistSession: false, autoRefreshToken: false },
      global: { headers: { Authorization: `Bearer ${person.token}`, 'x-my-own': '1' } },
      realtime: { transport: class {} },
    });
    await ok(own.from('projects').select('id'));
  });
});
