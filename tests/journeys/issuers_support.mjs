// What the journeys of issuers share: login servers on this machine, which the test's stack may reach by kijko.http_allowed_hosts, and
// requests with their tokens.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { after } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import Provider from 'oidc-provider';
import { ok, until, withinRate } from './domain.mjs';
import { env, http, sql } from './support.mjs';
import { base64url, newKey, now, token } from './tokens.mjs';

export const AUDIENCE = 'kijko';

async function listen(handler) {
  const server = createServer(handler);
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  const { port } = server.address();
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  after(() => server.listening && close());
  return {
    url: `http://localhost:${port}`,
    close,
    open: () => new Promise((resolve) => server.listen(port, 'localhost', resolve)),
  };
}

/**
 * A login server of our own, which says whatever a test wants: `issuer.answer.discovery` and `issuer.answer.keys` replace its answers
 * by { status, headers, body }.
 */
export async function newIssuer() {
  const issuer = { key: newKey('RS256'), answer: {}, asked: { discovery: 0, keys: 0 } };
  issuer.published = () => ({ keys: [issuer.key.jwk] });
  const server = await listen((request, response) => {
    const kind = request.url === '/.well-known/openid-configuration' ? 'discovery' : 'keys';
    issuer.asked[kind] += 1;
    const usual = kind === 'discovery' ? { issuer: issuer.url, jwks_uri: `${issuer.url}/jwks` } : issuer.published();
    const { status = 200, headers = {}, body = usual } = issuer.answer[kind] ?? {};
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  Object.assign(issuer, server);
  issuer.claims = (claims) => ({ iss: issuer.url, aud: AUDIENCE, sub: randomUUID(), iat: now(), exp: now() + 300, ...claims });
  issuer.token = (claims, header) => token(issuer.key, issuer.claims(claims), header);
  return issuer;
}

/** npm's oidc-provider: a certified server. `rotate()` gives it another key; `tokenOf(roles)` is a signed access token of it. */
export async function newProvider() {
  const state = { roles: [] };
  const server = await listen((request, response) => state.handle(request, response));
  const start = (key) => {
    const provider = new Provider(server.url, {
      jwks: { keys: [{ ...key.privateKey.export({ format: 'jwk' }), alg: key.alg, use: 'sig', kid: key.kid }] },
      clients: [
        {
          client_id: 'app',
          client_secret: 'a-secret',
          grant_types: ['client_credentials'],
          redirect_uris: [],
          response_types: [],
          id_token_signed_response_alg: key.alg,
        },
      ],
      features: {
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => 'https://kijko.example.com',
          getResourceServerInfo: () => ({
            scope: '',
            audience: AUDIENCE,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: key.alg } },
          }),
        },
      },
      extraTokenClaims: () => ({ realm_access: { roles: state.roles } }),
    });
    state.handle = provider.callback();
  };
  start(newKey('RS256'));
  return {
    ...server,
    rotate: (alg = 'ES256') => start(newKey(alg)),
    async tokenOf(roles) {
      state.roles = roles;
      const answer = await fetch(`${server.url}/token`, {
        method: 'POST',
        headers: { Authorization: `Basic ${Buffer.from('app:a-secret').toString('base64')}` },
        body: new URLSearchParams({ grant_type: 'client_credentials' }),
      });
      const body = await answer.json();
      if (!body.access_token) throw new Error(JSON.stringify(body));
      return body.access_token;
    },
  };
}

export const ROLE_MAP = { 'kijko-admin': 'admin', 'kijko-member': 'member', 'kijko-viewer': 'viewer' };

/** Enrols an issuer for the person's organization, by Keycloak's claim, and waits for its keys. */
export async function enroll(person, url, fields = {}) {
  const enrolled = await ok(
    person.client.rpc('enroll_issuer', {
      url,
      audiences: [AUDIENCE],
      role_claims: ['realm_access.roles'],
      role_map: ROLE_MAP,
      default_role: 'viewer',
      ...fields,
    }),
  );
  return status(person, enrolled.id, 'active');
}

/** From now on the organization requires its issuer, of everybody but its owner. */
export async function requireIssuer({ owner, orgId }) {
  const own = owner.client.from('memberships').update({ is_break_glass: true });
  await ok(own.eq('org_id', orgId).eq('user_id', owner.user.id).select());
  await ok(owner.client.from('organizations').update({ sso_required: true }).eq('id', orgId).select());
}

/** The issuer once it has this status. Waits beside the API, whose rate limit is not to be used up by waiting. */
export const status = (person, id, wanted) =>
  until(`an issuer to be ${wanted}`, async () => {
    const [issuer] = await sql('select * from kijko.list_issuers($1) where id = $2 and status = $3', [person.orgId, id, wanted]);
    return issuer;
  });

/** A request with a token. Refused ones share one address and its rate. */
export const as = (bearer, method, path, { body, headers = {} } = {}) =>
  withinRate(() =>
    http(method, `/rest/v1${path}`, {
      token: bearer,
      body,
      headers: { ...(body && { 'Content-Type': 'application/json' }), ...headers },
    }),
  );

export const provision = (bearer, headers) => as(bearer, 'POST', '/rpc/provision', { body: {}, headers });

/** A subject who has been provisioned, with a function that makes further tokens of it. */
export async function newMember(issuer, roles = ['kijko-member'], claims = {}) {
  const subject = randomUUID();
  const tokenOf = (others = roles, more = {}) => issuer.token({ sub: subject, realm_access: { roles: others }, ...claims, ...more });
  const answer = await provision(tokenOf());
  if (answer.status !== 200) throw new Error(answer.text);
  return { subject, tokenOf, membership: answer.body };
}

/** Tokens that look like ones of a member and are refused everywhere. `userId` is a user of ours. */
export function forged(issuer, member, userId) {
  const pem = issuer.key.publicKey.export({ type: 'spki', format: 'pem' });
  const claims = issuer.claims({ sub: member.subject });
  const hs256 = (secret) => token({ alg: 'HS256', kid: issuer.key.kid, privateKey: secret }, claims);
  return {
    none: `${base64url({ alg: 'none' })}.${base64url(claims)}.`,
    'HS256 by the public key': hs256(pem),
    'HS256 by the key set': hs256(JSON.stringify(issuer.published())),
    'its own key': token(newKey('RS256', { kid: issuer.key.kid }), claims, { jwk: issuer.key.jwk }),
    'another audience': issuer.token({ sub: member.subject, aud: 'account' }),
    expired: issuer.token({ sub: member.subject, exp: now() - 60 }),
    'without end': issuer.token({ sub: member.subject, exp: undefined }),
    'without subject': issuer.token({ sub: undefined }),
    'a long subject': issuer.token({ sub: 's'.repeat(300) }),
    'an unknown issuer': issuer.token({ iss: 'https://login.example.com' }),
    'a notice of logout': issuer.token({ sub: member.subject, events: { 'http://schemas.openid.net/event/backchannel-logout': {} } }),
    'ours, signed by the issuer': issuer.token({
      iss: `${env.API_URL}/auth/v1`,
      sub: userId,
      role: 'service_role',
      aud: 'authenticated',
    }),
  };
}

/** A token whose header says that it is ours, signed by the issuer. */
export const pretending = (issuer, member) =>
  token(issuer.key, issuer.claims({ sub: member.subject, role: 'service_role' }), '{"kijko":1,"typ":"JWT","alg":"RS256"}');

/** supabase-js as a product uses it with tokens of its own login. */
export const clientOf = (bearer) =>
  createClient(env.API_URL, env.ANON_KEY, {
    accessToken: async () => bearer,
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: class {} },
  });
