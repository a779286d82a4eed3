-- ============================================================================
-- Reflexes: the job of a delivery.
-- ============================================================================

create function private.reflexes_delivery_of(job public.jobs) returns uuid
language sql immutable set search_path = pg_catalog, pg_temp
return private.as_uuid(job.payload ->> 'delivery_id');
comment on function private.reflexes_delivery_of(public.jobs) is 'The delivery that a job is for.';

create function private.reflexes_lock_of_job(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  delivery constant uuid := private.reflexes_delivery_of(job);
begin
  perform 1 from public.reflex_deliveries as d where d.id = delivery and d.org_id = job.org_id for no key update skip locked;
  return found or not exists (select 1 from public.reflex_deliveries as d where d.id = delivery and d.org_id = job.org_id);
end
$$;
comment on function private.reflexes_lock_of_job(public.jobs) is 'Locks the delivery of a locked job, without waiting; false when another transaction holds it. Called by jobs_lock_dependents().';
insert into private.job_dependents (family, lock_function) values ('reflex_delivery', 'reflexes_lock_of_job');

create function private.reflexes_end(
  delivery public.reflex_deliveries, status text, code text default null, message text default null, execution_id uuid default null,
  input jsonb default null
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Once: a second update in the same transaction would check all foreign keys again.
  update public.reflex_deliveries as d
  set status = reflexes_end.status, error_code = substring(code for 100), error = substring(message for 10000), finished_at = kijko.now(),
    execution_id = reflexes_end.execution_id, input = reflexes_end.input
  where d.id = delivery.id;
  -- A test says what it found on its own row.
  if delivery.source <> 'test' and reflexes_end.status <> 'filtered' then
    perform private.reflexes_report(delivery.reflex_id, code, message);
  end if;
end
$$;
comment on function private.reflexes_end(public.reflex_deliveries, text, text, text, uuid, jsonb) is 'Ends a locked delivery, and shows on its reflex why it did not run.';

create function private.reflexes_sync_status() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  delivery public.reflex_deliveries;
begin
  select d.* into delivery from public.reflex_deliveries as d
  where d.id = private.reflexes_delivery_of(new) and d.org_id = new.org_id and d.status = 'received'
  for no key update;
  if delivery.id is not null then
    perform private.reflexes_end(delivery, 'failed', coalesce(new.error_code, new.status), new.error);
  end if;
  return null;
end
$$;
comment on function private.reflexes_sync_status() is 'Trigger: a delivery fails with its job, also when an expired lease ends the job. Runs as postgres inside the job functions.';
create trigger jobs_reflex_delivery after update of status on public.jobs
  for each row when (old.status <> new.status and new.status in ('dead', 'cancelled') and new.kind = 'reflex_delivery')
  execute function private.reflexes_sync_status();

create function private.reflexes_start(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
begin
  if job.id is null then
    return null;
  end if;
  return coalesce((
    select jsonb_build_object(
      'filter', r.filter, 'mapping', r.input_mapping,
      'variables', jsonb_build_object(
        'event', d.event, 'headers', d.headers, 'payload', d.payload, 'delivery_id', d.external_id, 'received_at', d.created_at
      )
    )
    from public.reflex_deliveries as d
    join public.reflexes as r on r.org_id = d.org_id and r.id = d.reflex_id
    where d.id = private.reflexes_delivery_of(job) and d.org_id = job.org_id and d.status = 'received'
  ), '{}');
end
$$;
comment on function private.reflexes_start(text, uuid, integer) is 'What a held job must filter and map; an empty object when the delivery has ended or is gone. Null when the lease was lost. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_start(text, uuid, integer) to kijko_sidecar;

create function private.reflexes_run(delivery public.reflex_deliveries, input jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  skill public.skills;
  execution public.executions;
  refusal text;
  reason text;
begin
  select s.* into skill
  from public.reflexes as r join public.skills as s on s.org_id = r.org_id and s.id = r.skill_id
  where r.id = delivery.reflex_id;
  begin
    perform private.skills_require_runnable(skill);
    execution := private.executions_queue(
      skill, input, 'reflex', hold_id => private.executions_reserve(skill.org_id), reflex_id => delivery.reflex_id,
      reflex_delivery_id => delivery.id, depth => delivery.depth
    );
  exception when others then
    get stacked diagnostics reason = pg_exception_detail;
    refusal := split_part(sqlerrm, ':', 1);
    -- Refusals with a code of the API are for the organization. Any other failure is ours: the job is tried again.
    if not exists (select 1 from kijko.error_codes as c where c.code = refusal and c.http_status < 500) then
      raise;
    end if;
    perform private.reflexes_end(delivery, 'refused', refusal, coalesce(nullif(reason, ''), sqlerrm));
    return;
  end;
  perform private.reflexes_end(delivery, 'queued', execution_id => execution.id);
end
$$;
comment on function private.reflexes_run(public.reflex_deliveries, jsonb) is 'Reserves and queues the execution of a locked delivery, or records why the organization may not run it now.';

create function private.reflexes_finish(worker text, job_id uuid, attempt integer, outcome jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  reflex constant public.reflexes := private.reflexes_lock((
    select d.reflex_id from public.jobs as j join public.reflex_deliveries as d on d.id = private.reflexes_delivery_of(j)
    where j.id = reflexes_finish.job_id
  ));
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  delivery public.reflex_deliveries;
begin
  if job.id is null then
    return false;
  end if;
  if job.cancel_requested then
    perform private.jobs_finish(job, 'cancelled', null, 'cancelled', null);
    return true;
  end if;
  select d.* into delivery from public.reflex_deliveries as d
  where d.id = private.reflexes_delivery_of(job) and d.org_id = job.org_id and d.reflex_id = reflex.id and d.status = 'received'
  for no key update;
  if delivery.id is null then
    null; -- It has ended, or was deleted with its reflex.
  elsif outcome ? 'failed' then
    perform private.reflexes_end(delivery, 'failed', outcome #>> '{failed,code}', outcome #>> '{failed,message}');
  elsif jsonb_typeof(outcome -> 'input') is distinct from 'object' then
    perform private.reflexes_end(delivery, 'filtered');
  elsif not private.json_fits(outcome -> 'input', 262144) then
    perform private.reflexes_end(delivery, 'failed', 'invalid_input', 'the input is larger than 262144 bytes; map what the skill needs');
  elsif delivery.dry_run then
    perform private.reflexes_end(delivery, 'tested', input => outcome -> 'input');
  else
    perform private.reflexes_run(delivery, outcome -> 'input');
  end if;
  perform private.jobs_finish(
    job, 'succeeded', (select jsonb_build_object('status', d.status) from public.reflex_deliveries as d where d.id = delivery.id), null, null
  );
  return true;
end
$$;
comment on function private.reflexes_finish(text, uuid, integer, jsonb) is 'Ends a held job with what the sandbox made of its delivery: "filtered", {input} or {failed: {code, message}}. An input queues the execution, in the same transaction. False when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_finish(text, uuid, integer, jsonb) to kijko_sidecar;
