// Events of webhooks while somebody holds the rows that they need: what makes the event neither waits nor fails, and no event is lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { atOnce, newTenant, one, pool, promptly, whileOpen } from './support.mjs';

async function newEndpoint({ org }) {
  await pool.query(`select kijko.set_limit($1, m, 'lifetime', 100) from unnest(array['webhook_endpoints', 'projects']) as m`, [org]);
  return (await one(`insert into public.webhook_endpoints (org_id, url) values ($1, 'https://race.example.com/') returning id`, [org])).id;
}
const PROJECT = 'insert into public.projects (org_id, name) values ($1, $2)';
const newProject = (org, name) => pool.query(PROJECT, [org, name]);
const names = async (org) =>
  (
    await one(
      `select array_agg(m.payload -> 'data' ->> 'name' order by m.created_at) as names from public.webhook_messages as m where m.org_id = $1`,
      [org],
    )
  ).names;

/** A schedule of the stack may be draining the backlog, too. */
async function made(org, n) {
  await until('the events to be made', async () => {
    await pool.query('select private.webhooks_drain()');
    return (await names(org))?.length === n;
  });
}

for (const [what, statement] of [
  ['its endpoint is being deleted', 'delete from public.webhook_endpoints where id = $1'],
  ['its endpoint is being disabled', 'update public.webhook_endpoints set enabled = false where id = $1'],
  ['its backlog is being drained', 'select private.webhooks_drain() where $1::uuid is not null'],
]) {
  test(`an event does not wait while ${what}, and is made`, async () => {
    const tenant = await newTenant();
    const endpoint = await newEndpoint(tenant);
    await whileOpen(statement, [endpoint], () => promptly(PROJECT, [tenant.org, 'race']));
    await made(tenant.org, 1);
    assert.deepEqual(await names(tenant.org), ['race']);
  });
}

test('events of many sessions at once are all made, once', async () => {
  const tenant = await newTenant();
  const endpoint = await newEndpoint(tenant);
  await atOnce(8, (n) => newProject(tenant.org, `race ${n}`));
  await atOnce(2, () => pool.query('select private.webhooks_drain()'));
  await made(tenant.org, 8);
  const { n } = await one('select count(*)::int as n from private.webhook_requests where endpoint_id = $1', [endpoint]);
  assert.equal(n, 8);
});

test('a deletion of the organization meets its events, and leaves nothing to send', async () => {
  const tenant = await newTenant();
  await newEndpoint(tenant);
  await atOnce(4, (n) =>
    n === 3
      ? pool.query('delete from public.organizations where id = $1', [tenant.org])
      : newProject(tenant.org, `race ${n}`).catch(() => {}),
  );
  await pool.query('select private.webhooks_drain()');
  const { n } = await one(`select count(*)::int as n from kijko.http_requests where org_id = $1 and state in ('pending', 'waiting')`, [
    tenant.org,
  ]);
  assert.equal(n, 0);
  assert.equal((await one('select count(*)::int as n from private.webhook_backlog where organization = $1', [tenant.org])).n, 0);
});
