// The attackers, by what they are to the victim: strangers of every kind, who may see nothing, and colleagues, who may see a part.
import { randomUUID } from 'node:crypto';
import { CALLERS } from '../access/callers.mjs';
import { query, transaction } from '../access/db.mjs';
import { readExpected } from '../access/expected.mjs';
import { issue } from '../access/keys.mjs';
import { isPrivate } from '../access/world.mjs';
import { env } from '../journeys/support.mjs';
import { until } from '../until.mjs';
import { forgedTokens } from './forged.mjs';
import { newPerson, newSession } from './persons.mjs';
import { tokensOfRows } from './victim.mjs';
import { send } from './wire.mjs';

const bearer = (token) => ({ apikey: env.ANON_KEY, Authorization: `Bearer ${token}` });
const keyed = (secret, origin) => ({ apikey: env.ANON_KEY, 'X-API-Key': secret, ...(origin && { Origin: origin }) });

/** Colleagues: callers of the access matrix, whose table says which rows of the organization they see. */
const COLLEAGUES = ['custom', 'member', 'viewer', 'perskey', 'readkey', 'pubkey'];

/** The victim's people: what names them is the victim's. */
export const VICTIMS = ['owner', 'admin', 'colleague'];

/**
 * Strangers as { name, headers, deep, user, person, refused }. `deep`: tries everything; the others try each table and function.
 * `refused`: every request without exception is answered 401. `person`: comes back when a call has ended it.
 */
export async function strangers(world) {
  const { people } = world;
  const persons = {
    caller: { ...(await newPerson({ owns: true })), owns: true },
    smuggler: { ...(await newPerson({ owns: true })), owns: true },
    unconfirmed: { ...(await newPerson({ confirmed: false })), confirmed: false },
    anonymous: { ...(await newPerson({ anonymous: true })), anonymous: true },
    former: { ...people.removed },
  };
  const keys = await foreignKeys(world);
  const lost = await lostKeys(world);
  const [real, aged] = [await newSession(people.owner.id), await agedToken(people.owner.id)];
  const forged = await forgedTokens({ real: real.token, expired: aged });
  const person = (name, one) => ({ name, headers: bearer(one.token), user: one.id, person: one });
  return [
    { name: 'anon', headers: bearer(env.ANON_KEY), deep: true, depth: 0.2 },
    { name: 'no token', headers: {} },
    // The first keeps its organization, whose rows it writes; the second calls what may end it.
    { name: 'stranger', headers: bearer(people.nonmember.token), user: people.nonmember.id, deep: 'tables', depth: 1 },
    { ...person('caller', persons.caller), deep: 'functions', depth: 1 },
    { ...person('former member', persons.former), deep: true, depth: 0.4 },
    { name: 'service key', headers: keyed(world.keys.otherkey.secret), deep: true, depth: 0.4 },
    { name: 'personal key', headers: keyed(keys.personal) },
    { name: 'reading key', headers: keyed(keys.reading) },
    { name: 'publishable key', headers: keyed(keys.publishable, 'https://app.example.com') },
    { name: 'revoked key', headers: keyed(lost.revoked), refused: true },
    { name: 'expired key', headers: keyed(lost.expired), refused: true },
    { name: 'guessed key', headers: keyed(`kjk_live_${randomUUID().replaceAll('-', '')}000000`), refused: true },
    { name: 'key and token', headers: { ...bearer(people.neighbour.token), 'X-API-Key': world.keys.otherkey.secret } },
    { name: 'ended session', headers: bearer(people.revoked.token), refused: true },
    { name: 'banned user', headers: bearer(people.banned.token), refused: true },
    person('unconfirmed user', persons.unconfirmed),
    person('anonymous user', persons.anonymous),
    ...Object.entries(forged).map(([name, token]) => ({ name: `forged: ${name}`, headers: bearer(token), refused: true })),
    {
      ...person('smuggled headers', persons.smuggler),
      headers: {
        ...bearer(persons.smuggler.token),
        'X-Kijko-Token': real.token,
        'X-Kijko-Key': world.keys.servkey.secret,
        'X-Kijko-Authorization': `Bearer ${real.token}`,
        'X-Kijko-Method': 'GET',
      },
    },
  ];
}

async function agedToken(user) {
  const [{ token }] = await query(
    `select auth_api.access_token(u, s, extract(epoch from now())::bigint - 3600) as token
     from auth.users as u join auth.sessions as s on s.user_id = u.id where u.id = $1 limit 1`,
    [user],
  );
  return token;
}

/** What the product has told a person by notification is the person's, whatever it names. */
export async function withoutOwn(canaries, user) {
  if (!user) return canaries;
  const rows = await query('select to_jsonb(n) as row from public.notifications as n where n.user_id = $1', [user]);
  const own = tokensOfRows({ notifications: rows.map(({ row }) => row) });
  return new Map([...canaries].filter(([token]) => !own.has(token)));
}

const ALL = ['*:read', '*:write', 'skills:execute'];

/** Keys of the stranger's own organization. */
const foreignKeys = ({ people, other }) =>
  issued(people.nonmember.id, other.org, {
    personal: { kind: 'personal', permissions: ALL },
    reading: { kind: 'service', permissions: ['*:read'] },
    publishable: { kind: 'publishable', permissions: ['events:ingest'], origin: 'https://app.example.com' },
  });

/** Keys that the victim's owner has made, and that are none any more. */
async function lostKeys({ people, org }) {
  const keys = await issued(people.owner.id, org, {
    revoked: { kind: 'service', permissions: ALL },
    expired: { kind: 'service', permissions: ALL, seconds: 2 },
  });
  await query(`update public.api_keys set revoked_at = now() where org_id = $1 and name = 'revoked'`, [org]);
  for (const secret of Object.values(keys)) {
    const refused = async () => (await send('GET', '/rest/v1/plans?limit=1', { headers: keyed(secret) })).status === 401;
    await until('a key that is refused', refused, { everyMs: 200 });
  }
  return keys;
}

async function issued(user, org, specs) {
  const answers = await transaction(issue(user, org, specs));
  return Object.fromEntries(answers.flat().map(({ name, secret }) => [name, secret]));
}

/** Colleagues, with what the access matrix hides from them: the tables that they do not read, and the private project. */
export async function colleagues(world, rows, canaries) {
  const { cases } = await readExpected();
  return COLLEAGUES.map((caller) => {
    const { person, key } = CALLERS[caller];
    const visible = Object.entries(rows).flatMap(([table, list]) => {
      const [schema, relation] = table.split('.');
      const word = schema === 'public' ? cases.get(`${relation} select`)?.words.get(caller) : undefined;
      if (word === 'rows') return [[table, list]];
      if (word === 'shared') return [[table, list.filter((row) => !isPrivate(row, world))]];
      const user = world.people[person ?? key.maker].id;
      return word === 'own' ? [[table, list.filter((row) => [row.user_id, row.created_by, row.id].includes(user))]] : [];
    });
    // Answers say in headers what a key may use.
    const own = ['kijko.api_keys', 'public.api_keys'].map((table) => [
      table,
      (rows[table] ?? []).filter(({ id }) => key && id === world.keys[caller].id),
    ]);
    const allowed = new Set([visible, own].flatMap((tables) => [...tokensOfRows(Object.fromEntries(tables))]));
    return {
      name: `colleague: ${caller}`,
      caller,
      headers: key ? keyed(world.keys[caller].secret, key.origin) : bearer(world.people[person].token),
      user: person && world.people[person].id,
      forbidden: new Map([...canaries].filter(([token]) => !allowed.has(token))),
      depth: 0.4,
    };
  });
}

/** The victim's owner: to whom the same reads show what they would show a stranger if they could. */
export const owner = (world, canaries) => ({
  name: 'owner',
  headers: bearer(world.people.owner.token),
  forbidden: canaries,
});
