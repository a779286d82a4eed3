// What ends subscriptions: each change of access is notified to the service of realtime, by its own name.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';
import { createKey } from './api_keys_support.mjs';
import { join, newPerson, newTeam, ok } from './domain.mjs';
import { env, sql } from './support.mjs';

const listener = new pg.Client({ connectionString: env.DB_URL });
const heard = [];
let team;
before(async () => {
  team = await newTeam();
  await listener.connect();
  listener.on('notification', ({ payload }) => heard.push(JSON.parse(payload)));
  await listener.query('listen kijko_realtime_access');
});
after(() => listener.end());

/** The change is notified, with nothing but the one id. */
async function notifies(name, value, change) {
  heard.length = 0;
  await change();
  const found = await until(`${name} to be notified`, () => heard.find((payload) => payload[name] === value));
  assert.deepEqual(found, { [name]: value });
}

test('a new member, a changed role, and a removed member', async () => {
  const guest = await newPerson();
  await notifies('user_id', guest.user.id, () => join(guest, team.orgId, 'viewer', team.owner));
  const { member, owner } = team;
  const membership = () => owner.client.from('memberships');
  const mine = (query) => ok(query.eq('user_id', member.user.id).eq('org_id', team.orgId).select());
  await notifies('user_id', member.user.id, () => mine(membership().update({ role: 'viewer' })));
  await notifies('user_id', member.user.id, () => mine(membership().delete()));
});

test('a custom role whose permissions change', async () => {
  const role = await ok(
    team.owner.client
      .from('custom_roles')
      .insert({ org_id: team.orgId, name: 'Bare', permissions: ['projects:read'] })
      .select()
      .single(),
  );
  await notifies('org_id', team.orgId, () =>
    ok(
      team.owner.client
        .from('custom_roles')
        .update({ permissions: ['skills:read'] })
        .eq('id', role.id)
        .select(),
    ),
  );
});

test('an ended session, and a banned user', async () => {
  const [session] = await ok(team.viewer.client.rpc('list_sessions'));
  await notifies('session_id', session.id, () => ok(team.viewer.client.rpc('end_session', { session_id: session.id })));
  await notifies('user_id', team.viewer.user.id, () =>
    sql(`update auth.users set banned_until = now() + interval '1 hour' where id = $1`, [team.viewer.user.id]),
  );
});

test('a key that is narrowed, and one that is revoked', async () => {
  const key = await createKey(team.owner, { permissions: ['projects:read', 'skills:read'] });
  await notifies('api_key_id', key.id, () =>
    ok(
      team.owner.client
        .from('api_keys')
        .update({ permissions: ['skills:read'] })
        .eq('id', key.id)
        .select(),
    ),
  );
  await notifies('api_key_id', key.id, () => ok(team.owner.client.rpc('revoke_api_key', { id: key.id })));
});

test('a project that becomes private, loses a member, and is deleted', async () => {
  const { owner, admin } = team;
  const project = await ok(owner.client.from('projects').insert({ org_id: team.orgId, name: 'Once open' }).select().single());
  await notifies('org_id', team.orgId, () =>
    ok(owner.client.from('projects').update({ visibility: 'private' }).eq('id', project.id).select()),
  );
  await ok(owner.client.from('project_members').insert({ org_id: team.orgId, project_id: project.id, user_id: admin.user.id }));
  await notifies('user_id', admin.user.id, () =>
    ok(owner.client.from('project_members').delete().eq('project_id', project.id).eq('user_id', admin.user.id).select()),
  );
  await notifies('org_id', team.orgId, () => ok(owner.client.from('projects').delete().eq('id', project.id).select()));
});

test('what changes no access is not notified', async () => {
  heard.length = 0;
  const project = await ok(team.owner.client.from('projects').insert({ org_id: team.orgId, name: 'Plain' }).select().single());
  await ok(team.owner.client.from('projects').update({ name: 'Renamed' }).eq('id', project.id).select());
  await notifies('org_id', team.orgId, () => ok(team.owner.client.from('projects').delete().eq('id', project.id).select()));
  assert.equal(heard.filter(({ org_id }) => org_id === team.orgId).length, 1);
});
