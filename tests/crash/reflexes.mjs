// Kills the sidecar and Postgres while a sender delivers to a reflex. As senders do, it repeats each delivery until the answer is
// 2xx. In the end each delivery is stored once and has one execution.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
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
  until,
} from './harness.mjs';
import { Tenant } from './tenant.mjs';

const DELIVERIES = 40;
const SENDERS = 4;
const LEASE_SECONDS = 3;

/** A webhook of a new organization, whose skill needs no vendor. */
async function newReflex() {
  const tenant = await Tenant.make();
  const [reflex] = await query(
    `with skill as (
       insert into public.skills (org_id, name, prompt_template, model) values ($1, 'Echo', 'Say {{ n }}', 'echo/echo') returning id, org_id
     )
     insert into public.reflexes (org_id, skill_id, name, verification, rate_per_minute)
     select s.org_id, s.id, 'Crash test', 'bearer', 600 from skill as s
     returning id, public.signing_secret(reflexes.*) as secret`,
    [tenant.orgId],
  );
  return reflex;
}

/** Sends all of them to whichever sidecar there is, each until it is taken. */
class Sender {
  taken = new Map();
  refused = 0;

  constructor(reflex, url) {
    this.reflex = reflex;
    this.url = url;
    this.queue = Array.from({ length: DELIVERIES }, (_, n) => ({ id: randomUUID(), n }));
    this.done = Promise.all(Array.from({ length: SENDERS }, () => this.#work()));
  }

  async #work() {
    for (let next = this.queue.shift(); next; next = this.queue.shift()) await this.#insist(next);
  }

  async #insist({ id, n }) {
    for (const end = performance.now() + 120_000; performance.now() < end; await sleep(50)) {
      const answer = await fetch(`${this.url()}/webhooks/reflex/${this.reflex.id}`, {
        method: 'POST',
        body: JSON.stringify({ n: String(n) }),
        headers: { Authorization: `Bearer ${this.reflex.secret}`, 'webhook-id': id },
      }).catch(() => null);
      if (answer?.status === 202) {
        this.taken.set(id, (await answer.json()).delivery_id);
        return;
      }
      assert.ok(answer === null || answer.status >= 500, `only a fault of ours is a reason to refuse: ${answer?.status}`);
      this.refused += 1;
    }
    throw new Error(`${id} was not taken within two minutes`);
  }

  half = () => until('half of the deliveries to be taken', () => this.taken.size >= DELIVERIES / 2, { everyMs: 1 });
}

async function assertOnce(reflex, sender) {
  await sender.done;
  assert.equal(sender.taken.size, DELIVERIES);
  await until(
    'all deliveries to be processed',
    async () =>
      (await queryPatiently(`select 1 from public.reflex_deliveries where reflex_id = $1 and status = 'received'`, [reflex.id])).length ===
      0,
  );
  const deliveries = await queryPatiently(
    'select id, status, external_id, execution_id from public.reflex_deliveries where reflex_id = $1',
    [reflex.id],
  );
  assert.equal(deliveries.length, DELIVERIES, 'each is stored once');
  assert.deepEqual(
    new Set(deliveries.map((delivery) => delivery.external_id)),
    new Set(sender.taken.keys()),
    'nothing that was answered 202 is lost',
  );
  assert.ok(deliveries.every((delivery) => delivery.status === 'queued' && delivery.execution_id));
  const executions = await queryPatiently('select id, reflex_delivery_id from public.executions where reflex_id = $1', [reflex.id]);
  assert.deepEqual(
    executions.map((execution) => execution.reflex_delivery_id).sort(),
    deliveries.map((delivery) => delivery.id).sort(),
    'each has one execution',
  );
}

export function reflexesTests() {
  describe('a crash while a reflex receives', () => {
    afterEach(killSidecars);

    test('kill -9 of the sidecar: another one goes on, and each delivery runs once', async () => {
      const reflex = await newReflex();
      let sidecar = await Sidecar.start(null, { leaseSeconds: LEASE_SECONDS });
      const sender = new Sender(reflex, () => sidecar.url);
      await sender.half();
      await sidecar.kill();
      sidecar = await Sidecar.start(null, { leaseSeconds: LEASE_SECONDS });
      await assertOnce(reflex, sender);
    });

    const kills = {
      'kill -9 of a backend': async (sidecar) => {
        const witness = await connectAsAdmin();
        const broken = new Promise((resolve) => witness.once('end', resolve));
        const [{ pid }] = await queryAsAdmin("select pid from pg_stat_activity where split_part(application_name, ' ', 1) = $1", [
          sidecar.name,
        ]);
        await killBackend(pid);
        await broken;
      },
      'kill -9 of the postmaster, then ./kijko up': async () => {
        await killPostgres();
        await kijkoDown();
        await kijkoUp();
      },
    };
    for (const [what, kill] of Object.entries(kills)) {
      test(`${what}: nothing is lost, and each delivery runs once`, async () => {
        const reflex = await newReflex();
        const sidecar = await Sidecar.start(null, { leaseSeconds: LEASE_SECONDS });
        const sender = new Sender(reflex, () => sidecar.url);
        await sender.half();
        await kill(sidecar);
        await assertOnce(reflex, sender);
      });
    }
  });
}
