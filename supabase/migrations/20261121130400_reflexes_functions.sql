-- ============================================================================
-- Reflexes: the functions that clients call, and retention.
-- ============================================================================

create function public.test_reflex(
  reflex_id uuid, payload jsonb, event text default null, headers jsonb default '{}', run boolean default false
) returns public.reflex_deliveries
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  reflex constant public.reflexes := private.reflexes_require(test_reflex.reflex_id, 'reflexes:write');
  delivery public.reflex_deliveries;
begin
  if test_reflex.run is true and not public.can(reflex.org_id, 'skills:execute') then
    perform kijko.fail('permission_denied', 'requires the permission skills:execute');
  end if;
  if test_reflex.payload is null or not private.json_fits(test_reflex.payload, 1048576) or not private.reflexes_is_shallow(test_reflex.payload) then
    perform kijko.fail('invalid_input', 'payload: JSON of at most 1 MiB and 64 levels');
  end if;
  if char_length(test_reflex.event) > 100 then
    perform kijko.fail('invalid_input', 'event: at most 100 characters');
  end if;
  if jsonb_typeof(test_reflex.headers) is distinct from 'object' or not private.json_fits(test_reflex.headers, 16384) then
    perform kijko.fail('invalid_input', 'headers: an object of at most 16 KiB');
  end if;
  perform private.reflexes_limit_tests(reflex, octet_length(test_reflex.payload::text));
  perform private.reflexes_lock(reflex.id);
  insert into public.reflex_deliveries (org_id, reflex_id, source, event, headers, payload, payload_bytes, dry_run)
  values (
    reflex.org_id, reflex.id, 'test', test_reflex.event, test_reflex.headers, test_reflex.payload,
    octet_length(test_reflex.payload::text), test_reflex.run is not true
  ) returning * into delivery;
  perform private.reflexes_enqueue(delivery);
  return delivery;
end
$$;
comment on function public.test_reflex(uuid, jsonb, text, jsonb, boolean) is 'Sends a payload to a reflex without a signature. The row that it returns ends as tested with the input that was made, as filtered, or as failed; with run it ends as queued, with an execution that is charged. Needs reflexes:write, with run skills:execute too. Definer: users only read deliveries.';
grant execute on function public.test_reflex(uuid, jsonb, text, jsonb, boolean) to authenticated;

create function private.reflexes_sees_delivery(delivery public.reflex_deliveries) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  required constant text[] := case delivery.source
    when 'event' then array['reflexes:read', 'executions:read', 'members:read', 'usage:read']
    when 'repository' then array['reflexes:read', 'repositories:read']
    else array['reflexes:read']
  end;
begin
  if exists (select 1 from unnest(required) as p (permission) where public.can(delivery.org_id, p.permission) is not true) then
    return false;
  end if;
  if delivery.project_id is not null and not private.projects_is_visible(delivery.project_id) then
    return false;
  end if;
  return delivery.execution_id is null or exists (
    select 1 from public.executions as e
    where e.id = delivery.execution_id and e.org_id = delivery.org_id and public.can(e.org_id, 'executions:read')
      and private.executions_is_visible(e)
  );
end
$$;
comment on function private.reflexes_sees_delivery(public.reflex_deliveries) is 'Whether the caller sees what a delivery brought, as the policy of reflex_deliveries says. That its reflex is visible is asked elsewhere. Called by definer functions only.';

create function private.reflexes_redeliver(former public.reflex_deliveries) returns public.reflex_deliveries
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  delivery public.reflex_deliveries;
begin
  if former.payload is null then
    perform kijko.fail('conflict', 'the payload is not kept any more');
  end if;
  perform private.reflexes_lock(former.reflex_id);
  insert into public.reflex_deliveries (
    org_id, reflex_id, source, event, external_id, headers, payload, payload_bytes, depth, redelivery_of
  ) values (
    former.org_id, former.reflex_id, former.source, former.event, former.external_id, former.headers, former.payload, former.payload_bytes,
    former.depth, former.id
  ) returning * into delivery;
  perform private.reflexes_enqueue(delivery);
  return delivery;
end
$$;
comment on function private.reflexes_redeliver(public.reflex_deliveries) is 'Delivers once more what a reflex has received, as a new delivery. The caller was checked before.';

create function private.reflexes_retry_job(job public.jobs) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  former public.reflex_deliveries;
begin
  select d.* into former from public.reflex_deliveries as d where d.id = private.reflexes_delivery_of(job) and d.org_id = job.org_id;
  if former.id is null then
    perform kijko.fail('conflict', 'the delivery of the job is not kept any more');
  end if;
  if exists (select 1 from public.reflex_deliveries as d where d.org_id = former.org_id and d.redelivery_of = former.id) then
    perform kijko.fail('conflict', 'the delivery was repeated already');
  end if;
  former := private.reflexes_redeliver(former);
  return (
    select j.id from public.jobs as j
    where j.org_id = former.org_id and j.kind = job.kind and j.status = 'queued' and private.reflexes_delivery_of(j) = former.id
    order by j.created_at desc limit 1
  );
end
$$;
comment on function private.reflexes_retry_job(public.jobs) is 'Repeats the delivery of a dead job, once, for an operator; named by private.job_dependents.';
update private.job_dependents set retry_function = 'reflexes_retry_job' where family = 'reflex_delivery';

create function public.redeliver_reflex_delivery(id uuid) returns public.reflex_deliveries
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  former public.reflex_deliveries;
  reflex public.reflexes;
begin
  select d.* into former from public.reflex_deliveries as d
  where d.id = redeliver_reflex_delivery.id and d.org_id = any (array(select private.org_ids_with('reflexes:read')));
  if former.id is null or not private.reflexes_sees_delivery(former) then
    perform kijko.fail('not_found', 'no such delivery');
  end if;
  reflex := private.reflexes_require(former.reflex_id, 'reflexes:write');
  if not public.can(reflex.org_id, 'skills:execute') then
    perform kijko.fail('permission_denied', 'requires the permission skills:execute');
  end if;
  if former.status = 'received' then
    perform kijko.fail('conflict', 'the delivery has not ended yet');
  end if;
  if former.payload is null then
    perform kijko.fail('conflict', 'the payload is not kept any more');
  end if;
  perform private.reflexes_limit_tests(reflex, former.payload_bytes);
  return private.reflexes_redeliver(former);
end
$$;
comment on function public.redeliver_reflex_delivery(uuid) is 'Delivers once more what a reflex has received, as a new delivery with an execution of its own. Needs reflexes:write and skills:execute. Definer: users only read deliveries.';
grant execute on function public.redeliver_reflex_delivery(uuid) to authenticated;

create function public.reflex_stats(reflex_id uuid, since timestamptz default null, until timestamptz default null) returns public.execution_summary
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  reflex constant public.reflexes := private.reflexes_require(reflex_stats.reflex_id, 'executions:read');
begin
  return private.executions_summary(reflex.org_id, reflex => reflex.id, since => reflex_stats.since, until => reflex_stats.until);
end
$$;
comment on function public.reflex_stats(uuid, timestamptz, timestamptz) is 'Statistics of a reflex''s executions that ended from since until until, moved outwards to quarters of an hour; null is without an end. Needs reflexes:read and executions:read. Definer: only the domain may read the rollups.';
grant execute on function public.reflex_stats(uuid, timestamptz, timestamptz) to authenticated;

create function private.reflexes_limit_tests(reflex public.reflexes, bytes integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  wait constant integer := private.reflexes_rate(reflex, bytes);
begin
  if wait is not null then
    perform private.refuse_rate(wait, 'more deliveries than rate_per_minute, or more than 64 MiB an hour');
  end if;
end
$$;
comment on function private.reflexes_limit_tests(public.reflexes, integer) is 'Counts a delivery that a user makes against the rate of its reflex, or fails with rate_limited.';

-- ----------------------------------------------------------------------------
-- Retention
-- ----------------------------------------------------------------------------

select private.set_retention('public.reflex_deliveries', '30 days', 'finding out what a sender sent');
select private.set_retention('private.reflex_delivery_keys', '24 hours', 'senders repeat a delivery for hours');

create function private.reflexes_purge(max_rows integer default 10000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kept_deliveries constant integer := 1000;
  kept_bytes constant bigint := 64 * 1024 * 1024;
  purged bigint;
  more bigint;
begin
  delete from private.reflex_delivery_keys as k
  where (k.reflex_id, k.key) in (
    select o.reflex_id, o.key from private.reflex_delivery_keys as o where o.seen_at < kijko.now() - private.retention_of('private.reflex_delivery_keys')
    order by o.seen_at limit max_rows for update skip locked
  );
  delete from public.reflex_deliveries as d
  where d.id = any (array(
    select o.id from public.reflex_deliveries as o
    where o.created_at < kijko.now() - private.retention_of('public.reflex_deliveries') and o.status <> 'received'
    order by o.created_at limit max_rows for update skip locked
  ));
  get diagnostics purged = row_count;
  delete from public.reflex_deliveries as d
  where d.id = any (array(
    select o.id
    from public.reflexes as r
    cross join lateral (
      select k.id, k.status from public.reflex_deliveries as k
      where k.org_id = r.org_id and k.reflex_id = r.id
      order by k.created_at desc, k.id desc
      offset kept_deliveries
    ) as o
    where o.status <> 'received'
    limit max_rows
  ));
  get diagnostics more = row_count;
  -- Payloads beyond the bound go, the oldest first; the rows say what there was.
  update public.reflex_deliveries as d set payload = null
  where d.id = any (array(
    select s.id
    from (
      select k.id, k.status, k.created_at,
        sum(k.payload_bytes) over (partition by k.org_id order by k.created_at desc, k.id desc) as total
      from public.reflex_deliveries as k where k.payload is not null
    ) as s
    where s.total > kept_bytes and s.status <> 'received'
    order by s.created_at limit max_rows
  ));
  return purged + more;
end
$$;
comment on function private.reflexes_purge(integer) is 'Deletes deliveries after their retention and beyond the last 1,000 of a reflex, clears payloads beyond 64 MiB of an organization, and forgets keys after 24 hours: at most max_rows of each. Returns how many deliveries it deleted.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-reflexes-purge', '*/10 * * * *', 'perform private.reflexes_purge()');
