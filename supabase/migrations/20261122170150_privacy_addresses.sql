-- ============================================================================
-- Privacy: the addresses by which rows are a person's: that of the account, and those that it had before.
-- ============================================================================

-- No foreign key: an erasure reads it after the user is gone.
create table private.privacy_former_addresses (
  user_id uuid not null,
  email text not null check (char_length(email) <= 320),
  replaced_at timestamptz not null default kijko.now(),
  primary key (user_id, email)
);
create index privacy_former_addresses_email_idx on private.privacy_former_addresses (email);
comment on table private.privacy_former_addresses is 'Confirmed addresses that accounts had before, and for some minutes those of deleted ones. By them an export and an erasure find what was sent or kept under a former address.';
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
  delete from private.privacy_former_addresses as f where f.user_id = new.id and f.email = lower(new.email collate "C");
  if old.email_confirmed_at is not null and private.mail_is_address(old.email) then
    insert into private.privacy_former_addresses as f (user_id, email) values (new.id, lower(old.email collate "C"))
    on conflict (user_id, email) do update set replaced_at = excluded.replaced_at;
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
    where f.user_id = request.user_id and not private.privacy_is_others(request.user_id, f.email)
  ) as a (email)
  where a.email is not null
$$;
comment on function private.privacy_addresses(private.privacy_requests) is 'All addresses by which rows are the person''s, in small letters: that of now, and former ones that no other account has.';

create function private.privacy_address_condition(described text, column_name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('(lower(t.%I collate "C") = any ($2)', column_name) || case
    when exists (
      select from pg_attribute as a where a.attrelid = to_regclass(described) and a.attname = 'created_at' and not a.attisdropped
    ) then format(
      $q$ and not exists (
        select from private.privacy_former_addresses as f
        left join private.privacy_former_addresses as own on own.user_id = $1 and own.email = f.email
        where f.email = lower(t.%I collate "C") and case
          when f.user_id = $1 then f.replaced_at < t.created_at
          else f.replaced_at >= t.created_at and f.replaced_at < coalesce(own.replaced_at, 'infinity')
        end
      )$q$, column_name
    )
    else ''
  end || ')'
$$;
comment on function private.privacy_address_condition(text, text) is 'The condition that a column of a row has an address of a person, as SQL about t with $1, their id, and $2, their addresses. What was made after a former address was replaced is not theirs, nor what was made while another account had it before them.';
