// The example of docs/guides/jobs_workers.md, as it is printed there: a table, a function, and workers in two languages.
//
// By itself among the journeys: while it runs, the database has a table that no list of ours knows.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { parse, root } from '../docs/markdown.mjs';
import { rewindWatermark } from '../queue.mjs';
import { reloadApi } from '../reload.mjs';
import { assertAnonymousSeesNothing, call, join as joins, newPerson, newTeam, ok, refused, until } from './domain.mjs';
import { admin, adminSql, env, sql } from './support.mjs';

const files = new Map(
  parse('docs/guides/jobs_workers.md').blocks.flatMap(({ attributes, code }) => (attributes.file ? [[attributes.file, code]] : [])),
);
const workerUrl = () => {
  const url = new URL(env.DB_URL);
  url.username = 'acme_worker';
  url.password = 'choose-a-long-one';
  return url.href;
};

const PROGRAMS = { 'worker.mjs': process.execPath, 'worker.py': '/usr/bin/python3' };

describe('a domain of your own', () => {
  let folder;
  let team;
  before(async () => {
    await forget();
    await adminSql(files.get('role.sql'));
    await sql(files.get('migration.sql'));
    await reloadApi();
    folder = await mkdtemp(join(tmpdir(), 'kijko-example-'));
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
    for (const name of Object.keys(PROGRAMS)) await writeFile(join(folder, name), files.get(name));
    team = await newTeam();
    await until(
      'the API knows the table',
      async () => (await team.owner.client.from('acme_documents').select('id').limit(1)).status === 200,
    );
  });
  after(async () => {
    await forget();
    await reloadApi();
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs a worker for as long as the work takes. A failure has what it wrote. */
  async function working(name, work) {
    const worker = spawn(PROGRAMS[name], [name], { cwd: folder, env: { PATH: process.env.PATH, WORKER_DATABASE_URL: workerUrl() } });
    let written = '';
    for (const stream of [worker.stdout, worker.stderr]) stream.on('data', (text) => (written += text));
    const ended = new Promise((resolve) => worker.once('exit', (code, signal) => resolve(code ?? signal)));
    try {
      await work(worker);
    } catch (error) {
      error.message += `\nthe worker wrote: ${written}`;
      throw error;
    } finally {
      worker.kill('SIGTERM');
    }
    return ended;
  }

  const newDocument = async (person, body) =>
    ok(person.client.from('acme_documents').insert({ org_id: person.orgId, title: 'Motto', body }).select().single());
  const wordsOf = async (document) => (await ok(admin().from('acme_documents').select('words').eq('id', document.id).single())).words;
  const counted = (document, words) => until(`${words} words are counted`, async () => (await wordsOf(document)) === words);

  test('every file of the page is used here', () => {
    assert.deepEqual([...files.keys()].sort(), ['client.mjs', 'migration.sql', 'role.sql', ...Object.keys(PROGRAMS)].sort());
  });

  test('an unauthenticated caller sees and does nothing', async () => {
    await assertAnonymousSeesNothing(['acme_documents']);
  });

  test('non-members, viewers and keys of others are refused', async () => {
    const document = await newDocument(team.owner, 'one two three');
    assert.deepEqual(await ok(team.nonMember.client.from('acme_documents').select('id').eq('id', document.id)), []);
    await refused(team.nonMember.client.rpc('acme_count_words', { document_id: document.id }), 404, 'not_found');
    await refused(team.viewer.client.rpc('acme_count_words', { document_id: document.id }), 404, 'not_found');
    await refused(team.member.client.from('acme_documents').update({ words: 7 }).eq('id', document.id).select(), 403, '42501');
    assert.equal((await call(team.member, 'acme_save_words', {})).status, 404, 'what workers call is not served');
  });

  for (const name of Object.keys(PROGRAMS)) {
    test(`${name} counts, and ends when it is asked to`, async () => {
      const status = await working(name, async () => {
        const document = await newDocument(team.owner, 'one two three');
        const job = await ok(team.member.client.rpc('acme_count_words', { document_id: document.id }));
        await counted(document, 3);
        const seen = await ok(team.viewer.client.from('jobs').select('status, kind, result').eq('id', job).single());
        assert.deepEqual(seen, { status: 'succeeded', kind: 'own.count_words', result: { words: 3 } });
      });
      assert.equal(status, 0);
    });

    test(`the job of a worker that was killed is done by ${name}`, async () => {
      const document = await newDocument(team.owner, 'four words are here');
      const job = await ok(team.owner.client.rpc('acme_count_words', { document_id: document.id }));
      const dead = new pg.Client({ connectionString: workerUrl() });
      await dead.connect();
      try {
        await rewindWatermark(sql);
        const { rows } = await dead.query("select * from private.jobs_worker_claim('dead', 1, '1 second')");
        assert.deepEqual([rows.length, rows[0].id, rows[0].attempt], [1, job, 1]);
        await working(name, () => counted(document, 4));
        const late = await dead.query("select private.acme_save_words('dead', $1, 1, 99) as status", [job]);
        assert.equal(late.rows[0].status, null, 'the lease was lost');
        assert.equal(await wordsOf(document), 4);
      } finally {
        await dead.end();
      }
    });
  }

  test('the page’s client works', async () => {
    const person = await newPerson();
    await joins(person, team.owner.orgId, 'member', team.owner);
    const AsyncFunction = (async () => {}).constructor;
    const run = new AsyncFunction('supabase', `${files.get('client.mjs')}; return document`);
    await working('worker.mjs', async () => counted(await run(person.client), 6));
  });
});

/** Takes the example out of the database, also after a run that was stopped. */
async function forget() {
  await adminSql(`
    drop function if exists public.acme_count_words(uuid), private.acme_save_words(text, uuid, integer, integer);
    drop table if exists public.acme_documents;
    delete from private.data_catalogue where table_name = 'public.acme_documents';
    delete from private.tenant_row_counts where table_name = 'public.acme_documents';
    delete from private.job_worker_kinds where role = 'acme_worker';
    do $$ begin
      if exists (select 1 from pg_roles where rolname = 'acme_worker') then
        drop owned by acme_worker;
        drop role acme_worker;
      end if;
    end $$`);
}
