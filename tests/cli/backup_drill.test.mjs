// The drill: data, a backup, more work with jobs under way, a mistake, and the way back to the moment before it. What is restored
// equals what there was, nothing is done twice, and nothing leaves the machine before the operator says so.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until, Vendor } from '../crash/harness.mjs';
import { forgetModel, priceModel, stateOf, Tenant } from '../crash/tenant.mjs';
import { mailState, queueMail } from '../journeys/mail_support.mjs';
import { harmless, send, stored } from '../journeys/stripe_webhook.mjs';
import { api, newEmail, newUser } from '../journeys/support.mjs';
import { header, MailServer } from '../smtp.mjs';
import { contents, differing, Place } from './backup_stack.mjs';
import { Bucket } from './objects.mjs';
import { asPostgres, asSuperuser, kijko, pidOf } from './stack.mjs';

const vendor = new Vendor();
const mails = new MailServer({ allowInsecureAuth: true });
const place = new Place();
let environment;

const sql = (text, values) => asPostgres(async (client) => (await client.query(text, values)).rows);
const status = async (id) => (await stateOf(id)).execution.status;
const succeeded = (id) => until(`execution ${id} to succeed`, async () => (await status(id)) === 'succeeded');
const sent = (id) => until(`mail ${id} to be sent`, async () => (await mailState(id)).status === 'sent');

async function run(args) {
  const { code, stdout, stderr } = await kijko(args, environment);
  assert.equal(code, 0, `./kijko ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** A moment at which nothing was being written, and what the database held then. Reading all of it takes a part of each minute. */
const stillness = () =>
  until(
    'a moment of stillness',
    async () => {
      const before = await contents(process.env.ADMIN_DB_URL);
      const [{ at }] = await asSuperuser(async (client) => (await client.query('select clock_timestamp()::text as at')).rows);
      const held = await contents(process.env.ADMIN_DB_URL);
      return differing(before, held).length === 0 && { at, held };
    },
    { timeoutMs: 300_000 },
  );

/** Those of other tests' people, which schedules would go on with in the middle of this drill. */
const endErasures = () =>
  until('erasures to end', () =>
    asPostgres(async (client) => {
      await client.query('call private.privacy_tick()');
      const { rows } = await client.query('select private.audit_erase(100000) as erased, erasures from private.privacy_backlog()');
      return Number(rows[0].erased) === 0 && Number(rows[0].erasures) === 0;
    }),
  );

describe('a point in time restore', () => {
  let user;
  let tenant;
  let other;
  let moment;
  let calls;
  let bucket;
  const work = {};
  const messages = {};
  /** The mails of this drill: another test's person may be told of an erasure meanwhile. */
  const arrived = () =>
    mails.arrived.filter(({ text }) => Object.values(messages).some((id) => header(text, 'Message-ID') === `<${id}@kijko.test>`));
  const event = harmless();

  before(async () => {
    await vendor.start();
    await mails.start();
    environment = {
      ...place.environment,
      OPENAI_BASE_URL: vendor.baseUrl,
      OPENAI_API_KEY: 'not-a-real-key',
      KIJKO_LLM_ECHO: '1',
      KIJKO_SHUTDOWN_SECONDS: '1',
      SMTP_URL: `smtp://127.0.0.1:${mails.port}`,
      KIJKO_SMTP_STARTTLS: 'off',
      KIJKO_MAIL_FROM: 'Kijko <no-reply@kijko.test>',
    };
    await run(['down']);
    await run(['up']);
    await priceModel();
    bucket = await Bucket.make();
    user = await newUser();
    tenant = await Tenant.make();
    other = await Tenant.make();
  });

  after(async () => {
    await vendor.stop();
    await mails.stop();
    await kijko(['resume', '--cancel'], environment);
    await kijko(['backup', 'off'], environment);
    await kijko(['down']);
    await kijko(['up']);
    await forgetModel();
    await bucket.remove();
    place.remove();
  });

  it('has something to lose: work that is done, under way, queued and not due, on both sides of a backup', async () => {
    await endErasures();
    vendor.answerAll();
    work.done = await tenant.execute(1);
    await succeeded(work.done);
    work.others = await other.execute(1);
    await succeeded(work.others);
    messages.done = await queueMail(newEmail(), tenant.orgId);
    await sent(messages.done);
    assert.equal((await send(event)).status, 200);
    for (const name of ['kept', 'replaced', 'deleted']) await bucket.put(name, `${name} 1`);
    await run(['backup']);
    await bucket.put('replaced', 'replaced 2');

    vendor.reset();
    work.underWay = await tenant.execute(2);
    await vendor.call(1);
    process.kill(pidOf('sidecar'), 'SIGSTOP');
    work.queued = await tenant.execute(3);
    messages.queued = await queueMail(newEmail(), tenant.orgId);
    work.notDue = await tenant.execute(4);
    await sql(`update public.jobs set run_at = clock_timestamp() + interval '1 hour' where payload ->> 'execution_id' = $1`, [work.notDue]);
    moment = await stillness();
  });

  it('goes on after that moment, until somebody makes a mistake', async () => {
    process.kill(pidOf('sidecar'), 'SIGCONT');
    vendor.answerAll();
    for (const id of [work.underWay, work.queued]) await succeeded(id);
    await sent(messages.queued);
    work.later = await tenant.execute(5);
    await succeeded(work.later);
    await sql('delete from public.organizations where id = $1', [other.orgId]);
    await bucket.put('replaced', 'replaced 3');
    await bucket.put('later', 'later 1');
    await bucket.delete('deleted');
    calls = vendor.calls.length;
    assert.equal(arrived().length, 2);
  });

  it('brings back exactly what there was', async () => {
    const said = await run(['restore', '--at', moment.at, '--replace']);
    assert.match(said, /paused/);
    const restored = await contents(process.env.ADMIN_DB_URL);
    // The sidecar reports some time after it has started which vendors it has keys for, and records requests from their log. A
    // restore erases again who is in the journal, with proofs, and what waits for that.
    const later =
      /^private\.(model_providers|api_usage_\w+|observability_log_positions|audit_erasures|privacy_(requests|proofs))$|^public\.api_usage$/;
    const different = differing(moment.held, restored).filter((name) => !later.test(name));
    assert.deepEqual(different, ['private.job_queue_pause'], 'the pause itself');
    const { libraries } = await asSuperuser(
      async (c) => (await c.query(`select current_setting('shared_preload_libraries') as libraries`)).rows[0],
    );
    assert.equal(libraries, 'kijko', 'no schedule runs');
  });

  it('brings back the bytes of every object that there was', async () => {
    for (const text of ['kept 1', 'replaced 2', 'deleted 1']) assert.equal((await bucket.get(text.split(' ')[0])).toString(), text);
    assert.equal(await bucket.get('later'), 400);
    await run(['storage', 'check']);
  });

  it('answers requests: a login, and a token from before', async () => {
    const { data, error } = await api().auth.signInWithPassword({ email: user.email, password: user.password });
    assert.equal(error, null);
    assert.equal(data.user.id, user.user.id);
    assert.equal((await other.client.from('executions').select('id').eq('id', work.others)).data.length, 1);
  });

  it('lets nothing leave the machine while it is paused, not even new work', async () => {
    work.whilePaused = await tenant.execute(6);
    await sleep(3000); // A worker would have polled by now: it does so every second, and was notified.
    assert.equal(await status(work.whilePaused), 'queued');
    assert.equal(vendor.calls.length, calls);
    assert.equal(arrived().length, 2);
  });

  it('after resume repeats no effect, and does what was never done once', async () => {
    const [{ id: post }] = await sql(
      `insert into public.social_posts (org_id, platform, text, status, scheduled_at)
       values ($1, 'twitter', 'Due before', 'scheduled', now() - interval '1 hour') returning id`,
      [tenant.orgId],
    );
    await run(['resume']);
    const [restored] = await sql('select status from public.social_posts where id = $1', [post]);
    assert.equal(restored.status, 'unconfirmed', 'a post that the replaced database may have published waits for a member');
    await succeeded(work.whilePaused);
    await sql(`update public.jobs set run_at = clock_timestamp() where payload ->> 'execution_id' = $1`, [work.notDue]);
    await succeeded(work.notDue);
    assert.deepEqual(
      await Promise.all([work.done, work.underWay, work.queued].map(status)),
      ['succeeded', 'cancelled', 'cancelled'],
      'the replaced database had run the last two after the moment',
    );
    assert.deepEqual((await sql('select id from public.executions where id = $1', [work.later])).length, 0);
    assert.equal(vendor.calls.length, calls + 2);
    assert.deepEqual(
      vendor.calls
        .slice(calls)
        .map((call) => call.prompt)
        .sort(),
      ['Answer 4', 'Answer 6'],
    );
    assert.equal((await stateOf(work.done)).job.attempt, 1);
    assert.equal(arrived().length, 2, 'no mail is sent a second time');
    const ids = arrived().map(({ text }) => header(text, 'Message-ID'));
    assert.deepEqual(
      ids,
      [messages.done, messages.queued].map((id) => `<${id}@kijko.test>`),
    );
  });

  it('takes an event of Stripe that it knows already as one that it knows, and charges an execution once', async () => {
    assert.equal((await send(event)).status, 200);
    assert.equal((await sql('select count(*)::int as n from private.stripe_events where id = $1', [event.id]))[0].n, 1);
    assert.ok(await stored(event.id));
    // One before the moment, one that was running at it, two after resume. The one that was queued gave its reservation back.
    const [{ used }] = await sql(`select used::int from kijko.usage($1) where meter = 'executions'`, [tenant.orgId]);
    assert.equal(used, 4);
  });
});
