// What the tests of sending share: a sidecar with a mail server, and mails of a test's own.
//
// The stack itself keeps mails, and stays so for the journeys that read them. A test queues its own mails one by one.
import { Sidecar } from '../crash/harness.mjs';
import { LOGIN } from '../smtp.mjs';
import { until } from '../until.mjs';
import { sql } from './support.mjs';

export const TOKEN = 'secret-token-of-a-mail';

/** A sidecar that claims mails. Without a vendor: it leaves the executions of other journeys to the stack's. */
export const mailSidecar = (port, variables = {}, { scheme = 'smtp', ...options } = {}) =>
  Sidecar.start(null, {
    // Attempts are counted, and one whose lease ends while the machine is busy is one more.
    leaseSeconds: 30,
    ...options,
    variables: {
      KIJKO_LLM_ECHO: '0',
      SMTP_URL: `${scheme}://${encodeURIComponent(LOGIN.user)}:${encodeURIComponent(LOGIN.password)}@127.0.0.1:${port}`,
      KIJKO_MAIL_FROM: 'Kijko <no-reply@kijko.test>',
      KIJKO_SMTP_CONNECT_TIMEOUT_SECONDS: '2',
      KIJKO_SMTP_TIMEOUT_SECONDS: '5',
      ...variables,
    },
  });

/** Queues a mail of an organization, and returns its id. */
export async function queueMail(recipient, org) {
  const [{ id }] = await sql(`select private.mail_send($1, 'invitation', 'en', $2, org => $3) as id`, [
    recipient,
    { link: `https://app.test/invitations?token=${TOKEN}`, organization: 'Café', inviter: 'Ada' },
    org,
  ]);
  await sql(
    `with queued as (
       update private.mail_messages as m set status = 'queued', finished_at = null where m.id = $1 and m.status = 'kept' returning m.*
     )
     select private.mail_queue(q) from queued as q`,
    [id],
  );
  return id;
}

export const mailState = async (id) =>
  (
    await sql(
      `select m.status, m.attempts, m.unanswered, m.smtp_code, m.error_code, m.sealed_data is null as cleared,
         j.status as job_status, j.error_code as job_error_code, j.error as job_error, j.id as job_id
       from private.mail_messages as m left join public.jobs as j on j.id = m.job_id where m.id = $1`,
      [id],
    )
  )[0];

/** The mail, once it is sent or given up. Attempts that wait for their back-off are made at once. */
export const mailEnded = (id) =>
  until(`mail ${id} to end`, async () => {
    await runAgain(id);
    const state = await mailState(id);
    return state.status !== 'queued' && state;
  });

/** The mail, once it has failed so often and waits. */
export const mailWaits = (id, attempts = 1) =>
  until(`mail ${id} to wait`, async () => {
    const state = await mailState(id);
    return state.job_status === 'queued' && state.attempts >= attempts && state;
  });

const runAgain = (id) =>
  sql(
    `update public.jobs as j set run_at = now() from private.mail_messages as m
     where m.id = $1 and j.id = m.job_id and j.status = 'queued' and j.run_at > now()`,
    [id],
  );

/** What a test left waiting must not reach the next test's mail server. */
export const cancelMails = (org) =>
  sql(`select private.jobs_cancel(j.id) from public.jobs as j where j.kind = 'mail' and j.org_id = $1 and j.status = 'queued'`, [org]);

/** Failures of a test's mail server must not pause the next test's mails. */
export async function forgetOutages() {
  await sql(`delete from private.job_org_pauses where kind = 'mail'`);
  await sql(`delete from private.job_kind_pauses where kind = 'mail'`);
}
