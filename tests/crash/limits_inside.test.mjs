// The counters' table from inside: loads that fail, slots that run out, and the kinds of transaction that are refused.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../until.mjs';
import { Cluster } from './limits/cluster.mjs';

const subject = (n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

describe('the counters from inside', () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ 'kijko.quota_slots': 1024, fsync: 'off' });
  });
  after(() => cluster.stop());

  const take = async (client, whose, amount = 1) => {
    const {
      rows: [verdict],
    } = await client.query("select allowed, used from kijko.try_consume($1, 'x', $2)", [whose, amount]);
    return { allowed: verdict.allowed, used: Number(verdict.used) };
  };
  const metric = async (client, name) => {
    const {
      rows: [{ value }],
    } = await client.query('select value from kijko.stats() where metric = $1', [name]);
    return Number(value);
  };
  const waitsForALock = (client) =>
    until('a session to wait for a lock', async () => {
      const found = await cluster.sql("select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'", [client.processID]);
      return found.length > 0;
    });

  test('a parallel worker never consumes a quota: it is not planned, and refused inside a function', async () => {
    const client = await cluster.connect();
    await client.query('create table public.big as select n from generate_series(1, 100000) as n');
    await client.query(`create function public.hidden() returns boolean language plpgsql parallel safe as
      $$ begin return (kijko.try_consume('${subject(1)}', 'x')).allowed; end $$`);
    for (const setting of ['parallel_setup_cost', 'parallel_tuple_cost', 'min_parallel_table_scan_size'])
      await client.query(`set ${setting} = 0`);
    const plan = async (query) => JSON.stringify((await client.query(`explain ${query}`)).rows);
    assert.match(await plan('select n % 7 from public.big where n % 11 = 0'), /Gather/);
    assert.doesNotMatch(await plan(`select (kijko.try_consume('${subject(1)}', 'x')).allowed from public.big where n % 11 = 0`), /Gather/);
    assert.match(await plan('select n from public.big where n % 11 = 0 and public.hidden()'), /Gather/);
    await assert.rejects(client.query('select n from public.big where n % 11 = 0 and public.hidden()'), { code: '25000' });
    assert.deepEqual(await take(client, subject(1)), { allowed: true, used: 1 });
    assert.equal(await metric(client, 'quota.pinned'), 0);
    await client.end();
  });

  test('a transaction that consumed cannot be prepared, records nothing and does not affect the next one', async () => {
    const client = await cluster.connect();
    const other = await cluster.connect();
    await client.query("select kijko.set_limit($1, 'x', 'lifetime', 10)", [subject(2)]);
    const prepared = [
      `select kijko.try_consume('${subject(2)}', 'x', 10)`,
      `select kijko.reserve('${subject(2)}', 'x', 10, '1 hour')`,
      `select kijko.adjust_gauge('${subject(2)}', 'x', 10)`,
    ];
    for (const use of prepared) {
      await client.query(`begin; ${use}`);
      await assert.rejects(client.query("prepare transaction 'used'"), { code: '0A000' });
      await client.query('rollback');
      assert.equal(await metric(other, 'quota.pinned'), 0, use);
    }
    // What was rolled back to a savepoint is not held any more.
    await client.query('create table public.two_phases (n int)');
    await client.query(
      `begin; savepoint a; select kijko.try_consume('${subject(2)}', 'x', 3); rollback to a; insert into public.two_phases values (1); prepare transaction 'unused'`,
    );
    assert.deepEqual(await take(client, subject(2), 4), { allowed: true, used: 4 });
    await other.query("commit prepared 'unused'");
    assert.deepEqual(await take(other, subject(2), 6), { allowed: true, used: 10 });
    assert.deepEqual(await take(client, subject(2)), { allowed: false, used: 10 });
    await client.end();
    await other.end();
  });

  test('when the session that loads a counter is terminated, the next one loads it, and one that stops waiting leaves nothing behind', async () => {
    const [locker, loader, waiter, hasty] = await Promise.all(Array.from({ length: 4 }, () => cluster.connect()));
    await locker.query('begin; lock table kijko.usage_totals in access exclusive mode');
    const loading = take(loader, subject(3));
    const lost = assert.rejects(loading);
    await waitsForALock(loader);
    const waiting = take(waiter, subject(3));
    await hasty.query("set statement_timeout = '300ms'");
    await assert.rejects(take(hasty, subject(3)), { code: '57014' });
    await cluster.sql('select pg_terminate_backend($1)', [loader.processID]);
    await lost;
    await waitsForALock(waiter); // now it is the one that loads
    await locker.query('rollback');
    assert.deepEqual(await waiting, { allowed: true, used: 1 });
    await hasty.query('reset statement_timeout');
    assert.deepEqual(await take(hasty, subject(3)), { allowed: true, used: 2 });
    assert.equal(await metric(hasty, 'quota.pinned'), 0);
    await Promise.all([locker, waiter, hasty].map((client) => client.end()));
  });

  test("two transactions that want each other's counters after both were unloaded do not deadlock", async () => {
    const [first, second] = await Promise.all([0, 1].map(() => cluster.connect()));
    await first.query('begin');
    await second.query('begin');
    assert.deepEqual(await take(first, subject(8)), { allowed: true, used: 1 });
    assert.deepEqual(await take(second, subject(9)), { allowed: true, used: 1 });
    await cluster.sql('select kijko.reload_counters()');
    const both = await Promise.all([take(first, subject(9)), take(second, subject(8))]);
    assert.deepEqual(both, [
      { allowed: true, used: 2 },
      { allowed: true, used: 2 },
    ]);
    await first.query('commit');
    await second.query('rollback');
    assert.deepEqual(await take(first, subject(8)), { allowed: true, used: 2 });
    assert.deepEqual(await take(first, subject(9)), { allowed: true, used: 2 });
    assert.equal(await metric(first, 'quota.pinned'), 0);
    await Promise.all([first, second].map((client) => client.end()));
  });

  test('a failed load leaves neither a counter nor a pin behind', async () => {
    const client = await cluster.connect();
    // The load's query, and its scan of a table that it finds by name.
    for (const [renamed, back, code] of [
      ['kijko.rollup_state rename rolled_until to rolled', 'kijko.rollup_state rename rolled to rolled_until', '42703'],
      ['kijko.usage_totals rename to totals', 'kijko.totals rename to usage_totals', '55000'],
    ]) {
      await client.query(`alter table ${renamed}`);
      await assert.rejects(take(client, subject(4)), { code });
      assert.equal(await metric(client, 'quota.pinned'), 0);
      await client.query(`alter table ${back}`);
    }
    assert.deepEqual(await take(client, subject(4)), { allowed: true, used: 1 });
    await client.end();
  });

  test('when all slots are in use, sessions with a counter go on; others wait for a free slot and fail after ten seconds', async () => {
    const [holder, sharer, patient] = await Promise.all(Array.from({ length: 3 }, () => cluster.connect()));
    const full = await metric(holder, 'quota.full');
    await holder.query(`
      create function public.take_all() returns int language plpgsql as $$
      declare refused int := 0;
      begin
          for n in 1..6000 loop
              begin
                  perform kijko.consume(('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid, 'x');
              exception
                  when sqlstate 'KJ503' then refused := refused + 1;
              end;
          end loop;
          return refused;
      end $$`);
    await holder.query('begin');
    const {
      rows: [{ take_all: refused }],
    } = await holder.query('select public.take_all()');
    assert.equal(refused, 6_000 - 1_024);
    assert.equal(await metric(sharer, 'quota.pinned'), 1_024);
    assert.ok((await metric(sharer, 'quota.full')) > full);
    assert.deepEqual(await take(sharer, '00000000-0000-4000-9000-000000000001'), { allowed: true, used: 2 });
    const began = Date.now();
    await assert.rejects(take(sharer, subject(5)), { code: 'KJ503' });
    assert.ok(Date.now() - began >= 10_000, 'it waited');
    const waiting = take(patient, subject(5));
    await sleep(300);
    await holder.query('rollback');
    assert.deepEqual(await waiting, { allowed: true, used: 1 });
    assert.equal(await metric(sharer, 'quota.pinned'), 0);
    await Promise.all([holder, sharer, patient].map((client) => client.end()));
  });

  test('dropping the extension while another session uses it is safe', async () => {
    await cluster.sql('create database dropping');
    const [user, admin] = await Promise.all([0, 1].map(() => cluster.connect({ database: 'dropping' })));
    await admin.query('create extension kijko');
    await user.query("select kijko.set_limit($1, 'x', 'lifetime', 3)", [subject(6)]);
    await user.query('begin');
    assert.deepEqual(await take(user, subject(6), 2), { allowed: true, used: 2 });
    const dropped = admin.query('drop extension kijko');
    await waitsForALock(admin);
    await user.query('commit');
    await dropped;
    await assert.rejects(take(user, subject(6)), { code: '42883' });
    await admin.query('create extension kijko');
    await admin.query("select kijko.set_limit($1, 'x', 'lifetime', 3)", [subject(6)]);
    assert.deepEqual(await take(user, subject(6), 3), { allowed: true, used: 3 });
    assert.deepEqual(await take(admin, subject(6)), { allowed: false, used: 3 });
    assert.equal(await metric(user, 'quota.pinned'), 0);
    await user.end();
    await admin.end();
  });

  test('a counter loads correctly from rolled-up hours, the default partition, the current one, and one without its index', async () => {
    await cluster.sql('create database partitions');
    const client = await cluster.connect({ database: 'partitions' });
    const reloaded = async () => {
      await client.query('select kijko.reload_counters()');
      return (await take(client, subject(7))).used;
    };
    await client.query('create extension kijko');
    await take(client, subject(7), 10); // in the default partition
    assert.equal(await reloaded(), 11);
    await client.query("select kijko.make_ledger_partitions('2 s', '1 s')"); // moved
    assert.equal(await reloaded(), 12);
    await sleep(1_200);
    await take(client, subject(7), 100);
    await client.query('select kijko.rollup_usage()');
    assert.equal(await reloaded(), 113);
    await client.query("select kijko.detach_ledger_partitions('0 s')");
    assert.equal(await reloaded(), 114);
    await client.query(`do $$ declare i regclass; begin
      for i in select x.indexrelid from pg_index as x join pg_inherits as h on h.inhrelid = x.indrelid where h.inhparent = 'kijko.ledger'::regclass loop
        execute format('drop index %s', i);
      end loop; end $$`);
    assert.equal(await reloaded(), 115);
    await client.query('create index on kijko.ledger_default (meter)'); // not of use here
    assert.equal(await reloaded(), 116);
    const {
      rows: [{ held }],
    } = await client.query("select (kijko.reserve($1, 'x', 1000, '1 hour') is not null) as held", [subject(7)]);
    assert.ok(held);
    assert.equal(await reloaded(), 1_117);
    await client.end();
  });
});
