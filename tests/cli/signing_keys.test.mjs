// ./kijko keys: the keys that sign tokens change under running clients, whatever is killed, stopped, broken or missing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client, newUser, signIn } from '../journeys/support.mjs';
import { until } from '../until.mjs';
import { asSuperuser, home, kijko, pidOf, port, root } from './stack.mjs';

const file = path.join(home, 'secrets/signing.keys');
const apiKeyFile = path.join(home, 'secrets/api_keys');
const kept = [file, apiKeyFile].map((name) => fs.readFileSync(name));

const text = () => fs.readFileSync(file, 'utf8');
const states = () => [...text().matchAll(/^# (\w+) since /gm)].map(([, state]) => state);
const jwks = async () => (await (await fetch(`${process.env.API_URL}/auth/v1/.well-known/jwks.json`)).json()).keys;
const ids = async () => (await jwks()).map((key) => key.kid);
const header = (token) => JSON.parse(Buffer.from(token.split('.')[0], 'base64url'));
const apiKeys = () => Object.fromEntries([...fs.readFileSync(apiKeyFile, 'utf8').matchAll(/^(\w+)=(\S+)$/gm)].map(([, k, v]) => [k, v]));
const age = (seconds) =>
  fs.writeFileSync(
    file,
    text().replace(/^(# previous since ).*$/gm, (_, start) => start + ago(seconds)),
  );
const ago = (seconds) => `${new Date(Date.now() - seconds * 1000).toISOString().slice(0, 19)}Z`;

/** ./kijko keys ACTION. No private key is ever printed. */
async function keys(args, environment) {
  const secret = text()
    .split('\n')
    .filter((line) => /^[A-Za-z0-9+/=]{40,}$/.test(line));
  const result = await kijko(['keys', ...args.split(' ')], environment);
  for (const line of secret) assert.ok(!(result.stdout + result.stderr).includes(line), `${args} prints a key`);
  return result;
}
async function done(args) {
  const { code, stdout, stderr } = await keys(args);
  assert.equal(code, 0, `${args}: ${stderr}`);
  return stdout + stderr;
}
async function failed(args, says, environment) {
  const { code, stderr } = await keys(args, environment);
  assert.equal(code, 1, `${args} should fail: ${stderr}`);
  assert.match(stderr, says);
}

const rest = (token) =>
  fetch(`${process.env.API_URL}/rest/v1/profiles?select=id`, { headers: { apikey: token, Authorization: `Bearer ${token}` } });

/** The token as the API and login see it. */
async function accepted(token) {
  const answer = await rest(token);
  assert.equal(answer.status, 200, await answer.text());
}
async function refused(token) {
  const answer = await rest(token);
  assert.deepEqual([answer.status, (await answer.json()).code], [401, 'PGRST301']);
}

/** Ends ./kijko keys ARGS by SIGKILL once the condition holds. */
async function killed(args, condition) {
  const child = spawn(path.join(root, 'kijko'), ['keys', ...args.split(' ')], {
    env: { ...process.env, KIJKO_HOME: home, KIJKO_API_PORT: port, KIJKO_YES: '1' },
    detached: true,
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  while (!condition()) {
    assert.equal(child.exitCode, null, 'it ended by itself');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  // On a busy machine it may have ended since, when what was waited for stays.
  if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL');
  await ended;
}

describe('the keys that sign tokens', () => {
  before(async () => {
    const limits = 'update auth_api.settings set refreshes_per_minute = 100000, hashes_per_minute = 100000';
    await asSuperuser((admin) => admin.query(limits));
  });
  // Other files hold the keys that the stack began with.
  after(async () => {
    [file, apiKeyFile].forEach((name, at) => {
      fs.writeFileSync(name, kept[at]);
    });
    await kijko(['reload']);
  });

  it('are in a file outside the data, which the server alone can read', async () => {
    const { mode, uid } = fs.statSync(file);
    assert.equal(mode & 0o777, 0o600);
    assert.equal(uid, fs.statSync(path.join(home, 'data')).uid);
    assert.deepEqual(states(), ['current']);
    const [id] = await ids();
    assert.match(await done('status'), new RegExp(`${id} +RS256 +current +\\S+Z +yes$`, 'm'));
    assert.equal(header(apiKeys().ANON_KEY).kid, id);
  });

  it('next: a key is published that PostgREST knows and that does not sign', async () => {
    const [current] = await ids();
    await done('next es256');
    const [, next] = await ids();
    assert.deepEqual(
      [states(), (await jwks()).map((key) => key.alg)],
      [
        ['current', 'next'],
        ['RS256', 'ES256'],
      ],
    );
    const { session } = await newUser();
    assert.equal(header(session.access_token).kid, current);
    const claims = JSON.parse(Buffer.from(session.access_token.split('.')[1], 'base64url'));
    const early = await asSuperuser((admin) => admin.query('select kijko.sign_jwt_with_key($1, $2) as token', [claims, next]));
    await accepted(early.rows[0].token);
    await done('next');
    assert.deepEqual(await ids(), [current, next], 'the same key');
    await done('next eddsa');
    assert.equal((await ids()).length, 2);
    assert.equal((await jwks())[1].alg, 'EdDSA', 'a key that never signed is replaced');
    await refused(early.rows[0].token);
    await done('next es256');
  });

  it('rotate: no request fails, sessions and API keys of before stay valid, and a refresh gives a token of the new key', async () => {
    const [former, next] = await ids();
    const old = apiKeys();
    const user = await newUser();
    const before = user.session.access_token;
    const stat = fs.statSync(file);
    let running = true;
    const counts = {};
    const loop = async (name, request) => {
      for (counts[name] = 0; running; counts[name] += 1) {
        const { error } = await request();
        assert.equal(error, null, `${name}: ${error?.code} ${error?.message}`);
      }
    };
    const other = client(old.ANON_KEY);
    await other.auth.setSession((await signIn(user)).session);
    const loops = [
      loop('select', () => user.client.from('profiles').select('id')),
      loop('getUser', () => user.client.auth.getUser()),
      loop('refresh and select', async () => {
        const { error } = await other.auth.refreshSession();
        return error ? { error } : other.from('profiles').select('id');
      }),
      loop('service key', () => client(old.SERVICE_ROLE_KEY).from('plans').select('code').limit(1)),
    ];
    const watched = Promise.all(loops);
    await Promise.race([watched, done('rotate')]);
    running = false;
    await watched;
    for (const [name, count] of Object.entries(counts)) assert.ok(count > 0, name);

    assert.deepEqual(
      [await ids(), states()],
      [
        [next, former],
        ['current', 'previous'],
      ],
    );
    const now = fs.statSync(file);
    assert.deepEqual([now.mode, now.uid, now.gid], [stat.mode, stat.uid, stat.gid]);
    const names = fs.readdirSync(path.dirname(file)).filter((name) => /^(signing\.keys|api_keys)/.test(name));
    assert.deepEqual(names.sort(), ['api_keys', 'signing.keys']);

    await accepted(before);
    assert.equal((await user.client.auth.getUser(before)).error, null);
    const { data } = await user.client.auth.refreshSession();
    assert.deepEqual([header(data.session.access_token).alg, header(data.session.access_token).kid], ['ES256', next]);
    await accepted(data.session.access_token);
    // supabase-js verifies it by the published keys.
    const claims = await user.client.auth.getClaims(data.session.access_token);
    assert.equal(claims.data?.header.kid, next, claims.error?.message);

    const renewed = apiKeys();
    for (const name of ['ANON_KEY', 'SERVICE_ROLE_KEY']) {
      assert.deepEqual([header(old[name]).kid, header(renewed[name]).kid], [former, next]);
      for (const key of [old[name], renewed[name]]) {
        const answer = await client(key).from('plans').select('code').limit(1);
        assert.equal(answer.error, null, name);
      }
    }
    await done('status');
  });

  it('rotate makes the next key itself, of any algorithm', async () => {
    for (const algorithm of ['EdDSA', 'RS256']) {
      const { session } = await newUser();
      await done(`rotate ${algorithm}`);
      const user = await newUser();
      assert.equal(header(user.session.access_token).alg, algorithm);
      for (const token of [session.access_token, user.session.access_token]) await accepted(token);
    }
    assert.deepEqual(
      (await jwks()).map((key) => key.alg),
      ['RS256', 'EdDSA', 'ES256', 'RS256'],
    );
  });

  it('prune keeps a key while tokens of it may live, and then refuses them; their sessions refresh', async () => {
    const { client: supabase, session } = await newUser();
    const old = apiKeys();
    await done('rotate');
    const [current, former] = await ids();
    await failed('prune', new RegExp(`kept: .*${former} until`));
    assert.equal((await ids()).length, 5);
    age(86_400);
    await failed('prune', /kept:/);
    age(86_400 + 61);
    await failed('prune', /nothing was changed/, { KIJKO_YES: '' });
    await accepted(session.access_token);
    assert.match(await done('prune'), new RegExp(`removed: ${former}`));
    assert.deepEqual([await ids(), states()], [[current], ['current']]);
    await refused(session.access_token);
    assert.equal((await supabase.auth.getUser(session.access_token)).error.code, 'bad_jwt');
    await refused(old.ANON_KEY);
    await refused(old.SERVICE_ROLE_KEY);
    const refreshed = await supabase.auth.refreshSession(session);
    assert.equal(refreshed.error, null);
    await accepted(refreshed.data.session.access_token);
    assert.match(await done('prune'), /there is no former key/);
  });

  it('a key that a PostgREST does not know does not sign', async () => {
    const [current] = await ids();
    const pid = pidOf('rest');
    process.kill(pid, 'SIGSTOP');
    try {
      await failed('rotate', /does not know the key/, { KIJKO_KEYS_WAIT_SECONDS: '0' });
      assert.deepEqual([(await ids())[0], states()], [current, ['current', 'next']]);
      assert.equal((await keys('status')).code, 1);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    const [, next] = await ids();
    await done('rotate');
    assert.deepEqual(await ids(), [next, current]);
  });

  it('killed at any step, everything goes on, and calling it again finishes', async () => {
    const { session } = await newUser();
    const works = async () => {
      await accepted(session.access_token);
      await accepted((await newUser()).session.access_token);
    };
    // Once the next key is in the file.
    await killed('rotate es256', () => states().includes('next'));
    await works();
    const [current, next] = await ids();
    await done('rotate');
    assert.deepEqual((await ids()).slice(0, 2), [next, current]);
    await works();

    // Once the next key signs.
    const first = text().split('-----END')[0];
    const stale = fs.readFileSync(apiKeyFile);
    await killed('rotate', () => text().split('-----END')[0] !== first && !states().includes('next'));
    await works();
    const signing = await ids();
    fs.writeFileSync(apiKeyFile, stale); // so it is before the API keys were written, however quick that was
    await failed('status', /not signed by the current key/);
    assert.match(await done('rotate'), /finished what was begun/);
    assert.deepEqual(await ids(), signing, 'and does not rotate once more');
    assert.equal(header(apiKeys().ANON_KEY).kid, signing[0]);
    await works();

    // Once a former key is gone from the file: PostgREST may still have it.
    await killed('prune --now', () => states().length === 1);
    await accepted((await newUser()).session.access_token);
    await done('prune');
    await until('the token to be refused', async () => (await rest(session.access_token)).status === 401);
    await done('status');
  });

  it('rotate --now: a fresh key, not the published one, and everything of the former keys ends', async () => {
    const { client: supabase, session } = await newUser();
    const old = apiKeys();
    await done('next');
    const [current, next] = await ids();
    await failed('rotate --now', /nothing was changed/, { KIJKO_YES: '' });
    assert.match(await done('rotate --now es256'), new RegExp(`removed: ${current}`));
    const [fresh, ...others] = await ids();
    assert.deepEqual(others, []);
    assert.ok(![current, next].includes(fresh));
    for (const token of [session.access_token, old.ANON_KEY, old.SERVICE_ROLE_KEY]) await refused(token);
    const refreshed = await client(apiKeys().ANON_KEY).auth.refreshSession(session);
    assert.equal(header(refreshed.data.session.access_token).kid, fresh);
    assert.equal((await supabase.auth.getUser(session.access_token)).error.code, 'bad_jwt');
    await done('status');
  });

  it('a file without lines of state is read: the first key signs, the others verify', async () => {
    const [current] = await ids();
    await done('rotate');
    const [, former] = [...(await ids())];
    fs.writeFileSync(file, text().replace(/^#.*\n/gm, ''));
    assert.match((await keys('status')).stdout, new RegExp(`${former} +ES256 +previous`));
    assert.equal(former, current);
    await failed('prune', /kept:/);
    assert.deepEqual(states(), [], 'nothing was written');
    await done('prune --now');
    assert.deepEqual(states(), ['current']);
  });

  it('a missing, exposed or broken file, or another one, is refused and not written', async () => {
    const elsewhere = path.join(home, 'other.keys');
    fs.writeFileSync(elsewhere, '');
    for (const action of ['status', 'next', 'rotate', 'prune']) {
      await failed(action, /reads another file/, { KIJKO_SIGNING_KEY_FILE: elsewhere });
    }
    assert.equal(fs.readFileSync(elsewhere, 'utf8'), '');
    fs.rmSync(elsewhere);
    fs.chmodSync(file, 0o644);
    await failed('rotate', /cannot use the file/);
    fs.chmodSync(file, 0o600);
    const whole = text();
    fs.writeFileSync(file, whole.replace('-----END PRIVATE KEY-----', ''));
    assert.equal((await keys('rotate')).code, 1);
    fs.writeFileSync(file, whole);
    await failed('create', /already/);
    await done('status');
    const { session } = await newUser();
    fs.renameSync(file, `${file}.kept`);
    assert.equal((await kijko(['keys', 'rotate'])).code, 1);
    const up = await kijko(['up']);
    assert.match(up.stderr, /signing\.keys is missing/);
    assert.equal(fs.existsSync(file), false);
    assert.equal((await kijko(['keys', 'create', 'eddsa'])).code, 0);
    await until('the token to be refused', async () => (await rest(session.access_token)).status === 401);
    assert.equal(header(apiKeys().ANON_KEY).alg, 'EdDSA');
    assert.equal(header((await newUser()).session.access_token).alg, 'EdDSA');
    await done('status');
    fs.rmSync(`${file}.kept`);
  });

  it('two commands at once are refused, and anything else is misuse', async () => {
    const holder = spawn('flock', [path.join(home, 'signing-keys.lock'), 'sleep', '60'], { detached: true, stdio: 'ignore' });
    await until('the lock to be held', async () => (await keys('prune')).code === 1);
    const before = text();
    for (const action of ['next', 'rotate', 'prune', 'rotate --now']) await failed(action, /another 'keys' command/);
    assert.equal(text(), before);
    assert.equal((await keys('status')).code, 0, 'status waits for nobody');
    process.kill(-holder.pid, 'SIGKILL');
    await until('the lock to be free', async () => (await keys('prune')).code === 0);
    for (const args of ['no-such-action', 'status more', 'next hs256', 'next --now', 'prune rs256', 'rotate --never']) {
      assert.equal((await keys(args)).code, 2, args);
    }
  });
});
