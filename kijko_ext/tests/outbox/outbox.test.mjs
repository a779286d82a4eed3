// What the outbox sends, when, and what it keeps of the answers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import {
  attempted,
  attempts,
  connect,
  ended,
  enqueue,
  hurry,
  ORG,
  OTHER_ORG,
  receiver,
  refused,
  response,
  sql,
  until,
} from './support.mjs';

describe('a request', () => {
  test('arrives as it was stored, and its answer is kept', async () => {
    const { url, requests } = await receiver((_, response) => {
      response.writeHead(201, { 'X-Answer': 'yes', 'Set-Cookie': 'session=secret' });
      response.end('created');
    });
    const id = await enqueue({ method: 'PUT', url: `${url}/a?b=c`, headers: { 'X-Given': 'given' }, body: '{"ä":1}' });
    const answer = await ended(id);
    assert.deepEqual(
      [answer.state, answer.status, answer.body, answer.attempts, answer.error_code],
      ['succeeded', 201, 'created', 1, null],
    );
    assert.deepEqual([answer.headers['x-answer'], answer.headers['set-cookie']], ['yes', undefined]);
    const [got] = requests;
    assert.deepEqual([got.method, got.url, got.body, requests.length], ['PUT', '/a?b=c', '{"ä":1}', 1]);
    assert.deepEqual(
      [got.headers['x-given'], got.headers['content-type'], got.headers['idempotency-key']],
      ['given', 'application/json', id],
    );
  });

  test('goes after the commit, and not at all after a rollback', async () => {
    const { url, requests } = await receiver();
    const session = await connect();
    const query = async (text, values) => (await session.query(text, values)).rows;
    await query('begin');
    await enqueue({ method: 'POST', url: `${url}/rolled-back` }, query);
    await query('rollback');
    await query('begin');
    const id = await enqueue({ method: 'POST', url: `${url}/committed` }, query);
    await query('savepoint s');
    await enqueue({ method: 'POST', url: `${url}/rolled-back` }, query);
    await query('rollback to s');
    await ended(await enqueue({ method: 'POST', url: `${url}/other` }));
    assert.deepEqual(
      requests.map((got) => got.url),
      ['/other'],
    );
    await query('commit');
    await ended(id);
    assert.deepEqual(
      requests.map((got) => got.url),
      ['/other', '/committed'],
    );
    await query('begin');
    const prepared = await enqueue({ method: 'POST', url: `${url}/prepared` }, query);
    await query(`prepare transaction 'p'`);
    await query(`commit prepared 'p'`);
    await ended(prepared);
    await session.end();
  });

  test('waits for not_before', async () => {
    const { url, requests } = await receiver();
    const id = await enqueue({ method: 'GET', url, not_before: new Date(Date.now() + 3_600_000) });
    await ended(await enqueue({ method: 'GET', url: `${url}/now` }));
    assert.deepEqual(
      requests.map((got) => got.url),
      ['/now'],
    );
    await hurry(id);
    assert.equal((await ended(id)).state, 'succeeded');
  });

  test('has an idempotency key of its organization', async () => {
    const { url } = await receiver();
    const fields = { method: 'POST', url, body: '1', idempotency_key: 'once', org_id: ORG };
    const id = await enqueue(fields);
    assert.equal(await enqueue(fields), id);
    assert.notEqual(await enqueue({ ...fields, org_id: OTHER_ORG }), id);
    await refused(enqueue({ ...fields, body: '2' }), 'KJ410');
  });

  test('is refused when it is stored, if it could not be sent', async () => {
    const good = { method: 'POST', url: 'https://example.com/' };
    for (const bad of [
      { method: 'CONNECT' },
      { method: 'post' },
      { method: null },
      { url: null },
      { url: 'nonsense' },
      { url: 'http://127.0.0.1/' },
      { url: 'http://169.254.169.254/' },
      { url: 'http://user:password@example.com/' },
      { headers: [] },
      { headers: { Host: 'internal' } },
      { headers: { 'X-A': 'a\r\nX-B: b' } },
      { headers: { Authorization: { secret: 'unknown' } } },
      { body: 'x'.repeat(256 * 1024 + 1) },
      { timeout: '10 minutes' },
      { timeout: '-1 seconds' },
      { max_attempts: 0 },
      { max_attempts: null },
      { priority: 1000 },
      { key: '' },
      { idempotency_key: 'x'.repeat(201) },
      { not_before: 'infinity' },
      { org_id: null },
      { signing: { id: 'a.b', secrets: ['x'] } },
    ])
      await refused(enqueue({ ...good, ...bad }), '22000');
  });
});

describe('a failed attempt', () => {
  test('is repeated with the same id until it succeeds', async () => {
    let broken = true;
    const { url, requests } = await receiver((_, response) => response.writeHead(broken ? 503 : 200).end('answer'));
    const id = await enqueue({ method: 'POST', url, body: '{}' });
    await attempted(id, 1);
    assert.deepEqual([(await response(id)).state, (await response(id)).error_code], ['pending', 'status']);
    const [{ wait }] = await sql(
      'select extract(epoch from run_at - clock_timestamp())::float8 as wait from kijko.http_requests where id = $1',
      [id],
    );
    assert.ok(wait > 2 && wait <= 6, `${wait} s`);
    broken = false;
    await hurry(id);
    await ended(id);
    assert.deepEqual(
      (await attempts(id)).map((one) => [one.attempt, one.status]),
      [
        [1, 503],
        [2, 200],
      ],
    );
    assert.deepEqual(
      requests.map((got) => got.headers['idempotency-key']),
      [id, id],
    );
  });

  test('is repeated no earlier than Retry-After says', async () => {
    const { url } = await receiver((_, response) => response.writeHead(429, { 'Retry-After': '600' }).end());
    const id = await enqueue({ method: 'POST', url });
    await attempted(id, 1);
    const [{ late }] = await sql(
      `select run_at > clock_timestamp() + interval '590 seconds' as late from kijko.http_requests where id = $1`,
      [id],
    );
    assert.equal(late, true);
  });

  test('is the last one when the receiver is gone, or there were enough', async () => {
    const { url } = await receiver((got, response) => response.writeHead(got.url === '/gone' ? 410 : 500).end());
    const gone = await ended(await enqueue({ method: 'POST', url: `${url}/gone` }));
    const exhausted = await ended(await enqueue({ method: 'POST', url: `${url}/broken`, max_attempts: 1 }));
    assert.deepEqual([gone.state, gone.error_code, exhausted.state, exhausted.error_code], ['dead', 'gone', 'dead', 'attempts_exhausted']);
  });

  test('can be replayed when it is dead, one by one or by filter', async () => {
    let broken = true;
    const { url, requests } = await receiver((_, response) => response.writeHead(broken ? 500 : 200).end());
    const dead = [];
    for (let n = 0; n < 3; n += 1) dead.push(await enqueue({ method: 'POST', url, max_attempts: 1, org_id: OTHER_ORG }));
    for (const id of dead) assert.equal((await ended(id)).state, 'dead');
    broken = false;
    assert.deepEqual(await sql('select kijko.http_replay($1) as done', [dead[0]]), [{ done: true }]);
    assert.deepEqual(await sql('select kijko.http_replay_dead(org_id => $1, origin => $2)::int as count', [OTHER_ORG, `${url}`]), [
      { count: 2 },
    ]);
    for (const id of dead) assert.equal((await ended(id)).state, 'succeeded');
    assert.deepEqual(new Set(requests.map((got) => got.headers['idempotency-key'])), new Set(dead));
    assert.deepEqual(await sql('select kijko.http_replay(gen_random_uuid()) as done'), [{ done: false }]);
  });
});

describe('requests with one key', () => {
  test('go one after the other, in their order', async () => {
    let busy = 0;
    let most = 0;
    const { url, requests } = await receiver(async (_, response) => {
      most = Math.max(most, (busy += 1));
      await sleep(Math.random() * 20);
      busy -= 1;
      response.end();
    });
    const ids = [];
    for (let n = 0; n < 20; n += 1) ids.push(await enqueue({ method: 'POST', url, body: `${n}`, key: 'order', org_id: ORG }));
    await ended(ids.at(-1));
    assert.deepEqual(
      requests.map((got) => Number(got.body)),
      Array.from(ids, (_, n) => n),
    );
    assert.equal(most, 1);
  });

  test('wait for one that is repeated, and go on when it is cancelled', async () => {
    const { url, requests } = await receiver((got, response) => response.writeHead(got.body === 'first' ? 500 : 200).end());
    const first = await enqueue({ method: 'POST', url, body: 'first', key: 'blocked', org_id: ORG });
    const second = await enqueue({ method: 'POST', url, body: 'second', key: 'blocked', org_id: ORG });
    const stranger = await enqueue({ method: 'POST', url, body: 'stranger', key: 'blocked', org_id: OTHER_ORG });
    await attempted(first, 1);
    await ended(stranger);
    assert.equal((await response(second)).state, 'waiting');
    assert.deepEqual(await sql('select kijko.http_cancel($1) as done', [first]), [{ done: true }]);
    await ended(second);
    assert.deepEqual(requests.map((got) => got.body).sort(), ['first', 'second', 'stranger']);
    assert.deepEqual(await sql('select kijko.http_cancel($1) as done', [second]), [{ done: false }]);
  });

  test('a transaction that stores one and stays open holds up nobody else', async () => {
    let release;
    const released = new Promise((resolve) => {
      release = resolve;
    });
    const { url, requests } = await receiver(async (got, response) => {
      if (got.body === 'first') await released;
      response.end();
    });
    const session = await connect();
    const query = async (text, values) => (await session.query(text, values)).rows;
    const first = await enqueue({ method: 'POST', url, body: 'first', key: 'open', org_id: ORG });
    await until('the first to be sent', () => requests.length === 1);
    await query('begin');
    const second = await enqueue({ method: 'POST', url, body: 'second', key: 'open', org_id: ORG }, query);
    // The first succeeds, but this cannot be written while the other transaction counts on it.
    release();
    for (const body of ['other', 'more']) await ended(await enqueue({ method: 'POST', url, body, org_id: ORG }));
    assert.equal((await response(first)).state, 'pending');
    await query('commit');
    await ended(second);
    assert.equal((await response(first)).state, 'succeeded');
    assert.deepEqual(
      requests.map((got) => got.body),
      ['first', 'other', 'more', 'second'],
    );
    await session.end();
  });
});

describe('secrets', () => {
  test('stand in headers by name, and are read for each attempt', async () => {
    const { url, requests } = await receiver((_, response) => response.writeHead(500).end());
    await sql('select kijko.set_http_secret($1, $2, $3)', ['token', 'Bearer first', ORG]);
    const id = await enqueue({ method: 'POST', url, headers: { Authorization: { secret: 'token' } }, org_id: ORG });
    await attempted(id, 1);
    await sql('select kijko.set_http_secret($1, $2, $3)', ['token', 'Bearer second', ORG]);
    await hurry(id);
    await attempted(id, 2);
    assert.deepEqual(
      requests.map((got) => got.headers.authorization),
      ['Bearer first', 'Bearer second'],
    );
    await sql('select kijko.drop_http_secret($1, $2)', ['token', ORG]);
    await hurry(id);
    await attempted(id, 3);
    assert.deepEqual([(await response(id)).error_code, requests.length], ['secret_unavailable', 2]);
    // Its time is over before the next attempt, as when a server comes back days after it was killed.
    await sql(`update kijko.http_requests set not_after = clock_timestamp() where id = $1`, [id]);
    await hurry(id);
    const { state, error_code } = await ended(id);
    assert.deepEqual([state, error_code, requests.length], ['dead', 'expired', 2]);
    const kept = JSON.stringify([await sql('select * from kijko.http_requests'), await sql('select * from kijko.http_secrets')]);
    assert.ok(!kept.includes('Bearer'));
  });

  test('are the organization’s own', async () => {
    const { url } = await receiver();
    await sql('select kijko.set_http_secret($1, $2, $3)', ['own', 'secret', ORG]);
    await refused(enqueue({ method: 'POST', url, headers: { 'X-Key': { secret: 'own' } }, org_id: OTHER_ORG }), '22000');
  });

  test('sign by Standard Webhooks, all of them while one is rotated', async () => {
    const { url, requests } = await receiver();
    const secrets = [1, 2].map((n) => `whsec_${Buffer.alloc(24, n).toString('base64')}`);
    for (const [n, secret] of secrets.entries()) await sql('select kijko.set_http_secret($1, $2, $3)', [`signing-${n}`, secret, ORG]);
    const body = JSON.stringify({ type: 'execution.finished', text: 'ü' });
    await ended(await enqueue({ method: 'POST', url, body, org_id: ORG, signing: { id: 'msg_1', secrets: ['signing-0', 'signing-1'] } }));
    const [got] = requests;
    for (const secret of secrets) assert.deepEqual(new Webhook(secret).verify(got.body, got.headers), JSON.parse(body));
    assert.throws(() => new Webhook(secrets[0]).verify(`${got.body} `, got.headers));
    assert.equal(got.headers['webhook-id'], 'msg_1');
  });
});

test('a higher priority goes first', async () => {
  const { url, requests } = await receiver();
  const at = new Date(Date.now() + 3_600_000);
  await sql('begin');
  const ids = [];
  for (const [n, priority] of [0, -5, 5].entries())
    ids.push(await enqueue({ method: 'POST', url, body: `${n}`, priority, org_id: ORG, not_before: at }));
  await sql('commit');
  await sql('alter system set kijko.http_concurrency = 1');
  await sql('select pg_reload_conf()');
  await sleep(500); // until the worker has read it
  await sql('update kijko.http_requests set run_at = clock_timestamp() where id = any($1::uuid[])', [ids]);
  await sql('select kijko.http_wake()');
  for (const id of ids) await ended(id);
  await sql('alter system reset kijko.http_concurrency');
  await sql('select pg_reload_conf()');
  assert.deepEqual(
    requests.map((got) => got.body),
    ['2', '0', '1'],
  );
});

const looks = async () => Number((await sql(`select value from kijko.stats() where metric = 'outbox.looks'`))[0].value);

test('a few new requests are sent without a look for lanes', async () => {
  const { url, requests } = await receiver();
  const { url: other } = await receiver();
  await ended(await enqueue({ method: 'POST', url }));
  const [before, started] = [await looks(), Date.now()];
  for (let n = 1; n <= 150; n += 1) {
    await enqueue({ method: 'POST', url, body: `${n}`, org_id: n % 2 ? ORG : OTHER_ORG });
    await until(`request ${n} to arrive`, () => requests.length > n, { everyMs: 2 });
  }
  // A key's next request, a replay, and one to a receiver that was unknown.
  const ids = [];
  for (let n = 0; n < 10; n += 1) ids.push(await enqueue({ method: 'POST', url: other, key: 'k', org_id: ORG }));
  for (const id of ids) await ended(id);
  await sql('select kijko.http_replay($1)', [ids[0]]);
  await attempted(ids[0], 2);
  // One each second, and those that other requests of these tests wait for.
  const most = 10 + (2 * (Date.now() - started)) / 1000;
  const count = (await looks()) - before;
  assert.ok(count <= most, `${count} looks, more than ${most}`);
});

test('many requests of one transaction, of many lanes, are all sent', async () => {
  const { url, requests } = await receiver();
  await sql(
    `select kijko.http_enqueue('POST', $1 || n % 40, body => n::text, priority => n % 40, org_id => case when n % 3 = 0 then $2::uuid else $3 end)
     from generate_series(1, 2000) as n`,
    [`${url}/`, ORG, OTHER_ORG],
  );
  await until('all to arrive', () => requests.length >= 2000);
  assert.equal(new Set(requests.map((got) => got.body)).size, 2000);
});

test('a table that was analyzed while it was empty is read by its keys alone', async () => {
  const { url, requests } = await receiver();
  await sql('delete from kijko.http_requests');
  await sql('alter table kijko.http_requests set (autovacuum_enabled = off)');
  await sql('vacuum analyze kijko.http_requests');
  // The worker plans now, for a table of one row.
  await ended(await enqueue({ method: 'POST', url, org_id: ORG }));
  const read = async () =>
    Number(
      (await sql(`select sum(idx_tup_read) as read from pg_stat_user_indexes where indexrelname ~ '^http_requests_(pkey|ended|key)$'`))[0]
        .read,
    );
  const before = await read();
  const count = 3_000;
  const store = (n, key) =>
    sql(`select kijko.http_enqueue('POST', $1, body => '{}', key => $3, org_id => $4) from generate_series(1, $2::int)`, [
      url,
      n,
      key,
      ORG,
    ]);
  await store(count, null);
  await store(50, 'in order');
  await until('all to end', async () => (await sql(`select from kijko.http_requests where ended_at is null limit 1`)).length === 0);
  assert.equal(requests.length, count + 51);
  await sleep(6_500); // the worker looks for old ones, and reports its figures
  const perRequest = ((await read()) - before) / count;
  assert.ok(perRequest > 1, 'the figures have come');
  assert.ok(perRequest < 20, `${perRequest} index entries for each request`);
  await sql('alter table kijko.http_requests reset (autovacuum_enabled)');
});

test('what has ended is deleted after kijko.http_retention', async () => {
  const { url } = await receiver();
  const id = await enqueue({ method: 'GET', url });
  await ended(id);
  await sql(`update kijko.http_requests set ended_at = ended_at - interval '8 days' where id = $1`, [id]);
  await until('it to be deleted', async () => (await response(id)) === undefined);
  assert.deepEqual(await attempts(id), []);
});
