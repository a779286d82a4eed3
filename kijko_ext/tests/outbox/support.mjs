// The server of the extension's tests, and receivers for what its outbox sends.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import { until } from '../../../tests/until.mjs';

export { until };

const { KIJKO_TEST_SOCKETS: SOCKETS, KIJKO_TEST_DATA: DATA, KIJKO_TEST_BIN: BIN, KIJKO_TEST_LOG: LOG } = process.env;
assert.ok(SOCKETS && DATA && BIN && LOG, 'run by kijko_ext/tests/run.sh outbox');

export const ORG = '0b000000-0000-4000-8000-000000000001';
export const OTHER_ORG = '0b000000-0000-4000-8000-000000000002';

/** A connection. A crash of the server ends it; that is not an error of the test. */
export async function connect(database = 'postgres') {
  const client = new pg.Client({ host: SOCKETS, port: 5432, user: 'postgres', database });
  client.on('error', () => {});
  await client.connect();
  return client;
}

const client = await connect();
after(() => client.end());

export const sql = async (text, values) => (await client.query(text, values)).rows;

/** Enqueues by named arguments. */
export async function enqueue(fields, query = sql) {
  const names = Object.keys(fields);
  const values = names.map((name) => (['headers', 'signing'].includes(name) ? JSON.stringify(fields[name]) : fields[name]));
  const [{ id }] = await query(`select kijko.http_enqueue(${names.map((name, n) => `${name} => $${n + 1}`).join(', ')}) as id`, values);
  return id;
}

export const response = async (id) => (await sql('select * from kijko.http_response($1)', [id]))[0];
export const attempts = (id) => sql('select * from kijko.http_attempts where request_id = $1 order by attempt', [id]);

export const ended = (id) =>
  until(`${id} to end`, async () => {
    const answer = await response(id);
    return answer.ended_at && answer;
  });

export const attempted = (id, count) => until(`${count} attempts of ${id}`, async () => (await response(id)).attempts >= count);

/** Makes the next attempt due, as time would. */
export const hurry = async (id) => {
  await sql(`update kijko.http_requests set run_at = clock_timestamp() where id = $1`, [id]);
  await sql('select kijko.http_wake()');
};

/** A receiver at http://localhost:PORT that keeps what it gets. `answer(request, response)` may take its time. */
export async function receiver(answer = (_, response) => response.end('ok')) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const { method, url, headers } = request;
    const got = { method, url, headers, body: Buffer.concat(parts).toString(), at: Date.now() };
    requests.push(got);
    await answer(got, response);
  });
  server.listen(0);
  await once(server, 'listening');
  after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://localhost:${server.address().port}`, requests, server };
}

export async function setting(name, value) {
  await sql(`alter system set ${name} = '${value}'`);
  await sql('select pg_reload_conf()');
}

const run = promisify(execFile);
const asPostgres = (command, args) =>
  process.getuid() === 0
    ? run('setpriv', ['--reuid=postgres', '--regid=postgres', '--init-groups', command, ...args], { cwd: '/' })
    : run(command, args);

/** Detached from our pipes: the server would keep them open. */
export const pgCtl = (...args) => asPostgres(`${BIN}/pg_ctl`, ['-D', DATA, '-l', LOG, '-w', '-s', ...args]);

export const workerPid = async (query = sql) =>
  (await query(`select pid from pg_stat_activity where backend_type = 'kijko outbox'`))[0]?.pid;

export async function refused(promise, code) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.code, code, error.message);
    return true;
  });
}
