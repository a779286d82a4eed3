// Races of analytics: a call that sums up hours, and the job that looks at how long it takes; senders, and merges of persons.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';
import { asUser, atEnd, begin, newUser, one, rows } from './sessions.mjs';

test('a call that takes too long is cancelled, its hours wait, and its organization pauses', async () => {
  const { org } = await newUser();
  // As pg_cron: only calls of one's own role are cancelled.
  const roller = new pg.Client({ connectionString: process.env.DB_URL });
  await roller.connect();
  atEnd(() => roller.end());
  const holder = await begin();
  await holder.run('lock table private.analytics_rollups in share mode');
  await one(`insert into private.analytics_changes (organization, name, hour) values ($1, 'Slow', date_trunc('hour', now()))`, [org]);

  // The schedule's call may be the one that is cancelled, or another organization may be next.
  await until('the organization to pause', async () => {
    // A call that has not begun with an organization ends with the error of its cancellation, and is made again.
    const rolled = roller.query('select private.analytics_roll_changes() as n').catch(({ code }) => assert.equal(code, '57014'));
    const cancelled = async () => (await one(`select private.analytics_cancel_slow_roll('0') as n`)).n > 0;
    await until('a call that takes too long', cancelled);
    await rolled;
    return (await one('select failures, paused_until > now() as pauses from private.analytics_revisions where organization = $1', [org]))
      ?.pauses;
  });
  assert.equal((await one('select count(*)::integer as n from private.analytics_changes where organization = $1', [org])).n, 1);
  await holder.commit();
  await one(`update private.analytics_revisions set paused_until = '-infinity' where organization = $1`, [org]);
  const waiting = 'select count(*)::integer as n from private.analytics_changes where organization = $1';
  await until('the hour to be summed up', async () => {
    await roller.query('select private.analytics_roll_changes()');
    return (await one(waiting, [org])).n === 0;
  });
  assert.equal((await one('select failures from private.analytics_revisions where organization = $1', [org])).failures, 0);
});

const TRACK = 'select public.track($1) as taken';
const message = (event, userId, more = {}) => ({ type: 'track', event, userId, messageId: randomUUID(), ...more });

test('senders who meet the same persons on a new day do not wait in a circle', async () => {
  const { user, org } = await newUser();
  await asUser(user, TRACK, [JSON.stringify([message('Seen', 'u1'), message('Seen', 'u2')])]);
  await one(`update public.persons set last_seen_at = now() - interval '2 days' where org_id = $1`, [org]);
  const seen = await rows('select user_id from public.persons where org_id = $1 order by id', [org]);
  const [first, second] = seen.map(({ user_id }) => user_id);
  // As a merge, which changes persons in an order of its own.
  const [holder, sender] = [await begin(), await begin(user)];
  await holder.run('update public.persons set traits = traits where org_id = $1 and user_id = $2', [org, second]);
  await sender.run(`set local statement_timeout = '1min'`);
  const sent = await sender.run(TRACK, [JSON.stringify([message('Seen', first), message('Seen', second)])]);
  assert.deepEqual(sent.taken, { accepted: 2, dropped: 0, duplicates: 0, quarantined: 0 }, JSON.stringify(sent));
  await holder.run('rollback');
  await holder.commit();
  await sender.commit();
  const late = await rows(`select user_id from public.persons where org_id = $1 and last_seen_at < now() - interval '1 day'`, [org]);
  assert.deepEqual(late, [{ user_id: second }], 'who is held is seen the next time');
});

test('merges at once lose no person and no event, whatever their order', async () => {
  const { user, org } = await newUser();
  const sources = Array.from({ length: 6 }, (_, n) => `v${n}`);
  const visit = (event, n) => message(event, undefined, { anonymousId: sources[n % 6] });
  await asUser(user, TRACK, [JSON.stringify([...sources.map((_, n) => visit('Seen', n)), message('Seen', 'u1'), message('Seen', 'u2')])]);
  await one(`update public.persons set last_seen_at = now() - interval '2 days' where org_id = $1`, [org]);
  const calls = sources.flatMap((anonymousId, n) => [
    [message('Seen', 'u1', { anonymousId }), visit('Seen', n + 1)],
    [message('Seen', 'u2', { anonymousId: sources[5 - n] }), visit('Seen', n + 2)],
    [{ type: 'identify', userId: n % 2 ? 'u1' : 'u2', traits: { [`t${n}`]: n }, messageId: randomUUID() }, visit('Seen', n)],
  ]);
  const answers = await Promise.all(calls.map((messages) => asUser(user, TRACK, [JSON.stringify(messages)])));
  assert.deepEqual(
    answers.map((answer) => answer.taken?.accepted ?? answer.refused),
    calls.map(() => 2),
  );
  // Two users, to whom all visitors belong: by their ids, and by the events of before.
  const persons = await rows('select user_id, traits from public.persons where org_id = $1 order by user_id', [org]);
  assert.deepEqual(
    persons.map(({ user_id }) => user_id),
    ['u1', 'u2'],
  );
  assert.equal(Object.keys({ ...persons[0].traits, ...persons[1].traits }).length, 6);
  const [counted] = await rows(
    `select count(*)::int as events, count(distinct coalesce(m.into_person_id, e.person_id))::int as persons,
       count(*) filter (where not exists (select from public.persons as p where p.id = coalesce(m.into_person_id, e.person_id)))::int as orphans
     from public.events as e left join private.analytics_merges as m on m.organization = e.org_id and m.person_id = e.person_id
     where e.org_id = $1`,
    [org],
  );
  assert.deepEqual(counted, { events: 8 + 2 * calls.length, persons: 2, orphans: 0 });
  // The sums of hours follow.
  await until('the hours to be summed up', async () => {
    await rows('select private.analytics_roll_changes()');
    return (await one('select count(*)::integer as n from private.analytics_changes where organization = $1', [org])).n === 0;
  });
  const [rolled] = await rows(
    `select sum(events)::int as events, kijko.hll_cardinality(kijko.hll_union_agg(persons))::int as persons from private.analytics_rollups
     where organization = $1 and property = '' and name = 'Seen'`,
    [org],
  );
  assert.deepEqual(rolled, { events: 8 + 2 * calls.length - 6, persons: 2 });
});

test('no person goes while events are taken in, and none are taken in while a person goes', async () => {
  const { user, org } = await newUser();
  await asUser(user, TRACK, [JSON.stringify([message('Seen', 'old'), message('Seen', 'gone')])]);
  await one(`update public.persons set last_seen_at = now() - interval '403 days' where org_id = $1 and user_id = 'old'`, [org]);
  const ERASE = `select public.delete_analytics_person('gone') as gone`;
  const tried = async (person, sql, values) => {
    const session = await begin(person);
    await session.run(`set local lock_timeout = '200ms'`);
    const answer = await session.run(sql, values);
    await session.commit();
    return answer;
  };
  // Whoever sends has looked the person up, and names them in an event.
  const sender = await begin(user);
  await sender.run(TRACK, [JSON.stringify([message('Seen', 'other')])]);
  assert.equal((await tried(user, ERASE)).refused, '55P03');
  assert.equal((await tried(null, 'select private.analytics_purge_persons($1, 10) as n', [org])).refused, '55P03');
  await sender.commit();

  const eraser = await begin(user);
  assert.deepEqual((await eraser.run(ERASE)).gone, { persons: 1, events: 1, quarantined: 0, complete: true });
  assert.equal((await tried(user, TRACK, [JSON.stringify([message('Seen', 'gone')])])).refused, '55P03');
  await eraser.commit();
  assert.equal((await one('select private.analytics_purge_persons($1, 10) as n', [org])).n, 1);
  const left = await rows('select user_id from public.persons where org_id = $1 order by user_id', [org]);
  assert.deepEqual(
    left.map(({ user_id }) => user_id),
    ['other'],
  );
});
