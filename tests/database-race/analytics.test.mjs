// Races of analytics: a call that sums up hours, and the job that looks at how long it takes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';
import { atEnd, begin, newUser, one } from './sessions.mjs';

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
