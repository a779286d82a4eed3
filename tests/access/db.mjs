// SQL for the access matrix: connections of its own, because those of the journeys are closed before a file's last hook runs.
import pg from 'pg';
import { env } from '../journeys/support.mjs';

const clients = new Map();

async function run(url, text, values) {
  if (!clients.has(url)) {
    const client = new pg.Client({ connectionString: url });
    clients.set(url, { client, ready: client.connect() });
  }
  const { client, ready } = clients.get(url);
  await ready;
  return (await client.query(text, values)).rows;
}

/** SQL as the owner of the domain. */
export const query = (text, values) => run(env.DB_URL, text, values);

/** SQL as the superuser. */
export const adminQuery = (text, values) => run(env.ADMIN_DB_URL, text, values);

export const disconnect = () => Promise.all([...clients.values()].map(({ client }) => client.end()));
