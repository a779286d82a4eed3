// Mails that a request causes, as an operator without a mail server finds them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { newPerson, ok } from './domain.mjs';
import { api, newEmail, sql } from './support.mjs';

/** The latest mail to this address, with its text. */
async function mailTo(address) {
  const [mail] = await sql(
    `select m.id, m.org_id, m.status, m.template, m.locale, r.subject, r.text, r.html, r.link
     from private.mail_messages as m left join lateral private.mail_render(m.id) as r on true
     where m.recipient = $1 order by m.created_at desc limit 1`,
    [address],
  );
  return mail;
}

describe('an invitation by mail', () => {
  test('has a link whose token makes the invitee a member', async () => {
    const [owner, guest] = await Promise.all([newPerson(), newPerson()]);
    const issued = await ok(owner.client.rpc('invite_member', { email: guest.email, role: 'viewer' }));
    const mail = await mailTo(guest.email);
    assert.deepEqual([mail.org_id, mail.status, mail.template, mail.locale], [owner.orgId, 'kept', 'invitation', 'en']);
    const link = new URL(mail.link);
    assert.equal(link.searchParams.get('token'), issued.token);
    assert.ok(mail.text.includes(mail.link) && mail.html.includes(`href="${mail.link}"`));
    assert.ok(mail.text.includes(owner.email), 'it says who invites');
    const membership = await ok(guest.client.rpc('accept_invitation', { token: link.searchParams.get('token') }));
    assert.deepEqual([membership.org_id, membership.role], [owner.orgId, 'viewer']);
  });

  test('is in the language of the inviter', async () => {
    const owner = await newPerson();
    await ok(owner.client.auth.updateUser({ data: { locale: 'nl-BE' } }));
    const email = newEmail();
    await ok(owner.client.rpc('invite_member', { email }));
    const mail = await mailTo(email);
    assert.equal(mail.locale, 'nl');
    assert.match(mail.html, /<html lang="nl">/);
  });

  test('carries names as text, whatever they are', async () => {
    const owner = await newPerson();
    const name = '<script>alert(1)</script> https://evil.example {link}';
    const { id } = await ok(owner.client.rpc('create_organization', { name }));
    const email = newEmail();
    await ok(owner.client.rpc('invite_member', { email }).setHeader('x-org-id', id));
    const mail = await mailTo(email);
    assert.doesNotMatch(mail.html, /<script>/);
    assert.doesNotMatch(`${mail.subject}${mail.text}`, /https:\/\/evil|evil\.example/);
    assert.match(mail.subject, /\{link\}/, 'a value is no template');
  });
});

describe('one mailbox', () => {
  test('is not flooded by many organizations, however they spell it', async () => {
    const [{ organizations_mailbox_per_hour: limit }] = await sql('select organizations_mailbox_per_hour from private.mail_settings');
    const people = await Promise.all([newPerson(), newPerson(), newPerson()]);
    const email = newEmail('flooded');
    const spelled = (n) => (n % 2 ? email.replace('@', `+${n}@`) : email.toUpperCase());
    const answers = [];
    for (let n = 0; n < limit + 3; n += 1) {
      answers.push(await people[n % 3].client.rpc('invite_member', { email: spelled(n) }));
    }
    const refusals = answers.filter(({ error }) => error);
    assert.equal(refusals.length, 3);
    for (const { error, status } of refusals) assert.deepEqual([status, error.code], [429, 'rate_limited']);
    // Another mailbox is not affected.
    await ok(people[0].client.rpc('invite_member', { email: newEmail() }));
    const [{ sent }] = await sql(`select count(*)::int as sent from private.mail_messages where recipient ilike $1`, [
      `${email.split('@')[0]}%`,
    ]);
    assert.equal(sent, limit);
  });

  test('that organizations have filled still gets its mails of login', async () => {
    const [{ organizations_mailbox_per_hour: limit }] = await sql('select organizations_mailbox_per_hour from private.mail_settings');
    const victim = await newPerson();
    const [one, two] = await Promise.all([newPerson(), newPerson()]);
    let refused = 0;
    for (let n = 0; n < limit + 2; n += 1) {
      const { error } = await [one, two][n % 2].client.rpc('invite_member', { email: victim.email.replace('@', `+${n}@`) });
      refused += error?.code === 'rate_limited';
    }
    assert.equal(refused, 2);
    const { error } = await api().auth.resetPasswordForEmail(victim.email);
    assert.equal(error, null);
    const sent = await sql('select template from private.mail_messages where recipient = $1', [victim.email]);
    assert.deepEqual(sent, [{ template: 'recovery' }]);
  });
});
