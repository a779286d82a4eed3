// What else can happen to a cluster: copies, standbys, dropped extensions, too little shared memory.
import assert from 'node:assert/strict';
import { appendFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';
import { Cluster } from './limits/cluster.mjs';

const SUBJECT = '00000000-0000-4000-8000-000000000001';

describe('quotas and the cluster', () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ 'kijko.quota_slots': 1024, max_wal_senders: 4, fsync: 'off' });
  });
  after(() => cluster.stop());

  const take = async (client, amount = 1, subject = SUBJECT) => {
    const {
      rows: [verdict],
    } = await client.query('select allowed, used from kijko.try_consume($1, $2, $3)', [subject, 'x', amount]);
    return { allowed: verdict.allowed, used: Number(verdict.used) };
  };

  test('a copied database starts with the usage of its template and counts its own from then on', async () => {
    await cluster.sql('create database origin');
    const origin = await cluster.connect({ database: 'origin' });
    await origin.query('create extension kijko');
    await origin.query("select kijko.set_limit($1, 'x', 'lifetime', 10)", [SUBJECT]);
    assert.deepEqual(await take(origin, 7), { allowed: true, used: 7 });
    await origin.end();
    await cluster.sql('create database copied template origin');
    const copied = await cluster.connect({ database: 'copied' });
    const again = await cluster.connect({ database: 'origin' });
    assert.deepEqual(await take(copied, 3), { allowed: true, used: 10 });
    assert.deepEqual(await take(copied), { allowed: false, used: 10 });
    assert.deepEqual(await take(again), { allowed: true, used: 8 });
    await copied.end();
    await again.end();
  });

  test('dropping and creating the extension in one session resets all counters', async () => {
    const client = await cluster.connect();
    await client.query("select kijko.set_limit($1, 'x', 'lifetime', 2)", [SUBJECT]);
    assert.deepEqual(await take(client, 2), { allowed: true, used: 2 });
    await client.query('select kijko.make_ledger_partitions()');
    await client.query('drop extension kijko');
    await client.query('create extension kijko');
    await client.query("select kijko.set_limit($1, 'x', 'lifetime', 2)", [SUBJECT]);
    assert.deepEqual(await take(client), { allowed: true, used: 1 });
    // Rolled back, it never went away.
    await client.query('begin');
    await client.query('drop extension kijko');
    await client.query('rollback');
    assert.deepEqual(await take(client), { allowed: true, used: 2 });
    assert.deepEqual(await take(client), { allowed: false, used: 2 });
    await client.end();
  });

  test('with more counters than slots, each counter stays exact and is only slower', async () => {
    const client = await cluster.connect();
    for (let round = 0; round < 2; round++) {
      await client.query(`do $$ begin for n in 1..3000 loop
        perform kijko.consume(('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'many'); commit; end loop; end $$`);
    }
    const {
      rows: [{ wrong }],
    } = await client.query(
      "select count(*)::int as wrong from (select sum(amount) from kijko.ledger where meter = 'many' group by subject) as s(sum) where sum <> 2",
    );
    assert.equal(wrong, 0);
    const {
      rows: [last],
    } = await client.query("select used from kijko.try_consume('00000000-0000-4000-8000-000000000007', 'many')");
    assert.equal(Number(last.used), 3);
    await client.end();
  });

  test('a transaction that needs more counters than a set has slots fails at once and leaves nothing behind', async () => {
    const client = await cluster.connect();
    const started = Date.now();
    await assert.rejects(client.query("select kijko.consume(gen_random_uuid(), 'many') from generate_series(1, 5000)"), { code: 'KJ503' });
    // A transaction that waits for room gives up after ten seconds.
    assert.ok(Date.now() - started < 10_000);
    const {
      rows: [{ value }],
    } = await client.query("select value from kijko.stats() where metric = 'quota.pinned'");
    assert.equal(Number(value), 0);
    await client.end();
  });

  test('a standby refuses to consume; after promotion its counters equal the ledger', async () => {
    const client = await cluster.connect();
    const subject = '00000000-0000-4000-8000-00000000000a';
    await client.query("select kijko.set_limit($1, 'x', 'lifetime', 10), kijko.set_limit($1, 'api_requests', 'lifetime', 10)", [subject]);
    await take(client, 7, subject);
    const standby = Object.assign(new Cluster(), { home: cluster.home, data: join(cluster.home, 'standby'), port: await freePort() });
    await cluster.program(
      'pg_basebackup',
      '-D',
      standby.data,
      '-R',
      '-X',
      'stream',
      '-c',
      'fast',
      '-h',
      '127.0.0.1',
      '-p',
      String(cluster.port),
      '-U',
      'postgres',
    );
    appendFileSync(join(standby.data, 'postgresql.conf'), `port = ${standby.port}\nhot_standby = on\n`);
    await standby.program('pg_ctl', '-D', standby.data, '-l', join(cluster.home, 'standby.log'), '-w', 'start');
    try {
      const reader = await standby.connect();
      await assert.rejects(take(reader, 1, subject), { code: '25006' });
      await reader.query('select kijko.usage($1)', [subject]);
      // Requests are admitted by what the primary has written meanwhile, and nothing older is left after promotion.
      const admit = () => reader.query('select kijko.admit_request($1)', [subject]);
      const quotaUsed = async () => Number((await reader.query("select used from kijko.quota_status($1, 'x')", [subject])).rows[0].used);
      await admit();
      assert.equal(await quotaUsed(), 7);
      await take(client, 2, subject);
      await client.query("select kijko.record_usage($1, 'api_requests', 10, now())", [subject]);
      await until(
        'the standby to have the requests',
        async () =>
          (await reader.query("select from kijko.usage($1) where meter = 'api_requests' and used = 10", [subject])).rowCount === 1,
      );
      await assert.rejects(admit(), { code: 'KJ429' });
      assert.equal(await quotaUsed(), 9);
      await reader.query('select pg_promote()');
      const {
        rows: [requests],
      } = await reader.query("select allowed, used >= 10 as known from kijko.try_consume($1, 'api_requests')", [subject]);
      assert.deepEqual(requests, { allowed: false, known: true });
      assert.deepEqual(await take(reader, 2, subject), { allowed: false, used: 9 });
      assert.deepEqual(await take(reader, 1, subject), { allowed: true, used: 10 });
      await reader.end();
    } finally {
      await standby.program('pg_ctl', '-D', standby.data, '-m', 'immediate', '-w', 'stop');
      rmSync(standby.data, { recursive: true, force: true });
    }
    await client.end();
  });

  test('a restored dump has the same usage', async () => {
    await cluster.sql('create database dumped');
    const dumped = await cluster.connect({ database: 'dumped' });
    await dumped.query('create extension kijko');
    await dumped.query("select kijko.set_limit($1, 'x', 'lifetime', 10)", [SUBJECT]);
    await take(dumped, 2);
    await dumped.query("select kijko.make_ledger_partitions('2 s', '1 s')");
    await take(dumped, 3);
    await dumped.query('select pg_sleep(1.5)');
    await dumped.query('select kijko.rollup_usage()');
    await take(dumped, 1);
    await dumped.query("select kijko.reserve($1, 'x', 2)", [SUBJECT]);
    // A gauge that follows a table: its rows and its ledger are restored, and counted once.
    await dumped.query(`create table things (owner uuid);
      create function follow() returns trigger language plpgsql as $$ begin
        perform kijko.adjust_gauge(c.owner, 'things', c.n) from (select owner, count(*) as n from changed group by owner) as c; return null; end $$;
      create trigger things_gauge after insert on things referencing new table as changed for each statement execute function follow();
      select kijko.set_limit('${SUBJECT}', 'things', 'lifetime', 4);
      insert into things select '${SUBJECT}' from generate_series(1, 3)`);
    await dumped.end();
    const where = ['-h', '127.0.0.1', '-p', String(cluster.port), '-U', 'postgres'];
    await cluster.program('pg_dump', ...where, '-Fc', '-f', join(cluster.home, 'dump'), 'dumped');
    await cluster.sql('create database restored');
    await cluster.program('pg_restore', ...where, '--exit-on-error', '-d', 'restored', join(cluster.home, 'dump'));
    const restored = await cluster.connect({ database: 'restored' });
    assert.deepEqual(await take(restored, 3), { allowed: false, used: 8 });
    assert.deepEqual(await take(restored, 2), { allowed: true, used: 10 });
    await restored.query('insert into things values ($1)', [SUBJECT]);
    await assert.rejects(restored.query('insert into things values ($1)', [SUBJECT]), { code: 'KJ429' });
    await restored.end();
  });
});
