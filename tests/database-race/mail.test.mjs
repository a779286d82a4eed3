// Mails that several sessions make or end at once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { atEnd, begin, newUser, one, rows } from './sessions.mjs';
import { atOnce, promptly, whileOpen } from './support.mjs';

const DATA = { link: 'https://app.test/?token=race', organization: 'o', inviter: 'i' };
const SEND = `select private.mail_send($1, 'invitation', 'en', $2, $3, $4) as id`;
const newAddress = () => `race-${randomUUID()}@example.test`;
const send = async (session, address, org, key = null) => await session.run(SEND, [address, DATA, key, org]);
const sent = async (address) => (await one('select count(*)::int as n from private.mail_messages where recipient = $1', [address])).n;

const made = [];
atEnd(() => rows('delete from private.mail_messages where recipient like any ($1)', [made]));
const address = () => {
  made.push(newAddress());
  return made.at(-1);
};

/** Queues a mail as a stack with a mail server would; its job is leased, so that no worker takes it. */
async function leasedMail(org) {
  const session = await begin();
  const { id } = await send(session, address(), org);
  await session.run(`update private.mail_messages set status = 'queued', finished_at = null where id = $1`, [id]);
  await session.run('select private.mail_queue(m) from private.mail_messages as m where m.id = $1', [id]);
  const { job } = await session.run(
    `update public.jobs as j set status = 'running', attempt = 1, locked_by = 'racer', locked_until = clock_timestamp() + interval '1 minute'
     from private.mail_messages as m where m.id = $1 and j.id = m.job_id returning j.id as job`,
    [id],
  );
  await session.commit();
  return { id, job };
}
/** The stack's worker may be taking it back at this moment, and then this call passes over it. */
const takenBack = (job, status) =>
  until(`job ${job} to be ${status}`, async () => {
    await promptly('select private.jobs_requeue_expired()');
    return (await one('select status from public.jobs where id = $1', [job])).status === status;
  });
const state = async (id) =>
  await one('select status, unanswered, sealed_data is null as cleared from private.mail_messages where id = $1', [id]);

test('sessions that send with one key at once send one mail', async () => {
  const [{ org }, to] = [await newUser(), address()];
  const ids = await atOnce(8, async () => {
    const session = await begin();
    const { id } = await send(session, to, org, 'once');
    await session.commit();
    return id;
  });
  assert.equal(new Set(ids).size, 1);
  assert.ok(ids[0]);
  assert.equal(await sent(to), 1);
});

test('a mail that is rolled back frees its key', async () => {
  const [{ org }, to] = [await newUser(), address()];
  await whileOpen(SEND, [to, DATA, 'again', org], async () => {});
  const session = await begin();
  assert.ok((await send(session, to, org, 'again')).id);
  await session.commit();
  assert.equal(await sent(to), 1);
});

test('sessions that write to one mailbox at once get exactly its limit', async () => {
  const { organizations_mailbox_per_hour: limit } = await one('select organizations_mailbox_per_hour from private.mail_settings');
  const [{ org }, to] = [await newUser(), address()];
  const answers = await atOnce(limit + 4, async () => {
    const session = await begin();
    const answer = await send(session, to, org);
    await session.commit();
    return answer;
  });
  assert.equal(answers.filter(({ refused }) => refused === 'KJ430').length, 4);
  assert.equal(await sent(to), limit);
});

test('a message that another session holds delays no claim, and its job is taken back later', async () => {
  const { org } = await newUser();
  const { id, job } = await leasedMail(org);
  await whileOpen('select 1 from private.mail_messages where id = $1 for update', [id], async () => {
    await rows(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = $1`, [job]);
    await promptly('select private.jobs_requeue_expired()');
    assert.equal((await one('select status from public.jobs where id = $1', [job])).status, 'running');
  });
  await takenBack(job, 'queued');
  await rows('select private.jobs_cancel($1)', [job]);
});

test('a mail whose worker dies at its last attempt is given up with its job', async () => {
  const { org } = await newUser();
  const { id, job } = await leasedMail(org);
  await rows(`update public.jobs set max_attempts = 1, locked_until = clock_timestamp() - interval '1 second' where id = $1`, [job]);
  await takenBack(job, 'dead');
  assert.deepEqual(await state(id), { status: 'failed', unanswered: 0, cleared: true });
});

test('when delivery ends while a worker has a mail, the worker ends it', async () => {
  const { org } = await newUser();
  const { id, job } = await leasedMail(org);
  // The stack keeps mails already; saying so again leaves what a worker has begun.
  await rows(`select private.mail_set_delivery('keep')`);
  assert.equal((await state(id)).status, 'queued');
  const { ok } = await one(`select private.mail_hand_over('racer', $1, 1) as ok`, [job]);
  assert.equal(ok, true);
  await rows('select * from private.jobs_complete($1, $2)', [
    'racer',
    JSON.stringify([{ id: job, attempt: 1, result: { smtp_code: 250 } }]),
  ]);
  assert.deepEqual(await state(id), { status: 'sent', unanswered: 1, cleared: true });
});

test('a mail that the server took while its job was cancelled is sent', async () => {
  const { org } = await newUser();
  const { id, job } = await leasedMail(org);
  await rows('select private.jobs_cancel($1)', [job]);
  assert.equal((await one(`select private.mail_hand_over('racer', $1, 1) as ok`, [job])).ok, false, 'it is not handed over any more');
  await rows('select * from private.jobs_complete($1, $2)', [
    'racer',
    JSON.stringify([{ id: job, attempt: 1, result: { smtp_code: 250 } }]),
  ]);
  assert.equal((await state(id)).status, 'sent');
});
