// Somebody holds a row of an organization, by hand perhaps: schedules pass that organization over, and do all others' work.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { asUser, atEnd, begin, newUser, one, pool, rows } from './sessions.mjs';

/** Two organizations. A row of the first is held; what is due is the first's before the second's. */
async function held(t, what) {
  const [first, second] = [await newUser(), await newUser()];
  for (const { org } of [first, second]) await rows(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  const hold = async (target = first.org) => {
    const holder = await begin();
    t.after(() => holder.commit());
    await holder.run(what, [target]);
  };
  return { first, second, hold };
}

/** Runs a schedule's function in a session as pg_cron's; the organizations that it has passed over. */
async function run(statement) {
  const session = await pool.connect();
  try {
    await session.query(`begin; set local lock_timeout = '5s'`);
    await session.query(statement);
    const { rows: found } = await session.query('select private.passed_over() as orgs');
    await session.query('commit');
    return found[0].orgs;
  } catch (error) {
    await session.query('rollback');
    throw error;
  } finally {
    session.release();
  }
}

/** The organization has been waited for once. The schedule itself, which runs each minute, may hold the rows for a moment. */
const waitedOnce = (statement, org) =>
  until('the organization to be met', async () => {
    const orgs = (await run(statement)).filter((id) => id === org);
    assert.ok(orgs.length < 2, 'each organization is waited for once');
    return orgs.length === 1;
  });

const ORGANIZATION = 'select from public.organizations where id = $1 for update';

async function newHabits(org, user, n, minutes) {
  await rows(
    `with skill as (
       insert into public.skills (org_id, name, prompt_template, model) values ($1, 'Echo', 'Say hello', 'echo/echo') returning id, org_id
     )
     insert into public.habits (org_id, skill_id, name, cron, created_by)
     select s.org_id, s.id, 'habit ' || n, '0 0 1 1 *', $2 from skill as s, generate_series(1, $3::integer) as n`,
    [org, user, n],
  );
  return () => rows('update public.habits set next_run_at = kijko.now() - make_interval(mins => $2) where org_id = $1', [org, minutes]);
}

test('habits of others run', async (t) => {
  const { first, second, hold } = await held(t, ORGANIZATION);
  const due = [await newHabits(first.org, first.user, 3, 2), await newHabits(second.org, second.user, 1, 1)];
  await hold();
  for (const make of due) await make();
  await waitedOnce('select private.habits_run_due()', first.org);
  const handled = ({ org }) => rows('select from public.executions where org_id = $1 and habit_id is not null', [org]);
  assert.equal((await handled(second)).length, 1);
  assert.equal((await handled(first)).length, 0);
});

test('discoveries of others run', async (t) => {
  const { first, second, hold } = await held(t, ORGANIZATION);
  for (const [{ org }, n] of [
    [first, 3],
    [second, 1],
  ]) {
    await rows(
      `insert into public.discoveries (org_id, name, collector, url)
       select $1, 'feed ' || n, 'feed', 'https://feed.invalid/' || n from generate_series(1, $2::integer) as n`,
      [org, n],
    );
  }
  atEnd(() => rows('update public.discoveries set enabled = false where org_id = any ($1)', [[first.org, second.org]]));
  await hold();
  for (const [{ org }, minutes] of [
    [first, 2],
    [second, 1],
  ]) {
    await rows('update public.discoveries set next_run_at = kijko.now() - make_interval(mins => $2) where org_id = $1', [org, minutes]);
  }
  await waitedOnce('select private.topics_run_due()', first.org);
  const runs = ({ org }) => rows('select from public.discovery_runs where org_id = $1', [org]);
  assert.equal((await runs(second)).length, 1);
  assert.equal((await runs(first)).length, 0);
});

test('changes of flags of others are applied', async (t) => {
  const { first, second, hold } = await held(t, 'select from public.feature_flags where org_id = $1 for update');
  for (const [{ org, user }, minutes] of [
    [first, 2],
    [second, 1],
  ]) {
    await rows(`insert into public.feature_flags (org_id, name, created_by) values ($1, 'checkout', $2)`, [org, user]);
    const changed = await asUser(
      user,
      `select public.change_flag('checkout', 'production', '{"enabled": true}', 'a test', kijko.now() + interval '1 day') as change`,
    );
    assert.equal(changed.refused, undefined);
    if (org === first.org) await hold();
    await rows('update public.flag_changes set apply_at = kijko.now() - make_interval(mins => $2) where org_id = $1', [org, minutes]);
  }
  const status = async ({ org }) => (await one('select status from public.flag_changes where org_id = $1', [org])).status;
  await until('the change to be applied', async () => {
    await run('select private.flags_run_due(100)');
    return (await status(second)) === 'applied';
  });
  assert.equal(await status(first), 'scheduled');
});

/** What is over in both organizations: the second's goes while the first's is held, and that one stays. */
async function goesFromOthers(t, { table, org = 'org_id', insert, purge }) {
  const { first, second, hold } = await held(t, `select from ${table} where ${org} = $1 for update`);
  for (const one of [first, second]) await insert(one);
  await hold();
  const left = ({ org: id }) => rows(`select from ${table} where ${org} = $1`, [id]);
  await until("the second's to be gone", async () => {
    await run(purge);
    return (await left(second)).length === 0;
  });
  assert.equal((await left(first)).length, 1);
}

test('programs that evaluate flags', (t) =>
  goesFromOthers(t, {
    table: 'public.flag_applications',
    insert: ({ org }) =>
      rows(
        `insert into public.flag_applications (org_id, environment, app_name, instance_id, last_seen_at)
         values ($1, 'production', 'app', 'one', kijko.now() - interval '1 year')`,
        [org],
      ),
    purge: 'select private.flags_purge_applications()',
  }));

test('evaluations of flags', (t) =>
  goesFromOthers(t, {
    table: 'public.flag_evaluations',
    insert: async ({ org, user }) => {
      await rows(`insert into public.feature_flags (org_id, name, created_by) values ($1, 'checkout', $2)`, [org, user]);
      await rows(
        `insert into public.flag_evaluations (org_id, flag_id, environment, hour, yes)
         select f.org_id, f.id, 'production', date_trunc('hour', kijko.now() - interval '1 year'), 1 from public.feature_flags as f where f.org_id = $1`,
        [org],
      );
    },
    purge: 'select private.flags_purge()',
  }));

test('jobs of the indexer', (t) =>
  goesFromOthers(t, {
    table: 'public.indexing_jobs',
    insert: ({ org }) =>
      rows(
        `with repository as (
           insert into public.repositories (org_id, clone_url) values ($1, 'https://github.com/locks/held') returning org_id, id
         )
         insert into public.indexing_jobs (org_id, repository_id, branch, trigger, status, error_code, finished_at)
         select r.org_id, r.id, 'main', 'manual', 'failed', 'fetch_failed', kijko.now() - interval '10 years' from repository as r`,
        [org],
      ),
    purge: 'select private.code_purge()',
  }));

test('lanes without jobs', (t) =>
  goesFromOthers(t, {
    table: 'private.job_lanes',
    org: 'org',
    insert: ({ org }) => rows(`insert into private.job_lanes (kind, priority, org, turn) values ('execution', 0, $1, 1)`, [org]),
    purge: 'select private.jobs_maintain_lanes()',
  }));
