// A program calls with an API key: it does what the key permits, within a limit of its own, until the key is revoked.
import assert from 'node:assert/strict';
import { politeClient } from './client.mjs';
import { env, ok, refused } from './setup.mjs';

const RATE = 3;

export async function programCallsWithItsKey(say, { ada, skill }) {
  const key = await ok(ada.client.rpc('create_api_key', { name: 'Deploy pipeline', permissions: ['skills:read'], rate_limit: RATE }));
  assert.match(key.secret, /^kjk_live_[0-9A-Za-z]{38}$/);
  say(
    `"${key.name}" ${key.prefix}…, ${key.permissions.join(', ')}, ${key.rate_limit} requests a minute; the rest of it is shown this once`,
  );

  const program = politeClient(env.API_URL, key.secret, { patient: false });
  assert.ok((await ok(program.from('skills').select('id'))).some(({ id }) => id === skill.id));
  await refused(program.from('skills').insert({ name: 'x', prompt_template: 'x' }), 403, 'permission_denied');
  say('the program reads skills and cannot write them');

  let answer = await program.from('skills').select('id');
  for (let n = 0; n < RATE && !answer.error; n += 1) answer = await program.from('skills').select('id');
  assert.deepEqual([answer.status, answer.error?.code], [429, 'rate_limited']);
  assert.equal(program.seen.headers.get('x-ratelimit-resource'), 'api_key_requests');
  assert.equal(program.seen.headers.get('x-ratelimit-limit'), String(RATE));
  say(`its request too many: HTTP 429 ${answer.error.code}, X-RateLimit-Resource: api_key_requests`);
  await ok(ada.client.from('skills').select('id'));
  say('Ada goes on');

  await ok(ada.client.rpc('revoke_api_key', { id: key.id }));
  await refused(program.from('skills').select('id'), 401, 'not_identified');
  say('revoked: HTTP 401 on the next request');
}
