// The running test stack from outside: ./kijko itself, sessions of its roles, and their passwords.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import pg from 'pg';

export const root = path.resolve(import.meta.dirname, '../..');
export const home = process.env.TEST_HOME;
export const port = process.env.TEST_PORT;
assert.ok(home && port, 'TEST_HOME and TEST_PORT name the running test stack: use ./kijko test cli');

export const kijko = (args, environment = {}) => run(path.join(root, 'kijko'), args, environment);

/** The ./kijko of a checkout: its exit status and what it printed. */
export function run(program, args, environment = {}) {
  const env = { ...process.env, KIJKO_HOME: home, KIJKO_API_PORT: port, KIJKO_YES: '1', ...environment };
  return new Promise((resolve) => {
    execFile(program, args, { env, timeout: 600_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr }),
    );
  });
}

/** The process of a part of the stack. */
export const pidOf = (name) => Number(fs.readFileSync(path.join(home, 'run', `${name}.pid`), 'utf8').split(' ')[0]);

/** Every log of the stack, those of folders and what was rotated included: {name, text}. */
export function* logs() {
  const folder = path.join(home, 'log');
  let found = 0;
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    let text;
    try {
      text = fs.readFileSync(file, 'utf8');
    } catch (error) {
      if (error.code === 'ENOENT') continue; // rotated meanwhile
      throw error;
    }
    found += 1;
    yield { name: path.relative(folder, file), text };
  }
  assert.ok(found > 0, 'the stack has logs');
}

export async function session(url, body) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await body(client);
  } finally {
    await client.end();
  }
}

export const asPostgres = (body) => session(process.env.DB_URL, body);
export const asSuperuser = (body) => session(process.env.ADMIN_DB_URL, body);
export const asSidecar = (body) => session(process.env.ADMIN_DB_URL.replace(/\/\/[^@]+@/, `//kijko_sidecar:${passwords().SIDECAR}@`), body);

/** As the access matrix sets it, and leaves it when it is killed. */
export const letRequestsRollBack = () => asSuperuser((client) => client.query("alter role authenticator set pgrst.db_tx_end = 'rollback'"));
export const requestsRollBack = () =>
  asSuperuser(async (client) => {
    const { rows } = await client.query("select from pg_db_role_setting where 'pgrst.db_tx_end=rollback' = any (setconfig)");
    return rows.length > 0;
  });

export const passwords = () =>
  Object.fromEntries(
    [...fs.readFileSync(path.join(home, 'secrets/passwords'), 'utf8').matchAll(/KIJKO_(\w+)_PASSWORD=(\S+)/g)].map(([, name, value]) => [
      name,
      value,
    ]),
  );

/** The statement as the superuser, rolled back: what is denied to postgres is denied by its rights, and not for another reason. */
export async function allowedAsSuperuser(statement) {
  await asSuperuser(async (client) => {
    await client.query('begin');
    await client.query(statement);
    await client.query('rollback');
  });
}

/** The statements as postgres, in one transaction that is rolled back: the last must fail with that code. */
export async function denied(statements, code = '42501') {
  await asPostgres(async (client) => {
    await client.query('begin');
    let failure;
    let refused;
    for (const statement of statements) {
      try {
        await client.query(statement);
      } catch (error) {
        [failure, refused] = [error, statement];
        break;
      }
    }
    await client.query('rollback');
    assert.ok(failure, `nothing refused: ${statements.join('; ')}`);
    assert.equal(refused, statements.at(-1), `refused too early: ${failure.code} ${failure.message}`);
    assert.equal(failure.code, code, `${statements.join('; ')}: ${failure.message}`);
  });
}
