-- ============================================================================
-- LLM gateway: calls that executions make count against the same budgets, and are recorded in the same table.
--
-- Executions hold the organization's meters themselves. Triggers on their calls hold against the budgets beside that, in the same
-- transaction, and settle or release with them.
-- ============================================================================

create function private.llm_hold_execution() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  execution public.executions;
  target jsonb;
  holds jsonb;
  timeout integer;
begin
  -- The transaction has locked the job, which a deletion of the organization locks after it: this must not wait. Only a deletion
  -- holds such a lock, and then there is nothing to record.
  perform 1 from public.organizations as o where o.id = new.org_id for key share skip locked;
  if not found then
    return null;
  end if;
  select e.* into execution from public.executions as e where e.org_id = new.org_id and e.id = new.execution_id;
  select j.timeout_seconds into timeout from public.jobs as j where j.org_id = new.org_id and j.id = execution.job_id;
  target := jsonb_build_object(
    'provider', private.models_provider(new.model), 'own_key', false,
    'name', case when strpos(new.model, '/') > 0 then new.model else private.models_provider(new.model) || '/' || new.model end
  );
  holds := private.llm_hold(
    '[]',
    jsonb_path_query_array(private.llm_wants(new.org_id, execution.usage_attributes, null, target, new.max_use), '$[*] ? (exists (@.budget))'),
    new.max_use, make_interval(secs => coalesce(timeout, 0)) + interval '10 minutes'
  );
  insert into public.llm_calls (
    id, org_id, requested_model, provider, model, own_key, status, held_tokens, held_microusd, attempts, member_id, key_id, project_id, skill_id,
    execution_id, trace_id, prompt_id, prompt_version, created_by, created_at
  )
  values (
    new.id, new.org_id, new.model, left(target ->> 'provider', 63), left(target ->> 'name', 200), false, 'sent',
    private.llm_amount('llm_tokens', new.max_use), private.llm_amount('llm_cost_microusd', new.max_use), 1,
    private.as_uuid(execution.usage_attributes ->> 'member'), private.as_uuid(execution.usage_attributes ->> 'key'),
    execution.project_id, execution.skill_id, execution.id, replace(execution.id::text, '-', ''), execution.prompt_id, execution.prompt_version,
    execution.created_by, new.created_at
  );
  insert into private.llm_open_calls (call_id, organization, called_at, status, ends_at, call, attributes, holds, attempt)
  values (
    new.id, new.org_id, new.created_at, 'sent', 'infinity', jsonb_build_object('targets', jsonb_build_array(target)),
    execution.usage_attributes, holds, new.max_use
  );
  return null;
end
$$;
comment on function private.llm_hold_execution() is 'Trigger: holds a call of an execution against the budgets that apply, and records it. Definer: holds and calls are written by functions.';
create trigger execution_calls_hold after insert on private.execution_calls
  for each row execute function private.llm_hold_execution();

create function private.llm_end_execution() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened private.llm_open_calls;
begin
  select c.* into opened from private.llm_open_calls as c where c.call_id = old.id for update;
  if opened.call_id is null then
    return null;
  end if;
  if old.used is null then
    -- The customer does not pay for a call whose worker was lost.
    perform private.llm_finish(opened, 'failed', '{}', '{"error_code": "lost"}');
  else
    perform private.llm_finish(
      opened,
      case when old.used ->> 'error_code' is null then 'succeeded' when old.used ->> 'error_code' in ('cancelled', 'shutdown') then 'cancelled' else 'failed' end,
      jsonb_build_object(
        'input_tokens', private.models_parse_count(old.used -> 'input_tokens'),
        'output_tokens', private.models_parse_count(old.used -> 'output_tokens'),
        'cache_read_tokens', private.models_parse_count(old.used -> 'cache_read_tokens'),
        'cache_write_tokens', private.models_parse_count(old.used -> 'cache_write_tokens'),
        'reasoning_tokens', private.models_parse_count(old.used -> 'reasoning_tokens'),
        'cost_microusd', private.models_parse_count(old.used -> 'cost_microusd')
      ),
      jsonb_build_object('model', old.used -> 'model', 'finish_reason', old.used -> 'finish_reason', 'error_code', old.used -> 'error_code')
    );
  end if;
  return null;
end
$$;
comment on function private.llm_end_execution() is 'Trigger: settles a call of an execution against the budgets with what it used, or releases it when its worker was lost. Definer: as llm_hold_execution().';
create trigger execution_calls_end after delete on private.execution_calls
  for each row execute function private.llm_end_execution();
