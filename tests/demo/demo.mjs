// The demo, by supabase-js on the running stack: sign up, schedule, run, meter, enforce.
// Every step is a check: the first thing that is not as expected ends the demo with exit status 1.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { programCallsWithItsKey } from './api_key.mjs';
import { subscriptionLives } from './billing.mjs';
import { postIsPublished } from './blog.mjs';
import { repositoryIsIndexed } from './code.mjs';
import { contentGoesOut } from './content.mjs';
import { flagShowsInFunnel } from './flags.mjs';
import { nonMemberSeesNothing } from './isolation.mjs';
import { promptMovesByApproval } from './prompts.mjs';
import { pushRunsSkill } from './reflex.mjs';
import {
  admin,
  changes,
  checkSuccess,
  clock,
  env,
  FREE_EXECUTIONS,
  follow,
  habitsToStop,
  MODEL,
  ok,
  PRO_EXECUTIONS,
  refused,
  signUp,
  stopHabits,
  story,
  TICK_TIMEOUT,
  tokensAndCost,
  usage,
  wallClock,
  ZONE,
} from './setup.mjs';
import { elapsed, short, until } from './story.mjs';
import { payByStripe } from './stripe.mjs';
import { inviteColleague } from './team.mjs';

async function demo() {
  story.title(`Kijko: from sign-up to quota (model ${MODEL})`);

  const { ada, bob, cleo } = await story.step('Three users sign up', async (say) => {
    const [first, second, third] = [await signUp('Ada'), await signUp('Bob'), await signUp('Cleo')];
    for (const who of [first, second, third])
      say(`${who.email} has the organization "${who.organization.name}" (${who.organization.slug})`);
    assert.notEqual(first.organization.id, second.organization.id);
    const plans = await ok(first.client.from('subscriptions').select('plan, status'));
    assert.deepEqual(plans, [{ plan: 'FREE', status: 'active' }]);
    say('each on the plan FREE');
    return { ada: first, bob: second, cleo: third };
  });

  const { project, skill, filler } = await story.step('Ada creates a project and a skill', async (say) => {
    const made = await ok(
      ada.client.from('projects').insert({ name: 'Release notes', description: 'What changed, for people' }).select().single(),
    );
    assert.equal(made.org_id, ada.organization.id);
    const [main, cheap] = await ok(
      ada.client
        .from('skills')
        .insert(
          [
            {
              project_id: made.id,
              name: 'Summarise changes',
              prompt_template: 'Summarise these changes for a customer in one plain sentence:\n{{ changes }}',
              input_schema: { type: 'object', properties: { changes: { type: 'string', minLength: 1 } }, required: ['changes'] },
              model: MODEL,
              parameters: { max_tokens: 80 },
            },
            { project_id: made.id, name: 'Say it back', prompt_template: 'Say {{ n }}', model: 'echo/echo' },
          ],
          { defaultToNull: false },
        )
        .select(),
    );
    say(`project ${made.slug}, skill "${main.name}" on ${main.model}`);
    return { project: made, skill: main, filler: cheap };
  });

  await story.step('Ada invites Cleo, with a role of her own making', async (say) => {
    await inviteColleague(say, { ada, bob, cleo, skill });
  });

  await story.step('A bad schedule is refused', async (say) => {
    const error = await refused(
      ada.client.from('habits').insert({ skill_id: skill.id, name: 'Never', cron: '61 9 * * *', timezone: ZONE }),
      422,
      'invalid_cron',
    );
    assert.match(`${error.details} ${error.hint}`, /minute/i, 'the error names the field');
    say(`HTTP 422 ${error.code}: ${error.message} ${error.details}`);
    assert.deepEqual(await ok(ada.client.from('habits').select('id')), [], 'nothing was stored');
  });

  const { habit, slot } = await story.step('Ada stores a habit', async (say) => {
    const { hour, minute } = wallClock(new Date((await clock.now()).getTime() + 3600_000));
    const cron = `${minute} ${hour} * * *`;
    const upcoming = await ok(ada.client.rpc('preview_cron', { expression: cron, timezone: ZONE, n: 2 }));
    const made = await ok(
      ada.client
        .from('habits')
        .insert({
          skill_id: skill.id,
          name: 'Daily summary',
          cron,
          timezone: ZONE,
          input: { changes: await changes() },
        })
        .select()
        .single(),
    );
    habitsToStop.push(made.id);
    const times = upcoming.map((row) => new Date(row.preview_cron ?? row).getTime());
    assert.equal(new Date(made.next_run_at).getTime(), times[0], 'next_run_at is the first previewed time');
    say(`"${cron}" in ${ZONE}: next ${new Date(times[0]).toISOString()}, then ${new Date(times[1]).toISOString()}`);
    return { habit: made, slot: new Date(times[0]) };
  });

  await story.step('Ada runs the skill herself and follows it', async (say) => {
    const started = performance.now();
    const key = randomUUID();
    const call = { skill_id: skill.id, input: { changes: await changes() }, idempotency_key: key };
    const queued = await ok(ada.client.rpc('execute_skill', call));
    assert.equal(queued.trigger, 'manual');
    say(`queued as ${queued.id} in ${elapsed(started)}`);
    const again = await ok(ada.client.rpc('execute_skill', call));
    assert.equal(again.id, queued.id, 'the same idempotency key is the same execution');
    const execution = await follow(ada.client, queued.id);
    checkSuccess(execution);
    say(`output: ${short(execution.output)}`);
    say(tokensAndCost(execution));
    return execution;
  });

  try {
    await story.step('Time travel: an hour later', async (say) => {
      const seconds = await clock.travelTo(new Date(slot.getTime() + 1000));
      const now = await clock.now();
      assert.ok(now >= slot, 'the habit is due');
      say(`${Math.round(seconds / 60)} minutes ahead: it is ${now.toISOString()} in the database`);
    });

    await story.step('The habit runs by itself, by the minute tick', async (say) => {
      const execution = await until(
        'the habit to run',
        async () => {
          const rows = await ok(ada.client.from('executions').select('*').eq('habit_id', habit.id));
          assert.ok(rows.length <= 1, 'one slot, one execution');
          return rows[0];
        },
        {
          timeoutMs: TICK_TIMEOUT,
          everyMs: 3000,
          onWait: (s) => story.progress(`waiting for the tick, ${s} s of at most ${TICK_TIMEOUT / 1000}`, { milestone: s % 15 < 3 }),
        },
      );
      assert.equal(execution.trigger, 'habit');
      assert.equal(new Date(execution.scheduled_for).getTime(), slot.getTime());
      const ended = await follow(ada.client, execution.id);
      checkSuccess(ended);
      say(`execution ${ended.id}, scheduled for ${new Date(ended.scheduled_for).toISOString()}`);
      say(`output: ${short(ended.output)}`);
      const after = await ok(ada.client.from('habits').select('next_run_at').eq('id', habit.id).single());
      assert.ok(new Date(after.next_run_at) > slot, 'the habit waits for its next slot');
      say(`next run ${new Date(after.next_run_at).toISOString()}`);
    });
  } finally {
    await stopHabits();
    await clock.restore();
  }

  await story.step('Back in the present: usage and cost', async (say) => {
    const now = await clock.now();
    const executions = await ok(ada.client.from('executions').select('*'));
    assert.equal(executions.length, 2);
    // Around the turn of a month the habit's hour belongs to the next one.
    const ofThisMonth = executions.filter((e) => e.created_at.slice(0, 7) === now.toISOString().slice(0, 7));
    const meters = await usage(ada.client);
    assert.equal(meters.executions.used, ofThisMonth.length);
    assert.equal(meters.executions.limit, FREE_EXECUTIONS);
    const sum = (pick) => ofThisMonth.reduce((total, e) => total + pick(e), 0);
    assert.equal(
      meters.llm_tokens?.used ?? 0,
      sum((e) => e.input_tokens + e.output_tokens),
      'tokens are metered once',
    );
    assert.equal(
      meters.llm_cost_microusd?.used ?? 0,
      sum((e) => e.cost_microusd),
      'cost is metered once',
    );
    for (const m of Object.values(meters))
      say(
        `${m.meter.padEnd(18)} ${String(m.used).padStart(8)} of ${m.limit ?? 'unlimited'}${m.limit === null ? '' : `, ${m.remaining} left`}`,
      );
    say(`cost so far: ${((meters.llm_cost_microusd?.used ?? 0) / 1e6).toFixed(6)} USD`);
  });

  const refusedCall = { skill_id: filler.id, input: { n: 'one more' }, idempotency_key: randomUUID() };

  await story.step(`Ada uses up the ${FREE_EXECUTIONS} executions of FREE`, async (say) => {
    const { used } = (await usage(ada.client)).executions;
    for (let n = used + 1; n <= FREE_EXECUTIONS; n += 1) {
      const execution = await ok(ada.client.rpc('execute_skill', { skill_id: filler.id, input: { n: String(n) } }));
      assert.equal(execution.status, 'queued');
      story.progress(`execution ${n} of ${FREE_EXECUTIONS}`);
    }
    const { waits, waitedSeconds } = ada.client.seen;
    say(`${FREE_EXECUTIONS - used} more executions queued`);
    if (waits) say(`the rate was reached: waited ${waits} times, ${waitedSeconds} s in all, as Retry-After said`);
  });

  await story.step('One more is refused', async (say) => {
    const error = await refused(ada.client.rpc('execute_skill', refusedCall), 429, 'quota_exceeded');
    const header = (name) => ada.client.seen.headers.get(name);
    say(`HTTP 429 ${error.code}: ${error.message}${error.details ? ` ${error.details}` : ''}`);
    for (const name of ['X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset', 'X-RateLimit-Resource', 'Retry-After'])
      say(`${name}: ${header(name)}`);
    assert.equal(header('x-ratelimit-limit'), String(FREE_EXECUTIONS));
    assert.equal(header('x-ratelimit-remaining'), '0');
    assert.equal(header('x-ratelimit-resource'), 'executions');
    assert.ok(Number(header('x-ratelimit-reset')) > 0, 'the reset is reported');
    assert.ok(Number(header('retry-after')) > 0, 'Retry-After is reported');
    assert.equal((await usage(ada.client)).executions.used, FREE_EXECUTIONS, 'a refusal costs nothing');
  });

  await story.step('Ada pays for PRO, and the same call succeeds', async (say) => {
    await payByStripe({ url: env.API_URL, secret: env.STRIPE_WEBHOOK_SECRET_LOCAL, orgId: ada.organization.id, say });
    const [subscription] = await ok(admin.from('subscriptions').select().eq('org_id', ada.organization.id));
    assert.equal(subscription.plan, 'PRO');
    const execution = await ok(ada.client.rpc('execute_skill', refusedCall));
    const ended = await follow(ada.client, execution.id);
    checkSuccess(ended);
    const { executions } = await usage(ada.client);
    assert.equal(executions.limit, PRO_EXECUTIONS);
    assert.equal(executions.used, FREE_EXECUTIONS + 1, 'a change of plan keeps what was used');
    say(`execution ${ended.id} ${ended.status}; ${executions.used} of ${executions.limit} used`);
  });

  await story.step('A prompt moves to production when Cleo approves', async (say) => {
    await promptMovesByApproval(say, { ada, cleo, project });
  });

  await story.step('A topic becomes a post that Cleo approves and everyone reads', async (say) => {
    await postIsPublished(say, { ada, cleo });
  });

  await story.step('A feed becomes a topic, an article, and posts on four platforms', async (say) => {
    if (!(await contentGoesOut(say, { ada, cleo }))) say('not run: the sidecar of this stack is none of ./kijko, and would publish itself');
  });

  await story.step('Ada gives a program an API key with a limit of its own', async (say) => {
    await programCallsWithItsKey(say, { ada, skill });
  });

  await story.step('Half of the visitors get a new checkout, and a funnel compares them', async (say) => {
    await flagShowsInFunnel(say, { ada, bob });
  });

  await story.step('A push to GitHub runs the skill', async (say) => {
    await pushRunsSkill(say, { ada, skill });
  });

  await story.step('Ada links a repository, searches it, and finds what is pushed', async (say) => {
    if (!(await repositoryIsIndexed(say, { ada, bob })))
      say('not run: this stack has an indexer of its own, which fetches from GitHub only');
  });

  await story.step('Dana buys PRO, changes it, uses more, fails to pay, recovers and stops', async (say) => {
    if (!(await subscriptionLives(say))) say('not run: this stack has an account at Stripe (STRIPE_API_KEY), which the demo leaves alone');
  });

  await story.step('Bob, a non-member, and unauthenticated callers see none of it', async (say) => {
    await nonMemberSeesNothing(say, { ada, bob, project, skill, habit });
  });

  story.end();
}

async function tidyUp() {
  const results = await Promise.allSettled([stopHabits(), clock.restore()]);
  for (const { reason } of results.filter((r) => r.status === 'rejected')) console.error(`demo: could not tidy up: ${reason.message}`);
  return results.every((r) => r.status === 'fulfilled');
}

let interrupted = false;

for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
]) {
  process.on(signal, async () => {
    // An impatient second Ctrl-C must not leave the clock wrong.
    if (interrupted) return;
    interrupted = true;
    console.error('\ndemo: interrupted; setting the clock back');
    await tidyUp();
    process.exit(status);
  });
}

try {
  await demo();
} catch (error) {
  console.error(`\nNot as expected: ${error.message}`);
  if (!(error instanceof assert.AssertionError)) console.error(error.stack);
  process.exitCode = 1;
} finally {
  if (!(await tidyUp())) process.exitCode = 1;
}
