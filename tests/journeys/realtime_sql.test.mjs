// Messages from SQL: realtime.send, send_binary and broadcast_changes, their order, transactions, replay, and who may send.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { newPerson, transaction, until } from './domain.mjs';
import {
  broadcasts,
  closeClients,
  dropRoomPolicies,
  joined,
  newRoom,
  RawSocket,
  realtimeClient,
  roomPolicies,
  sendFromSql,
} from './realtime_support.mjs';
import { adminSql, env, sql } from './support.mjs';

let ada;
before(async () => {
  await roomPolicies();
  ada = await newPerson();
});
after(async () => {
  await closeClients();
  await dropRoomPolicies();
});

const clientOf = (person) => realtimeClient({ token: async () => person.token });
const inRoom = (room, config = {}) => joined(clientOf(ada), room, { private: true, ...config });

describe('realtime.send', () => {
  test('adds an id, which is the message’s, unless the payload has one', async () => {
    const room = newRoom(ada.orgId);
    const log = await inRoom(room);
    await sendFromSql(room, 'a', { n: 1 });
    await sendFromSql(room, 'b', { id: 'mine' });
    await sql(`select realtime.send('[1]'::jsonb, 'c', $1)`, [room]);
    const [first, second, third] = await broadcasts(log, 3);
    assert.deepEqual(first, { n: 1, id: log.broadcasts[0].meta.id });
    assert.deepEqual([second, third], [{ id: 'mine' }, [1]]);
  });

  test('keeps the order of a transaction, and sends nothing that was rolled back', async () => {
    const room = newRoom(ada.orgId);
    const log = await inRoom(room);
    await transaction(async (query) => {
      for (let n = 0; n < 50; n += 1) await query('select realtime.send($1, $2, $3)', [{ n }, 'e', room]);
    });
    await assert.rejects(
      transaction(async (query) => {
        await query('select realtime.send($1, $2, $3)', [{ n: 'lost' }, 'e', room]);
        throw new Error('rolled back');
      }),
    );
    await sendFromSql(room, 'e', { n: 50 });
    const got = await broadcasts(log, 51);
    assert.deepEqual(
      got.map(({ n }) => n),
      Array.from({ length: 51 }, (_, n) => n),
    );
  });

  test('an error becomes a warning, and the caller’s transaction goes on', async () => {
    const db = new pg.Client({ connectionString: env.DB_URL });
    const notices = [];
    db.on('notice', ({ message }) => notices.push(message));
    await db.connect();
    await db.query('select realtime.send($1, $2, null)', [{}, 'e']);
    await db.end();
    assert.equal(notices.length, 1);
  });

  test('invoker: a user without an INSERT policy sends nothing', async () => {
    const room = newRoom(randomUUID());
    const db = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    const hints = [];
    db.on('notice', ({ hint }) => hints.push(hint));
    await db.connect();
    await db.query('begin');
    await db.query('set local role authenticated');
    await db.query('select realtime.send($1, $2, $3)', [{}, 'e', room]);
    await db.query('commit');
    await db.end();
    assert.match(hints[0], /INSERT policy/);
    assert.deepEqual(await sql('select 1 from realtime.messages where topic = $1', [room]), []);
  });

  test('senders choose neither the order nor the time of a message', async () => {
    const db = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await db.connect();
    for (const column of ['xid', 'seq', 'inserted_at']) {
      await db.query('begin');
      await db.query('set local role authenticated');
      await assert.rejects(db.query(`insert into realtime.messages (topic, extension, ${column}) values ('x', 'broadcast', default)`), {
        code: '42501',
      });
      await db.query('rollback');
    }
    await db.end();
  });
});

test('realtime.send_binary sends bytes to serializer 2.0.0', async () => {
  const topic = `binary-${randomUUID()}`;
  const socket = await new RawSocket().opened;
  await socket.ask({ join_ref: '1', ref: '1', topic: `realtime:${topic}`, event: 'phx_join', payload: { config: {} } });
  await sql(`select realtime.send_binary('\\x00ff'::bytea, 'blob', $1, false)`, [topic]);
  const frame = await until('the bytes', () => socket.received.find(Buffer.isBuffer));
  assert.deepEqual(frame.subarray(-2), Buffer.from([0, 255]));
  await socket.close();
});

test('realtime.broadcast_changes in a trigger sends the row, and refuses what Supabase refuses', async () => {
  const room = newRoom(ada.orgId);
  const log = await inRoom(room);
  await adminSql(`create table public.journey_notes (id int primary key, text text);
    alter table public.journey_notes enable row level security;
    create function public.journey_changed() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform realtime.broadcast_changes('${room}', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
      return null;
    end $$;
    create trigger changed after insert or update or delete on public.journey_notes
      for each row execute function public.journey_changed();`);
  try {
    await adminSql(`insert into public.journey_notes values (1, 'a')`);
    await adminSql(`update public.journey_notes set text = 'b'`);
    await adminSql(`delete from public.journey_notes`);
    const got = await broadcasts(log, 3);
    const change = ({ operation, record, old_record, table, schema }) => ({ operation, record, old_record, table, schema });
    const place = { table: 'journey_notes', schema: 'public' };
    assert.deepEqual(got.map(change), [
      { operation: 'INSERT', record: { id: 1, text: 'a' }, old_record: null, ...place },
      { operation: 'UPDATE', record: { id: 1, text: 'b' }, old_record: { id: 1, text: 'a' }, ...place },
      { operation: 'DELETE', record: null, old_record: { id: 1, text: 'b' }, ...place },
    ]);
    assert.deepEqual(
      log.broadcasts.map(({ event }) => event),
      ['INSERT', 'UPDATE', 'DELETE'],
    );
    for (const [operation, level] of [
      ['TRUNCATE', 'ROW'],
      ['INSERT', 'STATEMENT'],
    ])
      await assert.rejects(sql(`select realtime.broadcast_changes('t', 'e', $1, 't', 's', row(1), row(1), $2)`, [operation, level]), {
        code: 'P0001',
      });
  } finally {
    await adminSql('drop table public.journey_notes; drop function public.journey_changed()');
  }
});

describe('delivery', () => {
  test('a transaction that began early and ends late is not missed, and holds nobody back', async () => {
    const room = newRoom(ada.orgId);
    const log = await inRoom(room);
    const late = new pg.Client({ connectionString: env.DB_URL });
    await late.connect();
    await late.query('begin');
    await late.query('select realtime.send($1, $2, $3)', [{ n: 'late' }, 'e', room]);
    for (let n = 0; n < 5; n += 1) {
      await sendFromSql(room, 'e', { n });
      await broadcasts(log, n + 1);
    }
    await late.query('commit');
    await late.end();
    const got = await broadcasts(log, 6);
    assert.deepEqual(
      got.map(({ n }) => n),
      [0, 1, 2, 3, 4, 'late'],
    );
  });

  test('many messages in one transaction', async () => {
    const room = newRoom(ada.orgId);
    const log = await inRoom(room);
    await sql(`select realtime.send(jsonb_build_object('n', n), 'e', $1) from generate_series(1, 200) as n`, [room]);
    await broadcasts(log, 200);
    assert.deepEqual(
      log.broadcasts.map(({ payload }) => payload.n),
      Array.from({ length: 200 }, (_, n) => n + 1),
    );
  });

  // A page has 1,000 messages, and ends sooner with the one with which its payloads reach 4 MiB.
  test('more messages than a page in one transaction, by number and by bytes', async () => {
    const [room, other] = [newRoom(ada.orgId), newRoom(ada.orgId)];
    const log = await inRoom(room);
    const [{ snapshot }] = await sql('select pg_current_snapshot()::text as snapshot');
    await transaction(async (query) => {
      await query(`select realtime.send(jsonb_build_object('n', n), 'e', $1) from generate_series(1, 1500) as n`, [other]);
      await query('select realtime.send($1, $2, $3)', [{ n: 1 }, 'e', room]);
      await query(
        `select realtime.send(jsonb_build_object('n', n, 'text', repeat('x', 900000)), 'e', $1) from generate_series(1, 11) as n`,
        [other],
      );
      await query('select realtime.send($1, $2, $3)', [{ n: 2 }, 'e', room]);
    });
    assert.deepEqual(
      (await broadcasts(log, 2)).map(({ n }) => n),
      [1, 2],
    );
    const page = (after, bytes) =>
      adminSql(
        `select seq, topic, snapshot_now, payload::jsonb ->> 'n' as n from realtime_service.read_since($1, null, $2, 10000, $3) where topic = any ($4)`,
        [snapshot, after, bytes, [room, other]],
      );
    const all = await page(0, 1_000_000_000);
    assert.equal(all.length, 1513);
    const large = all.findIndex(({ topic }) => topic === room);
    assert.deepEqual(
      (await page(all[large].seq, 1_000_000)).map(({ n }) => n),
      ['1', '2'],
    );
    assert.equal((await page(all[large].seq, 1)).length, 1);
  });
});

describe('replay', () => {
  test('brings the latest messages since a time, oldest first, and none of them twice', async () => {
    const room = newRoom(ada.orgId);
    const since = Date.now() - 1000;
    for (let n = 0; n < 30; n += 1) await sendFromSql(room, 'e', { n });
    const all = await inRoom(room, { broadcast: { replay: { since, limit: 1000 } } });
    for (let n = 30; n < 40; n += 1) await sendFromSql(room, 'e', { n });
    await broadcasts(all, 40);
    await sleep(300);
    assert.deepEqual(
      all.broadcasts.map(({ payload }) => payload.n),
      Array.from({ length: 40 }, (_, n) => n),
    );
    assert.ok(all.broadcasts.slice(0, 30).every(({ meta }) => meta.replayed === true));
    const some = await inRoom(room, { broadcast: { replay: { since, limit: 3 } } });
    assert.deepEqual(
      (await broadcasts(some, 3)).map(({ n }) => n),
      [37, 38, 39],
    );
    const none = await inRoom(room, { broadcast: { replay: { since: Date.now() + 60_000 } } });
    await sleep(200);
    assert.deepEqual(none.broadcasts, []);
  });

  test('brings no more than 4 MiB, the latest', async () => {
    const room = newRoom(ada.orgId);
    const since = Date.now() - 1000;
    for (let n = 0; n < 6; n += 1) await sendFromSql(room, 'e', { n, text: 'x'.repeat(900_000) });
    const log = await inRoom(room, { broadcast: { replay: { since, limit: 1000 } } });
    await sendFromSql(room, 'e', { n: 6 });
    await until('what is new', () => log.broadcasts.some(({ payload }) => payload.n === 6));
    assert.deepEqual(
      log.broadcasts.map(({ payload }) => payload.n),
      [2, 3, 4, 5, 6],
    );
    // One that is larger than all that may be replayed hides what came before it.
    await sendFromSql(room, 'e', { n: 7, text: 'x'.repeat(5_000_000) });
    const rows = await sql('select id from realtime_service.replay($1, to_timestamp(0), 1000, 4194304)', [room]).catch(
      (error) => error.code,
    );
    assert.equal(rows, '42501', 'only the service calls it');
    const found = await adminSql('select id from realtime_service.replay($1, to_timestamp(0), 1000, 4194304)', [room]);
    assert.deepEqual(found, []);
  });

  test('is for those who may read, and for private channels', async () => {
    const room = newRoom(ada.orgId);
    await sendFromSql(room, 'e', { n: 1 });
    const socket = await new RawSocket().opened;
    const config = { broadcast: { replay: { since: 1 } } };
    await socket.ask({ join_ref: '1', ref: '1', topic: `realtime:${room}`, event: 'phx_join', payload: { config } });
    await sleep(200);
    assert.equal(socket.received.some(Buffer.isBuffer), false);
    await socket.close();
  });
});

describe('partitions', () => {
  test('of today and the next days exist, with row level security', async () => {
    const rows = await adminSql(`select c.relname, c.relrowsecurity from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
      where i.inhparent = 'realtime.messages'::regclass`);
    const day = (offset) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '_');
    for (const name of ['messages_default', ...[0, 1, 2, 3].map((offset) => `messages_${day(offset)}`)])
      assert.deepEqual(
        rows.find(({ relname }) => relname === name),
        { relname: name, relrowsecurity: true },
      );
  });

  test('maintenance drops old ones, makes missing ones, and waits for nobody', async () => {
    const exists = async (name) => (await adminSql('select to_regclass($1) is not null as found', [`realtime.${name}`]))[0].found;
    await adminSql(
      `create table realtime.messages_2020_01_01 partition of realtime.messages for values from ('2020-01-01') to ('2020-01-02')`,
    );
    const busy = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await busy.connect();
    await busy.query('begin');
    await busy.query(`insert into realtime.messages (topic, extension) values ('x', 'broadcast')`);
    await busy.query('lock table realtime.messages_2020_01_01 in access share mode');
    const [{ failures }] = await adminSql('select realtime_service.maintain() as failures');
    assert.equal(failures, 1);
    assert.equal(await exists('messages_2020_01_01'), true);
    await busy.query('rollback');
    await busy.end();
    await adminSql('select realtime_service.maintain()');
    assert.equal(await exists('messages_2020_01_01'), false);
  });
});
