// The API keys of a world, made as their makers would make them.
import { CALLERS } from './callers.mjs';
import { sql } from './db.mjs';

const SPARE = { kind: 'service', permissions: ['*:read'] };

// Claims count in the sessions of PostgREST's login only.
const asUsers = [sql`set local role none`, sql`set local session authorization authenticator`, sql`set local role authenticated`];

/** The statements: the keys that the callers use, and one of each organization that no caller uses. */
export const keys = (world) => [
  ...asUsers,
  ...Object.entries(CALLERS)
    .filter(([, { key }]) => key)
    .map(([name, { key }]) => make(world, name, key)),
  make(world, 'spare', { ...SPARE, maker: 'owner' }),
  make(world, 'otherSpare', { ...SPARE, maker: 'nonmember' }),
];

/** The statements that make further keys of one user in one organization: name to what the key is. They return name and secret. */
export const issue = (user, org, specs) => [asUsers, ...Object.entries(specs).map(([name, spec]) => insert(user, org, name, spec))];

function make(world, name, { maker, ...spec }) {
  return insert(world.people[maker].id, maker === 'nonmember' ? world.other.org : world.org, name, spec);
}

const insert = (user, org, name, { kind, permissions, origin, seconds = null }) => [
  sql`set local request.jwt.claims = ${JSON.stringify({ role: 'authenticated', sub: user })}`,
  sql`set local request.headers = ${JSON.stringify({ 'x-org-id': org })}`,
  sql`insert into public.api_keys as k (org_id, name, kind, permissions, rate_limit, origins, expires_at)
    values (${org}, ${name}, ${kind}, ${JSON.stringify(permissions)}, 60000, ${origin ? [origin] : []}, now() + make_interval(secs => ${seconds}::float8))
    returning k.name, k.id, public.secret(k) as secret`,
];

export const receiveKeys = (rows) =>
  Object.fromEntries(rows.filter(({ secret }) => secret).map(({ name, id, secret }) => [name, { id, secret }]));
