// Many clients on one counter, with every way that a transaction can end. Nothing of what they do is checked one by one:
// what counts is that the ledger never passes the limit, and in the end comes to exactly the limit.
import { setTimeout as sleep } from 'node:timers/promises';
import { isLost } from './lost.mjs';

export const SUBJECT = '00000000-0000-4000-8000-000000000001';
export const METER = 'hammered';
const ISOLATION = ['read committed', 'repeatable read', 'serializable'];

const random = (n) => Math.floor(Math.random() * n);
const chance = (p) => Math.random() < p;

export async function prepare(cluster, limit) {
  await cluster.sql(`
    create or replace function public.in_a_block(subject uuid, meter text, n bigint, fails boolean) returns boolean
    language plpgsql as $$
    begin
        perform kijko.consume(subject, meter, n);
        if fails then
            raise exception 'on purpose';
        end if;
        return true;
    exception
        when others then return false;
    end $$`);
  await cluster.sql("select kijko.set_limit($1, $2, 'month', $3)", [SUBJECT, METER, limit]);
}

export class Hammer {
  constructor(cluster, { clients = 32, chaos = [], everyMs = 600 } = {}) {
    Object.assign(this, { cluster, clients, chaos, everyMs });
    this.done = { transactions: 0, commits: 0, rollbacks: 0, lost: 0, refused: 0, kills: 0 };
    this.overshoots = [];
  }

  async run(milliseconds) {
    this.until = Date.now() + milliseconds;
    const workers = Array.from({ length: this.clients }, (_, n) => this.worker(n));
    await Promise.all([...workers, this.watch(), this.raiseLimits(), this.maintain(), this.disturb()]);
  }

  // A busy machine needs longer for its first commits after a kill.
  get running() {
    const over = Date.now() - this.until;
    return over < 0 || (this.done.commits <= 20 && over < 60_000);
  }

  async worker(n) {
    while (this.running) {
      const client = await this.cluster.connect();
      try {
        if (chance(0.3)) await client.query('set synchronous_commit = off');
        while (this.running) await this.transaction(client, n);
      } catch {
        this.done.lost += 1;
      } finally {
        await client.end().catch(() => {});
      }
    }
  }

  async transaction(client, n) {
    this.done.transactions += 1;
    try {
      await client.query(`begin isolation level ${ISOLATION[random(3)]}`);
      for (let call = 0; call <= random(4); call++) await this.call(client, n);
      const commit = chance(0.65);
      await client.query(commit ? 'commit' : 'rollback');
      this.done[commit ? 'commits' : 'rollbacks'] += 1;
    } catch (error) {
      if (isLost(error)) throw error; // the connection is gone
      if (error.code === 'KJ429') this.done.refused += 1;
      await client.query('rollback');
      this.done.rollbacks += 1;
    }
  }

  async call(client, n) {
    const amount = 1 + random(3);
    const savepoint = chance(0.5);
    if (savepoint) await client.query('savepoint a');
    if (chance(0.1)) await client.query('savepoint b');
    switch (random(6)) {
      case 0:
        await client.query('select public.in_a_block($1, $2, $3, $4)', [SUBJECT, METER, amount, chance(0.5)]);
        break;
      case 1: // fails, and with it the transaction
        await client.query('select kijko.consume($1, $2, $3)', [SUBJECT, METER, amount]);
        break;
      case 2: // together with a subject of its own, which is refused half of the time
        await client.query('select kijko.try_consume_many($1, $2, $3)', [[SUBJECT, own(n)], METER, amount]);
        break;
      case 3: {
        // the second call charges nothing
        const key = `${process.pid} ${n} ${this.done.transactions} ${random(1e9)}`;
        await client.query('select kijko.try_consume($1, $2, $3, $4)', [SUBJECT, METER, amount, key]);
        await client.query('select kijko.try_consume($1, $2, $3, $4)', [SUBJECT, METER, amount, key]);
        break;
      }
      default:
        await client.query('select kijko.try_consume($1, $2, $3)', [SUBJECT, METER, amount]);
    }
    if (savepoint) await client.query(chance(0.5) ? 'rollback to a' : 'release a');
  }

  // Reads the limit and the sum in one snapshot: a use under a raised limit commits after the raise.
  async watch() {
    await this.often(150, async (client) => {
      const {
        rows: [row],
      } = await client.query(
        `select l.amount as limit, (select coalesce(sum(g.amount), 0) from kijko.ledger as g where g.subject = l.subject) as sum
         from kijko.limits as l where l.subject = $1`,
        [SUBJECT],
      );
      if (Number(row.sum) > Number(row.limit)) this.overshoots.push(row);
    });
  }

  // So that all the time there are calls at the edge.
  async raiseLimits() {
    await this.often(200, (client) =>
      client.query("select kijko.set_limit(subject, meter, 'month', amount + 150) from kijko.limits where subject = $1", [SUBJECT]),
    );
  }

  // Partitions of a second, rolled up as soon as they may be; counters forgotten in the middle of it all.
  async maintain() {
    await this.often(300, async (client) => {
      for (const task of ["make_ledger_partitions('3 s', '1 s')", 'rollup_usage()', "detach_ledger_partitions('1 day')"]) {
        await client.query(`select kijko.${task}`).catch((error) => {
          if (!['55P03', '40P01'].includes(error.code)) throw error; // a lock not got in time: next time
        });
      }
      if (chance(0.2)) await client.query('select kijko.reload_counters($1)', [SUBJECT]);
    });
  }

  async disturb() {
    while (this.running && this.chaos.length > 0) {
      await sleep(this.everyMs * (0.5 + Math.random()));
      if (!this.running) return;
      await this.cluster[this.chaos[random(this.chaos.length)]]().catch(() => {});
      this.done.kills += 1;
    }
  }

  async often(milliseconds, action) {
    while (this.running) {
      const client = await this.cluster.connect();
      try {
        while (this.running) {
          await action(client);
          await sleep(milliseconds);
        }
      } catch (error) {
        if (!isLost(error)) throw error;
      } finally {
        await client.end().catch(() => {});
      }
    }
  }
}

function own(n) {
  return `00000000-0000-4000-8000-1000000000${String(n).padStart(2, '0')}`;
}

// Uses one by one what is left, and says what the counter, the ledger and the rolled up sum come to.
export async function drain(cluster, meter = METER) {
  const client = await cluster.connect();
  try {
    let calls = 0;
    for (;;) {
      const {
        rows: [verdict],
      } = await client.query('select * from kijko.try_consume($1, $2, 1)', [SUBJECT, meter]);
      if (!verdict.allowed) break;
      calls += 1;
    }
    const {
      rows: [row],
    } = await client.query(
      `select l.amount::int8 as limit,
          (select sum(g.amount) from kijko.ledger as g where g.subject = l.subject and g.meter = l.meter)::int8 as ledger,
          (select u.used from kijko.usage(l.subject) as u where u.meter = l.meter) as counted,
          (select v.used from kijko.try_consume(l.subject, l.meter, 1) as v) as counter
       from kijko.limits as l where l.subject = $1 and l.meter = $2`,
      [SUBJECT, meter],
    );
    const {
      rows: [stats],
    } = await client.query("select value as pinned from kijko.stats() where metric = 'quota.pinned'");
    Object.assign(row, stats);
    return { drained: calls, ...Object.fromEntries(Object.entries(row).map(([k, v]) => [k, Number(v)])) };
  } finally {
    await client.end().catch(() => {});
  }
}
