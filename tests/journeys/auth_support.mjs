// What the tests of login share.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';
import { env, fetchInTurn, http, newUser, sql } from './support.mjs';

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
export const refresh = (token) => http('POST', '/auth/v1/token?grant_type=refresh_token', { body: { refresh_token: token } });
export const passwordGrant = (email, password, options) =>
  http('POST', '/auth/v1/token?grant_type=password', { body: { email, password }, ...options });
export const pkceGrant = (body) => http('POST', '/auth/v1/token?grant_type=pkce', { body });

export async function refused(promise, code, status) {
  const { error } = await promise;
  assert.ok(error, `expected ${code}, but it succeeded`);
  assert.equal(error.code, code);
  if (status) assert.equal(error.status, status);
  return error;
}

/** The newest mail of this kind to an address: {template, locale, data}. Mails are kept where no server is set up. */
export async function mailTo(email, template) {
  const [mail] = await sql(
    `select m.template, m.locale, private.mail_data(m) as data from private.mail_messages as m
     where m.recipient = $1 and m.template = $2 order by m.created_at desc limit 1`,
    [email, template],
  );
  assert.ok(mail, `no mail ${template} to ${email}`);
  return mail;
}

/** All mails of login to an address. A digest says each minute what else has happened to the account. */
export const mailsTo = (email) =>
  sql(
    `select m.template, private.mail_data(m) as data from private.mail_messages as m
     where m.recipient = $1 and m.template <> 'notification_digest' order by m.created_at`,
    [email],
  );

/** Opens a link as a browser would and says where it leads: {target, query, fragment}. */
export async function openLink(link, { method = 'GET' } = {}) {
  const response = await fetch(link, { method, redirect: 'manual' });
  assert.equal(response.status, 303, await response.text());
  const url = new URL(response.headers.get('location'));
  const fragment = Object.fromEntries(new URLSearchParams(url.hash.slice(1)));
  const query = Object.fromEntries(url.searchParams);
  return { target: url.href.split(/[?#]/)[0], query, fragment, headers: response.headers };
}

/** A client as in a browser, with PKCE and a storage of its own. */
export function pkceClient() {
  const kept = new Map();
  return createClient(env.API_URL, env.ANON_KEY, {
    auth: {
      flowType: 'pkce',
      autoRefreshToken: false,
      detectSessionInUrl: false,
      persistSession: true,
      storage: {
        getItem: (name) => kept.get(name) ?? null,
        setItem: (name, value) => void kept.set(name, value),
        removeItem: (name) => void kept.delete(name),
      },
    },
    global: { fetch: fetchInTurn },
    realtime: { transport: class {} },
  });
}

/** Sets columns of the settings of login until the file's tests are over. Only files named auth_settings_* may: they run alone. */
export function withSettings(settings) {
  const names = Object.keys(settings);
  const update = `update auth_api.settings set ${names.map((name, n) => `${name} = $${n + 1}`).join(', ')}`;
  // A connection of its own: the shared pool is closed by then.
  const client = new pg.Client({ connectionString: env.DB_URL });
  let former;
  const set = (values) =>
    client.query(
      update,
      names.map((name) => values[name]),
    );
  before(async () => {
    await client.connect();
    [former] = (await client.query(`select ${names.join(', ')} from auth_api.settings`)).rows;
    await set(settings);
  });
  after(async () => {
    await set(former);
    await client.end();
  });
}

/** Makes everything mailed to an address two hours older. */
export const expireTokens = (email) =>
  sql(`update auth.one_time_tokens set created_at = created_at - interval '2 hours' where relates_to = $1`, [email]);

// What an app on a phone does, written from RFC 6238 and RFC 4648.
export function codeOf(secret, steps = 0) {
  const bits = [...secret].map((character) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(character).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const mac = createHmac('sha1', key).update(counter).digest();
  const place = mac[19] & 15;
  return String((mac.readUInt32BE(place) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

export async function enroll({ client }, friendlyName = 'phone') {
  const { data, error } = await client.auth.mfa.enroll({ factorType: 'totp', friendlyName, issuer: 'Kijko' });
  assert.equal(error, null);
  return { id: data.id, secret: data.totp.secret, totp: data.totp };
}
export const answerFactor = (client, factor, code) => client.auth.mfa.challengeAndVerify({ factorId: factor.id, code });

/** The code of the step before, which is right until this step ends: so it is made early in one. */
export async function formerCodeOf(secret) {
  const left = 30_000 - (Date.now() % 30_000);
  if (left < 10_000) await sleep(left);
  return codeOf(secret, -1);
}

/** A user with a verified factor, signed in with it; its first code is used. */
export async function withFactor() {
  const account = await newUser();
  const factor = await enroll(account);
  const { data, error } = await answerFactor(account.client, factor, await formerCodeOf(factor.secret));
  assert.equal(error, null);
  return { ...account, factor, session: data };
}

/** The beginning of an IPv6 /48, and an address of a network of its own. */
export const newSite = () => `2001:db8:${randomBytes(2).toString('hex')}`;
export const newNetwork = () => `${newSite()}:${randomBytes(2).toString('hex')}::1`;

/** Asks as Caddy would for clients of other networks, in one transaction that is rolled back: its settings hold for nobody else. */
export async function asProxy(settings) {
  const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await client.connect();
  await client.query('begin');
  for (const [name, value] of Object.entries(settings)) await client.query(`update auth_api.settings set ${name} = $1`, [value]);
  const ask = async (address, path, body) => {
    const headers = { 'x-forwarded-for': address, 'x-kijko-method': 'POST', 'x-kijko-uri': path, 'x-supabase-api-version': '2024-01-01' };
    await client.query(`select set_config('request.headers', $1, true), set_config('response.headers', '', true)`, [
      JSON.stringify(headers),
    ]);
    const { rows } = await client.query(
      `with answer as materialized (select auth_api.handle($1) as body) select body::json, current_setting('response.headers') as headers from answer`,
      [JSON.stringify(body)],
    );
    const retryAfter = JSON.parse(rows[0].headers).find((header) => 'Retry-After' in header)?.['Retry-After'];
    return { body: rows[0].body, retryAfter: Number(retryAfter) };
  };
  const usersOf = async (emails) =>
    (await client.query('select email from auth.users where email = any ($1) order by email', [emails])).rows.map(({ email }) => email);
  const end = () => client.query('rollback').finally(() => client.end());
  return { ask, usersOf, end };
}
