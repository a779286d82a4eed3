// No tenant takes all database connections, and free tenants together do not either: a neighbour always finds one.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { join, newPerson, until } from './domain.mjs';
import { adminSql, http, sql } from './support.mjs';

describe('connections', () => {
  // Almost as long as FREE's statements may take: a function of the row, which PostgREST reads as a column.
  const name = `held_${randomUUID().slice(0, 8)}`;
  before(() =>
    sql(`
    create function public.${name}(public.plans) returns text language sql volatile as $$ select pg_sleep(2.5)::text $$;
    grant execute on function public.${name}(public.plans) to anon, authenticated;`),
  );
  after(() => sql(`drop function public.${name}(public.plans)`));

  const get = (person, path) => http('GET', path, { token: person.token, headers: { 'x-org-id': person.orgId } });
  const slow = (person) => get(person, `/rest/v1/plans?select=${name}&limit=1`);
  const fast = (person) => get(person, '/rest/v1/projects?select=id');
  /** Slow requests that have run for so long. */
  const running = async (seconds) => {
    const [{ n }] = await adminSql(
      `select count(*)::integer as n from pg_stat_activity
       where state = 'active' and query like '%' || $1 || '%' and pid <> pg_backend_pid() and query_start < clock_timestamp() - make_interval(secs => $2)`,
      [name, seconds],
    );
    return n;
  };
  // A brief request ends after half a second.
  const held = () => running(1.5);

  /** Runs `work` while each person sends slow requests without end, `each` at once; returns the refusals. */
  async function flooded(people, each, work) {
    const refusals = [];
    let goOn = true;
    const loop = async (person) => {
      while (goOn) {
        const answer = await slow(person);
        assert.ok([200, 429].includes(answer.status), answer.text);
        if (answer.status === 429) {
          refusals.push(answer);
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      }
    };
    const loops = people.flatMap((person) => Array.from({ length: each }, () => loop(person)));
    try {
      await until('connections to be held', async () => (await held()) > 0);
      await work(refusals);
    } finally {
      goOn = false;
      await Promise.all(loops);
    }
    return refusals;
  }

  /** The neighbour's requests pass meanwhile, and no more connections are held than `most`. */
  async function servedBeside(neighbour, most) {
    for (let n = 0; n < 30; n += 1) {
      const [answer, connections] = await Promise.all([fast(neighbour), held()]);
      assert.equal(answer.status, 200, answer.text);
      assert.ok(connections <= most, `${connections} connections are held`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  test('three users of one organization together leave connections to others, who may hold some, too', async () => {
    const [owner, neighbour, ...others] = [await newPerson(), await newPerson(), await newPerson(), await newPerson()];
    for (const person of others) {
      await join(person, owner.orgId, 'member', owner);
      person.orgId = owner.orgId;
    }
    const refusals = await flooded([owner, ...others], 10, async () => {
      await servedBeside(neighbour, 4);
      assert.equal((await slow(neighbour)).status, 200);
    });
    const [first] = refusals;
    assert.deepEqual([first.body.code, first.headers.get('retry-after')], ['rate_limited', '1']);
    assert.equal(first.headers.get('x-ratelimit-resource'), 'connection_time');
  });

  test('a burst of one user leaves connections to others', async () => {
    const [person, neighbour] = [await newPerson(), await newPerson()];
    const burst = Array.from({ length: 30 }, () => slow(person));
    await until('connections to be held', async () => (await held()) > 0);
    assert.equal((await fast(neighbour)).status, 200);
    assert.ok((await held()) <= 4);
    const statuses = (await Promise.all(burst)).map((answer) => answer.status);
    assert.deepEqual([...new Set(statuses)].sort(), [200, 429]);
    assert.ok(statuses.filter((status) => status === 200).length >= 4, `${statuses}`);
  });

  test('fast requests of a tenant pass while its slow ones hold its share', async () => {
    const person = await newPerson();
    const share = Array.from({ length: 4 }, () => slow(person));
    await until('its share to be held', async () => (await running(0)) === 4);
    const answers = await Promise.all(Array.from({ length: 40 }, () => fast(person)));
    assert.deepEqual([...new Set(answers.map((answer) => answer.status))], [200]);
    assert.deepEqual(
      (await Promise.all(share)).map((answer) => answer.status),
      [200, 200, 200, 200],
    );
  });

  test('a slow request that begins among fast ones of its tenant holds a connection once they have ended', async () => {
    const person = await newPerson();
    const answers = await Promise.all([
      ...Array.from({ length: 9 }, () => fast(person)),
      slow(person),
      ...Array.from({ length: 30 }, () => fast(person)),
    ]);
    assert.deepEqual([...new Set(answers.map((answer) => answer.status))], [200]);
  });

  test('many free tenants together leave connections to one that pays', async () => {
    const [paying, free] = [await newPerson('PRO'), []];
    while (free.length < 9) free.push(await newPerson());
    await flooded(free, 3, async () => {
      await servedBeside(paying, 8);
      assert.equal((await slow(paying)).status, 200);
    });
    // Afterwards the free tiers are in debt together, for a minute at most.
    const visitor = await newPerson();
    const burst = () => Promise.all(Array.from({ length: 40 }, () => fast(visitor)));
    const served = async () => (await burst()).every((answer) => answer.status === 200);
    // Seldom enough for the rate of FREE.
    await until('free tiers to be served as before', served, { everyMs: 5_000 });
  });
});
