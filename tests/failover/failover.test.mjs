// A primary fails under load, in two ways: kill -9 of the whole machine's Postgres and Patroni, and a cut network. Afterwards every
// acknowledged commit is there, each tick of a habit came once, quotas are exact, and rates are reset. ./kijko test failover
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { asSuperuser, home, kijko, port } from '../cli/stack.mjs';
import { newUser } from '../journeys/support.mjs';
import { killServices, Service } from '../service.mjs';
import { until } from '../until.mjs';
import { primarySession, query, session, Writers } from './load.mjs';
import { Pair, PORT, passwords } from './patroni.mjs';

// What the issue of this drill allows.
const LIMIT_MS = 300_000;
const METER = 'events';
const pair = new Pair();
const hosts = pair.nodes.map(({ address }) => `${address}:${PORT}`).join(',');
const figures = {};
const rest = `http://127.0.0.1:${Number(port) + 10}`;
let tenant;
let writers;
let calls;

/** Clients of the API: each asks for an execution again, by the same key, until it is acknowledged. */
class Calls {
  acknowledged = [];
  // Answers that were no success, by their reason.
  refusals = {};
  #stopped = false;

  constructor() {
    this.running = [1, 2].map(() => this.#call());
  }

  async #call() {
    while (!this.#stopped) {
      const key = randomUUID();
      while (!(await this.#execute(key))) {
        if (this.#stopped) return;
        await sleep(200);
      }
      this.acknowledged.push(key);
      await sleep(300);
    }
  }

  async #execute(key) {
    try {
      const answer = await fetch(`${rest}/rpc/execute_skill`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${tenant.token}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ skill_id: tenant.skill, input: {}, idempotency_key: key }),
        signal: AbortSignal.timeout(15_000),
      });
      if (answer.ok) return true;
      const { code } = await answer.json();
      this.#refused(`${answer.status} ${code}`);
    } catch (error) {
      this.#refused(error.name);
    }
    return false;
  }

  #refused(why) {
    this.refusals[why] = (this.refusals[why] ?? 0) + 1;
  }

  async stop() {
    this.#stopped = true;
    await Promise.all(this.running);
  }
}

async function makeTenant() {
  const { client, user, session: signedIn } = await newUser();
  const { data: skill, error } = await client
    .from('skills')
    .insert({ name: 'Drill', prompt_template: 'Hello', model: 'echo/echo' })
    .select()
    .single();
  assert.equal(error, null);
  tenant = { org: skill.org_id, skill: skill.id, user: user.id, token: signedIn.access_token };
}

/** PostgREST of the stack, told of both addresses. A server that is cut off sends nothing, so the client must give it up itself. */
function startRest() {
  const file = path.join(home, 'failover/rest.conf');
  const patience =
    'target_session_attrs=read-write&connect_timeout=2&keepalives_idle=5&keepalives_interval=2&keepalives_count=2&tcp_user_timeout=5000';
  const text = fs
    .readFileSync(path.join(home, 'secrets/rest.conf'), 'utf8')
    .replace(/@127\.0\.0\.1:\d+\/postgres\?/, `@${hosts}/postgres?${patience}&`);
  assert.ok(text.includes(hosts));
  fs.writeFileSync(file, text, { mode: 0o600 });
  const log = fs.openSync(path.join(home, 'log/drill-rest.log'), 'a');
  const child = spawn(path.join(home, 'bin/postgrest'), [file], { stdio: ['ignore', log, log] });
  fs.closeSync(log);
  return child;
}

/** The primary fails by `fail`; the load goes on with the other one. */
async function failsOver(name, primary, fail) {
  const standby = pair.other(primary);
  const key = `drill:${name}`;
  const allowed = async () => (await query(pair, `select kijko.allow($1, 3, '1 hour') as allowed`, [key]))[0].allowed;
  while (await allowed());
  const started = performance.now();
  await fail();
  await pair.becomesPrimary(standby);
  const promoted = performance.now() - started;
  await writers.resumes();
  const writes = performance.now() - started;
  const before = calls.acknowledged.length;
  await until('the API to answer', () => calls.acknowledged.length > before + 1, { timeoutMs: LIMIT_MS });
  const api = performance.now() - started;
  figures[name] = { promoted_s: promoted / 1000, writes_s: writes / 1000, api_s: api / 1000 };
  assert.ok(writes < LIMIT_MS && api < LIMIT_MS);
  assert.equal(await allowed(), true, 'a rate begins anew: its state was in the memory of the lost primary');
}

describe('a failover by Patroni', { timeout: 1_200_000 }, () => {
  let postgrest;
  before(async () => {
    await makeTenant();
    await asSuperuser(async (admin) => {
      await admin.query(`create role kijko_replicator login replication password '${passwords().KIJKO_ADMIN_PASSWORD}'`);
      await admin.query('create table public.own_drill (n bigint primary key)');
      await admin.query('alter table public.own_drill owner to postgres');
      await admin.query(`update public.subscriptions set plan_override = 'TEAMS' where org_id = $1`, [tenant.org]);
      await admin.query(
        `insert into public.habits (org_id, skill_id, name, cron, overlap, catch_up, created_by) values ($1, $2, 'Drill', '* * * * *', 'queue', 'all', $3)`,
        [tenant.org, tenant.skill, tenant.user],
      );
    });
    const down = await kijko(['down']);
    assert.equal(down.code, 0, down.stderr);
    await pair.start();
    const admin = await session(pair.a, 'supabase_admin', passwords().KIJKO_ADMIN_PASSWORD);
    await admin.query(`update cron.job set nodename = current_setting('cron.host'), nodeport = current_setting('port')::integer`);
    await admin.end();
    postgrest = startRest();
    const url = `postgres://kijko_sidecar:${passwords().KIJKO_SIDECAR_PASSWORD}@${hosts}/postgres?sslmode=disable&target_session_attrs=read-write`;
    await Service.start('sidecar', {
      variables: { DATABASE_URL: url, KIJKO_LLM_ECHO: '1', KIJKO_LEASE_SECONDS: '10', KIJKO_REST_URL: rest },
    });
    writers = new Writers(pair, tenant.org, METER);
    calls = new Calls();
    await until('the load to run', () => writers.acknowledged.length > 100 && calls.acknowledged.length > 3);
  });

  after(async () => {
    await writers?.stop().catch(() => {});
    await killServices();
    postgrest?.kill('SIGKILL');
    pair.stop();
  });

  it('after kill -9 of the primary the standby takes over, and the lost one comes back behind it', async () => {
    await failsOver('killed', pair.a, () => pair.a.kill());
    const started = performance.now();
    pair.a.start();
    await pair.isSynchronous(pair.a);
    figures.killed.standby_again_s = (performance.now() - started) / 1000;
  });

  it('a primary that is cut off acknowledges nothing any more, and the standby takes over', async () => {
    // Clients on the side of the lost primary, without a limit of time and with one: a commit that waits for its standby has none.
    const inside = (options, first) => {
      const [command, ...args] = ['ip', ...pair.b.command('psql', '-X', '-At', '-h', pair.b.address, '-U', 'postgres', '-d', 'postgres')];
      const child = spawn(command, args, {
        env: { PATH: process.env.PATH, PGPASSWORD: passwords().KIJKO_POSTGRES_PASSWORD, PGOPTIONS: options, PGCONNECT_TIMEOUT: '3' },
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      child.stdin.on('error', () => {});
      const answers = [];
      child.stdout.on('data', (data) => answers.push(String(data)));
      child.stderr.on('data', (data) => answers.push(String(data)));
      const ended = new Promise((resolve) => child.once('exit', resolve));
      return {
        answers,
        write: () =>
          child.stdin.write(Array.from({ length: 20 }, (_, at) => `insert into public.own_drill values (${first - at});\n`).join('')),
        end: () => {
          child.kill('SIGKILL');
          return ended;
        },
      };
    };
    const patient = inside('', -1);
    const limited = inside('-c statement_timeout=2s', -101);
    await failsOver('cut_off', pair.b, async () => {
      pair.b.cutOff();
      patient.write();
      limited.write();
    });
    await Promise.all([patient.end(), limited.end()]);
    for (const { answers } of [patient, limited]) assert.doesNotMatch(answers.join(''), /INSERT/);
    const started = performance.now();
    pair.b.heal();
    await pair.isSynchronous(pair.b);
    figures.cut_off.standby_again_s = (performance.now() - started) / 1000;
    assert.deepEqual(await query(pair, 'select n from public.own_drill where n < 0'), []);
  });

  it('every acknowledged commit is there, and the ledger agrees with the rows', async () => {
    // Two ticks at once, as a scheduler that was too slow to die would do it.
    await Promise.all([1, 2].map(() => query(pair, 'select private.habits_run_due()')));
    await Promise.all([writers.stop(), calls.stop()]);
    const rows = new Set((await query(pair, 'select n from public.own_drill')).map(({ n }) => Number(n)));
    assert.deepEqual(
      writers.acknowledged.filter((n) => !rows.has(n)),
      [],
    );
    const [{ used }] = await query(pair, 'select used from kijko.usage($1) where meter = $2', [tenant.org, METER]);
    assert.equal(Number(used), rows.size);
    Object.assign(figures, { acknowledged: writers.acknowledged.length, committed: rows.size, longest_pause_s: writers.pause / 1000 });
  });

  it('a quota has exactly what is left of it', async () => {
    const [{ used }] = await query(pair, 'select used from kijko.usage($1) where meter = $2', [tenant.org, METER]);
    await query(pair, `select kijko.set_limit($1, $2, 'month', $3)`, [tenant.org, METER, Number(used) + 50]);
    const spend = async () => {
      const client = await primarySession(pair);
      let spent = 0;
      try {
        for (;;) {
          await client.query('select kijko.consume($1, $2, 1)', [tenant.org, METER]);
          spent++;
        }
      } catch (error) {
        assert.equal(error.code, 'KJ429', error.message);
      } finally {
        client.end().catch(() => {});
      }
      return spent;
    };
    const spent = await Promise.all([1, 2, 3, 4, 5, 6].map(spend));
    assert.equal(
      spent.reduce((sum, n) => sum + n, 0),
      50,
    );
  });

  it('each call of the API has one execution, which ran to its end and was charged once', async () => {
    const [{ running }] = await until('all executions to end', async () => {
      const found = await query(
        pair,
        `select count(*) filter (where status not in ('succeeded'))::int as running from public.executions where org_id = $1`,
        [tenant.org],
      );
      return found[0].running === 0 && found;
    });
    assert.equal(running, 0);
    const byKey = await query(
      pair,
      'select idempotency_key as key from public.executions where org_id = $1 and idempotency_key is not null',
      [tenant.org],
    );
    const keys = byKey.map(({ key }) => key);
    assert.equal(new Set(keys).size, keys.length);
    assert.deepEqual(
      calls.acknowledged.filter((key) => !keys.includes(key)),
      [],
    );
    const [{ used, count }] = await query(
      pair,
      `select (select used from kijko.usage($1) where meter = 'executions') as used, (select count(*) from public.executions where org_id = $1) as count`,
      [tenant.org],
    );
    assert.equal(Number(used), Number(count));
    Object.assign(figures, { executions: Number(count), refusals: calls.refusals });
  });

  it('the schedules run on the new primary', async () => {
    const runs = `select max(start_time) > pg_postmaster_start_time() as run from cron.job_run_details where status = 'succeeded'`;
    // They begin at full minutes.
    await until('a schedule to succeed', async () => (await query(pair, runs))[0].run, { timeoutMs: LIMIT_MS });
  });

  it('each minute of the habit has one execution', async () => {
    const slots = (
      await query(pair, `select scheduled_for from public.executions where org_id = $1 and habit_id is not null order by 1`, [tenant.org])
    ).map(({ scheduled_for: slot }) => slot.getTime());
    assert.ok(slots.length >= 2, `${slots.length} slots`);
    assert.deepEqual(
      slots,
      slots.map((_, at) => slots[0] + at * 60_000),
    );
    figures.slots = slots.length;
    console.log(`# figures ${JSON.stringify(figures)}`);
  });

  it('the standby answers reads and no writes', async () => {
    const standby = await session(pair.b);
    try {
      assert.equal((await standby.query('select pg_is_in_recovery() as standby')).rows[0].standby, true);
      assert.equal((await standby.query('select count(*)::int as count from public.plans')).rows[0].count > 0, true);
      await assert.rejects(standby.query('insert into public.own_drill values (0)'), { code: '25006' });
      assert.ok((await standby.query('select * from kijko.usage($1)', [tenant.org])).rows.length > 0);
    } finally {
      await standby.end();
    }
  });
});
