// A stack with data, and with tables of its own, is brought to a later release and back. The later release is a copy of this
// checkout with one more migration and one more file of sql/platform; its programs are the same, so nothing is compiled.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Elsewhere, Place } from './backup_stack.mjs';
import { root, session, run as start } from './stack.mjs';

const OWN = '20280101000000_own_notes.sql';
const LATER = '20270101000000_foundation_later.sql';

const OWN_TABLE = `create table public.acme_notes (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  title text not null check (char_length(title) <= 100),
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
select private.make_tenant_table('public.acme_notes', resource => 'content', max_rows => 1000, catalogue => '{"title": "what members write down"}');
insert into public.acme_notes (org_id, title) values (kijko.platform_org_id(), 'kept');
`;

const place = new Place();
let elsewhere;

/** A checkout with these files besides, which runs the programs that this one has built. */
function checkout(name, files) {
  const folder = path.join(place.folder, name);
  fs.mkdirSync(folder);
  for (const part of [
    'kijko',
    'scripts',
    'sql',
    'supabase',
    'deploy',
    'kijko_ext',
    'services',
    'sidecar',
    'Cargo.toml',
    'Cargo.lock',
    'package.json',
    'package-lock.json',
  ])
    fs.cpSync(path.join(root, part), path.join(folder, part), {
      recursive: true,
      preserveTimestamps: true,
      filter: (file) => path.basename(file) !== '.temp',
    });
  for (const part of ['target', 'node_modules']) fs.symlinkSync(path.join(root, part), path.join(folder, part));
  for (const [file, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, file), text);
  const tools = path.join(folder, 'tools');
  fs.mkdirSync(tools);
  // What was built is what would be built.
  fs.writeFileSync(
    path.join(tools, 'cargo'),
    '#!/bin/sh\n[ "$1" != pgrx ] || echo "cargo-pgrx $(sed -n s/^CARGO_PGRX_VERSION=//p "$(dirname "$0")/../scripts/packages.sh")"\n',
    { mode: 0o755 },
  );
  const environment = { ...elsewhere.environment, PATH: `${tools}:${process.env.PATH}` };
  return {
    file: (name) => path.join(folder, name),
    kijko: (args, more) => start(path.join(folder, 'kijko'), args, { ...environment, ...more }),
  };
}

const sql = async (text) => session((await elsewhere.variables()).DB_URL, async (client) => (await client.query(text)).rows);

async function succeeds(release, args) {
  const { code, stdout, stderr } = await release.kijko(args);
  assert.equal(code, 0, `${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}
async function fails(release, args, pattern) {
  const { code, stdout, stderr } = await release.kijko(args);
  assert.equal(code, 1, `${args.join(' ')}:\n${stdout}${stderr}`);
  assert.match(stdout + stderr, pattern);
}

describe('a release with data', () => {
  let first;
  let second;
  before(async () => {
    elsewhere = await Elsewhere.make(place);
    const now = fs.readFileSync(path.join(root, 'supabase/release.txt'), 'utf8').trim();
    const own = { [`supabase/migrations/${OWN}`]: OWN_TABLE };
    first = checkout('first', own);
    second = checkout('second', {
      ...own,
      'supabase/release.txt': '99.0.0\n',
      [`supabase/migrations/${LATER}`]: `create table private.later (id integer primary key);\ncomment on table private.later is 'New.';\n`,
      'sql/platform/98_later.sql': 'create schema later;\n',
    });
    first.release = now;
    await succeeds(first, ['up']);
  });
  after(async () => {
    await first?.kijko(['down']);
    place.remove();
  });

  it('is stamped into the database, and a table of your own is a migration like ours', async () => {
    assert.deepEqual(
      (await sql('select release from private.releases')).map((row) => row.release),
      [first.release],
    );
    assert.deepEqual(await sql('select title from public.acme_notes'), [{ title: 'kept' }]);
    assert.match(await succeeds(first, ['migrations']), / 0 pending, 0 edited/);
    const { DB_URL } = await elsewhere.variables();
    assert.match(await succeeds(first, ['migrations', 'check', '--db-url', DB_URL]), / 0 pending, 0 edited/);
  });

  it('a later checkout names what it would do, and up leaves it to upgrade', async () => {
    assert.match(await succeeds(second, ['migrations']), new RegExp(`pending ${LATER}`));
    await fails(second, ['up'], /kijko upgrade/);
    assert.match(await succeeds(second, ['upgrade', '--check']), new RegExp(LATER));
    const [{ later }] = await sql(`select coalesce(to_regclass('private.later')::text, to_regnamespace('later')::text) as later`);
    assert.equal(later, null, 'nothing was changed');
  });

  it('upgrade backs up, applies what is new below tables of your own, and keeps the data', async () => {
    await succeeds(second, ['upgrade']);
    assert.equal(place.names().length, 1);
    const [row] = await sql(`select to_regclass('private.later')::text as later, to_regnamespace('later')::text as platform,
      (select title from public.acme_notes) as title, (select array_agg(release order by applied_at) from private.releases) as releases`);
    assert.deepEqual(row, { later: 'private.later', platform: 'later', title: 'kept', releases: [first.release, '99.0.0'] });
    await succeeds(second, ['up']);
    await succeeds(second, ['status']);
  });

  it('an older checkout refuses the newer database', async () => {
    await fails(first, ['up'], /98_later\.sql/);
    await fails(first, ['upgrade'], /99\.0\.0/);
  });

  it('drift has a voice: the check, a dry run, a push and up name the edited file', async () => {
    const file = second.file(`supabase/migrations/${LATER}`);
    const released = fs.readFileSync(file);
    fs.appendFileSync(file, 'select 1;\n');
    for (const args of [['migrations'], ['migrations', 'push', '--dry-run'], ['migrations', 'push'], ['up'], ['upgrade']])
      await fails(second, args, new RegExp(LATER));
    fs.writeFileSync(file, released);
    fs.renameSync(file, `${file}.away`);
    await fails(second, ['migrations'], /unknown 20270101000000/);
    fs.renameSync(`${file}.away`, file);
    const platform = second.file('sql/platform/98_later.sql');
    fs.appendFileSync(platform, 'select 1;\n');
    for (const args of [['up'], ['upgrade']]) await fails(second, args, /98_later\.sql/);
    fs.writeFileSync(platform, 'create schema later;\n');
    await succeeds(second, ['migrations']);
  });

  it('the way back is the backup that upgrade made, restored by the former release', async () => {
    await succeeds(first, ['restore', '--replace', '--at', await beforeUpgrade()]);
    assert.equal((await sql(`select to_regclass('private.later') as later`))[0].later, null);
    assert.deepEqual(await sql('select title from public.acme_notes'), [{ title: 'kept' }]);
    await succeeds(first, ['resume', '--run']);
    assert.deepEqual(
      (await sql('select release from private.releases')).map((row) => row.release),
      [first.release],
    );
  });
});

/** A moment after the end of the backup, and before the migration. */
async function beforeUpgrade() {
  const [{ at }] = await sql(`select (applied_at - interval '1 microsecond')::text as at from private.releases where release = '99.0.0'`);
  const info = fs.readFileSync(path.join(place.backups, 'base', place.names()[0], 'info'), 'utf8');
  const finished = /^finished=(.*)$/m.exec(info)[1];
  assert.ok(new Date(finished) < new Date(at));
  return finished;
}
