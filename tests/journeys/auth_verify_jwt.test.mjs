// Whom kijko.verify_jwt believes: every algorithm that it supports, and a table of attacks, each with the reason for its refusal.
import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { adminSql, sql } from './support.mjs';
import { base64url, newKey, now, signature, token } from './tokens.mjs';

const ISSUER = 'https://login.example.com/realms/one';
const AUDIENCE = 'kijko';
const ALGORITHMS = ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'];

const claims = (changes = {}) => ({ iss: ISSUER, aud: AUDIENCE, sub: 'a-subject', iat: now(), exp: now() + 300, ...changes });
const keys = Object.fromEntries(ALGORITHMS.map((alg) => [alg, newKey(alg)]));
const published = { keys: Object.values(keys).map(({ jwk }) => jwk) };
const rs256 = keys.RS256;

/** Why a token is refused; null when it is accepted. Both functions have to agree. */
async function reason(text, { jwks = published, issuer = ISSUER, audiences = [AUDIENCE], leeway } = {}) {
  const rest = leeway === undefined ? '' : ', $5';
  const values = [text, jwks === null ? null : JSON.stringify(jwks), issuer, audiences, ...(leeway === undefined ? [] : [leeway])];
  const [row] = await sql(
    `select kijko.verify_jwt($1, $2, $3, $4${rest}) as claims, kijko.verify_jwt_reason($1, $2, $3, $4${rest}) as reason`,
    values,
  );
  assert.equal(row.claims === null, row.reason !== null, `${row.reason}`);
  return row.reason;
}

const only = (...jwks) => ({ jwks: { keys: jwks } });

describe('tokens that are accepted', () => {
  for (const alg of ALGORITHMS) {
    test(alg, async () => {
      const wanted = claims();
      const [row] = await sql('select kijko.verify_jwt($1, $2, $3, $4) as claims', [
        token(keys[alg], wanted),
        JSON.stringify(published),
        ISSUER,
        ['another', AUDIENCE],
      ]);
      assert.deepEqual(row.claims, wanted);
    });
  }

  const without = (key, ...names) => Object.fromEntries(Object.entries(key.jwk).filter(([name]) => !names.includes(name)));
  for (const [name, text, options] of [
    ['several audiences', () => token(rs256, claims({ aud: ['else', AUDIENCE] }))],
    ['no type', () => token(rs256, claims(), { typ: undefined })],
    ['an access token by its type', () => token(rs256, claims(), { typ: 'at+jwt' })],
    ['a thumbprint of a certificate, which is no key', () => token(rs256, claims(), { x5t: 'abc', 'x5t#S256': 'abc' })],
    ['no kid, and one key of its algorithm', () => token(rs256, claims(), { kid: undefined })],
    ['a key that names no algorithm: RS256', () => token(rs256, claims()), only(without(rs256, 'alg', 'use'))],
    ['a key that names no algorithm: its curve says it', () => token(keys.ES384, claims()), only(without(keys.ES384, 'alg'))],
    ['a key that names no algorithm: Ed25519', () => token(keys.EdDSA, claims()), only(without(keys.EdDSA, 'alg'))],
    [
      'another key of the same id, for encryption',
      () => token(rs256, claims()),
      only({ ...newKey('RS256').jwk, use: 'enc', alg: 'RSA-OAEP', kid: rs256.kid }, rs256.jwk),
    ],
    ['keys beside it that are of no use', () => token(rs256, claims()), only({}, { kty: 'new' }, { kid: rs256.kid }, rs256.jwk)],
    ['a key of 4096 bits', () => token(strong(), claims()), () => only(strong().jwk)],
    ['an end within the leeway', () => token(rs256, claims({ exp: now() - 10 }))],
    ['a beginning within the leeway', () => token(rs256, claims({ nbf: now() + 10, iat: now() + 10 }))],
    ['a larger leeway', () => token(rs256, claims({ exp: now() - 100 })), { leeway: '5 minutes' }],
    ['times with fractions', () => token(rs256, claims({ exp: now() + 60.5, nbf: now() - 0.5 }))],
    ['an empty kid, which is one', () => token(blank, claims()), () => only(blank.jwk)],
    ['members of its own', () => token(rs256, claims({ role: 'service_role', é: 'ü', nested: { a: [1, null] } }))],
  ]) {
    test(name, async () => {
      assert.equal(await reason(text(), typeof options === 'function' ? options() : options), null);
    });
  }
});

const blank = newKey('RS256', { kid: '' });
const strong = (
  (key) => () =>
    (key ??= newKey('RS512', { bits: 4096 }))
)(undefined);

describe('tokens that are refused', () => {
  const good = () => token(rs256, claims());
  const parts = () => good().split('.');
  const pem = rs256.publicKey.export({ type: 'spki', format: 'pem' });
  const hmac = (secret, header) => {
    const message = `${base64url({ alg: 'HS256', typ: 'JWT', ...header })}.${base64url(claims())}`;
    return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
  };
  const unsigned = (alg, rest = '') => `${base64url({ alg, kid: rs256.kid })}.${base64url(claims())}.${rest}`;
  const signed = (header, body) => {
    const message = `${Buffer.from(header).toString('base64url')}.${Buffer.from(body).toString('base64url')}`;
    return `${message}.${base64url(signature('RS256', rs256.privateKey, message))}`;
  };
  const header = JSON.stringify({ alg: 'RS256', kid: rs256.kid });
  const body = () => JSON.stringify(claims());
  const weak = newKey('RS256', { bits: 1024 });
  const p521 = newKey('ES512');
  const secp256k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
  const k256 = { ...keys.ES256, kid: 'k256', privateKey: secp256k1.privateKey };
  const short = randomBytes(16);
  const twin = newKey('RS256');
  const stranger = newKey('RS256', { kid: rs256.kid });
  const es = keys.ES256;

  const TABLE = [
    // No signature, and none of the key's.
    ['none', () => unsigned('none'), 'algorithm_not_allowed'],
    ['none, in capitals', () => unsigned('NONE'), 'algorithm_not_allowed'],
    ['none with a signature', () => unsigned('none', parts()[2]), 'algorithm_not_allowed'],
    ['an empty signature', () => unsigned('RS256'), 'signature_invalid'],
    ['two parts', () => parts().slice(0, 2).join('.'), 'malformed'],
    [
      'another token of the same key: its signature',
      () => [parts()[0], base64url(claims({ sub: 'root' })), parts()[2]].join('.'),
      'signature_invalid',
    ],
    ['one bit of the signature', () => flipped(good()), 'signature_invalid'],
    ['a signature cut off', () => withSignature(good(), Buffer.from(parts()[2], 'base64url').subarray(0, -3)), 'signature_invalid'],
    ['a key of the same id', () => token(stranger, claims()), 'signature_invalid'],
    ['an unknown key', () => token(newKey('RS256'), claims()), 'key_unknown'],
    // Confusion of algorithms.
    ['HS256 by the public key in PEM', () => hmac(pem, { kid: rs256.kid }), 'algorithm_mismatch'],
    ['HS256 by the public key as JWK', () => hmac(JSON.stringify(rs256.jwk), { kid: rs256.kid }), 'algorithm_mismatch'],
    ['HS256 by the modulus', () => hmac(Buffer.from(rs256.jwk.n, 'base64url'), { kid: rs256.kid }), 'algorithm_mismatch'],
    ['HS256 by an empty secret', () => hmac('', { kid: keys.HS256.kid }), 'signature_invalid'],
    ['HS256 without a kid, by the public key alone', () => hmac(pem), 'key_unknown', only(rs256.jwk)],
    ['RS256 by a key of PS256', () => token({ ...keys.PS256, alg: 'RS256' }, claims()), 'algorithm_mismatch'],
    ['PS256 by a key of RS256', () => token({ ...rs256, alg: 'PS256' }, claims()), 'algorithm_mismatch'],
    ['RS512 by a key of RS256', () => token({ ...rs256, alg: 'RS512' }, claims()), 'algorithm_mismatch'],
    [
      'RS512 by a key that names none',
      () => token({ ...rs256, alg: 'RS512' }, claims()),
      'algorithm_mismatch',
      only({ ...rs256.jwk, alg: undefined }),
    ],
    ['HS512 by a secret of HS256', () => token({ ...keys.HS256, alg: 'HS512' }, claims()), 'algorithm_mismatch'],
    ['ES256 by a key of P-384', () => token({ ...keys.ES384, alg: 'ES256' }, claims()), 'algorithm_mismatch'],
    ['ES384 by a key of P-256', () => token({ ...es, alg: 'ES384' }, claims()), 'algorithm_mismatch'],
    ['a header that says another algorithm than was used', () => token(rs256, claims(), { alg: 'RS384' }), 'algorithm_mismatch'],
    ['ES512', () => token(p521, claims()), 'algorithm_not_allowed', only(p521.jwk)],
    ['ES256K', () => token(k256, claims(), { alg: 'ES256K' }), 'algorithm_not_allowed'],
    ['an algorithm in small letters', () => token(rs256, claims(), { alg: 'rs256' }), 'algorithm_not_allowed'],
    ['an algorithm that is a list', () => token(rs256, claims(), { alg: ['RS256'] }), 'malformed'],
    ['an algorithm that is missing', () => token(rs256, claims(), { alg: undefined }), 'malformed'],
    // Keys that are no good.
    ['RSA of 1024 bits', () => token(weak, claims()), 'key_unusable', only(weak.jwk)],
    ['RSA with the exponent 1', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, e: 'AQ' })],
    ['RSA with an even exponent', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, e: 'AQAC' })],
    ['RSA with a long exponent', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, e: rs256.jwk.n })],
    [
      'RSA with a modulus that is not base64url',
      () => token(rs256, claims()),
      'key_unusable',
      only({ ...rs256.jwk, n: `${rs256.jwk.n}=` }),
    ],
    ['RSA without a modulus', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, n: undefined })],
    [
      'a curve of another kind',
      () => token(k256, claims()),
      'key_unusable',
      only({ ...secp256k1.publicKey.export({ format: 'jwk' }), kid: 'k256' }),
    ],
    [
      'a point of another curve under the name P-256',
      () => token(k256, claims()),
      'signature_invalid',
      only({ ...secp256k1.publicKey.export({ format: 'jwk' }), crv: 'P-256', kid: 'k256' }),
    ],
    ['a point that is on no curve', () => token(es, claims()), 'signature_invalid', only({ ...es.jwk, y: es.jwk.x })],
    ['a point that is too short', () => token(es, claims()), 'key_unusable', only({ ...es.jwk, x: 'AAAA' })],
    ['an EC key that claims RS256', () => token(es, claims()), 'key_unusable', only({ ...es.jwk, alg: 'RS256' })],
    [
      'a secret that claims RS256',
      () => hmac(pem, { kid: 'o' }),
      'key_unusable',
      only({ kty: 'oct', k: base64url(pem), alg: 'RS256', kid: 'o' }),
    ],
    [
      'a short secret',
      () => token({ alg: 'HS256', kid: 's', privateKey: short }, claims()),
      'key_unusable',
      only({ kty: 'oct', k: base64url(short), alg: 'HS256', kid: 's' }),
    ],
    ['Ed25519 under another curve', () => token(keys.EdDSA, claims()), 'key_unusable', only({ ...keys.EdDSA.jwk, crv: 'Ed448' })],
    ['a key for encryption', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, use: 'enc' })],
    ['a key that may only sign', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, key_ops: ['sign'] })],
    ['a key of another use in a list', () => token(rs256, claims()), 'key_unusable', only({ ...rs256.jwk, use: ['sig'] })],
    // Signatures that an incomplete verifier takes.
    ['ECDSA with r and s of zero', () => withSignature(token(es, claims()), Buffer.alloc(64)), 'signature_invalid'],
    ['ECDSA in DER', () => der(es), 'signature_invalid'],
    ['ECDSA with a byte more', () => `${token(es, claims())}AA`, 'malformed|signature_invalid'],
    ['Ed25519 of zeros', () => withSignature(token(keys.EdDSA, claims()), Buffer.alloc(64)), 'signature_invalid'],
    // Keys that the token brings along.
    ['jwk', () => token(stranger, claims(), { jwk: stranger.jwk }), 'header_not_allowed'],
    ['jku', () => token(stranger, claims(), { jku: 'https://evil.example.com/jwks' }), 'header_not_allowed'],
    ['x5c', () => token(stranger, claims(), { x5c: ['MIIB'] }), 'header_not_allowed'],
    ['x5u', () => token(stranger, claims(), { x5u: 'https://evil.example.com/cert' }), 'header_not_allowed'],
    ['a jwk by the right key', () => token(rs256, claims(), { jwk: rs256.jwk }), 'header_not_allowed'],
    ['crit', () => token(rs256, claims(), { crit: ['exp'], exp: 1 }), 'header_not_allowed'],
    ['crit of b64', () => token(rs256, claims(), { crit: ['b64'], b64: false }), 'header_not_allowed'],
    ['b64 alone', () => token(rs256, claims(), { b64: false }), 'header_not_allowed'],
    ['zip', () => token(rs256, claims(), { zip: 'DEF' }), 'header_not_allowed'],
    ['a notice of logout', () => token(rs256, claims(), { typ: 'logout+jwt' }), 'type_not_allowed'],
    ['a proof of possession', () => token(rs256, claims(), { typ: 'dpop+jwt' }), 'type_not_allowed'],
    // Which key.
    ['a kid that is a path', () => token(rs256, claims(), { kid: '../../dev/null' }), 'key_unknown'],
    ['a kid that is SQL', () => token(rs256, claims(), { kid: "' or true --" }), 'key_unknown'],
    ['a kid that is no text', () => token(rs256, claims(), { kid: 1 }), 'malformed'],
    ['a kid that is null', () => token(rs256, claims(), { kid: null }), 'malformed'],
    ['a long kid', () => token(rs256, claims(), { kid: 'k'.repeat(600) }), 'malformed'],
    ['no kid, and two keys of its algorithm', () => token(rs256, claims(), { kid: undefined }), 'key_ambiguous', only(rs256.jwk, twin.jwk)],
    ['a key set without keys', good, 'key_unknown', only()],
    ['a key set that is none', good, 'keys_invalid', { jwks: [rs256.jwk] }],
    ['a key set whose keys are none', good, 'keys_invalid', { jwks: { keys: rs256.jwk } }],
    ['a key alone', good, 'keys_invalid', { jwks: rs256.jwk }],
    ['a key set of null', good, 'keys_invalid', { jwks: null }],
    ['a key set of 101 keys', good, 'keys_invalid', only(...Array(101).fill(rs256.jwk))],
    // Spelling.
    ['a null token', () => null, 'malformed'],
    ['an empty token', () => '', 'malformed'],
    ['padding', () => `${good()}==`, 'malformed'],
    ['padding of the header', () => good().replace('.', '=.'), 'malformed'],
    ['the other alphabet', () => other(good()), 'malformed'],
    ['stray bits at the end', () => strayBits(es), 'malformed'],
    ['a blank before it', () => ` ${good()}`, 'malformed'],
    ['a line break behind it', () => `${good()}\n`, 'malformed'],
    ['four parts', () => `${good()}.AAAA`, 'malformed'],
    ['five parts, as of an encrypted token', () => `${good()}.AAAA.AAAA`, 'malformed'],
    ['alg twice', () => signed('{"alg":"none","alg":"RS256"}', body()), 'malformed'],
    ['alg twice, once escaped', () => signed(`{"alg":"RS256","\\u0061lg":"none","kid":"${rs256.kid}"}`, body()), 'malformed'],
    ['a claim twice', () => signed(header, body().replace('{', '{"sub":"root",')), 'malformed'],
    ['a claim twice, within another', () => signed(header, body().replace('{', '{"a":{"b":1,"b":2},')), 'malformed'],
    ['claims that are a list', () => signed(header, `[${body()}]`), 'malformed'],
    ['claims that are a text', () => signed(header, JSON.stringify(body())), 'malformed'],
    ['claims with something behind', () => signed(header, `${body()}{}`), 'malformed'],
    [
      'claims that are not UTF-8',
      () => signed(header, Buffer.concat([Buffer.from(body().slice(0, -1)), Buffer.from(',"a":"\xff"}', 'latin1')])),
      'malformed',
    ],
    ['a NUL in a claim', () => token(rs256, claims({ sub: 'a\0b' })), 'malformed'],
    ['half a surrogate pair', () => signed(header, body().replace('{', '{"a":"\\ud800",')), 'malformed'],
    ['deep nesting', () => signed(header, body().replace('{', `{"a":${'['.repeat(2000)}${']'.repeat(2000)},`)), 'malformed'],
    ['more than 16 KiB', () => token(rs256, claims({ pad: 'x'.repeat(16_384) })), 'too_large'],
    // Times.
    ['no end', () => token(rs256, claims({ exp: undefined })), 'expiry_missing'],
    ['an end of null', () => token(rs256, claims({ exp: null })), 'claims_malformed'],
    ['an end in a text', () => token(rs256, claims({ exp: `${now() + 300}` })), 'claims_malformed'],
    ['an end that is a list', () => token(rs256, claims({ exp: [now() + 300] })), 'claims_malformed'],
    ['an end out of range', () => signed(header, body().replace(/"exp":\d+/, '"exp":1e999')), 'malformed'],
    ['expired', () => token(rs256, claims({ exp: now() - 31 })), 'expired'],
    ['expired without leeway', () => token(rs256, claims({ exp: now() - 1 })), 'expired', { leeway: '0 seconds' }],
    ['an end before 1970', () => token(rs256, claims({ exp: -1 })), 'expired'],
    ['not yet valid', () => token(rs256, claims({ nbf: now() + 60 })), 'not_yet_valid'],
    ['a beginning in a text', () => token(rs256, claims({ nbf: `${now()}` })), 'claims_malformed'],
    ['a beginning of null', () => token(rs256, claims({ nbf: null })), 'claims_malformed'],
    ['issued in the future', () => token(rs256, claims({ iat: now() + 60 })), 'issued_in_future'],
    ['issued at a text', () => token(rs256, claims({ iat: 'now' })), 'claims_malformed'],
    // For whom, by whom.
    ['no issuer', () => token(rs256, claims({ iss: undefined })), 'issuer_mismatch'],
    ['another issuer', () => token(rs256, claims({ iss: `${ISSUER}/` })), 'issuer_mismatch'],
    ['the issuer in a list', () => token(rs256, claims({ iss: [ISSUER] })), 'claims_malformed'],
    ['an issuer of null', good, 'issuer_mismatch', { issuer: null }],
    ['an empty issuer', () => token(rs256, claims({ iss: '' })), 'issuer_mismatch', { issuer: '' }],
    ['no audience', () => token(rs256, claims({ aud: undefined })), 'audience_mismatch'],
    ['another audience', () => token(rs256, claims({ aud: 'kijko2' })), 'audience_mismatch'],
    ['an audience that begins with ours', () => token(rs256, claims({ aud: 'kijko kijko2' })), 'audience_mismatch'],
    ['an audience in other letters', () => token(rs256, claims({ aud: 'Kijko' })), 'audience_mismatch'],
    ['an audience that is an object', () => token(rs256, claims({ aud: { kijko: true } })), 'claims_malformed'],
    ['audiences with a number', () => token(rs256, claims({ aud: [AUDIENCE, 1] })), 'claims_malformed'],
    ['no audience that is accepted', good, 'audience_mismatch', { audiences: [] }],
    ['audiences of null', good, 'audience_mismatch', { audiences: null }],
    ['an audience of null', good, 'audience_mismatch', { audiences: [null] }],
  ];

  function flipped(text) {
    const bytes = Buffer.from(text.split('.')[2], 'base64url');
    bytes[7] ^= 1;
    return withSignature(text, bytes);
  }
  function withSignature(text, bytes) {
    return [...text.split('.').slice(0, 2), base64url(bytes)].join('.');
  }
  function der(key) {
    const [head, rest] = token(key, claims()).split('.');
    const raw = signature('ES256', key.privateKey, `${head}.${rest}`);
    const integer = (bytes) => Buffer.concat([Buffer.from([2, bytes.length + 1, 0]), bytes]);
    const [r, s] = [integer(raw.subarray(0, 32)), integer(raw.subarray(32))];
    return `${head}.${rest}.${base64url(Buffer.concat([Buffer.from([0x30, r.length + s.length]), r, s]))}`;
  }
  /** The same bytes in another spelling: a signature of 64 bytes leaves four bits of its last character unused. */
  function strayBits(key) {
    const text = token(key, claims());
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    return text.slice(0, -1) + alphabet[alphabet.indexOf(text.at(-1)) + 1];
  }
  /** A token whose signature needs one of the two characters, in the alphabet of base64. */
  function other(text) {
    for (let made = text; ; made = token(rs256, claims({ jti: randomBytes(8).toString('hex') }))) {
      const [head, rest, last] = made.split('.');
      if (/[-_]/.test(last)) return `${head}.${rest}.${last.replaceAll('-', '+').replaceAll('_', '/')}`;
    }
  }

  for (const [name, text, expected, options] of TABLE) {
    test(`${name}: ${expected}`, async () => {
      const found = await reason(text(), options);
      assert.ok(expected.split('|').includes(found), `${found}`);
    });
  }

  test('a leeway outside 0 seconds to 5 minutes is an error', async () => {
    for (const leeway of ['-1 second', '6 minutes', '1 day', null]) {
      await assert.rejects(
        sql('select kijko.verify_jwt($1, $2, $3, $4, $5)', [good(), JSON.stringify(published), ISSUER, [AUDIENCE], leeway]),
        {
          code: '22023',
        },
      );
    }
  });
});

describe('who may ask', () => {
  let roles;
  before(async () => {
    roles = await adminSql(
      `select rolname, has_function_privilege(oid, 'kijko.verify_jwt(text, jsonb, text, text[], interval)', 'execute') as may
      from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'postgres') order by rolname`,
    );
  });
  test('functions of the domain and of login, and no caller', () => {
    assert.deepEqual(
      roles.filter(({ may }) => may).map(({ rolname }) => rolname),
      ['postgres'],
    );
  });
});
