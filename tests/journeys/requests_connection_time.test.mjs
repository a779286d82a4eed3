// One caller cannot take all database connections: the time for which its requests hold them has a budget.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { newPerson, ok, until } from './domain.mjs';
import { adminSql, http, sql } from './support.mjs';

describe('connection time', () => {
  // A column that takes almost as long as FREE's statements may: a function of the row, which PostgREST reads as one.
  const name = `slow_${randomUUID().slice(0, 8)}`;
  before(() =>
    sql(`
    create function public.${name}(public.plans) returns text language sql volatile as $$ select pg_sleep(2.5)::text $$;
    grant execute on function public.${name}(public.plans) to anon, authenticated;`),
  );
  after(() => sql(`drop function public.${name}(public.plans)`));

  const slow = (person, orgId) =>
    http('GET', `/rest/v1/plans?select=${name}&limit=1`, { token: person.token, headers: { 'x-org-id': orgId } });
  const fast = (person) => http('GET', '/rest/v1/projects?select=id', { token: person.token });
  // Of all connections of PostgREST.
  const running = async () => {
    const [{ n }] = await adminSql(
      `select count(*)::integer as n from pg_stat_activity where state = 'active' and query like '%' || $1 || '%' and pid <> pg_backend_pid()`,
      [name],
    );
    return n;
  };

  test('a dashboard of 40 requests at once passes', async () => {
    const person = await newPerson();
    const answers = await Promise.all(Array.from({ length: 40 }, () => fast(person)));
    assert.deepEqual([...new Set(answers.map((answer) => answer.status))], [200]);
  });

  test('of 30 slow requests of one caller at most two run, the others get 429, and another caller is served', async () => {
    const [person, neighbour] = [await newPerson('PRO'), await newPerson()];
    assert.equal((await fast(neighbour)).status, 200);
    // Each organization has a share of the connections. Their members have one budget for all of them.
    const orgIds = [person.orgId];
    for (const name of ['One', 'Two', 'Three']) orgIds.push((await ok(person.client.rpc('create_organization', { name }))).id);
    const refusals = [];
    let goOn = true;
    const loop = async (_, n) => {
      while (goOn) {
        const answer = await slow(person, orgIds[n % orgIds.length]);
        assert.ok([200, 429].includes(answer.status), answer.text);
        if (answer.status === 429) {
          if (/connection time/.test(answer.body.details)) refusals.push(answer); // the others are of its share of connections
          await new Promise((resolve) => setTimeout(resolve, Number(answer.headers.get('retry-after')) * 1_000));
        }
      }
    };
    const loops = Array.from({ length: 30 }, loop);
    try {
      await until('a refusal', () => refusals.length > 0);
      // Those that were admitted before the debt end by themselves.
      await until('the first ones to end', async () => (await running()) <= 2);
      for (let n = 0; n < 20; n += 1) {
        const [answer, connections] = await Promise.all([fast(neighbour), running()]);
        assert.equal(answer.status, 200, answer.text);
        assert.ok(connections <= 2, `${connections} of them run`);
      }
    } finally {
      goOn = false;
      await Promise.all(loops);
    }
    const [first] = refusals;
    assert.deepEqual([first.body.code, first.headers.get('retry-after')], ['rate_limited', '1']);
    assert.match(first.body.details, /connection time/);
    assert.equal(first.headers.get('x-ratelimit-resource'), 'connection_time');
    assert.equal((await fast(neighbour)).status, 200);
  });
});
