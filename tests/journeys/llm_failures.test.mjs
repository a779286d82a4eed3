// What OpenAI's client makes of failures of the LLM gateway: spent budgets, vendors that refuse, break off or are slow, and clients that
// hang up. In each case the call is settled.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { APIError, InternalServerError, RateLimitError } from 'openai';
import { newTeam, ok, until } from './domain.mjs';
import { json } from './functions_support.mjs';
import { anthropicAnswer, newKey, newVendor, openai, openaiAnswer, openaiEvents } from './llm_support.mjs';

const messages = [{ role: 'user', content: 'Say hello' }];

let team, secret, client;
before(async () => {
  team = await newTeam();
  ({ secret } = await newKey(team.owner));
  client = openai(secret);
});

/** The record of the only call of a model, once it is settled. */
const settled = (model) =>
  until('the call to be settled', async () => {
    const rows = await ok(team.owner.client.from('llm_calls').select().eq('org_id', team.orgId).eq('requested_model', model));
    return rows.length === 1 && !['reserved', 'sent'].includes(rows[0].status) && rows[0];
  });

const route = (name, targets, more = {}) =>
  ok(
    team.owner.client
      .from('llm_routes')
      .insert({ org_id: team.orgId, name, targets, ...more })
      .select(),
  );

describe('budgets', () => {
  test('a spent budget is refused once, though the client retries', async () => {
    const vendor = await newVendor('openai', openaiAnswer);
    const { id: key_id, secret: poor } = await newKey(team.owner);
    await ok(
      team.owner.client
        .from('llm_budgets')
        .insert({ org_id: team.orgId, name: 'poor', scope: 'key', key_id, period: 'month', unit: 'tokens', amount: 200 })
        .select(),
    );
    const retrying = openai(poor, { maxRetries: 2 });
    await assert.rejects(retrying.chat.completions.create({ model: vendor.model, messages }), (error) => {
      assert.ok(error instanceof RateLimitError);
      assert.deepEqual([error.code, error.type], ['budget_exceeded', 'insufficient_quota']);
      assert.match(error.message, /poor/);
      assert.equal(error.headers.get('x-should-retry'), 'false');
      return true;
    });
    assert.deepEqual([retrying.sent.length, vendor.requests.length], [1, 0]);
    const within = await retrying.chat.completions.create({ model: vendor.model, messages, max_tokens: 50 });
    assert.equal(within.choices[0].message.content, 'Hello there');
  });
});

describe('vendors that fail', () => {
  test('a busy one is asked again, and then the next one', async () => {
    const busy = await newVendor('anthropic', (_, response) =>
      json(response, { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }, 529, { 'retry-after-ms': '10' }),
    );
    const other = await newVendor('openai', openaiAnswer);
    await route('resilient', [busy.model, other.model]);
    const stream = await client.chat.completions.create({ model: 'resilient', messages, stream: true });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
    assert.equal(text, 'Hello there');
    assert.deepEqual([busy.requests.length, other.requests.length], [2, 1]);
    const call = await settled('resilient');
    assert.deepEqual([call.status, call.attempts, call.input_tokens, call.estimated], ['succeeded', 3, 9, false]);
  });

  test('its refusal of the request is the caller’s, of its key the operator’s', async () => {
    for (const [status, body, wanted, code] of [
      [400, { error: { message: 'temperature: at most 2', type: 'invalid_request_error' } }, 400, 'vendor_rejected'],
      [400, { error: { message: 'too long', code: 'context_length_exceeded' } }, 400, 'context_length_exceeded'],
      [401, { error: { message: 'Incorrect API key provided: sk-vendors-own-key', code: 'invalid_api_key' } }, 502, 'vendor_auth'],
    ]) {
      const vendor = await newVendor('openai', (_, response) => json(response, body, status));
      await assert.rejects(client.chat.completions.create({ model: vendor.model, messages }), (error) => {
        assert.deepEqual([error.status, error.code], [wanted, code]);
        assert.ok(!error.message.includes('sk-vendors'));
        return true;
      });
      const call = await settled(vendor.model);
      assert.deepEqual([call.status, call.cost_microusd, call.error_code], ['failed', 0, code]);
    }
  });

  test('a stream that breaks off ends with an error', async () => {
    const vendor = await newVendor('openai', (_, response) => {
      openaiEvents(response, [{ content: 'Hel' }, { content: 'lo' }], { finish: null, usage: null });
      setTimeout(() => response.destroy(), 50);
    });
    const other = await newVendor('openai', openaiAnswer);
    await route('broken', [vendor.model, other.model]);
    const stream = await client.chat.completions.create({ model: 'broken', messages, stream: true });
    let text = '';
    await assert.rejects(
      async () => {
        for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
      },
      (error) => error instanceof APIError && error.code === 'vendor_truncated',
    );
    assert.deepEqual([text, other.requests.length], ['Hello', 0], 'a stream never changes its vendor');
    const call = await settled('broken');
    assert.deepEqual([call.status, call.estimated], ['failed', true]);
    assert.ok(call.output_tokens >= 2 && call.cost_microusd > 0);
  });

  test('an error in the middle of a stream of Anthropic', async () => {
    const vendor = await newVendor('anthropic', (_, response) => {
      const end = response.end.bind(response);
      response.end = () => response;
      const write = response.write.bind(response);
      response.write = (part) => (part.includes('message_delta') || part.includes('message_stop') ? true : write(part));
      anthropicAnswer(response, ['Hello there']);
      write('event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n');
      end();
    });
    const stream = client.chat.completions.stream({ model: vendor.model, messages });
    await assert.rejects(stream.finalContent(), (error) => error instanceof OpenAI.OpenAIError && error.code === 'vendor_overloaded');
    const call = await settled(vendor.model);
    assert.deepEqual([call.status, call.input_tokens, call.estimated], ['failed', 9, true]);
  });

  test('a silent one is given up in time', async () => {
    const vendor = await newVendor('openai', async (_, response) => {
      await sleep(30_000);
      response.destroy();
    });
    await route('slow', [vendor.model], { first_token_seconds: 1, retries: 0 });
    await assert.rejects(
      client.chat.completions.create({ model: 'slow', messages, stream: true }),
      (error) => error instanceof InternalServerError && error.code === 'vendor_timeout',
    );
    const call = await settled('slow');
    assert.deepEqual([call.status, call.estimated], ['failed', true]);
    assert.ok(call.cost_microusd > 0, 'nobody knows what it used: the whole hold');
  });
});

describe('clients that hang up', () => {
  test('the vendor is cut, and what came is paid', async () => {
    let cut = false;
    const vendor = await newVendor('openai', async (_, response) => {
      response.on('close', () => {
        cut = true;
      });
      openaiEvents(response, [{ content: 'Hello ' }, { content: 'there' }], { finish: null, usage: null });
      await sleep(30_000);
    });
    const stream = await client.chat.completions.create({ model: vendor.model, messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content === 'there') break;
    await until('the vendor to be cut', async () => cut);
    const call = await settled(vendor.model);
    assert.deepEqual([call.status, call.estimated, call.error_code], ['cancelled', true, 'client_closed_request']);
    assert.ok(call.output_tokens > 0 && call.cost_microusd > 0);
  });
});
