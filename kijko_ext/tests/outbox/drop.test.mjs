// DROP EXTENSION while the workers of its database work: neither waits for the other in a circle.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, receiver, setting, sql, until } from './support.mjs';

const ROUNDS = 40;
const log = () => readFileSync(process.env.KIJKO_TEST_LOG, 'utf8');
const { url } = await receiver();
let client;
let names;

const query = async (text, values) => (await client.query(text, values)).rows;
const enqueue = (requests) =>
  query(`select kijko.http_enqueue(method => 'POST', url => $1, max_attempts => 2) from generate_series(1, $2)`, [url, requests]);
const workers = () =>
  sql(`select pid, wait_event_type from pg_stat_activity where datname = 'dropping' and backend_type in ('kijko worker', 'kijko outbox')`);

describe('DROP EXTENSION', () => {
  before(async () => {
    [{ names }] = await sql(`select current_setting('kijko.databases') as names`);
    await sql('create database dropping');
    client = await connect('dropping');
    await query('create extension kijko');
    // A deadlock is found before the workers' next round hides it.
    await setting('deadlock_timeout', '10ms');
    await setting('kijko.databases', `${names}, dropping`);
    await until('the workers', async () => (await workers()).length === 2);
  });

  after(async () => {
    await client.end();
    await sql('alter system reset deadlock_timeout');
    await setting('kijko.databases', names);
    await until('the workers to leave', async () => (await workers()).length === 0);
    await sql('drop database dropping');
  });

  test('a worker does not wait for somebody who drops the extension, and goes on if that is undone', async () => {
    const sent = async () => (await query(`select count(*)::integer as n from kijko.http_attempts where status = 200`))[0].n;
    await enqueue(10);
    await until('the worker to send', async () => (await sent()) === 10);
    const told = log().split('the extension is being dropped').length;
    await query('begin');
    await enqueue(1);
    await query('drop extension kijko');
    await until('a round of the worker', () => log().split('the extension is being dropped').length > told);
    for (let n = 0; n < 20; n++) {
      assert.ok((await workers()).every((worker) => worker.wait_event_type !== 'Lock'));
      await sleep(50);
    }
    await query('rollback');
    await enqueue(10);
    await until('it to go on', async () => (await sent()) === 20);
  });

  test('dropped in the midst of its work, again and again, there is no deadlock', async () => {
    const before = log().length;
    for (let n = 0; n < ROUNDS; n++) {
      await enqueue(500);
      await sleep(Math.random() * 60);
      await query('drop extension kijko cascade');
      await query('create extension kijko');
    }
    const said = log().slice(before);
    assert.doesNotMatch(said, /deadlock detected|could not open relation/);
  });
});
