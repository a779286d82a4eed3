// Caddy and PostgREST share connections between callers: what one of them sends must not break the requests of another.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newPerson } from './domain.mjs';
import { env, http } from './support.mjs';

// PostgREST refuses the token without reading the body, and then closes the connection. Its header is one of ours: Caddy hands
// other tokens to the database as those of an issuer.
const OURS = Buffer.from('{"kijko":1,"alg":"RS256"}').toString('base64url');
const JUNK = { token: `${OURS}.no.signature`, headers: { 'Content-Type': 'application/json' } };

test("a caller without a token who sends bodies leaves others' requests alone", async () => {
  const person = await newPerson('TEAMS');
  let isDone = false;
  const refused = new Set();
  const send = async (options) => {
    while (!isDone) {
      const { status } = await http('POST', '/rest/v1/rpc/org_ids', { ...JUNK, ...options }).catch(() => ({ status: 'closed' }));
      refused.add(status);
    }
  };
  const junk = [send({ body: 'x'.repeat(20_000) }), send({ body: 'x'.repeat(20_000) }), send({ body: 'x'.repeat(900) })];
  // A body without a Content-Length.
  const stream = (async () => {
    while (!isDone)
      await fetch(`${env.API_URL}/rest/v1/rpc/org_ids`, {
        method: 'POST',
        headers: { Authorization: 'Bearer x' },
        body: new Blob(['x'.repeat(20_000)]).stream(),
        duplex: 'half',
      }).catch(() => {});
  })();
  try {
    for (let n = 0; n < 300; n += 1) {
      const answer = await http('POST', '/rest/v1/rpc/org_ids', {
        token: person.token,
        body: {},
        headers: { 'Content-Type': 'application/json' },
      });
      assert.equal(answer.status, 200, `request ${n}: ${answer.text}`);
    }
  } finally {
    isDone = true;
    await Promise.all([...junk, stream]);
  }
  assert.ok(refused.has(401), [...refused].join(' '));
});
