// Connections that are completed, refreshed, paused and removed by several sessions at once: no deadlock, no token lost.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, queryAs } from './support.mjs';

const PROVIDER = JSON.stringify([{ name: 'race', scopes: [] }]);

/** From begin_connection() to the code, as the sidecar and the provider would; null when its application was removed meanwhile. */
async function authorized(user, account, connection = null) {
  await pool.query('select private.connections_register_providers($1)', [PROVIDER]);
  const { rows, refused } = await queryAs(user, `select (public.begin_connection('race', connection_id => $1)).url`, [connection]);
  assert.equal(refused, undefined);
  const ticket = new URL(rows[0].url).searchParams.get('ticket');
  await pool.query('select private.connections_take_ticket($1, $2, $3)', [ticket, `s${ticket}`, `b${ticket}`]);
  const { taken } = await one('select private.connections_take_state($1, $2) as taken', [`s${ticket}`, `b${ticket}`]);
  const answer = {
    profile: { sub: account },
    tokens: { access_token: `access-${ticket}`, refresh_token: `refresh-${ticket}`, expires_in: 3600 },
  };
  const { location } = await one('select private.connections_authorized($1, $2) as location', [taken?.flow, answer]);
  return location && new URL(location).searchParams.get('connection_code');
}

const complete = (user, code) => queryAs(user, 'select (public.complete_connection($1)).id', [code]);
const connect = async (user, account) => (await complete(user, await authorized(user, account))).rows[0].id;
const tokenOf = (id) => one('select t.id, t.generation from private.connection_tokens as t where t.connection_id = $1', [id]);

test('of answers to one refresh one is stored, and of codes one is taken', async () => {
  const { user } = await newTenant();
  const id = await connect(user, randomUUID());
  const token = await tokenOf(id);
  const stored = await atOnce(8, (n) =>
    one('select private.connections_refreshed($1, $2, $3) as stored', [
      token.id,
      token.generation,
      { access_token: `a${n}`, refresh_token: `r${n}` },
    ]),
  );
  assert.equal(stored.filter((row) => row.stored).length, 1);
  assert.equal((await tokenOf(id)).generation, token.generation + 1);
  const code = await authorized(user, randomUUID());
  const taken = await atOnce(6, () => complete(user, code));
  assert.deepEqual(taken.map(({ refused }) => refused ?? 'taken').sort(), ['P0002', 'P0002', 'P0002', 'P0002', 'P0002', 'taken']);
});

test('completed again, refreshed, refused and removed at once', async () => {
  const { user, org } = await newTenant();
  for (let round = 0; round < 4; round += 1) {
    const account = randomUUID();
    const id = await connect(user, account);
    const token = await tokenOf(id);
    const codes = [await authorized(user, account, id), await authorized(user, account, id), await authorized(user, account)];
    const results = await atOnce(9, (n) => {
      if (n % 3 === 0) return complete(user, codes[n / 3]);
      if (n === 1) return queryAs(user, 'delete from public.connections where id = $1', [id]);
      if (n === 2) return pool.query('select private.connections_reject($1, $2, $3)', [org, id, token.generation]);
      if (n === 4) return pool.query(`select private.connections_refresh_failed($1, $2, true, true, '')`, [token.id, token.generation]);
      if (n === 5)
        return pool.query('select private.connections_refreshed($1, $2, $3)', [token.id, token.generation, { access_token: 'n' }]);
      if (n === 7) return pool.query('update public.memberships set role = role where org_id = $1', [org]);
      return pool.query('select private.connections_enqueue_due()');
    });
    // A code whose connection was removed first is gone with it.
    assert.deepEqual(new Set(results.map(({ refused }) => refused ?? 'P0002')), new Set(['P0002']));
    const { connections, attached } = await one(
      `select (select count(*)::int from public.connections as c where c.org_id = $1) as connections,
         (select count(*)::int from private.connection_tokens as t where t.organization = $1 and t.connection_id is not null) as attached`,
      [org],
    );
    assert.equal(attached, connections, 'each has one token');
  }
});

test('an application is replaced and removed while connections are begun, answered and completed', async () => {
  const { user, org } = await newTenant();
  const set = (id) => queryAs(user, `select (public.set_connection_application('race', $1, 'secret')).id`, [id]);
  for (let round = 0; round < 4; round += 1) {
    await set(`first-${round}`);
    const codes = await Promise.all([1, 2, 3].map(() => authorized(user, randomUUID())));
    const results = await atOnce(9, (n) => {
      if (n % 3 === 0) return complete(user, codes[n / 3]);
      if (n === 1) return set(`second-${round}`);
      if (n === 4) return set(`third-${round}`);
      if (n === 7) return queryAs(user, 'delete from public.connection_applications where org_id = $1', [org]);
      if (n === 8) return pool.query('select private.connections_enqueue_due()');
      return authorized(user, randomUUID());
    });
    // A code whose application was replaced first is gone with it.
    assert.deepEqual(new Set(results.map((result) => result?.refused ?? 'P0002')), new Set(['P0002']));
    const { lost, active } = await one(
      `select count(*) filter (where t.application_id is not null and a.id is null)::int as lost,
         count(*) filter (where c.status = 'active' and t.id is null)::int as active
       from public.connections as c
       left join private.connection_tokens as t on t.connection_id = c.id
       left join public.connection_applications as a on a.id = t.application_id
       where c.org_id = $1`,
      [org],
    );
    assert.deepEqual([lost, active], [0, 0], 'no connection has the token of an application that is gone, or none at all');
  }
});
