// The attacks are not blind: leaks are planted one at a time, and each must be found. Runs last, by itself: a planted leak is open
// to every other test, too.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { disconnect } from '../access/db.mjs';
import { Fixture } from './fixture.mjs';
import { asOwner, attackPlanted, plantShown, takeOut } from './planting.mjs';
import { PLANTS } from './plants.mjs';
import { closeConnections } from './wire.mjs';

const shown = Object.values(PLANTS).filter((plant) => plant.shown);
let fixture;
let surface;

before(async () => {
  // Of a run that was interrupted.
  for (const { down } of Object.values(PLANTS)) await asOwner(down).catch(() => {});
  fixture = await Fixture.make();
  surface = await plantShown(fixture, shown);
});
after(async () => {
  await takeOut(shown);
  await fixture?.remove();
  closeConnections();
  await disconnect();
});

for (const [name, plant] of Object.entries(PLANTS)) {
  test(`finds ${name}`, async (t) => {
    const { findings, found } = await attackPlanted(fixture, surface, plant);
    t.diagnostic(
      findings
        .slice(0, 6)
        .map(({ kind, attacker, subject }) => `${kind} ${attacker} ${subject}`)
        .join('; '),
    );
    assert.notDeepEqual(found, [], `not found; what was: ${JSON.stringify(findings.slice(0, 5), null, 1)}`);
  });
}
