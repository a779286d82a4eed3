// Tokens that nobody should believe, made from a real one of the victim's owner and from what is public: the key set.
import { createPublicKey, randomUUID } from 'node:crypto';
import { env } from '../journeys/support.mjs';
import { base64url, newKey, now, signature, token } from '../journeys/tokens.mjs';
import { send } from './wire.mjs';

/** By name: a bearer token. `real` is an access token of the victim's owner, `expired` one that was good an hour ago. */
export async function forgedTokens({ real, expired }) {
  const { body } = await send('GET', '/auth/v1/.well-known/jwks.json', { headers: { apikey: env.ANON_KEY } });
  const [jwk] = body.keys;
  const pem = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
  const [head, payload, signed] = real.split('.');
  const header = JSON.parse(Buffer.from(head, 'base64url'));
  const claims = JSON.parse(Buffer.from(payload, 'base64url'));
  const service = { ...claims, role: 'service_role' };
  const symmetric = (secret, head) => {
    const message = `${base64url(head)}.${base64url(service)}`;
    return `${message}.${base64url(signature('HS256', secret, message))}`;
  };
  const mine = newKey('RS256', { kid: jwk.kid });
  // As a text, so that the header's fields keep their order: by its beginning the proxy knows whose token it is.
  const mineAs = (head, said = service) => token(mine, said, JSON.stringify(head));
  return {
    'alg none': `${base64url({ ...header, alg: 'none' })}.${payload}.`,
    'alg none of another issuer': `${base64url({ alg: 'none', typ: 'JWT' })}.${payload}.`,
    'no signature': `${head}.${payload}.`,
    'another payload': `${head}.${base64url(service)}.${signed}`,
    'HS256 with the public key as PEM': symmetric(pem, { ...header, alg: 'HS256' }),
    'HS256 with the public modulus': symmetric(Buffer.from(jwk.n ?? jwk.x, 'base64url'), { ...header, alg: 'HS256' }),
    'HS256 with an empty secret': symmetric('', { ...header, alg: 'HS256' }),
    'a key of my own under your kid': mineAs(header),
    'a key of my own under no kid': mineAs({ ...header, kid: undefined }),
    'a key of my own under a kid that is a path': mineAs({ ...header, kid: '../../../dev/null' }),
    'a key of my own in the header': mineAs({ ...header, jwk: mine.jwk }),
    'another audience': mineAs(header, { ...claims, aud: 'other', exp: now() + 60 }),
    'another issuer': token(mine, { ...claims, iss: `https://${randomUUID()}.example.com` }),
    'a subject that is a list': mineAs(header, { ...claims, sub: [claims.sub] }),
    expired,
  };
}
