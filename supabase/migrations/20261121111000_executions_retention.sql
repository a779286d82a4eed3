-- ============================================================================
-- Executions: how long they are kept.
-- ============================================================================

create table private.execution_retention (
  plan text primary key references public.plans (code) on delete cascade check (char_length(plan) <= 63),
  days integer check (days between 1 and 36500)
);
comment on table private.execution_retention is 'How long the executions of an organization are kept, by its plan. Operators change it; executions_purge() applies it. A plan without a row keeps them for ever.';
comment on column private.execution_retention.plan is 'The plan.';
comment on column private.execution_retention.days is 'Days from when an execution was queued until it is deleted; null keeps it for ever.';
select private.describe_data('private.execution_retention', '{"plan, days": "says when executions are deleted"}', 'platform');
alter table private.execution_retention enable row level security;

insert into private.execution_retention (plan, days)
values ('FREE', 30), ('PRO', 90), ('TEAMS', 365), ('ENTERPRISE', null);

select private.set_retention('public.executions', null, 'results of work that its members still look at', kept_by => 'the plan of the organization: private.execution_retention');
select private.set_retention('private.execution_rollups', '3 years', 'comparing years');

create function private.executions_purge(max_rows integer default 5000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  purged integer;
begin
  if (max_rows > 0) is not true then
    perform kijko.fail('bad_request', 'max_rows: at least 1');
  end if;
  delete from public.executions as e
  where e.id = any (array(
    select o.id
    from private.execution_retention as r
    join public.subscriptions as s on s.plan = r.plan
    -- The oldest of each organization, by the index of its list. One large organization must not delay the others.
    cross join lateral (
      select x.id from public.executions as x
      where x.org_id = s.org_id and x.created_at < kijko.now() - make_interval(days => r.days) and x.finished_at is not null
      order by x.created_at, x.id
      limit greatest(max_rows / 10, 1)
      -- One that is being read for a retry, or deleted with its organization, waits for the next run.
      for update skip locked
    ) as o
    limit max_rows
  ));
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.executions_purge(integer) is 'Deletes ended executions that are older than their plan keeps them, at most max_rows, the oldest of each organization first; returns how many. Statistics and the ledger stay. Definer: no role may delete executions.';
grant execute on function private.executions_purge(integer) to service_role;

create function private.executions_purge_rollups(older_than interval default private.retention_of('private.execution_rollups'), max_rows integer default 50000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  purged integer;
begin
  delete from private.execution_rollups as r
  where r.ctid = any (array(
    select o.ctid from private.execution_rollups as o
    where o.starts_at < kijko.now() - older_than
    order by o.starts_at
    limit max_rows
    for update skip locked
  ));
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.executions_purge_rollups(interval, integer) is 'Deletes statistics of intervals that began longer ago than older_than, at most max_rows; returns how many. Definer: callable by the operator without table rights.';
grant execute on function private.executions_purge_rollups(interval, integer) to service_role;

-- A procedure, so that each batch commits. It can then have no "set" clause and no definer rights, so every name is qualified.
create procedure private.executions_purge_all()
language plpgsql
as $$
declare
  started timestamptz := clock_timestamp();
  purged integer;
begin
  loop
    purged := private.executions_purge() + private.executions_purge_rollups();
    commit;
    -- After a long pause the next call continues.
    exit when purged = 0 or clock_timestamp() > started + interval '5 minutes';
  end loop;
end
$$;
comment on procedure private.executions_purge_all() is 'Called by pg_cron each hour: executions_purge() and executions_purge_rollups() in batches until nothing is left.';
select private.schedule('kijko-executions-purge', '37 * * * *', 'call private.executions_purge_all()');
