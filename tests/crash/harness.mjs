// What the crash tests stand on: sidecars of their own, a vendor that answers on command, and the stack's processes to kill.
// They need the stack that `./kijko test crash` starts, since they stop its sidecar and kill its Postgres.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { atMost, HOME, killServices, Service } from '../service.mjs';
import { until } from '../until.mjs';

export { atMost, killServices as killSidecars, until };

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

function required(...names) {
  for (const name of names) if (process.env[name]) return process.env[name];
  throw new Error(`${names.join(' or ')} is not set: run these tests by ./kijko test crash`);
}

const PORT = process.env.TEST_PORT ?? new URL(required('API_URL')).port;
const DB_URL = required('DB_URL');
const ADMIN_DB_URL = required('ADMIN_DB_URL');
export const STRIPE_SECRET = 'whsec_crash_test';

// Also true of a zombie, a process that has ended and that its parent has not waited for yet.
const processExists = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

// ---- the database, by connections that survive its crashes

export async function connect(url = DB_URL, name = 'kijko-crash-test') {
  const client = new pg.Client({ connectionString: url, application_name: name });
  client.on('error', () => {}); // the server may be killed under it; the next query says so
  await client.connect();
  return client;
}

export const connectAsAdmin = () => connect(ADMIN_DB_URL, 'kijko-crash-test-admin');

export const query = (text, values = []) => queryBy(connect, text, values);
export const queryAsAdmin = (text, values = []) => queryBy(connectAsAdmin, text, values);

async function queryBy(open, text, values) {
  const client = await open();
  try {
    return (await client.query(text, values)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

// Like query, while the server may be down or recovering.
export const queryPatiently = (text, values) =>
  until(
    'Postgres to answer',
    async () => {
      try {
        return await query(text, values);
      } catch {
        return null;
      }
    },
    { everyMs: 250 },
  );

// ---- the vendor: OpenAI's chat completions, answered only when the test says so

export class Vendor {
  calls = [];
  #automatic = false;
  #server = http.createServer((request, response) => this.#receive(request, response));

  async start() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.baseUrl = `http://127.0.0.1:${this.#server.address().port}/v1`;
    return this;
  }

  async stop() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  // A new test: nothing counted, nothing answered by itself.
  reset() {
    for (const call of this.calls) call.answer();
    this.calls = [];
    this.#automatic = false;
  }

  answerAll() {
    this.#automatic = true;
    for (const call of this.calls) call.answer();
  }

  // The n-th call since the last reset, once it has arrived.
  call(n) {
    return until(`call ${n} to the vendor`, () => this.calls[n - 1]);
  }

  async #receive(request, response) {
    let body = '';
    request.setEncoding('utf8');
    for await (const chunk of request) body += chunk;
    if (request.method !== 'POST' || !request.url.endsWith('/chat/completions')) {
      response.writeHead(404).end();
      return;
    }
    const call = new VendorCall(this.calls.length + 1, JSON.parse(body), response);
    this.calls.push(call);
    if (this.#automatic) call.answer();
  }
}

class VendorCall {
  #response;

  constructor(number, request, response) {
    this.number = number;
    this.prompt = request.messages.at(-1).content;
    this.text = `answer ${number}`;
    // Different for each call, so that what was metered says which answer it was.
    this.inputTokens = 100 * number;
    this.outputTokens = 10 * number;
    this.model = request.model;
    this.#response = response;
  }

  // Sends the prompt's token count, and then nothing more.
  begin(inputTokens) {
    const event = {
      id: `call-${this.number}`,
      object: 'chat.completion.chunk',
      created: 1,
      model: this.model,
      choices: [{ index: 0, delta: { role: 'assistant', content: 'be' }, finish_reason: null }],
      usage: { prompt_tokens: inputTokens, completion_tokens: 0 },
    };
    this.#response.writeHead(200, { 'content-type': 'text/event-stream' });
    this.#response.write(`data: ${JSON.stringify(event)}\n\n`);
  }

  answer() {
    if (this.#response.writableEnded || this.#response.destroyed) return;
    const event = (choices, usage) =>
      `data: ${JSON.stringify({
        id: `call-${this.number}`,
        object: 'chat.completion.chunk',
        created: Math.floor(Date.now() / 1000),
        model: this.model,
        choices,
        usage,
      })}\n\n`;
    this.#response.writeHead(200, { 'content-type': 'text/event-stream' }).end(
      [
        event([{ index: 0, delta: { role: 'assistant', content: this.text }, finish_reason: null }], null),
        event([{ index: 0, delta: {}, finish_reason: 'stop' }], null),
        event([], {
          prompt_tokens: this.inputTokens,
          completion_tokens: this.outputTokens,
          total_tokens: this.inputTokens + this.outputTokens,
        }),
        'data: [DONE]\n\n',
      ].join(''),
    );
  }
}

// ---- sidecars

export const Sidecar = {
  start: (vendor, { leaseSeconds = 3, shutdownSeconds = 5, concurrency = 4, variables = {} } = {}) =>
    Service.start('sidecar', {
      variables: {
        KIJKO_LLM_ECHO: '1',
        ...(vendor && { OPENAI_BASE_URL: vendor.baseUrl, OPENAI_API_KEY: 'not-a-real-key' }),
        KIJKO_WORKER_CONCURRENCY: String(concurrency),
        KIJKO_LEASE_SECONDS: String(leaseSeconds),
        KIJKO_POLL_SECONDS: '1',
        KIJKO_SHUTDOWN_SECONDS: String(shutdownSeconds),
        STRIPE_WEBHOOK_SECRET: STRIPE_SECRET,
        ...variables,
      },
    }),
};

// ---- the stack

// The stack's own sidecar would take the jobs; `kijkoUp` starts it again.
export async function stopStackSidecar() {
  const file = path.join(HOME, 'run/sidecar.pid');
  if (!existsSync(file)) return;
  const pid = Number(readFileSync(file, 'utf8').split(' ')[0]);
  if (!processExists(pid)) return;
  assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /kijko-sidecar/, 'the pid file names the sidecar');
  process.kill(pid, 'SIGTERM');
  await until("the stack's sidecar to end", () => !processExists(pid));
}

// With a vendor, the stack's sidecar calls it, as the tests' own sidecars do.
export const kijkoUp = (vendor) => kijko('up', { OPENAI_BASE_URL: vendor?.baseUrl ?? '' });
export const kijkoDown = () => kijko('down');

async function kijko(command, variables = {}, timeoutMs = 600_000) {
  const environment = {
    ...process.env,
    KIJKO_HOME: HOME,
    KIJKO_API_PORT: PORT,
    KIJKO_LLM_ECHO: '1',
    OPENAI_API_KEY: '',
    KIJKO_YES: '1',
    ...variables,
  };
  delete environment.KIJKO_DB_PORT;
  const script = spawn(path.join(ROOT, 'kijko'), [command], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [script.stdout, script.stderr])
    stream.on('data', (chunk) => {
      output += chunk;
    });
  const exit = once(script, 'exit');
  try {
    const [code] = await atMost(exit, timeoutMs, `./kijko ${command}`);
    assert.equal(code, 0, `./kijko ${command} failed:\n${output}`);
  } catch (error) {
    // Never two at once: the next one must not meet this one half-way.
    if (script.exitCode === null && script.signalCode === null) {
      script.kill('SIGTERM');
      await atMost(exit, 60_000, `./kijko ${command} to end after SIGTERM`);
    }
    throw error;
  }
}

export const postmasterPid = () => Number(readFileSync(path.join(HOME, 'data/postmaster.pid'), 'utf8').split('\n')[0]);

// Kills the postmaster: no process of the server can shut down in good order.
export async function killPostgres() {
  const pid = postmasterPid();
  process.kill(pid, 'SIGKILL');
  await until('the postmaster to die', () => !processExists(pid));
}

export async function killBackend(pid) {
  process.kill(pid, 'SIGKILL');
  await until(`backend ${pid} to die`, () => !processExists(pid));
}

/** The backends that wait for a lock of this session. */
export async function blockedBy(holder) {
  // Within a transaction Postgres shows the same activity again, unless it is told.
  await holder.query('select pg_stat_clear_snapshot()');
  return (await holder.query('select pid, usename from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))')).rows;
}
