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
