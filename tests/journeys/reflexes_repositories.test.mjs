// Reflexes that events of the database and webhooks of repositories fire, over HTTP.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { ended, execute, newPerson, newSkill, ok, refused, unaffected, until } from './domain.mjs';
import { newReflex, post, SIGNERS } from './reflexes_support.mjs';
import { sql } from './support.mjs';

const deliveriesTo = async (reflex) =>
  sql('select * from public.reflex_deliveries where reflex_id = $1 order by created_at, id', [reflex.id]);

describe('the webhook of a repository', () => {
  let person, skill, repository, secret;
  before(async () => {
    person = await newPerson('TEAMS');
    skill = await newSkill(person);
    repository = await ok(
      person.client
        .from('repositories')
        .insert({ clone_url: `https://github.com/acme/r-${randomUUID()}` })
        .select()
        .single(),
    );
    ({ secret } = await ok(person.client.rpc('rotate_repository_secret', { repository_id: repository.id })));
  });
  const deliver = async (payload, options = {}) => {
    const body = JSON.stringify(payload);
    return post(`github/${options.repository ?? repository.id}`, body, await SIGNERS.github(options.secret ?? secret, body, options));
  };

  test('a signed push fires the reflexes that listen, once', async () => {
    const reflex = await newReflex(person, {
      skill_id: skill.id,
      source: 'repository',
      repository_id: repository.id,
      event: 'push',
      input_mapping: { n: '{{ payload.n }}' },
    });
    assert.equal(reflex.signing_secret, null, 'it has no URL of its own');
    const payload = { ref: 'refs/heads/main', n: randomUUID() };
    const id = randomUUID();
    const answer = await deliver(payload, { id });
    assert.deepEqual([answer.status, answer.body.status], [202, 'received'], answer.text);
    const stored = await ok(person.client.from('webhook_deliveries').select('*').eq('id', answer.body.delivery_id).single());
    assert.deepEqual([stored.status, stored.event, stored.delivery_id, stored.reflex_count], ['completed', 'push', id, 1]);
    assert.deepEqual(stored.payload, payload);
    await until('the delivery to be processed', async () => (await deliveriesTo(reflex))[0]?.status === 'queued');
    const [{ execution_id: execution }] = await deliveriesTo(reflex);
    assert.deepEqual((await ended(person, execution)).input, { n: payload.n });
    for (const again of [id, randomUUID()]) assert.equal((await deliver(payload, { id: again })).body.status, 'duplicate');
    assert.equal((await deliveriesTo(reflex)).length, 1);
    await ok(person.client.from('reflexes').delete().eq('id', reflex.id));
  });

  test('what nothing listens to is kept and ignored', async () => {
    const answer = await deliver({ zen: randomUUID() }, { event: 'ping' });
    const stored = await ok(person.client.from('webhook_deliveries').select('status, event').eq('id', answer.body.delivery_id).single());
    assert.deepEqual(stored, { status: 'ignored', event: 'ping' });
  });

  test('a forged signature and an unknown repository get one answer, and store nothing', async () => {
    const count = async () =>
      (await sql('select count(*)::int as n from public.webhook_deliveries where repository_id = $1', [repository.id]))[0].n;
    const there = await count();
    const unverified = await ok(
      person.client
        .from('repositories')
        .insert({ clone_url: `https://github.com/acme/r-${randomUUID()}` })
        .select()
        .single(),
    );
    const answers = [
      await deliver({}, { secret: 'somebody else' }),
      await deliver({}, { repository: randomUUID() }),
      await deliver({}, { repository: 'nonsense' }),
      // Before a secret is made nothing is accepted.
      await deliver({}, { repository: unverified.id }),
      await post(`github/${repository.id}`, '{}'),
    ];
    for (const { status, body } of answers) assert.deepEqual([status, body], [400, answers[0].body]);
    assert.equal(answers[0].body.code, 'invalid_signature');
    assert.equal(await count(), there);
  });

  test('another organization neither listens nor reads', async () => {
    const bob = await newPerson();
    const theirs = await newSkill(bob);
    await refused(
      bob.client.from('reflexes').insert({ name: 'Spy', skill_id: theirs.id, source: 'repository', repository_id: repository.id }),
      404,
      'not_found',
    );
    await unaffected(bob.client.from('webhook_deliveries').select().eq('repository_id', repository.id));
  });
});

describe('an event of the database', () => {
  test('an execution that ends runs a skill, and a chain of reflexes ends', async () => {
    const person = await newPerson('PRO');
    const skill = await newSkill(person);
    const reflex = await newReflex(person, {
      skill_id: skill.id,
      source: 'event',
      event: 'execution.finished',
      filter: "payload.status == 'succeeded'",
      input_mapping: { n: '{{ payload.id }}' },
    });
    const first = await ok(execute(person, skill.id, { n: '1' }));
    await until('the chain to end', async () => (await deliveriesTo(reflex)).some(({ status }) => status === 'refused'));
    const deliveries = await ok(person.client.from('reflex_deliveries').select('status, depth, error_code').order('depth'));
    assert.deepEqual(
      deliveries.map(({ status, depth }) => [status, depth]),
      [...[1, 2, 3, 4, 5].map((depth) => ['queued', depth]), ['refused', 6]],
    );
    assert.equal(deliveries.at(-1).error_code, 'chain_too_deep');
    const executions = await ok(person.client.from('executions').select('depth, input').order('depth'));
    assert.equal(executions.length, 6);
    assert.equal(executions[1].input.n, first.id);
    const stats = await ok(person.client.rpc('reflex_stats', { reflex_id: reflex.id }));
    assert.deepEqual([stats.runs, stats.succeeded], [5, 5]);
  });

  test('an uploaded file runs a skill: each version once, and nothing else does', async () => {
    const person = await newPerson('PRO');
    const other = await newPerson('PRO');
    const listening = { source: 'event', event: 'file.uploaded', input_mapping: { n: '{{ payload.path }} {{ payload.version }}' } };
    const [reflex, strange] = await Promise.all(
      [person, other].map(async (of) => newReflex(of, { skill_id: (await newSkill(of)).id, ...listening })),
    );
    const project = await ok(person.client.from('projects').insert({ name: 'Files' }).select().single());
    const upload = (content) =>
      ok(
        person.client.storage
          .from('project-files')
          .upload(`${person.orgId}/${project.id}/notes/plan.md/${randomUUID()}`, new Blob([content], { type: 'text/plain' })),
      );
    await upload('# Plan');
    await upload('# Better plan');
    await until('both to run', async () => (await deliveriesTo(reflex)).filter(({ status }) => status === 'queued').length === 2);
    const [file] = await ok(person.client.from('project_files').select());
    const deliveries = await ok(person.client.from('reflex_deliveries').select('payload').order('created_at'));
    assert.deepEqual(
      deliveries.map(({ payload: { uploaded_at, ...payload } }) => [Number.isNaN(Date.parse(uploaded_at)), payload]),
      [6, 13].map((bytes, n) => [
        false,
        {
          file_id: file.id,
          project_id: project.id,
          path: 'notes/plan.md',
          version: n + 1,
          bytes,
          content_type: 'text/plain',
          uploaded_by: person.user.id,
        },
      ]),
    );
    const executions = await ok(person.client.from('executions').select('input').order('created_at'));
    assert.deepEqual(executions.map(({ input }) => input.n).sort(), ['notes/plan.md 1', 'notes/plan.md 2']);
    await ok(person.client.rpc('delete_project_file', { file_id: file.id }));
    await ok(person.client.rpc('restore_project_file', { file_id: file.id, version: 1 }));
    assert.equal((await deliveriesTo(reflex)).length, 2, 'to restore a version is no upload');
    assert.deepEqual(await deliveriesTo(strange), [], 'another organization hears nothing');
  });

  test('an event that does not exist is refused', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    const made = person.client.from('reflexes').insert({ name: 'x', skill_id: skill.id, source: 'event', event: 'nothing.happened' });
    await refused(made, 422, 'invalid_input');
  });
});
