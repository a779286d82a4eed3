// Product events, while a process of Postgres is killed: Segment's own client loses none and doubles none, and each is metered once.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Analytics } from '@segment/analytics-node';
import { createKey } from '../journeys/api_keys_support.mjs';
import { newPerson } from '../journeys/domain.mjs';
import { blockedBy, connectAsAdmin, killBackend, killSidecars, queryPatiently, Sidecar, until } from './harness.mjs';

const REST_PORT = Number(new URL(process.env.API_URL).port) + 10;
const KILLS = 3;
const CLIENTS = 3;
const SETTINGS = { path: '/api/v1/ingest/batch', maxEventsInBatch: 20, maxRetries: 100, flushInterval: 50 };

export function analyticsTests() {
  describe('product events, while Postgres is killed', () => {
    test("Segment's client delivers each event once, and each is metered once", async () => {
      const person = await newPerson('PRO');
      const { secret } = await createKey(person, { permissions: ['events:ingest'], rate_limit: 6000 });
      const sidecar = await Sidecar.start(null, { variables: { KIJKO_REST_URL: `http://127.0.0.1:${REST_PORT}` } });
      const failures = [];
      const clients = Array.from({ length: CLIENTS }, () => new Analytics({ writeKey: secret, host: sidecar.url, ...SETTINGS }));
      let sent = 0;
      let done = false;
      const sending = clients.map(async (client) => {
        client.on('error', (error) => failures.push(error));
        while (!done) {
          for (let n = 0; n < SETTINGS.maxEventsInBatch; n += 1, sent += 1) {
            client.track({ event: 'Crashed', userId: `user-${n}`, properties: { n: sent } });
          }
          await client.flush();
        }
        await client.closeAndFlush();
      });
      const stored = () => queryPatiently('select count(*)::int as n from public.events where org_id = $1', [person.orgId]);
      for (let kill = 0; kill < KILLS; kill += 1) {
        const [{ n }] = await stored();
        await until('more events', async () => (await stored())[0].n > n);
        // Calls that take events in: neither the client of the one that dies learns what became of them, nor those of the others, whom
        // Postgres ends then.
        const holder = await connectAsAdmin();
        await holder.query('begin');
        await holder.query('lock table private.analytics_messages in share mode');
        const [{ pid }] = await until('calls of track()', async () => {
          const calls = (await blockedBy(holder)).filter(({ usename }) => usename === 'authenticator');
          return calls.length === CLIENTS && calls;
        });
        await killBackend(pid);
        await holder.end().catch(() => {});
      }
      done = true;
      await Promise.all(sending);
      await killSidecars();
      assert.deepEqual(failures, []);
      const [found] = await queryPatiently(
        `select count(*)::int as events, count(distinct (e.properties ->> 'n')::int)::int as sent,
           (select u.used::int from kijko.usage($1) as u where u.meter = 'events') as used
         from public.events as e where e.org_id = $1`,
        [person.orgId],
      );
      assert.deepEqual(found, { events: sent, sent, used: sent });
    });
  });
}
