// Invitations where login confirms addresses. Changes the settings of login for all, so it runs alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withSettings } from './auth_support.mjs';
import { newPerson, ok, refused } from './domain.mjs';
import { newEmail, sql } from './support.mjs';

// People first: a sign-up gives no session once addresses must be confirmed.
const [owner, guest, thief] = await Promise.all([newPerson(), newPerson(), newPerson()]);
withSettings({ mailer_autoconfirm: false });

const invite = (email) => ok(owner.client.rpc('invite_member', { email, role: 'viewer' }));
const accept = (person, token) => person.client.rpc('accept_invitation', { token });

test('only the user with the invited address, confirmed, accepts', async () => {
  const { token } = await invite(guest.email.toUpperCase());
  await refused(accept(thief, token), 403, 'permission_denied');
  await sql('update auth.users set email_confirmed_at = null where id = $1', [guest.user.id]);
  await refused(accept(guest, token), 403, 'permission_denied');
  await sql('update auth.users set email_confirmed_at = now() where id = $1', [guest.user.id]);
  assert.equal((await ok(accept(guest, token))).role, 'viewer');
  await refused(accept(thief, token), 404, 'not_found');
});

test('an invitation has the same response whether or not the address has an account', async () => {
  const [known, unknown] = [await invite(thief.email), await invite(newEmail('nobody'))];
  assert.deepEqual(Object.keys(known), Object.keys(unknown));
  const rows = await ok(owner.client.from('invitations').select('email, status, accepted_by').eq('status', 'pending'));
  for (const row of rows) assert.equal(row.accepted_by, null);
});
