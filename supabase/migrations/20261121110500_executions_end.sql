-- ============================================================================
-- Executions: the end of an attempt.
-- ============================================================================

create function private.executions_finish(worker text, job_id uuid, outcome jsonb, attempt integer default null) returns boolean
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.jobs_lock_leased(worker, executions_finish.job_id, executions_finish.attempt);
  execution public.executions;
  final_status text := 'succeeded';
  code text;
  message text;
begin
  if job.id is null then
    return false;
  end if;
  execution := private.executions_lock_running(job);
  if execution.id is null then
    perform kijko.fail('conflict', 'the job has no running execution');
  end if;

  if job.cancel_requested then
    final_status := 'cancelled';
    code := 'cancelled';
  elsif not private.json_fits(outcome -> 'output', 1048576) then
    final_status := 'failed';
    code := 'output_too_large';
    message := 'the output is larger than 1 MiB';
  end if;

  -- The model was called, so the use is recorded in any case.
  perform private.executions_record_usage(
    job, execution, outcome, final_status, case when code = 'output_too_large' then null else outcome -> 'output' end, code, message
  );
  perform private.jobs_finish(
    job,
    case final_status when 'failed' then 'dead' else final_status end,
    jsonb_strip_nulls(jsonb_build_object('finish_reason', outcome -> 'finish_reason')),
    code,
    message
  );
  return final_status = 'succeeded';
end
$$;
comment on function private.executions_finish(text, uuid, jsonb, integer) is 'Output, tokens, cost, metering and the end of the job in one transaction; false when the lease was lost, it was cancelled or its output is too large. Definer: the sidecar holds no table rights.';
grant execute on function private.executions_finish(text, uuid, jsonb, integer) to kijko_sidecar;

create function private.executions_fail(
  worker text,
  job_id uuid,
  code text,
  message text,
  retryable boolean,
  retry_after interval default null,
  attempt integer default null,
  usage jsonb default null,
  outage boolean default false
) returns text
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.jobs_lock_leased(worker, executions_fail.job_id, executions_fail.attempt);
  execution public.executions;
  status text;
begin
  if job.id is null then
    return null;
  end if;
  -- A refusal, a broken answer and a cancelled call cost their use. Without a call a trigger copies the job's status.
  if jsonb_typeof(usage) = 'object' then
    execution := private.executions_lock_running(job);
    if execution.id is not null then
      status := private.jobs_status_after_failure(job, retryable, outage);
      perform private.executions_record_usage(
        job, execution, usage || jsonb_build_object('error_code', code), case status when 'dead' then 'failed' else status end, execution.output,
        private.jobs_code_after_failure(status, code), message
      );
    end if;
  end if;
  return private.jobs_fail(worker, executions_fail.job_id, code, message, retryable, retry_after, executions_fail.attempt, outage);
end
$$;
comment on function private.executions_fail(text, uuid, text, text, boolean, interval, integer, jsonb, boolean) is 'Failure of an execution: records the use of the call (in the form of models_cost(), with model), then calls jobs_fail(), and a trigger copies the job''s status to the execution. Definer: the sidecar holds no table rights.';
grant execute on function private.executions_fail(text, uuid, text, text, boolean, interval, integer, jsonb, boolean) to kijko_sidecar;
