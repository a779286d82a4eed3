// A block of SQL runs as the role that its info string names, in a transaction that is rolled back.
import { after } from 'node:test';
import pg from 'pg';

/** Sessions by the name after `as=`: where they connect, and what makes them a request of that role. */
const ROLES = {
  postgres: { url: 'DB_URL' },
  superuser: { url: 'ADMIN_DB_URL' },
  // Sets what PostgREST sets for a request of the signed-in owner. Only a superuser may set session_authorization.
  owner: {
    url: 'ADMIN_DB_URL',
    enter: `select set_config('request.jwt.claims', $1, true), set_config('request.headers', '{}', true),
      set_config('session_authorization', 'authenticator', true), set_config('role', 'authenticated', true)`,
  },
};

// One session for each login: whatever a block sets ends with its transaction.
const sessions = new Map();
after(() => Promise.all([...sessions.values()].map(async (session) => (await session).end())));

function sessionOf(connectionString) {
  if (!sessions.has(connectionString)) {
    const client = new pg.Client({ connectionString });
    sessions.set(
      connectionString,
      client.connect().then(() => client),
    );
  }
  return sessions.get(connectionString);
}

const quote = (value) => `'${String(value).replaceAll("'", "''")}'`;

/** Puts values in the place of :'name', as psql does; names an unknown one. */
function substitute(code, values) {
  const unknown = [];
  const text = code.replace(/:'(\w+)'/g, (all, name) => {
    if (values[name] === undefined) unknown.push(name);
    return values[name] === undefined ? all : quote(values[name]);
  });
  return { text, unknown };
}

/** The faults of one block: none when it runs, or fails with the code of `fails=`. */
export async function runSql({ file, line, code, attributes }, { env, values, claims }) {
  const where = `${file}:${line}`;
  const role = ROLES[attributes.as];
  if (!role) return [`${where}: as= must be one of ${Object.keys(ROLES).join(', ')}`];
  const { text, unknown } = substitute(code, values);
  if (unknown.length > 0) return [`${where}: no value for :'${unknown.join("', :'")}'`];
  const client = await sessionOf(env[role.url]);
  try {
    await client.query('begin');
    await client.query("set local search_path = public, extensions; set local lock_timeout = '1min'");
    if (role.enter) await client.query(role.enter, [JSON.stringify(claims)]);
    await client.query(text);
    return attributes.fails ? [`${where}: it does not fail with ${attributes.fails}`] : [];
  } catch (error) {
    const named = [error.code, error.message.split(':')[0]];
    if (attributes.fails && named.includes(attributes.fails)) return [];
    return [`${where}: ${error.code} ${error.message}`];
  } finally {
    await client.query('rollback');
  }
}
