// Plants leaks, and attacks what each of them is at.
import { query } from '../access/db.mjs';
import { env } from '../journeys/support.mjs';
import { reloadApi } from '../reload.mjs';
import { until } from '../until.mjs';
import { Campaign } from './campaign.mjs';
import { discover, discoverRoutes, discoverTopics } from './surface.mjs';
import { send } from './wire.mjs';

const user = (fixture) => ({ apikey: env.ANON_KEY, Authorization: `Bearer ${fixture.world.people.nonmember.token}` });
const anon = { apikey: env.ANON_KEY, Authorization: `Bearer ${env.ANON_KEY}` };

/** As the owner of the domain, whose functions and views these become. */
export const asOwner = (text) => query(`set role postgres; ${text}; reset role`);

/** The document asks the database, but calls are looked up in what PostgREST has read. */
async function isCallable(fn) {
  if (!fn) return false;
  const body = Object.fromEntries(fn.args.map(({ name }) => [name, null]));
  return (await send('POST', `/rest/v1/rpc/${fn.name}`, { headers: anon, body })).body?.code !== 'PGRST202';
}

/** A subject as { part, isMeant }: the part of the surface that has it, and which element of the part it is. */
function meaning(subject) {
  const [parent, child] = subject.split('+');
  if (child) return { part: 'relationships', isMeant: (one) => one.parent === parent && one.child === child };
  const name = parent.replace('rpc/', '');
  return { part: name === parent ? 'relations' : 'functions', isMeant: (one) => one.name === name };
}

/** Makes everything that these leaks add to the API, and finds it from outside. */
export async function plantShown(fixture, plants) {
  for (const { up } of plants) await asOwner(up);
  await reloadApi();
  const subjects = plants.map(({ subject }) => subject);
  const parents = subjects.filter((subject) => subject.includes('+')).map((subject) => subject.split('+')[0]);
  return until('the planted objects in the document', async () => {
    const surface = await discover([anon, user(fixture)], { parents });
    for (const subject of subjects) {
      const { part, isMeant } = meaning(subject);
      const found = surface[part].find(isMeant);
      if (!found || (part === 'functions' && !(await isCallable(found)))) return false;
    }
    return surface;
  });
}

export async function takeOut(plants) {
  for (const { down } of plants) await asOwner(down);
}

/** The surface with only this subject of it. */
function surfaceOf(surface, subject) {
  const nothing = { relations: [], functions: [], relationships: [] };
  if (!subject) return nothing;
  const { part, isMeant } = meaning(subject);
  return { ...nothing, ...(part === 'relationships' && { relations: surface.relations }), [part]: surface[part].filter(isMeant) };
}

const STAGES = {
  reads: (campaign, only) => campaign.strangers({ only, parts: ['reads'] }),
  writes: (campaign, only) => campaign.strangers({ only, parts: ['writes'] }),
  calls: (campaign, only) => campaign.strangers({ only, parts: ['calls'] }),
  embeds: (campaign, only) => campaign.strangers({ only, parts: ['embeds'] }),
  colleagues: (campaign, only) => campaign.colleagues({ only }),
  routes: async (campaign, only) =>
    campaign.routes(
      (await discoverRoutes()).filter(({ path }) => path.startsWith('/storage/v1')),
      { only },
    ),
  topics: async (campaign, only) => {
    await campaign.topics(await discoverTopics(), { only });
    await campaign.unchanged('topics');
  },
};

/** What the attacks find while the leak is there, and those of these findings that say so. */
export async function attackPlanted(fixture, surface, { up, down, shown, subject, part, by, finds }) {
  if (!shown) await asOwner(up);
  try {
    const campaign = await Campaign.start(fixture, surfaceOf(surface, subject));
    await STAGES[part](campaign, (name) => name === (by ?? finds.attacker));
    const { findings } = campaign.judge;
    const isIt = (one) =>
      one.kind === finds.kind && one.attacker === finds.attacker && (!subject || one.kind === 'changed' || one.subject === subject);
    return { findings, found: findings.filter(isIt) };
  } finally {
    if (!shown) await asOwner(down);
  }
}
