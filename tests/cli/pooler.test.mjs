// PostgREST through PgBouncer in transaction mode: two connections of the database serve everybody by turns. Who a request is must not
// stay on a connection, whoever had it before.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { PooledStack } from './pooler_stack.mjs';
import { asSuperuser, root } from './stack.mjs';

const JOURNEYS = ['requests', 'requests_headers', 'tenancy', 'projects', 'api_keys', 'skills', 'executions', 'usage'];

let stack;
let support;
before(async () => {
  stack = await PooledStack.start({ poolSize: 2 });
  process.env.API_URL = stack.url;
  support = await import('../journeys/support.mjs');
});
after(() => stack?.stop());

/** Runs the statements as clients of the pooler, one after the other, each in a session of its own. */
async function throughPooler(...statements) {
  const client = new pg.Client({ connectionString: stack.poolerUrl });
  await client.connect();
  try {
    const answers = [];
    // The simple protocol: a statement is a transaction.
    for (const statement of statements) answers.push((await client.query(statement)).rows);
    return answers;
  } finally {
    await client.end();
  }
}

const STATE = `select pg_backend_pid() as pid, session_user::text, current_user::text, current_setting('role') as role,
  nullif(current_setting('request.jwt.claims', true), '') as claims, nullif(current_setting('request.headers', true), '') as headers,
  current_setting('statement_timeout') as statement_timeout, current_setting('transaction_read_only') as read_only,
  (select count(*)::int from pg_prepared_statements) as prepared, (select count(*)::int from pg_listening_channels()) as channels,
  (select count(*)::int from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as advisory_locks,
  pg_my_temp_schema()::int as temporary, (select pg_sleep(0.05)) is null as slept`;

/** What each connection of the pool has left of its former transactions. */
async function leftovers() {
  const found = new Map();
  for (let n = 0; n < 50 && found.size < 2; n++) {
    const rows = await Promise.all([throughPooler(STATE), throughPooler(STATE)]);
    for (const [[{ pid, ...state }]] of rows) found.set(pid, state);
  }
  assert.equal(found.size, 2, 'both connections were seen');
  return [...found.values()];
}

const CLEAN = {
  session_user: 'authenticator',
  current_user: 'authenticator',
  role: 'none',
  claims: null,
  headers: null,
  statement_timeout: '8s',
  read_only: 'off',
  prepared: 0,
  channels: 0,
  advisory_locks: 0,
  temporary: 0,
  slept: false,
};

describe('PgBouncer in transaction mode', () => {
  let tenants;
  before(async () => {
    tenants = [];
    for (let n = 0; n < 6; n++) {
      const { client, user, session } = await support.newUser();
      const { data } = await client.from('organizations').select('id').single();
      const key = await client.rpc('create_api_key', { name: 'pooled', permissions: { read: true, write: false } });
      tenants.push({ client, id: user.id, org: data.id, token: session.access_token, key: key.data?.key ?? key.data?.secret });
    }
    assert.ok(tenants.every(({ key }) => key));
  });

  const own = ({ org }, rows) =>
    assert.deepEqual(
      rows?.map(({ id }) => id),
      [org],
    );
  /** One request of each kind, as this tenant. */
  const kinds = (tenant) => [
    async () => own(tenant, (await tenant.client.from('organizations').select('id')).data),
    async () => assert.equal((await tenant.client.from('profiles').select('id').single()).data.id, tenant.id),
    async () => assert.equal((await support.http('GET', '/rest/v1/rpc/org_id', { headers: { apikey: tenant.key } })).body, tenant.org),
    // A header that names the organization, and one that names somebody else's.
    async () =>
      own(
        tenant,
        (await support.http('GET', '/rest/v1/organizations?select=id', { token: tenant.token, headers: { 'x-org-id': tenant.org } })).body,
      ),
    async () => {
      const other = tenants.find(({ org }) => org !== tenant.org);
      assert.equal(
        (await support.http('GET', '/rest/v1/organizations', { token: tenant.token, headers: { 'x-org-id': other.org } })).status,
        403,
      );
    },
    // A failure in the middle of a transaction.
    async () => assert.equal((await tenant.client.rpc('create_organization', { name: '' })).status, 422),
    async () => assert.ok((await support.http('GET', '/rest/v1/organizations')).status >= 400, 'without a user'),
    async () => assert.equal((await support.http('GET', '/rest/v1/organizations', { token: `${tenant.token}x` })).status, 401),
    async () =>
      assert.equal(
        (await tenant.client.from('projects').insert({ name: 'pooled', slug: `p-${Math.random().toString(36).slice(2)}` })).status >= 200,
        true,
      ),
  ];

  it('many tenants at once on two connections each see their own, whoever came before', async () => {
    const requests = tenants.flatMap((tenant) => Array.from({ length: 6 }, () => kinds(tenant)).flat());
    for (let n = requests.length - 1; n > 0; n--) {
      const other = Math.floor(Math.random() * (n + 1));
      [requests[n], requests[other]] = [requests[other], requests[n]];
    }
    const workers = Array.from({ length: 8 }, async () => {
      for (let next = requests.pop(); next; next = requests.pop()) await next();
    });
    await Promise.all(workers);
  });

  it('leaves nothing on a connection: no role, claims, headers, timeout, statement, lock or temporary table', async () => {
    for (const state of await leftovers()) assert.deepEqual(state, CLEAN);
  });

  it('the database serves all of it by two connections', async () => {
    const rows = await asSuperuser(
      async (client) =>
        (
          await client.query(
            `select count(*)::int as n from pg_stat_activity where usename = 'authenticator' and application_name not like 'postgrest-public%'`,
          )
        ).rows,
    );
    assert.ok(rows[0].n <= 2, `${rows[0].n} connections`);
  });

  it('even what a broken client leaves on both connections makes nobody somebody else', async () => {
    const [victim, other] = tenants;
    const claims = JSON.stringify({ sub: victim.id, role: 'authenticated', aud: 'authenticated', exp: 4102444800 });
    const dirty = [
      `set request.jwt.claims to '${claims}'`,
      `set request.headers to '{"x-org-id":"${victim.org}"}'`,
      'set role authenticated',
      'select pg_sleep(0.2)',
    ];
    await Promise.all(Array.from({ length: 6 }, () => throughPooler(dirty.join('; '))));
    const states = await Promise.all(
      Array.from({ length: 6 }, () => throughPooler("select current_setting('request.jwt.claims', true) as claims, pg_sleep(0.1)::text")),
    );
    assert.ok(
      states.some(([[row]]) => row.claims?.includes(victim.id)),
      'the connections are dirty, or this shows nothing',
    );
    for (let n = 0; n < 10; n++) {
      await Promise.all(kinds(other).map((request) => request()));
      const anonymous = await support.http('GET', '/rest/v1/organizations?select=id');
      assert.ok(anonymous.status >= 400 || anonymous.body.length === 0, anonymous.text);
      const plans = await support.http('GET', '/rest/v1/plans?select=code');
      assert.equal(plans.status, 200);
    }
    await Promise.all(
      Array.from({ length: 6 }, () => throughPooler('reset role; reset request.jwt.claims; reset request.headers; select pg_sleep(0.2)')),
    );
  });

  it('no statement is prepared by name, which transaction mode of an old PgBouncer would lose', () => {
    assert.doesNotMatch(stack.log('rest') + stack.log('pooler'), /prepared statement/);
  });
});

describe('the journeys through PgBouncer', () => {
  for (const name of JOURNEYS)
    it(name, async () => {
      const file = path.join(root, `tests/journeys/${name}.test.mjs`);
      const env = { ...process.env, API_URL: stack.url };
      // Set by the runner of this file; the other one would report to it.
      delete env.NODE_TEST_CONTEXT;
      const { code, text } = await new Promise((resolve) =>
        execFile(
          process.execPath,
          ['--test', '--test-reporter=tap', file],
          { env, cwd: root, timeout: 600_000, maxBuffer: 1 << 26 },
          (error, stdout, stderr) => resolve({ code: error ? (error.code ?? error.signal) : 0, text: stdout + stderr }),
        ),
      );
      const failed = text.match(/^ *not ok .*(\n.*){0,14}/gm) ?? [];
      assert.equal(code, 0, failed.join('\n') || text.slice(-2000));
    });
});
