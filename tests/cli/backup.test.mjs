// Backups from outside: what a backup is, where it can be restored, and what is refused before anything is touched.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { disconnect } from '../access/db.mjs';
import { leftovers, NOTHING, someone } from '../journeys/privacy_support.mjs';
import { newUser } from '../journeys/support.mjs';
import { contents, differing, Elsewhere, Place } from './backup_stack.mjs';
import { Bucket, blob } from './objects.mjs';
import { asPostgres, asSuperuser, home, kijko, session } from './stack.mjs';

const place = new Place();
const run = async (args, more = {}) => kijko(args, { ...place.environment, ...more });

async function succeeds(args, more) {
  const { code, stdout, stderr } = await run(args, more);
  assert.equal(code, 0, `./kijko ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

async function fails(args, pattern, more, expected = 1) {
  const { code, stdout, stderr } = await run(args, more);
  assert.equal(code, expected, `./kijko ${args.join(' ')}:\n${stdout}${stderr}`);
  assert.match(stderr, pattern);
}

const switchWal = () =>
  asSuperuser(async (client) => {
    await client.query('select pg_switch_wal()');
  });

describe('backups', () => {
  let user;
  // The user's own, with a project.
  let org;
  // Has used every domain.
  let erased;
  let elsewhere;
  let bucket;
  const objects = path.join(place.backups, 'objects');
  // In the folder, and of no row.
  const gone = blob('abcdef00-0000-4000-8000-000000000003');
  before(async () => {
    user = await newUser();
    const { data, error } = await user.client.from('projects').insert({ name: 'Kept' }).select('org_id').single();
    assert.equal(error, null, JSON.stringify(error));
    org = data.org_id;
    erased = await someone();
    await disconnect();
    bucket = await Bucket.make();
    await bucket.put('before', 'before the backup');
    await placeObject(gone);
    elsewhere = await Elsewhere.make(place);
  });
  after(async () => {
    await elsewhere.kijko(['down']);
    await run(['backup', 'off']);
    await bucket.remove();
    place.remove();
  });

  it('there is none: status fails, verify and restore say so', async () => {
    await fails(['backup', 'status'], /there is no backup/);
    await fails(['backup', 'verify'], /there is no backup/);
    await fails(['restore'], /there is no backup/);
  });

  it('a backup is verified, leaves nothing half-done, and its secrets are readable by their owner only', async () => {
    await succeeds(['backup']);
    assert.equal(place.names().length, 1);
    assert.match(place.names()[0], /^\d{8}T\d{6}Z$/);
    const [secrets] = place.secretFiles();
    assert.equal(fs.statSync(path.join(place.secrets, secrets)).mode & 0o777, 0o600);
    const listed = execFileSync('tar', ['-tf', path.join(place.secrets, secrets)], { encoding: 'utf8' });
    for (const name of ['passwords', 'signing.keys', 'seal.keys', 'api_keys', 'storage_signing_key'])
      assert.match(listed, new RegExp(`^\\./${name}$`, 'm'));
    assert.deepEqual(
      fs.readdirSync(path.join(home, 'secrets')).filter((name) => /backup/.test(name)),
      [],
      'no copy of a secret stays behind',
    );
    const data = path.join(place.backups, 'base', place.names()[0], 'data');
    assert.deepEqual(
      fs.readdirSync(data, { recursive: true }).filter((name) => /\.(keys|pgpass)$|passwords/.test(name)),
      [],
    );
    // A restore to that moment must not stop before the copy is consistent. The manifest is the last file of the copy.
    const info = fs.readFileSync(path.join(data, '../info'), 'utf8');
    const finished = /^finished=(.*?\.\d{3})\d{3}Z$/m.exec(info)?.[1];
    assert.ok(Date.parse(`${finished}Z`) >= Math.floor(fs.statSync(path.join(data, 'backup_manifest')).mtimeMs), info);
    await succeeds(['backup', 'status']);
    await succeeds(['backup', 'verify']);
  });

  it('the folder of another cluster is refused', async () => {
    const file = path.join(place.backups, 'cluster');
    const ours = fs.readFileSync(file, 'utf8');
    fs.writeFileSync(file, '1\n');
    await fails(['backup'], /another cluster/);
    fs.writeFileSync(file, ours);
  });

  it('for a certificate, the secrets are encrypted: restoring needs its private key', async () => {
    const key = path.join(place.folder, 'key.pem');
    const certificate = path.join(place.folder, 'certificate.pem');
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=backup', '-days', '2', '-keyout', key, '-out', certificate],
      { stdio: 'ignore' },
    );
    await fails(['backup'], /no certificate/, { KIJKO_BACKUP_CERTIFICATE: key });
    await succeeds(['backup'], { KIJKO_BACKUP_CERTIFICATE: certificate });
    const encrypted = path.join(
      place.secrets,
      place.secretFiles().find((name) => name.endsWith('.cms')),
    );
    assert.ok(!fs.readFileSync(encrypted).includes('KIJKO_ADMIN_PASSWORD'));
    const restore = ['restore', '--from', place.backups, '--secrets', encrypted];
    assert.equal((await elsewhere.kijko(restore)).code, 2, 'no key');
    assert.equal((await elsewhere.kijko([...restore, '--secrets-key', certificate])).code, 1, 'not its key');
    assert.ok(!fs.existsSync(path.join(elsewhere.home, 'data')), 'nothing was restored');
  });

  it('another place and another name of the database: the same contents, and a stack of its own', async () => {
    await asPostgres((client) =>
      client.query(`update public.profiles set display_name = 'after the backup' where id = $1`, [user.user.id]),
    );
    await bucket.put('after', 'after the backup');
    await bucket.put('deleted', 'soon');
    await bucket.delete('deleted');
    await switchWal();
    await settled();
    assert.ok(fs.existsSync(path.join(objects, blob(await bucket.version('after')))), 'objects are archived before WAL');
    const secrets = path.join(
      place.secrets,
      place.secretFiles().find((name) => name.endsWith('.tar')),
    );
    const restore = ['restore', '--from', place.backups, '--secrets', secrets, '--database', 'other'];
    // As if somebody had been erased after the archive ended, and a crash had torn the line before.
    const journal = path.join(place.folder, 'journal');
    const entry = { id: randomUUID(), user_id: erased.person.user.id, at: new Date().toISOString() };
    fs.writeFileSync(journal, `{"id":\n${JSON.stringify(entry)}\n`);
    // A journal that has as many entries, and not the one that it had when the backup was made.
    const ids = path.join(place.backups, 'base', place.names().at(-1), 'erasures');
    const known = fs.readFileSync(ids, 'utf8');
    const [missing] = [...known.split('\n'), randomUUID()].filter(Boolean);
    const other = randomUUID();
    fs.writeFileSync(ids, `${[...known.split('\n').filter((id) => id && id !== missing), other].sort().join('\n')}\n`);
    const short = await elsewhere.kijko([...restore, '--erasures', journal]);
    fs.writeFileSync(ids, known);
    assert.deepEqual([short.code, /journal of erasures lacks 1 entries/.test(short.stderr)], [1, true], short.stderr);
    const { code, stderr } = await elsewhere.kijko([...restore, '--erasures', journal]);
    assert.equal(code, 0, stderr);
    const there = await elsewhere.variables();
    assert.match(there.DB_URL, /\/other$/);
    // Signed URLs of storage go on working.
    const storageKey = (stack) => fs.readFileSync(path.join(stack, 'secrets/storage_signing_key'), 'utf8');
    assert.equal(storageKey(elsewhere.home), storageKey(home));
    const copied = bucket.on(there);
    for (const name of ['before', 'after']) assert.equal((await copied.get(name)).toString(), `${name} the backup`);
    assert.equal(await copied.get('deleted'), 400);
    const checked = await elsewhere.kijko(['storage', 'check']);
    assert.equal(checked.code, 0, checked.stdout);
    const [row] = await session(
      there.DB_URL,
      async (c) =>
        (await c.query('select display_name, current_database() as name from public.profiles where id = $1', [user.user.id])).rows,
    );
    assert.deepEqual(row, { display_name: 'after the backup', name: 'other' });
    const found = await session(there.ADMIN_DB_URL, (c) =>
      leftovers(erased, elsewhere.home, async (text, values) => (await c.query(text, values)).rows),
    );
    assert.deepEqual(found, NOTHING, 'nobody comes back');
    const before = await asSuperuser((c) => leftovers(erased, home, async (text, values) => (await c.query(text, values)).rows));
    assert.ok(before.names.length > 10 && before.mails.length > 0 && before.files.length > 0, 'where they were not erased they are found');
    await asPostgres(async (client) => {
      await client.query('delete from public.organizations where id = any ($1)', [[erased.own.org, erased.shared.org]]);
      await client.query('delete from auth.users where id = any ($1)', [[erased.person.user.id, erased.colleague.user.id]]);
    });
    await session(there.DB_URL, (client) => client.query('delete from auth.users where id = $1', [erased.colleague.user.id]));
    // The first stack goes on with the work that other tests left, which the copy does not do: what it used counts for this user alone.
    const same = (url) => contents(url, ['auth'], [org]);
    const held = await same(process.env.ADMIN_DB_URL);
    assert.match(held[`kijko.usage(${org})`], /"meter":"projects","period":[^,]*,"used":"1"/);
    assert.deepEqual(differing(held, await same(there.ADMIN_DB_URL)), []);
    const login = await fetch(`${there.API_URL}/auth/v1/token?grant_type=password`, {
      method: 'POST',
      headers: { apikey: there.ANON_KEY, 'content-type': 'application/json' },
      body: JSON.stringify({ email: user.email, password: user.password }),
    });
    assert.equal(login.status, 200);
    const jobs = await session(
      there.ADMIN_DB_URL,
      async (c) => (await c.query('select distinct database, nodename, nodeport from cron.job')).rows,
    );
    const port = Number(new URL(there.DB_URL).port);
    assert.deepEqual(jobs, [{ database: 'other', nodename: `@kijko-${port}`, nodeport: port }], 'the schedules are of the new database');
    await switchWal();
    const wal = await settled();
    await session(there.ADMIN_DB_URL, (c) => c.query('select pg_switch_wal()'));
    assert.deepEqual(await settled(), wal, 'the copy does not write into the archive that it came from');
  });

  it('data that is there is never replaced unasked, and options are checked first', async () => {
    await fails(['restore'], /--replace/);
    await fails(['restore', '--at', 'teatime'], /--at/, {}, 2);
    await fails(['restore', '--at', '2999-01-01'], /future/, {}, 2);
    await fails(['restore', '--database', "x'; drop"], /--database/, {}, 2);
    await fails(['restore', '--backup'], /restore takes/, {}, 2);
    await fails(['backup', 'everything'], /backup takes/, {}, 2);
    await fails(['backup'], /in the folder of the data/, { KIJKO_BACKUP_DIR: path.join(home, 'data/backups') }, 2);
    await succeeds(['status']);
  });

  it('a moment before the first backup, and a gap in the archive, are refused and leave the stack as it was', async () => {
    const other = await Elsewhere.make(place);
    const restore = (...more) =>
      other.kijko(['restore', '--from', place.backups, '--secrets', path.join(place.secrets, place.secretFiles()[0]), ...more]);
    const early = await restore('--at', '2020-01-01');
    assert.equal(early.code, 1);
    assert.match(early.stderr, /no backup/);
    await switchWal();
    await settled();
    const files = place.wal().filter((name) => /^[0-9A-F]{24}\.gz$/.test(name));
    const gap = path.join(place.backups, 'wal', files.at(-2));
    fs.renameSync(gap, `${gap}.away`);
    const { code, stderr } = await restore();
    fs.renameSync(`${gap}.away`, gap);
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`${files.at(-2).slice(0, 24)} is not in`));
    assert.ok(!fs.existsSync(path.join(other.home, 'data')));
  });

  it('a restore that is killed at its end loses neither state, and up makes no new cluster over it', async () => {
    const data = path.join(elsewhere.home, 'data');
    await elsewhere.kijko(['down']);
    fs.renameSync(data, `${data}.restored`);
    for (const args of [['up'], ['restore', '--from', place.backups, '--replace']]) {
      const { code, stdout, stderr } = await elsewhere.kijko(args);
      assert.equal(code, 1);
      assert.match(stdout + stderr, /a restore was interrupted/);
    }
    fs.renameSync(`${data}.restored`, data);
    // Beside data that are in their place it is scrap.
    fs.mkdirSync(`${data}.restored`);
    const { code, stderr } = await elsewhere.kijko(['restore', '--from', place.backups, '--replace', '--at', '2020-01-01']);
    assert.equal(code, 1);
    assert.match(stderr, /no backup/);
    assert.ok(!fs.existsSync(`${data}.restored`));
  });

  it('a restore that fails leaves the stack and its queue as they were', async () => {
    const at = new Date().toISOString();
    // Nothing is written after that moment, so the WAL ends before it.
    const base = path.join(place.backups, 'base', place.names().at(-1), 'data/global/pg_control');
    const control = fs.readFileSync(base);
    fs.writeFileSync(base, control.subarray(0, 100));
    await fails(['restore', '--replace', '--at', at], /nothing was restored/);
    fs.writeFileSync(base, control);
    await succeeds(['up']);
    assert.equal((await asPostgres((c) => c.query('select 1 from private.job_queue_pause'))).rowCount, 0);
    await succeeds(['status']);
  });

  it('verify finds a damaged byte, a missing object and a missing file of WAL', async () => {
    const object = path.join(objects, blob(await bucket.version('before')));
    fs.renameSync(object, `${object}.away`);
    await fails(['backup', 'verify', place.names()[0]], /objects/);
    fs.renameSync(`${object}.away`, object);
    const base = path.join(place.backups, 'base', place.names()[0]);
    const file = path.join(base, 'data/PG_VERSION');
    fs.writeFileSync(file, '51\n');
    await fails(['backup', 'verify', place.names()[0]], /damaged/);
    fs.writeFileSync(file, `${fs.readFileSync(path.join(home, 'data/PG_VERSION'), 'utf8')}`);
    await succeeds(['backup', 'verify']);
    const files = place.wal().filter((name) => /^[0-9A-F]{24}\.gz$/.test(name));
    const gap = path.join(place.backups, 'wal', files.at(-2));
    fs.renameSync(gap, `${gap}.away`);
    await fails(['backup', 'verify', place.names()[0]], /WAL is missing/);
    fs.renameSync(`${gap}.away`, gap);
  });

  it('the newest stay, and with an old one go its secrets and the WAL before the others', async () => {
    const before = place.names();
    fs.rmSync(path.join(home, 'storage', gone));
    assert.ok(fs.existsSync(path.join(objects, gone)), 'a kept backup needs it');
    await succeeds(['backup'], { KIJKO_BACKUP_KEEP: '1', KIJKO_BACKUP_MAX_DAYS: '12' });
    assert.ok(!fs.existsSync(path.join(objects, gone)), 'no backup needs it');
    assert.ok(fs.existsSync(path.join(objects, blob(await bucket.version('before')))));
    assert.equal(place.names().length, 1);
    assert.ok(!before.includes(place.names()[0]));
    const info = fs.readFileSync(path.join(place.backups, 'base', place.names()[0], 'info'), 'utf8');
    const { rows } = await asPostgres((c) =>
      c.query('select oldest_backup_at as at, backup_lifetime::text as keeps from private.privacy_settings'),
    );
    assert.deepEqual(
      rows.map(({ at, keeps }) => [at.toISOString().replace('.000', ''), keeps]),
      [[/^started=(.*)$/m.exec(info)[1], '12 days']],
      'the database knows the oldest backup, for the proof of erasures',
    );
    assert.deepEqual(place.secretFiles(), [`secrets-${place.names()[0]}.tar`]);
    await succeeds(['backup', 'verify']);
  });

  it('a full or missing archive stops no work: it is reported, and made up for later', async () => {
    fs.renameSync(path.join(place.backups, 'wal'), path.join(place.backups, 'away'));
    await switchWal();
    await asPostgres((client) => client.query(`update public.profiles set display_name = 'still here' where id = $1`, [user.user.id]));
    for (let n = 0; n < 100 && (await run(['backup', 'status'])).code === 0; n++);
    await fails(['backup', 'status'], /the archive fails/);
    fs.renameSync(path.join(place.backups, 'away'), path.join(place.backups, 'wal'));
    await switchWal();
    await settled();
    for (let n = 0; n < 100 && (await run(['backup', 'status'])).code !== 0; n++);
    await succeeds(['backup', 'status']);
  });
});

/** A file in the folder of the objects, of its user. */
async function placeObject(name) {
  const file = path.join(home, 'storage', name);
  const { uid, gid } = fs.statSync(path.join(home, 'storage'));
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, 'nobody');
  for (const made of [file, path.dirname(file), path.dirname(path.dirname(file))]) fs.chownSync(made, uid, gid);
}

/** The names in the archive, once the server has nothing left to archive. */
async function settled() {
  for (let n = 0; n < 600; n++) {
    const waiting = fs.readdirSync(path.join(home, 'data/pg_wal/archive_status')).filter((name) => name.endsWith('.ready'));
    if (waiting.length === 0) return place.wal();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail('the archive does not catch up');
}
