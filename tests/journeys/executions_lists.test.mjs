// Executions in lists, in detail, several at once, and counted: what a frontend shows of them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import {
  anonymous,
  assertAnonymousSeesNothing,
  ended,
  execute,
  newPerson,
  newSkill,
  newTeam,
  ok,
  parkedExecution,
  refused,
  until,
} from './domain.mjs';
import { sql } from './support.mjs';

const CALLS = {
  execution_detail: (id) => ({ id }),
  retry_executions: (id) => ({ ids: [id] }),
  cancel_executions: (id) => ({ ids: [id] }),
  execution_stats: () => ({}),
};

/** The pages of a list from the newest to the oldest, as the guide reads them; `between` runs after each page. */
async function pagesOf(client, orgId, size, { filter = (query) => query, between = async () => {} } = {}) {
  const pages = [];
  for (let last = null; ; ) {
    let query = filter(
      client
        .from('executions')
        .select('id, created_at')
        .eq('org_id', orgId)
        .order('created_at', { ascending: false })
        .order('id', { ascending: false })
        .limit(size),
    );
    if (last) query = query.lte('created_at', last.created_at).or(`created_at.lt."${last.created_at}",id.lt.${last.id}`);
    const page = await ok(query);
    if (page.length === 0) return pages;
    pages.push(page.map(({ id }) => id));
    last = page.at(-1);
    await between();
  }
}

describe('executions for a frontend', () => {
  let team;
  let skill;
  let run;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.owner);
    run = await ended(team.member, (await ok(execute(team.member, skill.id, { n: 'one two' }))).id);
  });

  test('an unauthenticated caller sees and calls nothing', async () => {
    await assertAnonymousSeesNothing(['executions', 'execution_text_chunks']);
    for (const [name, body] of Object.entries(CALLS)) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, {
        body: body(run.id),
        headers: { 'Content-Type': 'application/json' },
      });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
    }
  });

  test('a non-member finds nothing', async () => {
    const { client } = team.nonMember;
    await refused(client.rpc('execution_detail', { id: run.id }), 404, 'not_found');
    for (const name of ['retry_executions', 'cancel_executions']) {
      const [outcome] = await ok(client.rpc(name, { ids: [run.id] }));
      assert.deepEqual([outcome.id, outcome.execution, outcome.error.code], [run.id, null, 'not_found']);
      const [nothing] = await ok(client.rpc(name, { ids: [randomUUID()] }));
      assert.deepEqual(nothing.error, outcome.error, 'the same answer as for an id that does not exist');
    }
    await refused(client.rpc('execution_stats').setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    const [own] = await ok(client.rpc('execution_stats', { skill_id: skill.id }));
    assert.equal(own.runs, 0);
  });

  test('a viewer reads all of it and changes nothing', async () => {
    const { client } = team.viewer;
    const detail = await ok(client.rpc('execution_detail', { id: run.id }));
    assert.deepEqual([detail.id, detail.skill.name, detail.text, detail.attempts.length], [run.id, 'Echo', null, 1]);
    assert.deepEqual([detail.attempts[0].outcome, detail.events[0].event, detail.output.text], ['succeeded', 'queued', 'Say one two']);
    const [all] = await ok(client.rpc('execution_stats'));
    assert.equal(all.runs, 1);
    for (const name of ['retry_executions', 'cancel_executions']) {
      const [outcome] = await ok(client.rpc(name, { ids: [run.id] }));
      assert.equal(outcome.error.code, 'permission_denied');
    }
  });

  test('an API key does what it may', async () => {
    const { secret } = await createKey(team.owner, { permissions: ['executions:read'] });
    const key = keyClient(secret);
    assert.equal((await ok(key.rpc('execution_detail', { id: run.id }))).id, run.id);
    assert.ok((await ok(key.rpc('execution_stats')))[0].runs >= 1);
    assert.equal((await ok(key.rpc('cancel_executions', { ids: [run.id] })))[0].error.code, 'permission_denied');
    const { secret: other } = await createKey(team.owner, { permissions: ['skills:read'] });
    await refused(keyClient(other).rpc('execution_stats'), 403, 'permission_denied');
    await refused(keyClient(other).rpc('execution_detail', { id: run.id }), 404, 'not_found');
  });

  test('several at once: each has its result, and each refusal its reason', async () => {
    const parked = await parkedExecution(skill);
    const ids = [run.id, parked.id, randomUUID()];
    const cancelled = await ok(team.member.client.rpc('cancel_executions', { ids }));
    assert.deepEqual(
      cancelled.map(({ id, execution, error }) => [id, execution?.status ?? error.code]),
      [
        [ids[0], 'conflict'],
        [ids[1], 'cancelled'],
        [ids[2], 'not_found'],
      ],
    );
    assert.deepEqual(Object.keys(cancelled[0].error).sort(), ['code', 'details', 'hint', 'message']);
    const retried = await ok(team.member.client.rpc('retry_executions', { ids }));
    assert.deepEqual(
      retried.map(({ execution, error }) => execution?.retry_of ?? error.code),
      ['conflict', parked.id, 'not_found'],
    );
    assert.equal((await ended(team.member, retried[1].execution.id)).trigger, 'retry');
    for (const wrong of [[], [run.id, run.id], Array.from({ length: 101 }, () => randomUUID()), [null]]) {
      await refused(team.member.client.rpc('retry_executions', { ids: wrong }), 422, 'invalid_input');
    }
  });

  test('pages by keyset have each execution once, also with equal times and while others are queued', async () => {
    const person = await newPerson('PRO');
    const own = await newSkill(person);
    await sql(
      `insert into public.executions (org_id, skill_id, created_at, finished_at, status, trigger)
       select $1, $2, '2026-01-01'::timestamptz + (n / 4) * interval '1 microsecond', now(), case n % 3 when 0 then 'failed' else 'succeeded' end, 'manual'
       from generate_series(1, 30) as n`,
      [person.orgId, own.id],
    );
    const all = (await ok(person.client.from('executions').select('id').eq('org_id', person.orgId))).map(({ id }) => id);
    const between = () => parkedExecution(own);
    const pages = await pagesOf(person.client, person.orgId, 7, { between });
    assert.deepEqual(
      pages.map((page) => page.length),
      [7, 7, 7, 7, 2],
    );
    assert.deepEqual(pages.flat().sort(), all.sort());
    const failed = await pagesOf(person.client, person.orgId, 3, { filter: (query) => query.eq('status', 'failed') });
    assert.equal(new Set(failed.flat()).size, 10);
  });

  test('each filter of the guide', async () => {
    const list = () => team.viewer.client.from('executions').select('id').eq('org_id', team.orgId);
    const has = async (query, wanted) =>
      assert.equal(
        (await ok(query)).some(({ id }) => id === run.id),
        wanted,
      );
    await has(list().eq('skill_id', skill.id), true);
    await has(list().eq('skill_id', randomUUID()), false);
    for (const column of ['habit_id', 'reflex_id', 'project_id']) await has(list().eq(column, randomUUID()), false);
    await has(list().eq('status', 'succeeded'), true);
    await has(list().eq('status', 'failed'), false);
    await has(list().eq('trigger', 'manual'), true);
    await has(list().eq('created_by', team.member.user.id), true);
    await has(list().eq('created_by', team.viewer.user.id), false);
    await has(list().gte('cost_microusd', 0), true);
    await has(list().gte('cost_microusd', 1_000_000), false);
    await has(list().gte('created_at', run.created_at).lt('created_at', '2200-01-01'), true);
    await has(list().lt('created_at', run.created_at), false);
  });

  test('statistics by period count what has ended, in a zone', async () => {
    const hours = await ok(team.viewer.client.rpc('execution_stats', { period: 'hour', timezone: 'Asia/Kathmandu', skill_id: skill.id }));
    assert.equal(hours.reduce((sum, hour) => sum + hour.succeeded, 0) >= 1, true);
    assert.ok(hours.every(({ period_start: start }) => new Date(start).getUTCMinutes() === 15));
    const bySkill = await ok(team.viewer.client.rpc('execution_stats', { by: 'skill' }));
    assert.deepEqual(
      bySkill.map(({ value }) => value),
      [skill.id],
    );
    await refused(team.viewer.client.rpc('execution_stats', { timezone: 'Mars' }), 422, 'invalid_timezone');
    await refused(team.viewer.client.rpc('execution_stats', { period: 'year' }), 422, 'invalid_input');
  });

  test('the text of a running execution can be read while it grows, and its output replaces it', async () => {
    const slow = await newSkill(team.owner, { prompt_template: '{{ n }}', parameters: { delay_ms: 6_000 } });
    const { id } = await ok(execute(team.owner, slow.id, { n: Array.from({ length: 40 }, (_, n) => `word${n}`).join(' ') }));
    const textOf = async (person) =>
      (await ok(person.client.from('execution_text_chunks').select('text').eq('org_id', team.orgId).eq('execution_id', id).order('seq')))
        .map(({ text }) => text)
        .join('');
    await until('the text begins', async () => (await textOf(team.viewer)).startsWith('word0 '), { everyMs: 200 });
    assert.equal(await textOf(team.nonMember), '');
    const done = await ended(team.owner, id);
    assert.equal(done.status, 'succeeded', done.error);
    assert.match(done.output.text, /word39/);
    assert.equal(await textOf(team.viewer), '');
  });
});
