-- ============================================================================
-- Code: the index of repositories.
--
--   1. index_repository(), or a push that a webhook delivers, queues an indexing job for a branch.
--   2. The indexer claims it, fetches the branch, parses its files, and writes what it found by the functions of code_indexer.sql.
--   3. The last of them moves the branch to the new commit, in one transaction. Until then searches see the former one.
-- A file is stored once for each organization, by its id in git (code_blobs.sql). It is read only through the tree of a branch of
-- a repository that the caller sees.
--
-- Locks are taken in one order: the organization, the project and the repository against deletion; the job of the queue; the
-- repository against changes; the indexing job; the branch.
-- ============================================================================

alter table public.repositories
  -- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
  add constraint repositories_connection_id_fkey foreign key (org_id, connection_id)
  references public.connections (org_id, id) on delete set null (connection_id);
create index repositories_connection_id_idx on public.repositories (org_id, connection_id) where connection_id is not null;

create function private.code_guard_repository() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  connection public.connections;
begin
  if (kijko.actor()).kind in ('none', 'service') then
    return new;
  end if;
  if new.connection_id is not null
    -- An upsert writes columns that it does not change.
    and (tg_op = 'INSERT' or (new.connection_id, new.clone_url) is distinct from (old.connection_id, old.clone_url))
  then
    select c.* into connection from public.connections as c where c.org_id = new.org_id and c.id = new.connection_id;
    -- A key acts for its maker in a repository that the maker chose, and chooses none itself.
    if connection.authorized_by is distinct from kijko.user_id() or kijko.api_key_id() is not null then
      perform kijko.fail(
        'permission_denied', 'only the member who authorized the connection chooses its repository',
        'Set connection_id to null, or let that member change the repository.'
      );
    end if;
    if new.clone_url not like format('https://%s.com/%%', connection.provider) or connection.provider not in ('github', 'gitlab') then
      perform kijko.fail('invalid_input', 'connection_id: its provider is not the host of clone_url');
    end if;
  end if;
  -- What was indexed belongs to another repository.
  if tg_op = 'UPDATE' and new.clone_url <> old.clone_url then
    delete from public.repository_branches as b where b.org_id = old.org_id and b.repository_id = old.id;
    new.status := 'pending';
    new.indexed_at := null;
  end if;
  return new;
end
$$;
comment on function private.code_guard_repository() is 'Trigger: only the member who authorized a connection lets a repository use it, and changes the URL of that repository. Another URL removes the index. Definer: users only read branches, and may not see the connection.';
-- By its name it fires after the trigger that completes the URL.
create trigger repositories_connection before insert or update of connection_id, provider, full_name, clone_url on public.repositories
  for each row when (pg_trigger_depth() = 0) execute function private.code_guard_repository();

create function private.code_forget_commits() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.repository_branches as b set commit_sha = repeat('0', 40) where b.org_id = new.org_id and b.repository_id = new.id;
  return null;
end
$$;
comment on function private.code_forget_commits() is 'Trigger: other path filters select other files of the same commit, so the next indexing reads all files and not only those that differ. Definer: users only read branches.';
create trigger repositories_filters after update of include_paths, exclude_paths on public.repositories
  for each row when (new.include_paths is distinct from old.include_paths or new.exclude_paths is distinct from old.exclude_paths)
  execute function private.code_forget_commits();

-- ----------------------------------------------------------------------------
-- repository_branches
-- ----------------------------------------------------------------------------

create table public.repository_branches (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  repository_id uuid not null,
  name text not null check (char_length(name) between 1 and 255),
  commit_sha text not null check (char_length(commit_sha) in (40, 64)),
  committed_at timestamptz,
  indexed_at timestamptz not null default kijko.now(),
  indexing_seq bigint not null,
  files integer not null default 0 check (files >= 0),
  bytes bigint not null default 0 check (bytes >= 0),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, repository_id, name),
  foreign key (org_id, repository_id) references public.repositories (org_id, id) on delete cascade
);
comment on table public.repository_branches is 'Branches of repositories that are indexed, each at the commit that searches see. Written by the indexer only.';
comment on column public.repository_branches.id is 'Identity of the row.';
comment on column public.repository_branches.org_id is 'Organization of the repository.';
comment on column public.repository_branches.repository_id is 'The repository.';
comment on column public.repository_branches.name is 'Name of the branch, without refs/heads/.';
comment on column public.repository_branches.commit_sha is 'Commit whose files are indexed, in hexadecimal; zeros after the path filters changed, until it is indexed again.';
comment on column public.repository_branches.committed_at is 'When that commit was made, as it says itself.';
comment on column public.repository_branches.indexed_at is 'When it was indexed.';
comment on column public.repository_branches.indexing_seq is 'Number of the indexing job that moved it last: an older job does not move it back.';
comment on column public.repository_branches.files is 'Files of the commit, without those that the path filters leave out.';
comment on column public.repository_branches.bytes is 'Their size.';
comment on column public.repository_branches.created_by is 'Null: the indexer makes the row.';
comment on column public.repository_branches.created_by_key is 'Null: the indexer makes the row.';
comment on column public.repository_branches.created_at is 'When it was first indexed.';
comment on column public.repository_branches.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.repository_branches', resource => 'repositories', writable => '{}', catalogue => '{
  "repository_id, name, commit_sha, committed_at": "which code is indexed",
  "indexed_at, indexing_seq, files, bytes": "when it was indexed, and how much it is"
}');
-- The policy of repositories decides which of them the caller sees.
alter policy repository_branches_select on public.repository_branches using (
  org_id = any (array(select private.org_ids_with('repositories:read')))
  and exists (
    select 1 from public.repositories as r where r.org_id = repository_branches.org_id and r.id = repository_branches.repository_id
  )
);

-- ----------------------------------------------------------------------------
-- indexing_jobs
-- ----------------------------------------------------------------------------

create table public.indexing_jobs (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  repository_id uuid not null,
  seq bigint generated always as identity,
  branch text not null check (char_length(branch) between 1 and 255),
  trigger text not null check (trigger in ('manual', 'push', 'ingestion', 'schedule')),
  status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'superseded')),
  phase text check (phase in ('fetching', 'parsing', 'writing', 'committing', 'waiting')),
  files_done integer not null default 0 check (files_done >= 0),
  files_total integer not null default 0 check (files_total >= 0),
  bytes bigint not null default 0 check (bytes >= 0),
  base_commit_sha text check (char_length(base_commit_sha) in (40, 64)),
  commit_sha text check (char_length(commit_sha) in (40, 64)),
  cancel_requested boolean not null default false,
  queue_job_id uuid,
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 1000),
  started_at timestamptz,
  finished_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  check ((finished_at is null) = (status in ('queued', 'running'))),
  foreign key (org_id, repository_id) references public.repositories (org_id, id) on delete cascade
);
create index indexing_jobs_repository_id_idx on public.indexing_jobs (org_id, repository_id, seq desc);
create unique index indexing_jobs_queued_key on public.indexing_jobs (org_id, repository_id, branch) where status = 'queued';
create unique index indexing_jobs_running_key on public.indexing_jobs (org_id, repository_id, branch) where status = 'running';
create index indexing_jobs_finished_at_idx on public.indexing_jobs (finished_at);
comment on table public.indexing_jobs is 'Runs of the indexer. Of a branch one waits and one runs at most: a request for a branch that waits joins it.';
comment on column public.indexing_jobs.id is 'Identity of the indexing job.';
comment on column public.indexing_jobs.org_id is 'Organization of the repository.';
comment on column public.indexing_jobs.repository_id is 'The repository.';
comment on column public.indexing_jobs.seq is 'Order of the requests: the newest one decides where a branch points.';
comment on column public.indexing_jobs.branch is 'Branch to index, without refs/heads/.';
comment on column public.indexing_jobs.trigger is 'Why: manual (index_repository), push (a webhook), ingestion (of a project) or schedule.';
comment on column public.indexing_jobs.status is 'queued, running, then succeeded, failed, cancelled, or superseded by a newer one.';
comment on column public.indexing_jobs.phase is 'What a running one does: fetching, parsing, writing, committing; waiting to try again after a failure.';
comment on column public.indexing_jobs.files_done is 'Files that are done in this phase.';
comment on column public.indexing_jobs.files_total is 'Files of this phase.';
comment on column public.indexing_jobs.bytes is 'Size of the new files that it has stored.';
comment on column public.indexing_jobs.base_commit_sha is 'Commit that was indexed when it began; null for none.';
comment on column public.indexing_jobs.commit_sha is 'Commit that it indexed; null before its end.';
comment on column public.indexing_jobs.cancel_requested is 'Whether the indexer was asked to stop.';
comment on column public.indexing_jobs.queue_job_id is 'Its job in the queue. No foreign key: jobs are deleted after 30 days.';
comment on column public.indexing_jobs.error_code is 'Why it failed, or why its last attempt did.';
comment on column public.indexing_jobs.error is 'The same in words.';
comment on column public.indexing_jobs.started_at is 'When the indexer began.';
comment on column public.indexing_jobs.finished_at is 'When it ended.';
comment on column public.indexing_jobs.created_by is 'User who asked for it; null for a push, and after that user is deleted.';
comment on column public.indexing_jobs.created_by_key is 'API key that asked for it; null for a user and for a push.';
comment on column public.indexing_jobs.created_at is 'When it was asked for.';
comment on column public.indexing_jobs.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.indexing_jobs', resource => 'repositories', writable => '{}', catalogue => '{
  "repository_id, seq, branch, trigger": "what is indexed, and why",
  "status, phase, files_done, files_total, bytes, base_commit_sha, commit_sha, cancel_requested, error_code, error, started_at, finished_at": "how it went",
  "queue_job_id": "its job in the queue"
}');
alter policy indexing_jobs_select on public.indexing_jobs using (
  org_id = any (array(select private.org_ids_with('repositories:read')))
  and exists (select 1 from public.repositories as r where r.org_id = indexing_jobs.org_id and r.id = indexing_jobs.repository_id)
);

-- ----------------------------------------------------------------------------
-- indexing_job_events
-- ----------------------------------------------------------------------------

create table public.indexing_job_events (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  indexing_job_id uuid not null,
  seq bigint generated always as identity,
  event text not null check (char_length(event) <= 63),
  data jsonb not null default '{}' check (jsonb_typeof(data) = 'object' and private.json_fits(data, 4096)),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  foreign key (org_id, indexing_job_id) references public.indexing_jobs (org_id, id) on delete cascade
);
create index indexing_job_events_indexing_job_id_idx on public.indexing_job_events (org_id, indexing_job_id, seq);
comment on table public.indexing_job_events is 'What happened to each indexing job: its statuses, its phases, and the attempts that failed. Deleted with it.';
comment on column public.indexing_job_events.id is 'Identity of the event.';
comment on column public.indexing_job_events.org_id is 'Organization of the repository.';
comment on column public.indexing_job_events.indexing_job_id is 'The indexing job.';
comment on column public.indexing_job_events.seq is 'Order of the events.';
comment on column public.indexing_job_events.event is 'A status, a phase, or cancel_requested.';
comment on column public.indexing_job_events.data is 'Files done and to do, the commit, or the error.';
comment on column public.indexing_job_events.created_by is 'User who caused it; null for the indexer.';
comment on column public.indexing_job_events.created_by_key is 'API key that caused it; null for a user and for the indexer.';
comment on column public.indexing_job_events.created_at is 'When it happened.';
comment on column public.indexing_job_events.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.indexing_job_events', resource => 'repositories', writable => '{}', catalogue => '{
  "indexing_job_id, seq, event, data": "shows members how the indexing went"
}');
alter policy indexing_job_events_select on public.indexing_job_events using (
  org_id = any (array(select private.org_ids_with('repositories:read')))
  and exists (select 1 from public.indexing_jobs as j where j.org_id = indexing_job_events.org_id and j.id = indexing_job_events.indexing_job_id)
);

create function private.code_record_event() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  project constant uuid := (select r.project_id from public.repositories as r where r.org_id = new.org_id and r.id = new.repository_id);
  changed constant boolean := tg_op = 'INSERT'
    or (old.status, old.cancel_requested, old.phase) is distinct from (new.status, new.cancel_requested, new.phase);
begin
  if changed then
    insert into public.indexing_job_events (org_id, indexing_job_id, event, data)
    values (
      new.org_id, new.id,
      case
        when tg_op = 'UPDATE' and new.cancel_requested and not old.cancel_requested then 'cancel_requested'
        when new.status <> 'running' then new.status
        else coalesce(new.phase, 'running')
      end,
      jsonb_strip_nulls(jsonb_build_object(
        'files_done', nullif(new.files_done, 0), 'files_total', nullif(new.files_total, 0), 'commit_sha', new.commit_sha,
        'error_code', new.error_code, 'error', new.error
      ))
    );
  end if;
  perform private.notifications_broadcast(
    private.notifications_topics_of(new.org_id, project), 'indexing_job',
    jsonb_build_object(
      'indexing_job_id', new.id, 'repository_id', new.repository_id, 'status', new.status, 'phase', new.phase,
      'files_done', new.files_done, 'files_total', new.files_total
    )
  );
  return null;
end
$$;
comment on function private.code_record_event() is 'Trigger: records what happens to an indexing job, and sends its progress. Definer: users only read events, and may not send to these topics.';
create trigger indexing_jobs_record_insert after insert on public.indexing_jobs
  for each row execute function private.code_record_event();
create trigger indexing_jobs_record_update after update of status, phase, files_done, files_total, cancel_requested on public.indexing_jobs
  for each row when (
    (old.status, old.phase, old.files_done, old.files_total, old.cancel_requested)
    is distinct from (new.status, new.phase, new.files_done, new.files_total, new.cancel_requested)
  ) execute function private.code_record_event();
