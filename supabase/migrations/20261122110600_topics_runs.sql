-- ============================================================================
-- Topics: runs of discoveries, from the slot to the result.
-- ============================================================================

create function private.topics_queue_run(discovery public.discoveries, trigger text, slot timestamptz default null) returns public.discovery_runs
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  run public.discovery_runs;
begin
  insert into public.discovery_runs as r (org_id, discovery_id, trigger, scheduled_for)
  values (discovery.org_id, discovery.id, topics_queue_run.trigger, slot)
  on conflict do nothing
  returning r.* into run;
  if run.id is null then
    -- One is under way, or the slot has one.
    select r.* into run from public.discovery_runs as r
    where r.org_id = discovery.org_id and r.discovery_id = discovery.id and r.status in ('queued', 'running');
    return run;
  end if;
  update public.discovery_runs as r
  set job_id = private.jobs_enqueue(
    discovery.org_id, 'topic_discovery', jsonb_build_object('run_id', run.id), max_attempts => 3, timeout_seconds => 300,
    -- One of an organization at a time: they add to the same topics, and none keeps the others' workers.
    concurrency_key => 'topic_discovery'
  )
  where r.org_id = run.org_id and r.id = run.id
  returning r.* into run;
  delete from public.discovery_runs as r
  where r.org_id = discovery.org_id and r.id in (
    select o.id from public.discovery_runs as o
    where o.org_id = discovery.org_id and o.discovery_id = discovery.id and o.status in ('succeeded', 'failed')
    order by o.created_at desc, o.id desc offset 100
  );
  return run;
end
$$;
comment on function private.topics_queue_run(public.discoveries, text, timestamptz) is 'Queues a run of a locked discovery and returns it, or the one that is under way; none when the slot has had its run. Nullable: result.';

create function private.topics_run_due(max_runs integer default 500) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  discovery public.discoveries;
  handled integer := 0;
begin
  for discovery in
    select d.* from public.discoveries as d
    where d.enabled and d.next_run_at <= kijko.now()
    order by d.next_run_at, d.id
    limit greatest(max_runs, 0)
    -- One that a member is changing is due again in the next tick.
    for no key update skip locked
  loop
    continue when discovery.org_id = any (private.passed_over());
    begin
      perform private.topics_queue_run(discovery, 'schedule', discovery.next_run_at);
      -- Slots that were missed are one: a feed has what is new, however long nobody looked.
      update public.discoveries as d
      set last_run_at = kijko.now(), next_run_at = kijko.cron_next(d.cron, d.timezone, kijko.now())
      where d.id = discovery.id;
    exception
      -- The next tick tries again.
      when lock_not_available or deadlock_detected then
        perform private.pass_over(discovery.org_id, sqlstate);
      when others then
        -- One discovery must not keep the others from running.
        raise warning 'discovery %: %', discovery.id, sqlerrm;
        update public.discoveries as d
        set next_run_at = kijko.now() + interval '1 hour', last_error_code = 'internal', last_error = 'the run could not be queued'
        where d.id = discovery.id;
    end;
    handled := handled + 1;
  end loop;
  return handled;
end
$$;
comment on function private.topics_run_due(integer) is 'Queues a run of each discovery that is due, at most max_runs, and returns how many. Definer: callable by the operator without table rights.';
grant execute on function private.topics_run_due(integer) to service_role;

create function public.run_discovery(discovery_id uuid) returns public.discovery_runs
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  discovery public.discoveries;
begin
  perform private.tenancy_require_caller();
  select d.* into discovery from public.discoveries as d
  where d.id = run_discovery.discovery_id and d.org_id = any (array(select private.org_ids_with('content:read')));
  if discovery.id is null then
    perform kijko.fail('not_found', 'no such discovery');
  elsif public.can(discovery.org_id, 'content:write') is not true then
    perform kijko.fail('permission_denied', 'requires the permission content:write');
  elsif not private.topics_may_search(discovery.org_id, discovery.collector) then
    perform kijko.fail('permission_denied', format('%s charges for searches: requires the permission llm:call', discovery.collector));
  end if;
  perform private.limit_rate('topics_discovery:' || discovery.org_id, 30, interval '1 minute', 'an organization runs at most %s discoveries a minute by hand');
  perform 1 from public.organizations as o where o.id = discovery.org_id for key share;
  select d.* into discovery from public.discoveries as d where d.id = run_discovery.discovery_id for no key update;
  if discovery.id is null then
    perform kijko.fail('not_found', 'no such discovery');
  end if;
  return private.topics_queue_run(discovery, 'manual');
end
$$;
comment on function public.run_discovery(uuid) is 'Runs a discovery now, in addition to its schedule and also while it is disabled; returns the run that is under way, if there is one. Requires content:write, and llm:call for a collector that charges. Definer: runs and jobs are written by functions.';
grant execute on function public.run_discovery(uuid) to authenticated;

create function private.topics_end_run(
  run public.discovery_runs, discovery public.discoveries, spent jsonb, counts jsonb default '{}', code text default null, message text default null
) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  cost constant bigint := run.cost_microusd + private.topics_settle_search(run, spent);
begin
  update public.discovery_runs as r
  set status = case when code is null then 'succeeded' else 'failed' end, finished_at = kijko.now(), cost_microusd = cost,
    error_code = left(code, 100), error = left(message, 1000), found = coalesce((counts ->> 'found')::integer, 0),
    added_topics = coalesce((counts ->> 'added_topics')::integer, 0), added_sources = coalesce((counts ->> 'added_sources')::integer, 0),
    duplicates = coalesce((counts ->> 'duplicates')::integer, 0)
  where r.org_id = run.org_id and r.id = run.id;
  if cost > 0 then
    perform private.topics_add_cost(run.org_id, 'search', run.id, cost, discovery.topic_id, null, null, run.collector, run.created_by);
  end if;
  update public.discoveries as d
  set last_error_code = left(code, 100), last_error = left(message, 1000), failures = case when code is null then 0 else d.failures + 1 end,
    enabled = d.enabled and not coalesce(code in ('feed_gone', 'permission_denied') or code is not null and d.failures >= 9, false)
  where d.org_id = discovery.org_id and d.id = discovery.id;
end
$$;
comment on function private.topics_end_run(public.discovery_runs, public.discoveries, jsonb, jsonb, text, text) is 'Ends a locked run: settles what it cost, and shows on its discovery how it went. One that fails 10 times in a row, whose feed is gone, or whose maker may not search any more, is disabled.';

-- A discovery may be deleted while its search is under way: the vendor charges for it all the same.
create function private.topics_settle_deleted_run() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  cost constant bigint := private.topics_settle_search(old, '{"unknown": true}');
begin
  if cost > 0 and exists (select 1 from public.organizations as o where o.id = old.org_id) then
    perform private.topics_add_cost(old.org_id, 'search', old.id, old.cost_microusd + cost, null, null, null, 'deleted', old.created_by);
  end if;
  return old;
end
$$;
comment on function private.topics_settle_deleted_run() is 'Trigger: a search that is under way is settled at all that it holds when its run is deleted. Definer: who deletes a discovery does not write costs.';
create trigger discovery_runs_settle before delete on public.discovery_runs
  for each row when (old.status = 'running') execute function private.topics_settle_deleted_run();

-- ----------------------------------------------------------------------------
-- The job
-- ----------------------------------------------------------------------------

create function private.topics_run_of(job public.jobs) returns uuid
language sql immutable set search_path = pg_catalog, pg_temp
return private.as_uuid(job.payload ->> 'run_id');
comment on function private.topics_run_of(public.jobs) is 'The run that a job is for.';

create function private.topics_lock_of_job(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  run constant uuid := private.topics_run_of(job);
begin
  -- A cost has a foreign key to the organization, which its deletion locks first.
  perform 1 from public.organizations as o where o.id = job.org_id for key share skip locked;
  if not found then
    return not exists (select 1 from public.organizations as o where o.id = job.org_id);
  end if;
  -- The discovery first, as everywhere.
  perform 1 from public.discoveries as d
  where d.org_id = job.org_id and d.id = (select r.discovery_id from public.discovery_runs as r where r.org_id = job.org_id and r.id = run)
  for no key update skip locked;
  if found then
    perform 1 from public.discovery_runs as r where r.org_id = job.org_id and r.id = run for no key update skip locked;
  end if;
  return found or not exists (select 1 from public.discovery_runs as r where r.org_id = job.org_id and r.id = run);
end
$$;
comment on function private.topics_lock_of_job(public.jobs) is 'Locks the organization, the discovery and the run of a locked job, without waiting; false when another transaction holds it. Called by jobs_lock_dependents().';
insert into private.job_dependents (family, lock_function) values ('topic_discovery', 'topics_lock_of_job');

create function private.topics_lock_discovery(job_id uuid) returns public.discoveries
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select 1 from public.organizations as o where o.id = (select j.org_id from public.jobs as j where j.id = topics_lock_discovery.job_id) for no key update;
  select d.* from public.discoveries as d
  where (d.org_id, d.id) = (
    select r.org_id, r.discovery_id
    from public.jobs as j join public.discovery_runs as r on r.org_id = j.org_id and r.id = private.topics_run_of(j)
    where j.id = topics_lock_discovery.job_id
  )
  for no key update
$$;
comment on function private.topics_lock_discovery(uuid) is 'Locks the organization of a job, whose rows are counted, and then the discovery that the job is for; nothing if it was deleted. Nullable: result.';

create function private.topics_sync_run() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  run public.discovery_runs;
  discovery public.discoveries;
begin
  select r.* into run from public.discovery_runs as r
  where r.org_id = new.org_id and r.id = private.topics_run_of(new) and r.status in ('queued', 'running')
  for no key update;
  if run.id is not null then
    select d.* into discovery from public.discoveries as d where d.org_id = run.org_id and d.id = run.discovery_id;
    perform private.topics_end_run(run, discovery, '{"unknown": true}', code => coalesce(new.error_code, new.status), message => new.error);
  end if;
  return null;
end
$$;
comment on function private.topics_sync_run() is 'Trigger: a run fails with its job, also when an expired lease ends the job. Runs as postgres inside the job functions.';
create trigger jobs_topic_discovery after update of status on public.jobs
  for each row when (old.status <> new.status and new.status in ('dead', 'cancelled') and new.kind = 'topic_discovery')
  execute function private.topics_sync_run();

create function private.topics_start_run(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- The organization and the discovery are locked before the job and the run, in this order everywhere.
  discovery constant public.discoveries := private.topics_lock_discovery(job_id);
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  run public.discovery_runs;
  price private.collector_prices;
  hold private.discovery_holds;
  refusal text;
  reason text;
begin
  if job.id is null then
    return null;
  end if;
  select r.* into run from public.discovery_runs as r
  where r.org_id = job.org_id and r.id = private.topics_run_of(job) and r.status in ('queued', 'running')
  for no key update;
  if run.id is null then
    return '{}'::jsonb;
  end if;
  select h.* into hold from private.discovery_holds as h where h.organization = run.org_id and h.run_id = run.id;
  if (hold.attempt, hold.worker) is distinct from (topics_start_run.attempt, topics_start_run.worker) and hold.run_id is not null then
    -- A worker that was lost, stopped or too slow may have asked. The vendor would charge again, also for a job that was given back.
    perform private.topics_end_run(
      run, discovery, '{"unknown": true}', code => 'vendor_failed', message => 'the search was broken off; it counts as charged, and is not repeated'
    );
    return '{}'::jsonb;
  end if;
  update public.discovery_runs as r
  set status = 'running', started_at = coalesce(r.started_at, kijko.now()), collector = discovery.collector
  where r.org_id = run.org_id and r.id = run.id returning r.* into run;
  if not private.topics_maker_may_search(run, discovery) then
    perform private.topics_end_run(
      run, discovery, null, code => 'permission_denied',
      message => format('%s charges for searches, and who made the discovery may not call models any more', run.collector)
    );
    return '{}'::jsonb;
  end if;
  select p.* into price from private.collector_prices as p where p.collector = run.collector;
  begin
    -- The same attempt asks again when the answer to its first question was lost.
    if hold.run_id is null then
      hold := private.topics_hold_search(run, discovery, worker, attempt);
    end if;
  exception when others then
    get stacked diagnostics reason = pg_exception_detail;
    refusal := split_part(sqlerrm, ':', 1);
    if refusal = 'unavailable' and private.models_unavailable_reason(price.model) is not null then
      refusal := 'collector_not_configured';
    end if;
    -- Refusals with a code of the API are for the organization. Any other failure is ours: the job is tried again.
    if refusal <> 'collector_not_configured' and not exists (
      select 1 from kijko.error_codes as c where c.code = refusal and c.http_status < 500
    ) then
      raise;
    end if;
    perform private.topics_end_run(run, discovery, null, code => refusal, message => coalesce(nullif(reason, ''), sqlerrm));
    return '{}'::jsonb;
  end;
  return jsonb_build_object('work', jsonb_build_object(
    'collector', discovery.collector, 'url', discovery.url, 'query', discovery.query, 'category', discovery.category,
    'language', discovery.language, 'read_pages', discovery.read_pages, 'max_items', discovery.max_items, 'etag', discovery.etag,
    'last_modified', discovery.last_modified,
    -- With the key of its provider. From now on the call counts as sent.
    'target', case when hold.call_id is not null then private.llm_open_locked(private.llm_lock_call(hold.call_id)) -> 'targets' -> 0 end,
    'allowed_hosts', coalesce(current_setting('kijko.http_allowed_hosts', true), ''),
    -- Pages that are known are not read again.
    'known', (
      select coalesce(jsonb_agg(k.url), '[]') from (
        select s.url from public.research_sources as s
        where s.org_id = run.org_id and s.excerpt <> '' and s.collector = discovery.collector
        order by s.created_at desc limit 200
      ) as k
    )
  ));
end
$$;
comment on function private.topics_start_run(text, uuid, integer) is 'What a held job must collect, as {work}, after what it can cost is held; an empty object when the run has ended, or the organization may not pay for it. Null when the lease was lost. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.topics_start_run(text, uuid, integer) to kijko_sidecar;

select private.schedule('kijko-topics-run-due', '* * * * *', 'perform private.topics_run_due()');
