// Privacy: an export and an erasure of a person who has used every domain leave exactly what the data catalogue says.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { disconnect, query } from '../access/db.mjs';
import { HOME } from '../service.mjs';
import { until } from '../until.mjs';
import { forget, leftovers, NOTHING, someone } from './privacy_support.mjs';
import { untied } from './privacy_ties.mjs';
import { unzip } from './privacy_zip.mjs';
import { api, env, http, signIn, sql } from './support.mjs';

const statusOf = async (id) => (await query('select status from private.privacy_requests where id = $1', [id]))[0]?.status;
// As pg_cron does, by the owner of the domain.
const tick = () => sql('call private.privacy_tick()');
const becomes = (id, wanted) =>
  until(`request ${id} to be ${wanted}`, async () => {
    if ((await statusOf(id)) === wanted) return true;
    await tick();
    return false;
  });
const rpc = async (client, name, args) => {
  const { data, error } = await client.rpc(name, args);
  assert.equal(error, null, `${name}: ${JSON.stringify(error)}`);
  return data;
};
const download = (path, session) => fetch(env.API_URL + path, { headers: { Authorization: `Bearer ${session.access_token}` } });

describe('a person who has used every domain', () => {
  let world;
  let archive;
  let erasure;

  before(async () => {
    world = await someone();
    await rpc(world.person.client, 'record_consent', { purpose: 'newsletter', version: '1', granted: true });
  });
  after(async () => {
    await forget(world);
    await disconnect();
  });

  test("has a row by each way in which a row can be a person's", async () => {
    const { user, email } = world.person;
    const none = await untied(user.id, [email, `before-${email}`]);
    // What requests and erasures themselves make.
    const places = none.map(({ table_name, column_name }) => `${table_name}.${column_name}`);
    assert.deepEqual(
      places.filter((place) => !/^private\.(privacy_requests|audit_erasures)\./.test(place)),
      [],
    );
  });

  test('without a sign-in there is nothing', async () => {
    for (const name of ['request_export', 'request_erasure', 'list_privacy_requests', 'list_consents']) {
      assert.equal((await api().rpc(name, {})).status, 401, name);
    }
    assert.equal((await http('GET', '/api/v1/privacy/exports?ticket=x')).status, 401);
  });

  test('gets an export by a link that works once, in the session that opened it', async () => {
    const { client, session } = world.person;
    const id = await rpc(client, 'request_export', {});
    assert.equal((await client.rpc('open_export', { request_id: id })).error.code, 'conflict');
    assert.equal((await client.rpc('request_export', {})).error.code, 'conflict', 'one at a time');
    await becomes(id, 'ready');
    assert.equal((await world.colleague.client.rpc('open_export', { request_id: id })).error.code, 'not_found');
    const path = await rpc(client, 'open_export', { request_id: id });
    const elsewhere = await signIn(world.person);
    for (const other of [elsewhere.session, world.colleague.session]) assert.equal((await download(path, other)).status, 404);
    assert.equal((await http('HEAD', path, { token: session.access_token })).status, 405, 'a HEAD does not use the link');
    const answer = await download(path, session);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/zip');
    archive = Buffer.from(await answer.arrayBuffer());
    assert.equal(Number(answer.headers.get('content-length')), archive.length);
    assert.equal((await download(path, session)).status, 404, 'once');
    const [request] = await rpc(client, 'list_privacy_requests', {});
    assert.equal(request.sha256, createHash('sha256').update(archive).digest('hex'));
    const { data } = await client.storage.from('privacy-exports').list(world.person.user.id);
    assert.deepEqual(data, [], 'the bucket shows nobody anything');
  });

  test('it has all that is about the person, with columns and hashes, and nothing of anybody else', async () => {
    const entries = unzip(archive);
    const manifest = JSON.parse(entries.get('manifest.json'));
    for (const { path, sha256, bytes } of [...manifest.tables, ...manifest.files]) {
      assert.equal(createHash('sha256').update(entries.get(path)).digest('hex'), sha256, path);
      assert.equal(entries.get(path).length, bytes, path);
    }
    const rows = new Map(
      manifest.tables.map(({ table, path }) => [
        table,
        entries
          .get(path)
          .toString()
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line)),
      ]),
    );
    for (const { table, rows: count, columns } of manifest.tables) {
      assert.equal(rows.get(table).length, count, table);
      const names = columns.map(({ name }) => name);
      for (const { row } of rows.get(table)) for (const name of Object.keys(row)) assert.ok(names.includes(name), `${table}.${name}`);
    }
    const of = (table, relation) => rows.get(table)?.filter((line) => line.relation === relation) ?? [];
    assert.equal(of('auth.users', 'about')[0].row.email, world.person.email);
    assert.equal(of('public.profiles', 'about').length, 1);
    assert.equal(of('private.consents', 'about').length, 1);
    assert.ok(of('public.audit_log', 'about').length > 0);
    // A row of every table that belongs to an organization, from the person's own.
    const tables = await query(
      `select distinct d.table_name as name from private.data_catalogue as d
       join pg_attribute as a on a.attrelid = to_regclass(d.table_name) and a.attname = 'org_id'
       where d.table_name ~ '^public\\.' and d.table_name <> all ($1) order by 1`,
      [manifest.tables.map(({ table }) => table)],
    );
    const missing = [];
    for (const { name } of tables) {
      if ((await query(`select from ${name} where org_id = $1 limit 1`, [world.own.org])).length > 0) missing.push(name);
    }
    assert.deepEqual(missing, []);
    assert.ok(of('public.skills', 'organization').length >= 2);
    for (const { row } of of('public.skills', 'made')) assert.deepEqual(Object.keys(row).sort(), ['created_at', 'id', 'org_id']);
    assert.deepEqual(
      manifest.files.map(({ name }) => name),
      [`${world.own.org}/${world.own.project}/own-${world.person.email}.txt/${world.own.delivery}`],
      'files of the own organization, not of others',
    );
    const text = Buffer.concat([...entries.values()]).toString();
    for (const other of [world.colleague.email, world.colleague.user.id, `guest-${world.marker}`]) assert.ok(!text.includes(other), other);
    for (const secret of ['encrypted_password', 'sealed_data', 'refresh_token', 'code_hash', 'token_hash'])
      assert.ok(!text.includes(`"${secret}"`), secret);
  });

  test('confirms an erasure by a mailed code, and is in the journal before anything is erased', async () => {
    const { client } = world.person;
    erasure = await rpc(client, 'request_erasure', {});
    const [{ code }] = await query(
      `select private.mail_data(m) ->> 'token' as code from private.mail_messages as m where m.recipient = $1 and m.template = 'erasure_confirmation'`,
      [world.person.email],
    );
    assert.match(code, /^\d{8}$/);
    assert.equal((await client.rpc('confirm_erasure', { request_id: erasure, code: '1' })).error.code, 'invalid_input');
    assert.ok(Date.parse(await rpc(client, 'confirm_erasure', { request_id: erasure, code })) > Date.now());
    await tick();
    assert.equal(await statusOf(erasure), 'confirmed', 'it waits');
    await query('update private.privacy_requests set due_at = kijko.now() where id = $1', [erasure]);
    const scrape = async () => (await fetch(`${process.env.SIDECAR_OPERATORS_URL}/metrics`)).text();
    await until('the metrics to count it', async () => {
      await query('select private.privacy_begin_due()');
      return /kijko_privacy_backlog\{state="erasures"\} [1-9]/.test(await scrape()) || (await statusOf(erasure)) === 'done';
    });
    assert.match(await scrape(), /kijko_privacy_oldest_due_seconds\{\} \d/);
    await becomes(erasure, 'done');
    const journal = (await readFile(join(HOME, 'erasures/journal'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const [entry] = journal.filter(({ id }) => id === erasure);
    assert.deepEqual([entry.user_id, Object.keys(entry).sort()], [world.person.user.id, ['at', 'id', 'user_id']]);
    const [{ state, entry: digest }] = await query(
      `select state, details ->> 'sha256' as entry from private.privacy_proofs where request_id = $1 and target = 'journal'`,
      [erasure],
    );
    assert.deepEqual([state, digest], ['done', createHash('sha256').update(JSON.stringify(entry)).digest('hex')]);
    assert.equal((await client.auth.signInWithPassword(world.person)).error.code, 'invalid_credentials');
  });

  test('leaves exactly what the catalogue says: in tables, files and logs', async () => {
    const { id } = world.person.user;
    // A minute later it is looked once more, by the address, too. Then a mail says that all is done.
    await query(`update private.privacy_requests set finished_at = finished_at - interval '1 minute' where id = $1`, [erasure]);
    await until('the address to be forgotten', async () => {
      await tick();
      return (await query('select from private.privacy_requests where id = $1 and email is null', [erasure])).length === 1;
    });
    // An hour later; and the log, as pg_cron does.
    const told = await query(
      `update private.mail_messages set finished_at = now() - interval '2 hours' where template = 'erasure_done' and recipient = $1 returning id`,
      [world.person.email],
    );
    assert.equal(told.length, 1);
    await query('select private.privacy_purge()');
    await until('the audit log to be erased', async () => {
      await query('select private.audit_erase()');
      const of = await query(
        'select from public.audit_log where (created_by = $1 and origin_salt is not null) or strpos(personal::text, $2) > 0',
        [id, world.person.email],
      );
      return of.length === 0;
    });
    assert.deepEqual(await leftovers(world, HOME), NOTHING);
    assert.equal((await query('select count(*)::integer as n from public.organizations where id = $1', [world.own.org]))[0].n, 0);
    assert.ok((await query('select count(*)::integer as n from public.skills where org_id = $1', [world.shared.org]))[0].n > 0);
    assert.equal(
      (await query('select count(*)::integer as n from public.stripe_invoices where id = $1', [world.own.stripe_invoices]))[0].n,
      1,
    );
  });

  test('the chain of the audit log is whole', async () => {
    await query('select private.audit_seal()');
    const { data, error } = await world.colleague.client.rpc('verify_audit_chain', { org_id: world.shared.org });
    assert.equal(error, null, JSON.stringify(error));
    assert.equal(data.ok, true, JSON.stringify(data));
  });
});
