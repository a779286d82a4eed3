// The time of an answer must not say whether an address has an account. Times are not compared here: what Postgres counts is. For an
// address with an account and one without, a request writes as many rows into each table, reads each table as often (by an index or
// without one: that is the planner's choice), and hashes as often.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { newNetwork } from './auth_support.mjs';
import { admin, env, newEmail, newUser, signIn } from './support.mjs';

const COUNTED = `
  select format('%s.%s %s', n.nspname, t.relname, v.name) as counted, sum(v.value)::int as value
  from pg_class as c
  left join pg_index as i on i.indexrelid = c.oid
  join pg_class as t on t.oid = coalesce(i.indrelid, c.oid)
  join pg_namespace as n on n.oid = t.relnamespace
  cross join lateral (values
    ('scans', pg_stat_get_xact_numscans(c.oid)), ('inserted', pg_stat_get_xact_tuples_inserted(c.oid)),
    ('updated', pg_stat_get_xact_tuples_updated(c.oid)), ('deleted', pg_stat_get_xact_tuples_deleted(c.oid))
  ) as v (name, value)
  where n.nspname in ('auth', 'auth_api', 'public', 'private', 'kijko') and c.relkind in ('r', 'i', 'p')
  group by 1
  union all
  select 'hashes', coalesce(pg_stat_get_xact_function_calls('extensions.crypt(text, text)'::regprocedure), 0)::int`;

/** Requests in one transaction, which is rolled back, with what each of them did. */
async function counting(run) {
  const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await client.connect();
  const counted = async () => new Map((await client.query(COUNTED)).rows.map(({ counted, value }) => [counted, value]));
  try {
    // One plan for each statement. It is made anew when statistics change: see alike().
    await client.query('set plan_cache_mode = force_generic_plan');
    await client.query(`set track_functions = 'all'`);
    await client.query('begin');
    await run(async (path, body) => {
      const headers = {
        'x-forwarded-for': newNetwork(),
        'x-kijko-method': 'POST',
        'x-kijko-uri': path,
        'x-supabase-api-version': '2024-01-01',
      };
      await client.query(`select set_config('request.headers', $1, true), set_config('response.headers', '', true)`, [
        JSON.stringify(headers),
      ]);
      const before = await counted();
      const { rows } = await client.query('select auth_api.handle($1)::json as body', [JSON.stringify(body)]);
      const did = {};
      for (const [name, value] of await counted()) if (value !== (before.get(name) ?? 0)) did[name] = value - (before.get(name) ?? 0);
      return { body: rows[0].body, did };
    });
  } finally {
    await client.query('rollback');
    await client.end();
  }
}

/** Both requests do the same. What the server does meanwhile can change a plan between them: then they are asked again. */
async function alike(known, unknown) {
  for (let tries = 1; ; tries += 1) {
    const [one, other] = [await known(), await unknown()];
    if (tries === 3) assert.deepEqual(one.did, other.did);
    if (isDeepStrictEqual(one.did, other.did)) return [one, other];
  }
}

const has = (did, name) => assert.ok(did[name] > 0, `${name} in ${JSON.stringify(did)}`);

/** A user with several sessions: how many there are must not show either. */
async function knownAddress() {
  const account = await newUser();
  await Promise.all([1, 2, 3].map(() => signIn(account)));
  return account.email;
}

describe('a request for a mail does the same', () => {
  for (const [name, path, more] of [
    ['recover', '/recover', {}],
    ['recover with PKCE', '/recover', { code_challenge: 'c'.repeat(43), code_challenge_method: 's256' }],
    ['otp', '/otp', {}],
    ['otp that signs nobody up', '/otp', { create_user: false }],
    ['magiclink with PKCE', '/magiclink', { create_user: false, code_challenge: 'c'.repeat(43), code_challenge_method: 's256' }],
    ['resend of a confirmation', '/resend', { type: 'signup' }],
    ['resend of a change of address', '/resend', { type: 'email_change' }],
  ]) {
    test(name, async () => {
      const emails = { known: await knownAddress(), unknown: newEmail('nobody') };
      await counting(async (ask) => {
        // The first request of a session loads what later ones find in its caches.
        await ask(path, { email: newEmail('nobody'), ...more });
        await ask(path, { email: await knownAddress(), ...more });
        const [known, unknown] = await alike(
          () => ask(path, { email: emails.known, ...more }),
          () => ask(path, { email: emails.unknown, ...more }),
        );
        assert.deepEqual([known.body, unknown.body], [{}, {}]);
        for (const table of ['auth.users', 'auth.one_time_tokens', 'auth_api.one_time_codes', 'private.mail_messages'])
          has(known.did, `${table} inserted`);
      });
    });
  }
});

describe('a wrong code does the same', () => {
  for (const [name, mailed] of [
    ['for an address that asked for a mail', true],
    ['for one that did not', false],
  ]) {
    test(name, async () => {
      const emails = { known: await knownAddress(), unknown: newEmail('nobody') };
      await counting(async (ask) => {
        const verify = (email) => ask('/verify', { email, token: '000000', type: 'email' });
        for (const email of [await knownAddress(), newEmail('nobody')]) {
          if (mailed) await ask('/recover', { email });
          await verify(email);
        }
        if (mailed) for (const email of Object.values(emails)) await ask('/recover', { email });
        for (let tries = 1; tries <= 7; tries += 1) {
          const [known, unknown] = await alike(
            () => verify(emails.known),
            () => verify(emails.unknown),
          );
          assert.deepEqual([known.body.code, unknown.body.code], ['otp_expired', 'otp_expired']);
          if (tries > 1) has(known.did, 'auth_api.code_attempts updated');
        }
      });
    });
  }
});

describe('a wrong password does the same', () => {
  test('for an address with an account, up to the lock and its mail', async () => {
    const known = newEmail('known');
    await admin().auth.admin.createUser({ email: known, password: 'heron-42', email_confirm: true });
    await counting(async (ask) => {
      const signInAs = (email) => ask('/token?grant_type=password', { email, password: 'wrong' });
      for (const email of [newEmail('nobody'), newEmail('nobody')]) await signInAs(email);
      const unknown = newEmail('nobody');
      for (let tries = 1; tries <= 6; tries += 1) {
        const answers = await alike(
          () => signInAs(known),
          () => signInAs(unknown),
        );
        assert.deepEqual(answers[0].body, answers[1].body, `try ${tries}`);
        if (tries === 1) has(answers[0].did, 'hashes');
      }
    });
  });
});
