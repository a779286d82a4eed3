// The log never has a secret that PostgREST or the sidecar passes to the database, whatever the operator has logged. A line about a
// request says whose it is.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { claimsOf } from './auth_support.mjs';
import { newPerson, ok, until } from './domain.mjs';
import { LOGGED_KEY as SECRET } from './log_secrets.mjs';
import { adminSql, env } from './support.mjs';

// An operator who logs as much as Postgres can, for a session that receives what the log gets.
const EVERYTHING = {
  log_statement: 'all',
  log_min_duration_statement: '0',
  log_parameter_max_length: '-1',
  log_parameter_max_length_on_error: '-1',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_verbose': 'on',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_nested_statements': 'on',
  client_min_messages: 'log',
};

describe('the log', () => {
  let client;
  let log = [];
  before(async () => {
    client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    client.on('notice', ({ message, detail, hint, where }) => log.push(message, detail, hint, where));
    await client.connect();
    await client.query("load 'auto_explain'");
  });
  after(() => client.end());

  /** What is logged of a request's statements under these settings, on top of an operator's. */
  async function logged(settings) {
    for (const [name, value] of Object.entries({ ...EVERYTHING, ...settings })) {
      await client.query(`select set_config('${name}', '${value}', false)`);
    }
    log = [];
    const headers = JSON.stringify({ 'x-api-key': SECRET });
    await client.query(`select set_config('request.headers', $1, true)`, [headers]);
    const refused = await client.query('select $1::text::integer', [SECRET]).catch((error) => error);
    return [...log, refused.where, refused.detail].join('\n');
  }

  test('would have it: log_statement, auto_explain and errors write parameters', async () => {
    const all = await logged({});
    assert.match(all, new RegExp(`parameters: \\$1 = .*${SECRET}`));
    assert.match(all, new RegExp(`Output: set_config.*${SECRET}`));
    assert.match(all, new RegExp(`portal with parameters: \\$1 = '${SECRET}'`));
  });

  for (const role of ['authenticator', 'kijko_login', 'kijko_sidecar']) {
    test(`does not have it: ${role}`, async () => {
      const [{ settings }] = await adminSql(
        `select jsonb_object_agg(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)) as settings
        from pg_db_role_setting, unnest(setconfig) as s where setrole = $1::regrole and setdatabase = 0`,
        [role],
      );
      const all = await logged(settings);
      assert.match(all, /set_config/); // the statement itself is logged
      assert.ok(!all.includes(SECRET));
    });
  }
});

describe('a line about a request', () => {
  let client;
  let person;
  before(async () => {
    person = await newPerson();
    client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await client.connect();
  });
  after(() => client.end());

  /** What PostgREST would do with a request that fails by a fault of ours: the error, and the DETAIL of its line. */
  async function logged(login, claims, headers) {
    const marker = `marker ${randomUUID()}`;
    const isApi = login === 'authenticator';
    await client.query('begin');
    await client.query(
      `select set_config('session_authorization', $1, true), set_config('role', $5, true), set_config('request.method', 'GET', true),
         set_config('request.path', '/x', true), set_config('request.headers', $2, true), set_config('request.jwt.claims', $3, true),
         case when $4 <> '' then set_config('role', $4, true) end`,
      [login, JSON.stringify(headers), JSON.stringify(claims), isApi ? (claims.role ?? '') : '', isApi ? 'anon' : 'kijko_login_anon'],
    );
    if (isApi) await client.query('select public.before_request()');
    const error = await client
      .query(`do $$ begin raise exception using errcode = 'XX000', message = '${marker}', detail = 'Its own.'; end $$`)
      .catch((failure) => failure);
    await client.query('rollback');
    assert.equal(error.message, marker);
    const file = join(process.env.TEST_HOME ?? join(import.meta.dirname, '../../.kijko'), 'log', 'postgres.log');
    const line = await until('the line to be written', () => {
      const lines = readFileSync(file, 'utf8').split('\n');
      const at = lines.findIndex((text) => text.includes(`ERROR:  ${marker}`));
      return at >= 0 && lines[at + 2] !== undefined && lines.slice(at + 1, at + 3).join('\n');
    });
    return { error, line };
  }

  test('has the user, the organization and the request, and the client does not get them', async () => {
    const headers = { 'x-request-id': 'journey-1', 'x-org-id': person.orgId };
    const { error, line } = await logged('authenticator', claimsOf(person.token), headers);
    assert.match(line, new RegExp(`DETAIL:  Its own\\.\n\\s+request_id=journey-1 user_id=${person.user.id} org_id=${person.orgId}$`));
    assert.equal(error.detail, 'Its own.');
  });

  test('has the API key', async () => {
    const key = await ok(person.client.rpc('create_api_key', { name: 'Key', permissions: ['projects:read'] }));
    const { line } = await logged('authenticator', {}, { 'x-request-id': 'journey-2', 'x-api-key': key.secret });
    assert.match(line, new RegExp(`request_id=journey-2 org_id=${person.orgId} api_key_id=${key.id}$`));
    assert.ok(!line.includes(key.secret));
  });

  test('has nothing that a client makes up', async () => {
    const headers = { 'x-request-id': 'a b\nERROR:  forged', 'x-org-id': person.orgId };
    const { line } = await logged('kijko_login', claimsOf(person.token), headers);
    assert.doesNotMatch(line, /forged|user_id|org_id/);
  });
});
