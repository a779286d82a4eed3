// Every example payload of GitHub's webhooks, through a reflex.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { newPerson, newSkill, until } from './domain.mjs';
import { deliver, newReflex } from './reflexes_support.mjs';
import { sql } from './support.mjs';

const webhooks = createRequire(import.meta.url)('@octokit/webhooks-examples');
const EXAMPLES = webhooks.flatMap(({ name, examples }) => examples.map((example) => ({ event: name, body: JSON.stringify(example) })));
const SENDERS = 8;

/** The answers, in order, of deliveries by several senders at once. */
async function sendAll(reflex, id) {
  const answers = [];
  let next = 0;
  const work = async () => {
    for (let i = next++; i < EXAMPLES.length; i = next++) {
      answers[i] = await deliver(reflex, EXAMPLES[i].body, { id: id(i), event: EXAMPLES[i].event });
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, work));
  return answers;
}

test('all 329 payloads are accepted and processed, and a replay is a no-op', async () => {
  assert.equal(EXAMPLES.length, 329);
  const person = await newPerson('TEAMS');
  const skill = await newSkill(person);
  const reflex = await newReflex(person, {
    skill_id: skill.id,
    verification: 'github',
    rate_per_minute: 600,
    input_mapping: { n: '{{ event }}', payload: '{{ payload }}' },
  });
  const distinct = new Set(EXAMPLES.map(({ body }) => createHash('sha256').update(body).digest('hex'))).size;
  const answers = await sendAll(reflex, (i) => `example-${i}`);
  for (const [i, { status, text }] of answers.entries()) assert.equal(status, 202, `${EXAMPLES[i].event}: ${text}`);
  assert.equal(answers.filter(({ body }) => body.status === 'received').length, distinct);

  const count = async () =>
    sql('select status, count(*)::int as n from public.reflex_deliveries where reflex_id = $1 group by status', [reflex.id]);
  await until('all deliveries to be processed', async () => (await count()).every(({ status }) => status !== 'received'));
  assert.deepEqual(await count(), [{ status: 'queued', n: distinct }]);
  const executions = async () => sql('select id from public.executions where reflex_id = $1 order by id', [reflex.id]);
  const before = await executions();
  assert.equal(before.length, distinct);

  for (const id of [(i) => `example-${i}`, (i) => `replay-${i}`]) {
    const replayed = await sendAll(reflex, id);
    for (const { status, body, text } of replayed) assert.deepEqual([status, body.status], [202, 'duplicate'], text);
  }
  assert.deepEqual(await count(), [{ status: 'queued', n: distinct }]);
  assert.deepEqual(await executions(), before);
});
