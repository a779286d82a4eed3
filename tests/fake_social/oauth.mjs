// The sign-in of the four platforms, below /oauth/<platform>: where a browser consents, what a code and a token are worth, and whose
// account it is. A consent is given at once. What a token is worth there, it is worth at the fakes that publish, too.
import { createHash, randomBytes } from 'node:crypto';

export const CLIENT = { id: 'social-client', secret: 'social-secret' };

const secret = () => randomBytes(16).toString('hex');
const challengeOf = (verifier) => createHash('sha256').update(verifier).digest('base64url');
const redirect = (location) => ({ status: 302, headers: { Location: location } });

// Errors as each platform writes them.
const oauthError = (error, status = 400) => ({
  status,
  body: { error, error_description: `The ${error.replace('_', ' ')} is not valid.` },
});
const graphError = (message, code = 190) => ({ status: 400, body: { error: { message, type: 'OAuthException', code, fbtrace_id: 'A1' } } });

const AUTHORIZE = {
  linkedin: '/oauth/v2/authorization',
  facebook: '/v25.0/dialog/oauth',
  instagram: '/oauth/authorize',
  twitter: '/i/oauth2/authorize',
};

export class Consents {
  #fake;
  #codes = new Map();
  /** By token of whatever kind: {account, kind}. */
  #tokens = new Map();
  /** What next consents are for, by platform; pages are Facebook's. */
  accounts = new Map();
  /** Secrets of X's applications, by id. */
  applications = new Map([[CLIENT.id, CLIENT.secret]]);
  /** Tokens that X was asked to forget, and by which application. */
  revoked = [];
  refusing = new Set();

  constructor(fake) {
    this.#fake = fake;
  }

  /** The account whose consent the next browser gives. */
  next(platform) {
    const account = this.#fake.account(platform);
    this.accounts.set(platform, account);
    return account;
  }

  #grant(account, kind, client = CLIENT.id) {
    const token = secret();
    this.#tokens.set(token, { account, kind, client });
    if (kind === 'access') this.#fake.setToken(account, token);
    return token;
  }

  #holder(token, kind) {
    const found = this.#tokens.get(token);
    return found?.kind === kind && !found.account.revoked ? found.account : null;
  }

  /** The application that a token is good for. */
  clientOf = (token) => this.#tokens.get(token)?.client;

  answer(platform, { method, path, query, headers, bytes }) {
    const form = new URLSearchParams(bytes.toString());
    if (path === AUTHORIZE[platform]) return this.#authorize(platform, query);
    const bearer = headers.authorization?.match(/^Bearer (.+)$/)?.[1] ?? query.get('access_token');
    return this[platform]({ method, path, query, form, headers, bearer }) ?? { status: 404, body: {} };
  }

  #authorize(platform, query) {
    const asked = Object.fromEntries(query);
    if (!this.applications.has(asked.client_id) || asked.response_type !== 'code' || !asked.state) return { status: 400, body: {} };
    const code = secret();
    this.#codes.set(code, { platform, asked, account: this.accounts.get(platform) ?? this.next(platform) });
    const back = new URL(asked.redirect_uri);
    back.searchParams.set('code', code);
    back.searchParams.set('state', asked.state);
    return redirect(back.href);
  }

  /** A code is good once, for the client, the address and the verifier that it was asked for with. */
  #take(platform, form) {
    const found = this.#codes.get(form.get('code'));
    this.#codes.delete(form.get('code'));
    const isGood =
      found?.platform === platform &&
      form.get('redirect_uri') === found.asked.redirect_uri &&
      (platform !== 'twitter' || challengeOf(form.get('code_verifier') ?? '') === found.asked.code_challenge);
    return isGood ? found : null;
  }

  #isClient = (form) => form.get('client_id') === CLIENT.id && form.get('client_secret') === CLIENT.secret;

  linkedin({ path, form, bearer }) {
    if (path === '/oauth/v2/accessToken') {
      if (!this.#isClient(form)) return oauthError('invalid_client', 401);
      const refreshed = form.get('grant_type') === 'refresh_token' && this.#holder(form.get('refresh_token'), 'refresh');
      const found = refreshed ? { account: refreshed, asked: {} } : this.#take('linkedin', form);
      if (!found) return oauthError('invalid_grant');
      const refresh = refreshed ? form.get('refresh_token') : this.#grant(found.account, 'refresh');
      const tokens = { access_token: this.#grant(found.account, 'access'), refresh_token: refresh };
      return { status: 200, body: { ...tokens, expires_in: 5_184_000, refresh_token_expires_in: 31_536_000, scope: found.asked.scope } };
    }
    if (path === '/oauth/v2/revoke') return { status: 200, body: {} };
    if (path !== '/api/v2/userinfo') return null;
    const account = this.#holder(bearer, 'access');
    return account ? { status: 200, body: { sub: account.id, name: 'Café' } } : { status: 401, body: { code: 'REVOKED_ACCESS_TOKEN' } };
  }

  facebook({ method, path, query, form, bearer }) {
    if (path === '/api/oauth/access_token' && method === 'POST') {
      if (!this.#isClient(form)) return graphError('Error validating client secret.', 1);
      if (form.get('grant_type') === 'fb_exchange_token') {
        const person = this.#holder(form.get('fb_exchange_token'), 'short');
        if (!person) return graphError('Error validating access token.');
        return { status: 200, body: { access_token: this.#grant(person, 'person'), token_type: 'bearer', expires_in: 5_184_000 } };
      }
      const found = this.#take('facebook', form);
      if (!found) return graphError('This authorization code has been used.', 100);
      return { status: 200, body: { access_token: this.#grant(found.account, 'short'), token_type: 'bearer', expires_in: 3_600 } };
    }
    if (path === '/api/me/accounts') {
      const person = this.#holder(bearer, 'person');
      if (!person || query.get('fields') !== 'id,name,access_token') return graphError('Invalid OAuth access token.');
      const page = { id: person.id, name: 'Café', access_token: this.#grant(person, 'access') };
      return { status: 200, body: { data: [page, ...(person.pages ?? [])] } };
    }
    if (path !== '/api/me') return null;
    const page = this.#holder(bearer, 'access');
    return page ? { status: 200, body: { id: page.id } } : graphError('Error validating access token: the session has been invalidated.');
  }

  instagram({ method, path, query, form, bearer }) {
    if (path === '/api/oauth/access_token' && method === 'POST') {
      const found = this.#isClient(form) && this.#take('instagram', form);
      if (!found) return { status: 400, body: { error_type: 'OAuthException', code: 400, error_message: 'Invalid platform app' } };
      const short = this.#grant(found.account, 'short');
      return {
        status: 200,
        body: { access_token: short, user_id: Number(found.account.id) % 1e9, permissions: ['instagram_business_basic'] },
      };
    }
    const lasting = (account) => ({
      status: 200,
      body: { access_token: this.#grant(account, 'access'), token_type: 'bearer', expires_in: 5_183_944 },
    });
    if (path === '/api/access_token') {
      const account = query.get('grant_type') === 'ig_exchange_token' && this.#holder(bearer, 'short');
      if (!account || query.get('client_secret') !== CLIENT.secret) return graphError('Invalid OAuth access token.');
      return lasting(account);
    }
    const account = this.#holder(bearer, 'access');
    if (!account) return graphError('Error validating access token: the session has been invalidated.');
    if (path === '/api/refresh_access_token' && query.get('grant_type') === 'ig_refresh_token') return lasting(account);
    if (path === '/api/me') return { status: 200, body: { user_id: account.id, username: 'cafe', id: account.id } };
    return null;
  }

  twitter({ path, form, headers, bearer }) {
    const basic = headers.authorization?.match(/^Basic (.+)$/)?.[1] ?? '';
    const [client, password] = Buffer.from(basic, 'base64').toString().split(':');
    if (path.startsWith('/api/2/oauth2/') && (!client || this.applications.get(client) !== password))
      return oauthError('unauthorized_client', 401);
    if (path === '/api/2/oauth2/revoke') {
      const token = form.get('token');
      if (this.clientOf(token) !== client) return oauthError('invalid_request');
      this.revoked.push({ token, client });
      this.#tokens.delete(token);
      return { status: 200, body: { revoked: true } };
    }
    if (path === '/api/2/oauth2/token') {
      // A refresh token is good once.
      const refresh = form.get('grant_type') === 'refresh_token' && form.get('refresh_token');
      const refreshed = refresh && this.clientOf(refresh) === client && this.#holder(refresh, 'refresh');
      if (refreshed) this.#tokens.delete(refresh);
      const found = refreshed ? { account: refreshed, asked: {} } : this.#take('twitter', form);
      if (!found || (found.asked.client_id ?? client) !== client) return oauthError('invalid_request');
      const [access_token, refresh_token] = ['access', 'refresh'].map((kind) => this.#grant(found.account, kind, client));
      const tokens = { access_token, refresh_token };
      return { status: 200, body: { token_type: 'bearer', expires_in: 7_200, ...tokens, scope: found.asked.scope } };
    }
    if (path !== '/api/2/users/me') return null;
    const account = this.#holder(bearer, 'access');
    const unauthorized = { title: 'Unauthorized', type: 'about:blank', status: 401, detail: 'Unauthorized' };
    return account
      ? { status: 200, body: { data: { id: account.id, name: 'Café', username: 'cafe' } } }
      : { status: 401, body: unauthorized };
  }
}
