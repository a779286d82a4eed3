// A signed-in user of the benchmark.
import { randomUUID } from 'node:crypto';

/** A new user's token. */
export async function newUser() {
  const response = await fetch(`${process.env.API_URL}/auth/v1/signup`, {
    method: 'POST',
    headers: { apikey: process.env.ANON_KEY, 'Content-Type': 'application/json' },
    body: JSON.stringify({ email: `bench-${randomUUID()}@example.com`, password: randomUUID() }),
  });
  const { access_token } = await response.json();
  if (!access_token) throw new Error(`no token: ${response.status}`);
  return access_token;
}
