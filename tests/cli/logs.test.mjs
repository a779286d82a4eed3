// What clients cause does not fill the logs, and what is the server's fault is in them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { newPerson } from '../journeys/domain.mjs';
import { env, http, sql } from '../journeys/support.mjs';
import { until } from '../until.mjs';
import { home, kijko } from './stack.mjs';

const log = (name) => path.join(home, 'log', `${name}.log`);

/** What `work` added to a log. */
async function added(name, work) {
  const from = fs.statSync(log(name)).size;
  await work();
  return fs.readFileSync(log(name)).subarray(from).toString();
}

describe('errors of clients', () => {
  const tag = randomUUID().slice(0, 8);
  let person;
  before(async () => {
    person = await newPerson();
    await sql(`
      create function public.fails_${tag}(code text) returns void language plpgsql as $$
      begin
        raise exception using errcode = code, message = 'fails_${tag} ' || code;
      end $$;
      create function public.slow_${tag}() returns void language sql as $$ select pg_sleep(9) $$;
      grant execute on function public.fails_${tag}(text), public.slow_${tag}() to authenticated;`);
    await kijko(['reload']);
    await until('PostgREST to know the function', async () => (await fails('XX000')) === 500);
  });
  after(() => sql(`drop function public.fails_${tag}(text), public.slow_${tag}()`));

  const get = (address) => http('GET', `/rest/v1/${address}`, { token: person.token });
  const fails = async (code) => {
    const answer = await http('POST', `/rest/v1/rpc/fails_${tag}`, {
      token: person.token,
      body: { code },
      headers: { 'Content-Type': 'application/json' },
    });
    return answer.status;
  };

  const mistakes = [
    ['a malformed value', () => get(`projects?id=eq.secret-${tag}`), 400],
    ['an unknown column', () => get(`projects?secret_${tag}=eq.1`), 400],
    ['an unknown table', () => get(`secret_${tag}`), 404],
    ['a missing right', () => http('GET', `/rest/v1/projects?name=eq.secret-${tag}`, { token: env.ANON_KEY }), 401],
    ['a wrong token', () => http('GET', `/rest/v1/projects?name=eq.secret-${tag}`, { token: 'x.y.z' }), 401],
    [
      'a refusal',
      () => http('GET', `/rest/v1/projects?name=eq.secret-${tag}`, { token: person.token, headers: { 'x-org-id': randomUUID() } }),
      403,
    ],
    [
      'a row that exists already',
      () =>
        http('POST', '/rest/v1/projects', {
          token: person.token,
          body: [
            { id: person.user.id, name: `secret ${tag}` },
            { id: person.user.id, name: 'b' },
          ],
          headers: { 'Content-Type': 'application/json' },
        }),
      409,
    ],
    [
      'a wrong password',
      () => http('POST', '/auth/v1/token?grant_type=password', { body: { email: `secret-${tag}@example.com`, password: 'x' } }),
      400,
    ],
    ['a malformed body', () => http('POST', '/auth/v1/signup', { body: `{"secret-${tag}` }), 400],
  ];
  for (const name of ['postgres', 'rest', 'login']) {
    it(`are not in the log of ${name}`, async () => {
      const text = await added(name, async () => {
        for (const [what, request, status] of mistakes) {
          const answer = await request();
          assert.equal(answer.status, status, `${what}: ${answer.text}`);
        }
      });
      assert.doesNotMatch(text, /ERROR|secret| 4\d\d /);
    });
  }

  it('inside a function are logged once a second at most', async () => {
    const started = performance.now();
    const text = await added('postgres', async () => {
      for (const code of ['22023', '23514', 'P0001', '42704']) {
        const statuses = await Promise.all(Array.from({ length: 20 }, () => fails(code)));
        assert.deepEqual([...new Set(statuses)], [400], code);
      }
    });
    const lines = text.match(/ERROR: {2}fails_/g) ?? [];
    // One of them is of a second that began before.
    assert.ok(lines.length >= 1 && lines.length <= (performance.now() - started) / 1000 + 2, text);
  });

  it('do not hide faults of the server', async () => {
    const text = await added('postgres', async () => {
      for (const code of ['XX000', '53100', '40P01', '57014', 'P0004']) assert.ok((await fails(code)) >= 500, code);
      const timeout = await http('POST', `/rest/v1/rpc/slow_${tag}`, { token: person.token });
      assert.equal(timeout.body.code, '57014', timeout.text);
    });
    for (const code of ['XX000', '53100', '40P01', '57014', 'P0004']) assert.match(text, new RegExp(`ERROR: {2}fails_${tag} ${code}`));
    assert.match(text, /ERROR: {2}canceling statement due to statement timeout/);
    await until('PostgREST to log its answers', () => fs.readFileSync(log('rest'), 'utf8').includes(`/rpc/slow_${tag}`));
  });
});
