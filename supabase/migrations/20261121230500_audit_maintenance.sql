-- ============================================================================
-- Audit: erasure of a person, and retention.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Erasure
-- ----------------------------------------------------------------------------

create table private.audit_erasures (
  user_id uuid primary key,
  email text check (char_length(email) <= 320),
  former_emails text[] not null default '{}' check (cardinality(former_emails) <= 1000),
  requested_at timestamptz not null default now(),
  looked_at timestamptz
);
create index audit_erasures_looked_at_idx on private.audit_erasures (looked_at nulls first, requested_at);
comment on table private.audit_erasures is 'People whose data is to be erased from the audit log. A job does it and deletes the row.';
comment on column private.audit_erasures.user_id is 'The person.';
comment on column private.audit_erasures.email is 'Their last address, under which they were invited. Null if they had confirmed none.';
comment on column private.audit_erasures.former_emails is 'Addresses that they had before.';
comment on column private.audit_erasures.requested_at is 'When, by the clock of the server.';
comment on column private.audit_erasures.looked_at is 'When the job last looked for their entries; null before.';
select private.describe_data('private.audit_erasures', '{
  "user_id, email, former_emails, requested_at, looked_at": {"purpose": "finds what is to be erased", "export": "none", "erasure": "retention"}
}', 'person');
alter table private.audit_erasures enable row level security;

create function private.audit_request_erasure() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- An address that nobody confirmed may be somebody else's.
  insert into private.audit_erasures (user_id, email) values (old.id, case when old.email_confirmed_at is not null then "left"(old.email, 320) end)
  on conflict on constraint audit_erasures_pkey do nothing;
  return null;
end
$$;
comment on function private.audit_request_erasure() is 'Trigger: has the data of a deleted user erased from the audit log. Definer: the login role may write auth only.';
create trigger kijko_user_audit_erase_deleted after delete on auth.users
  for each row execute function private.audit_request_erasure();
create trigger kijko_user_audit_erase_soft_deleted after update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.audit_request_erasure();

create function private.audit_erase_person(person private.audit_erasures, max_rows integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  erased integer := 0;
  org record;
begin
  -- The guard fills the digest and empties what it is of.
  for org in
    with acted as (
      update public.audit_log as e set origin_salt = null
      where e.id = any (array(
        select o.id from public.audit_log as o where o.created_by = person.user_id and o.origin_salt is not null limit max_rows for update skip locked
      ))
      returning e.org_id
    )
    select a.org_id as id, count(*)::integer as entries from acted as a group by a.org_id
  loop
    erased := erased + org.entries;
    perform private.audit_record(org.id, 'audit.erased', 'user', person.user_id::text, after => jsonb_build_object('origin', org.entries));
  end loop;
  for org in
    with concerned as (
      update public.audit_log as e set personal_salt = null, origin_salt = case when e.created_by is null then null else e.origin_salt end
      where e.id = any (array(
        select o.id from public.audit_log as o where o.subject_user_id = person.user_id and o.personal_salt is not null
        union
        select o.id from public.audit_log as o
        where o.personal is not null and coalesce(o.personal -> 'after' ->> 'email', o.personal -> 'before' ->> 'email') = any (person.former_emails || person.email)
        union
        select o.id from public.audit_log as o
        where o.personal is not null and jsonb_path_query_array(o.personal, '$.*.*') ? person.user_id::text
        limit max_rows
      ))
      returning e.org_id
    )
    select c.org_id as id, count(*)::integer as entries from concerned as c group by c.org_id
  loop
    erased := erased + org.entries;
    perform private.audit_record(org.id, 'audit.erased', 'user', person.user_id::text, after => jsonb_build_object('personal', org.entries));
  end loop;
  return erased;
end
$$;
comment on function private.audit_erase_person(private.audit_erasures, integer) is 'Erases what entries have about a person, at most max_rows of each kind, and returns how many: where they acted from, the data of rows about them, and from where somebody without an account, such as a refused sign-in, acted on theirs. Each organization concerned gets an entry about it.';

create function private.audit_erase(max_rows integer default 2000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  person private.audit_erasures;
  erased integer;
  total integer := 0;
begin
  -- Who was not looked for yet comes first. One with many entries does not stop the others.
  for person in select r.* from private.audit_erasures as r order by r.looked_at nulls first, r.requested_at limit 500 for update skip locked loop
    begin
      erased := private.audit_erase_person(person, max_rows);
    exception when others then
      -- Its turn comes again after the others'.
      raise warning 'audit log, erasure of %: %', person.user_id, sqlerrm;
      update private.audit_erasures as r set looked_at = clock_timestamp() where r.user_id = person.user_id;
      continue;
    end;
    total := total + erased;
    -- Once more later: a request of theirs may have been under way.
    if erased = 0 and person.requested_at < now() - interval '10 minutes' then
      delete from private.audit_erasures as r where r.user_id = person.user_id;
    else
      update private.audit_erasures as r set looked_at = clock_timestamp() where r.user_id = person.user_id;
    end if;
    exit when total >= 10 * max_rows;
  end loop;
  return total;
end
$$;
comment on function private.audit_erase(integer) is 'Called by pg_cron each minute: erases the data of deleted users, and returns how many entries it changed.';

-- ----------------------------------------------------------------------------
-- Retention
-- ----------------------------------------------------------------------------

create function private.audit_forget_organization(org uuid, max_rows integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  forgotten integer;
begin
  delete from public.audit_log as e where e.id = any (array(select o.id from public.audit_log as o where o.org_id = org limit max_rows));
  get diagnostics forgotten = row_count;
  if forgotten < max_rows then
    delete from private.audit_seals as s where s.organization = org;
    delete from private.audit_heads as h where h.organization = org;
  end if;
  return forgotten;
end
$$;
comment on function private.audit_forget_organization(uuid, integer) is 'Deletes the log of an organization that is gone, at most max_rows entries of it, and returns how many.';

create function private.audit_purge_organization(org uuid, max_seals integer default 200) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  keeps_since constant timestamptz := private.audit_keeps_since(org);
  head private.audit_heads;
  last private.audit_seals;
  purged integer;
begin
  if keeps_since = '-infinity' then
    return 0;
  elsif keeps_since = 'infinity' then
    return private.audit_forget_organization(org, max_seals * 25);
  end if;
  select h.* into head from private.audit_heads as h where h.organization = org for update skip locked;
  -- Whole seals from the beginning. The last one stays: with it the entry about what was deleted.
  select s.* into last
  from private.audit_seals as s
  where s.organization = org and s.seal between head.checkpoint_seal + 1 and least(head.seal - 1, head.checkpoint_seal + max_seals)
    and not exists (
      select 1 from private.audit_seals as k
      where k.organization = org and k.seal between head.checkpoint_seal + 1 and s.seal and k.newest_at >= keeps_since
    )
  order by s.seal desc
  limit 1;
  if last.seal is null then
    return 0;
  end if;
  delete from public.audit_log as e
  where e.org_id = org and e.id in (
    select unnest(s.entry_ids) from private.audit_seals as s where s.organization = org and s.seal <= last.seal
  );
  get diagnostics purged = row_count;
  delete from private.audit_seals as s where s.organization = org and s.seal <= last.seal;
  update private.audit_heads as h
  set checkpoint_seal = last.seal, checkpoint_position = last.first_position + cardinality(last.entry_ids) - 1, checkpoint_hash = last.hash
  where h.organization = org;
  perform private.audit_record(
    org, 'audit.purged', 'audit_log', null,
    after => jsonb_build_object(
      'seal', last.seal, 'hash', encode(last.hash, 'hex'), 'position', last.first_position + cardinality(last.entry_ids) - 1, 'entries', purged
    )
  );
  return purged;
end
$$;
comment on function private.audit_purge_organization(uuid, integer) is 'Deletes the entries of an organization whose retention is over, up to max_seals seals at the beginning of its chain, and returns how many. The hash of the last seal becomes its checkpoint, and an entry of the chain says so. The last seal is kept.';

-- A procedure, so that each batch commits. It can then have no "set" clause, so every name is qualified.
create procedure private.audit_purge_all()
language plpgsql
as $$
declare
  started constant timestamptz := clock_timestamp();
  place uuid := '00000000-0000-0000-0000-000000000000'::uuid;
  orgs uuid[];
  org uuid;
begin
  loop
    orgs := array(select h.organization from private.audit_heads as h where h.organization > place order by h.organization limit 200);
    exit when orgs = '{}' or clock_timestamp() > started + interval '20 minutes';
    foreach org in array orgs loop
      begin
        perform private.audit_purge_organization(org);
      exception when others then
        raise warning 'audit log of organization %: not purged: %', org, sqlerrm;
      end;
    end loop;
    place := orgs[cardinality(orgs)];
    commit;
  end loop;
end
$$;
comment on procedure private.audit_purge_all() is 'Called by pg_cron each hour: deletes entries whose retention is over, and the logs of organizations that are gone.';

select private.set_retention('public.audit_log', null, 'evidence of access, money and secrets', kept_by => 'the plan of the organization: private.audit_retention, and for the platform private.audit_settings');
select private.set_retention('private.audit_seals', null, 'keeps the chain whole', kept_by => 'its entries of audit_log');
select private.set_retention('private.audit_erasures', null, 'finds what is to be erased', kept_by => 'the job that erases: some minutes');

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-audit-erase', '* * * * *', 'perform private.audit_erase()');
select private.schedule('kijko-audit-purge', '43 * * * *', 'call private.audit_purge_all()');
