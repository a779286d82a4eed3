// Tokens of any kind, made by Node's crypto: good ones, and those that nobody should believe.
import { constants, createHmac, createSecretKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto';

export const base64url = (value) =>
  Buffer.from(typeof value === 'object' && !Buffer.isBuffer(value) ? JSON.stringify(value) : value).toString('base64url');

export const now = () => Math.floor(Date.now() / 1000);

/** A key for this algorithm: { alg, kid, privateKey, jwk }, where jwk is what a key set publishes. */
export function newKey(alg, { kid = randomBytes(8).toString('hex'), bits = 2048, jwk = {} } = {}) {
  if (alg.startsWith('HS')) {
    const secret = randomBytes(Number(alg.slice(2)) / 8);
    return { alg, kid, privateKey: createSecretKey(secret), jwk: { kty: 'oct', k: secret.toString('base64url'), alg, kid, ...jwk } };
  }
  const { publicKey, privateKey } = pair(alg, bits);
  return { alg, kid, privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), alg, use: 'sig', kid, ...jwk } };
}

function pair(alg, bits) {
  switch (alg) {
    case 'ES256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' });
    case 'ES384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' });
    case 'ES512':
      return generateKeyPairSync('ec', { namedCurve: 'P-521' });
    case 'EdDSA':
      return generateKeyPairSync('ed25519');
    default:
      return generateKeyPairSync('rsa', { modulusLength: bits });
  }
}

/** The signature of these bytes by an algorithm, whatever the key is meant for. */
export function signature(alg, key, message) {
  const hash = `sha${alg.slice(2)}`;
  switch (alg.slice(0, 2)) {
    case 'HS':
      return createHmac(hash, key).update(message).digest();
    case 'RS':
      return sign(hash, Buffer.from(message), key);
    case 'PS':
      return sign(hash, Buffer.from(message), {
        key,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
      });
    case 'ES':
      return sign(hash, Buffer.from(message), { key, dsaEncoding: 'ieee-p1363' });
    default:
      return sign(null, Buffer.from(message), key);
  }
}

/** A token of these claims. `header` is added to the usual one; texts instead of objects are taken as they are. */
export function token(key, claims, header = {}) {
  const head = typeof header === 'string' ? header : { alg: key.alg, typ: 'JWT', kid: key.kid, ...header };
  const message = `${base64url(head)}.${base64url(claims)}`;
  return `${message}.${base64url(signature(key.alg, key.privateKey, message))}`;
}
