// Persons who attack. Some calls end their caller: the session, the membership, the account. Then the person comes back.
import { randomUUID } from 'node:crypto';
import { query } from '../access/db.mjs';

/** A user with a session: { id, session, token }. `owns`: owner of an organization without limits. */
export async function newPerson({ id = randomUUID(), anonymous = false, confirmed = true, owns = false } = {}) {
  const email = anonymous ? null : `attacker-${randomUUID()}@example.com`;
  await query(
    `insert into auth.users (id, aud, role, email, email_confirmed_at, is_anonymous, invited_at, raw_user_meta_data)
     values ($1, 'authenticated', 'authenticated', $2, case when $3 then now() end, $4, now(), '{}')`,
    [id, email, confirmed && !anonymous, anonymous],
  );
  if (owns) await giveOrganization(id);
  return { id, ...(await newSession(id)) };
}

export async function newSession(id) {
  const [{ session }] = await query(
    `insert into auth.sessions (id, user_id, created_at, updated_at, aal) values (gen_random_uuid(), $1, now(), now(), 'aal1') returning id as session`,
    [id],
  );
  const [{ token }] = await query(
    `select auth_api.access_token(u, s, extract(epoch from now())::bigint + 3600) as token
     from auth.users as u join auth.sessions as s on s.user_id = u.id where s.id = $1`,
    [session],
  );
  return { session, token };
}

async function giveOrganization(user) {
  const org = randomUUID();
  await query('insert into public.organizations (id, name, created_by) values ($1, $2, $3)', [org, 'Attacker', user]);
  await query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]);
  await query(`insert into public.memberships (org_id, user_id, role, created_by) values ($1, $2, 'owner', $2) on conflict do nothing`, [
    org,
    user,
  ]);
}

/** Gives a person back what it has lost, and says whether anything was lost. */
export async function revive(attacker) {
  const { person } = attacker;
  if (!person) return false;
  const [{ session, account, owner }] = await query(
    `select exists (select from auth.sessions where id = $1) as session, exists (select from auth.users where id = $2) as account,
       exists (select from public.memberships where user_id = $2 and role = 'owner') as owner`,
    [person.session, person.id],
  );
  if (session && account && (owner || !person.owns)) return false;
  if (!account) Object.assign(person, await newPerson(person));
  else {
    if (person.owns && !owner) await giveOrganization(person.id);
    if (!session) Object.assign(person, await newSession(person.id));
  }
  attacker.headers = { ...attacker.headers, Authorization: `Bearer ${person.token}` };
  return true;
}

/** Deletes them, and the organizations that they have made. */
export async function forgetPersons(persons) {
  const ids = persons.map(({ id }) => id);
  await query('delete from public.organizations where created_by = any ($1)', [ids]);
  await query('delete from auth.users where id = any ($1)', [ids]);
}
