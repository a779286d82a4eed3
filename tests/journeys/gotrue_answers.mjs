// What GoTrue answers, read from its source (github.com/supabase/auth at bc32168, 2026-08-20: internal/api, internal/tokens, internal/models,
// openapi.yaml): for each case the status, the error code, the keys of the body with their types, and headers. `here` is what this login
// answers instead, on purpose, and `why`; both are on docs/reference/gotrue.md. Facts only: no text of GoTrue is compared.
//
// Each case: what is asked, as whom (by default with the anon key alone), and the answers. `w` makes what the request needs.

import { ACCOUNT_CASES } from './gotrue_answers_account.mjs';
import { challenge, EMPTY, NOBODY, PASSWORD, refusal, SIGNED_IN } from './gotrue_shapes.mjs';

/** Signing in and up, mails, links and codes. */
export const SIGN_IN_CASES = [
  // ---- sign up
  { name: 'sign up', request: 'POST /signup', body: (w) => ({ email: w.newEmail(), password: PASSWORD }), gotrue: SIGNED_IN },
  {
    name: 'sign up again',
    request: 'POST /signup',
    body: (w) => ({ email: w.user.email, password: PASSWORD }),
    gotrue: refusal(422, 'user_already_exists'),
  },
  {
    name: 'sign up without a password',
    request: 'POST /signup',
    body: (w) => ({ email: w.newEmail() }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'sign up with a malformed address',
    request: 'POST /signup',
    body: () => ({ email: 'x', password: PASSWORD }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'sign up with both',
    request: 'POST /signup',
    body: (w) => ({ email: w.newEmail(), phone: '31612345678', password: PASSWORD }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'sign up with a phone',
    request: 'POST /signup',
    body: () => ({ phone: '31612345678', password: PASSWORD }),
    gotrue: refusal(400, 'phone_provider_disabled'),
  },
  {
    name: 'sign up with a short password',
    request: 'POST /signup',
    body: (w) => ({ email: w.newEmail(), password: 'x' }),
    gotrue: { ...refusal(422, 'weak_password'), body: { weak_password: { reasons: 'array' } } },
  },
  {
    name: 'sign up with 73 bytes',
    request: 'POST /signup',
    body: (w) => ({ email: w.newEmail(), password: 'x9'.repeat(37) }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'sign up with half a PKCE challenge',
    request: 'POST /signup',
    body: (w) => ({ email: w.newEmail(), password: PASSWORD, code_challenge: 'c'.repeat(43) }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'anonymous sign-in, switched off',
    request: 'POST /signup',
    body: () => ({}),
    gotrue: refusal(422, 'anonymous_provider_disabled'),
  },
  { name: 'a body that is not JSON', request: 'POST /signup', body: () => '{', gotrue: refusal(400, 'bad_json') },
  { name: 'a field of another type', request: 'POST /signup', body: () => ({ email: 1 }), gotrue: refusal(400, 'bad_json') },
  {
    name: 'a body of 40 KB',
    request: 'POST /signup',
    body: (w) => ({ email: w.newEmail(), password: PASSWORD, data: { x: 'x'.repeat(40_000) } }),
    gotrue: SIGNED_IN,
    here: refusal(413, 'request_entity_too_large'),
    why: 'Bodies end at 32 KB (GoTrue: 1 MB): what a user stores is in their token, and no server takes a larger one.',
  },

  // ---- tokens
  {
    name: 'sign in',
    request: 'POST /token?grant_type=password',
    body: (w) => ({ email: w.user.email, password: w.user.password }),
    gotrue: SIGNED_IN,
  },
  {
    name: 'a wrong password',
    request: 'POST /token?grant_type=password',
    body: (w) => ({ email: w.newEmail(), password: PASSWORD }),
    gotrue: refusal(400, 'invalid_credentials'),
  },
  {
    name: 'no address',
    request: 'POST /token?grant_type=password',
    body: () => ({ password: PASSWORD }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'an address and a phone',
    request: 'POST /token?grant_type=password',
    body: (w) => ({ email: w.newEmail(), phone: '31612345678', password: PASSWORD }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'a phone',
    request: 'POST /token?grant_type=password',
    body: () => ({ phone: '31612345678', password: PASSWORD }),
    gotrue: refusal(422, 'phone_provider_disabled'),
  },
  {
    name: 'an unconfirmed user',
    request: 'POST /token?grant_type=password',
    body: async (w) => ({ email: (await w.unconfirmed()).email, password: PASSWORD }),
    gotrue: refusal(400, 'email_not_confirmed'),
  },
  {
    name: 'a banned user',
    request: 'POST /token?grant_type=password',
    body: async (w) => ({ email: (await w.banned()).email, password: PASSWORD }),
    gotrue: refusal(400, 'user_banned'),
  },
  {
    name: 'a banned user with a wrong password',
    request: 'POST /token?grant_type=password',
    body: async (w) => ({ email: (await w.banned()).email, password: 'wrong' }),
    gotrue: refusal(400, 'user_banned'),
    here: refusal(400, 'invalid_credentials'),
    why: 'Who does not know the password is not told that the account exists, or that it is banned.',
  },
  {
    name: 'the right password after five wrong ones',
    request: 'POST /token?grant_type=password',
    body: async (w) => await w.locked(),
    gotrue: SIGNED_IN,
    here: { ...refusal(429, 'account_locked'), headers: { 'retry-after': 'number' } },
    why: 'Wrong passwords lock an account for a while.',
  },
  {
    name: 'refresh',
    request: 'POST /token?grant_type=refresh_token',
    body: async (w) => ({ refresh_token: (await w.newUser()).session.refresh_token }),
    gotrue: SIGNED_IN,
  },
  {
    name: 'refresh with nothing',
    request: 'POST /token?grant_type=refresh_token',
    body: () => ({}),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'refresh with a malformed token',
    request: 'POST /token?grant_type=refresh_token',
    body: () => ({ refresh_token: 'x' }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'refresh with an unknown token',
    request: 'POST /token?grant_type=refresh_token',
    body: () => ({ refresh_token: 'abcdefghijkl' }),
    gotrue: refusal(400, 'refresh_token_not_found'),
  },
  {
    name: 'PKCE without a verifier',
    request: 'POST /token?grant_type=pkce',
    body: () => ({ auth_code: 'x' }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'PKCE with an unknown code',
    request: 'POST /token?grant_type=pkce',
    body: () => ({ auth_code: NOBODY, code_verifier: 'v'.repeat(43) }),
    gotrue: refusal(404, 'flow_state_not_found'),
  },
  {
    name: 'PKCE with a wrong verifier',
    request: 'POST /token?grant_type=pkce',
    body: async (w) => ({ auth_code: await w.authCode(challenge), code_verifier: 'v'.repeat(43) }),
    gotrue: refusal(400, 'bad_code_verifier'),
  },
  {
    name: 'PKCE',
    request: 'POST /token?grant_type=pkce',
    body: async (w) => ({
      auth_code: await w.authCode({ code_challenge: 'v'.repeat(43), code_challenge_method: 'plain' }),
      code_verifier: 'v'.repeat(43),
    }),
    gotrue: SIGNED_IN,
  },
  { name: 'an unknown grant', request: 'POST /token?grant_type=magic', body: () => ({}), gotrue: refusal(400, 'invalid_credentials') },
  {
    name: 'a wallet',
    request: 'POST /token?grant_type=web3',
    body: () => ({ chain: 'solana' }),
    gotrue: refusal(422, 'web3_provider_disabled'),
  },
  {
    name: 'an ID token',
    request: 'POST /token?grant_type=id_token',
    body: () => ({ provider: 'google', client_id: 'x', issuer: 'https://other.example', id_token: 'x' }),
    gotrue: refusal(400, 'provider_disabled'),
  },

  // ---- mails
  { name: 'recover', request: 'POST /recover', body: (w) => ({ email: w.user.email }), gotrue: EMPTY },
  { name: 'recover for nobody', request: 'POST /recover', body: (w) => ({ email: w.newEmail() }), gotrue: EMPTY },
  { name: 'recover without an address', request: 'POST /recover', body: () => ({}), gotrue: refusal(400, 'validation_failed') },
  {
    name: 'otp',
    request: 'POST /otp',
    body: (w) => ({ email: w.newEmail(), code_challenge: null, code_challenge_method: null }),
    gotrue: EMPTY,
  },
  {
    name: 'otp with a channel',
    request: 'POST /otp',
    body: (w) => ({ email: w.newEmail(), channel: 'sms' }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'otp with both',
    request: 'POST /otp',
    body: (w) => ({ email: w.newEmail(), phone: '31612345678' }),
    gotrue: refusal(400, 'validation_failed'),
  },
  { name: 'otp with neither', request: 'POST /otp', body: () => ({}), gotrue: refusal(400, 'validation_failed') },
  { name: 'otp by phone', request: 'POST /otp', body: () => ({ phone: '31612345678' }), gotrue: refusal(400, 'phone_provider_disabled') },
  {
    name: 'otp that signs nobody up, for nobody',
    request: 'POST /otp',
    body: (w) => ({ email: w.newEmail(), create_user: false }),
    gotrue: refusal(422, 'otp_disabled'),
    here: EMPTY,
    why: 'The answer does not say who has an account.',
  },
  { name: 'magiclink', request: 'POST /magiclink', body: (w) => ({ email: w.user.email }), gotrue: EMPTY },
  {
    name: 'magiclink without an address',
    request: 'POST /magiclink',
    body: () => ({}),
    gotrue: refusal(422, 'validation_failed'),
    here: refusal(400, 'validation_failed'),
    why: 'It is the same endpoint as /otp, with its status.',
  },
  {
    name: 'magiclink for an address that begins like an option of a program',
    request: 'POST /magiclink',
    body: () => ({ email: "-s05&#jr&'@null.org" }),
    gotrue: EMPTY,
    here: refusal(400, 'validation_failed'),
    why: 'No mail is sent to it: a mail server could take it for an option, or for another mailbox.',
  },
  { name: 'resend', request: 'POST /resend', body: async (w) => ({ type: 'signup', email: (await w.unconfirmed()).email }), gotrue: EMPTY },
  { name: 'resend for nobody', request: 'POST /resend', body: (w) => ({ type: 'signup', email: w.newEmail() }), gotrue: EMPTY },
  {
    name: 'resend of another type',
    request: 'POST /resend',
    body: (w) => ({ type: 'recovery', email: w.user.email }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'resend without an address',
    request: 'POST /resend',
    body: () => ({ type: 'signup' }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'resend by phone',
    request: 'POST /resend',
    body: () => ({ type: 'sms', phone: '31612345678' }),
    gotrue: refusal(400, 'phone_provider_disabled'),
  },
  { name: 'reauthenticate', request: 'GET /reauthenticate', as: 'user', gotrue: EMPTY },

  // ---- links and codes
  {
    name: 'verify a code',
    request: 'POST /verify',
    body: async (w) => {
      const { email, token } = await w.recovery();
      return { type: 'recovery', email, token };
    },
    gotrue: SIGNED_IN,
  },
  {
    name: 'verify a link',
    request: 'POST /verify',
    body: async (w) => ({ type: 'email', token_hash: (await w.recovery()).token_hash }),
    gotrue: SIGNED_IN,
  },
  {
    name: 'verify a wrong code',
    request: 'POST /verify',
    body: (w) => ({ type: 'email', email: w.newEmail(), token: '000000' }),
    gotrue: refusal(403, 'otp_expired'),
  },
  {
    name: 'verify a wrong link',
    request: 'POST /verify',
    body: () => ({ type: 'email', token_hash: 'x' }),
    gotrue: refusal(403, 'otp_expired'),
  },
  { name: 'verify without a type', request: 'POST /verify', body: () => ({ token_hash: 'x' }), gotrue: refusal(400, 'validation_failed') },
  {
    name: 'verify without a token',
    request: 'POST /verify',
    body: (w) => ({ type: 'email', email: w.newEmail() }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'verify with a link and an address',
    request: 'POST /verify',
    body: (w) => ({ type: 'email', token_hash: 'x', email: w.newEmail() }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'verify with a link and a target',
    request: 'POST /verify',
    body: () => ({ type: 'email', token_hash: 'x', redirect_to: 'http://127.0.0.1' }),
    gotrue: refusal(400, 'validation_failed'),
  },
  {
    name: 'verify a malformed address',
    request: 'POST /verify',
    body: () => ({ type: 'email', email: 'x', token: '000000' }),
    gotrue: refusal(422, 'validation_failed'),
  },
  {
    name: 'a link that is wrong',
    request: 'GET /verify?token=x&type=signup',
    gotrue: { status: 303, headers: { location: 'error=access_denied&error_code=otp_expired' } },
  },
  { name: 'a link without a type', request: 'GET /verify?token=x', gotrue: refusal(400, 'validation_failed') },
  { name: 'a link without a token', request: 'GET /verify?type=signup', gotrue: refusal(400, 'validation_failed') },
];

export const CASES = [...SIGN_IN_CASES, ...ACCOUNT_CASES];
