// The API keys of a world, made as their makers would make them.
import { CALLERS } from './callers.mjs';
import { sql } from './db.mjs';

const SPARE = { kind: 'service', permissions: ['*:read'] };

/** The statements: the keys that the callers use, and one of each organization that no caller uses. */
export const keys = (world) => [
  // Claims count in the sessions of PostgREST's login only.
  sql`set local role none`,
  sql`set local session authorization authenticator`,
  sql`set local role authenticated`,
  ...Object.entries(CALLERS)
    .filter(([, { key }]) => key)
    .map(([name, { key }]) => make(world, name, key)),
  make(world, 'spare', { ...SPARE, maker: 'owner' }),
  make(world, 'otherSpare', { ...SPARE, maker: 'nonmember' }),
];

function make(world, name, { maker, kind, permissions, origin }) {
  const org = maker === 'nonmember' ? world.other.org : world.org;
  return [
    sql`set local request.jwt.claims = ${JSON.stringify({ role: 'authenticated', sub: world.people[maker].id })}`,
    sql`set local request.headers = ${JSON.stringify({ 'x-org-id': org })}`,
    sql`insert into public.api_keys as k (org_id, name, kind, permissions, rate_limit, origins)
      values (${org}, ${name}, ${kind}, ${JSON.stringify(permissions)}, 60000, ${origin ? [origin] : []})
      returning k.name, k.id, public.secret(k) as secret`,
  ];
}

export const receiveKeys = (rows) =>
  Object.fromEntries(rows.filter(({ secret }) => secret).map(({ name, id, secret }) => [name, { id, secret }]));
