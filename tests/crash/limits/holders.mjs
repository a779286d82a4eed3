// Two hundred holders of one budget at once: each reserves, works a little, and settles, releases, forgets or dies.
import { setTimeout as sleep } from 'node:timers/promises';
import { SUBJECT } from './hammer.mjs';
import { isLost } from './lost.mjs';

export const METER = 'budget';
const HELD = 10;

const random = (n) => Math.floor(Math.random() * n);

export async function prepare(cluster, limit) {
  await cluster.sql(`
    create or replace function public.settle_in_time(hold uuid, actual bigint) returns void language plpgsql as $$
    begin
        perform from kijko.holds as h where h.id = hold and h.state = 'open' for update;
        if found then
            perform kijko.settle(hold, actual);
        end if;
    end $$`);
  await cluster.sql("select kijko.set_limit($1, $2, 'month', $3)", [SUBJECT, METER, limit]);
}

export class Holders {
  constructor(cluster, { clients = 200, chaos = [] } = {}) {
    Object.assign(this, { cluster, clients, chaos });
    this.done = { reserved: 0, refused: 0, settled: 0, released: 0, forgotten: 0, lost: 0, kills: 0 };
    this.overshoots = [];
  }

  // A busy machine needs longer for its first ends after a kill.
  get running() {
    const over = Date.now() - this.until;
    return over < 0 || (this.done.settled <= 20 && over < 60_000);
  }

  async run(milliseconds) {
    this.until = Date.now() + milliseconds;
    await Promise.all([...Array.from({ length: this.clients }, () => this.holder()), this.watch(), this.disturb()]);
  }

  async holder() {
    while (this.running) {
      const client = await this.cluster.connect();
      try {
        await client.query('set synchronous_commit = off');
        while (this.running) await this.work(client);
      } catch (error) {
        if (!isLost(error)) throw error;
        this.done.lost += 1;
      } finally {
        await client.end().catch(() => {});
      }
    }
  }

  async work(client) {
    let hold;
    try {
      const { rows } = await client.query("select kijko.reserve($1, $2, $3, '400 ms') as hold", [SUBJECT, METER, HELD]);
      hold = rows[0].hold;
      this.done.reserved += 1;
    } catch (error) {
      if (error.code !== 'KJ429') throw error;
      this.done.refused += 1;
      await sleep(20);
      return;
    }
    await sleep(random(60));
    const actual = random(HELD + 1);
    switch (random(8)) {
      case 0:
        await client.query('select kijko.release($1)', [hold]);
        this.done.released += 1;
        break;
      case 1: // left to expire
        this.done.forgotten += 1;
        break;
      case 2: // undone: the hold is open again
        await client.query('begin');
        await client.query('select public.settle_in_time($1, $2)', [hold, actual]);
        await client.query('rollback');
        break;
      default: {
        // Twice; it counts once. Only while it is open, so that nothing is recorded beyond what is held.
        await client.query('select public.settle_in_time($1, $2)', [hold, actual]);
        await client.query('select public.settle_in_time($1, $2)', [hold, actual]);
        this.done.settled += 1;
      }
    }
  }

  async watch() {
    while (this.running) {
      const rows = await this.cluster
        .sql(
          `select l.amount as limit,
            (select coalesce(sum(g.amount), 0) from kijko.ledger as g where g.subject = l.subject and g.meter = l.meter)
            + (select coalesce(sum(h.amount), 0) from kijko.holds as h
               where h.subject = l.subject and h.meter = l.meter and h.state = 'open') as sum
         from kijko.limits as l where l.subject = $1 and l.meter = $2`,
          [SUBJECT, METER],
        )
        .catch(() => []);
      for (const row of rows) if (Number(row.sum) > Number(row.limit)) this.overshoots.push(row);
      await sleep(100);
    }
  }

  async disturb() {
    while (this.running && this.chaos.length > 0) {
      await sleep(1_500 + random(1_000));
      if (!this.running) return;
      await this.cluster[this.chaos[random(this.chaos.length)]]().catch(() => {});
      this.done.kills += 1;
    }
  }
}
