// Kills Postgres while Stripe delivers. As Stripe does, the sender repeats each event until the answer is 2xx. In the end every
// accepted event is stored and was applied once, and the rows equal those of a run without a crash.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { deliver, recorded } from '../journeys/stripe_events.mjs';
import { newUser } from '../journeys/support.mjs';
import {
  connectAsAdmin,
  kijkoDown,
  kijkoUp,
  killBackend,
  killPostgres,
  killSidecars,
  query,
  queryAsAdmin,
  queryPatiently,
  Sidecar,
  STRIPE_SECRET,
  until,
} from './harness.mjs';

const LIVES = 12;
const SENDERS = 6;
const TABLES = ['stripe_customers', 'stripe_checkouts', 'stripe_subscriptions', 'stripe_invoices'];

class Life {
  static async make(end) {
    const life = new Life();
    const { client } = await newUser();
    life.orgId = (await client.from('organizations').select('id')).data[0].id;
    life.tag = `T${randomBytes(4).toString('hex')}`;
    life.events = recorded('lifecycle', { orgId: life.orgId, tag: life.tag, end });
    return life;
  }

  // The rows that the events led to. The tag and the organization's id are replaced, so that lives can be compared.
  async rows() {
    const found = {};
    for (const table of TABLES) {
      found[table] = await query(`select * from public.${table} where id like '%' || $1 order by id`, [this.tag]);
    }
    found.plan = await query('select plan, status, current_period_start, current_period_end from public.subscriptions where org_id = $1', [
      this.orgId,
    ]);
    return JSON.parse(JSON.stringify(found).replaceAll(this.tag, 'TAG').replaceAll(this.orgId, 'ORG'));
  }
}

// Sends everything, each event until it is taken. Of each it keeps how often it was taken as new.
class Sender {
  taken = new Map();
  refused = 0;

  constructor(url, events) {
    this.url = url;
    this.queue = events.map((event) => ({ event }));
    this.done = Promise.all(Array.from({ length: SENDERS }, () => this.#work()));
  }

  async #work() {
    for (let next = this.queue.shift(); next; next = this.queue.shift()) await this.#insist(next.event);
  }

  async #insist(event) {
    for (const end = performance.now() + 120_000; performance.now() < end; await sleep(100)) {
      const answer = await deliver(this.url, event, STRIPE_SECRET).catch(() => null);
      if (answer?.status === 200) {
        this.taken.set(event.id, answer.body);
        return;
      }
      assert.ok(answer === null || answer.status >= 500, `only a fault of ours is a reason to refuse: ${answer?.text}`);
      this.refused += 1;
    }
    throw new Error(`${event.id} was not taken within two minutes`);
  }

  half = () => until('half of the events to be taken', () => this.taken.size >= this.queue.length, { everyMs: 1 });
}

const backendsOf = (sidecar) =>
  queryAsAdmin("select pid from pg_stat_activity where split_part(application_name, ' ', 1) = $1", [sidecar.name]);

export function stripeTests(vendor) {
  describe('Postgres dies while Stripe delivers', () => {
    afterEach(killSidecars);

    const cases = {
      'kill -9 of a backend': async (sidecar) => {
        const witness = await connectAsAdmin();
        const broken = new Promise((resolve) => witness.once('end', resolve));
        await killBackend((await backendsOf(sidecar))[0].pid);
        await broken;
      },
      'kill -9 of the postmaster, then ./kijko up': async () => {
        await killPostgres();
        await kijkoDown();
        await kijkoUp(vendor);
      },
    };
    for (const [what, kill] of Object.entries(cases)) {
      test(`${what}: accepted events are stored and applied once, and resending the rest leads to the same state`, async () => {
        const sidecar = await Sidecar.start(vendor);
        const end = Math.floor(Date.now() / 1000);
        const quiet = await Life.make(end);
        for (const event of quiet.events) assert.equal((await deliver(sidecar.url, event, STRIPE_SECRET)).status, 200);
        const expected = await quiet.rows();
        assert.equal(expected.stripe_subscriptions.length, 1, 'the life has left rows to compare with');

        const lives = await Promise.all(Array.from({ length: LIVES }, () => Life.make(end)));
        const events = lives[0].events.flatMap((_, step) => lives.map((life) => life.events[step]));
        const sender = new Sender(sidecar.url, events);
        await sender.half();
        const killed = kill(sidecar);
        await until('a delivery to fail', () => sender.refused > 0, { everyMs: 5 });
        const before = [...sender.taken.keys()];
        await killed;
        const there = await queryPatiently('select id from private.stripe_events where id = any ($1)', [before]);
        assert.equal(there.length, before.length, 'what was answered 2xx is there after the crash');

        await sender.done;
        assert.equal(sender.taken.size, events.length);
        const stored = await query('select id, status, attempts from private.stripe_events where id = any ($1)', [
          events.map((event) => event.id),
        ]);
        assert.equal(stored.length, events.length);
        assert.deepEqual(
          stored.filter((event) => event.attempts > 1 || event.status === 'failed'),
          [],
          'nothing was applied twice',
        );
        for (const life of lives) assert.deepEqual(await life.rows(), expected);
        assert.equal(sidecar.child.exitCode, null, 'it is the same process');
      });
    }
  });
}
