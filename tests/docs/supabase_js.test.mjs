// docs/guides/supabase-js.md lists every public call of the installed supabase-js once, and its word is what the server answers.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import WebSocket from 'ws';
import { newPerson, newSkill } from '../journeys/domain.mjs';
import { env, fetchInTurn } from '../journeys/support.mjs';
import { read } from './markdown.mjs';

// Methods that are not meant for callers: TypeScript hides them.
const INTERNAL = new Set(
  `accessToken applyTransformOptsToQuery bucketLifecycleUrl cloneRequestState encodeMetadata fetch fetchJwk functionsFetch handleOperation
   linkIdentityIdToken linkIdentityOAuth listBucketOptionsToQueryString logger prepareUploadFormData processResponse signInWithEthereum
   signInWithSolana toBase64 uploadOrUpdate`.split(/\s+/),
);

const newClient = (options = {}) =>
  createClient(env.API_URL, env.ANON_KEY, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false, experimental: { passkey: true } },
    global: { fetch: fetchInTurn },
    realtime: { transport: WebSocket },
    ...options,
  });

function methods(object) {
  const names = new Set();
  for (let at = object; at && at !== Object.prototype; at = Object.getPrototypeOf(at))
    for (const name of Object.getOwnPropertyNames(at))
      if (typeof Object.getOwnPropertyDescriptor(at, name).value === 'function' && !/^(constructor$|_)/.test(name)) names.add(name);
  return [...names].filter((name) => !INTERNAL.has(name)).sort();
}

/** The page: by the heading of a table's first column, which call has which word. */
function documented() {
  const tables = new Map();
  let table;
  for (const line of read('docs/guides/supabase-js.md').split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    if (cells[2] === 'Works') {
      table = new Map();
      tables.set(cells[1], table);
    } else if (['yes', 'no', 'local'].includes(cells[2])) {
      for (const [, name] of cells[1].matchAll(/`(\w+)`/g)) {
        assert.equal(table.has(name), false, `${name} is listed twice`);
        table.set(name, cells[2]);
      }
    }
  }
  return tables;
}

const client = newClient();
const OBJECTS = {
  'Calls of `supabase`': client,
  'Calls of `supabase.from()`': client.from('skills'),
  'Filters and modifiers': client.from('skills').select(),
  'Calls of `supabase.auth`': client.auth,
  'Calls of `supabase.auth.mfa`': client.auth.mfa,
  'Calls of `supabase.auth.mfa.recoveryCodes`': client.auth.mfa.recoveryCodes,
  'Calls of `supabase.auth.mfa.webauthn`': client.auth.mfa.webauthn,
  'Calls of `supabase.auth.passkey`': client.auth.passkey,
  'Calls of `supabase.auth.oauth`': client.auth.oauth,
  'Calls of `supabase.auth.admin`': client.auth.admin,
  'Calls of `supabase.auth.admin.mfa`': client.auth.admin.mfa,
  'Calls of `supabase.auth.admin.passkey`': client.auth.admin.passkey,
  'Calls of `supabase.auth.admin.customProviders`': client.auth.admin.customProviders,
  'Calls of `supabase.auth.admin.oauth`': client.auth.admin.oauth,
  'Calls of `supabase.realtime`': client.realtime,
  'Calls of a channel': client.channel('listed'),
  'Calls of `supabase.storage`': client.storage,
  'Calls of `supabase.storage.from()`': client.storage.from('bucket'),
  'Calls of `supabase.storage.vectors`': client.storage.vectors,
  'Calls of `supabase.storage.analytics`': client.storage.analytics,
  'Calls of `supabase.functions`': client.functions,
};
const page = documented();

for (const [heading, object] of Object.entries(OBJECTS))
  test(`lists each of: ${heading}`, () => assert.deepEqual([...(page.get(heading) ?? new Map()).keys()].sort(), methods(object)));

test('has no other tables', () => assert.deepEqual([...page.keys()].sort(), Object.keys(OBJECTS).sort()));

let person;
let service;
before(async () => {
  person = await newPerson();
  await newSkill(person, { name: 'Listed' });
  service = createClient(env.API_URL, env.SERVICE_ROLE_KEY, {
    auth: { persistSession: false, experimental: { passkey: true } },
    realtime: { transport: WebSocket },
  });
});

const rows = () => person.client.from('skills').select('name');
const FILTERS = {
  eq: () => rows().eq('name', 'Listed'),
  neq: () => rows().neq('name', 'x'),
  gt: () => rows().gt('name', 'A'),
  gte: () => rows().gte('name', 'A'),
  lt: () => rows().lt('name', 'Z'),
  lte: () => rows().lte('name', 'Z'),
  is: () => rows().is('project_id', null),
  isDistinct: () => rows().isDistinct('name', 'x'),
  in: () => rows().in('name', ['Listed', 'a,b']),
  notIn: () => rows().notIn('name', ['x']),
  like: () => rows().like('name', 'L%'),
  likeAllOf: () => rows().likeAllOf('name', ['L%', '%d']),
  likeAnyOf: () => rows().likeAnyOf('name', ['L%', 'x']),
  ilike: () => rows().ilike('name', 'l%'),
  ilikeAllOf: () => rows().ilikeAllOf('name', ['l%']),
  ilikeAnyOf: () => rows().ilikeAnyOf('name', ['l%']),
  regexMatch: () => rows().regexMatch('name', '^L'),
  regexIMatch: () => rows().regexIMatch('name', '^l'),
  match: () => rows().match({ name: 'Listed' }),
  not: () => rows().not('name', 'eq', 'x'),
  or: () => rows().or('name.eq.Listed,name.eq.x'),
  filter: () => rows().filter('name', 'eq', 'Listed'),
  contains: () => rows().contains('parameters', {}),
  containedBy: () => rows().containedBy('parameters', {}),
  textSearch: () => rows().textSearch('name', 'listed', { config: 'simple' }),
  order: () => rows().order('name'),
  limit: () => rows().limit(1),
  range: () => rows().range(0, 1),
  single: () => rows().limit(1).single(),
  maybeSingle: () => rows().limit(1).maybeSingle(),
  csv: () => rows().csv(),
  stripNulls: () => rows().stripNulls(),
  select: () => person.client.from('skills').update({ description: 'x' }).eq('name', 'Listed').select('name'),
  explain: () => rows().explain(),
  geojson: () => rows().geojson(),
  rollback: () => person.client.from('skills').update({ description: 'x' }).eq('name', 'Listed').rollback(),
  maxAffected: () => person.client.from('skills').update({ description: 'x' }).eq('name', 'Listed').maxAffected(1),
};
// For columns of types that no table here has: what PostgREST answers says that it knows the operator.
const KNOWN_OPERATORS = {
  overlaps: () => rows().overlaps('name', ['x']),
  rangeGt: () => rows().rangeGt('name', '[1,2]'),
  rangeGte: () => rows().rangeGte('name', '[1,2]'),
  rangeLt: () => rows().rangeLt('name', '[1,2]'),
  rangeLte: () => rows().rangeLte('name', '[1,2]'),
  rangeAdjacent: () => rows().rangeAdjacent('name', '[1,2]'),
};

for (const [name, call] of Object.entries(FILTERS))
  test(`filters and modifiers: ${name}`, async () => {
    const { data, error } = await call();
    const works = !error && (typeof data === 'string' ? data.includes('Listed') : data !== null);
    assert.equal(works ? 'yes' : 'no', page.get('Filters and modifiers').get(name), JSON.stringify(error));
  });

for (const [name, call] of Object.entries(KNOWN_OPERATORS))
  test(`filters and modifiers: ${name} is known`, async () => {
    const { error } = await call();
    assert.match(error.code, /^(42883|22P02)$/, JSON.stringify(error));
  });

const id = randomUUID();
const REFUSED = {
  'Calls of `supabase.auth`': {
    signInWithSSO: () => client.auth.signInWithSSO({ domain: 'example.com' }),
  },
  'Calls of `supabase.auth.passkey`': {
    startAuthentication: () => client.auth.passkey.startAuthentication(),
  },
  'Calls of `supabase.auth.oauth`': {
    getAuthorizationDetails: () => person.client.auth.oauth.getAuthorizationDetails(id),
    approveAuthorization: () => person.client.auth.oauth.approveAuthorization(id, { skipBrowserRedirect: true }),
    denyAuthorization: () => person.client.auth.oauth.denyAuthorization(id, { skipBrowserRedirect: true }),
    listGrants: () => person.client.auth.oauth.listGrants(),
    revokeGrant: () => person.client.auth.oauth.revokeGrant({ clientId: id }),
  },
  'Calls of `supabase.auth.admin.passkey`': {
    listPasskeys: () => service.auth.admin.passkey.listPasskeys({ userId: id }),
  },
  'Calls of `supabase.auth.admin.customProviders`': {
    listProviders: () => service.auth.admin.customProviders.listProviders(),
    getProvider: () => service.auth.admin.customProviders.getProvider('custom:x'),
  },
  'Calls of `supabase.auth.admin.oauth`': {
    createClient: () => service.auth.admin.oauth.createClient({ client_name: 'x', redirect_uris: ['https://example.com'] }),
    deleteClient: () => service.auth.admin.oauth.deleteClient(id),
    getClient: () => service.auth.admin.oauth.getClient(id),
    listClients: () => service.auth.admin.oauth.listClients(),
    regenerateClientSecret: () => service.auth.admin.oauth.regenerateClientSecret(id),
    updateClient: () => service.auth.admin.oauth.updateClient(id, { client_name: 'x' }),
  },
  'Calls of `supabase.storage`': {
    purgeBucketCache: () => service.storage.purgeBucketCache('b'),
    getBucketLifecycle: () => service.storage.getBucketLifecycle('b'),
    updateBucketLifecycle: () => service.storage.updateBucketLifecycle('b', { rules: [] }),
    deleteBucketLifecycle: () => service.storage.deleteBucketLifecycle('b'),
  },
  'Calls of `supabase.storage.from()`': {
    purgeCache: () => service.storage.from('b').purgeCache('f'),
  },
};

for (const [heading, calls] of Object.entries(REFUSED))
  for (const [name, call] of Object.entries(calls))
    test(`${heading}: ${name} is refused with an error`, async () => {
      assert.equal(page.get(heading).get(name), 'no');
      const { error } = await call();
      assert.ok(error, 'no error');
    });
