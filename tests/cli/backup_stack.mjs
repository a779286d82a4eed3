// What the tests of backups share: folders of their own, the contents of a database, and a second place to restore into.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freeStackPorts } from '../ports.mjs';
import { kijko, root, session } from './stack.mjs';

/** A folder that the stack's user can enter, with one for the backups and one for the secrets in it. */
export class Place {
  constructor() {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-backup-'));
    fs.chmodSync(this.folder, 0o755);
    this.backups = path.join(this.folder, 'backups');
    this.secrets = path.join(this.folder, 'secrets');
    this.environment = { KIJKO_BACKUP_DIR: this.backups, KIJKO_BACKUP_SECRETS_DIR: this.secrets, KIJKO_BACKUP_CERTIFICATE: '' };
  }

  names = () => fs.readdirSync(path.join(this.backups, 'base')).sort();
  wal = () => fs.readdirSync(path.join(this.backups, 'wal')).sort();
  // The copy of the journal of erasures is beside them.
  secretFiles = () =>
    fs
      .readdirSync(this.secrets)
      .filter((name) => name !== 'erasures')
      .sort();
  remove = () => fs.rmSync(this.folder, { recursive: true, force: true });
}

/** A stack with a home and ports of its own. */
export class Elsewhere {
  static async make(place) {
    const stack = new Elsewhere();
    const port = await freeStackPorts();
    stack.home = path.join(place.folder, `home-${port}`);
    stack.environment = { ...place.environment, KIJKO_HOME: stack.home, KIJKO_API_PORT: String(port), KIJKO_DB_PORT: '' };
    return stack;
  }

  kijko = (args, more = {}) => kijko(args, { ...this.environment, ...more });

  /** The variables that `status -o env` prints. */
  async variables() {
    const { stdout } = await this.kijko(['status', '-o', 'env']);
    return Object.fromEntries([...stdout.matchAll(/^(\w+)="(.*)"$/gm)].map(([, name, value]) => [name, value]));
  }
}

/** A checksum for each table of these schemas, and what these organizations (without any: all) have used, by organization. */
export const contents = (url, schemas = ['public', 'private', 'auth'], organizations = null) =>
  session(url, async (client) => {
    await client.query('begin isolation level repeatable read read only');
    const { rows: tables } = await client.query(
      `select format('%I.%I', n.nspname, c.relname) as name
       from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
       where n.nspname = any ($1) and c.relkind in ('r', 'p', 'm') order by 1`,
      [schemas],
    );
    const found = {};
    for (const { name } of tables) {
      const { rows } = await client.query(
        `select count(*)::int as rows, md5(coalesce(string_agg(md5(t::text), '' order by md5(t::text)), '')) as md5 from ${name} as t`,
      );
      found[name] = `${rows[0].rows} ${rows[0].md5}`;
    }
    const { rows: usage } = await client.query(
      `select o.id, u.meter, u.period, u.used::text, u."limit"::text
       from public.organizations as o cross join lateral kijko.usage(o.id) as u
       where $1::uuid[] is null or o.id = any ($1) order by 1, 2, 3`,
      [organizations],
    );
    await client.query('rollback');
    for (const { id, ...row } of usage) found[`kijko.usage(${id})`] = (found[`kijko.usage(${id})`] ?? '') + JSON.stringify(row);
    return found;
  });

/** The names of those that differ. */
export const differing = (one, other) =>
  [...new Set([...Object.keys(one), ...Object.keys(other)])].filter((name) => one[name] !== other[name]).sort();

/** A command of ./kijko that is not waited for. */
export const begin = (args, environment) =>
  spawn(path.join(root, 'kijko'), args, { env: { ...process.env, ...environment }, stdio: 'ignore' });
