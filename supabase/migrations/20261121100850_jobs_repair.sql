-- ============================================================================
-- Jobs: what operators do with jobs that need a person. Not granted: ./kijko jobs calls
-- it as the owner.
-- ============================================================================

create function private.jobs_retry_dead(job public.jobs) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  dependent private.job_dependents;
  repeated uuid;
begin
  select d.* into dependent from private.job_dependents as d where d.family = split_part(job.kind, '.', 1);
  if found and dependent.retry_function is null then
    perform kijko.fail('conflict', format('a job of kind %s cannot be repeated: what it was for has ended with it', job.kind));
  elsif found then
    execute format('select private.%I($1)', dependent.retry_function) into repeated using job;
    return repeated;
  end if;
  if exists (
    select 1 from public.jobs as j
    where j.org_id = job.org_id and j.kind = job.kind and j.unique_key = job.unique_key and j.status in ('queued', 'running')
  ) then
    perform kijko.fail('conflict', 'a later job with the same unique key waits or runs');
  end if;
  -- None of its attempts counts any more. Their numbers go on, so that a worker that lost its lease stays recognizable.
  update public.jobs as j
  set status = 'queued', run_at = clock_timestamp(), uncounted_attempts = j.attempt, started_at = null, finished_at = null,
    cancel_requested = false, result = null, error_code = null, error = null, updated_at = clock_timestamp()
  where j.id = job.id;
  insert into public.job_event_log (org_id, job_id, event, attempt) values (job.org_id, job.id, 'operator_retry', job.attempt);
  return job.id;
end
$$;
comment on function private.jobs_retry_dead(public.jobs) is 'Repeats a locked job that was given up, and returns the id of the job that runs now: the same one with all of its attempts, or a new one where rows of another domain ended with it. Fails with conflict where that is not possible.';

create function private.jobs_operate_one(action text, job public.jobs) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  state text;
begin
  if job.status = any (case action when 'cancel' then array['queued', 'running'] else array['dead'] end) is not true then
    perform kijko.fail('conflict', format('the job is %s', coalesce(job.status, 'gone')));
  elsif action = 'cancel' then
    state := private.jobs_cancel(job.id);
    return case state when 'running' then 'cancel_requested' else state end;
  elsif action = 'retry' then
    return 'queued as ' || private.jobs_retry_dead(job);
  end if;
  delete from public.jobs as j where j.id = job.id;
  return 'deleted';
end
$$;
comment on function private.jobs_operate_one(text, public.jobs) is 'Retries, cancels or deletes one locked job and says what became of it.';

create function private.jobs_operate(action text, ids uuid[]) returns table (id uuid, outcome text, code text, message text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  wanted uuid;
  job public.jobs;
  state text;
begin
  if action is null or action not in ('retry', 'cancel', 'delete') then
    perform kijko.fail('bad_request', 'action: retry, cancel or delete');
  end if;
  foreach wanted in array coalesce(ids, '{}') loop
    id := wanted;
    code := null;
    message := null;
    begin
      select j.* into job from public.jobs as j where j.id = wanted for update;
      outcome := private.jobs_operate_one(action, job);
    exception when others then
      get stacked diagnostics state = returned_sqlstate, message = message_text;
      outcome := 'refused';
      code := (
        select e.code from kijko.error_codes as e
        where e.sqlstate = state and e.code = split_part(jobs_operate.message, ':', 1) and e.http_status < 500
      );
      -- A fault, a deadlock or a timeout concerns the whole call.
      if code is null then
        raise;
      end if;
    end;
    return next;
  end loop;
end
$$;
comment on function private.jobs_operate(text, uuid[]) is 'Retries, cancels or deletes each of these jobs, and says for each what became of it. The refusal of one leaves the others.';

create function private.jobs_is_refusal(kind text, error_code text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return coalesce(error_code = any ('{
  invalid_input,invalid_schema,template_error,prompt_not_found,skill_not_runnable,file_not_found,file_deleted,file_not_text,file_too_large,
  budget_exceeded,quota_exceeded,image_not_stored,permission_denied,project_archived,model_not_allowed,model_refused,model_stopped,
  context_too_long,context_length_exceeded,unsupported_parameter,vendor_rejected,output_truncated,output_too_large,mail_invalid
}'::text[])
-- What is wrong with a repository or its settings.
or kind = 'code.index' and error_code = any ('{
  repository_not_found,authentication_failed,branch_not_found,repository_too_large,too_many_files,fetch_timeout,host_not_allowed,parse_failed
}'::text[]), false);
comment on function private.jobs_is_refusal(text, text) is 'Whether a job of this kind was given up because of what its organization gave it, or because of a plan, budget or permission: the organization reads that, and no operator can change it. False for null.';
