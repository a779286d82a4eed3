// The log never has a secret that PostgREST or the sidecar passes to the database, whatever the operator has logged.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
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
