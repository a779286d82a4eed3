// The shapes of GoTrue's answers: see gotrue_answers.mjs.
//
// A key that ends in ? may be missing. Types: string, number, boolean, object, array, uuid, time (RFC 3339), or the keys of an object.
export const USER = {
  id: 'uuid',
  aud: 'string',
  role: 'string',
  email: 'string',
  phone: 'string',
  app_metadata: 'object',
  user_metadata: 'object',
  identities: 'array',
  created_at: 'time',
  updated_at: 'time',
  is_anonymous: 'boolean',
  'factors?': 'array',
  'new_email?': 'string',
  'email_confirmed_at?': 'time',
  'confirmed_at?': 'time',
  'confirmation_sent_at?': 'time',
  'recovery_sent_at?': 'time',
  'email_change_sent_at?': 'time',
  'reauthentication_sent_at?': 'time',
  'invited_at?': 'time',
  'last_sign_in_at?': 'time',
  'banned_until?': 'time',
  'deleted_at?': 'time',
};
export const SESSION = {
  access_token: 'string',
  token_type: 'string',
  expires_in: 'number',
  expires_at: 'number',
  refresh_token: 'string',
  user: USER,
  'weak_password?': 'object',
};
export const FACTOR = {
  id: 'uuid',
  created_at: 'time',
  updated_at: 'time',
  status: 'string',
  'friendly_name?': 'string',
  factor_type: 'string',
  phone: 'string',
  last_challenged_at: 'time or null',
};
export const LINK = {
  ...USER,
  action_link: 'string',
  email_otp: 'string',
  hashed_token: 'string',
  verification_type: 'string',
  redirect_to: 'string',
};
export const SIGNED_IN = { status: 200, body: SESSION, headers: { 'sb-auth-user-id': 'uuid', 'sb-auth-session-id': 'uuid' } };
export const EMPTY = { status: 200, body: {} };
export const refusal = (status, code) => ({ status, code });

export const PASSWORD = 'heron-43-over-the-lake';
export const NOBODY = '11111111-1111-4111-8111-111111111111';
export const challenge = { code_challenge: 'c'.repeat(43), code_challenge_method: 's256' };
