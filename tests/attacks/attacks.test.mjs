// The attacks of a stranger, and of a colleague who may see a part, on everything that the API shows. tests/attacks/planted.test.mjs
// proves that they find what they look for.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { disconnect } from '../access/db.mjs';
import { functions, relations } from '../access/objects.mjs';
import { env } from '../journeys/support.mjs';
import { Campaign } from './campaign.mjs';
import { Fixture } from './fixture.mjs';
import { SEED, SHARE } from './random.mjs';
import { discover, discoverRoutes, discoverTopics, proxied } from './surface.mjs';
import { closeConnections, timings } from './wire.mjs';

let fixture;
let surface;
let routes;
let topics;
let campaign;

before(async () => {
  fixture = await Fixture.make();
  surface = await discover(discoverers(fixture));
  [routes, topics] = [await discoverRoutes(), await discoverTopics()];
  campaign = await Campaign.start(fixture, surface, { share: SHARE });
});
after(async () => {
  await fixture?.remove();
  closeConnections();
  await disconnect();
});

const discoverers = ({ world }) => [
  { apikey: env.ANON_KEY, Authorization: `Bearer ${env.ANON_KEY}` },
  { apikey: env.ANON_KEY, Authorization: `Bearer ${world.people.nonmember.token}` },
  { apikey: env.ANON_KEY, Authorization: `Bearer ${env.SERVICE_ROLE_KEY}` },
];

function assertNone() {
  const findings = campaign.judge.findings.splice(0);
  assert.equal(findings.length, 0, `seed ${SEED}:\n${findings.map((one) => JSON.stringify(one)).join('\n')}`);
}

test('what is found from outside is all that the database exposes', async (t) => {
  t.diagnostic(
    `seed ${SEED}: KIJKO_ATTACKS_SEED=${SEED} repeats this run; ${SHARE === 1 ? 'all attacks' : 'a sample of the attacks, KIJKO_ATTACKS=full sends all'}`,
  );
  t.diagnostic(
    `${surface.relations.length} tables and views, ${surface.functions.length} functions, ${surface.relationships.length} relationships, ${routes.length} routes, ${topics.length} kinds of topics`,
  );
  const names = (list) => [...new Set(list.map(({ name }) => name))].sort();
  assert.deepEqual(names(surface.relations), names(await relations()));
  assert.deepEqual(names(surface.functions), names(await functions()));
  const roots = new Set(routes.map(({ path }) => path.split('/')[1]));
  assert.deepEqual(
    (await proxied()).filter((root) => root !== 'rest' && !roots.has(root)),
    [],
    'parts of the API of which no route is known',
  );
});

test('strangers read, write and call', async (t) => {
  await campaign.strangers();
  report(t);
  assertNone();
});

test('colleagues read and change what is hidden from them', async (t) => {
  await campaign.colleagues();
  report(t);
  assertNone();
});

test('the routes of login, storage, realtime and functions', async (t) => {
  await campaign.routes(routes);
  report(t);
  assertNone();
});

test('topics of realtime', async (t) => {
  const { names, heard, sockets } = await campaign.topics(topics);
  t.diagnostic(`${names} topics, of which the owner hears ${heard}; ${sockets} sockets`);
  await campaign.unchanged('topics');
  assertNone();
});

test('everything that was found was attacked', () => {
  const subjects = [
    ...surface.relations.map(({ name }) => name),
    ...surface.functions.map(({ name }) => `rpc/${name}`),
    ...surface.relationships.map(({ parent, child }) => `${parent}+${child}`),
    ...routes.map(({ method, path }) => `${method} ${path}`),
    ...topics.map((kind) => `realtime:${kind}`),
  ];
  assert.deepEqual(
    subjects.filter((subject) => !campaign.attacked.has(subject)),
    [],
  );
});

// The last: its reads are the victim's own use, which the stages before would count as a change.
test('the same reads show the owner a canary of each table with rows', async (t) => {
  const seen = await campaign.seenByOwner();
  const expected = surface.relations.map(({ name }) => name).filter((name) => fixture.rows[`public.${name}`]);
  t.diagnostic(`${fixture.canaries.size} canaries in ${Object.keys(fixture.rows).length} tables`);
  assert.deepEqual(
    expected.filter((name) => !seen.has(name)),
    [],
  );
});

function report(t) {
  const { allowed, refused } = campaign.judge.answers;
  t.diagnostic(`${timings.sent} requests so far, ${timings.limited} of them limited by a rate; ${allowed} answers, ${refused} refusals`);
  t.diagnostic(`answers that differ by themselves: ${[...campaign.unsettled].join(', ') || 'none'}`);
  // A figure, no verdict: how long answers about the victim's rows take, and about none.
  t.diagnostic(`median of milliseconds: ${median(timings.real)} for the victim's, ${median(timings.none)} for none`);
}

const median = (list) => [...list].sort((one, other) => one - other)[list.length >> 1]?.toFixed(2);
