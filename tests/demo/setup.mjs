// What the steps of the demo share: the stack, its people, and what they do in more than one step.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { politeClient } from './client.mjs';
import { Clock } from './clock.mjs';
import { Story, short, until } from './story.mjs';

export const env = Object.fromEntries(
  ['API_URL', 'ADMIN_DB_URL', 'ANON_KEY', 'SERVICE_ROLE_KEY', 'STRIPE_WEBHOOK_SECRET_LOCAL'].map((name) => {
    if (!process.env[name]) {
      console.error(`demo: ${name} is not set; start this by ./kijko demo`);
      process.exit(2);
    }
    return [name, process.env[name]];
  }),
);

export const MODEL = process.env.KIJKO_DEMO_MODEL || (process.env.OPENAI_API_KEY ? 'openai/gpt-4o-mini' : 'echo/echo');
export const ZONE = 'Europe/Amsterdam';
export const FREE_EXECUTIONS = 50;
export const PRO_EXECUTIONS = 2000;
export const FINAL = ['succeeded', 'failed', 'cancelled', 'skipped'];

// A vendor answers in seconds; the worker's own retries may take longer.
export const EXECUTION_TIMEOUT = 90_000;

// pg_cron ticks on the minute and starts the tick within seconds.
export const TICK_TIMEOUT = 75_000;

export const story = new Story();
export const clock = new Clock(env.ADMIN_DB_URL);
export const admin = politeClient(env.API_URL, env.SERVICE_ROLE_KEY);
export const habitsToStop = [];

const sayRateWait = ({ waits, waitedSeconds }) =>
  story.progress(`rate limit reached, waiting as Retry-After says (${waits} times, ${waitedSeconds} s so far)`, { milestone: waits === 1 });

// The answer's data; an error ends the step with the code and the text that a frontend would see.
export async function ok(request) {
  const { data, error } = await request;
  if (error) throw new Error(`unexpected error ${error.code}: ${error.message}${error.details ? ` (${error.details})` : ''}`);
  return data;
}

// The refusal that was expected, in the one shape that all errors have.
export async function refused(request, status, code) {
  const { data, error, status: got } = await request;
  assert.ok(error, `expected ${code}, but it was allowed: ${short(data)}`);
  assert.equal(error.code, code, `expected ${code}, got ${error.code}: ${error.message}`);
  assert.equal(got, status, `${code} must be HTTP ${status}`);
  assert.deepEqual(
    ['code', 'message', 'details', 'hint'].filter((key) => !(key in error)),
    [],
    'an error has all four fields',
  );
  return error;
}

export async function signUp(name) {
  const client = politeClient(env.API_URL, env.ANON_KEY, { onWait: sayRateWait });
  const email = `${name.toLowerCase()}-${randomBytes(5).toString('hex')}@example.com`;
  const { user, session } = await ok(
    client.auth.signUp({
      email,
      password: randomBytes(16).toString('base64url'),
      options: { data: { display_name: name } },
    }),
  );
  assert.ok(session?.access_token, 'sign-up answers with a session');
  const profile = await ok(client.from('profiles').select('active_org_id').eq('id', user.id).single());
  const organization = await ok(client.from('organizations').select('*').eq('id', profile.active_org_id).single());
  assert.equal(organization.personal_for, user.id);
  return { client, name, email, user, organization };
}

export async function follow(client, id) {
  return until(
    `execution ${id} to end`,
    async () => {
      const execution = await ok(client.from('executions').select('*').eq('id', id).single());
      story.progress(`execution is ${execution.status}`);
      return FINAL.includes(execution.status) && execution;
    },
    { timeoutMs: EXECUTION_TIMEOUT, everyMs: 1000 },
  );
}

export function checkSuccess(execution) {
  assert.equal(execution.status, 'succeeded', `execution ${execution.status}: ${execution.error_code} ${execution.error}`);
  assert.ok(execution.output, 'an execution that succeeded has an output');
  assert.ok(execution.input_tokens > 0 && execution.output_tokens > 0, 'tokens are counted');
  assert.ok(execution.cost_microusd >= 0, 'the cost is known');
}

export const tokensAndCost = (e) =>
  `${e.input_tokens} tokens in, ${e.output_tokens} out, ${(e.cost_microusd / 1e6).toFixed(6)} USD, model ${e.model}`;

export async function usage(client) {
  const rows = await ok(client.rpc('usage_summary'));
  return Object.fromEntries(rows.map((row) => [row.meter, row]));
}

// Real text to work on: the project's own change log.
export async function changes() {
  const text = await readFile(new URL('../../CHANGELOG.md', import.meta.url), 'utf8').catch(() => null);
  return (text ?? "Habits run by themselves; every execution is metered; a plan's limits are enforced by the database.").slice(0, 1500);
}

// Hour and minute as a clock on the wall in Amsterdam shows them.
export function wallClock(instant) {
  const parts = new Intl.DateTimeFormat('en-GB', { timeZone: ZONE, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).formatToParts(
    instant,
  );
  const part = (type) => Number(parts.find((p) => p.type === type).value);
  return { hour: part('hour'), minute: part('minute') };
}

// Otherwise they would go on calling a model every day, and cost money.
export async function stopHabits() {
  while (habitsToStop.length) await ok(admin.from('habits').update({ enabled: false }).eq('id', habitsToStop.pop()));
}
