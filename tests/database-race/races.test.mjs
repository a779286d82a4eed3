// What several sessions do to the same rows at once; pgTAP has only one. Each race is run with real, committed data of users
// made for it, who are deleted afterwards.
//   ADMIN_DB_URL=… node --test tests/database-race/*.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, test } from 'node:test';
import pg from 'pg';

if (!process.env.ADMIN_DB_URL) throw new Error('ADMIN_DB_URL is not set; ./kijko status -o env prints it');
const pool = new pg.Pool({ connectionString: process.env.ADMIN_DB_URL, max: 24 });
const users = [];
after(async () => {
  await pool.query('delete from auth.users where id = any($1)', [users]);
  await pool.end();
});

const one = async (sql, values) => (await pool.query(sql, values)).rows[0];

/** A user with a personal organization and a skill in it. */
async function newTenant() {
  const user = randomUUID();
  users.push(user);
  await pool.query(
    `insert into auth.users (id, aud, role, email, email_confirmed_at) values ($1, 'authenticated', 'authenticated', $2, now())`,
    [user, `${user}@example.test`],
  );
  const { id: org } = await one('select id from public.organizations where personal_for = $1', [user]);
  const { id: skill } = await one(`insert into public.skills (org_id, name, prompt_template) values ($1, 'race', 'x') returning id`, [org]);
  return { user, org, skill };
}

/** One statement as PostgREST would run it for the user: its rows, or the SQLSTATE it was refused with. */
async function asUser(user, sql, values) {
  const session = await pool.connect();
  try {
    await session.query('begin');
    await session.query('set local session authorization authenticator');
    await session.query('set local role authenticated');
    await session.query(`select set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ role: 'authenticated', sub: user })]);
    const { rows } = await session.query(sql, values);
    await session.query('commit');
    return { rows };
  } catch (error) {
    await session.query('rollback');
    return { refused: error.code };
  } finally {
    session.release();
  }
}

const atOnce = (n, run) => Promise.all(Array.from({ length: n }, (_, i) => run(i)));

/** Until somebody waits for a session, at a lock of this type. */
async function untilWaitingFor(pid, lock) {
  for (let tries = 0; tries < 500; tries++) {
    const { n } = await one(`select count(*)::int as n from pg_stat_activity where wait_event = $2 and $1 = any (pg_blocking_pids(pid))`, [
      pid,
      lock,
    ]);
    if (n > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`nobody waits for the session at a lock of type ${lock}`);
}

const used = async (org, meter) => Number((await one('select used from kijko.usage($1) where meter = $2', [org, meter]))?.used ?? 0);

test('four tickers at once: each due slot runs once and is charged once', async () => {
  const HABITS = 60;
  const tenants = [await newTenant(), await newTenant()];
  for (const { org, skill } of tenants) {
    await pool.query(`select kijko.set_limit($1, 'executions', 'month', null)`, [org]);
    await pool.query(`select kijko.set_limit($1, 'habits', 'lifetime', null)`, [org]);
    await pool.query(
      `insert into public.habits (org_id, skill_id, name, cron) select $1, $2, 'race ' || n, '0 0 1 1 *' from generate_series(1, $3::int) as n`,
      [org, skill, HABITS],
    );
  }
  // Due since the last New Year. Ties go by the random id, so the tenants are mixed: tickers that did not take turns
  // would charge them in different orders and deadlock.
  await pool.query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where org_id = any($1)`, [
    tenants.map((t) => t.org),
  ]);

  await atOnce(4, () => pool.query('select private.run_due_habits()'));

  for (const { org } of tenants) {
    const { made, slots, jobs } = await one(
      `select count(*)::int as made, count(distinct e.habit_id)::int as slots, count(distinct e.job_id)::int as jobs
       from public.executions as e where e.org_id = $1 and e.trigger = 'habit' and e.status <> 'failed'`,
      [org],
    );
    assert.deepEqual(
      { made, slots, jobs, charged: await used(org, 'executions') },
      { made: HABITS, slots: HABITS, jobs: HABITS, charged: HABITS },
    );
    const { due } = await one('select count(*)::int as due from public.habits where org_id = $1 and next_run_at <= kijko.now()', [org]);
    assert.equal(due, 0);
  }
});

test('twelve workers at once: no job is claimed twice, none is left', async () => {
  const JOBS = 300;
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  await pool.query('select private.enqueue_job($1, $2) from generate_series(1, $3::int)', [org, kind, JOBS]);

  const claims = await atOnce(12, async (n) => {
    const mine = [];
    for (;;) {
      const { rows } = await pool.query(`select id from private.claim_jobs($1, '1 minute', 7, array[$2])`, [`worker ${n}`, kind]);
      if (rows.length === 0) return mine;
      mine.push(...rows.map((r) => r.id));
    }
  });

  // SKIP LOCKED may show a worker nothing while another holds the last rows; whoever holds them has claimed them.
  assert.equal(claims.flat().length, JOBS);
  assert.equal(new Set(claims.flat()).size, JOBS);
});

test('eight workers at once and a limit of three: never more run, and all jobs are done', async () => {
  const JOBS = 60;
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  await pool.query('select private.set_job_limit($1, $2, 3)', [org, 'key']);
  const jobs = Array.from({ length: JOBS }, () => ({ org_id: org, kind, concurrency_key: 'key' }));
  await pool.query('select private.enqueue_jobs($1)', [JSON.stringify(jobs)]);

  let done = 0;
  let most = 0;
  await atOnce(8, async (n) => {
    while (done < JOBS) {
      const { rows } = await pool.query(`select id, attempt from private.claim_jobs($1, '1 minute', 5, array[$2])`, [`worker ${n}`, kind]);
      const { running } = await one(`select count(*)::int as running from public.jobs where kind = $1 and status = 'running'`, [kind]);
      most = Math.max(most, running);
      if (rows.length === 0) continue;
      const { rows: ended } = await pool.query('select status from private.complete_jobs($1, $2)', [`worker ${n}`, JSON.stringify(rows)]);
      assert.deepEqual(
        ended.map((e) => e.status),
        rows.map(() => 'succeeded'),
      );
      done += rows.length;
    }
  });
  assert.equal(done, JOBS);
  assert.ok(most >= 1 && most <= 3, `${most} ran at once`);
});

test('workers that end the same batches crosswise do not wait for each other', async () => {
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  await pool.query('select private.enqueue_jobs($1)', [JSON.stringify(Array.from({ length: 200 }, () => ({ org_id: org, kind })))]);
  const { rows } = await pool.query(`select id, attempt from private.claim_jobs('batcher', '1 minute', 200, array[$1])`, [kind]);
  const answers = await atOnce(
    6,
    async (n) =>
      (await pool.query(`select id from private.complete_jobs('batcher', $1)`, [JSON.stringify(n % 2 ? rows : rows.toReversed())])).rows
        .length,
  );
  assert.equal(
    answers.reduce((sum, n) => sum + n, 0),
    200,
    'each job is ended by one of them',
  );
});

test('a job that is ended while its row is being changed is asked for again: ended when only its lease moved, left alone when it was taken back', async () => {
  const { org } = await newTenant();
  const kind = 'race_changed';
  for (const [change, ended] of [
    [`update public.jobs set locked_until = locked_until + interval '1 minute' where id = $1`, ['succeeded']],
    [`update public.jobs set cancel_requested = true where id = $1`, ['cancelled']],
    [`update public.jobs set locked_by = 'other' where id = $1`, []],
  ]) {
    await pool.query('select private.enqueue_job($1, $2)', [org, kind]);
    const { id } = await one(`select id from private.claim_jobs('w', '1 minute', 1, array[$1])`, [kind]);
    const end = async () =>
      (await pool.query(`select status from private.complete_jobs('w', $1)`, [JSON.stringify([{ id, attempt: 1 }])])).rows.map(
        (row) => row.status,
      );
    const session = await pool.connect();
    await session.query('begin');
    await session.query(change, [id]);
    assert.deepEqual(await end(), ['running'], change);
    await session.query('commit');
    session.release();
    assert.deepEqual(await end(), ended, change);
  }
});

test('a claim that finds nothing does not wait for another one that keeps house', async () => {
  const [keeper, worker] = await Promise.all([pool.connect(), pool.connect()]);
  try {
    await keeper.query('begin');
    await keeper.query('select private.tend_jobs()');
    await worker.query(`set statement_timeout = '10s'`);
    // It is time again while the other is still at it.
    await pool.query(`select setval('private.jobs_tend_at', 0)`);
    const { rows } = await worker.query(`select id from private.claim_jobs('w', '1 minute', 1, array['race_nothing'])`);
    assert.deepEqual(rows, []);
  } finally {
    await keeper.query('rollback');
    keeper.release();
    worker.release(true);
  }
});

test('a finishing worker against the reaper: one of them wins, never both', async () => {
  const { org, skill } = await newTenant();
  const won = { worker: 0, reaper: 0 };
  for (let i = 0; i < 20; i++) {
    // Claimed by hand, so that no worker of the running stack takes it.
    const worker = `racer ${randomUUID()}`;
    const session = await pool.connect();
    await session.query('begin');
    const {
      rows: [{ id, job_id: job }],
    } = await session.query(`select e.* from public.skills as s, private.queue_execution(s, '{}', 'manual') as e where s.id = $1`, [skill]);
    await session.query(
      `update public.jobs set status = 'running', attempt = 1, max_attempts = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where id = $1`,
      [job, worker],
    );
    await session.query('select private.start_execution($1, $2)', [worker, job]);
    await session.query(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = $1`, [job]);
    await session.query('commit');
    session.release();

    const finish = () =>
      one(`select private.finish_execution($1, $2, '{"output": {}, "input_tokens": 1, "output_tokens": 0}') as done`, [worker, job]);
    const reap = () => one('select private.reap_jobs()');
    // Whoever is started first is a little ahead: take turns.
    const answers = await Promise.all(i % 2 ? [finish(), reap()] : [reap(), finish()]);
    const { done } = answers[i % 2 ? 0 : 1];
    const { status, events } = await one(
      `select e.status, (select count(*)::int from public.job_events as v where v.job_id = e.job_id and v.event in ('succeeded', 'dead')) as events
       from public.executions as e where e.id = $1`,
      [id],
    );
    assert.equal(status, done ? 'succeeded' : 'failed');
    assert.equal(events, 1);
    won[done ? 'worker' : 'reaper'] += 1;
  }
  assert.ok(won.worker > 0 && won.reaper > 0, `both win at times: ${JSON.stringify(won)}`);
  assert.equal(await used(org, 'llm_tokens'), won.worker, 'booked exactly for those that finished');
});

test('an organization is deleted while its jobs start, end, fail and are taken back: nobody waits for the other crosswise', async () => {
  const seen = new Set();
  for (let i = 0; i < 30; i++) {
    const { org, skill } = await newTenant();
    const worker = `racer ${randomUUID()}`;
    const session = await pool.connect();
    await session.query('begin');
    const { rows: jobs } = await session.query(
      `select e.job_id as id from public.skills as s, generate_series(1, 8), private.queue_execution(s, '{}', 'manual') as e where s.id = $1`,
      [skill],
    );
    await session.query(
      `update public.jobs set status = 'running', attempt = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where org_id = $1`,
      [org, worker],
    );
    for (const { id } of jobs.slice(0, 6)) await session.query('select private.start_execution($1, $2)', [worker, id]);
    await session.query(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = any ($1)`, [
      jobs.slice(4, 6).map((j) => j.id),
    ]);
    await session.query('commit');
    session.release();

    const calls = [
      () => pool.query('delete from public.organizations where id = $1', [org]),
      ...jobs.slice(0, 2).map(
        ({ id }) =>
          () =>
            pool.query(`select private.finish_execution($1, $2, '{"output": {}, "input_tokens": 1, "output_tokens": 1}') as done`, [
              worker,
              id,
            ]),
      ),
      ...jobs.slice(2, 4).map(
        ({ id }, n) =>
          () =>
            pool.query(`select private.fail_execution($1, $2, 'x', 'y', $3, usage => '{"input_tokens": 1}') as done`, [
              worker,
              id,
              n === 0,
            ]),
      ),
      () => pool.query('select private.reap_jobs() as done'),
      ...jobs.slice(6).map(
        ({ id }) =>
          () =>
            pool.query('select private.start_execution($1, $2) as done', [worker, id]),
      ),
    ];
    // Whoever is started first is a little ahead: take turns.
    const answers = await Promise.allSettled(calls.map((_, n) => calls[(n + i) % calls.length]()));
    for (const answer of answers) seen.add(answer.reason?.code ?? 'done');
    assert.equal((await one('select count(*)::int as n from public.jobs where org_id = $1', [org])).n, 0);
  }
  assert.deepEqual([...seen], ['done'], 'each call has an answer');
});

// The same, step by step: chance finds a crossing only at times. Whoever ends a job has locked it, the deletion has come so far
// as to wait for it, and then the job is ended: that must need nothing which the deletion holds.
const usage = '{"input_tokens": 1, "output_tokens": 1}';
const ends = {
  'the job starts': ['select private.start_execution($1, $2) as answer', 'queued'],
  'it succeeds': [`select private.finish_execution($1, $2, '{"output": {}, "input_tokens": 1, "output_tokens": 1}') as answer`],
  'it succeeds with too much': [`select private.finish_execution($1, $2, jsonb_build_object('output', repeat('x', 1100000))) as answer`],
  'it fails for good': [`select private.fail_execution($1, $2, 'x', 'y', false, usage => '${usage}') as answer`],
  'it fails and comes again': [`select private.fail_execution($1, $2, 'x', 'y', true, usage => '${usage}') as answer`],
  'it fails without having used anything': [`select private.fail_execution($1, $2, 'x', 'y', false) as answer`],
  'it is taken back': ['select private.reap_jobs() as answer, $1::text, $2::uuid', 'running', '-1 second'],
};
for (const [what, [sql, status = 'running', lease = '1 minute']] of Object.entries(ends)) {
  test(`an organization is deleted while ${what}: its deletion waits and holds nothing that this needs`, async () => {
    const { org, skill } = await newTenant();
    const worker = `racer ${randomUUID()}`;
    const [ender, deleter] = [await pool.connect(), await pool.connect()];
    try {
      // Claimed in the transaction that queues it, so that no worker of the running stack takes it.
      await ender.query('begin');
      const {
        rows: [{ id }],
      } = await ender.query(
        `select e.job_id as id from public.skills as s, private.queue_execution(s, '{}', 'manual') as e where s.id = $1`,
        [skill],
      );
      await ender.query(
        `update public.jobs set status = 'running', attempt = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where id = $1`,
        [id, worker],
      );
      if (status === 'running') await ender.query('select private.start_execution($1, $2)', [worker, id]);
      await ender.query('update public.jobs set locked_until = clock_timestamp() + $2::interval where id = $1', [id, lease]);
      await ender.query('commit');

      await ender.query('begin');
      await ender.query('select from public.jobs where id = $1 for update', [id]);
      const deleted = deleter.query('delete from public.organizations where id = $1', [org]);
      const pids = [ender.processID, deleter.processID];
      while (!(await one('select $1 = any (pg_blocking_pids($2)) as waits', pids)).waits)
        await new Promise((resolve) => {
          setTimeout(resolve, 5);
        });
      const ended = ender.query(sql, [worker, id]).then(({ rows }) => ender.query('commit').then(() => rows[0].answer));
      const [{ rowCount }, answer] = await Promise.all([deleted, ended]);
      assert.equal(rowCount, 1);
      assert.notEqual(answer, null, 'the job was ended');
      const { left } = await one(
        `select (select count(*) from public.jobs where org_id = $1)::int + (select count(*) from public.executions where org_id = $1)::int as left`,
        [org],
      );
      assert.equal(left, 0);
    } finally {
      // Not back into the pool: after a failure one of them may still wait.
      ender.release(true);
      deleter.release(true);
    }
  });
}

test('one idempotency key from twelve sessions: one execution, charged once', async () => {
  const { user, org, skill } = await newTenant();
  const answers = await atOnce(12, () => asUser(user, `select (public.execute_skill($1, '{"a": 1}', 'same')).id`, [skill]));
  assert.deepEqual(
    answers.filter((a) => a.refused),
    [],
  );
  assert.equal(new Set(answers.map((a) => a.rows[0].id)).size, 1);
  assert.equal(await used(org, 'executions'), 1);
});

// Without turns the later call would run into the unique key and fail, or charge before it finds out.
for (const end of ['commit', 'rollback']) {
  test(`a call whose idempotency key is in use waits for its turn, and the first one's ${end}`, async () => {
    const { user, org, skill } = await newTenant();
    const execute = `select (public.execute_skill($1, '{"a": 1}', 'same')).id`;
    const first = await pool.connect();
    try {
      await first.query('begin');
      await first.query('set local session authorization authenticator');
      await first.query('set local role authenticated');
      await first.query(`select set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ role: 'authenticated', sub: user })]);
      const {
        rows: [{ id }],
      } = await first.query(execute, [skill]);
      const { pid } = (await first.query('select pg_backend_pid() as pid')).rows[0];
      const second = asUser(user, execute, [skill]);
      await untilWaitingFor(pid, 'advisory');
      await first.query(end);
      const answer = await second;
      assert.equal(answer.refused, undefined);
      assert.equal(answer.rows[0].id === id, end === 'commit');
      assert.equal(await used(org, 'executions'), 1);
      assert.equal((await one('select count(*)::int as n from public.executions where org_id = $1', [org])).n, 1);
    } finally {
      first.release(true);
    }
  });
}

// Each change reads what the other has not committed yet, so without turns the later one would write what is no longer so.
for (const order of ['upgrade first', 'membership first']) {
  test(`a user's tier is their best plan when two of their organizations change at once: ${order}`, async () => {
    const { user, org } = await newTenant();
    const { org: other } = await newTenant();
    await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [other]);
    const changes = [
      [`update public.subscriptions set plan = 'PRO' where org_id = $1`, [org]],
      [`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'member')`, [other, user]],
    ];
    if (order === 'membership first') changes.reverse();
    const first = await pool.connect();
    try {
      const { pid } = (await first.query('select pg_backend_pid() as pid')).rows[0];
      await first.query('begin');
      await first.query(...changes[0]);
      const second = pool.query(...changes[1]);
      await untilWaitingFor(pid, 'transactionid');
      await first.query('commit');
      await second;
      const { tier } = await one(`select tier from kijko.tiers where subject = kijko.subject('user', $1)`, [user]);
      assert.equal(tier, 'TEAMS');
    } finally {
      first.release(true);
    }
  });
}

test('twenty executions for the last five of the quota: five pass', async () => {
  const { user, org, skill } = await newTenant();
  await pool.query(`select kijko.set_limit($1, 'executions', 'month', 5)`, [org]);
  const answers = await atOnce(20, () => asUser(user, 'select (public.execute_skill($1)).id', [skill]));
  assert.equal(answers.filter((a) => a.rows).length, 5);
  assert.deepEqual([...new Set(answers.filter((a) => a.refused).map((a) => a.refused))], ['KJ429']);
  assert.equal((await one('select count(*)::int as n from public.executions where org_id = $1', [org])).n, 5);
});

test('all owners leave at once: one stays', async () => {
  for (let i = 0; i < 5; i++) {
    const tenants = [await newTenant(), await newTenant(), await newTenant()];
    const {
      rows: [{ id: org }],
    } = await asUser(tenants[0].user, `select (public.create_organization('race')).id`);
    for (const { user } of tenants.slice(1)) {
      await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner')`, [org, user]);
    }
    const answers = await atOnce(3, (n) =>
      asUser(tenants[n].user, 'delete from public.memberships where org_id = $1 and user_id = $2 returning 1', [org, tenants[n].user]),
    );
    assert.deepEqual(answers.map((a) => a.refused ?? 'left').sort(), ['KJ409', 'left', 'left']);
    assert.equal((await one(`select count(*)::int as n from public.memberships where org_id = $1 and role = 'owner'`, [org])).n, 1);
  }
});

test('projects made, deleted and rolled back by twelve sessions: never more than the limit, and the gauge is what is there', async () => {
  const { org } = await newTenant();
  const LIMIT = 10;
  await pool.query(`select kijko.set_limit($1, 'projects', 'lifetime', $2)`, [org, LIMIT]);
  let most = 0;
  let made = 0;
  let refused = 0;
  await atOnce(12, async (n) => {
    const session = await pool.connect();
    try {
      for (let turn = 0; turn < 25; turn++) {
        const rows = 1 + ((n + turn) % 3);
        try {
          await session.query('begin');
          await session.query(
            `insert into public.projects (org_id, name) select $1, gen_random_uuid()::text from generate_series(1, $2::int)`,
            [org, rows],
          );
          await session.query(turn % 5 === 0 ? 'rollback' : 'commit');
          made += 1;
        } catch (error) {
          await session.query('rollback');
          assert.equal(error.code, 'KJ429');
          refused += 1;
        }
        const {
          rows: [{ count }],
        } = await session.query('select count(*)::int as count from public.projects where org_id = $1', [org]);
        most = Math.max(most, count);
        if (count > LIMIT / 2) {
          await session.query(
            `delete from public.projects where id in (
            select id from public.projects where org_id = $1 order by random() limit $2 for update skip locked)`,
            [org, rows + 1],
          );
        }
      }
    } finally {
      session.release();
    }
  });
  assert.ok(most <= LIMIT, `${most} projects at once`);
  assert.ok(made > 0 && refused > 0, `${made} made, ${refused} refused`);
  const { there } = await one('select count(*)::int as there from public.projects where org_id = $1', [org]);
  assert.equal(await used(org, 'projects'), there);
  // What is left of the limit can be had, and not one more: the counter in memory says the same as the tables.
  await pool.query(`insert into public.projects (org_id, name) select $1, gen_random_uuid()::text from generate_series(1, $2::int)`, [
    org,
    LIMIT - there,
  ]);
  await assert.rejects(pool.query(`insert into public.projects (org_id, name) values ($1, 'more')`, [org]), { code: 'KJ429' });
});

// Resolves once one session waits for the other; a statement that ends before that has not waited.
async function waitsFor(waiter, holder, statement) {
  let ended = false;
  const end = () => {
    ended = true;
  };
  statement.then(end, end);
  while (!(await one('select $1 = any (pg_blocking_pids($2)) as waits', [holder.processID, waiter.processID])).waits) {
    assert.ok(!ended, 'it ended without having waited');
    await new Promise((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}

const RECOUNT = 'select meter, was::int, became::int from private.recount_gauges($1)';
const GAUGES = {
  members: { table: 'memberships', row: ({ org, guest }) => ({ org_id: org, user_id: guest.user, role: 'viewer' }) },
  projects: { row: ({ org }) => ({ org_id: org, name: 'open' }) },
  habits: { row: ({ org, skill }) => ({ org_id: org, skill_id: skill, name: 'open', cron: '@daily' }) },
  skills: { row: ({ org }) => ({ org_id: org, name: 'open', prompt_template: 'x' }) },
  usage_meters: { row: ({ org }) => ({ org_id: org, event_type: 'open', meter: 'own.open' }) },
};
for (const [meter, { table = meter, row }] of Object.entries(GAUGES)) {
  test(`a recount waits for those who are writing ${meter}, and mends what came past the triggers`, async () => {
    const [{ org, skill }, guest] = [await newTenant(), await newTenant()];
    const columns = Object.entries(row({ org, skill, guest }));
    const insert = `insert into public.${table} (${columns.map(([name]) => name)}) values (${columns.map((_, n) => `$${n + 1}`)}) returning id`;
    const [writer, repair] = [await pool.connect(), await pool.connect()];
    try {
      const before = await used(org, meter);
      await writer.query('begin');
      const {
        rows: [{ id }],
      } = await writer.query(
        insert,
        columns.map(([, value]) => value),
      );
      const recounted = repair.query(RECOUNT, [org]);
      await waitsFor(repair, writer, recounted);
      await writer.query('commit');
      assert.deepEqual((await recounted).rows, [], 'it saw the commit that it waited for');
      assert.equal(await used(org, meter), before + 1);
      await writer.query('set session_replication_role = replica');
      await writer.query(`delete from public.${table} where id = $1`, [id]);
      await writer.query('reset session_replication_role');
      assert.equal(await used(org, meter), before + 1);
      assert.deepEqual((await repair.query(RECOUNT, [org])).rows, [{ meter, was: before + 1, became: before }]);
      assert.equal(await used(org, meter), before);
    } finally {
      writer.release(true);
      repair.release(true);
    }
  });
}

test('a recount needs to see what others commit meanwhile', async () => {
  const { org } = await newTenant();
  const repair = await pool.connect();
  try {
    await repair.query('begin isolation level repeatable read');
    await assert.rejects(repair.query(RECOUNT, [org]), { code: '22023' });
  } finally {
    repair.release(true);
  }
});
