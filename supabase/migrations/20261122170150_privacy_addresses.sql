-- ============================================================================
-- Privacy: the addresses by which rows are a person's: that of the account, and those that it had before.
-- ============================================================================

-- No foreign key: an erasure reads it after the user is gone.
create table private.privacy_former_addresses (
  user_id uuid not null,
  email text not null check (char_length(email) <= 320),
  replaced_at timestamptz not null default kijko.now(),
  primary key (user_id, email, replaced_at)
);
create index privacy_former_addresses_email_idx on private.privacy_former_addresses (email, replaced_at);
comment on table private.privacy_former_addresses is 'Confirmed addresses that accounts had before, once for each time that they had them, and for some minutes those of deleted ones. By them an export and an erasure find what was sent or kept under a former address.';
comment on column private.privacy_former_addresses.user_id is 'Whose.';
comment on column private.privacy_former_addresses.email is 'The address, in small letters.';
comment on column private.privacy_former_addresses.replaced_at is 'When the account got another one, or was deleted. What was made later under the address is not the person''s.';
select private.describe_data('private.privacy_former_addresses', '{
  "user_id, email, replaced_at": {"purpose": "finds rows under an address that the account had before", "erasure": "retention"}
}', 'person');
alter table private.privacy_former_addresses enable row level security;
select private.set_retention(
  'private.privacy_former_addresses', null, 'finds rows under an address that the account had before', kept_by => 'the account: deleted a minute after its erasure'
);

select private.tie_to_person(
  'private.privacy_former_addresses', 'user_id', 'keep', 'an erasure reads it after the user is gone, and deletes it then', is_about => true, columns => '{email}'
);

create function private.privacy_keep_former_address() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if old.email_confirmed_at is not null and private.mail_is_address(old.email) then
    insert into private.privacy_former_addresses (user_id, email) values (new.id, lower(old.email collate "C")) on conflict do nothing;
  end if;
  return null;
end
$$;
comment on function private.privacy_keep_former_address() is 'Trigger: keeps a confirmed address that an account no longer has. Definer: the login role may write auth only.';
-- A soft deletion puts a hash in the place of the address.
create trigger kijko_user_privacy_address after update of email on auth.users
  for each row when (lower(old.email collate "C") is distinct from lower(new.email collate "C") and new.deleted_at is null)
  execute function private.privacy_keep_former_address();

create function private.privacy_is_others(person uuid, address text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from auth.users as o
    where o.id <> person and o.deleted_at is null and o.email_confirmed_at is not null and lower(o.email collate "C") = lower(address collate "C")
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
    where f.user_id = request.user_id
  ) as a (email)
  where a.email is not null
$$;
comment on function private.privacy_addresses(private.privacy_requests) is 'All addresses by which rows are the person''s, in small letters: that of now, and former ones. Which rows are theirs says privacy_address_condition().';

create function private.privacy_had_address(person uuid, address text, moment timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select moment is null or coalesce(
    -- Whoever gave the address up next had it then.
    (
      select f.user_id = person from private.privacy_former_addresses as f
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
