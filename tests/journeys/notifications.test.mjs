// Notifications as a frontend uses them: sending, the list with its cursor, reading, preferences.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createKey } from './api_keys_support.mjs';
import { assertAnonymousSeesNothing, call, newPerson, newTeam, ok, refused, transaction, unaffected } from './domain.mjs';
import { admin, http, sql } from './support.mjs';

let team;
const notify = (person, fields) => person.client.rpc('notify', { type: 'custom.deploy', title: 'Deployed', ...fields });
const list = (person, fields = {}) => ok(person.client.rpc('list_notifications', fields));
const post = (name, body, headers = {}) =>
  http('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json', ...headers } });
const unread = (person) => ok(person.client.rpc('unread_count'));

before(async () => {
  team = await newTeam();
  await ok(team.admin.client.from('notification_types').insert({ name: 'custom.deploy', description: 'A deployment' }));
});

describe('who sends', () => {
  test('unauthenticated callers see and send nothing', async () => {
    await assertAnonymousSeesNothing(['notifications', 'notification_types']);
    for (const name of ['notify', 'list_notifications', 'unread_count', 'mark_read', 'mark_seen', 'list_notification_preferences']) {
      const answer = await post(name, name === 'notify' ? { type: 'custom.deploy', title: 'x' } : {});
      assert.equal(answer.status, 401, `${name}: ${answer.text}`);
    }
  });

  test('a non-member sends nothing and sees nothing', async () => {
    await refused(notify(team.nonMember, {}).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    const sent = await ok(notify(team.admin, { title: 'Not for strangers' }));
    assert.deepEqual(await ok(team.nonMember.client.from('notifications').select('id').eq('id', sent.id)), []);
    assert.equal((await list(team.nonMember)).length, 0);
    await refused(notify(team.admin, { user_id: team.nonMember.user.id }), 404, 'not_found');
  });

  test('viewers and members do not, and nobody writes the table', async () => {
    for (const person of [team.viewer, team.member]) await refused(notify(person, {}), 403, 'permission_denied');
    await unaffected(
      team.owner.client.from('notifications').insert({ audience: 'organization', type: 'custom.deploy', title: 'x' }).select(),
    );
    await unaffected(team.owner.client.from('notifications').update({ title: 'x' }).eq('org_id', team.orgId).select());
    await unaffected(team.owner.client.from('notifications').delete().eq('org_id', team.orgId).select());
  });

  test('organizations send their own types only, and links that are none are refused', async () => {
    await refused(notify(team.admin, { type: 'platform.announcement' }), 403, 'permission_denied');
    await refused(notify(team.admin, { type: 'custom.unknown' }), 422, 'invalid_input');
    for (const link of ['javascript:alert(1)', '//evil.test', 'http://a.test', '/a"onclick="x'])
      await refused(notify(team.admin, { link }), 422, 'invalid_input');
  });

  test('a key with notifications:write does, one that reads does not', async () => {
    const key = async (permissions) => (await createKey(team.owner, { permissions })).secret;
    const send = async (permissions) =>
      post('notify', { type: 'custom.deploy', title: 'By a key' }, { apikey: '', Authorization: `Bearer ${await key(permissions)}` });
    const answer = await send(['notifications:write']);
    assert.deepEqual([answer.status, answer.body.title], [200, 'By a key'], answer.text);
    assert.equal((await send(['*:read'])).status, 403);
    const counted = await post('unread_count', {}, { apikey: '', Authorization: `Bearer ${await key(['*:read'])}` });
    assert.deepEqual([counted.status, counted.body.code], [403, 'permission_denied'], 'a key is nobody who reads');
  });

  test('the back office does for every organization, and to everyone', async () => {
    const news = { type: 'platform.announcement', title: `News ${randomUUID()}`, org_id: '00000000-0000-4000-8000-000000000001' };
    await ok(admin().rpc('notify', news));
    assert.ok((await list(team.nonMember)).some(({ title }) => title === news.title));
    await sql('delete from public.notifications where title = $1', [news.title]);
    await refused(admin().rpc('notify', { ...news, org_id: randomUUID() }), 404, 'not_found');
  });

  test('the same key is the same notification, also from two calls at once', async () => {
    const fields = { title: 'Once', dedupe_key: randomUUID() };
    const sent = await Promise.all([1, 2, 3].map(() => ok(notify(team.admin, fields))));
    assert.equal(new Set(sent.map(({ id }) => id)).size, 1);
  });
});

describe('a reader', () => {
  test('has it unread, sees it, reads it and archives it; others do not', async () => {
    const { viewer, member } = team;
    const before = [await unread(viewer), await unread(member)];
    const { id } = await ok(notify(team.admin, { title: 'Release 7', body: 'All green', link: '/releases/7', data: { release: 7 } }));
    const [row] = await list(viewer, { limit: 1 });
    assert.deepEqual([row.id, row.title, row.link, row.data, row.read_at], [id, 'Release 7', '/releases/7', { release: 7 }, null]);
    assert.equal(await unread(viewer), before[0] + 1);
    assert.equal(await ok(viewer.client.rpc('mark_read', { ids: [id] })), before[0]);
    assert.equal(await ok(viewer.client.rpc('mark_read', { ids: [id], read: false })), before[0] + 1);
    assert.equal(await ok(viewer.client.rpc('archive_notifications', { ids: [id] })), before[0]);
    assert.ok(!(await list(viewer)).some((n) => n.id === id));
    assert.equal(await unread(member), before[1] + 1, 'a reader reads for themselves');
    const counted = await http('GET', '/rest/v1/rpc/unread_count', { token: member.token });
    assert.deepEqual([counted.status, counted.body], [200, before[1] + 1], 'GET counts as well');
  });

  test('who marks at once from several windows is counted once', async () => {
    const person = await newPerson('TEAMS');
    await ok(person.client.from('notification_types').insert({ name: 'custom.many' }));
    const ids = [];
    for (let n = 0; n < 20; n += 1) ids.push((await ok(notify(person, { type: 'custom.many', title: `n ${n}` }))).id);
    const answers = await Promise.all([
      ...Array.from({ length: 8 }, (_, n) => call(person, 'mark_read', { ids: n % 2 ? ids.slice(0, 15) : ids.slice(0, 15).reverse() })),
      ...Array.from({ length: 5 }, () => call(person, 'notify', { type: 'custom.many', title: 'meanwhile' })),
    ]);
    assert.deepEqual(
      answers.filter(({ status }) => status !== 200).map(({ text }) => text),
      [],
    );
    assert.equal(await unread(person), 10);
    const { n } = (await sql('select private.notifications_unread($1, false) as n', [person.user.id]))[0];
    assert.equal(n, 10, 'as many as there are');
  });
});

describe('the cursor', () => {
  test('finds each notification once, also one that commits late', async () => {
    const person = await newPerson('TEAMS');
    await ok(person.client.from('notification_types').insert({ name: 'custom.deploy' }));
    await ok(notify(person, { title: 'first' }));
    let cursor = (await list(person))[0].cursor;
    const seen = [];
    const follow = async (limit = 2) => {
      for (;;) {
        const page = await list(person, { after_cursor: cursor, limit });
        if (page.length === 0) return;
        seen.push(...page.map(({ title }) => title));
        cursor = page.at(-1).cursor;
      }
    };
    const send = (query, title) =>
      query(`insert into public.notifications (org_id, audience, type, title) values ($1, 'organization', 'custom.deploy', $2)`, [
        person.orgId,
        title,
      ]);
    await follow();
    assert.deepEqual(seen, []);
    await transaction(async (late) => {
      await send(late, 'late');
      for (let n = 0; n < 5; n += 1) await ok(notify(person, { title: `n ${n}` }));
      await follow();
      await ok(notify(person, { title: 'after' }));
      await follow(1);
      assert.deepEqual(seen.toSorted(), ['after', 'n 0', 'n 1', 'n 2', 'n 3', 'n 4'], 'what has committed');
    });
    await follow();
    assert.deepEqual(seen.toSorted(), ['after', 'late', 'n 0', 'n 1', 'n 2', 'n 3', 'n 4'], 'and what committed late');
    assert.equal(seen.length, 7, 'each once');
    await refused(person.client.rpc('list_notifications', { after_cursor: 'x' }), 422, 'invalid_input');
  });

  test('pages of older ones have each once, newest first', async () => {
    const titles = [];
    for (let before_id; ; ) {
      const page = await list(team.owner, { limit: 2, ...(before_id && { before_id }) });
      if (page.length === 0) break;
      titles.push(...page.map(({ id }) => id));
      before_id = page.at(-1).id;
    }
    assert.equal(new Set(titles).size, titles.length);
    assert.deepEqual(
      titles,
      (await list(team.owner, { limit: 200 })).map(({ id }) => id),
    );
  });
});

describe('preferences', () => {
  test('are evaluated when it is sent, and a removed member gets nothing more', async () => {
    const { member } = team;
    await ok(member.client.rpc('set_notification_preference', { type: 'custom.deploy', in_app: false }));
    const muted = await ok(notify(team.admin, { title: 'Muted' }));
    assert.ok(!(await list(member)).some(({ id }) => id === muted.id));
    await ok(member.client.rpc('set_notification_preference', { type: 'custom.deploy' }));
    const mine = (await ok(member.client.rpc('list_notification_preferences'))).find(
      ({ type, org_id }) => type === 'custom.deploy' && org_id === team.orgId,
    );
    assert.deepEqual([mine.in_app, mine.mail, mine.is_chosen], [true, 'off', false]);
    const { id } = await ok(notify(team.admin, { title: 'For you', user_id: member.user.id }));
    assert.ok((await list(member)).some((n) => n.id === id));
    await ok(member.client.rpc('leave_organization', { org_id: team.orgId }));
    assert.ok(!(await list(member)).some((n) => n.org_id === team.orgId));
    assert.deepEqual(await ok(member.client.from('notifications').select('id').eq('org_id', team.orgId)), []);
    assert.equal(await unread(member), (await list(member, { limit: 200 })).filter(({ read_at }) => !read_at).length);
  });

  test('an invitation reaches its invitee in the product, without the token', async () => {
    const guest = await newPerson();
    await ok(team.owner.client.rpc('invite_member', { email: guest.email, role: 'viewer' }));
    await sql('select private.notifications_emit_invitations()');
    const rows = await list(guest);
    assert.deepEqual(
      rows.map(({ type, org_id }) => [type, org_id]),
      [['invitation.received', '00000000-0000-4000-8000-000000000001']],
    );
    assert.doesNotMatch(JSON.stringify(rows), /kji_/);
  });
});
