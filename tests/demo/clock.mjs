// Travel in time: product time is now() plus the setting kijko.clock_offset, which only a superuser may change.
// The setting is the whole stack's, so each journey must come back: `restore` is safe to call at any time.
import pg from 'pg';
import { until } from './story.mjs';

const SETTING = 'kijko.clock_offset';

export class Clock {
  #url;
  #before = null; // {value} once we have travelled; value is null when nothing had been set

  constructor(adminDatabaseUrl) {
    this.#url = adminDatabaseUrl;
  }

  async now() {
    return this.#ask(async (db) => (await db.query('select kijko.now() as now')).rows[0].now);
  }

  // Moves product time forward, so that it is `moment` now. Returns the offset in seconds.
  async travelTo(moment) {
    return this.#ask(async (db) => {
      if (this.#before === null) this.#before = { value: await storedOffset(db) };
      const { rows } = await db.query('select ceil(extract(epoch from $1::timestamptz - now()))::bigint::text as seconds', [moment]);
      await this.#set(db, rows[0].seconds);
      return Number(rows[0].seconds);
    });
  }

  async restore() {
    if (this.#before === null) return;
    const { value } = this.#before;
    await this.#ask((db) => this.#set(db, value));
    this.#before = null;
  }

  // `alter system` takes no parameters; the value is ours or what the server's own file held.
  async #set(db, value) {
    await db.query(value === null ? `alter system reset ${SETTING}` : `alter system set ${SETTING} = ${pg.escapeLiteral(value)}`);
    await db.query('select pg_reload_conf()');
    // The reload is a signal: another connection has it once the postmaster has read the files.
    await until('the new clock', () => this.#ask(filesAreRead), { timeoutMs: 10_000, everyMs: 50 });
  }

  async #ask(question) {
    const db = new pg.Client({ connectionString: this.#url, application_name: 'kijko-demo-clock' });
    await db.connect();
    try {
      return await question(db);
    } finally {
      await db.end();
    }
  }
}

// What `alter system` has stored, as opposed to what other configuration files say; null when nothing.
async function storedOffset(db) {
  const { rows } = await db.query(
    `select setting from pg_catalog.pg_file_settings where name = $1 and sourcefile like '%postgresql.auto.conf'`,
    [SETTING],
  );
  return rows.at(-1)?.setting ?? null;
}

// A fresh connection has what the postmaster has read; it agrees once that is what the files say.
async function filesAreRead(db) {
  const {
    rows: [read],
  } = await db.query('select setting, source from pg_catalog.pg_settings where name = $1', [SETTING]);
  const {
    rows: [written],
  } = await db.query('select setting from pg_catalog.pg_file_settings where name = $1 order by seqno desc limit 1', [SETTING]);
  return written ? read.setting === written.setting : read.source === 'default';
}
