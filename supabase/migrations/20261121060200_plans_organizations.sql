-- ============================================================================
-- Plans: how many organizations a user may create.
--
-- The limit is the highest max_organizations among FREE and the plans of the
-- organizations that the user owns. An organization counts for its creator until it is
-- deleted, even if others own it by then. The personal organization does not count. Each
-- organization has monthly quotas of its own, so the number created in a month is
-- limited, too.
-- ============================================================================

create table private.plans_organizations_created (
  user_id uuid primary key references auth.users (id) on delete cascade,
  month date not null,
  created integer not null check (created > 0)
);
comment on table private.plans_organizations_created is 'How many organizations each user created in the latest month in which they created one. The lock of a row serializes concurrent calls of one user.';
comment on column private.plans_organizations_created.user_id is 'The user.';
comment on column private.plans_organizations_created.month is 'First day of the month, in UTC.';
comment on column private.plans_organizations_created.created is 'How many they created in that month, including those deleted since.';
select private.describe_data('private.plans_organizations_created', '{
  "user_id, month, created": "limits how many organizations a user creates"
}', 'person');

alter table private.plans_organizations_created enable row level security;

create function private.plans_max_organizations(owner uuid) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select p.max_organizations
    from public.plans as p
    where p.code = 'FREE' or p.code in (
      select s.plan
      from public.memberships as m
      join public.subscriptions as s on s.org_id = m.org_id
      where m.user_id = owner and m.role = 'owner'
    )
    order by p.max_organizations desc nulls first
    limit 1
  );
end
$$;
comment on function private.plans_max_organizations(uuid) is 'How many organizations a user may create: the highest max_organizations among FREE and the plans of the organizations that they own. Null is unlimited.';

create function private.plans_limit_organizations() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  created_this_month integer;
  max_created integer;
begin
  insert into private.plans_organizations_created as o (user_id, month, created)
  values (new.created_by, date_trunc('month', kijko.now(), 'UTC') at time zone 'UTC', 1)
  on conflict (user_id) do update
    set month = excluded.month, created = case o.month when excluded.month then o.created else 0 end + 1
  returning o.created into created_this_month;
  -- Concurrent calls of this user now wait. The next statement sees what earlier calls created.
  max_created := private.plans_max_organizations(new.created_by);
  if (select count(*) from public.organizations as o where o.created_by = new.created_by and o.personal_for is null) >= max_created then
    perform kijko.fail('quota_exceeded', format('you have created %s organizations', max_created), 'Delete one of them, or choose a higher plan for one that you own.');
  elsif created_this_month > 2 * max_created then
    perform kijko.fail('quota_exceeded', format('you have created %s organizations this month', 2 * max_created), 'Wait for the next month, or choose a higher plan for one that you own.');
  end if;
  return new;
end
$$;
comment on function private.plans_limit_organizations() is 'Trigger: a user creates at most private.plans_max_organizations() organizations, and at most twice as many in a month. Definer: it counts rows that the user may not read.';
create trigger organizations_limit before insert on public.organizations
  for each row when (new.personal_for is null and new.created_by = kijko.user_id())
  execute function private.plans_limit_organizations();
