-- ============================================================================
-- Executions: one run of a skill, from its reservation to its output.
--
-- An execution is reserved and queued as a job in one transaction. A trigger copies
-- the job's status to the execution, and only executions_finish makes it succeed. A final status never changes again.
--
-- Before the worker calls the model, executions_reserve_call() holds the maximum of tokens
-- and cost of the call and settles the execution itself. The end of the attempt settles
-- the call with its actual use. An execution that ends before any call releases its
-- reservation. The next attempt releases the holds of a worker that crashed, or they
-- expire, and the use of that call is not recorded. A call is settled under its own id, so
-- it counts once.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- executions
-- ----------------------------------------------------------------------------

create table public.executions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  skill_id uuid,
  skill_version integer check (skill_version > 0),
  prompt_id uuid,
  prompt_version integer check (prompt_version > 0),
  habit_id uuid,
  reflex_id uuid,
  reflex_delivery_id uuid,
  depth integer not null default 0 check (depth >= 0),
  job_id uuid,
  retry_of uuid,
  trigger text not null default 'manual' check (trigger in ('manual', 'api', 'habit', 'reflex', 'retry', 'test')),
  status text not null default 'queued'
    check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
  input jsonb not null default '{}' check (jsonb_typeof(input) = 'object' and private.json_fits(input, 262144)),
  input_files jsonb not null default '[]' check (jsonb_typeof(input_files) = 'array' and private.json_fits(input_files, 131072)),
  output jsonb check (private.json_fits(output, 1048576)),
  model text check (char_length(model) <= 200),
  input_tokens bigint not null default 0 check (input_tokens >= 0),
  output_tokens bigint not null default 0 check (output_tokens >= 0),
  cache_read_tokens bigint not null default 0 check (cache_read_tokens >= 0),
  cache_write_tokens bigint not null default 0 check (cache_write_tokens >= 0),
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 10000),
  idempotency_key text check (char_length(idempotency_key) between 1 and 255),
  hold_id uuid,
  usage_attributes jsonb not null default '{}' check (jsonb_typeof(usage_attributes) = 'object'),
  scheduled_for timestamptz,
  skip_count integer not null default 0 check (skip_count >= 0),
  managers_only boolean not null default false,
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  started_at timestamptz,
  finished_at timestamptz,
  unique (org_id, id),
  -- One execution for each slot, however many ticks run at once.
  unique (habit_id, scheduled_for),
  unique (org_id, idempotency_key),
  -- The skill, project or habit may be deleted; the record of the execution and its cost stays.
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete set null (project_id),
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete set null (skill_id),
  foreign key (org_id, retry_of) references public.executions (org_id, id) on delete set null (retry_of),
  check ((status in ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at is not null))
);
-- The list page, with each of its filters, is one range of an index in the order of the list, however many rows there are:
-- created_at, then id, which makes the order total for keyset pagination. A status in an index makes each change of status
-- write all indexes (no HOT update); a run takes two changes, and finding its few failures among millions needs it.
create index executions_org_id_idx on public.executions (org_id, created_at desc, id desc);
create index executions_status_idx on public.executions (org_id, status, created_at desc, id desc);
create index executions_trigger_idx on public.executions (org_id, trigger, created_at desc, id desc);
create index executions_skill_id_idx on public.executions (org_id, skill_id, created_at desc, id desc) where skill_id is not null;
create index executions_project_id_idx on public.executions (org_id, project_id, created_at desc, id desc) where project_id is not null;
create index executions_habit_id_idx on public.executions (org_id, habit_id, created_at desc, id desc) where habit_id is not null;
create index executions_reflex_id_idx on public.executions (org_id, reflex_id, created_at desc, id desc) where reflex_id is not null;
create index executions_created_by_idx on public.executions (org_id, created_by, created_at desc, id desc) where created_by is not null;
create index executions_cost_idx on public.executions (org_id, cost_microusd desc, id desc);
create index executions_job_id_idx on public.executions (org_id, job_id) where job_id is not null;
create index executions_retry_of_idx on public.executions (org_id, retry_of) where retry_of is not null;

comment on table public.executions is 'Runs of skills, with what they produced and cost; readable by their organization, written only by functions.';
comment on column public.executions.id is 'Identity of the execution; its calls of models have ids of their own.';
comment on column public.executions.org_id is 'Organization that owns and pays for it.';
comment on column public.executions.project_id is 'Project of the skill at the time, if any.';
comment on column public.executions.skill_id is 'Skill that was run; null once it is deleted.';
comment on column public.executions.skill_version is 'Version of the skill that ran: that of its last attempt, and until it starts the one that it was queued with.';
comment on column public.executions.prompt_id is 'Prompt that the skill named, if it named one; set when it starts. No foreign key: the record outlives the prompt.';
comment on column public.executions.prompt_version is 'Version of that prompt that ran: the one that the label pointed to when the execution started. A label that moves later does not change it.';
comment on column public.executions.habit_id is 'Habit that caused it, if any.';
comment on column public.executions.reflex_id is 'Reflex that caused it, if any.';
comment on column public.executions.reflex_delivery_id is 'Delivery to the reflex that caused it, if any.';
comment on column public.executions.depth is 'How many executions in a chain of reflexes came before it: 0 unless the end of an execution caused it.';
comment on column public.executions.job_id is 'Job that runs it; null for a skipped one and after the job was purged.';
comment on column public.executions.retry_of is 'Execution that this one repeats.';
comment on column public.executions.trigger is 'Cause: manual (a user), api (an API key), habit, reflex, retry (retry_execution) or test (test_skill).';
comment on column public.executions.status is 'queued, running, then succeeded, failed, cancelled or skipped; changed by functions only.';
comment on column public.executions.input is 'Input, an object; empty for skipped slots.';
comment on column public.executions.input_files is 'Versions of the project''s files that the input names: reference, version_id and version of each. A retry has the same ones.';
comment on column public.executions.output is 'Answer of the model.';
comment on column public.executions.model is 'provider/model: the skill''s when it was queued and again when it starts; then the one that the vendor reports.';
comment on column public.executions.input_tokens is 'Tokens sent to the model, in all attempts; cached ones are among them.';
comment on column public.executions.output_tokens is 'Tokens received from the model, in all attempts.';
comment on column public.executions.cache_read_tokens is 'How many of the input tokens the vendor read from its cache.';
comment on column public.executions.cache_write_tokens is 'How many of the input tokens the vendor wrote to its cache.';
comment on column public.executions.hold_id is 'Hold of one unit of the meter executions; null once a model was called or the execution has ended.';
comment on column public.executions.usage_attributes is 'Attributes of its use in the ledger: member, key, project, skill, habit, and those that the request had set.';
comment on column public.executions.cost_microusd is 'Cost in millionths of a US dollar, rounded up for each call, by llm_models when the call ended.';
comment on column public.executions.error_code is 'Short name of the last failure, or why it was skipped.';
comment on column public.executions.error is 'Last failure in words.';
comment on column public.executions.idempotency_key is 'Chosen by the caller; the same key in the same organization is the same execution.';
comment on column public.executions.scheduled_for is 'Slot of the habit''s schedule; null when not scheduled. For skipped slots, the latest one.';
comment on column public.executions.skip_count is 'Number of consecutive skipped slots of the habit, all for the same reason, that this row stands for; 0 for an execution that was queued.';
comment on column public.executions.managers_only is 'Whether its project was private and is deleted: only who holds projects:manage sees the execution.';
comment on column public.executions.created_by is 'User who requested it; null when the schedule did. No foreign key: the record outlives the user.';
comment on column public.executions.created_by_key is 'API key by which it was requested; null otherwise.';
comment on column public.executions.created_at is 'When it was reserved and queued.';
comment on column public.executions.updated_at is 'Last change; set by trigger.';
comment on column public.executions.started_at is 'When a worker first took it up.';
comment on column public.executions.finished_at is 'When it reached its final status.';
select private.describe_data('public.executions', '{
  "project_id, skill_id, skill_version, prompt_id, prompt_version, habit_id, reflex_id, reflex_delivery_id, depth, job_id, retry_of, trigger": "where the execution came from",
  "status, error_code, error, scheduled_for, skip_count, started_at, finished_at": "how it went",
  "input, input_files, output, model": "what was asked and answered",
  "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_microusd, hold_id, usage_attributes": "what it used",
  "managers_only": "says who sees the execution",
  "idempotency_key": "recognizes a repeated call"
}');

alter table public.executions enable row level security;
grant select on public.executions to authenticated, service_role;
create policy executions_select on public.executions for select to authenticated
  using (
    org_id = any (array(select private.org_ids_with('executions:read')))
    and (project_id = any (array(select private.projects_hidden_ids()))) is not true
    and (not managers_only or org_id = any (array(select private.org_ids_with('projects:manage'))))
  );

create function private.executions_keep_private() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- With their organization all of them are deleted.
  if not exists (select 1 from public.organizations as o where o.id = old.org_id) then
    return old;
  end if;
  update public.executions as e set managers_only = true where e.org_id = old.org_id and e.project_id = old.id;
  return old;
end
$$;
comment on function private.executions_keep_private() is 'Trigger: executions that a private project hid stay hidden when it is deleted, also what its open ones will write. Definer: users only read executions.';
-- Its name sorts after projects_jobs, which locks and hides the jobs first.
create trigger projects_keep_private before delete on public.projects
  for each row when (old.visibility = 'private') execute function private.executions_keep_private();

create trigger executions_touch before update on public.executions
  for each row execute function private.touch_updated_at();

create function private.executions_refuse_status_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform kijko.fail('conflict', format('execution is %s', old.status));
  return null;
end
$$;
comment on function private.executions_refuse_status_change() is 'Trigger: a final status never changes, also if a function tries.';
create trigger executions_final before update of status on public.executions
  for each row when (old.status in ('succeeded', 'failed', 'cancelled', 'skipped') and old.status <> new.status)
  execute function private.executions_refuse_status_change();

create function private.executions_sync_status() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  current_kind text;
begin
  if new.status = 'queued' then
    update public.executions as e
    set status = 'queued', error_code = new.error_code, error = new.error
    where e.org_id = new.org_id and e.job_id = new.id and e.status = 'running';
    -- The skill may have got another vendor's model while the job was running.
    select private.executions_current_kind(e.skill_id) into current_kind
    from public.executions as e
    where e.org_id = new.org_id and e.job_id = new.id and e.skill_id is not null;
    if current_kind <> new.kind then
      update public.jobs as j set kind = current_kind where j.id = new.id;
    end if;
  elsif new.status in ('dead', 'cancelled') then
    update public.executions as e
    set status = case new.status when 'dead' then 'failed' else 'cancelled' end,
      error_code = new.error_code, error = new.error, finished_at = kijko.now()
    where e.org_id = new.org_id and e.job_id = new.id and e.status in ('queued', 'running');
  elsif exists (
    select 1 from public.executions as e
    where e.org_id = new.org_id and e.job_id = new.id and e.status in ('queued', 'running')
  ) then
    perform kijko.fail('internal', 'an execution''s job succeeds through executions_finish only');
  end if;
  return null;
end
$$;
comment on function private.executions_sync_status() is 'Trigger: an execution takes the status of its job, also when an expired lease ends the job. A job that is queued again moves to the vendor of its skill''s model. Runs as postgres inside the job functions.';
create trigger jobs_execution after update of status on public.jobs
  for each row when (new.status <> 'running' and old.status <> new.status and split_part(new.kind, '.', 1) = 'execution')
  execute function private.executions_sync_status();

create function private.executions_lock_of_job(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.executions as e
  where e.org_id = job.org_id and e.job_id = job.id and e.status in ('queued', 'running')
  -- The lock mode of the trigger's update; it does not conflict with foreign keys to the row.
  for no key update skip locked;
  return found or not exists (
    select 1 from public.executions as e where e.org_id = job.org_id and e.job_id = job.id and e.status in ('queued', 'running')
  );
end
$$;
comment on function private.executions_lock_of_job(public.jobs) is 'Locks the execution of a locked job, without waiting; false when another transaction holds it. Called by jobs_lock_dependents().';
insert into private.job_dependents (family, lock_function) values ('execution', 'executions_lock_of_job');

create function private.executions_clear_job_ids() returns trigger
language plpgsql set search_path = ''
as $$
begin
  update public.executions as e set job_id = null from gone where e.org_id = gone.org_id and e.job_id = gone.id;
  return null;
end
$$;
comment on function private.executions_clear_job_ids() is 'Trigger: executions outlive their jobs.';
create trigger jobs_executions_clear after delete on public.jobs
  referencing old table as gone for each statement execute function private.executions_clear_job_ids();

-- PostgREST cannot embed the two relationships of a table with itself by name. It embeds these two functions instead:
-- executions?select=id,retried_execution(id,error_code). Without a "set" clause the planner inlines them.
create function public.retried_execution(execution public.executions) returns setof public.executions
language sql stable rows 1
begin atomic
  select e.* from public.executions as e where e.org_id = execution.org_id and e.id = execution.retry_of;
end;
comment on function public.retried_execution(public.executions) is 'The execution that this one repeats, if any. For embedding.';
grant execute on function public.retried_execution(public.executions) to authenticated, service_role;

create function public.retries(execution public.executions) returns setof public.executions
language sql stable rows 5
begin atomic
  select e.* from public.executions as e where e.org_id = execution.org_id and e.retry_of = execution.id;
end;
comment on function public.retries(public.executions) is 'The executions that repeat this one. For embedding.';
grant execute on function public.retries(public.executions) to authenticated, service_role;
