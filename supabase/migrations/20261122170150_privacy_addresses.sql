-- ============================================================================
-- Privacy: the addresses by which rows are a person's: that of the account, and those that it had before.
-- ============================================================================

-- No foreign key: an erasure reads it after the user is gone.
create table private.privacy_former_addresses (
  user_id uuid not null,
  email text not null check (char_length(email) <= 320),
  replaced_at timestamptz not null default kijko.now(),
  given_at timestamptz,
  primary key (user_id, email, replaced_at)
);
create index privacy_former_addresses_email_idx on private.privacy_former_addresses (email, replaced_at);
comment on table private.privacy_former_addresses is 'Confirmed addresses that accounts had before, once for each time that they had them, and for some minutes those of deleted ones; and the address of now, where an administrator has given it. By them an export and an erasure find what was sent or kept under an address.';
comment on column private.privacy_former_addresses.user_id is 'Whose.';
comment on column private.privacy_former_addresses.email is 'The address, in small letters.';
comment on column private.privacy_former_addresses.replaced_at is 'When the account got another one, or was deleted; infinity for the address of now. What was made later under the address is not the person''s.';
comment on column private.privacy_former_addresses.given_at is 'When an administrator gave the account the address. Nobody proved then to read its mail, so what was made before under the address is not the person''s. Null if a mail to the address was confirmed.';
select private.describe_data('private.privacy_former_addresses', '{
  "user_id, email, replaced_at, given_at": {"purpose": "finds rows under an address that the account had before", "erasure": "retention"}
}', 'person');
alter table private.privacy_former_addresses enable row level security;
select private.set_retention(
  'private.privacy_former_addresses', null, 'finds rows under an address that the account had before', kept_by => 'the account: deleted a minute after its erasure'
);

select private.tie_to_person(
  'private.privacy_former_addresses', 'user_id', 'keep', 'an erasure reads it after the user is gone, and deletes it then', is_about => true, columns => '{email}'
);

create function private.privacy_end_address(person uuid, address text, moment timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  since timestamptz;
begin
  if not private.mail_is_address(address) then
    return;
  end if;
  delete from private.privacy_former_addresses as f
  where f.user_id = person and f.email = lower(address collate "C") and f.replaced_at = 'infinity'
  returning f.given_at into since;
  insert into private.privacy_former_addresses (user_id, email, replaced_at, given_at)
  values (person, lower(address collate "C"), moment, since) on conflict do nothing;
end
$$;
comment on function private.privacy_end_address(uuid, text, timestamptz) is 'Keeps that a person had a confirmed address until a moment.';

create function private.privacy_end_unproved(person uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update private.privacy_requests as r set expires_at = kijko.now()
  where r.requested_by = person and r.kind = 'export' and r.status = 'ready' and r.expires_at > kijko.now();
  with ended as (
    update private.privacy_requests as r set status = 'cancelled', email = null, finished_at = kijko.now()
    where r.requested_by = person and r.kind = 'export' and r.status in ('queued', 'collected')
    returning r.id
  )
  delete from private.privacy_export_chunks as c using ended as e where c.request_id = e.id;
  update private.privacy_requests as r set status = 'expired', email = null, code_hash = null, finished_at = kijko.now()
  where r.requested_by = person and r.kind = 'erasure' and r.status = 'unconfirmed';
end
$$;
comment on function private.privacy_end_unproved(uuid) is 'Ends the exports that an account has asked for, and erasures that it has not confirmed: who reads the mail of an address that an administrator gives it need not be who asked.';

create function private.privacy_keep_former_address() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if old.email_confirmed_at is not null then
    perform private.privacy_end_address(new.id, old.email, kijko.now());
  end if;
  -- A person confirms the address that email_change has. Without one, as by an administrator, it counts as confirmed all the same.
  if new.email_confirmed_at is not null and old.email <> '' and private.mail_is_address(new.email)
    and lower(new.email collate "C") is distinct from lower(old.email_change collate "C")
  then
    insert into private.privacy_former_addresses (user_id, email, replaced_at, given_at)
    values (new.id, lower(new.email collate "C"), 'infinity', kijko.now()) on conflict do nothing;
    perform private.privacy_end_unproved(new.id);
  end if;
  return null;
end
$$;
comment on function private.privacy_keep_former_address() is 'Trigger: keeps a confirmed address that an account no longer has, and one that an administrator gives it. Definer: the login role may write auth only.';
-- A soft deletion puts a hash in the place of the address.
create trigger kijko_user_privacy_address after update of email on auth.users
  for each row when (lower(old.email collate "C") is distinct from lower(new.email collate "C") and new.deleted_at is null)
  execute function private.privacy_keep_former_address();

create function private.privacy_is_others(person uuid, address text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- By the indexes that GoTrue makes. The second has no user without its instance, the first none of single sign-on.
  select exists (
    select from auth.users as o
    -- Compared as the index sorts it.
    where o.email = lower(address collate "C") collate "default" and o.is_sso_user = false
      and o.id <> person and o.deleted_at is null and o.email_confirmed_at is not null
  ) or exists (
    select from auth.users as o
    where o.instance_id = '00000000-0000-0000-0000-000000000000'
      -- The index takes other letters as the same, which they are not.
      and lower(o.email::text) = lower(address) and lower(o.email collate "C") = lower(address collate "C")
      and o.id <> person and o.deleted_at is null and o.email_confirmed_at is not null
  )
$$;
comment on function private.privacy_is_others(uuid, text) is 'Whether the confirmed address of another account is this one.';

create function private.privacy_address(request private.privacy_requests) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  account record;
  address text := request.email;
begin
  select u.email::text as email, u.email_confirmed_at into account from auth.users as u where u.id = request.user_id and u.deleted_at is null;
  if found then
    address := case when account.email_confirmed_at is not null then account.email end;
  end if;
  return case when not private.privacy_is_others(request.user_id, address) then address end;
end
$$;
comment on function private.privacy_address(private.privacy_requests) is 'The address of the person: the confirmed one of the account, or the last one of an account that is gone. Null while another account has it. Nullable: result.';

create function private.privacy_addresses(request private.privacy_requests) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct a.email), '{}')
  from (
    select lower(private.privacy_address(request) collate "C")
    union all
    select f.email from private.privacy_former_addresses as f
    where f.user_id = request.user_id and (request.kind <> 'export' or not exists (
      select from private.privacy_former_addresses as g where g.user_id = f.user_id and g.given_at >= f.replaced_at
    ))
  ) as a (email)
  where a.email is not null
$$;
comment on function private.privacy_addresses(private.privacy_requests) is 'All addresses by which rows are the person''s, in small letters: that of now, and former ones. For an export without those from before an administrator gave the account another one: it may be another person''s since. Which rows are theirs says privacy_address_condition().';

create function private.privacy_had_address(person uuid, address text, moment timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select moment is null or coalesce(
    -- Whoever gave the address up next had it then.
    (
      select f.user_id = person and coalesce(f.given_at <= moment, true) from private.privacy_former_addresses as f
      where f.email = lower(address collate "C") and f.replaced_at >= moment order by f.replaced_at, f.user_id <> person limit 1
    ),
    -- Nobody has since: so who has it now, or the last one who had it, when they are gone.
    exists (
      select from auth.users as u
      where u.id = person and u.deleted_at is null and u.email_confirmed_at is not null and lower(u.email collate "C") = lower(address collate "C")
    ) or not exists (
      select from private.privacy_former_addresses as f where f.user_id = person and f.email = lower(address collate "C")
    )
  )
$$;
comment on function private.privacy_had_address(uuid, text, timestamptz) is 'Whether one of the addresses of a person was theirs at a moment, and not that of who had it before or has it now.';

create function private.privacy_address_condition(described text, column_name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('(lower(t.%I collate "C") = any ($2)', column_name)
    || case when c.has_time then format(' and private.privacy_had_address($1, t.%I, t.created_at)', column_name) else '' end
    -- What is not deleted is in use, such as the customer of a company's mailbox.
    || case when c.has_time and c.is_deleted then '' else format(' and not private.privacy_is_others($1, t.%I)', column_name) end || ')'
  from (
    select
      exists (
        select from pg_attribute as a where a.attrelid = to_regclass(described) and a.attname = 'created_at' and not a.attisdropped
      ) as has_time,
      exists (
        select from private.data_subject_columns as s
        where s.table_name = described and s.column_name = privacy_address_condition.column_name and s.matches = 'email' and s.erasure = 'delete'
      ) as is_deleted
  ) as c
$$;
comment on function private.privacy_address_condition(text, text) is 'The condition that a column of a row has an address of a person, as SQL about t with $1, their id, and $2, their addresses. A row that was made while another account had the address is not theirs. While another account has it now, only those are that an erasure deletes.';
