// Outside identities where addresses have to be confirmed: which address leads to an existing account.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Browser, beginning, linking, newPerson, Providers } from './auth_providers.mjs';
import { mailsTo, mailTo, openLink, pkceClient, refused, withSettings } from './auth_support.mjs';
import { api, newEmail, signIn, sql } from './support.mjs';

withSettings({ mailer_autoconfirm: false, anonymous_users: true });

let providers;
before(async () => {
  providers = await Providers.listen(process.env.KIJKO_TEST_GITHUB_PORT);
});
after(() => providers.close());

const PASSWORD = 'heron-43-over-the-lake';

async function signUp(email, { confirmed }) {
  const { error } = await api().auth.signUp({ email, password: PASSWORD });
  assert.equal(error, null);
  if (confirmed) await openLink((await mailTo(email, 'confirmation')).data.link);
  const [user] = await sql('select id from auth.users where email = $1', [email]);
  return user.id;
}

async function arrive(provider, person, client = pkceClient()) {
  providers.person = person;
  const { query } = await new Browser().arrive(await beginning(client, provider));
  return query.code ? (await client.auth.exchangeCodeForSession(query.code)).data : query;
}

const providersOf = async (id) =>
  (await sql('select provider from auth.identities where user_id = $1 order by 1', [id])).map(({ provider }) => provider);

describe('an address with an account', () => {
  test('leads to it, confirmed on both sides, at a provider that the operator trusts for that', async () => {
    const email = newEmail('both');
    const id = await signUp(email, { confirmed: true });
    const { user } = await arrive('github', newPerson(email.toUpperCase()));
    assert.equal(user.id, id);
    assert.deepEqual(user.app_metadata, { provider: 'email', providers: ['email', 'github'] });
    assert.deepEqual(await providersOf(id), ['email', 'github']);
    await signIn({ email, password: PASSWORD });
  });

  test('does not at another provider', async () => {
    const email = newEmail('untrusted');
    const id = await signUp(email, { confirmed: true });
    assert.equal((await arrive('gitlab', newPerson(email))).error_code, 'provider_email_needs_verification');
    assert.deepEqual(await providersOf(id), ['email']);
    assert.deepEqual(
      (await mailsTo(email)).map(({ template }) => template),
      ['confirmation'],
      'that of the sign-up',
    );
  });

  test('does not where the provider has not verified it', async () => {
    const email = newEmail('unverified');
    const id = await signUp(email, { confirmed: true });
    assert.equal((await arrive('github', newPerson(email, { verified: false }))).error_code, 'provider_email_needs_verification');
    assert.deepEqual(await providersOf(id), ['email']);
  });

  test('does not where its owner has not confirmed it: whoever signed up knows the password', async () => {
    const email = newEmail('squatted');
    const id = await signUp(email, { confirmed: false });
    assert.equal((await arrive('github', newPerson(email))).error_code, 'email_exists');
    assert.deepEqual(await providersOf(id), ['email']);
  });

  test('leads from an account that a trusted provider made, and not from a change at the provider', async () => {
    const email = newEmail('first');
    const person = newPerson(email);
    const first = await arrive('github', person);
    const second = await arrive('github', newPerson(email));
    assert.equal(second.user.id, first.user.id, 'two accounts at the provider with one address');
    const victim = newEmail('victim');
    const id = await signUp(victim, { confirmed: true });
    const moved = await arrive('github', { ...person, email: victim });
    assert.equal(moved.user.id, first.user.id, 'an identity is its subject, whatever its address');
    assert.deepEqual(await providersOf(id), ['email']);
  });
});

describe('a provider that is not trusted with addresses', () => {
  test('makes a user who has to confirm by mail, and is signed in by its link', async () => {
    const person = newPerson(newEmail('gitlab'));
    const client = pkceClient();
    assert.equal((await arrive('gitlab', person, client)).error_code, 'provider_email_needs_verification');
    const { query } = await openLink((await mailTo(person.email, 'confirmation')).data.link);
    const { data, error } = await client.auth.exchangeCodeForSession(query.code);
    assert.equal(error, null);
    assert.ok(data.user.email_confirmed_at);
    assert.equal((await arrive('gitlab', person)).user.id, data.user.id);
  });

  test('gives nobody an account that its owner confirms in another way', async () => {
    const email = newEmail('owner');
    const attacker = newPerson(email);
    await arrive('gitlab', attacker);
    const { data } = await api().auth.signUp({ email, password: PASSWORD });
    assert.deepEqual(
      data.user.identities.map(({ provider }) => provider),
      ['email'],
      'as for a new address',
    );
    await openLink((await mailTo(email, 'confirmation')).data.link);
    const id = data.user.id;
    assert.deepEqual(await providersOf(id), ['email']);
    assert.equal((await arrive('gitlab', attacker)).error_code, 'provider_email_needs_verification');

    const other = newEmail('owner');
    await arrive('gitlab', newPerson(other));
    const { error } = await api().auth.signInWithOtp({ email: other });
    assert.equal(error, null);
    const mails = await mailsTo(other);
    await openLink(mails.at(-1).data.link);
    const [user] = await sql('select id, email_confirmed_at from auth.users where email = $1', [other]);
    assert.ok(user.email_confirmed_at);
    assert.deepEqual(await providersOf(user.id), ['email']);
  });
});

describe('an anonymous user', () => {
  const anonymous = async () => {
    const client = pkceClient();
    const { data, error } = await client.auth.signInAnonymously();
    assert.equal(error, null);
    return { client, id: data.user.id };
  };
  async function link(client, person, provider = 'github') {
    providers.person = person;
    const { query } = await new Browser().arrive(await linking(client, provider));
    return query.code ? client.auth.exchangeCodeForSession(query.code) : { data: null, error: { code: query.error_code } };
  }

  test('becomes permanent by a linked identity, with its address', async () => {
    const { client, id } = await anonymous();
    const person = newPerson(newEmail('permanent'));
    const { data, error } = await link(client, person);
    assert.equal(error, null);
    assert.deepEqual([data.user.id, data.user.email, data.user.is_anonymous], [id, person.email, false]);
    assert.deepEqual(data.user.app_metadata, { provider: 'github', providers: ['github'] });
    const again = await arrive('github', person);
    assert.equal(again.user.id, id);
  });

  test("does not by an unverified address or somebody else's", async () => {
    const { client, id } = await anonymous();
    await refused(link(client, newPerson(newEmail(), { verified: false })), 'provider_email_needs_verification');
    const taken = newEmail('taken');
    await signUp(taken, { confirmed: true });
    await refused(link(client, newPerson(taken)), 'email_exists');
    const [row] = await sql('select is_anonymous from auth.users where id = $1', [id]);
    assert.deepEqual([row.is_anonymous, await providersOf(id)], [true, []]);
  });

  test("gets nobody's address by the word of a provider that is not trusted with it, and no account to come", async () => {
    const { client, id } = await anonymous();
    const victim = newEmail('victim');
    await refused(link(client, newPerson(victim), 'gitlab'), 'provider_email_needs_verification');
    const [row] = await sql('select is_anonymous, email, email_confirmed_at from auth.users where id = $1', [id]);
    assert.deepEqual([row, await providersOf(id)], [{ is_anonymous: true, email: null, email_confirmed_at: null }, []]);
    const { user } = await arrive('github', newPerson(victim));
    assert.notEqual(user.id, id);
    await refused(link(client, newPerson(victim), 'gitlab'), 'provider_email_needs_verification');

    const own = await anonymous();
    assert.equal((await link(own.client, newPerson(newEmail('own')))).error, null);
    assert.equal((await link(own.client, newPerson(newEmail('other')), 'gitlab')).error, null, 'a permanent user links it as before');
  });
});

test('sign-up that is off makes no users, and old ones sign in', async () => {
  const person = newPerson(newEmail('before'));
  const { user } = await arrive('github', person);
  await sql('update auth_api.settings set disable_signup = true');
  try {
    const error = await arrive('github', newPerson(newEmail('late')));
    assert.deepEqual([error.error, error.error_code], ['access_denied', 'signup_disabled']);
    assert.equal((await arrive('github', person)).user.id, user.id);
  } finally {
    await sql('update auth_api.settings set disable_signup = false');
  }
});

test('the email identity goes only if another one has the address', async () => {
  const email = newEmail('unlink');
  await signUp(email, { confirmed: true });
  const { client } = await signIn({ email, password: PASSWORD });
  const { data: first } = await client.auth.getUserIdentities();
  await refused(client.auth.unlinkIdentity(first.identities[0]), 'single_identity_not_deletable', 422);
  await arrive('github', newPerson(email));
  const { data } = await client.auth.getUserIdentities();
  const own = data.identities.find(({ provider }) => provider === 'email');
  assert.equal((await client.auth.unlinkIdentity(own)).error, null);
  await refused(api().auth.signInWithPassword({ email, password: PASSWORD }), 'invalid_credentials', 400);
});
