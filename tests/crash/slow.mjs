// A site that does not answer holds up what reads it, and nothing else.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { newPerson, newSkill, ok } from '../journeys/domain.mjs';
import { newServer } from '../journeys/functions_support.mjs';
import { sql } from '../journeys/support.mjs';
import { killSidecars, queryAsAdmin, Sidecar, stopStackSidecar, until } from './harness.mjs';

const SLOTS = 4;

export function slowTests() {
  describe('a site that does not answer', () => {
    const people = [];
    before(async () => {
      const [{ setting }] = await queryAsAdmin(`select setting from pg_settings where name = 'kijko.http_allowed_hosts'`);
      assert.equal(setting, 'localhost', 'the stack of the tests reads feeds of this machine');
      await stopStackSidecar();
      for (let n = 0; n < SLOTS + 1; n += 1) people.push(await newPerson('TEAMS'));
    });
    afterEach(killSidecars);
    after(() => sql('update public.discoveries set enabled = false where org_id = any ($1)', [people.map(({ orgId }) => orgId)]));

    test('leaves half of the slots to jobs of other kinds, whoever reads it', async () => {
      const [reader, ...readers] = people;
      const site = await newServer(() => new Promise(() => {}));
      for (const { client, orgId } of readers) {
        const { id } = await ok(
          client
            .from('discoveries')
            .insert({ org_id: orgId, name: 'Silent', collector: 'feed', url: `${site}/feed` })
            .select('id')
            .single(),
        );
        await ok(client.rpc('run_discovery', { discovery_id: id }));
      }
      const running = async () => {
        const [{ n }] = await sql(
          `select count(*)::int as n from public.jobs where kind = 'topic_discovery' and status = 'running' and org_id = any ($1)`,
          [readers.map(({ orgId }) => orgId)],
        );
        return n;
      };
      await Sidecar.start(null, { concurrency: SLOTS, leaseSeconds: 30 });
      await until('the site to be read', async () => (await running()) >= SLOTS / 2);
      const skill = await newSkill(reader);
      const { id } = await ok(reader.client.rpc('execute_skill', { skill_id: skill.id, input: { n: 1 } }));
      await until('an execution to end meanwhile', async () => {
        assert.ok((await running()) <= SLOTS / 2, 'the others are free');
        return (await sql(`select from public.executions where id = $1 and status = 'succeeded'`, [id])).length > 0;
      });
    });
  });
}
