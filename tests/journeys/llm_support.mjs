// What the journeys of the LLM gateway share: vendors on this machine that answer as the real ones do, and OpenAI's own client.
import { randomUUID } from 'node:crypto';
import { after } from 'node:test';
import OpenAI from 'openai';
import { createKey } from './api_keys_support.mjs';
import { ok } from './domain.mjs';
import { bodyOf, json, newServer } from './functions_support.mjs';
import { admin, env, sql } from './support.mjs';

const PRICE = { input_microusd_per_mtok: 1_000_000, output_microusd_per_mtok: 2_000_000 };

// The platform has a limited number of rows, and other files make theirs.
const providers = [];
after(() => ok(admin().from('llm_providers').delete().in('id', providers)));

/** A vendor of this kind, which answers by `answer(request, response)`: its name, and the requests that it got. */
export async function newVendor(kind, answer, price = {}) {
  const name = `fake-${randomUUID().slice(0, 8)}`;
  const requests = [];
  const url = await newServer(async (request, response) => {
    const body = JSON.parse((await bodyOf(request)).toString());
    requests.push({ url: request.url, headers: request.headers, body });
    await answer({ body, number: requests.length, url: request.url }, response);
  });
  const [{ id: org_id }] = await sql('select kijko.platform_org_id() as id');
  const { id } = await ok(
    admin()
      .from('llm_providers')
      .insert({ org_id, name, kind, base_url: `${url}/v1` })
      .select('id')
      .single(),
  );
  providers.push(id);
  await ok(admin().rpc('set_llm_provider_key', { provider_id: id, key: 'sk-vendors-own-key' }));
  await ok(
    admin()
      .from('llm_models')
      .insert({ id: `${name}/*`, ...PRICE, ...price }),
  );
  return { name, model: `${name}/some-model`, requests };
}

/** OpenAI's client with a key of Kijko, or a user's token. It counts its requests. */
export function openai(apiKey, options = {}) {
  const sent = [];
  const client = new OpenAI({
    apiKey,
    baseURL: `${env.API_URL}/llm/v1`,
    maxRetries: 0,
    fetch: (url, init) => {
      sent.push(url);
      return fetch(url, init);
    },
    ...options,
  });
  return Object.assign(client, { sent });
}

/** A key that may call models. */
export const newKey = (person) => createKey(person, { permissions: ['llm:call'] });

const eventStream = (response) => response.writeHead(200, { 'Content-Type': 'text/event-stream' });

/** Events as OpenAI sends them, without the end. */
export function openaiEvents(
  response,
  deltas,
  { finish = 'stop', usage = { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 } } = {},
) {
  eventStream(response);
  const chunk = (choices, more = {}) =>
    response.write(
      `data: ${JSON.stringify({ id: 'chatcmpl-theirs', object: 'chat.completion.chunk', created: 1, model: 'some-model-2026', choices, ...more })}\n\n`,
    );
  chunk([{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }]);
  for (const delta of deltas) chunk([{ index: 0, delta, finish_reason: null }]);
  if (finish) chunk([{ index: 0, delta: {}, finish_reason: finish }]);
  if (usage) chunk([], { usage });
}

/** An answer of OpenAI's, streamed or whole as it was asked for. */
export function openaiAnswer({ body }, response, text = 'Hello there') {
  if (body.stream) {
    openaiEvents(
      response,
      text.split(/(?<= )/).map((content) => ({ content })),
    );
    return response.end('data: [DONE]\n\n');
  }
  const message = { role: 'assistant', content: text, refusal: null };
  return json(response, {
    id: 'chatcmpl-theirs',
    object: 'chat.completion',
    created: 1,
    model: 'some-model-2026',
    choices: [{ index: 0, message, logprobs: null, finish_reason: 'stop' }],
    usage: { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 },
  });
}

/** An answer of Anthropic's: blocks of text, and calls of tools as [id, name, parts of arguments]. */
export function anthropicAnswer(response, blocks, { stop = 'end_turn' } = {}) {
  eventStream(response);
  const event = (data) => response.write(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
  const usage = { input_tokens: 5, cache_read_input_tokens: 4, cache_creation_input_tokens: 0, output_tokens: 1 };
  event({
    type: 'message_start',
    message: { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-fake-2026', content: [], usage },
  });
  event({ type: 'ping' });
  for (const [index, block] of blocks.entries()) {
    if (typeof block === 'string') {
      event({ type: 'content_block_start', index, content_block: { type: 'text', text: '' } });
      for (const text of block.split(/(?<= )/)) event({ type: 'content_block_delta', index, delta: { type: 'text_delta', text } });
    } else {
      const [id, name, ...parts] = block;
      event({ type: 'content_block_start', index, content_block: { type: 'tool_use', id, name, input: {} } });
      for (const partial_json of parts) event({ type: 'content_block_delta', index, delta: { type: 'input_json_delta', partial_json } });
    }
    event({ type: 'content_block_stop', index });
  }
  event({ type: 'message_delta', delta: { stop_reason: stop, stop_sequence: null }, usage: { output_tokens: 4 } });
  event({ type: 'message_stop' });
  return response.end();
}

/** An answer of Gemini's, whose counts come with every event. */
export function geminiAnswer(response, parts) {
  eventStream(response);
  for (const [n, part] of parts.entries()) {
    const last = n === parts.length - 1;
    const usageMetadata = { promptTokenCount: 9, ...(last && { candidatesTokenCount: 3, thoughtsTokenCount: 1 }) };
    const candidate = { content: { role: 'model', parts: [part] }, index: 0, ...(last && { finishReason: 'STOP' }) };
    response.write(`data: ${JSON.stringify({ candidates: [candidate], usageMetadata, modelVersion: 'gemini-fake-2026' })}\r\n\r\n`);
  }
  return response.end();
}
