// A push to GitHub runs a skill: the payload is one of GitHub's examples, signed by GitHub's own helper.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { sign } from '@octokit/webhooks-methods';
import { checkSuccess, env, follow, ok } from './setup.mjs';
import { short, until } from './story.mjs';

const examples = createRequire(import.meta.url)('@octokit/webhooks-examples');
const PROCESSING_TIMEOUT = 30_000;

export async function pushRunsSkill(say, { ada, skill }) {
  const push = examples.find(({ name }) => name === 'push').examples.find(({ commits }) => commits?.length > 0);
  const reflex = await ok(
    ada.client
      .from('reflexes')
      .insert({
        skill_id: skill.id,
        name: 'Pushes',
        verification: 'github',
        filter: "event == 'push'",
        input_mapping: { changes: "{{ payload.commits | map(attribute='message') | join('; ') }}" },
      })
      .select('*, signing_secret')
      .single(),
  );
  const url = `${env.API_URL}/webhooks/reflex/${reflex.id}`;
  say(`its URL ${url}; secret ${reflex.secret_prefix}…, the rest of it is shown this once`);

  const body = JSON.stringify(push);
  const post = async (headers) => {
    const answer = await fetch(url, { method: 'POST', body, headers: { 'Content-Type': 'application/json', ...headers } });
    return { status: answer.status, body: await answer.json() };
  };
  const delivery = {
    'X-GitHub-Event': 'push',
    'X-GitHub-Delivery': randomUUID(),
    'X-Hub-Signature-256': await sign(reflex.signing_secret, body),
  };
  const forged = await post({ ...delivery, 'X-Hub-Signature-256': await sign('not the secret', body) });
  assert.deepEqual([forged.status, forged.body.code], [400, 'invalid_signature']);
  say(`a forged push: HTTP 400 ${forged.body.code}`);

  const accepted = await post(delivery);
  assert.deepEqual([accepted.status, accepted.body.status], [202, 'received']);
  const processed = await until(
    'the push to be processed',
    async () => {
      const row = await ok(ada.client.from('reflex_deliveries').select('*').eq('id', accepted.body.delivery_id).single());
      return row.status !== 'received' && row;
    },
    { timeoutMs: PROCESSING_TIMEOUT },
  );
  assert.equal(processed.status, 'queued', processed.error);
  const execution = await follow(ada.client, processed.execution_id);
  checkSuccess(execution);
  assert.equal(execution.trigger, 'reflex');
  say(`the signed push: HTTP 202, execution ${execution.id}`);
  say(`output: ${short(execution.output)}`);

  const replay = await post(delivery);
  assert.deepEqual([replay.status, replay.body.status], [202, 'duplicate']);
  const executions = await ok(ada.client.from('executions').select('id').eq('reflex_id', reflex.id));
  assert.equal(executions.length, 1, 'a replay runs nothing');
  say('the same push again: a duplicate, and nothing runs');
}
