-- ============================================================================
-- Executions: the text of a running execution, as the model writes it.
--
-- The worker appends what came since the last time, about twice a second. Rows are only inserted and deleted: to write a growing
-- text anew each time would cost the square of its length. At the end of the attempt they are deleted. The output replaces them,
-- or the next attempt begins from nothing. So after a crash no text of a lost attempt stays longer than its lease.
-- ============================================================================

create table public.execution_text_chunks (
  id uuid not null default gen_random_uuid(),
  org_id uuid not null,
  execution_id uuid not null,
  attempt integer not null check (attempt > 0),
  seq integer not null check (seq between 1 and 10000),
  text text not null check (char_length(text) between 1 and 65536),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now(),
  primary key (org_id, execution_id, attempt, seq),
  foreign key (org_id, execution_id) references public.executions (org_id, id) on delete cascade
)
-- A row lives as long as its attempt.
with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

comment on table public.execution_text_chunks is 'Text of running executions in pieces, in the order of seq. Deleted when the attempt ends.';
comment on column public.execution_text_chunks.id is 'Identity of the piece.';
comment on column public.execution_text_chunks.org_id is 'Organization of the execution.';
comment on column public.execution_text_chunks.execution_id is 'The execution.';
comment on column public.execution_text_chunks.attempt is 'Attempt of its job that writes the text. Each begins anew.';
comment on column public.execution_text_chunks.seq is 'Order of the pieces, from 1, without gaps.';
comment on column public.execution_text_chunks.text is 'The piece.';
comment on column public.execution_text_chunks.created_by is 'Always null: workers write the text.';
comment on column public.execution_text_chunks.created_at is 'When it was written.';
select private.describe_data('public.execution_text_chunks', '{"execution_id, attempt, seq, text": "shows the answer of a model while it is written"}');

alter table public.execution_text_chunks enable row level security;
grant select on public.execution_text_chunks to authenticated, service_role;
-- The policy of executions decides which of them the caller sees.
create policy execution_text_chunks_select on public.execution_text_chunks for select to authenticated
  using (
    org_id = any (array(select private.org_ids_with('executions:read')))
    and exists (select 1 from public.executions as e where e.org_id = execution_text_chunks.org_id and e.id = execution_text_chunks.execution_id)
  );

create function private.executions_stream_text(worker text, job_id uuid, attempt integer, seq integer, chunk text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- What is written often and replaced soon need not wait for the disk. A crash of the server loses it, and with it the attempt.
set synchronous_commit = off
as $$
#variable_conflict use_column
declare
  execution public.executions;
begin
  -- "For share" waits for the end of the attempt, which changes the status. So no text is written after it. The job is not
  -- locked: a heartbeat must not wait for this.
  select e.* into execution
  from public.jobs as j
  join public.executions as e on e.org_id = j.org_id and e.job_id = j.id
  where j.id = executions_stream_text.job_id and j.status = 'running' and j.locked_by = executions_stream_text.worker
    and j.attempt = executions_stream_text.attempt and e.status = 'running'
  for share of e;
  if execution.id is null then
    return false;
  end if;
  -- A piece whose answer got lost is sent again.
  insert into public.execution_text_chunks (org_id, execution_id, attempt, seq, text)
  values (execution.org_id, execution.id, executions_stream_text.attempt, executions_stream_text.seq, executions_stream_text.chunk)
  on conflict (org_id, execution_id, attempt, seq) do nothing;
  return true;
end
$$;
comment on function private.executions_stream_text(text, uuid, integer, integer, text) is 'Appends a piece to the text of a running execution; the same piece again changes nothing. False when the lease was lost or the execution has ended. Definer: the sidecar holds no table rights.';
grant execute on function private.executions_stream_text(text, uuid, integer, integer, text) to kijko_sidecar;

create function private.executions_clear_text() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from public.execution_text_chunks as c where c.org_id = new.org_id and c.execution_id = new.id;
  return null;
end
$$;
comment on function private.executions_clear_text() is 'Trigger: the text of an attempt goes with it. Runs as postgres inside the functions that end attempts.';
create trigger executions_clear_text after update of status on public.executions
  for each row when (old.status = 'running' and new.status <> 'running') execute function private.executions_clear_text();
