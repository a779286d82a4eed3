// What the journeys of connections share.
import assert from 'node:assert/strict';
import { APP, Browser } from './auth_providers.mjs';
import { ok, until } from './domain.mjs';
import { admin, env, sql } from './support.mjs';

/** The fakes and the team of all suites: {providers, oidc, team}. */
export const world = {};

export const CALLBACK = `${env.API_URL}/auth/v1/callback/connection`;

export const begin = (person, args) =>
  person.client.rpc('begin_connection', { redirect_to: APP, ...args }).setHeader('x-org-id', person.orgId);
export const complete = (person, code) => person.client.rpc('complete_connection', { code });

/** From begin_connection() to the code with which the browser comes back. */
export async function authorized(person, args, browser = new Browser()) {
  const { url } = await ok(begin(person, args));
  const { query } = await browser.arrive(url);
  assert.ok(query.connection_code, JSON.stringify(query));
  return query.connection_code;
}

export const connect = async (person, provider, args) => ok(complete(person, await authorized(person, { provider, ...args })));

/** The row, beside the API. */
export const rowOf = async (id) => (await sql('select * from public.connections where id = $1', [id]))[0];

/** What a job of the organization gets. */
export const use = async ({ org_id, id }) => (await sql('select private.connections_use($1, $2) as use', [org_id, id]))[0].use;

/** Lets the refresh of a connection be due now. */
export async function refreshNow(id) {
  await sql(`update private.connection_tokens set check_at = kijko.now() - interval '1 second' where connection_id = $1`, [id]);
  await sql('select private.connections_enqueue_due()');
}

/** Until the refresh that is due has ended well. */
export async function refreshed(id) {
  const before = await generation(id);
  await refreshNow(id);
  await until('a refresh', async () => (await generation(id)) > before);
}

export const generation = async (id) =>
  (await sql('select generation from private.connection_tokens where connection_id = $1', [id]))[0]?.generation;

export const paused = (id) =>
  until('a pause', async () => {
    const row = await rowOf(id);
    return row.status === 'paused' && row;
  });

/** The users who were notified of the pauses of a connection; null is the organization. */
export const notices = async (id) =>
  (
    await sql(
      `select n.user_id from public.notifications as n where n.type = 'connection.paused' and n.data ->> 'connection_id' = $1 order by n.user_id nulls first`,
      [id],
    )
  ).map((row) => row.user_id);

export const deleteUser = async (id) => assert.equal((await admin().auth.admin.deleteUser(id)).error, null);
