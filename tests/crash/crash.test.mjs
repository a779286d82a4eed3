// What survives a kill -9. One file, because its tests share one stack whose processes they kill.
import { after, before } from 'node:test';
import { analyticsTests } from './analytics.mjs';
import { chaosTests } from './chaos.mjs';
import { codeTests } from './code.mjs';
import { contentTests } from './content.mjs';
import { habitsTests } from './habits.mjs';
import { kijkoUp, killSidecars, stopStackSidecar, Vendor } from './harness.mjs';
import { heldTests } from './held.mjs';
import { llmTests } from './llm.mjs';
import { mailTests } from './mail.mjs';
import { postgresTests } from './postgres.mjs';
import { privacyTests } from './privacy.mjs';
import { realtimeTests } from './realtime.mjs';
import { reflexesTests } from './reflexes.mjs';
import { sidecarTests } from './sidecar.mjs';
import { skillsTests } from './skills.mjs';
import { slowTests } from './slow.mjs';
import { socialTests } from './social.mjs';
import { stoppedTests } from './stopped.mjs';
import { storageTests } from './storage.mjs';
import { stripeTests } from './stripe.mjs';
import { forgetModel, priceModel } from './tenant.mjs';

const vendor = new Vendor();

before(async () => {
  await vendor.start();
  await stopStackSidecar();
  await priceModel();
});

after(async () => {
  await killSidecars();
  await vendor.stop();
  // The stack gets its own sidecar back, as it was.
  await stopStackSidecar();
  await kijkoUp();
  await forgetModel();
});

sidecarTests(vendor);
postgresTests(vendor);
stripeTests(vendor);
mailTests();
reflexesTests();
habitsTests();
skillsTests(vendor);
realtimeTests();
storageTests();
codeTests();
llmTests();
socialTests();
contentTests();
analyticsTests();
privacyTests();
slowTests();
heldTests(vendor);
stoppedTests();
chaosTests(vendor);
