// SQL for the access matrix: a connection of its own, because those of the journeys are closed before a file's last hook runs.
import pg from 'pg';
import { env } from '../journeys/support.mjs';

const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
let connected;

/** SQL as the superuser: a row each, or an answer each for several statements. */
export async function query(text, values) {
  connected ??= client.connect();
  await connected;
  const answer = await client.query(text, values);
  return Array.isArray(answer) ? answer : answer.rows;
}

export const disconnect = () => client.end();

function literal(value) {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return pg.escapeLiteral(`{${value.join(',')}}`); // of ids, which need no quotes
  if (typeof value === 'object') return pg.escapeLiteral(JSON.stringify(value));
  return pg.escapeLiteral(String(value));
}

/** SQL with its values as literals, so that many statements go in one round trip. Statements among the values stay as they are. */
export const sql = (parts, ...values) => new Statement(parts.reduce((text, part, at) => `${text}${asText(values[at - 1])}${part}`));
const asText = (value) => (value instanceof Statement ? value.text : literal(value));

class Statement {
  constructor(text) {
    this.text = text;
  }
}

/** The name of a table of the API. */
export const identifier = (name) => new Statement(`public.${pg.escapeIdentifier(name)}`);

/** All of these statements in one transaction and one round trip. The rows of each that returns any, in their order. */
export async function transaction(statements) {
  const text = ['begin', ...statements.flat(9).map((statement) => statement.text.trim()), 'commit'].join(';\n');
  try {
    return (await query(text)).filter(({ command, rows }) => command === 'SELECT' || rows.length > 0).map(({ rows }) => rows);
  } catch (error) {
    await query('rollback');
    throw error;
  }
}
