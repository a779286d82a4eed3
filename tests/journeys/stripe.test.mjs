// What Stripe's events change: the plan, its limits, and what members and operators read.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { newPerson, ok, refused, usageOf } from './domain.mjs';
import { recorded, signature } from './stripe_events.mjs';
import { newTag, planOf, send, stored } from './stripe_webhook.mjs';
import { admin, env, sql } from './support.mjs';

describe('effects of events', () => {
  test("a subscription's events in order set plan and limits at each step", async () => {
    const person = await newPerson();
    const events = recorded('lifecycle', { orgId: person.orgId, tag: newTag() });
    // The renewal fails long before the end of the recording, so its grace must be counted from then.
    const failed = events.findIndex((event) => event.data.object.status === 'past_due');
    const steps = recorded('lifecycle', {
      orgId: person.orgId,
      tag: newTag(),
      end: Math.floor(Date.now() / 1000) + events.at(-1).created - events[failed].created,
    });
    const seen = [];
    for (const event of steps) {
      const { status, body } = await send(event);
      assert.deepEqual([status, body.status], [200, 'applied'], event.type);
      const { plan, status: planStatus } = await planOf(person.orgId);
      if (seen.at(-1) !== `${plan} ${planStatus}`) seen.push(`${plan} ${planStatus}`);
      const limit = { FREE: 50, PRO: 2000, TEAMS: 20000 }[plan];
      assert.equal((await usageOf(person)).executions.limit, limit, `${event.type}: limits move with the plan`);
    }
    assert.deepEqual(seen, ['FREE active', 'PRO active', 'TEAMS active', 'TEAMS past_due', 'TEAMS active', 'FREE canceled']);
    assert.equal((await ok(person.client.from('stripe_invoices').select('id,status'))).filter((row) => row.status === 'paid').length, 3);
  });

  test('the same events delivered all at once lead to the same state', async () => {
    const person = await newPerson();
    const events = recorded('lifecycle', { orgId: person.orgId, tag: newTag() });
    const answers = await Promise.all([...events, ...events].sort(() => Math.random() - 0.5).map((event) => send(event)));
    assert.deepEqual([...new Set(answers.map((answer) => answer.body.status))], ['applied']);
    assert.deepEqual(await planOf(person.orgId), { plan: 'FREE', status: 'canceled' });
    const invoices = await ok(person.client.from('stripe_invoices').select('status').order('created_at'));
    assert.deepEqual(
      invoices.map((invoice) => invoice.status),
      ['paid', 'paid', 'paid'],
    );
  });

  test('nothing unlocks while the session is unpaid', async () => {
    for (const [name, plan] of [
      ['settles_later', 'PRO'],
      ['never_settles', 'FREE'],
    ]) {
      const person = await newPerson();
      const events = recorded(name, { orgId: person.orgId, tag: newTag() });
      const money = events.findIndex((event) => /async_payment_succeeded/.test(event.type));
      for (const [n, event] of events.entries()) {
        assert.equal((await send(event)).body.status, 'applied');
        if (money < 0 || n < money) assert.equal((await planOf(person.orgId)).plan, 'FREE', `${name}: ${event.type}`);
      }
      assert.equal((await planOf(person.orgId)).plan, plan, name);
    }
  });

  test('a subscription unlocks nothing while its first invoice is open, whatever else is paid', async () => {
    for (const [reason, plan] of [
      ['subscription_update', 'FREE'],
      ['subscription_create', 'PRO'],
    ]) {
      const person = await newPerson();
      const events = recorded('never_settles', { orgId: person.orgId, tag: newTag() }).slice(0, 3);
      for (const event of events) assert.equal((await send(event)).body.status, 'applied');
      const open = events.find((event) => event.type === 'invoice.finalized');
      assert.equal(open.data.object.status, 'open');
      const paid = structuredClone(open);
      Object.assign(paid, { id: `${open.id}x`, type: 'invoice.paid' });
      Object.assign(paid.data.object, {
        id: `${open.data.object.id}x`,
        billing_reason: reason,
        status: 'paid',
        total: 0,
        amount_due: 0,
        amount_paid: 0,
        amount_remaining: 0,
      });
      assert.equal((await send(paid)).body.status, 'applied');
      assert.equal((await planOf(person.orgId)).plan, plan, reason);
    }
  });

  test('a plan set by an operator stays until it is given back to Stripe', async () => {
    const person = await newPerson();
    const override = (plan) =>
      admin().from('subscriptions').update({ plan_override: plan }).eq('org_id', person.orgId).select('plan').single();
    assert.equal((await ok(override('ENTERPRISE'))).plan, 'ENTERPRISE');
    for (const event of recorded('checkout', { orgId: person.orgId, tag: newTag() }))
      assert.equal((await send(event)).body.status, 'applied');
    assert.equal((await planOf(person.orgId)).plan, 'ENTERPRISE');
    assert.equal((await usageOf(person)).executions.limit, null);
    await ok(override(null));
    assert.deepEqual(await planOf(person.orgId), { plan: 'PRO', status: 'active' });
    assert.equal((await usageOf(person)).executions.limit, 2000);
    await refused(person.client.from('subscriptions').update({ plan_override: 'ENTERPRISE' }).eq('org_id', person.orgId), 403, '42501');
  });

  test('an event that cannot be applied is kept and reported, and applied later by ./kijko stripe replay', async () => {
    const person = await newPerson();
    const tag = newTag();
    const [session, created] = recorded('one_second', { orgId: person.orgId, tag });
    const broken = structuredClone(created);
    broken.data.object.items.data[0].current_period_end = 'soon';
    assert.equal((await send(session)).body.status, 'applied');
    const answer = await send(broken);
    assert.deepEqual([answer.status, answer.body.status, answer.body.error_code], [200, 'failed', '22P02']);
    const kept = await stored(broken.id);
    assert.equal(kept.status, 'failed');
    assert.match(kept.error, /soon/);
    assert.ok(kept.next_attempt_at > new Date());

    assert.equal((await send(session, { header: signature(JSON.stringify(session), 'whsec_unknown') })).status, 400);

    const ready = await fetch(`${process.env.SIDECAR_OPERATORS_URL}/ready`).then((response) => response.json());
    assert.equal(ready.checks.stripe.status, 'degraded');
    assert.ok(ready.checks.stripe.failed >= 1);
    const metrics = await fetch(`${process.env.SIDECAR_OPERATORS_URL}/metrics`).then((response) => response.text());
    assert.match(metrics, /kijko_stripe_backlog\{state="failed"\} [1-9]/);
    assert.match(metrics, /kijko_stripe_events_total\{type="customer.subscription.created",outcome="failed"\} [1-9]/);
    assert.match(metrics, /kijko_stripe_rejected_total\{reason="signature_mismatch"\} [1-9]/);

    const kijko = (...args) =>
      promisify(execFile)(fileURLToPath(new URL('../../kijko', import.meta.url)), ['stripe', ...args], {
        env: {
          ...process.env,
          KIJKO_HOME: process.env.TEST_HOME ?? process.env.KIJKO_HOME,
          KIJKO_API_PORT: process.env.TEST_PORT ?? new URL(env.API_URL).port,
        },
      });
    assert.match((await kijko('status')).stdout, new RegExp(broken.id));
    const again = await kijko('replay', broken.id).catch((error) => error);
    assert.equal(again.code, 1, 'it fails again');
    await sql('update private.stripe_events set payload = $2 where id = $1', [broken.id, JSON.stringify(created)]);
    assert.match((await kijko('replay', '--failed')).stdout, new RegExp(`^applied ${broken.id} `, 'm'));
    assert.equal((await planOf(person.orgId)).plan, 'PRO');
    assert.equal((await kijko('replay', 'evt_missing').catch((error) => error)).code, 1);
    assert.equal((await kijko('replay').catch((error) => error)).code, 2);
  });
});
