// A site or a model that does not answer holds up what asks it, and nothing else.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { newPerson, newSkill, ok } from '../journeys/domain.mjs';
import { newServer } from '../journeys/functions_support.mjs';
import { newVendor } from '../journeys/llm_support.mjs';
import { sql } from '../journeys/support.mjs';
import { killSidecars, queryAsAdmin, Sidecar, stopStackSidecar, until, Vendor } from './harness.mjs';
import { Tenant } from './tenant.mjs';

const SLOTS = 4;

export function slowTests() {
  describe('a site that does not answer', () => {
    const people = [];
    before(async () => {
      const [{ setting }] = await queryAsAdmin(`select setting from pg_settings where name = 'kijko.http_allowed_hosts'`);
      assert.equal(setting, 'localhost', 'the stack of the tests reads feeds of this machine');
      await stopStackSidecar();
      for (let n = 0; n < 2 * (SLOTS + 1); n += 1) people.push(await newPerson('TEAMS'));
    });
    afterEach(async () => {
      await killSidecars();
      // What a test leaves must not take the slots of the next one.
      await sql(`select private.jobs_cancel(j.id) from public.jobs as j where j.org_id = any ($1) and j.status in ('queued', 'running')`, [
        people.map(({ orgId }) => orgId),
      ]);
    });
    after(() => sql('update public.discoveries set enabled = false where org_id = any ($1)', [people.map(({ orgId }) => orgId)]));

    const running = async (kind, of) => {
      const [{ n }] = await sql(`select count(*)::int as n from public.jobs where kind = $1 and status = 'running' and org_id = any ($2)`, [
        kind,
        of.map(({ orgId }) => orgId),
      ]);
      return n;
    };
    /** Each reads the site. */
    async function read(readers) {
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
    }
    /** An execution of a person ends, and as long as it has not, `holds`. */
    async function executes(person, holds) {
      const skill = await newSkill(person);
      const { id } = await ok(person.client.rpc('execute_skill', { skill_id: skill.id, input: { n: 1 } }));
      await until('an execution to end meanwhile', async () => {
        await holds();
        return (await sql(`select from public.executions where id = $1 and status = 'succeeded'`, [id])).length > 0;
      });
    }

    test('leaves half of the slots to jobs of other kinds, whoever reads it', async () => {
      const [reader, ...readers] = people.slice(0, SLOTS + 1);
      const reading = () => running('topic_discovery', readers);
      await read(readers);
      await Sidecar.start(null, { concurrency: SLOTS, leaseSeconds: 30 });
      await until('the site to be read', async () => (await reading()) >= SLOTS / 2);
      await executes(reader, async () => assert.ok((await reading()) <= SLOTS / 2, 'the others are free'));
    });

    test('and a model that does not answer leave a slot together', async () => {
      const [writer, ...readers] = people.slice(SLOTS + 1);
      const vendor = await newVendor('openai', () => new Promise(() => {}));
      for (const { client, orgId } of readers) {
        const rpc = (name, body) => ok(client.rpc(name, body).setHeader('x-org-id', orgId));
        const topic = await ok(client.from('topics').insert({ org_id: orgId, title: 'Bridges' }).select().single());
        await rpc('add_research_source', { topic_id: topic.id, url: 'https://example.com/bridge', excerpt: 'Bridges are replaced.' });
        const post = await rpc('create_post', { title: 'Bridges', topic_id: topic.id });
        await rpc('draft_post', { post_id: post.id, revision: 1, model: vendor.model });
      }
      await read(readers);
      await Sidecar.start(null, { concurrency: SLOTS, leaseSeconds: 30 });
      const both = async () => Promise.all(['topic_discovery', 'blog_draft'].map((kind) => running(kind, readers)));
      await until('both to be asked', async () => (await both()).every((n) => n > 0));
      await executes(writer, async () => {
        const [feeds, drafts] = await both();
        assert.ok(feeds + drafts < SLOTS, `${feeds} feeds and ${drafts} drafts leave one free`);
      });
    });

    test('a vendor of models that does not answer leaves a slot to executions of the others', async (t) => {
      const silent = await new Vendor().start();
      t.after(() => silent.stop());
      const tenants = await Promise.all(Array.from({ length: SLOTS }, () => Tenant.make()));
      t.after(() => sql('delete from public.jobs where org_id = any ($1)', [tenants.map(({ orgId }) => orgId)]));
      for (const tenant of tenants) await tenant.execute();
      const other = { ANTHROPIC_API_KEY: 'not-a-real-key', ANTHROPIC_BASE_URL: silent.baseUrl };
      await Sidecar.start(silent, { concurrency: SLOTS, leaseSeconds: 120, variables: other });
      await silent.call(SLOTS - 1);
      await executes(people[0], async () => assert.ok(silent.calls.length < SLOTS, `${silent.calls.length} calls leave one free`));
    });
  });
}
