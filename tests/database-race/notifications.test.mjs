// Counters of unread notifications while several sessions send, read, delete and change roles: exact, and without deadlocks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, queryAs } from './support.mjs';

const send = (org, user, title = 'x') =>
  pool.query(
    `insert into public.notifications (org_id, audience, user_id, type, title)
     values ($1, case when $2::uuid is null then 'organization' else 'user' end, $2, 'custom.race', $3)`,
    [org, user, title],
  );

const mark = async (user, read = true) => {
  const { refused } = await queryAs(user, 'select public.mark_read(read => $1)', [read]);
  assert.equal(refused, undefined);
};

const counts = (user) =>
  one(`select private.notifications_unread_count($1) as counter, private.notifications_unread($1, false) as counted`, [user]);

test('senders and windows of one reader at once', async () => {
  const { user, org } = await newTenant();
  await atOnce(24, (n) => (n % 3 === 0 ? mark(user, n % 2 === 0) : send(org, n % 2 ? user : null)));
  const { counter, counted } = await counts(user);
  assert.equal(counter, counted);
});

test('notifications that are deleted, and roles that change, meanwhile', async () => {
  const { user, org } = await newTenant();
  await atOnce(4, () => send(org, null, 'gone'));
  await atOnce(24, (n) => {
    if (n % 4 === 0) return mark(user);
    if (n % 4 === 1) return pool.query(`delete from public.notifications where org_id = $1 and title = 'gone'`, [org]);
    if (n % 4 === 2) return pool.query(`update public.projects set visibility = visibility where org_id = $1`, [org]);
    return send(org, n % 8 === 3 ? user : null);
  });
  const { counter, counted } = await counts(user);
  assert.equal(counter, counted);
});

test('a reader who is deleted while somebody sends', async () => {
  const { user, org } = await newTenant();
  await atOnce(12, (n) =>
    n === 5
      ? pool.query('delete from auth.users where id = $1', [user])
      : pool.query(`select private.notifications_send($1, $2, 'habit.failed', '{"habit": "x"}', $3)`, [org, user, `k${n}`]),
  );
  assert.equal(await one('select count(*)::int as n from public.notifications where user_id = $1', [user]).then(({ n }) => n), 0);
});

test('an organization that is deleted while digests, senders and its members are at it', async () => {
  for (let round = 0; round < 5; round += 1) {
    const { user, org } = await newTenant();
    await pool.query(`insert into private.notification_preferences (user_id, mail) values ($1, 'now')`, [user]);
    await pool.query('update auth.users set email_confirmed_at = now() where id = $1', [user]);
    await atOnce(6, () => send(org, null));
    await atOnce(12, async (n) => {
      if (n % 4 === 0) return pool.query('select private.notifications_mail_digests()');
      if (n % 4 === 1) return queryAs(user, 'select public.mark_read()');
      if (n === 2) return pool.query('delete from public.organizations where id = $1', [org]);
      return pool.query(`select private.notifications_send($1, null, 'usage.threshold', '{}', $2)`, [org, `k${n}`]);
    });
    assert.equal((await one('select count(*)::int as n from public.notifications where org_id = $1', [org])).n, 0);
  }
});
