// A tenant with one skill on the crash tests' vendor, and what there is to know of an execution afterwards.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { newUser } from '../journeys/support.mjs';
import { query, queryPatiently, until } from './harness.mjs';

const MODEL = 'openai/crash-test';
// In millionths of a dollar for a million tokens: one input token costs 1, one output token 2.
const PRICE = { input: 1_000_000, output: 2_000_000 };

export async function priceModel() {
  await query(
    `insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ($1, $2, $3)
     on conflict (id) do nothing`,
    [MODEL, PRICE.input, PRICE.output],
  );
  // Executions are queued before the first worker that has the vendor's key.
  await query(`select private.models_report_providers('{openai}')`);
}

export const forgetModel = () => query('delete from public.llm_models where id = $1', [MODEL]);

export class Tenant {
  static async make() {
    const tenant = new Tenant();
    const { client, user } = await newUser();
    tenant.client = client;
    const { data, error } = await client
      .from('skills')
      .insert({
        name: 'Crash test',
        prompt_template: 'Answer {{ n }}',
        model: MODEL,
        input_schema: { type: 'object' },
        // Many run at once, and each holds what its answer may come to.
        parameters: { max_tokens: 1000 },
      })
      .select()
      .single();
    assert.equal(error, null);
    tenant.skill = data;
    tenant.orgId = data.org_id;
    tenant.userId = user.id;
    return tenant;
  }

  async execute(n = 1) {
    const { data, error } = await this.client.rpc('execute_skill', {
      skill_id: this.skill.id,
      input: { n: String(n) },
      idempotency_key: randomUUID(),
    });
    assert.equal(error, null);
    assert.equal(data.status, 'queued');
    return data.id;
  }

  /** What the ledger has of each meter, without open holds. */
  recorded = async () =>
    Object.fromEntries(
      (await queryPatiently(`select meter, sum(used)::int as used from kijko.usage_by($1, 'day') group by meter`, [this.orgId])).map(
        (r) => [r.meter, r.used],
      ),
    );

  /** Holds of running calls count, too. */
  used = async () =>
    Object.fromEntries((await queryPatiently('select meter, used::int from kijko.usage($1)', [this.orgId])).map((r) => [r.meter, r.used]));
}

export async function stateOf(executionId) {
  const [execution] = await queryPatiently('select * from public.executions where id = $1', [executionId]);
  const [job] = await queryPatiently(`select * from public.jobs where payload ->> 'execution_id' = $1`, [executionId]);
  const events = await queryPatiently('select event, attempt, worker from public.job_events where job_id = $1 order by seq', [job.id]);
  return { execution, job, events: events.map((e) => e.event), workers: [...new Set(events.map((e) => e.worker).filter(Boolean))] };
}

export const ended = (executionId) =>
  until(
    `execution ${executionId} to end`,
    async () => {
      const state = await stateOf(executionId);
      return ['succeeded', 'failed', 'cancelled'].includes(state.execution.status) && state;
    },
    { everyMs: 100 },
  );

// What the queue guarantees after any crash: one result and one charge, with the tokens and the cost of this answer.
export async function assertDoneOnce(tenant, state, call) {
  const { execution, job, events } = state;
  assert.equal(execution.status, 'succeeded', `${execution.error_code}: ${execution.error}`);
  assert.match(JSON.stringify(execution.output), new RegExp(`${call.text}\\b`), "the output is this call's answer");
  assert.equal(Number(execution.input_tokens), call.inputTokens);
  assert.equal(Number(execution.output_tokens), call.outputTokens);
  assert.equal(Number(execution.cost_microusd), cost(call));
  assert.equal(job.status, 'succeeded');
  assert.equal(events.filter((e) => e === 'succeeded').length, 1, `events: ${events}`);
  assert.deepEqual(
    pick(await tenant.used(), 'executions', 'llm_tokens', 'llm_cost_microusd'),
    { executions: 1, llm_tokens: call.inputTokens + call.outputTokens, llm_cost_microusd: cost(call) },
    'one charge, tokens and cost once',
  );
}

const cost = (call) => call.inputTokens + 2 * call.outputTokens;
const pick = (object, ...keys) => Object.fromEntries(keys.map((key) => [key, object[key]]));
