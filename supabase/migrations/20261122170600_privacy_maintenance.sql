-- ============================================================================
-- Privacy: what runs each minute, what operators see, and the replay of the journal after a restore.
-- ============================================================================

create function private.privacy_settle(max_proofs integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  proof record;
  is_over boolean;
  more jsonb;
  settled integer := 0;
begin
  for proof in
    select p.request_id, p.target, p.due_at, r.user_id, r.organization, r.finished_at
    from private.privacy_proofs as p join private.privacy_requests as r on r.id = p.request_id
    where p.state = 'pending' order by p.due_at nulls first, p.request_id limit max_proofs for update of p skip locked
  loop
    more := '{}';
    is_over := false;
    case proof.target
      when 'audit' then
        is_over := not exists (select from private.audit_erasures as a where a.user_id = proof.user_id)
          and (proof.organization is not null or not exists (select from public.audit_log as e where e.created_by = proof.user_id and e.origin_salt is not null));
      when 'stripe' then
        is_over := not exists (select from private.billing_effects as e where e.kind = 'customer_erasure' and e.state = 'open' and e.created_at >= proof.finished_at - interval '1 hour');
        more := (
          select jsonb_build_object('states', coalesce(jsonb_object_agg(e.state, e.n), '{}'))
          from (select e.state, count(*) as n from private.billing_effects as e where e.kind = 'customer_erasure' and e.created_at >= proof.finished_at - interval '1 hour' group by e.state) as e
        );
      when 'identities' then
        if to_regclass('auth_api.provider_tokens') is null then
          is_over := true; -- GoTrue keeps no tokens
        else
          is_over := not exists (
            select from auth_api.provider_tokens as t where t.identity_id is null and t.flow_state_id is null and t.created_at <= proof.finished_at
          );
        end if;
      -- Kept for a restore to an earlier moment, at most as long as backups are.
      when 'storage', 'backups' then is_over := proof.due_at <= kijko.now();
      else null;
    end case;
    if is_over then
      update private.privacy_proofs as p set state = 'done', proved_at = kijko.now(), details = p.details || more
      where p.request_id = proof.request_id and p.target = proof.target;
      settled := settled + 1;
    end if;
  end loop;
  return settled;
end
$$;
comment on function private.privacy_settle(integer) is 'Looks whether what an erasure has begun elsewhere is over: requests to Stripe, revocations, the audit log, bytes and backups; returns how many proofs are complete now.';

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
    when exists (
      select 1 from public.memberships as m where m.org_id = request.organization and m.user_id = request.user_id and m.role = 'owner'
    ) and not exists (
      select 1 from public.memberships as m where m.org_id = request.organization and m.user_id <> request.user_id and m.role = 'owner'
    ) then 'last_owner'
  end
$$;
comment on function private.privacy_refusal(private.privacy_requests) is 'Why an erasure that is due may not begin, or null: who asked for it for another one does not hold privacy:write any more, or a lower role than the person; or the person is the last owner. Nullable: result.';

create function private.privacy_cancel_refused(max_requests integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  refused record;
  reader record;
  cancelled integer := 0;
begin
  for refused in
    select r.id, r.user_id, r.email, r.requested_by, private.privacy_refusal(r) as reason, private.privacy_subject_text(r) as subject
    from private.privacy_requests as r
    where r.kind = 'erasure' and r.status = 'confirmed' and r.due_at <= kijko.now() and private.privacy_refusal(r) is not null
    order by r.due_at limit max_requests for update skip locked
  loop
    update private.privacy_requests as r
    set status = 'cancelled', error_code = refused.reason, email = null, code_hash = null, finished_at = kijko.now()
    where r.id = refused.id;
    -- Who asked for it, and the person.
    for reader in
      select a.part, a.address
      from (values ('requester', (select u.email from auth.users as u where u.id = refused.requested_by)), ('person', refused.email)) as a (part, address)
      where private.mail_is_address(a.address) and (a.part = 'person' or refused.requested_by <> refused.user_id)
    loop
      perform private.mail_store(
        kijko.platform_org_id(), reader.address, 'erasure_cancelled', null, jsonb_build_object('subject', refused.subject, 'reason', refused.reason),
        dedupe_key => format('erasure_cancelled:%s:%s', refused.id, reader.part)
      );
    end loop;
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

-- A procedure, so that each request commits. It can then have no "set" clause, so every name is qualified.
create procedure private.privacy_tick()
language plpgsql
as $$
declare
  request uuid;
begin
  for request in
    select r.id from private.privacy_requests as r
    where (r.kind = 'export' and r.status = 'queued') or (r.kind = 'erasure' and r.status = 'journaled')
    order by r.created_at limit 50
  loop
    begin
      perform private.privacy_collect(request), private.privacy_erase(request);
    exception when others then
      raise warning 'privacy request %: %', request, sqlerrm;
    end;
    commit;
  end loop;
  perform private.privacy_begin_due(), private.privacy_settle(), private.privacy_purge();
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

create function private.privacy_replay(entries jsonb) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  entry record;
  replayed integer := 0;
begin
  for entry in
    select e.id, e.user_id, e.org_id, e.at from jsonb_to_recordset(entries) as e (id uuid, user_id uuid, org_id uuid, at timestamptz) order by e.at
  loop
    insert into private.privacy_requests as r (id, kind, user_id, organization, status, email, created_at, journaled_at)
    values (
      entry.id, 'erasure', entry.user_id, entry.org_id, 'journaled', (select u.email from auth.users as u where u.id = entry.user_id), entry.at, entry.at
    )
    on conflict (id) do update set status = 'journaled', email = coalesce(r.email, excluded.email), journaled_at = excluded.journaled_at
    -- What was done before the backup stays done, unless the person is there.
    where r.status <> 'done' or private.privacy_left(r, kept => false) <> '{}';
    replayed := replayed + private.privacy_erase(entry.id, is_replay => true)::integer;
  end loop;
  -- Schedules are paused after a restore, and the log must not wait for them.
  while private.audit_erase(100000) > 0 loop
  end loop;
  return replayed;
end
$$;
comment on function private.privacy_replay(jsonb) is 'Erases again who is in the journal and in a restored database; returns how many. entries: an array of {id, user_id, org_id, at}. Called by ./kijko restore before anybody reaches the database.';

-- cron.schedule replaces the entry of the same name, so a replay is harmless.
select cron.schedule('kijko-privacy', '* * * * *', 'call private.privacy_tick()');
