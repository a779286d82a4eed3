// What the tests of login share.
import assert from 'node:assert/strict';
import { http } from './support.mjs';

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
export const refresh = (token) => http('POST', '/auth/v1/token?grant_type=refresh_token', { body: { refresh_token: token } });
export const passwordGrant = (email, password) => http('POST', '/auth/v1/token?grant_type=password', { body: { email, password } });

export async function refused(promise, code, status) {
  const { error } = await promise;
  assert.ok(error, `expected ${code}, but it succeeded`);
  assert.equal(error.code, code);
  if (status) assert.equal(error.status, status);
  return error;
}
