-- ============================================================================
-- Privacy: what runs each minute, and the reports for operators.
-- ============================================================================

create function private.privacy_stray_objects(max_objects integer) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('storage.objects') is null then
    return '{}'::text[];
  end if;
  return array(
    select o.name from storage.objects as o
    where o.bucket_id = 'privacy-exports' and not exists (
      select from private.privacy_requests as r
      where r.id = private.as_uuid(replace(split_part(o.name, '/', 2), '.zip', '')) and r.object_name = o.name
    )
    limit max_objects
  );
end
$$;
comment on function private.privacy_stray_objects(integer) is 'Exports in the bucket that no request has any more.';

create function private.privacy_purge(max_rows integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  expired text[];
  purged integer;
begin
  with over as (
    update private.privacy_requests as r set status = 'expired', object_name = null
    where r.id in (
      select o.id from private.privacy_requests as o where o.kind = 'export' and o.status = 'ready' and o.expires_at <= kijko.now() limit max_rows for update skip locked
    )
    returning r.user_id || '/' || r.id || '.zip' as name
  )
  select coalesce(array_agg(o.name), '{}') into expired from over as o;
  if cardinality(expired) > 0 then
    perform private.privacy_delete_objects(expired);
  end if;
  -- Archives that were stored after their request was gone.
  perform private.privacy_delete_objects(private.privacy_stray_objects(max_rows));
  update private.privacy_requests as r set status = 'expired', email = null, code_hash = null, finished_at = kijko.now()
  where r.kind = 'erasure' and r.status = 'unconfirmed' and r.code_expires_at <= kijko.now();
  delete from private.privacy_export_links as l where l.expires_at < now() - private.retention_of('private.privacy_export_links');
  delete from private.mail_messages as m
  where m.org_id = kijko.platform_org_id() and m.template = 'erasure_done' and m.finished_at < clock_timestamp() - interval '1 hour';
  -- Mirrors of what Stripe keeps, once their organization is gone.
  delete from public.stripe_invoices as i where i.org_id is null and i.created_at < kijko.now() - private.retention_of('public.stripe_invoices');
  delete from private.privacy_requests as r
  where r.id in (
    select o.id from private.privacy_requests as o
    where o.finished_at < kijko.now() - private.retention_of('private.privacy_requests') and o.status in ('done', 'cancelled', 'failed', 'expired') limit max_rows
  );
  get diagnostics purged = row_count;
  return purged + cardinality(expired);
end
$$;
comment on function private.privacy_purge(integer) is 'Deletes exports and links that have expired, requests after their retention, mails about erasures that are done, and invoices of organizations that are gone after their retention; returns how many exports and requests.';
select private.set_retention('public.stripe_invoices', '7 years', 'the law: invoices are kept seven years. As long as the organization is there they stay in any case');

create function private.privacy_refusal(request private.privacy_requests) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when request.organization is null then null
    when request.requested_by is distinct from request.user_id and not exists (
      select 1
      from public.memberships as a
      join private.role_permissions as p on p.holder = coalesce(a.custom_role_id::text, a.role) and p.permission = 'privacy:write'
      join private.roles as held on held.role = a.role
      where a.org_id = request.organization and a.user_id = request.requested_by and not exists (
        select 1 from public.memberships as m join private.roles as r on r.role = m.role
        where m.org_id = request.organization and m.user_id = request.user_id and r.rank > held.rank
      )
    ) then 'permission_denied'
    when request.requested_by is distinct from request.user_id and exists (
      select 1 from public.memberships as m
      where m.org_id = request.organization and m.user_id = request.user_id and m.created_at > request.created_at
    ) then 'joined_again'
    when exists (
      select 1 from public.memberships as m where m.org_id = request.organization and m.user_id = request.user_id and m.role = 'owner'
    ) and not exists (
      select 1 from public.memberships as m where m.org_id = request.organization and m.user_id <> request.user_id and m.role = 'owner'
    ) then 'last_owner'
  end
$$;
comment on function private.privacy_refusal(private.privacy_requests) is 'Why an erasure that is due may not begin, or null: who asked for it for another one does not hold privacy:write any more, or a lower role than the person; the person has left and joined again since then; or the person is the last owner. Nullable: result.';

create function private.privacy_tell(request private.privacy_requests, template text, reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  subject constant text := private.privacy_subject_text(request);
  reader record;
begin
  for reader in
    select a.part, a.address
    from (values
      ('requester', (select u.email from auth.users as u where u.id = request.requested_by and u.id <> request.user_id)),
      ('person', private.privacy_address(request))
    ) as a (part, address)
    where private.mail_is_address(a.address)
  loop
    perform private.mail_store(
      kijko.platform_org_id(), reader.address, template, null, jsonb_build_object('subject', subject, 'reason', reason),
      dedupe_key => format('%s:%s:%s', template, request.id, reader.part)
    );
  end loop;
end
$$;
comment on function private.privacy_tell(private.privacy_requests, text, text) is 'Mails to who asked for an erasure, and to the person, that it was cancelled or failed.';

create function private.privacy_cancel_refused(max_requests integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  refused record;
  cancelled integer := 0;
begin
  for refused in
    select r as request, private.privacy_refusal(r) as reason
    from private.privacy_requests as r
    where r.kind = 'erasure' and r.status = 'confirmed' and r.due_at <= kijko.now() and private.privacy_refusal(r) is not null
    order by r.due_at limit max_requests for update skip locked
  loop
    perform private.privacy_tell(refused.request, 'erasure_cancelled', refused.reason);
    update private.privacy_requests as r
    set status = 'cancelled', error_code = refused.reason, email = null, code_hash = null, finished_at = kijko.now()
    where r.id = (refused.request).id;
    cancelled := cancelled + 1;
  end loop;
  return cancelled;
end
$$;
comment on function private.privacy_cancel_refused(integer) is 'Cancels erasures that are due and may not begin, mails it to who asked and to the person, and returns how many.';

create function private.privacy_begin_due(max_requests integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  begun uuid[];
begin
  perform private.privacy_cancel_refused();
  with due as (
    update private.privacy_requests as r set status = 'journaling'
    where r.id in (
      select o.id from private.privacy_requests as o
      where o.kind = 'erasure' and o.status = 'confirmed' and o.due_at <= kijko.now() order by o.due_at limit max_requests for update skip locked
    ) and private.privacy_refusal(r) is null
    returning r.id
  )
  select coalesce(array_agg(d.id), '{}') into begun from due as d;
  perform private.privacy_enqueue_journal(b.id) from unnest(begun) as b (id);
  -- Jobs that were given up: the journal could not be written.
  perform private.privacy_enqueue_journal(r.id) from private.privacy_requests as r where r.kind = 'erasure' and r.status = 'journaling' and r.id <> all (begun);
  return cardinality(begun);
end
$$;
comment on function private.privacy_begin_due(integer) is 'Begins erasures whose waiting time is over and that may still begin, and has those written again that could not be written; returns how many it began.';

create function private.privacy_record_failure(request_id uuid, message text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  max_attempts constant smallint := 10;
  request private.privacy_requests;
  reason text;
begin
  select r.* into request from private.privacy_requests as r
  where r.id = request_id and r.status in ('queued', 'journaled') for update skip locked;
  if request.id is null then
    return;
  end if;
  raise warning 'privacy request %: %', request.id, message;
  reason := case when private.privacy_refusal(request) = 'last_owner' then 'last_owner'
    else coalesce((select c.code from kijko.error_codes as c where c.code = split_part(message, ':', 1)), 'internal') end;
  if reason = 'last_owner' or request.attempts + 1 >= max_attempts then
    if request.kind = 'erasure' then
      perform private.privacy_tell(request, 'erasure_failed', reason);
    end if;
    update private.privacy_requests as r set status = 'failed', attempts = r.attempts + 1, error_code = reason, finished_at = kijko.now()
    where r.id = request.id;
  else
    update private.privacy_requests as r
    set attempts = r.attempts + 1, error_code = reason, next_attempt_at = kijko.now() + make_interval(mins => (2 ^ r.attempts)::integer)
    where r.id = request.id;
  end if;
end
$$;
comment on function private.privacy_record_failure(uuid, text) is 'Says of an export or erasure that an attempt failed. It is tried again after 1, 2, 4, … minutes; after ten attempts, some eight hours, and at once for a last owner, it has failed, which is mailed to who asked and to the person.';

create function private.privacy_resume_exports() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  stuck record;
  resumed integer := 0;
begin
  for stuck in
    select r.id, (
      select coalesce(j.error_code, 'internal') from public.jobs as j
      where j.kind = 'privacy_export' and j.unique_key = r.id::text and j.status = 'dead' order by j.created_at desc limit 1
    ) as reason
    from private.privacy_requests as r
    where r.kind = 'export' and r.status = 'collected' and not exists (
      select from public.jobs as j
      where j.org_id = kijko.platform_org_id() and j.kind = 'privacy_export' and j.unique_key = r.id::text and j.status in ('queued', 'running')
    )
    for update skip locked
  loop
    if stuck.reason is null then
      update private.privacy_requests as r set status = 'queued' where r.id = stuck.id;
    else
      update private.privacy_requests as r set status = 'failed', error_code = stuck.reason, email = null, finished_at = kijko.now() where r.id = stuck.id;
      delete from private.privacy_export_chunks as c where c.request_id = stuck.id;
    end if;
    resumed := resumed + 1;
  end loop;
  return resumed;
end
$$;
comment on function private.privacy_resume_exports() is 'Ends exports whose job was given up, after ten attempts, and collects those again whose job was cancelled, as after a restore; returns how many.';

create function private.privacy_retry(request_id uuid) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update private.privacy_requests as r set status = 'journaled', attempts = 0, next_attempt_at = null, finished_at = null
  where r.id = privacy_retry.request_id and r.kind = 'erasure' and r.status = 'failed' and r.journaled_at is not null;
  return found;
end
$$;
comment on function private.privacy_retry(uuid) is 'Has an erasure that failed tried again from the next minute on; false if it did not fail. For operators.';

-- A procedure, so that each request commits. It can then have no "set" clause, so every name is qualified.
create procedure private.privacy_tick()
language plpgsql
as $$
declare
  request uuid;
  step text;
begin
  for request in
    select r.id from private.privacy_requests as r
    where ((r.kind = 'export' and r.status = 'queued') or (r.kind = 'erasure' and r.status = 'journaled'))
      and coalesce(r.next_attempt_at, '-infinity') <= kijko.now()
    -- Those that failed come last, so that they stop nobody else's.
    order by r.attempts, r.created_at limit 50
  loop
    begin
      perform private.privacy_collect(request), private.privacy_erase(request);
    exception when others then
      perform private.privacy_record_failure(request, sqlerrm);
    end;
    commit;
  end loop;
  -- Each by itself: a retention time that cannot be read must not stop erasures.
  foreach step in array array['privacy_begin_due', 'privacy_resume_exports', 'privacy_settle', 'privacy_purge'] loop
    begin
      execute pg_catalog.format('select private.%I()', step);
    exception when others then
      raise warning '%: %', step, sqlerrm;
    end;
    commit;
  end loop;
end
$$;
comment on procedure private.privacy_tick() is 'Called by pg_cron each minute: collects exports, erases who is in the journal, begins erasures that are due, completes proofs, and deletes what has expired.';

create function private.privacy_problems() returns table (
  request_id uuid, user_id uuid, org_id uuid, status text, error_code text, attempts smallint, target text, since timestamptz
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select r.id, r.user_id, r.organization, r.status, r.error_code, r.attempts, null, coalesce(r.due_at, r.created_at)
  from private.privacy_requests as r
  where r.status in ('queued', 'collected', 'journaling', 'journaled') and (
    r.attempts > 0 or coalesce(r.due_at, r.created_at) < kijko.now() - interval '1 hour'
  )
  union all
  select r.id, r.user_id, r.organization, r.status, r.error_code, r.attempts, null, coalesce(r.due_at, r.created_at)
  from private.privacy_requests as r
  where r.status = 'failed' and case r.kind
    when 'export' then r.error_code is distinct from 'person_gone' and r.finished_at > kijko.now() - interval '1 day'
    else r.error_code is distinct from 'last_owner' and not exists (
      select from private.privacy_requests as d
      where d.user_id = r.user_id and d.kind = 'erasure' and d.status = 'done' and (d.organization is null or d.organization = r.organization)
        and d.finished_at > r.finished_at
    )
  end
  union all
  select r.id, r.user_id, r.organization, p.state, r.error_code, r.attempts, p.target, p.due_at
  from private.privacy_proofs as p join private.privacy_requests as r on r.id = p.request_id
  where p.state in ('pending', 'failed') and (p.state = 'failed' or p.due_at < kijko.now() - interval '1 hour')
$$;
comment on function private.privacy_problems() is 'Exports and erasures that fail, have failed (exports: in the last day) or wait for more than an hour, and proofs that failed or are overdue (target). ./kijko check warns of them. Nullable: org_id, error_code, target, since. Definer: operators read no table.';
grant execute on function private.privacy_problems() to service_role;

create function private.privacy_backlog() returns table (exports bigint, erasures bigint, failed bigint, oldest_due_seconds double precision)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select count(*) filter (where r.kind = 'export'), count(*) filter (where r.kind = 'erasure'), (select count(*) from private.privacy_problems()),
    coalesce(greatest(extract(epoch from kijko.now() - min(coalesce(r.due_at, r.created_at))), 0), 0)::double precision
  from private.privacy_requests as r where r.status in ('queued', 'collected', 'journaling', 'journaled')
$$;
comment on function private.privacy_backlog() is 'How many exports and erasures are under way, how many lines private.privacy_problems() has, and for how long the oldest export or erasure has been due. Definer: operators read no table.';
grant execute on function private.privacy_backlog() to kijko_sidecar, service_role;

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-privacy', '* * * * *', 'call private.privacy_tick()');
