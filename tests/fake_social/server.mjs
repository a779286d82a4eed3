// LinkedIn, Facebook, Instagram and X, as their APIs answer: paths, headers, bodies, status codes and error bodies. A test says at which
// request of an account something goes wrong, and whether the platform has done by then what it was asked for.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { linkedin } from './linkedin.mjs';
import { facebook, instagram } from './meta.mjs';
import { Consents } from './oauth.mjs';
import { twitter } from './twitter.mjs';
import { newId } from './wire.mjs';

const PLATFORMS = { linkedin, facebook, instagram, twitter };

export class SocialPlatforms {
  /** What the world sees: {platform, account, id, text, media}. */
  posts = [];
  requests = [];
  consents = new Consents(this);
  #accounts = new Map();
  #held = new Set();
  #waiting = new Set();

  static async listen(port = 0, host = '127.0.0.1') {
    const fake = new SocialPlatforms();
    fake.server = createServer((request, response) => {
      fake.#receive(request, response).catch((error) => response.destroy(error));
    });
    fake.server.listen(Number(port), host);
    await once(fake.server, 'listening');
    fake.url = `http://${host}:${fake.server.address().port}`;
    return fake;
  }

  async close() {
    this.release();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  /** Variables of a sidecar that publishes here. */
  variables() {
    const names = Object.keys(PLATFORMS).map((name) => [`KIJKO_SOCIAL_${name.toUpperCase()}_URL`, `${this.url}/${name}`]);
    return Object.fromEntries(names);
  }

  /**
   * A new account with its token. faults: by the number of a request of the account, from 1, {at: 'before' | 'after' | 'alone', do}.
   * 'alone' answers without having done anything. do: 'hold' (no answer), 'wait' (one when all waiting ends, and
   * what is asked for is done then, if it is not yet), 'reset', a status, or {status, headers, body}.
   */
  account(platform, faults = {}) {
    const account = {
      platform,
      id: `${BigInt(`0x${randomBytes(7).toString('hex')}`)}`,
      token: randomBytes(16).toString('hex'),
      faults,
      requests: 0,
      media: new Map(),
      quota: 0,
      revoked: false,
    };
    this.#accounts.set(account.token, account);
    return account;
  }

  /** A further token of an account; the former ones stay good, as those of the platforms until their time is over. */
  setToken(account, token) {
    this.#accounts.set(token, account);
  }

  postsOf = (account) => this.posts.filter((post) => post.account === account);

  /** How many requests wait for an answer that does not come. */
  get held() {
    return this.#held.size + this.#waiting.size;
  }

  /** Ends all waiting. */
  release() {
    for (const response of this.#held) response.destroy();
    this.#held.clear();
    for (const answer of this.#waiting) answer();
    this.#waiting.clear();
  }

  publish(account, text, media = []) {
    const post = { platform: account.platform, account, id: newId(), text, media, at: Date.now() };
    this.posts.push(post);
    return post;
  }

  async #receive(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const url = new URL(request.url, 'http://localhost');
    const [, name, ...path] = url.pathname.split('/');
    if (name === 'oauth' && PLATFORMS[path[0]]) {
      const call = { method: request.method, path: `/${path.slice(1).join('/')}`, query: url.searchParams, headers: request.headers };
      return send(response, this.consents.answer(path[0], { ...call, bytes: Buffer.concat(chunks) }));
    }
    const platform = PLATFORMS[name];
    if (!platform) return send(response, { status: 404, body: {} });
    const account = this.#accounts.get(request.headers.authorization?.replace(/^Bearer /, ''));
    const call = {
      fake: this,
      account,
      method: request.method,
      path: `/${path.map(decodeURIComponent).join('/')}`,
      query: url.searchParams,
      headers: request.headers,
      bytes: Buffer.concat(chunks),
      origin: `${this.url}/${name}`,
    };
    this.requests.push({ platform: name, method: call.method, path: call.path, account: account?.id });
    if (account?.platform !== name || account.revoked) return send(response, platform.unauthorized(call));
    account.requests += 1;
    const fault = account.faults[account.requests] ?? account.faults.each;
    if (fault?.at === 'before' && fault.do === 'wait') return this.#waiting.add(() => send(response, platform.answer(call)));
    if (fault?.at === 'before') return this.#fail(fault.do, response);
    if (fault?.at === 'alone') return this.#fail(fault.do, response);
    const answer = platform.answer(call);
    if (fault?.do === 'wait') return this.#waiting.add(() => send(response, answer));
    if (fault) return this.#fail(fault.do, response);
    return send(response, answer);
  }

  #fail(what, response) {
    if (what === 'hold') {
      this.#held.add(response);
      response.once('close', () => this.#held.delete(response));
    } else if (what === 'reset') {
      response.socket.resetAndDestroy();
    } else {
      send(response, typeof what === 'number' ? { status: what, body: { title: 'Internal Server Error', status: what } } : what);
    }
  }
}

function send(response, { status, headers = {}, body }) {
  if (body === undefined) return response.writeHead(status, headers).end();
  return response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', ...headers }).end(JSON.stringify(body));
}
