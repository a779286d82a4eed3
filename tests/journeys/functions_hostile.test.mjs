// A function whose server is hostile: slow, endless, leading elsewhere, with huge headers. Nobody else notices.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { newPerson, until } from './domain.mjs';
import { declare, gate, http4xx, invoke, newServer, relayed } from './functions_support.mjs';
import { env, http } from './support.mjs';

describe('a hostile server', () => {
  let person;
  before(async () => {
    person = await newPerson();
  });
  const hostile = async (handler, fields) => declare({ url: await newServer(handler), ...fields });

  test('cannot redirect a caller', async () => {
    let reached = 0;
    const other = await newServer((_, response) => {
      reached += 1;
      response.end();
    });
    for (const status of [301, 302, 307, 308]) {
      const name = await hostile((_, response) => response.writeHead(status, { Location: `${other}/` }).end());
      assert.deepEqual(await invoke(person.client, name), relayed(502, 'upstream_failed'));
    }
    assert.equal(reached, 0);
  });

  test('cannot flood a caller: endless answers, huge headers, wrong lengths', async () => {
    const flood = (response) => {
      const more = () => {
        while (response.write('x'.repeat(1 << 16)));
        response.once('drain', more);
      };
      more();
    };
    const endless = await hostile((_, response) => flood(response.writeHead(200, { 'Content-Type': 'text/plain' })), {
      max_response_bytes: 100_000,
    });
    // Caddy 2.6 ends an answer of unknown length as if it were whole, so the client may not see that it was cut.
    const { data } = await person.client.functions.invoke(endless).catch(() => ({ data: '' }));
    assert.ok(data.length <= 100_000, `${data.length}`);
    const short = await hostile((_, response) => {
      response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 50_000 }).write('x', () => response.destroy());
    });
    const broken = await person.client.functions.invoke(short).catch((thrown) => ({ error: thrown }));
    assert.ok(broken.error, 'an answer that broke off is none');
    const declared = await hostile((_, response) => flood(response.writeHead(200, { 'Content-Length': 1e9 })), {
      max_response_bytes: 100_000,
    });
    assert.deepEqual(await invoke(person.client, declared), relayed(502, 'upstream_failed'));
    const large = await hostile((_, response) => response.writeHead(200, { 'X-Large': 'x'.repeat(20_000) }).end());
    assert.deepEqual(await invoke(person.client, large), relayed(502, 'upstream_failed'));
    const many = await hostile((_, response) => {
      response.writeHead(200, Object.fromEntries(Array.from({ length: 2000 }, (__, n) => [`X-${n}`, 'y'.repeat(500)]))).end();
    });
    assert.deepEqual(await invoke(person.client, many), relayed(502, 'upstream_failed'));
  });

  test('cannot hold a caller beyond its time: silent before its answer, within it, and while nobody reads', async () => {
    const { client, token } = person;
    const silent = await hostile(() => {}, { timeout_seconds: 1 });
    assert.deepEqual(await invoke(client, silent), relayed(504, 'upstream_timed_out'));
    const closed = gate();
    const stalls = await hostile(
      (_, response) => {
        response.on('close', closed.open);
        response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: one\n\n');
      },
      { timeout_seconds: 5 },
    );
    const { data } = await client.functions.invoke(stalls);
    assert.ok(['data: one\n\n', 'cut off'].includes(await data.text().catch(() => 'cut off')));
    await closed.opened;
    const unread = gate();
    const floods = await hostile(
      (_, response) => {
        response.on('close', unread.open);
        response.writeHead(200, { 'Content-Type': 'text/plain' });
        const more = () => {
          while (response.write('x'.repeat(1 << 16)));
          response.once('drain', more);
        };
        more();
      },
      { timeout_seconds: 5, max_response_bytes: 1 << 30 },
    );
    const answer = await fetch(`${env.API_URL}/functions/v1/${floods}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${token}`, apikey: env.ANON_KEY },
    });
    assert.equal(answer.status, 200);
    await unread.opened;
    await answer.body.cancel();
  });

  test('cannot be reached at all: the caller is told that it is not their fault, and no address', async () => {
    const name = await declare({ url: 'http://localhost:1/secret' });
    assert.deepEqual(await invoke(person.client, name), relayed(502, 'upstream_failed'));
    const { text } = await http('POST', `/functions/v1/${name}`, { token: person.token });
    assert.ok(!/localhost|secret/.test(text), text);
  });

  test('has few of a caller’s calls at once, and another caller has theirs', async () => {
    const [one, other] = await Promise.all([newPerson('TEAMS'), newPerson('TEAMS')]);
    const opened = [];
    const name = await hostile((_, response) => {
      opened.push(response);
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: one\n\n');
    });
    const answers = await Promise.all(Array.from({ length: 32 }, () => one.client.functions.invoke(name)));
    assert.deepEqual(answers.filter(({ error }) => error).length, 0);
    assert.deepEqual(await invoke(one.client, name), http4xx(429, 'rate_limited'));
    assert.equal((await other.client.functions.invoke(name)).error, null);
    for (const response of opened) response.end();
    await until('a place to be free', async () => {
      const { error } = await one.client.functions.invoke(name);
      for (const response of opened) response.end();
      return !error;
    });
  });
});
