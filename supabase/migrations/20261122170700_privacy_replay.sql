-- ============================================================================
-- Privacy: the replay of the journal after a restore. One entry that fails stops no other.
-- ============================================================================

create function private.privacy_needs_replay(request_id uuid, person uuid, org uuid, erased_at timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    -- An id is never used again: an account that is there came back.
    when org is null then not coalesce(r.status = 'done', false) or exists (select from auth.users as u where u.id = person and u.deleted_at is null)
    -- What was done before the backup stays done, and who joined after the erasure was invited again.
    else not coalesce(r.status = 'done', false) and not exists (
      select from public.memberships as m where m.org_id = org and m.user_id = person and m.created_at > erased_at
    )
  end
  from (select 1) as one
  left join private.privacy_requests as r on r.id = privacy_needs_replay.request_id
$$;
comment on function private.privacy_needs_replay(uuid, uuid, uuid, timestamptz) is 'Whether an entry of the journal is to be erased again in a restored database.';

create function private.privacy_lock_out(request_id uuid, person uuid, org uuid, erased_at timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.privacy_requests as r (id, kind, user_id, organization, status, error_code, created_at, journaled_at, finished_at)
  values (privacy_lock_out.request_id, 'erasure', person, org, 'failed', 'replay_failed', erased_at, erased_at, kijko.now())
  on conflict (id) do update set status = 'failed', error_code = 'replay_failed', journaled_at = excluded.journaled_at, finished_at = excluded.finished_at;
  -- A time, because not every reader of this column knows "infinity".
  update auth.users as u set banned_until = '9999-01-01' where u.id = person;
  delete from auth.sessions as s where s.user_id = person;
end
$$;
comment on function private.privacy_lock_out(uuid, uuid, uuid, timestamptz) is 'Bans a person whose erasure could not be replayed, ends their sessions, and records it for private.privacy_problems().';

create function private.privacy_replay(entries jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  entry record;
  replayed integer := 0;
  failed jsonb := '[]'::jsonb;
begin
  for entry in
    select e.id, e.user_id, e.org_id, e.at from jsonb_to_recordset(entries) as e (id uuid, user_id uuid, org_id uuid, at timestamptz) order by e.at
  loop
    continue when not private.privacy_needs_replay(entry.id, entry.user_id, entry.org_id, entry.at);
    -- Others of the person that the backup has open: this one replaces them.
    update private.privacy_requests as r set status = 'cancelled', email = null, code_hash = null, finished_at = kijko.now()
    where r.user_id = entry.user_id and r.kind = 'erasure' and r.organization is not distinct from entry.org_id and r.id <> entry.id
      and r.status in ('unconfirmed', 'confirmed', 'journaling', 'journaled');
    begin
      insert into private.privacy_requests as r (id, kind, user_id, organization, status, email, created_at, journaled_at)
      values (
        entry.id, 'erasure', entry.user_id, entry.org_id, 'journaled', (select u.email from auth.users as u where u.id = entry.user_id), entry.at, entry.at
      )
      on conflict (id) do update set status = 'journaled', email = coalesce(r.email, excluded.email), journaled_at = excluded.journaled_at;
      replayed := replayed + private.privacy_erase(entry.id, is_replay => true)::integer;
    exception when others then
      failed := failed || jsonb_build_object('id', entry.id, 'user_id', entry.user_id, 'error', sqlerrm);
      perform private.privacy_lock_out(entry.id, entry.user_id, entry.org_id, entry.at);
    end;
  end loop;
  -- Schedules are paused after a restore, and the log must not wait for them.
  while private.audit_erase(100000) > 0 loop
  end loop;
  return jsonb_build_object('replayed', replayed, 'failed', failed);
end
$$;
comment on function private.privacy_replay(jsonb) is 'Erases again who is in the journal and in a restored database, and returns {replayed, failed}: how many, and each entry that could not be, {id, user_id, error}, whose person is locked out. entries: an array of {id, user_id, org_id, at}. Called by ./kijko restore before anybody reaches the database.';
