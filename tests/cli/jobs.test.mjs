// ./kijko jobs: what an operator sees of the queue, and does with jobs that were given up, overdue or unwanted.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { newPerson } from '../journeys/domain.mjs';
import { rewindWatermark } from '../queue.mjs';
import { asPostgres, kijko } from './stack.mjs';

const KIND = 'own.operated';

const rows = (text, ...values) => asPostgres(async (client) => (await client.query(text, values)).rows);
const statusOf = async (id) => (await rows('select status, attempt, uncounted_attempts, error_code from jobs where id = $1', id))[0];

describe('jobs', () => {
  let person;
  let other;

  /** A job in a state, of the first person's organization unless another is named. */
  async function job(state, columns = {}) {
    const states = {
      queued: {},
      dead: { status: 'dead', attempt: 5, error_code: 'internal', error: 'it failed', finished_at: new Date() },
      running: { status: 'running', attempt: 1, locked_by: 'lost', locked_until: new Date(Date.now() + 600_000) },
      overdue: { status: 'running', attempt: 1, locked_by: 'lost', locked_until: new Date(Date.now() - 600_000) },
    };
    const row = { org_id: person.org, kind: KIND, ...states[state], ...columns };
    const names = Object.keys(row);
    const [{ id }] = await rows(
      `insert into jobs (${names.join(', ')}) values (${names.map((_, at) => `$${at + 1}`).join(', ')}) returning id`,
      ...Object.values(row),
    );
    return id;
  }

  before(async () => {
    person = await newPerson();
    other = await newPerson();
    for (const one of [person, other]) {
      one.org = (await rows('select id from organizations where personal_for = $1', one.user.id))[0].id;
    }
  });
  after(() => rows('delete from jobs where kind like $1', `${KIND}%`));

  it('counts by kind, the ended leases too', async () => {
    await job('overdue', { kind: `${KIND}.counted` });
    const { code, stdout } = await kijko(['jobs']);
    assert.equal(code, 0);
    assert.match(stdout, /kind +\| queued \| running \| overdue \| dead/);
    // pg_cron takes leases back once a minute.
    assert.match(stdout, new RegExp(`${KIND.replace('.', '\\.')}\\.counted +\\| +(0 \\| +1 \\| +1|1 \\| +0 \\| +0) \\| +0`));
  });

  it('lists by state, kind and organization', async () => {
    const mine = await job('dead');
    const theirs = await job('dead', { org_id: other.org });
    const all = (await kijko(['jobs', 'dead', '--kind', KIND])).stdout;
    assert.ok(all.includes(mine) && all.includes(theirs));
    const one = (await kijko(['jobs', 'dead', '--org', other.org])).stdout;
    assert.ok(!one.includes(mine) && one.includes(theirs));
    assert.ok(!(await kijko(['jobs', 'queued', '--kind', KIND])).stdout.includes(mine));
  });

  it('shows a job with its events and without what belongs to the tenant', async () => {
    const id = await job('dead', { payload: { secret: 'of the tenant' } });
    const { code, stdout } = await kijko(['jobs', 'show', id]);
    assert.equal(code, 0);
    assert.match(stdout, /error +\| it failed/);
    assert.ok(!stdout.includes('of the tenant'));
    assert.equal((await kijko(['jobs', 'show', randomUUID()])).code, 1);
  });

  it('prints no control character that a tenant has stored', async () => {
    const id = await job('dead', { error: 'red \u001b[31m' });
    const { stdout } = await kijko(['jobs', 'show', id]);
    assert.ok(stdout.includes('red') && !stdout.includes('\u001b'));
  });

  it('retries a dead job with all of its attempts, once', async () => {
    const id = await job('dead');
    const { code, stdout } = await kijko(['jobs', 'retry', id]);
    assert.equal(code, 0, stdout);
    assert.deepEqual(await statusOf(id), { status: 'queued', attempt: 5, uncounted_attempts: 5, error_code: null });
    assert.equal((await kijko(['jobs', 'retry', id])).code, 1);
    await rewindWatermark(rows);
    const [claimed] = await rows(`select id, attempt, max_attempts from private.jobs_claim('w', '1 minute', 1, array[$1])`, KIND);
    assert.deepEqual(claimed, { id, attempt: 6, max_attempts: 5 });
    const [{ status }] = await rows(`select private.jobs_fail('w', $1, 'internal', 'again', true) as status`, id);
    assert.equal(status, 'queued');
  });

  it('retries, cancels and deletes by kind and organization, and nothing else', async () => {
    const kind = `${KIND}.several`;
    const mine = await job('dead', { kind });
    const theirs = await job('dead', { kind, org_id: other.org });
    assert.equal((await kijko(['jobs', 'retry', '--kind', kind, '--org', other.org])).code, 0);
    assert.equal((await statusOf(theirs)).status, 'queued');
    assert.equal((await statusOf(mine)).status, 'dead');
    assert.equal((await kijko(['jobs', 'cancel', '--kind', kind])).code, 0);
    assert.equal((await statusOf(theirs)).status, 'cancelled');
    assert.equal((await kijko(['jobs', 'delete', '--kind', kind])).code, 0);
    assert.equal(await statusOf(mine), undefined);
    assert.ok(await statusOf(theirs));
  });

  it('refuses a retry while a later job has its unique key, and retries the others', async () => {
    const kind = `${KIND}.keyed`;
    const taken = await job('dead', { kind, unique_key: 'a' });
    const free = await job('dead', { kind, unique_key: 'b' });
    await job('queued', { kind, unique_key: 'a', run_at: new Date(Date.now() + 3_600_000) });
    const { code, stdout } = await kijko(['jobs', 'retry', '--kind', kind]);
    assert.equal(code, 1);
    assert.match(stdout, new RegExp(`${taken} refused conflict`));
    assert.equal((await statusOf(taken)).status, 'dead');
    assert.equal((await statusOf(free)).status, 'queued');
  });

  it('refuses a retry of a mail, whose text is gone', async () => {
    const id = await job('dead', { kind: 'mail.operated', payload: { mail_id: randomUUID() } });
    const { code, stdout } = await kijko(['jobs', 'retry', id]);
    assert.equal(code, 1);
    assert.match(stdout, /refused conflict/);
    await rows('delete from jobs where id = $1', id);
  });

  it('asks a running job to stop', async () => {
    const id = await job('running');
    const { code, stdout } = await kijko(['jobs', 'cancel', id]);
    assert.equal(code, 0);
    assert.match(stdout, /cancel_requested/);
    assert.equal((await rows('select cancel_requested from jobs where id = $1', id))[0].cancel_requested, true);
  });

  it('takes overdue jobs back', async () => {
    const id = await job('overdue');
    assert.equal((await kijko(['jobs', 'requeue'])).code, 0);
    assert.equal((await statusOf(id)).status, 'queued');
  });

  it('changes nothing when no job was named', async () => {
    const id = await job('dead');
    for (const args of [
      ['retry'],
      ['delete'],
      ['cancel', '--limit', '5'],
      ['retry', 'all'],
      ['retry', '--kind'],
      ['retry', id, '--kind', KIND],
      ['delete', '--org', "x' or true"],
      ['dead', '--limit', '0'],
      ['show'],
      ['nothing'],
    ]) {
      assert.equal((await kijko(['jobs', ...args])).code, 2, args.join(' '));
    }
    assert.equal((await statusOf(id)).status, 'dead');
  });
});

describe('a dead execution', () => {
  it('is repeated once, as a new execution with a reservation of its own', async () => {
    const person = await newPerson();
    const org = (await rows('select id from organizations where personal_for = $1', person.user.id))[0].id;
    const skill = await person.client
      .from('skills')
      .insert({ name: 'operated', prompt_template: 'say it', model: 'echo/echo' })
      .select()
      .single();
    assert.equal(skill.error, null, JSON.stringify(skill.error));
    const failed = await asPostgres(async (client) => {
      const { rows: made } = await client.query(
        `with job as (
           insert into jobs (org_id, kind, status, attempt, error_code, finished_at)
           values ($1, 'execution.echo', 'dead', 5, 'internal', clock_timestamp()) returning id, org_id
         )
         insert into executions (org_id, skill_id, job_id, trigger, status, error_code, error, finished_at)
         select org_id, $2, id, 'manual', 'failed', 'internal', 'it failed', kijko.now() from job returning id, job_id`,
        [org, skill.data.id],
      );
      return made[0];
    });
    const { code, stdout } = await kijko(['jobs', 'retry', failed.job_id]);
    assert.equal(code, 0, stdout);
    const [retry] = await rows('select id, trigger, job_id from executions where retry_of = $1', failed.id);
    assert.equal(retry.trigger, 'retry');
    assert.ok(stdout.includes(retry.job_id));
    assert.equal((await kijko(['jobs', 'retry', failed.job_id])).code, 1);
    assert.equal((await rows('select count(*)::integer as n from executions where retry_of = $1', failed.id))[0].n, 1);
  });
});
