// Hooks: functions of the database that login calls. Changes the settings of login for all, so it runs alone.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { answerFactor, claimsOf, codeOf, mailsTo, passwordGrant, refused, withFactor, withSettings } from './auth_support.mjs';
import { adminSql, api, http, newEmail, newUser, signIn, sql } from './support.mjs';

await adminSql(`
  create schema if not exists hook_test;
  grant usage on schema hook_test to supabase_auth_admin;
  create table if not exists hook_test.calls (n bigserial, hook text, payload jsonb);
  create table if not exists hook_test.refused_factors (factor_type text primary key);
  grant all on hook_test.calls, hook_test.calls_n_seq, hook_test.refused_factors to supabase_auth_admin;
  create or replace function hook_test.claims(event jsonb) returns jsonb language sql as $$
    select case
      when event #>> '{claims,user_metadata,wish}' is null then jsonb_set(event, '{claims,tier}', '"gold"')
      when event #>> '{claims,user_metadata,wish}' = 'refused' then '{"error": {"message": "no token for you"}}'
      when event #>> '{claims,user_metadata,wish}' = 'teapot' then '{"error": {"http_code": 418, "message": "a teapot"}}'
      when event #>> '{claims,user_metadata,wish}' = 'broken' then jsonb_build_object('x', 1 / 0)
      else jsonb_set(event, '{claims}', (event -> 'claims') || (event #> '{claims,user_metadata,claims}'))
    end $$;
  create or replace function hook_test.password(event jsonb) returns jsonb language plpgsql as $$
  begin
    insert into hook_test.calls (hook, payload) values ('password', event);
    if (select count(*) from hook_test.calls c where c.payload ->> 'user_id' = event ->> 'user_id' and not (c.payload ->> 'valid')::boolean) > 2 then
      return '{"decision": "reject", "message": "enough"}';
    end if;
    return '{"decision": "continue"}';
  end $$;
  create or replace function hook_test.factor(event jsonb) returns jsonb language plpgsql as $$
  begin
    insert into hook_test.calls (hook, payload) values ('factor', event);
    if exists (select from hook_test.refused_factors f where f.factor_type = event ->> 'factor_type') then
      return '{"decision": "reject", "message": "not now"}';
    end if;
    return '{"decision": "continue"}';
  end $$;
  create or replace function hook_test.email(event json) returns json language plpgsql as $$
  begin
    insert into hook_test.calls (hook, payload) values ('email', event);
    return '{}';
  end $$;
  grant execute on all functions in schema hook_test to supabase_auth_admin`);

withSettings({
  hook_custom_access_token: 'pg-functions://postgres/hook_test/claims',
  hook_password_verification_attempt: 'hook_test.password',
  hook_mfa_verification_attempt: 'hook_test.factor',
  hook_send_email: 'pg-functions://postgres/hook_test/email',
});
const calls = (hook, user) =>
  adminSql(`select payload from hook_test.calls where hook = $1 and payload::text like '%' || $2 || '%' order by n`, [hook, user]);

describe('custom_access_token', () => {
  test('adds claims, at sign-up and at a refresh', async () => {
    const { client, session } = await newUser();
    assert.equal(claimsOf(session.access_token).tier, 'gold');
    const { data } = await client.auth.refreshSession();
    assert.equal(claimsOf(data.session.access_token).tier, 'gold');
    assert.equal((await client.auth.getUser()).error, null);
  });

  test('refuses, by default with a status that clients do not retry', async () => {
    const refusal = (wish) => api().auth.signUp({ email: newEmail(), password: 'heron-42', options: { data: { wish } } });
    await refused(refusal('refused'), 'hook_rejected', 403);
    await refused(refusal('teapot'), 'hook_rejected', 418);
    const { error } = await refusal('broken');
    assert.equal(error.status, 500);
  });

  test('cannot make a token for somebody else, of a higher level, or for longer', async () => {
    const [victim] = await sql('select id from auth.users limit 1');
    const claims = [
      { sub: victim.id },
      { session_id: '00000000-0000-0000-0000-000000000000' },
      { aal: 'aal2' },
      { role: 'service_role' },
      { exp: 9_999_999_999 },
      { sub: null },
    ];
    for (const changed of claims) {
      const { error, data } = await api().auth.signUp({
        email: newEmail(),
        password: 'heron-42',
        options: { data: { wish: 'x', claims: changed } },
      });
      assert.equal(error?.status, 500, JSON.stringify(changed));
      assert.equal(data.session, null);
    }
  });
});

describe('password_verification_attempt', () => {
  test('hears of each password, and may reject also a right one', async () => {
    const account = await newUser();
    for (let n = 0; n < 2; n += 1) assert.equal((await passwordGrant(account.email, 'wrong')).body.message, 'Invalid login credentials');
    await signIn(account);
    const rejected = await passwordGrant(account.email, 'wrong');
    assert.deepEqual([rejected.status, rejected.body.code, rejected.body.message], [400, 'invalid_credentials', 'enough']);
    assert.equal((await passwordGrant(account.email, account.password)).body.message, 'enough');
    const heard = await calls('password', account.user.id);
    assert.deepEqual(
      heard.map(({ payload }) => payload.valid),
      [false, false, true, false, true],
    );
    const before = (await adminSql('select count(*)::int as n from hook_test.calls'))[0].n;
    await passwordGrant(newEmail('nobody'), 'wrong');
    assert.equal((await adminSql('select count(*)::int as n from hook_test.calls'))[0].n, before, 'not of unknown addresses');
  });
});

describe('mfa_verification_attempt', () => {
  test('hears of each code, and may reject also a right one, which can then be used later', async () => {
    const account = await withFactor();
    const made = await http('POST', '/auth/v1/factors/recovery-codes', { token: account.session.access_token });
    const { session, client } = await signIn(account);
    const recover = (code) => http('POST', '/auth/v1/factors/recovery-codes/verify', { token: session.access_token, body: { code } });
    const answers = [
      () => answerFactor(client, account.factor, codeOf(account.factor.secret)).then(({ error }) => [error?.status, error?.code]),
      () => recover(made.body.codes[0]).then(({ status, body }) => [status, body.code]),
    ];
    await adminSql(`insert into hook_test.refused_factors values ('totp'), ('recovery_code')`);
    for (const answer of answers) assert.deepEqual(await answer(), [403, 'mfa_verification_rejected']);
    await adminSql('delete from hook_test.refused_factors');
    assert.equal((await recover('aaaaaaaaaaaaaaaa')).body.code, 'mfa_verification_failed');
    assert.deepEqual(await answers[1](), [200, undefined]);
    assert.deepEqual(await answers[0](), [undefined, undefined]);
    const heard = await calls('factor', account.user.id);
    assert.deepEqual(
      heard.map(({ payload: { factor_type, valid } }) => [factor_type, valid]),
      [
        ['totp', true],
        ['totp', true],
        ['recovery_code', true],
        ['recovery_code', false],
        ['recovery_code', true],
        ['totp', true],
      ],
    );
  });
});

describe('send_email', () => {
  test('gets the mail instead of the queue', async () => {
    const { email, user } = await newUser();
    await api().auth.resetPasswordForEmail(email);
    assert.deepEqual(await mailsTo(email), []);
    const [{ payload }] = await calls('email', user.id);
    assert.equal(payload.user.id, user.id);
    assert.equal(payload.email_data.email_action_type, 'recovery');
    const { data, error } = await api().auth.verifyOtp({ email, token: payload.email_data.token, type: 'recovery' });
    assert.equal(error, null);
    assert.equal(data.user.id, user.id);
  });

  test('counts no mail to a mailbox, with an account or without: the refusal would say which', async () => {
    const [{ mailbox_per_hour: limit }] = await sql('select mailbox_per_hour from private.mail_settings');
    const email = newEmail('nobody');
    for (let n = 0; n <= limit; n += 1) {
      const { error } = await api().auth.resetPasswordForEmail(email.replace('@', `+${n}@`));
      assert.equal(error, null);
    }
  });
});
