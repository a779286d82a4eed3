// An organization requires its issuer while break-glass owners, members and issuers change: somebody can always come in, and no
// membership is left open.
//   ADMIN_DB_URL=… node --test tests/database-race/issuers_requirement.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { begin, newUser, one, pool, waiting } from './sessions.mjs';

const REQUIRE = 'update public.organizations set sso_required = true where id = $1 returning id';
const GLASS = 'update public.memberships set is_break_glass = $3 where org_id = $1 and user_id = $2 returning is_break_glass';
const LEAVE = 'delete from public.memberships where org_id = $1 and user_id = $2 returning role';
const JOIN = `insert into public.memberships (org_id, user_id, role) values ($1, $2, 'viewer') returning role`;
const DISABLE = `update private.issuer_enrolments set settings = '{"enabled": false}' where id = $1 returning org_id`;

/** Two owners, the first or both of them break-glass owners, and an issuer with keys, which nobody asks. */
async function newOrg({ both = false } = {}) {
  const [owner, other] = [await newUser(), await newUser()];
  const org = owner.org;
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner')`, [org, other.user]);
  const issuer = randomUUID();
  await pool.query(
    `insert into kijko.issuers (id, org_id, url, audiences, jwks, next_at) values ($1, $2, $3, '{kijko}', '{"keys": []}', 'infinity')`,
    [issuer, org, `https://${issuer}.example.com`],
  );
  await pool.query(`insert into private.issuer_enrolments (id, org_id, url, settings) values ($1, $2, $3, '{}')`, [
    issuer,
    org,
    `https://${issuer}.example.com`,
  ]);
  for (const { user } of both ? [owner, other] : [owner]) await pool.query(GLASS, [org, user, true]);
  return { org, owner: owner.user, other: other.user, issuer };
}

const state = (org) =>
  one(
    `select o.sso_required, count(*) filter (where m.is_break_glass)::integer as glass, count(*) filter (where m.sso_required)::integer as closed
     from public.organizations as o join public.memberships as m on m.org_id = o.id where o.id = $1 group by o.id`,
    [org],
  );

test('of two break-glass owners who end at once, or leave, one stays', async () => {
  for (const [text, values] of [
    [GLASS, [false]],
    [LEAVE, []],
  ]) {
    const { org, owner, other } = await newOrg({ both: true });
    await pool.query(REQUIRE, [org]);
    const [first, second] = [await begin(), await begin()];
    await first.run(text, [org, owner, ...values]);
    const waited = second.run(text, [org, other, ...values]);
    await waiting(second);
    await first.commit();
    assert.deepEqual(await waited, { refused: 'KJ409' }, text);
    await second.commit();
    assert.equal((await state(org)).glass, 1, text);
  }
});

test('it is refused when the only break-glass owner has just ended', async () => {
  const { org, owner } = await newOrg();
  const [ending, requiring] = [await begin(), await begin()];
  assert.deepEqual(await ending.run(GLASS, [org, owner, false]), { is_break_glass: false });
  const required = requiring.run(REQUIRE, [org]);
  await waiting(requiring);
  await ending.commit();
  assert.deepEqual(await required, { refused: 'KJ409' });
  await requiring.commit();
  assert.deepEqual(await state(org), { sso_required: false, glass: 0, closed: 0 });
});

test('who joins meanwhile is closed out, whichever is first', async () => {
  for (const isFirst of [true, false]) {
    const { org } = await newOrg();
    const { user } = await newUser();
    const [requiring, joining] = [await begin(), await begin()];
    const require = () => requiring.run(REQUIRE, [org]);
    const join = () => joining.run(JOIN, [org, user]);
    const [leading, following] = isFirst ? [requiring, joining] : [joining, requiring];
    await (isFirst ? require() : join());
    const waited = (isFirst ? join : require)();
    await waiting(following);
    await leading.commit();
    await waited;
    await following.commit();
    assert.deepEqual(await state(org), { sso_required: true, glass: 1, closed: 2 });
  }
});

test('the last issuer is not disabled while it holds', async () => {
  const { org, issuer } = await newOrg();
  await pool.query(REQUIRE, [org]);
  await pool.query('update kijko.issuers set enabled = false where id = $1', [issuer]);
  const disabling = await begin();
  assert.deepEqual(await disabling.run(DISABLE, [issuer]), { refused: 'KJ409' });
  await disabling.commit();
});
