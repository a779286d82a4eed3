// Outside providers for tests of login: GitHub and GitLab as their servers answer, and a browser that follows redirects.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

export const GITHUB = { id: 'github-client', secret: 'github-secret' };
export const GITLAB = { id: 'gitlab-client', secret: 'gitlab-secret' };
export const APP = 'http://127.0.0.1:3000/welcome';

const s256 = (text) => createHash('sha256').update(text).digest('base64url');
const numericId = () => randomBytes(4).readUInt32BE();

/** A person at a provider. */
export const newPerson = (email, more = {}) => ({
  id: numericId(),
  login: `user-${randomBytes(4).toString('hex')}`,
  name: 'Ada Lovelace',
  email,
  verified: true,
  ...more,
});

/** A GitHub Enterprise server at /, and a GitLab at /gitlab. Answers, statuses and error codes are those of the products. */
export class Providers {
  person = null;
  denies = false;
  broken = false;
  /** Whether GitHub's tokens expire, as those of a GitHub App do. */
  expires = false;
  /** Takes a refresh token, and loses the answer. */
  loses = false;
  revoked = [];
  requests = [];
  #codes = new Map();
  #tokens = new Map();
  /** Refresh token to what it renews. Each is good once. */
  #renewals = new Map();

  static async listen(port) {
    assert.ok(port, 'not set: KIJKO_TEST_GITHUB_PORT or KIJKO_TEST_HUB_PORT; the stack of ./kijko test knows these providers');
    const providers = new Providers();
    providers.server = createServer((request, response) => {
      providers.#answer(request, response).catch((error) => response.writeHead(500).end(String(error.stack)));
    });
    providers.server.listen(Number(port), 'localhost');
    await once(providers.server, 'listening');
    return providers;
  }

  async close() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  async #answer(request, response) {
    const url = new URL(request.url, 'http://localhost');
    let body = '';
    for await (const chunk of request) body += chunk;
    this.requests.push({
      method: request.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
    });
    const json = (status, value) =>
      response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' }).end(JSON.stringify(value));
    if (this.broken && url.pathname !== '/login/oauth/authorize')
      return response.writeHead(502, { 'Content-Type': 'text/html' }).end('<html>');
    const bearer = this.#tokens.get(request.headers.authorization?.replace(/^Bearer /, ''));
    const form = () => new URLSearchParams(body);
    switch (`${request.method} ${url.pathname}`) {
      case 'GET /login/oauth/authorize':
        return this.#authorize(url, response, GITHUB, randomBytes(10).toString('hex'), {
          error: 'access_denied',
          error_description: 'The user has denied your application access.',
          error_uri: 'https://docs.github.com/apps/managing-oauth-apps/troubleshooting-authorization-request-errors/#access-denied',
        });
      case 'POST /login/oauth/access_token':
        assert.equal(request.headers.accept, 'application/json', 'GitHub answers a form otherwise');
        return this.#give(request, json, 200, this.#githubToken(form()));
      case 'GET /api/v3/user':
        assert.ok(request.headers['user-agent'], 'GitHub refuses requests without one');
        if (!bearer) return json(401, { message: 'Bad credentials', documentation_url: 'https://docs.github.com/rest', status: '401' });
        return json(200, {
          login: bearer.login,
          id: bearer.id,
          node_id: 'MDQ6VXNlcjE=',
          avatar_url: `https://avatars.githubusercontent.com/u/${bearer.id}?v=4`,
          type: 'User',
          site_admin: false,
          name: bearer.name,
          email: null, // what is public of the address, not the address
        });
      case 'GET /api/v3/user/emails':
        if (!bearer) return json(401, { message: 'Bad credentials', documentation_url: 'https://docs.github.com/rest', status: '401' });
        return json(200, [
          { email: `${bearer.id}+${bearer.login}@users.noreply.github.com`, primary: false, verified: true, visibility: null },
          { email: bearer.email, primary: true, verified: bearer.verified, visibility: 'private' },
        ]);
      case `DELETE /api/v3/applications/${GITHUB.id}/token`:
      case `DELETE /api/v3/applications/${GITHUB.id}/grant`: {
        const basic = `Basic ${Buffer.from(`${GITHUB.id}:${GITHUB.secret}`).toString('base64')}`;
        if (request.headers.authorization !== basic) return json(401, { message: 'Bad credentials', status: '401' });
        const { access_token: token } = JSON.parse(body);
        if (!this.#tokens.delete(token)) return json(404, { message: 'Not Found', status: '404' });
        this.revoked.push(token);
        return response.writeHead(204).end();
      }
      case 'POST /api/v3/credentials/revoke': {
        if (request.headers.authorization) return json(403, { message: 'Forbidden', status: '403' });
        for (const token of JSON.parse(body).credentials) if (this.#renewals.delete(token)) this.revoked.push(token);
        return json(202, {});
      }
      case 'GET /gitlab/oauth/authorize':
        return this.#authorize(url, response, GITLAB, randomBytes(32).toString('hex'), {
          error: 'access_denied',
          error_description: 'The resource owner or authorization server denied the request.',
        });
      case 'POST /gitlab/oauth/token':
        return this.#give(request, json, ...this.#gitlabToken(form()));
      case 'GET /gitlab/api/v4/user':
        if (!bearer) return json(401, { message: '401 Unauthorized' });
        return json(200, {
          id: bearer.id,
          username: bearer.login,
          name: bearer.name,
          state: 'active',
          avatar_url: null,
          email: bearer.email,
          commit_email: bearer.email,
          confirmed_at: bearer.verified ? '2026-01-02T03:04:05.678Z' : null,
        });
      case 'POST /gitlab/oauth/revoke': {
        const fields = form();
        if (fields.get('client_id') !== GITLAB.id || fields.get('client_secret') !== GITLAB.secret)
          return json(403, { error: 'unauthorized_client', error_description: 'You are not authorized to revoke this token' });
        this.#tokens.delete(fields.get('token'));
        this.#renewals.delete(fields.get('token'));
        this.revoked.push(fields.get('token'));
        return json(200, {});
      }
      default:
        return json(404, { message: 'Not Found', status: '404' });
    }
  }

  /** An account withdraws its consent at the provider. */
  withdraw(person) {
    for (const [token, owner] of this.#tokens) if (owner === person) this.#tokens.delete(token);
    for (const [token, renewal] of this.#renewals) if (renewal.person === person) this.#renewals.delete(token);
  }

  /** The time of an access token is over. */
  expire(token) {
    assert.ok(this.#tokens.delete(token));
  }

  /** Whether a token is good. */
  knows(token) {
    return this.#tokens.has(token) || this.#renewals.has(token);
  }

  #give(request, json, status, body) {
    if (this.loses && body.access_token) return request.socket.destroy();
    return json(status, body);
  }

  #authorize(url, response, app, code, denial) {
    const query = Object.fromEntries(url.searchParams);
    assert.equal(query.client_id, app.id);
    assert.equal(query.code_challenge_method, 'S256');
    const target = new URL(query.redirect_uri);
    const { redirect_uri: redirect, code_challenge: challenge, scope } = query;
    if (!this.denies) this.#codes.set(code, { person: this.person, app, redirect, challenge, scope });
    for (const [name, value] of Object.entries(this.denies ? denial : { code })) target.searchParams.set(name, value);
    target.searchParams.set('state', query.state);
    response.writeHead(302, { Location: target.href }).end();
  }

  /** A code is good once, for its application, its redirect and its verifier. */
  #take(form, app) {
    const code = this.#codes.get(form.get('code'));
    this.#codes.delete(form.get('code'));
    if (!code || code.app !== app || code.challenge !== s256(form.get('code_verifier') ?? '')) return null;
    return code;
  }

  #githubToken(form) {
    const refused = (error, error_description) => ({
      error,
      error_description,
      error_uri: `https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors/#${error.replaceAll('_', '-')}`,
    });
    if (form.get('client_id') !== GITHUB.id || form.get('client_secret') !== GITHUB.secret)
      return refused('incorrect_client_credentials', 'The client_id and/or client_secret passed are incorrect.');
    if (form.get('grant_type') === 'refresh_token') {
      const renewal = this.#renew(form, GITHUB);
      if (!renewal) return refused('bad_refresh_token', 'The refresh token passed is incorrect or expired.');
      return this.#githubTokens(renewal);
    }
    const code = this.#take(form, GITHUB);
    if (!code) return refused('bad_verification_code', 'The code passed is incorrect or expired.');
    if (code.redirect !== form.get('redirect_uri'))
      return refused('redirect_uri_mismatch', 'The redirect_uri MUST match the registered callback URL for this application.');
    return this.#githubTokens(code);
  }

  #githubTokens({ person, scope }) {
    if (!this.expires)
      return { access_token: this.#token('gho_', person), token_type: 'bearer', scope: scope.split(' ').filter(Boolean).join(',') };
    const access = this.#token('ghu_', person);
    return {
      access_token: access,
      expires_in: 28800,
      refresh_token: this.#renewal('ghr_', { person, scope, app: GITHUB, access }),
      refresh_token_expires_in: 15897600,
      token_type: 'bearer',
      scope: '',
    };
  }

  #gitlabToken(form) {
    if (form.get('client_id') !== GITLAB.id || form.get('client_secret') !== GITLAB.secret)
      return [
        401,
        {
          error: 'invalid_client',
          error_description:
            'Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.',
        },
      ];
    const renewing = form.get('grant_type') === 'refresh_token';
    const code = renewing ? this.#renew(form, GITLAB) : this.#take(form, GITLAB);
    if (!code || (!renewing && (form.get('grant_type') !== 'authorization_code' || code.redirect !== form.get('redirect_uri'))))
      return [
        400,
        {
          error: 'invalid_grant',
          error_description:
            'The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.',
        },
      ];
    const access = this.#token('', code.person);
    return [
      200,
      {
        access_token: access,
        token_type: 'Bearer',
        expires_in: 7200,
        refresh_token: this.#renewal('', { person: code.person, scope: code.scope, app: GITLAB, access }),
        scope: code.scope,
        created_at: Math.floor(Date.now() / 1000),
      },
    ];
  }

  #renewal(prefix, renewal) {
    const token = `${prefix}${randomBytes(38).toString('hex')}`;
    this.#renewals.set(token, renewal);
    return token;
  }

  /** A refresh token is good once, for its application, and takes its access token with it. */
  #renew(form, app) {
    const token = form.get('refresh_token');
    const renewal = this.#renewals.get(token);
    if (renewal?.app !== app) return null;
    this.#renewals.delete(token);
    this.#tokens.delete(renewal.access);
    return renewal;
  }

  #token(prefix, person) {
    const token = `${prefix}${randomBytes(18).toString('hex')}`;
    this.#tokens.set(token, person);
    return token;
  }
}

/** Follows redirects and keeps cookies, as a browser does. Cookies belong to a host, whatever the port. */
export class Browser {
  #cookies = new Map();

  async request(url, options = {}) {
    const { hostname } = new URL(url);
    const jar = this.#cookies.get(hostname) ?? new Map();
    this.#cookies.set(hostname, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', ...options, headers: { ...options.headers, ...(cookie && { cookie }) } });
    for (const set of response.headers.getSetCookie()) {
      const [, name, value] = set.match(/^([^=]+)=([^;]*)/);
      if (/max-age=0/i.test(set) || value === '') jar.delete(name);
      else jar.set(name, value);
    }
    return response;
  }

  /** From redirect to redirect until one leads to `stop`; where that is. */
  async follow(url, stop = APP) {
    for (let step = 0; step < 15; step += 1) {
      if (url.startsWith(stop)) return url;
      const response = await this.request(url);
      const location = response.headers.get('location');
      if (!location) return { status: response.status, body: await response.json().catch(() => null) };
      url = new URL(location, url).href;
    }
    throw new Error(`no end of redirects: ${url}`);
  }

  /** Where the browser arrives in the app: {query, fragment}, or the answer that stopped it. */
  async arrive(url, stop = APP) {
    const end = await this.follow(url, stop);
    if (typeof end !== 'string') return end;
    const at = new URL(end);
    return { query: Object.fromEntries(at.searchParams), fragment: Object.fromEntries(new URLSearchParams(at.hash.slice(1))) };
  }

  cookies(hostname) {
    return [...(this.#cookies.get(hostname) ?? new Map()).keys()];
  }
}

/** The address that a client sends a browser to. */
export async function beginning(client, provider, options = {}) {
  const { data, error } = await client.auth.signInWithOAuth({
    provider,
    options: { redirectTo: APP, skipBrowserRedirect: true, ...options },
  });
  assert.equal(error, null);
  return data.url;
}

/** The address where a signed-in user links an identity. */
export async function linking(client, provider) {
  const { data, error } = await client.auth.linkIdentity({ provider, options: { redirectTo: APP, skipBrowserRedirect: true } });
  assert.equal(error, null);
  return data.url;
}
