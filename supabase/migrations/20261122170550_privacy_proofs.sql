-- ============================================================================
-- Privacy: how proofs of an erasure become complete.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Late writes: what was under way during the erasure
-- ----------------------------------------------------------------------------

create function private.privacy_confirm_done(request private.privacy_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if private.mail_is_address(request.email) and not private.privacy_is_others(request.user_id, request.email) then
    perform private.mail_store(
      kijko.platform_org_id(), request.email, 'erasure_done', null,
      jsonb_build_object(
        'subject', private.privacy_subject_text(request),
        'days', (select ceil(extract(epoch from s.backup_lifetime) / 86400)::integer from private.privacy_settings as s)
      ),
      dedupe_key => 'erasure_done:' || request.id
    );
  end if;
end
$$;
comment on function private.privacy_confirm_done(private.privacy_requests) is 'Mails that an erasure is done. The mail is deleted an hour after it was sent.';

create function private.privacy_forget_addresses(request private.privacy_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if request.organization is null then
    delete from private.privacy_former_addresses as f where f.user_id = request.user_id;
  end if;
  update private.privacy_requests as r set email = null where r.id = request.id;
  update private.privacy_proofs as p set details = p.details || jsonb_build_object('looked_at', kijko.now())
  where p.request_id = request.id and p.target = 'late_writes';
end
$$;
comment on function private.privacy_forget_addresses(private.privacy_requests) is 'Deletes the addresses of an erased person, when nothing is looked for by them any more.';

-- A transaction that had begun to write during the erasure, such as one with a mail to the person, may commit after it. The first look
-- waits for all of those, and a minute for those that had only read. The second look is for what is longer under way outside the
-- database, such as a call of a model, and knows ids only.
create function private.privacy_look_again(proof private.privacy_proofs, request private.privacy_requests, out outcome text, out details jsonb)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  is_first constant boolean := not proof.details ? 'looked_at';
  erased jsonb;
begin
  outcome := 'pending';
  details := '{}';
  if is_first and (
    kijko.now() < request.finished_at + interval '1 minute'
    or (pg_snapshot_xmin(pg_current_snapshot()) <= (proof.details ->> 'xid')::xid8 and kijko.now() < request.finished_at + interval '1 day')
  ) or not is_first and kijko.now() < proof.due_at then
    return;
  end if;
  -- Who has joined the organization again, or was invited again, makes rows that are not late.
  if exists (
    select from public.memberships as m where m.org_id = request.organization and m.user_id = request.user_id and m.created_at >= request.finished_at
  ) or exists (
    select from public.invitations as i
    where i.org_id = request.organization and lower(i.email collate "C") = any (private.privacy_addresses(request)) and i.created_at > request.finished_at
      and not private.privacy_is_others(request.user_id, i.email)
  ) then
    erased := '{"reason": "the person has joined the organization again, or was invited again"}';
    outcome := 'kept';
  else
    erased := private.privacy_erase_rows(request, case when is_first then private.privacy_addresses(request) else '{}'::text[] end);
    outcome := case when is_first then 'pending' else 'done' end;
  end if;
  if is_first then
    perform private.privacy_confirm_done(request);
    perform private.privacy_forget_addresses(request);
  end if;
  details := erased || jsonb_build_object('looked_at', kijko.now());
end
$$;
comment on function private.privacy_look_again(private.privacy_proofs, private.privacy_requests) is 'Erases what was written beside an erasure: the first time a minute later, by ids and addresses, and then mails that the erasure is done; the second time a day later, by ids.';

-- ----------------------------------------------------------------------------
-- Backups
-- ----------------------------------------------------------------------------

create function private.privacy_record_backups(oldest timestamptz, max_days integer default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update private.privacy_settings as s
  set oldest_backup_at = oldest, backup_lifetime = coalesce(make_interval(days => max_days), s.backup_lifetime);
end
$$;
comment on function private.privacy_record_backups(timestamptz, integer) is 'Says when the oldest copy of the data that is kept was begun, and how many days copies are kept. ./kijko backup calls it each time that it has removed old ones. Without a time, the copies of other tools are taken as gone after backup_lifetime.';

create function private.privacy_settle_backups(proof private.privacy_proofs) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when s.oldest_backup_at > (proof.details ->> 'seen_at')::timestamptz or (s.oldest_backup_at is null and proof.due_at <= kijko.now()) then 'done'
    else 'pending'
  end
  from private.privacy_settings as s
$$;
comment on function private.privacy_settle_backups(private.privacy_proofs) is 'Whether all copies of the data were begun when an erasure had been seen, so that it was committed: done or pending. Where nobody says which copies there are, by the time for which they are kept.';

-- ----------------------------------------------------------------------------
-- All proofs
-- ----------------------------------------------------------------------------

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
      select l.outcome, l.details into outcome, more from private.privacy_look_again(proof, request) as l;
    when 'backups' then
      outcome := private.privacy_settle_backups(proof);
      -- The erasure began before, at finished_at, and is committed: a backup from between may have the person.
      if not proof.details ? 'seen_at' then
        more := jsonb_build_object('seen_at', kijko.now() + (clock_timestamp() - now()));
      end if;
    else null;
  end case;
  update private.privacy_proofs as p
  set state = outcome, proved_at = case when outcome <> 'pending' then kijko.now() end, details = (p.details || more) - case when outcome <> 'pending' then 'xid' else '' end
  where p.request_id = proof.request_id and p.target = proof.target and (outcome <> 'pending' or more <> '{}');
end
$$;
comment on function private.privacy_settle_proof(private.privacy_proofs, private.privacy_requests) is 'Looks whether what an erasure has begun at a place is over, and completes its proof.';

create function private.privacy_settle(max_proofs integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  pending record;
begin
  for pending in
    select p as proof, r as request
    from private.privacy_proofs as p join private.privacy_requests as r on r.id = p.request_id
    where p.state = 'pending' and (p.target <> 'late_writes' or not p.details ? 'looked_at' or p.due_at <= kijko.now())
    -- People wait for the first look. What others decide comes last, so that it stops nobody else's.
    order by p.target <> 'late_writes', p.target in ('storage', 'backups'), p.due_at nulls first, p.request_id limit max_proofs for update of p skip locked
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
comment on function private.privacy_settle(integer) is 'Looks whether what an erasure has begun elsewhere is over: requests to Stripe, revocations, the audit log, deletions of bytes, late writes and backups; returns how many proofs are complete now.';
