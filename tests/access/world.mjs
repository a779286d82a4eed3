// The fixture of every case: two organizations with a row in each table, and callers in all their relations to the first one.
// A case that changed something is followed by a new world, so no case depends on another.
import { randomUUID } from 'node:crypto';
import { query } from './db.mjs';
import { fill } from './rows.mjs';

const MEMBERS = {
  owner: 'owner',
  admin: 'admin',
  member: 'member',
  viewer: 'viewer',
  custom: 'viewer',
  colleague: 'member',
  revoked: 'owner',
  banned: 'owner',
};

/** A new world of these people. The former one is deleted. */
export async function makeWorld(people, former) {
  await query('begin');
  try {
    if (former) await removeWorld(former);
    const world = { people, keys: {}, org: randomUUID(), other: { org: randomUUID() }, bare: randomUUID() };
    const ids = Object.values(people).map(({ id }) => id);
    // A case may have deleted or changed a profile.
    await query('insert into public.profiles (id, display_name) select u, $2 from unnest($1::uuid[]) as u on conflict (id) do nothing', [
      ids,
      'Person',
    ]);
    await query(`update public.profiles set display_name = 'Person', avatar_url = null where id = any ($1)`, [ids]);
    await organization(world, { ...MEMBERS, removed: 'owner' });
    await organization({ ...world, ...world.other }, { nonmember: 'owner', neighbour: 'member' });
    await query('delete from public.memberships where org_id = $1 and user_id = $2', [world.org, people.removed.id]);
    Object.assign(world, await fill(query, { people, org: world.org, owner: 'owner', colleague: 'colleague' }));
    Object.assign(world.other, await fill(query, { people, org: world.other.org, owner: 'nonmember', colleague: 'neighbour' }));
    await query('update public.memberships set custom_role_id = $3 where org_id = $1 and user_id = $2', [
      world.org,
      people.custom.id,
      world.role,
    ]);
    await catalogues(world);
    await query('commit');
    return world;
  } catch (error) {
    await query('rollback');
    throw error;
  }
}

/** What is nobody's: rows of the catalogues, an organization without a subscription, a user without a profile. */
async function catalogues({ people, bare }) {
  await query(`insert into public.plans (code, name, rank, rate_per_minute) values ('MATRIX', 'Matrix', 999, 60)`);
  await query(`insert into public.plan_limits (plan, meter, period, amount) values ('MATRIX', 'matrix', 'month', 1)`);
  await query(`insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('matrix/model', 1, 1)`);
  await query(`insert into public.organizations (id, name) values ($1, 'Bare')`, [bare]);
  await query('delete from public.subscriptions where org_id = $1', [bare]);
  await query('delete from public.profiles where id = $1', [people.bare.id]);
}

async function organization({ people, org }, members) {
  const [owner] = Object.keys(members);
  await query(`insert into public.organizations (id, name, created_by) values ($1, 'Matrix', $2)`, [org, people[owner].id]);
  // A plan without limits: the number of members, rows and requests is not the subject here.
  await query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]);
  await query(
    `insert into public.memberships (org_id, user_id, role, created_by)
     select $1, m.user_id, m.role, $2 from unnest($3::uuid[], $4::text[]) as m (user_id, role)`,
    [org, people[owner].id, Object.keys(members).map((name) => people[name].id), Object.values(members)],
  );
}

/** Deletes the world's organizations, and those that a case has created. */
export async function removeWorld(world) {
  const people = Object.values(world.people).map(({ id }) => id);
  await query('delete from public.organizations where id = any ($1) or created_by = any ($2)', [
    [world.org, world.other.org, world.bare],
    people,
  ]);
  await query('delete from public.stripe_prices where id = any ($1)', [[world.stripe_prices, world.other.stripe_prices]]);
  for (const table of ['stripe_customers', 'stripe_checkouts', 'stripe_subscriptions', 'stripe_invoices']) {
    await query(`delete from public.${table} where id = any ($1)`, [[world[table], world.other[table]]]);
  }
  await query(`delete from public.plans where code like 'MATRIX%'`);
  await query(`delete from public.llm_models where id like 'matrix/%'`);
}

/** Which rows of a relation belong to the first organization, as a PostgREST filter; of a catalogue, every row. */
export function scopeOf(relation, world) {
  if (relation.name === 'organizations') return `id=eq.${world.org}`;
  if (relation.columns.includes('org_id')) return `org_id=eq.${world.org}`;
  if (relation.name === 'profiles') return `id=in.(${Object.keys(MEMBERS).map((name) => world.people[name].id)})`;
  if (relation.name === 'stripe_prices') return `id=eq.${world.stripe_prices}`;
  return '';
}

/** The same rows as the owner of the domain sees them: what is there to be seen. */
export async function truth(relation, world, org = world.org) {
  const name = `public.${relation.name}`;
  const members = Object.keys(MEMBERS).map((person) => world.people[person].id);
  const [where, values] =
    relation.name === 'organizations'
      ? ['where t.id = $1', [org]]
      : relation.columns.includes('org_id')
        ? ['where t.org_id = $1', [org]]
        : relation.name === 'profiles'
          ? ['where t.id = any ($1)', [org === world.org ? members : [world.people.nonmember.id, world.people.neighbour.id]]]
          : relation.name === 'stripe_prices'
            ? ['where t.id = $1', [org === world.org ? world.stripe_prices : world.other.stripe_prices]]
            : ['', []];
  const order = relation.key.map((column) => `t.${column}`).join(', ');
  return (await query(`select to_jsonb(t) as row from ${name} as t ${where} order by ${order}`, values)).map(({ row }) => row);
}

/** Whether the private project of this world hides the row. */
export const isPrivate = (row, world) => Object.values(row).some((value) => world.hidden.has(value));

/** A hash of every row of both organizations and of the catalogues: a refused request leaves it as it was. */
export async function fingerprint(tables, world) {
  const parts = tables.map((relation) => {
    const column = relation.name === 'organizations' ? 'id' : relation.columns.includes('org_id') ? 'org_id' : null;
    const where = column ? `where t.${column} = any ($1)` : relation.name === 'profiles' ? 'where t.id = any ($2)' : '';
    return `select '${relation.name}' as name, md5(coalesce(string_agg(t::text, e'\\n' order by t::text), '')) as hash from public.${relation.name} as t ${where}`;
  });
  const rows = await query(
    `select p.name, p.hash from (${parts.join(' union all ')}) as p where $1::uuid[] is not null and $2::uuid[] is not null order by 1`,
    [[world.org, world.other.org], Object.values(world.people).map(({ id }) => id)],
  );
  return Object.fromEntries(rows.map(({ name, hash }) => [name, hash]));
}
