-- ============================================================================
-- Privacy: what runs each minute, and what operators see.
-- ============================================================================

create function private.privacy_settle_stripe(effects uuid[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when bool_or(e.state = 'open') then 'pending'
    when count(*) filter (where e.state = 'done') = cardinality(effects) then 'done'
    else 'failed'
  end
  from private.billing_effects as e where e.id = any (effects)
$$;
comment on function private.privacy_settle_stripe(uuid[]) is 'What became of the requests to Stripe of an erasure: pending, done, or failed if one was refused or never answered.';

create function private.privacy_settle_proof(proof private.privacy_proofs, request private.privacy_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  outcome text := 'pending';
  more jsonb := '{}'::jsonb;
begin
  case proof.target
    when 'audit' then
      outcome := case when exists (select from private.audit_erasures as a where a.user_id = request.user_id)
        or exists (select from public.audit_log as e where e.created_by = request.user_id and e.origin_salt is not null) then 'pending' else 'done' end;
    when 'stripe' then
      outcome := private.privacy_settle_stripe(array(select private.as_uuid(e.id) from jsonb_array_elements_text(proof.details -> 'effects') as e (id)));
    when 'identities' then
      if to_regclass('auth_api.provider_tokens') is null then
        outcome := 'done'; -- GoTrue keeps no tokens
      elsif not exists (
        select from auth_api.provider_tokens as t where t.identity_id is null and t.flow_state_id is null and t.created_at <= request.finished_at
      ) then
        outcome := 'done';
      end if;
    when 'storage' then
      -- Bytes wait for a restore to an earlier moment. Only the storage service of Kijko says when they are gone.
      if to_regprocedure('storage_service.has_deletions(timestamptz)') is null then
        outcome := case when proof.due_at <= kijko.now() then 'done' else 'pending' end;
      elsif not storage_service.has_deletions(request.finished_at) then
        outcome := 'done';
      end if;
    when 'late_writes' then
      -- What was under way during the erasure and ended afterwards, such as a call of a model.
      if proof.due_at <= kijko.now() then
        more := private.privacy_erase_rows(request);
        outcome := 'done';
      end if;
    -- No backup is older than this, but the last one.
    when 'backups' then outcome := case when proof.due_at <= kijko.now() then 'done' else 'pending' end;
    else null;
  end case;
  update private.privacy_proofs as p set state = outcome, proved_at = kijko.now(), details = p.details || more
  where p.request_id = proof.request_id and p.target = proof.target and outcome <> 'pending';
end
$$;
comment on function private.privacy_settle_proof(private.privacy_proofs, private.privacy_requests) is 'Looks whether what an erasure has begun at a place is over.';

create function private.privacy_settle(max_proofs integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  pending record;
begin
  for pending in
    select p as proof, r as request
    from private.privacy_proofs as p join private.privacy_requests as r on r.id = p.request_id
    where p.state = 'pending' order by p.due_at nulls first, p.request_id limit max_proofs for update of p skip locked
  loop
    begin
      perform private.privacy_settle_proof(pending.proof, pending.request);
    exception when others then
      raise warning 'proof % of erasure %: %', (pending.proof).target, (pending.request).id, sqlerrm;
    end;
  end loop;
  return (select count(*) from private.privacy_proofs as p where p.proved_at = kijko.now());
end
$$;
comment on function private.privacy_settle(integer) is 'Looks whether what an erasure has begun elsewhere is over: requests to Stripe, revocations, the audit log, bytes, late writes, and the time of backups; returns how many proofs are complete now.';

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
  foreach step in array array['privacy_begin_due', 'privacy_settle', 'privacy_purge'] loop
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

create function private.privacy_backlog() returns table (exports bigint, erasures bigint, oldest_due_seconds double precision)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select count(*) filter (where r.kind = 'export' and r.status in ('queued', 'collected')),
    count(*) filter (where r.kind = 'erasure' and r.status in ('journaling', 'journaled')),
    coalesce(extract(epoch from kijko.now() - min(coalesce(r.due_at, r.created_at)) filter (where r.status in ('journaling', 'journaled'))), 0)::double precision
  from private.privacy_requests as r
$$;
comment on function private.privacy_backlog() is 'Exports and erasures that are under way, and for how long the oldest erasure has been due. Definer: operators read no table.';
grant execute on function private.privacy_backlog() to kijko_sidecar, service_role;

create function private.privacy_problems() returns table (
  request_id uuid, user_id uuid, org_id uuid, status text, error_code text, attempts smallint, target text, since timestamptz
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select r.id, r.user_id, r.organization, r.status, r.error_code, r.attempts, null, coalesce(r.due_at, r.created_at)
  from private.privacy_requests as r
  where r.kind = 'erasure' and case r.status
    when 'failed' then r.error_code is distinct from 'last_owner' and not exists (
      select from private.privacy_requests as d
      where d.user_id = r.user_id and d.kind = 'erasure' and d.status = 'done' and (d.organization is null or d.organization = r.organization)
        and d.finished_at > r.finished_at
    )
    when 'journaled' then r.attempts > 0 or coalesce(r.due_at, r.created_at) < kijko.now() - interval '1 hour'
    when 'journaling' then coalesce(r.due_at, r.created_at) < kijko.now() - interval '1 hour'
    else false
  end
  union all
  select r.id, r.user_id, r.organization, p.state, r.error_code, r.attempts, p.target, p.due_at
  from private.privacy_proofs as p join private.privacy_requests as r on r.id = p.request_id
  where p.state = 'failed' or (p.state = 'pending' and p.due_at < kijko.now() - interval '1 hour')
$$;
comment on function private.privacy_problems() is 'Erasures that fail, have failed or are not in the journal yet, and proofs that failed or are overdue (target). ./kijko check warns of them. Nullable: org_id, error_code, target, since. Definer: operators read no table.';
grant execute on function private.privacy_problems() to service_role;

-- cron.schedule replaces the entry of the same name, so a replay is harmless.
select cron.schedule('kijko-privacy', '* * * * *', 'call private.privacy_tick()');
