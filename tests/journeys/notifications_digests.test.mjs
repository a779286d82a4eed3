// Digests on the wire: what the mail server gets of notifications.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { killSidecars } from '../crash/harness.mjs';
import { Certificate, header, MailServer } from '../smtp.mjs';
import { at, newTeam, ok, transaction, until } from './domain.mjs';
import { cancelMails, forgetOutages, mailEnded, mailSidecar } from './mail_support.mjs';
import { sql } from './support.mjs';

const certificate = new Certificate();
after(() => certificate.remove());

let team;
before(async () => {
  team = await newTeam();
  await ok(team.admin.client.from('notification_types').insert({ name: 'custom.deploy' }));
});
beforeEach(forgetOutages);
afterEach(async () => {
  await killSidecars();
  await cancelMails(team.orgId);
});

const notify = (title) => ok(team.admin.client.rpc('notify', { type: 'custom.deploy', title }));
const digestsOf = (person) =>
  sql(`select id from private.mail_messages where recipient = $1 and template = 'notification_digest' order by created_at`, [person.email]);

/** Sends the mail, which the stack has kept. */
async function deliver(id) {
  await sql(
    `with queued as (
       update private.mail_messages as m set status = 'queued', finished_at = null where m.id = $1 and m.status = 'kept' returning m.*
     )
     select private.mail_queue(q) from queued as q`,
    [id],
  );
  return mailEnded(id);
}

/** The text of a message in quoted-printable. */
const readable = (text) =>
  Buffer.from(
    text.replaceAll(/=\r?\n/g, '').replaceAll(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  ).toString();

describe('a digest', { concurrency: false }, () => {
  test('of two notifications in one second is one mail, sent once, in which a title is text', async (t) => {
    const server = await new MailServer({ certificate }).start();
    t.after(() => server.stop());
    const { viewer, member } = team;
    await ok(viewer.client.auth.updateUser({ data: { locale: 'nl' } }));
    await ok(viewer.client.rpc('set_notification_preference', { type: 'custom.deploy', mail: 'now' }));
    await ok(member.client.rpc('set_notification_preference', { type: 'custom.deploy', mail: 'daily' }));
    // Committed at once, so that the stack's own schedule does not mail the first alone.
    await transaction(async (query) => {
      for (const title of ['Release 7 <script>alert(1)</script> {link}', 'See https://evil.example/now']) {
        await query(`insert into public.notifications (org_id, audience, type, title) values ($1, 'organization', 'custom.deploy', $2)`, [
          team.orgId,
          title,
        ]);
      }
    });
    const [digest, ...more] = await until('the digest', async () => {
      await Promise.all([1, 2, 3].map(() => sql('select private.notifications_mail_digests()')));
      const found = await digestsOf(viewer);
      return found.length > 0 && found;
    });
    assert.deepEqual([more.length, (await digestsOf(member)).length], [0, 0]);
    await mailSidecar(server.port, { KIJKO_SMTP_CA_FILE: certificate.authority });
    assert.equal((await deliver(digest.id)).status, 'sent');
    const [{ text, to }] = server.accepted;
    assert.equal(server.accepted.length, 1);
    assert.deepEqual(to, [viewer.email]);
    assert.equal(header(text, 'Subject'), 'Nieuwe meldingen: 2');
    const body = readable(text);
    const html = body.slice(body.indexOf('text/html'));
    assert.match(html, /Release 7 &lt;script&gt;alert\(1\)&lt;\/ script&gt; \{link\}/, 'a title is escaped, and no template');
    assert.doesNotMatch(html, /<script/);
    assert.doesNotMatch(body, /evil\.example/, 'nor does any part of it become a link');
    assert.match(body, /\/notifications/);
  });

  test('comes at the hour of the reader, without what was read, and not to a removed member', async () => {
    const { viewer, member } = team;
    for (const person of [viewer, member]) {
      await ok(person.client.rpc('set_digest_time', { timezone: 'America/St_Johns', hour: 7 }));
      await ok(person.client.rpc('set_notification_preference', { type: 'custom.deploy', mail: 'daily' }));
    }
    const before = (await digestsOf(viewer)).length;
    await notify('Kept for the morning');
    const read = await notify('Read by then');
    await ok(viewer.client.rpc('mark_read', { ids: [read.id] }));
    await ok(member.client.rpc('leave_organization', { org_id: team.orgId }));
    const [{ due }] = await sql('select min(due_at) as due from private.notification_mails where user_id = $1', [viewer.user.id]);
    const local = new Intl.DateTimeFormat('en-GB', { timeZone: 'America/St_Johns', hour: '2-digit', minute: '2-digit' }).format(due);
    assert.equal(local, '07:00');
    await at(due.getTime() - 60_000, (query) => query('select private.notifications_mail_digests()'));
    assert.equal((await digestsOf(viewer)).length, before, 'not before');
    await at(due.getTime() + 60_000, (query) => query('select private.notifications_mail_digests()'));
    const mails = await digestsOf(viewer);
    assert.equal(mails.length, before + 1);
    const [{ subject, text }] = await sql('select subject, text from private.mail_render($1)', [mails.at(-1).id]);
    assert.equal(subject, 'Nieuwe meldingen: 1');
    assert.match(text, /Kept for the morning/);
    assert.doesNotMatch(text, /Read by then/);
    assert.deepEqual(await digestsOf(member), []);
  });
});
