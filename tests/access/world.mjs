// The fixture of every case: two organizations with a row in each table, and callers in all their relations to the first one.
// A case that changed something is followed by a new world, so no case depends on another.
import { randomUUID } from 'node:crypto';
import { query, sql, transaction } from './db.mjs';
import { keys, receiveKeys } from './keys.mjs';
import { fill, forget, newIds, queued, receive } from './rows.mjs';

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
  const world = {
    people,
    truths: new Map(),
    org: randomUUID(),
    bare: randomUUID(),
    other: { org: randomUUID(), ...newIds() },
    ...newIds(),
  };
  const { owner, colleague, nonmember, neighbour, removed, custom } = people;
  const answers = await transaction([
    sql`set local role postgres`,
    former ? forgetWorld(former) : [],
    profiles(people),
    organization(people, world.org, { ...MEMBERS, removed: 'owner' }),
    organization(people, world.other.org, { nonmember: 'owner', neighbour: 'member' }),
    sql`delete from public.memberships where org_id = ${world.org} and user_id = ${removed.id}`,
    fill(world, { owner: owner.id, colleague: colleague.id, invitee: nonmember.email }),
    fill(world.other, { owner: nonmember.id, colleague: neighbour.id, invitee: owner.email }),
    sql`update public.memberships set custom_role_id = ${world.role} where org_id = ${world.org} and user_id = ${custom.id}`,
    nobodys(world),
    queued,
    keys(world),
  ]);
  const rows = answers.flat();
  for (const tenant of [world, world.other]) receive(tenant, rows);
  world.keys = receiveKeys(rows);
  return world;
}

/** A case may have deleted or changed one. */
const profiles = (people) => {
  const ids = Object.values(people).map(({ id }) => id);
  return [
    sql`insert into public.profiles (id, display_name) select u, 'Person' from unnest(${ids}::uuid[]) as u on conflict (id) do nothing`,
    sql`update public.profiles set display_name = 'Person', avatar_url = null where id = any (${ids})`,
  ];
};

const organization = (people, org, members) => {
  const names = Object.keys(members);
  const owner = people[names[0]].id;
  return [
    sql`insert into public.organizations (id, name, slug, created_by) values (${org}, 'Matrix', 'matrix-' || ${org}::text, ${owner})`,
    // A plan without limits: the number of members, rows and requests is not the subject here.
    sql`update public.subscriptions set plan = 'ENTERPRISE' where org_id = ${org}`,
    sql`insert into public.memberships (org_id, user_id, role, created_by)
      select ${org}, m.user_id, m.role, ${owner} from unnest(${names.map((name) => people[name].id)}::uuid[], ${Object.values(members)}::text[]) as m (user_id, role)`,
  ];
};

/** What is nobody's: rows of the catalogues, an organization without a subscription, a user without a profile. */
const nobodys = ({ people, bare }) => [
  forgetCatalogueRows, // of a run that was interrupted
  sql`insert into public.plans (code, name, rank, rate_per_minute) values ('MATRIX', 'Matrix', 999, 60)`,
  sql`insert into public.plan_limits (plan, meter, period, amount) values ('MATRIX', 'matrix', 'month', 1)`,
  sql`insert into public.features (code, name) values ('matrix', 'Matrix'), ('matrix_other', 'Other')`,
  sql`insert into public.plan_features (plan, feature) values ('MATRIX', 'matrix')`,
  sql`insert into public.prices (lookup_key, plan, recurring_interval, kind, amount_cents) values ('matrix_monthly', 'MATRIX', 'month', 'flat', 1)`,
  // No request is sent to it: what is authorized is only a ticket.
  sql`insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'matrix', false)
    on conflict do nothing`,
  sql`insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('matrix/model', 1, 1)`,
  sql`insert into public.functions (name, url, access, permission) values
    ('matrix', 'https://fn.example.com', 'permission', 'skills:execute'),
    ('matrix-open', 'https://fn.example.com', 'anyone', null),
    ('matrix-signed-in', 'https://fn.example.com', 'signed_in', null)`,
  sql`insert into public.organizations (id, name) values (${bare}, 'Bare')`,
  sql`delete from public.subscriptions where org_id = ${bare}`,
  sql`delete from public.profiles where id = ${people.bare.id}`,
];

const forgetCatalogueRows = [
  sql`delete from private.billing_account where api_version = 'matrix'`,
  sql`delete from public.features where code like 'matrix%'`,
  sql`delete from public.plans where code like 'MATRIX%'`,
  sql`delete from public.llm_models where id like 'matrix/%'`,
  sql`delete from public.functions where name like 'matrix%'`,
];

/** The world's organizations, and those that a case has created. */
const forgetWorld = (world) => [
  sql`delete from public.organizations
    where id = any (${[world.org, world.other.org, world.bare]}) or created_by = any (${Object.values(world.people).map(({ id }) => id)})`,
  forget([world, world.other]),
  forgetCatalogueRows,
];

export const removeWorld = (world) => transaction([sql`set local role postgres`, forgetWorld(world)]);

/** Which rows of a relation belong to the first organization, as a PostgREST filter; of a catalogue, every row. */
export function scopeOf(relation, world) {
  if (relation.name === 'organizations') return `id=eq.${world.org}`;
  if (relation.columns.includes('org_id')) return `org_id=eq.${world.org}`;
  if (relation.name === 'profiles') return `id=in.(${Object.keys(MEMBERS).map((name) => world.people[name].id)})`;
  if (relation.name === 'stripe_prices') return `id=eq.${world.stripe_prices}`;
  return '';
}

/** The same rows as they are in the table: what is there to be seen. Read once, since no case of a world follows one that changed it. */
export function truth(relation, world, org = world.org) {
  const name = `${relation.name} ${org}`;
  if (!world.truths.has(name)) world.truths.set(name, read(relation, world, org));
  return world.truths.get(name);
}

async function read(relation, world, org) {
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

/**
 * A hash of every row of both organizations and of the catalogues: a refused request leaves it as it was. Only the record of requests
 * has each of them.
 */
export async function fingerprint(tables, world) {
  const kept = tables.filter(({ name }) => name !== 'api_usage');
  const parts = kept.map((relation) => {
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
