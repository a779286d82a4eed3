// The tenants of one run: the victim, whose rows are marked, the strangers and the colleagues.
import { randomUUID } from 'node:crypto';
import { query } from '../access/db.mjs';
import { forgetPeople, liftAddressRate, makePeople, restoreAddressRate } from '../access/people.mjs';
import { isPrivate, makeWorld, removeWorld } from '../access/world.mjs';
import { colleagues, owner, strangers, VICTIMS, withoutOwn } from './attackers.mjs';
import { forgetPersons } from './persons.mjs';
import { makeObjects, removeObjects } from './stored.mjs';
import { canaries, idsOf, mark, rowsOf, tokensOf } from './victim.mjs';

export class Fixture {
  /** Makes the tenants, marks the victim's rows and finds the attackers. */
  static async make() {
    const fixture = new Fixture();
    await fixture.#make();
    return fixture;
  }

  async #make() {
    await liftAddressRate();
    // Attackers share an address, and each sends more than a user may.
    await setting('kijko.connection_time_rate', '0');
    await failedRequests(1_000_000);
    // How long a statement takes says how busy the machine is.
    this.timeouts = await query('select tier, milliseconds from kijko.statement_timeouts');
    await query('update kijko.statement_timeouts set milliseconds = 60000');
    this.people = await makePeople();
    this.world = await makeWorld(this.people);
    const { world, people } = this;
    // The fixture of the access matrix invites the stranger, who would rightly be told so.
    await query('update public.invitations set email = $2 where org_id = $1', [world.org, `invitee-${randomUUID()}@example.com`]);
    await query('delete from public.notifications where user_id = any ($1)', [[people.nonmember.id, people.removed.id]]);
    await mark(world.org);
    this.objects = await makeObjects(world);
    this.victims = VICTIMS.map((name) => people[name].id);
    this.strangers = await strangers(world);
    this.ownRows = await rowsOf(world.other.org, [world.other.org, people.nonmember.id, people.neighbour.id]);
    await this.#learn();
  }

  /** Reads the victim's rows, and who may not see what of them. */
  async #learn() {
    const { world } = this;
    this.ids = await idsOf(world.org, [world.org, ...this.victims]);
    this.rows = await rowsOf(world.org, this.ids);
    this.canaries = canaries(this.rows, this.ids, this.ownRows);
    // Buckets are the product's, not a tenant's.
    for (const token of tokensOf(this.objects.other)) this.canaries.delete(token);
    for (const word of this.objects.words) this.canaries.set(word, 'the bytes of an object');
    for (const stranger of this.strangers) stranger.forbidden = await withoutOwn(this.canaries, stranger.user);
    this.colleagues = await colleagues(world, this.rows, this.canaries);
    this.owner = owner(world, this.canaries);
  }

  /** Those of some rows that are of the private project. */
  hidden(rows) {
    return Object.fromEntries(Object.entries(rows).map(([table, list]) => [table, list.filter((row) => isPrivate(row, this.world))]));
  }

  async remove() {
    await restoreAddressRate();
    await setting('kijko.connection_time_rate', null);
    await failedRequests(60);
    for (const { tier, milliseconds } of this.timeouts ?? [])
      await query('update kijko.statement_timeouts set milliseconds = $2 where tier = $1', [tier, milliseconds]);
    if (this.objects) await removeObjects(this.objects);
    if (this.world) await removeWorld(this.world);
    if (this.strangers) await forgetPersons(this.strangers.flatMap(({ person }) => person ?? []));
    if (this.people) await forgetPeople(this.people);
  }
}

/** How many requests of one address may fail in a minute. */
const failedRequests = (limit) =>
  query(`select kijko.set_rate_limit_policy('failed_requests', 'address', $1, interval '1 minute', 'external')`, [limit]);

async function setting(name, value) {
  await query(value === null ? `alter system reset ${name}` : `alter system set ${name} = ${value}`);
  await query('select pg_reload_conf()');
}
