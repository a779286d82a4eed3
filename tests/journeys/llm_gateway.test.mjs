// The LLM gateway by OpenAI's own client: chat with every vendor, streams, tools, embeddings, models, and what each call is settled at.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { AuthenticationError, BadRequestError, NotFoundError, PermissionDeniedError } from 'openai';
import { createKey } from './api_keys_support.mjs';
import { newPerson, newTeam, ok, until } from './domain.mjs';
import { json } from './functions_support.mjs';
import { enroll, newIssuer, newMember } from './issuers_support.mjs';
import { anthropicAnswer, geminiAnswer, newKey, newVendor, openai, openaiAnswer } from './llm_support.mjs';
import { adminSql, env } from './support.mjs';

const messages = [
  { role: 'developer', content: 'Be brief.' },
  { role: 'user', content: 'Say hello' },
];

let team, client, vendors;
before(async () => {
  team = await newTeam();
  client = openai((await newKey(team.owner)).secret);
  vendors = {
    openai: await newVendor('openai', openaiAnswer),
    anthropic: await newVendor('anthropic', (_, response) => anthropicAnswer(response, ['Hello there'])),
    gemini: await newVendor('gemini', (_, response) => geminiAnswer(response, [{ text: 'Hello ' }, { text: 'there' }])),
  };
});

/** The record of a call, by the id of its answer: it is settled soon after that. */
function recorded(id) {
  const hex = id.replace('chatcmpl-', '');
  const uuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  return until('the call to be settled', async () => {
    const call = await ok(team.owner.client.from('llm_calls').select().eq('id', uuid).single());
    return call.status !== 'sent' && call;
  });
}

describe('who may call', () => {
  test('not an unauthenticated caller, a non-member or a key without the permission', async () => {
    const ask = (who) => who.chat.completions.create({ model: vendors.openai.model, messages });
    const before = vendors.openai.requests.length;
    await assert.rejects(ask(openai('kjk_live_nonsense')), AuthenticationError);
    await assert.rejects(ask(openai(env.ANON_KEY)), AuthenticationError);
    await assert.rejects(ask(openai(team.nonMember.token, { organization: team.orgId })), PermissionDeniedError);
    const other = await createKey(team.owner, { permissions: ['projects:read'] });
    await assert.rejects(ask(openai(other.secret)), (error) => {
      assert.ok(error instanceof PermissionDeniedError);
      assert.deepEqual([error.code, error.type], ['permission_denied', 'permission_error']);
      return true;
    });
    assert.equal(vendors.openai.requests.length, before);
  });

  test('a key and a session of a member, who names the organization as OpenAI does', async () => {
    const member = openai(team.member.token, { organization: team.orgId });
    const answer = await member.chat.completions.create({ model: vendors.openai.model, messages });
    const call = await recorded(answer.id);
    assert.deepEqual([call.org_id, call.member_id], [team.orgId, team.member.user.id]);
  });
});

describe('who could call a moment ago', () => {
  const ask = (who) => who.chat.completions.create({ model: vendors.openai.model, messages });
  const isRefused = (code) => (error) => {
    assert.ok(error instanceof AuthenticationError);
    assert.deepEqual([error.code, error.type], [code, 'authentication_error']);
    return true;
  };

  test('not by a key that was revoked', async () => {
    const key = await newKey(team.owner);
    const holder = openai(key.secret);
    await ask(holder);
    await ok(team.owner.client.rpc('revoke_api_key', { id: key.id }));
    await assert.rejects(ask(holder), isRefused('not_identified'));
  });

  test('not with the token of a session that has ended', async () => {
    const person = await newPerson();
    const holder = openai(person.token);
    await ask(holder);
    await person.client.auth.signOut({ scope: 'local' });
    await assert.rejects(ask(holder), isRefused('not_identified'));
  });

  test('not with a token that has expired', async () => {
    const { token } = await newPerson();
    const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
    // PostgREST gives tokens half a minute more.
    const exp = Math.floor(Date.now() / 1000) - 20;
    const [{ signed }] = await adminSql('select kijko.sign_jwt($1) as signed', [{ ...claims, exp }]);
    const holder = openai(signed);
    // Its first call says who it is, and others are let through for five minutes by that alone.
    await ask(holder).catch(() => {});
    const refusal = await until('the token to expire', () =>
      ask(holder).then(
        () => null,
        (error) => error,
      ),
    );
    assert.ok(refusal instanceof AuthenticationError);
    assert.equal(refusal.code, 'PGRST301');
  });
});

test('a token of the organization’s own issuer, once its subject is a member', async () => {
  const owner = await newPerson('TEAMS');
  const issuer = await newIssuer();
  await enroll(owner, issuer.url);
  const ask = (bearer) => openai(bearer).chat.completions.create({ model: vendors.openai.model, messages });
  const before = vendors.openai.requests.length;
  const stranger = issuer.token({ sub: 'nobody-yet', realm_access: { roles: ['kijko-member'] } });
  await assert.rejects(ask(stranger), (error) => error instanceof PermissionDeniedError && error.code === 'provision_required');
  const other = await newIssuer();
  await assert.rejects(ask(other.token({ realm_access: { roles: ['kijko-member'] } })), AuthenticationError);
  const viewer = await newMember(issuer, ['kijko-viewer']);
  await assert.rejects(ask(viewer.tokenOf()), (error) => error.code === 'permission_denied');
  assert.equal(vendors.openai.requests.length, before);
  const { tokenOf, membership } = await newMember(issuer);
  const answer = await ask(tokenOf());
  assert.equal(answer.choices[0].message.content, 'Hello there');
  const call = await until('the call to be settled', async () => {
    const [made] = await ok(owner.client.from('llm_calls').select('member_id, status').eq('org_id', owner.orgId));
    return made.status !== 'sent' && made;
  });
  assert.deepEqual(call, { member_id: membership.user_id, status: 'succeeded' });
});

describe('chat completions', () => {
  for (const kind of ['openai', 'anthropic', 'gemini']) {
    test(`${kind}: whole, and settled at what the vendor counted`, async () => {
      const { data, response } = await client.chat.completions
        .create({ model: vendors[kind].model, messages, max_completion_tokens: 50, temperature: 0.5, stop: ['END'] })
        .withResponse();
      assert.equal(data.object, 'chat.completion');
      assert.deepEqual(
        [data.choices[0].message.role, data.choices[0].message.content, data.choices[0].finish_reason],
        ['assistant', 'Hello there', 'stop'],
      );
      assert.deepEqual([data.usage.prompt_tokens, data.usage.completion_tokens, data.usage.total_tokens], [9, 4, 13]);
      assert.ok(response.headers.get('x-request-id') && response.headers.get('ratelimit'));
      const call = await recorded(data.id);
      assert.deepEqual(
        [call.status, call.input_tokens, call.output_tokens, call.cost_microusd, call.estimated],
        ['succeeded', 9, 4, 17, false],
      );
    });

    test(`${kind}: streamed, as the client's helper reads it`, async () => {
      const stream = client.chat.completions.stream({ model: vendors[kind].model, messages, stream_options: { include_usage: true } });
      const parts = [];
      stream.on('content', (part) => parts.push(part));
      const whole = await stream.finalChatCompletion();
      assert.equal(parts.join(''), 'Hello there');
      assert.ok(parts.length > 1);
      assert.equal(whole.choices[0].finish_reason, 'stop');
      assert.deepEqual([whole.usage.prompt_tokens, whole.usage.completion_tokens], [9, 4]);
      const call = await recorded(whole.id);
      assert.equal(call.status, 'succeeded');
      assert.ok(call.first_token_ms >= 0 && call.total_ms >= call.first_token_ms);
    });

    test(`${kind}: the chunk with usage is only for who asks`, async () => {
      const stream = await client.chat.completions.create({ model: vendors[kind].model, messages, stream: true });
      for await (const chunk of stream) {
        assert.equal(chunk.choices.length, 1);
        assert.equal(chunk.usage, undefined);
      }
    });
  }

  test('the vendor gets its own key, what was held, and nothing of the caller', async () => {
    const { body, headers } = vendors.anthropic.requests[0];
    assert.equal(headers['x-api-key'], 'sk-vendors-own-key');
    assert.deepEqual([body.max_tokens, body.system], [50, [{ type: 'text', text: 'Be brief.' }]]);
    const all = JSON.stringify(Object.values(vendors).map(({ requests }) => requests.map((request) => request.headers)));
    assert.ok(!all.includes('kjk_') && !all.includes(team.member.token));
    assert.equal(vendors.openai.requests[0].body.max_tokens, 4096, 'none given: the default is sent');
  });

  test('tools: two calls at once, their results, and the answer', async () => {
    const weather = (city) => ({ Amsterdam: 'rain', Lisbon: 'sun' })[city];
    for (const [kind, answer] of [
      [
        'anthropic',
        ({ body }, response) =>
          body.messages.length === 1
            ? anthropicAnswer(
                response,
                ['Let me see.', ['toolu_1', 'weather', '{"city":', '"Amsterdam"}'], ['toolu_2', 'weather', '{"city":"Lisbon"}']],
                { stop: 'tool_use' },
              )
            : anthropicAnswer(response, [JSON.stringify(body.messages[2].content.map(({ content }) => content[0].text))]),
      ],
      [
        'gemini',
        ({ body }, response) =>
          body.contents.length === 1
            ? geminiAnswer(response, [
                { functionCall: { name: 'weather', args: { city: 'Amsterdam' } } },
                { functionCall: { name: 'weather', args: { city: 'Lisbon' } } },
              ])
            : geminiAnswer(response, [
                { text: JSON.stringify(body.contents[2].parts.map(({ functionResponse }) => functionResponse.response.result)) },
              ]),
      ],
    ]) {
      const vendor = await newVendor(kind, answer);
      const asked = [];
      const runner = client.chat.completions.runTools({
        model: vendor.model,
        messages: [{ role: 'user', content: 'Where is it dry?' }],
        stream: true,
        tools: [
          {
            type: 'function',
            function: {
              name: 'weather',
              description: 'Weather of a city',
              parameters: { type: 'object', properties: { city: { type: 'string' } } },
              parse: JSON.parse,
              function: ({ city }) => {
                asked.push(city);
                return weather(city);
              },
            },
          },
        ],
      });
      assert.equal(await runner.finalContent(), '["rain","sun"]', kind);
      assert.deepEqual(asked, ['Amsterdam', 'Lisbon']);
    }
  });

  test('structured output', async () => {
    const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
    const vendor = await newVendor('anthropic', (_, response) => anthropicAnswer(response, ['{"city":"Amsterdam"}']));
    const answer = await client.chat.completions.parse({
      model: vendor.model,
      messages,
      response_format: { type: 'json_schema', json_schema: { name: 'place', strict: true, schema } },
    });
    assert.equal(answer.choices[0].message.content, '{"city":"Amsterdam"}');
    assert.deepEqual(vendor.requests[0].body.output_config, { format: { type: 'json_schema', schema } });
  });

  test('fields that change price or vendor are refused on the platform’s keys', async () => {
    const before = vendors.openai.requests.length;
    for (const more of [{ service_tier: 'flex' }, { store: true }, { web_search_options: {} }]) {
      await assert.rejects(client.chat.completions.create({ model: vendors.openai.model, messages, ...more }), (error) => {
        assert.ok(error instanceof BadRequestError);
        assert.match(error.message, new RegExp(Object.keys(more)[0]));
        return true;
      });
    }
    assert.equal(vendors.openai.requests.length, before);
  });

  test('an image comes within the request', async () => {
    const url = `data:image/png;base64,${'A'.repeat(2 << 20)}`;
    const content = [
      { type: 'text', text: 'What is this?' },
      { type: 'image_url', image_url: { url } },
    ];
    const answer = await client.chat.completions.create({ model: vendors.gemini.model, messages: [{ role: 'user', content }] });
    assert.equal(answer.choices[0].message.content, 'Hello there');
    assert.equal(vendors.gemini.requests.at(-1).body.contents[0].parts[1].inlineData.mimeType, 'image/png');
    const call = await recorded(answer.id);
    assert.ok(call.held_tokens < 100_000, 'its bytes are no tokens');
  });
});

describe('embeddings and models', () => {
  test('embeddings, in base64 as the client asks by default, and as floats', async () => {
    const vector = [0.25, -1.5, 3];
    const vendor = await newVendor('openai', ({ body }, response) =>
      json(response, {
        object: 'list',
        model: 'embed-2026',
        data: [body.input].flat().map((_, index) => ({ object: 'embedding', index, embedding: vector })),
        usage: { prompt_tokens: 6, total_tokens: 6 },
      }),
    );
    const two = await client.embeddings.create({ model: vendor.model, input: ['a', 'b'] });
    assert.deepEqual(
      two.data.map(({ embedding }) => [...embedding]),
      [vector, vector],
    );
    assert.deepEqual(two.usage, { prompt_tokens: 6, total_tokens: 6 });
    const floats = await client.embeddings.create({ model: vendor.model, input: 'a', encoding_format: 'float' });
    assert.deepEqual(floats.data[0].embedding, vector);
    const calls = await until('both to be recorded', async () => {
      const rows = await ok(team.owner.client.from('llm_calls').select().eq('org_id', team.orgId).eq('kind', 'embeddings'));
      return rows.length === 2 && rows.every(({ status }) => status === 'succeeded') && rows;
    });
    assert.ok(calls.every(({ input_tokens, cost_microusd }) => input_tokens === 6 && cost_microusd === 6));
  });

  test('the list of models, and one of them', async () => {
    await ok(
      team.owner.client
        .from('llm_routes')
        .insert({ org_id: team.orgId, name: 'fast', targets: [vendors.openai.model] })
        .select(),
    );
    const models = [];
    for await (const model of client.models.list()) models.push(model);
    const fast = models.find(({ id }) => id === 'fast');
    assert.deepEqual([fast.object, fast.owned_by], ['model', 'route']);
    assert.ok(Number.isInteger(fast.created) && fast.created > 1_700_000_000);
    assert.deepEqual(await client.models.retrieve('fast'), fast);
    await assert.rejects(client.models.retrieve('no-such-model'), NotFoundError);
    await assert.rejects(client.chat.completions.create({ model: 'no/such-model', messages }), NotFoundError);
  });
});
