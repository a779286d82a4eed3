-- ============================================================================
-- Privacy: proofs of an erasure, and how they become complete.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- What an erasure has done, and what goes on
-- ----------------------------------------------------------------------------

create function private.privacy_prove_stripe(request_id uuid, effects uuid[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  asked uuid[];
  copy_only integer;
begin
  -- With those of the deletion itself, or of an attempt before.
  select array(
    select distinct a.id from (
      select unnest(effects) as id
      union all
      select private.as_uuid(e.id) from private.privacy_proofs as p cross join jsonb_array_elements_text(p.details -> 'effects') as e (id)
      where p.request_id = privacy_prove_stripe.request_id and p.target = 'stripe'
    ) as a where a.id is not null
  ) into asked;
  -- The deletion of a user who is erased counts the same ones again.
  copy_only := greatest(cardinality(effects) - cardinality(array_remove(effects, null)), (
    select (p.details ->> 'copy_only')::integer from private.privacy_proofs as p where p.request_id = privacy_prove_stripe.request_id and p.target = 'stripe'
  ));
  -- Made anew: a proof that is recorded again would keep what it says.
  delete from private.privacy_proofs as p where p.request_id = privacy_prove_stripe.request_id and p.target = 'stripe';
  perform private.privacy_prove(
    privacy_prove_stripe.request_id, 'stripe',
    case when asked <> '{}' then 'pending' when copy_only > 0 then 'kept' else 'done' end,
    case
      when asked <> '{}' then jsonb_build_object('effects', asked, 'copy_only', copy_only)
      when copy_only > 0 then jsonb_build_object('copy_only', copy_only, 'reason', 'Stripe is not configured here: what is about the person was taken from the copy only')
      else '{"customers": 0}'
    end,
    case when asked <> '{}' then kijko.now() + interval '1 day' end
  );
end
$$;
comment on function private.privacy_prove_stripe(uuid, uuid[]) is 'Records which requests to Stripe belong to an erasure, beside those that do already. Null stands for a customer of which Stripe was not asked.';

create function private.privacy_prove_erased(request private.privacy_requests, addresses text[], counts jsonb, storage_counts jsonb, identities bigint, effects uuid[])
returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  select private.privacy_prove(request.id, p.target, p.state, p.details, p.due_at)
  from (values
    ('database', true, 'done', counts, null),
    ('mail', true, 'done', jsonb_build_object(
      'messages', coalesce(counts -> 'private.mail_messages.recipient', '0'), 'to_others', coalesce(counts -> 'private.mail_messages.sealed_data', '0')
    ), null),
    ('model_calls', true, 'done', jsonb_build_object('contents', coalesce(counts -> 'public.llm_call_contents.created_by', '0')), null),
    ('events', true, 'kept',
      -- Without what is kept for minutes only.
      private.privacy_left(request, addresses, kept => true) - array[
        'private.privacy_former_addresses.user_id', 'private.privacy_requests.email', 'private.audit_erasures.user_id', 'private.audit_erasures.email'
      ] || '{"reason": "evidence and billing, by private.data_subjects and private.data_retention"}', null),
    ('backups', true, 'pending', '{}', kijko.now() + (select s.backup_lifetime from private.privacy_settings as s)),
    ('late_writes', true, 'pending', jsonb_build_object('xid', pg_current_xact_id()::text), kijko.now() + interval '1 day'),
    -- In one organization nothing of the following is deleted.
    ('storage', request.organization is null, 'pending', storage_counts, kijko.now() + interval '30 days'),
    ('storage', request.organization is not null, 'done', storage_counts, null),
    ('audit', request.organization is null, 'pending', '{}', kijko.now() + interval '1 day'),
    ('audit', request.organization is not null, 'kept', '{"reason": "evidence of the organization, until the account is erased"}', null),
    ('identities', request.organization is null, 'pending', jsonb_build_object('identities', identities), kijko.now() + interval '1 day')
  ) as p (target, applies, state, details, due_at)
  where p.applies;
  select private.privacy_prove_stripe(request.id, effects) where request.organization is null;
$$;
comment on function private.privacy_prove_erased(private.privacy_requests, text[], jsonb, jsonb, bigint, uuid[]) is 'Records what an erasure did where, and what goes on.';

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
    -- 404: Stripe has no such customer or number any more.
    when count(*) filter (where e.state = 'done' or e.http_status = 404) = cardinality(effects) then 'done'
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
      if outcome = 'done' and (proof.details ->> 'copy_only')::integer > 0 then
        outcome := 'kept';
        more := '{"reason": "some customers are of a mode for which Stripe is not configured here"}';
      end if;
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
