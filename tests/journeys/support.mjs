// What every journey starts from: the running stack's addresses and keys, supabase-js clients, users, and SQL.
// `./kijko test` sets the variables; by hand: eval "$(./kijko status -o env | sed 's/^/export /')".
import { randomUUID } from 'node:crypto';
import { after } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';

const required = ['API_URL', 'ANON_KEY', 'SERVICE_ROLE_KEY', 'DB_URL', 'ADMIN_DB_URL'];
const missing = required.filter((name) => !process.env[name]);
if (missing.length > 0) {
  throw new Error(
    `not set: ${missing.join(', ')}. Run the journeys by ./kijko test journeys, or export what ./kijko status -o env prints.`,
  );
}
export const env = Object.freeze(Object.fromEntries(required.map((name) => [name, process.env[name]])));

// supabase-js opens no socket until a channel is joined, but before Node 22 it wants the class.
class NoRealtime {
  constructor() {
    throw new Error('the journeys use no realtime channel');
  }
}

/**
 * Login hashes two passwords at a time, lets four requests of a network wait, and refuses others. Files that run beside each other
 * share one address, so a request that is refused for this reason tries again, as a client would.
 */
export async function fetchInTurn(url, init) {
  for (const until = Date.now() + 120_000; ; ) {
    const answer = await fetch(url, init);
    const busy = answer.status === 429 && (await answer.clone().text()).includes('Too many sign-ins at once');
    if (!busy || Date.now() > until) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A client with this key, which never refreshes by itself. */
export function client(key, headers = {}) {
  return createClient(env.API_URL, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: { headers, fetch: fetchInTurn },
    realtime: { transport: NoRealtime },
  });
}

/** A client with the anon key: unauthenticated until it signs in. */
export const api = (headers) => client(env.ANON_KEY, headers);

/** A client with the service key. */
export const admin = (headers) => client(env.SERVICE_ROLE_KEY, headers);

export const newEmail = (name = 'user') => `${name}-${randomUUID()}@example.com`;

async function signedIn(request) {
  const { data, error } = await request;
  if (error) throw error;
  return data;
}

/** A new user and their signed-in client. */
export async function newUser(data = {}) {
  const email = newEmail();
  const password = `pw-${randomUUID()}`;
  const supabase = api();
  const signedUp = await signedIn(supabase.auth.signUp({ email, password, options: { data } }));
  return { client: supabase, user: signedUp.user, session: signedUp.session, email, password };
}

/** Signs an existing user in once more, on a client of its own. */
export async function signIn({ email, password }) {
  const supabase = api();
  const data = await signedIn(supabase.auth.signInWithPassword({ email, password }));
  return { client: supabase, ...data };
}

/** A request that supabase-js would never send: any method, path, headers and body. */
export async function http(method, path, { body, headers = {}, token, send = fetchInTurn } = {}) {
  const response = await send(env.API_URL + path, {
    method,
    body: body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    headers: {
      apikey: env.ANON_KEY,
      'X-Supabase-Api-Version': '2024-01-01',
      ...(token && { Authorization: `Bearer ${token}` }),
      ...headers,
    },
  });
  const text = await response.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, text, body: json };
}

const pools = new Map();
after(() => Promise.all([...pools.values()].map((open) => open.end())));

function pool(url) {
  if (!pools.has(url)) {
    const made = new pg.Pool({ connectionString: url, max: 2 });
    // Crash tests kill the server of an idle connection. The pool opens another one.
    made.on('error', () => {});
    pools.set(url, made);
  }
  return pools.get(url);
}

/** SQL as `postgres`, the owner of the domain. */
export const sql = async (text, values) => (await pool(env.DB_URL).query(text, values)).rows;

/** SQL as the superuser: only for what no other role can see or do. */
export const adminSql = async (text, values) => (await pool(env.ADMIN_DB_URL).query(text, values)).rows;
