// What the tests of social posts share: accounts at the fakes, images, posts, and the tick.
import { randomUUID } from 'node:crypto';
import { jpeg } from '../images.mjs';
import { ok, until } from './domain.mjs';
import { sql } from './support.mjs';

export const FINAL = ['published', 'failed', 'missed', 'unconfirmed', 'cancelled'];
/** An image that each platform takes. */
const PICTURE = jpeg(1080, 1080);

/** A connection of the organization with the token of an account of the fakes, as complete_connection() leaves it. */
export async function connect(orgId, account, { refresh = null } = {}) {
  const [{ id }] = await sql(
    `insert into public.connections (org_id, provider, account_id, account_name) values ($1, $2, $3, 'Café') returning id`,
    [orgId, account.platform, account.id],
  );
  await sql(
    `insert into private.connection_tokens (id, organization, provider, account_id, connection_id, access_token, refresh_token)
     select (s.t).id, $1, $2, $3, $4, (s.t).access_token, (s.t).refresh_token
     from (
       select private.connections_seal(
         jsonb_populate_record(null::private.connection_tokens, jsonb_build_object('id', gen_random_uuid(), 'organization', $1::uuid)),
         jsonb_build_object('access_token', $5::text, 'refresh_token', $6::text)
       ) as t
     ) as s`,
    [orgId, account.platform, account.id, id, account.token, refresh],
  );
  return id;
}

/** An object in the bucket of media, which need be no image; what a post names it by. */
export async function upload(client, orgId, bytes, { type = 'image/jpeg', path = `${orgId}/${randomUUID()}` } = {}) {
  const { error } = await client.storage.from('social-media').upload(path, bytes, { contentType: type });
  if (error) throw error;
  return { path, alt_text: 'A café' };
}

/** What is known of an object once it is measured. */
export const measured = (client, orgId, { path }) =>
  until(
    `${path} to be measured`,
    async () => {
      const rows = await ok(client.from('social_media_files').select().eq('org_id', orgId).eq('path', path).neq('status', 'pending'));
      return rows[0];
    },
    // The organization has a rate limit.
    { everyMs: 250 },
  );

/** A measured image that each platform takes. */
export async function image(client, orgId, alt_text = 'A café') {
  const object = await upload(client, orgId, PICTURE);
  await measured(client, orgId, object);
  return { ...object, alt_text };
}

/** A post of a member. */
export const write = (person, platform, connection_id, fields = {}) =>
  ok(
    person.client
      .from('social_posts')
      .insert({ org_id: person.orgId, platform, connection_id, text: `Hello ${randomUUID()}`, ...fields })
      .select()
      .single(),
  );

export const schedule = (person, post, args = {}) => ok(person.client.rpc('schedule_social_post', { post_id: post.id, ...args }));

export const tick = () => sql('select private.social_tick()');

export const stateOf = async (id) => (await sql('select * from public.social_posts where id = $1', [id]))[0];

export const logOf = async (id) => {
  const rows = await sql('select * from public.publish_logs where social_post_id = $1 order by created_at, id', [id]);
  return rows;
};

export const eventsOf = async (id) => (await logOf(id)).map((row) => row.event);

/** Attempts that wait are made at once, by the clock of the database. */
export async function hurry(ids) {
  await sql(`update public.social_posts set publish_after = null where id = any ($1) and status = 'scheduled' and error_code is not null`, [
    ids,
  ]);
  await sql(`update private.social_publications set check_after = now() where post_id = any ($1) and check_after > now()`, [ids]);
  await tick();
}

/** Until all of these posts have ended. */
export const ended = (ids, { hurried = true } = {}) =>
  until(
    `${ids.length} posts to end`,
    async () => {
      if (hurried) await hurry(ids);
      const rows = await sql('select * from public.social_posts where id = any ($1)', [ids]);
      return rows.every((row) => FINAL.includes(row.status)) && rows;
    },
    { everyMs: 300 },
  );
