// A real OpenID provider for tests of login: two issuers, /acme and /other, on one port. It can rotate its keys, be down, and have
// endpoints that answer something else.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, SignJWT } from 'jose';
import Provider from 'oidc-provider';
import { env } from './support.mjs';

const NAMES = ['acme', 'other'];

async function newKey() {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  const jwk = await exportJWK(privateKey);
  return { ...jwk, kid: await calculateJwkThumbprint(jwk), alg: 'RS256', use: 'sig' };
}

export class OidcServer {
  people = new Map();
  signsIn = null;
  /** Path to a function (request, response) that answers in place of the provider. */
  instead = new Map();
  #issuers = new Map();

  constructor(port) {
    this.port = Number(port);
  }

  static async start(port) {
    assert.ok(port, 'not set: KIJKO_TEST_OIDC_PORT or KIJKO_TEST_WORK_PORT; the stack of ./kijko test knows these providers');
    const server = new OidcServer(port);
    for (const name of NAMES) await server.rotate(name);
    await server.up();
    return server;
  }

  async up() {
    this.server = createServer((request, response) => this.#answer(request, response));
    this.server.listen(this.port, 'localhost');
    await once(this.server, 'listening');
  }

  async down() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  issuer = (name) => `http://localhost:${this.port}/${name}`;

  /** New keys; what the old ones signed is no longer verified. */
  async rotate(name) {
    const key = await newKey();
    const provider = new Provider(this.issuer(name), {
      clients: [
        {
          client_id: `${name}-client`,
          client_secret: `${name}-secret`,
          redirect_uris: [`${env.API_URL}/auth/v1/callback`, `${env.API_URL}/auth/v1/callback/connection`],
          response_types: ['code'],
          grant_types: ['authorization_code', 'refresh_token'],
        },
      ],
      jwks: { keys: [key] },
      cookies: { keys: ['not a secret'] },
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'picture', 'preferred_username'] },
      rotateRefreshToken: true,
      features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
      interactions: { url: (_, interaction) => `/${name}/sign-in/${interaction.uid}` },
      findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...this.people.get(sub) }) }),
      loadExistingGrant: async (context) => {
        const grant = new context.oidc.provider.Grant({
          clientId: context.oidc.client.clientId,
          accountId: context.oidc.session.accountId,
        });
        grant.addOIDCScope('openid email profile offline_access');
        await grant.save();
        return grant;
      },
    });
    this.#issuers.set(name, { provider, key, answer: provider.callback() });
  }

  async #answer(request, response) {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (this.instead.has(pathname)) return this.instead.get(pathname)(request, response);
    const name = NAMES.find((known) => pathname.startsWith(`/${known}/`));
    if (!name) return response.writeHead(404).end();
    const { provider, answer } = this.#issuers.get(name);
    request.originalUrl = request.url;
    request.url = request.url.slice(name.length + 1);
    if (!pathname.startsWith(`/${name}/sign-in/`)) return answer(request, response);
    const { prompt } = await provider.interactionDetails(request, response);
    await provider.interactionFinished(
      request,
      response,
      prompt.name === 'consent' ? { consent: {} } : { login: { accountId: this.signsIn } },
    );
  }

  /** Whoever comes next signs in as this subject. */
  as(sub, claims) {
    this.people.set(sub, claims);
    this.signsIn = sub;
    return sub;
  }

  /** An identity token that the provider has not issued, by its key unless another one is given. */
  async token(claims, { name = 'acme', header = {}, key = this.#issuers.get(name).key } = {}) {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ iss: this.issuer(name), aud: `${name}-client`, iat: now, exp: now + 300, ...claims })
      .setProtectedHeader({ alg: 'RS256', kid: this.#issuers.get(name).key.kid, ...header })
      .sign(key instanceof Uint8Array ? key : await importJWK(key, header.alg ?? 'RS256'));
  }

  publicKey(name = 'acme') {
    const { kty, n, e } = this.#issuers.get(name).key;
    return { kty, n, e };
  }
}

export const newStrangersKey = newKey;
