// A worker that dies while it sends a mail. SMTP has no transactions: what is promised is at most one duplicate.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { cancelMails, forgetOutages, mailEnded, mailSidecar, mailState, queueMail } from '../journeys/mail_support.mjs';
import { newEmail, newUser } from '../journeys/support.mjs';
import { header, MailServer } from '../smtp.mjs';
import { killSidecars, query, until } from './harness.mjs';

const plain = { KIJKO_SMTP_STARTTLS: 'off', KIJKO_SMTP_TIMEOUT_SECONDS: '60' };

export function mailTests() {
  describe('a worker in the middle of a mail', () => {
    let org;
    let server;
    before(async () => {
      const { client } = await newUser();
      const { data } = await client.from('organizations').select('id').single();
      org = data.id;
    });
    beforeEach(async () => {
      await forgetOutages();
      server = await new MailServer({ allowInsecureAuth: true }).start();
    });
    afterEach(async () => {
      await killSidecars();
      await server.stop();
    });
    after(() => cancelMails(org));

    // The lease of one that goes on is not to end while the machine is busy.
    const start = (leaseSeconds = 120) => mailSidecar(server.port, plain, { leaseSeconds });
    const startToDie = () => start(3);
    const never = new Promise(() => {});

    test('after kill -9 before its text was handed over, the mail is sent once', async () => {
      server.answers.recipient = (n) => (n === 1 ? never : undefined);
      const first = await startToDie();
      const id = await queueMail(newEmail(), org);
      await until('the mail to be under way', () => server.senders === 1);
      await first.kill();
      assert.equal((await mailState(id)).unanswered, 0);

      await start();
      const state = await mailEnded(id);
      assert.deepEqual([state.status, state.attempts, server.arrived.length], ['sent', 2, 1]);
    });

    test('after kill -9 between acceptance and record, there is one duplicate with the same Message-ID', async () => {
      // The server has taken the text; its answer does not arrive before the worker dies.
      server.answers.text = (n) => (n === 1 ? never : undefined);
      const first = await startToDie();
      const id = await queueMail(newEmail(), org);
      await server.text(1);
      await first.kill();
      const between = await mailState(id);
      assert.deepEqual([between.status, between.unanswered, between.cleared], ['queued', 1, false]);

      await start();
      const state = await mailEnded(id);
      assert.deepEqual([state.status, state.smtp_code, state.cleared], ['sent', 250, true]);
      const ids = server.arrived.map(({ text }) => header(text, 'Message-ID'));
      assert.deepEqual(ids, [`<${id}@kijko.test>`, `<${id}@kijko.test>`]);
    });

    test('however often workers die, a mail is not handed over a third time', async () => {
      server.answers.text = () => never;
      const id = await queueMail(newEmail(), org);
      for (const n of [1, 2]) {
        const worker = await startToDie();
        await server.text(n);
        await worker.kill();
      }
      await start();
      const state = await mailEnded(id);
      assert.deepEqual([state.status, state.error_code, server.arrived.length], ['failed', 'mail_unanswered', 2]);
    });

    test("a worker that stalled past its lease does not hand over another worker's mail", async () => {
      let release;
      const held = new Promise((resolve) => {
        release = resolve;
      });
      server.answers.recipient = (n) => (n === 1 ? held : undefined);
      const stalled = await startToDie();
      const id = await queueMail(newEmail(), org);
      await until('the mail to be under way', () => server.senders === 1);
      await stalled.freeze();

      await start();
      assert.equal((await mailEnded(id)).status, 'sent');
      release();
      stalled.signal('SIGCONT');
      assert.deepEqual(await stalled.terminate(), { code: 0, signal: null });
      assert.equal(server.arrived.length, 1, 'it was asked for its text and gave none');
      assert.equal((await mailState(id)).status, 'sent');
    });

    test('SIGTERM lets a mail that is being handed over finish', async () => {
      let release;
      const held = new Promise((resolve) => {
        release = resolve;
      });
      server.answers.text = () => held;
      const worker = await start();
      const id = await queueMail(newEmail(), org);
      await server.text(1);
      const ended = worker.terminate();
      release();
      assert.deepEqual(await ended, { code: 0, signal: null });
      assert.equal((await mailState(id)).status, 'sent');
      const [{ events }] = await query('select count(*)::int as events from public.job_event_log where job_id = $1', [
        (await mailState(id)).job_id,
      ]);
      assert.equal(events, 0);
    });
  });
}
