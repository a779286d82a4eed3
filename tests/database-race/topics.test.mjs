// Races of topics: a run of a discovery that adds sources to two topics, beside members who add to one of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, newUser, one, waiting } from './sessions.mjs';

const ADDS = {
  'by the function': `select (public.add_research_source($1, 'https://member.example/1')).id`,
  'by a row': `insert into public.research_sources (topic_id, url) values ($1, 'https://member.example/1') returning id`,
  'by a score': `select (public.score_topic($1)).id`,
};

for (const [how, add] of Object.entries(ADDS)) {
  test(`a run and a member, ${how}, wait for each other, but not in a circle`, async () => {
    const { user, org } = await newUser();
    const topic = async (title) => (await one('insert into public.topics (org_id, title) values ($1, $2) returning id', [org, title])).id;
    const [first, second] = [await topic('First'), await topic('Second')];
    const found = `select source_id from private.topics_add_source($1, $2, 'https://run.example/1')`;

    const [run, member] = [await begin(), await begin(user)];
    assert.ok((await run.run(found, [org, first])).source_id);
    const added = member.run(add, [second]);
    await waiting(member);
    const taken = await run.run(found, [org, second]);
    assert.ok(taken.source_id, `the run: ${JSON.stringify(taken)}`);
    await run.commit();
    const answer = await added;
    assert.ok(answer.id, `the member: ${JSON.stringify(answer)}`);
    await member.commit();
  });
}

test('members who delete sources in different orders wait for each other, but not in a circle', async () => {
  const { user, org } = await newUser();
  const topic = (await one('insert into public.topics (org_id, title) values ($1, $2) returning id', [org, 'Two'])).id;
  const source = async (n) =>
    (await one(`select source_id as id from private.topics_add_source($1, $2, $3)`, [org, topic, `https://example.com/${n}`])).id;
  const [a, b] = [await source(1), await source(2)];
  const remove = 'delete from public.research_sources where id = $1 returning id';

  const [first, second] = [await begin(user), await begin(user)];
  assert.equal((await first.run(remove, [a])).id, a);
  const waits = second.run(remove, [b]);
  await waiting(second);
  const removed = await first.run(remove, [b]);
  assert.equal(removed?.id, b, `the first: ${JSON.stringify(removed)}`);
  await first.commit();
  assert.deepEqual(await waits, {});
  assert.deepEqual(await second.run(remove, [a]), {});
  await second.commit();
});
