-- ============================================================================
-- Analytics: what is over, and what runs by schedule.
-- ============================================================================

create function private.analytics_purge(max_rows integer default 5000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  deleted integer;
  purged integer := 0;
begin
  -- A message is remembered for a day, and for an hour more.
  delete from private.analytics_messages as m
  where (m.organization, m.message) in (
    select o.organization, o.message from private.analytics_messages as o where o.received_at < clock_timestamp() - private.retention_of('private.analytics_messages')
    limit max_rows for update skip locked
  );
  get diagnostics deleted = row_count;
  purged := purged + deleted;
  delete from public.quarantined_events as q
  where q.id = any (array(
    select o.id from public.quarantined_events as o where o.created_at < kijko.now() - private.retention_of('public.quarantined_events') order by o.created_at limit max_rows for update skip locked
  ));
  get diagnostics deleted = row_count;
  purged := purged + deleted;
  delete from private.analytics_answers as a
  where (a.organization, a.permission, a.query) in (
    select o.organization, o.permission, o.query from private.analytics_answers as o where o.answered_at < kijko.now() - private.retention_of('private.analytics_answers')
    order by o.answered_at limit max_rows for update skip locked
  );
  get diagnostics deleted = row_count;
  return purged + deleted;
end
$$;
comment on function private.analytics_purge(integer) is 'Deletes message ids after a day, quarantined messages after seven, and cached answers after one; returns how many. Definer: callable by the operator without table rights.';
grant execute on function private.analytics_purge(integer) to service_role;

-- One of the organization's visitors may come back in this moment.
create function private.analytics_purge_persons(org uuid, max_rows integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  deleted integer;
begin
  perform private.analytics_lock_erasure(org, is_shared => false);
  with gone as (
    delete from public.persons as p
    where p.id = any (array(
      select o.id from public.persons as o
      where o.org_id = org and o.last_seen_at < kijko.now() - private.retention_of('public.persons') limit max_rows for update skip locked
    ))
    returning p.org_id, p.id
  ), forgotten as (
    delete from private.analytics_identities as i using gone as g where i.organization = g.org_id and i.person_id = g.id
  ), unmerged as (
    delete from private.analytics_merges as m using gone as g where m.organization = g.org_id and m.into_person_id = g.id
  )
  select count(*) into deleted from gone;
  return deleted;
end
$$;
comment on function private.analytics_purge_persons(uuid, integer) is 'Deletes persons of an organization without events, after 402 days; returns how many.';

create function private.analytics_purge_old(max_rows integer default 5000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  deleted integer;
  purged integer := 0;
begin
  deleted := private.analytics_purge_persons((
    select o.org_id from public.persons as o where o.last_seen_at < kijko.now() - private.retention_of('public.persons') limit 1
  ), max_rows);
  purged := purged + deleted;
  delete from private.analytics_rollups as r
  where (r.organization, r.name, r.property, r.hour, r.value) in (
    select o.organization, o.name, o.property, o.hour, o.value from private.analytics_rollups as o where o.hour < kijko.now() - interval '25 months'
    limit max_rows for update skip locked
  );
  get diagnostics deleted = row_count;
  purged := purged + deleted;
  delete from public.event_intake as c
  where (c.org_id, c.hour) in (
    select o.org_id, o.hour from public.event_intake as o where o.hour < kijko.now() - interval '25 months' limit max_rows for update skip locked
  );
  get diagnostics deleted = row_count;
  return purged + deleted;
end
$$;
comment on function private.analytics_purge_old(integer) is 'Deletes persons without events, after 402 days and of one organization at a time, and rollups and counts after 25 months; returns how many. Definer: callable by the operator without table rights.';

-- Procedures, so that each batch commits. They can then have no "set" clause and no definer rights, so every name is qualified.
create procedure private.analytics_maintain()
language plpgsql
as $$
declare
  started timestamptz := clock_timestamp();
  done integer;
begin
  loop
    done := private.analytics_roll_changes();
    commit;
    exit when done = 0 or clock_timestamp() > started + interval '45 seconds';
  end loop;
  loop
    done := private.analytics_purge();
    commit;
    exit when done = 0 or clock_timestamp() > started + interval '50 seconds';
  end loop;
end
$$;
comment on procedure private.analytics_maintain() is 'Called by pg_cron each minute: sums up changed hours, and deletes what is over, in batches.';

create procedure private.analytics_maintain_daily()
language plpgsql
as $$
declare
  started timestamptz := clock_timestamp();
  done integer;
begin
  loop
    done := private.analytics_purge_old();
    commit;
    exit when done = 0 or clock_timestamp() > started + interval '30 minutes';
  end loop;
end
$$;
comment on procedure private.analytics_maintain_daily() is 'Called by pg_cron each night: deletes what is over, in batches.';
select private.schedule('kijko-analytics-maintain', '* * * * *', 'call private.analytics_maintain()');
select private.schedule('kijko-analytics-cancel-slow-roll', '* * * * *', 'perform private.analytics_cancel_slow_roll()');
-- Each hour: a backup may use the table through a whole night.
select private.schedule('kijko-analytics-partitions', '17 * * * *', 'perform private.analytics_make_partitions()', 'perform private.analytics_drop_partitions()');
select private.schedule('kijko-analytics-maintain-daily', '17 3 * * *', 'call private.analytics_maintain_daily()');

select private.audit_table('public.dashboards', 'dashboard', '{name}');
select private.audit_table('public.event_properties', 'event_property', '{event_name,property,kind}');
