// What a typed client must accept, what it must refuse, and what it says comes back. Only compiled, never run.
import { createClient } from '@supabase/supabase-js';
import type { Database, Json, Tables, TablesInsert, TablesUpdate } from '../../supabase/database.types.ts';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles when the value has exactly this type: is<string | null>()(value)(true). */
const is =
  <Wanted>() =>
  <Got>(_: Got) =>
  (_same: Equal<Got, Wanted>) => {};

declare const url: string;
declare const id: string;
const kijko = createClient<Database>(url, 'key');

export async function tables() {
  const { data: execution } = await kijko.from('executions').select('status, trigger, error, output, cost_microusd').eq('id', id).single();
  if (execution === null) return;
  is<'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped'>()(execution.status)(true);
  is<'manual' | 'habit' | 'reflex' | 'api' | 'retry' | 'test'>()(execution.trigger)(true);
  is<string | null>()(execution.error)(true);
  is<Json | null>()(execution.output)(true);
  is<number>()(execution.cost_microusd)(true);
  // @ts-expect-error no such status
  if (execution.status === 'done') return;
  // @ts-expect-error no such status to filter by either
  await kijko.from('executions').select('id').eq('status', 'done');

  const { data: jobs } = await kijko.from('jobs').select('status');
  is<'queued' | 'running' | 'succeeded' | 'dead' | 'cancelled' | undefined>()(jobs?.[0]?.status)(true);
  const { data: limits } = await kijko.from('plan_limits').select('period, overage_policy, amount');
  is<'month' | 'day' | 'lifetime' | undefined>()(limits?.[0]?.period)(true);
  is<number | null | undefined>()(limits?.[0]?.amount)(true);

  await kijko.from('memberships').update({ role: 'admin' }).eq('id', id);
  // @ts-expect-error no such role
  await kijko.from('memberships').update({ role: 'superuser' }).eq('id', id);
  await kijko.from('habits').insert({ skill_id: id, name: 'n', cron: '@daily' });
  // @ts-expect-error a habit needs a schedule
  await kijko.from('habits').insert({ skill_id: id, name: 'n' });
  await kijko.from('projects').upsert({ name: 'n', slug: 's' }, { onConflict: 'org_id,slug' });
}

export async function views() {
  const { data: events } = await kijko.from('job_events').select('*').order('seq');
  const event = events?.[0];
  if (!event) return;
  is<string>()(event.event)(true);
  is<number>()(event.seq)(true);
  is<string>()(event.created_at)(true);
  is<string | null>()(event.worker)(true);
}

export async function embedding() {
  const { data } = await kijko.from('executions').select('id, skills(name), retried_execution(id, status), retries(id)').single();
  if (data === null) return;
  is<{ name: string } | null>()(data.skills)(true);
  is<string | undefined>()(data.retried_execution?.id)(true);
  is<'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped' | undefined>()(data.retried_execution?.status)(true);
  is<{ id: string }[]>()(data.retries)(true);
  const { data: skills } = await kijko.from('skills').select('name, projects(name), habits(cron, enabled)');
  is<{ name: string } | null | undefined>()(skills?.[0]?.projects)(true);
  is<boolean | undefined>()(skills?.[0]?.habits[0]?.enabled)(true);
}

export async function functions() {
  const { data: run } = await kijko.rpc('execute_skill', { skill_id: id, input: { text: 'x' }, idempotency_key: null });
  is<'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped' | undefined>()(run?.status)(true);
  // @ts-expect-error it needs a skill
  await kijko.rpc('execute_skill', { input: {} });

  const { data: summary } = await kijko.rpc('usage_summary');
  const row = summary?.[0];
  if (row) {
    is<string>()(row.meter)(true);
    is<number>()(row.used)(true);
    is<number | null>()(row.limit)(true);
    is<number | null>()(row.remaining)(true);
    is<string | null>()(row.reset_at)(true);
  }
  const { data: by } = await kijko.rpc('usage_by', { dimension: 'day', only_meter: null });
  is<string | null | undefined>()(by?.[0]?.value)(true);
  const { data: forecast } = await kijko.rpc('usage_forecast');
  is<number | null | undefined>()(forecast?.[0]?.limit)(true);
  is<string | undefined>()(forecast?.[0]?.reset_at)(true);
  const { data: alerts } = await kijko.rpc('usage_alerts', { since: null });
  is<string | null | undefined>()(alerts?.[0]?.period_start)(true);
  const { data: org } = await kijko.rpc('org_id');
  is<string | null>()(org)(true);
  const { data: may } = await kijko.rpc('can', { org: id, permission: 'skills:write' });
  is<boolean | null>()(may)(true); // null only beside an error
  await kijko.rpc('ingest_usage', { events: [] });
}

export function helpers(row: Tables<'projects'>, made: TablesInsert<'projects'>, changed: TablesUpdate<'projects'>) {
  is<string | null>()(row.description)(true);
  is<string>()(made.name)(true);
  is<string | undefined>()(changed.name)(true);
}
