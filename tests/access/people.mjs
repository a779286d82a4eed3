// The people of the access matrix, made once, and their requests.
import { randomUUID } from 'node:crypto';
import { env, http } from '../journeys/support.mjs';
import { CALLERS } from './callers.mjs';
import { query } from './db.mjs';

const PEOPLE = [
  'owner',
  'admin',
  'member',
  'viewer',
  'custom',
  'colleague',
  'removed',
  'revoked',
  'banned',
  'nonmember',
  'neighbour',
  'bare',
];

/** Users with real sessions and tokens. They get no personal organization: each world makes theirs. */
export async function makePeople() {
  const people = {};
  const made = await query(
    `with made as (
       insert into auth.users (id, aud, role, email, email_confirmed_at, invited_at, raw_user_meta_data)
       select gen_random_uuid(), 'authenticated', 'authenticated', n.name || '-' || $2 || '@example.com', now(), now(),
         jsonb_build_object('display_name', n.name)
       from unnest($1::text[]) as n (name)
       returning *
     )
     select split_part(email, '-', 1) as name, id, email from made`,
    [PEOPLE, randomUUID()],
  );
  for (const { name, id, email } of made) people[name] = { id, email };
  await query(
    `insert into auth.sessions (id, user_id, created_at, updated_at, aal) select gen_random_uuid(), u, now(), now(), 'aal1' from unnest($1::uuid[]) as u, generate_series(1, 2)`,
    [made.map(({ id }) => id)],
  );
  const tokens = await query(
    `select u.id, s.id as session, auth_api.access_token(u, s, extract(epoch from now())::bigint + 3600) as token
     from auth.users as u join auth.sessions as s on s.user_id = u.id where u.id = any ($1)`,
    [made.map(({ id }) => id)],
  );
  for (const person of Object.values(people)) {
    const [used, spare] = tokens.filter(({ id }) => id === person.id);
    Object.assign(person, used, { spare: spare.session });
  }
  await query(`update auth.users set banned_until = now() + interval '1 day' where id = $1`, [people.banned.id]);
  await query('delete from auth.sessions where id = $1', [people.revoked.session]);
  return people;
}

export const forgetPeople = (people) => query('delete from auth.users where id = any ($1)', [Object.values(people).map(({ id }) => id)]);

/** The headers by which a caller of this world identifies itself. */
function identity(world, caller) {
  const { person, key, token } = CALLERS[caller];
  if (key) return { 'X-API-Key': world.keys[caller].secret, ...(key.origin && { Origin: key.origin }) };
  if (token === 'service') return { Authorization: `Bearer ${env.SERVICE_ROLE_KEY}` };
  return { Authorization: `Bearer ${person ? world.people[person].token : env.ANON_KEY}` };
}

export async function request(world, caller, method, path, { body, headers } = {}) {
  for (let tries = 0; ; tries += 1) {
    const answer = await http(method, `/rest/v1/${path}`, {
      body,
      headers: { 'Content-Type': 'application/json', ...identity(world, caller), ...headers },
    });
    // Callers of one organization share its connection time, which a slow machine uses up.
    if (answer.body?.code !== 'rate_limited' || tries === 30) return answer;
    await new Promise((resolve) => setTimeout(resolve, Math.min(Number(answer.headers.get('retry-after')), 5) * 1000));
  }
}

/** The user whom the caller's own rows name. */
export const userOf = (world, caller) => world.people[CALLERS[caller].person ?? CALLERS[caller].user]?.id ?? null;

/** Everybody who is refused counts against one address: its rate is not the subject here. */
export const liftAddressRate = () => query(`select kijko.set_rate_limit_policy('requests', 'address', 1000000, '1 minute', 'anonymous')`);
/** The catalogue pushes the policy again. */
export const restoreAddressRate = () => query(`update public.plans set rate_per_minute = rate_per_minute where code = 'FREE'`);
