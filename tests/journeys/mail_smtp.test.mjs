// Mails on the wire: a sidecar of the test's own talks to a mail server that answers as the test says.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { killSidecars } from '../crash/harness.mjs';
import { Certificate, endlessServer, header, injectingServer, LOGIN, MailServer, silentServer } from '../smtp.mjs';
import { until } from '../until.mjs';
import { newPerson } from './domain.mjs';
import { cancelMails, forgetOutages, mailEnded, mailSidecar, mailState, mailWaits, queueMail, TOKEN } from './mail_support.mjs';
import { newEmail, sql } from './support.mjs';

const certificate = new Certificate();
const trust = { KIJKO_SMTP_CA_FILE: certificate.authority };
after(() => certificate.remove());

let org;
before(async () => {
  org = (await newPerson()).orgId;
});
beforeEach(forgetOutages);
afterEach(async () => {
  await killSidecars();
  await cancelMails(org);
});

/** A mail server for one test. */
async function serve(t, options = { certificate }) {
  const server = await new MailServer(options).start();
  t.after(() => server.stop());
  return server;
}

/** The canonical line of a mail's job, once it is written. */
const lineOf = (sidecar, id) =>
  readFileSync(sidecar.log, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => JSON.parse(line))
    .find((line) => line.target === 'kijko::job' && line.mail_id === id);

describe('a mail', { concurrency: false }, () => {
  test('is sent encrypted by STARTTLS after a login, once, with headers and both bodies', async (t) => {
    const server = await serve(t);
    const sidecar = await mailSidecar(server.port, trust);
    const email = newEmail();
    const id = await queueMail(email, org);
    const state = await mailEnded(id);
    assert.deepEqual([state.status, state.smtp_code, state.attempts, state.unanswered], ['sent', 250, 1, 1]);
    assert.ok(state.cleared, 'its link and token are deleted');
    assert.deepEqual(server.logins, [{ user: LOGIN.user, secure: true }]);
    const [{ text, to, secure }] = server.accepted;
    assert.equal(server.accepted.length, 1);
    assert.deepEqual([to, secure], [[email], true]);
    assert.equal(header(text, 'Message-ID'), `<${id}@kijko.test>`);
    assert.equal(header(text, 'From'), 'Kijko <no-reply@kijko.test>');
    assert.equal(header(text, 'To'), email);
    assert.equal(header(text, 'Auto-Submitted'), 'auto-generated');
    assert.match(header(text, 'Subject'), /^Invitation to =\?utf-8\?b\?Q2Fmw6k=\?=$/, 'a subject beyond ASCII is encoded');
    assert.match(text, /Content-Type: multipart\/alternative/);
    assert.match(text, /Content-Type: text\/plain; charset=utf-8/);
    assert.match(text, /Content-Type: text\/html; charset=utf-8/);

    const line = await until('the line of the job', () => lineOf(sidecar, id));
    assert.deepEqual([line.outcome, line.mail_template, line.smtp_code], ['succeeded', 'invitation', 250]);
    const log = readFileSync(sidecar.log, 'utf8');
    for (const secret of [email, TOKEN, LOGIN.password, encodeURIComponent(LOGIN.password)]) assert.ok(!log.includes(secret), secret);
  });

  test('is sent over TLS from the first byte by smtps', async (t) => {
    const server = await serve(t, { certificate, secure: true });
    await mailSidecar(server.port, trust, { scheme: 'smtps' });
    const state = await mailEnded(await queueMail(newEmail(), org));
    assert.deepEqual([state.status, server.logins[0].secure], ['sent', true]);
  });

  test('waits when the server offers no STARTTLS, and neither login nor mail reach it', async (t) => {
    const server = await serve(t, { allowInsecureAuth: true });
    const sidecar = await mailSidecar(server.port, trust);
    const id = await queueMail(newEmail(), org);
    const state = await mailWaits(id);
    assert.deepEqual([state.status, state.job_error_code], ['queued', 'smtp_unreachable']);
    assert.deepEqual([server.logins, server.senders], [[], 0]);
    await sidecar.terminate();
    // Optional encryption still sends no password in the clear.
    const optional = await mailSidecar(server.port, { KIJKO_SMTP_STARTTLS: 'optional' });
    await forgetOutages();
    await sql('update public.jobs set run_at = now() where id = $1', [state.job_id]);
    await mailWaits(id, 2);
    assert.deepEqual([server.logins, server.senders], [[], 0]);
    await optional.terminate();
    // Without encryption, if the operator says so.
    await mailSidecar(server.port, { KIJKO_SMTP_STARTTLS: 'off' });
    await forgetOutages();
    assert.equal((await mailEnded(id)).status, 'sent');
    assert.deepEqual(server.logins, [{ user: LOGIN.user, secure: false }]);
  });

  test('believes no answer that came before the connection was encrypted', async (t) => {
    const server = await injectingServer(certificate);
    t.after(() => server.stop());
    await mailSidecar(server.port, trust);
    const state = await mailWaits(await queueMail(newEmail(), org));
    assert.deepEqual([state.status, state.job_error_code], ['queued', 'smtp_unreachable']);
    assert.deepEqual(server.encrypted, []);
  });

  test("waits when the server's certificate is not trusted", async (t) => {
    const server = await serve(t);
    await mailSidecar(server.port);
    const state = await mailWaits(await queueMail(newEmail(), org));
    assert.deepEqual([state.status, state.job_error_code], ['queued', 'smtp_unreachable']);
    assert.deepEqual([server.logins, server.senders], [[], 0]);
  });

  test('waits when the login is refused, which readiness says', async (t) => {
    const server = await serve(t);
    const wrong = `smtp://somebody:wrong@127.0.0.1:${server.port}`;
    const sidecar = await mailSidecar(server.port, { ...trust, SMTP_URL: wrong });
    const state = await mailWaits(await queueMail(newEmail(), org));
    assert.deepEqual([state.status, state.job_error_code, server.senders], ['queued', 'smtp_auth', 0]);
    const { checks } = await (await fetch(`${sidecar.operatorsUrl}/ready`)).json();
    assert.deepEqual([checks.mail.status, checks.mail.configured], ['degraded', true]);
    const metrics = await (await fetch(`${sidecar.operatorsUrl}/metrics`)).text();
    assert.match(metrics, /kijko_mail_attempts_total\{outcome="smtp_auth"\} 1/);
  });

  for (const step of ['sender', 'recipient', 'text']) {
    test(`ends when the server refuses it with 5xx (${step})`, async (t) => {
      const server = await serve(t);
      server.answers[step] = () => 550;
      const sidecar = await mailSidecar(server.port, trust);
      const email = newEmail();
      const state = await mailEnded(await queueMail(email, org));
      assert.deepEqual(
        [state.status, state.error_code, state.smtp_code, state.attempts, state.unanswered, state.cleared],
        ['failed', 'smtp_refused', 550, 1, 0, true],
      );
      assert.equal(state.job_status, 'dead');
      // The server quoted the address; neither the job, which members read, nor the log repeats it.
      assert.doesNotMatch(state.job_error, /@/);
      assert.ok(!readFileSync(sidecar.log, 'utf8').includes(email));
    });

    test(`is tried again after a 4xx (${step}), as the same mail`, async (t) => {
      const server = await serve(t);
      server.answers[step] = (n) => (n === 1 ? 451 : undefined);
      await mailSidecar(server.port, trust);
      const id = await queueMail(newEmail(), org);
      const state = await mailEnded(id);
      assert.deepEqual([state.status, state.attempts, state.smtp_code], ['sent', 2, 250]);
      assert.equal(server.accepted.length, 1, 'no duplicate');
      for (const { text } of server.arrived) assert.equal(header(text, 'Message-ID'), `<${id}@kijko.test>`);
      const [first, last] = [server.arrived[0], server.arrived.at(-1)];
      assert.equal(header(first.text, 'Date'), header(last.text, 'Date'));
    });
  }

  test('reaches an address beyond ASCII, if the server takes such', async (t) => {
    const email = newEmail('jürgen');
    const [takes, refuses] = [await serve(t), await serve(t, { certificate, hideSMTPUTF8: true })];
    const first = await mailSidecar(takes.port, trust);
    const id = await queueMail(email, org);
    assert.equal((await mailEnded(id)).status, 'sent');
    assert.deepEqual(takes.accepted[0].to, [email]);
    await first.terminate();
    await mailSidecar(refuses.port, trust);
    const state = await mailEnded(await queueMail(email, org));
    assert.deepEqual([state.status, state.error_code, refuses.senders], ['failed', 'smtp_refused', 0]);
  });

  test('is sent once more when the connection breaks after its text, and never a third time', async (t) => {
    const server = await serve(t);
    server.answers.text = () => 'drop';
    await mailSidecar(server.port, trust);
    const id = await queueMail(newEmail(), org);
    const state = await mailEnded(id);
    assert.deepEqual([state.status, state.error_code, state.unanswered], ['failed', 'mail_unanswered', 2]);
    assert.equal(server.arrived.length, 2);
    assert.deepEqual(
      server.arrived.map(({ text }) => header(text, 'Message-ID')),
      [`<${id}@kijko.test>`, `<${id}@kijko.test>`],
    );
  });

  test('is tried again when the connection breaks before its text', async (t) => {
    const server = await serve(t);
    server.answers.recipient = (n) => (n < 4 ? 'drop' : undefined);
    await mailSidecar(server.port, trust);
    const state = await mailEnded(await queueMail(newEmail(), org));
    assert.deepEqual([state.status, state.attempts, server.arrived.length], ['sent', 4, 1]);
  });

  test('waits no longer than allowed for a server that says nothing', async (t) => {
    const server = await silentServer();
    t.after(() => server.stop());
    await mailSidecar(server.port, { ...trust, KIJKO_SMTP_TIMEOUT_SECONDS: '1' });
    const state = await mailWaits(await queueMail(newEmail(), org));
    assert.deepEqual([state.status, state.job_error_code], ['queued', 'smtp_timeout']);
  });

  for (const [encryption, scheme, its, variables] of [
    ['without encryption', 'smtp', null, { KIJKO_SMTP_STARTTLS: 'off' }],
    ['encrypted from the first byte', 'smtps', certificate, trust],
  ]) {
    test(`does not fill the memory with a line that never ends, ${encryption}`, async (t) => {
      const server = await endlessServer(its);
      t.after(() => server.stop());
      const sidecar = await mailSidecar(server.port, { ...variables, KIJKO_SMTP_CONNECT_TIMEOUT_SECONDS: '60' }, { scheme });
      const state = await mailWaits(await queueMail(newEmail(), org));
      assert.deepEqual([state.status, state.job_error_code], ['queued', 'smtp_unreachable']);
      const [, peak] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${sidecar.child.pid}/status`, 'utf8'));
      assert.ok(Number(peak) < 512 << 10, `${peak} KiB`);
    });
  }

  test('does not wait for another whose server side is slow', async (t) => {
    const server = await serve(t);
    let release;
    const slow = new Promise((resolve) => {
      release = resolve;
    });
    server.answers.recipient = (n) => (n === 1 ? slow : undefined);
    await mailSidecar(server.port, { ...trust, KIJKO_SMTP_TIMEOUT_SECONDS: '60' });
    const first = await queueMail(newEmail(), org);
    await until('the first to be under way', () => server.senders === 1);
    const second = await queueMail(newEmail(), org);
    assert.equal((await mailEnded(second)).status, 'sent');
    assert.equal((await mailState(first)).status, 'queued');
    release();
    assert.equal((await mailEnded(first)).status, 'sent');
  });

  test('is left alone by a sidecar without a mail server', async (t) => {
    const server = await serve(t);
    const without = await mailSidecar(server.port, { SMTP_URL: '' });
    const id = await queueMail(newEmail(), org);
    // It has polled: readiness shows what waits.
    const { checks } = await (await fetch(`${without.operatorsUrl}/ready`)).json();
    assert.deepEqual([checks.mail.configured, checks.mail.queued >= 1], [false, true]);
    assert.deepEqual([(await mailState(id)).attempts, server.senders], [0, 0]);
    await mailSidecar(server.port, trust);
    assert.equal((await mailEnded(id)).status, 'sent');
  });
});
