-- ============================================================================
-- Flags: the programs that evaluate them, as they register.
-- ============================================================================

create table public.flag_applications (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  environment text not null check (octet_length(environment) <= 63),
  app_name text not null check (octet_length(app_name) between 1 and 200),
  instance_id text not null check (octet_length(instance_id) <= 200),
  sdk_version text check (octet_length(sdk_version) <= 100),
  strategies text[] not null default '{}' check (cardinality(strategies) <= 50),
  unknown_strategies text[] not null default '{}' check (cardinality(unknown_strategies) <= 50),
  last_seen_at timestamptz not null default kijko.now(),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, environment, app_name, instance_id)
);
create index flag_applications_last_seen_at_idx on public.flag_applications (last_seen_at);
comment on table public.flag_applications is 'Programs that evaluate flags by themselves, as they have registered. The 1,000 of an organization that were seen last, for 30 days.';
comment on column public.flag_applications.id is 'Identity of the row.';
comment on column public.flag_applications.org_id is 'Organization that it belongs to.';
comment on column public.flag_applications.environment is 'The environment whose flags it evaluates.';
comment on column public.flag_applications.app_name is 'Name of the program, as it says.';
comment on column public.flag_applications.instance_id is 'The running instance, as it says; empty if it says none.';
comment on column public.flag_applications.sdk_version is 'Unleash''s client and its version; null if it says none.';
comment on column public.flag_applications.strategies is 'Strategies that it can evaluate, as it says: the first 50.';
comment on column public.flag_applications.unknown_strategies is 'Of these, those that flags here cannot have: a warning that it was written for another server.';
comment on column public.flag_applications.last_seen_at is 'When it last registered, or reported evaluations (to the hour).';
comment on column public.flag_applications.created_by is 'User as whom it registered first; null for a service key and after that user is deleted.';
comment on column public.flag_applications.created_by_key is 'API key by which it registered first; null without one.';
comment on column public.flag_applications.created_at is 'When it registered first.';
comment on column public.flag_applications.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_applications', resource => 'flags', writable => '{}', catalogue => '{
  "environment, app_name, instance_id, sdk_version, strategies, unknown_strategies, last_seen_at": "which programs evaluate flags, and whether they can"
}');
select private.set_retention('public.flag_applications', '30 days', 'which programs evaluate flags');

create function private.flags_application_text(application jsonb, name text, max_bytes integer) returns text
language sql immutable
return case
  when jsonb_typeof(application -> name) = 'string' and octet_length(application ->> name) between 1 and max_bytes then application ->> name
end;
comment on function private.flags_application_text(jsonb, text, integer) is 'A text that a program says of itself; null for what is none, and for what is too long.';

create function private.flags_see_application(org uuid, environment text, application jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  update public.flag_applications as a set last_seen_at = kijko.now()
  where a.org_id = org and a.environment = flags_see_application.environment
    and a.app_name = private.flags_application_text(application, 'appName', 200)
    and a.instance_id = coalesce(private.flags_application_text(application, 'instanceId', 200), '')
    and a.last_seen_at < kijko.now() - interval '1 hour';
end
$$;
comment on function private.flags_see_application(uuid, text, jsonb) is 'Notes that a registered program is still there, at most once an hour.';

create function public.register_flag_application(application jsonb, environment text default 'production') returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  app_name text;
  can_evaluate text[];
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:evaluate');
  perform private.flags_require_environment(org, register_flag_application.environment);
  if jsonb_typeof(register_flag_application.application) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'application: {appName, instanceId, sdkVersion, strategies}');
  elsif not private.json_fits(register_flag_application.application, 131072) then
    perform kijko.fail('invalid_input', 'application: at most 128 KiB');
  end if;
  app_name := private.flags_application_text(register_flag_application.application, 'appName', 200);
  -- Everybody has a publishable key, and could say anything.
  if app_name is null or (kijko.actor()).kind = 'publishable_key' then
    return;
  end if;
  can_evaluate := array(
    select s.value #>> '{}'
    from jsonb_array_elements(
      case when jsonb_typeof(register_flag_application.application -> 'strategies') = 'array' then register_flag_application.application -> 'strategies' else '[]' end
    ) with ordinality as s (value, place)
    where jsonb_typeof(s.value) = 'string' and octet_length(s.value #>> '{}') between 1 and 100
    order by s.place limit 50
  );
  -- One at a time, so that their number is exact.
  perform private.flags_lock(org);
  insert into public.flag_applications as a (org_id, environment, app_name, instance_id, sdk_version, strategies, unknown_strategies)
  values (
    org, register_flag_application.environment, app_name,
    coalesce(private.flags_application_text(register_flag_application.application, 'instanceId', 200), ''),
    private.flags_application_text(register_flag_application.application, 'sdkVersion', 100), can_evaluate,
    array(
      select s.name from unnest(can_evaluate) as s (name)
      where s.name <> all (array[
        'default', 'flexibleRollout', 'userWithId', 'remoteAddress', 'applicationHostname',
        'gradualRolloutUserId', 'gradualRolloutSessionId', 'gradualRolloutRandom'
      ])
    )
  )
  on conflict (org_id, environment, app_name, instance_id) do update
  set sdk_version = excluded.sdk_version, strategies = excluded.strategies, unknown_strategies = excluded.unknown_strategies,
    last_seen_at = kijko.now();
  delete from public.flag_applications as a
  where a.id in (select o.id from public.flag_applications as o where o.org_id = org order by o.last_seen_at desc, o.id offset 1000);
end
$$;
comment on function public.register_flag_application(jsonb, text) is 'Says which program evaluates the flags of the organization of the request: {appName, instanceId, sdkVersion, strategies}, as Unleash''s clients register. What is no such text is left out; without appName, and from a publishable key, nothing is kept. Requires flags:evaluate. Definer: nobody writes the table.';
grant execute on function public.register_flag_application(jsonb, text) to authenticated;

create function private.flags_purge_applications() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  purged integer;
begin
  delete from public.flag_applications as a
  where a.id in (
    select o.id from public.flag_applications as o
    where o.last_seen_at < kijko.now() - private.retention_of('public.flag_applications') order by o.last_seen_at limit 10000
    -- What another session holds must not keep those of all organizations.
    for update skip locked
  );
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.flags_purge_applications() is 'Deletes programs that were not seen for 30 days, and says how many. Definer: a job of pg_cron.';
select private.schedule('kijko-flags-purge-applications', '47 * * * *', 'perform private.flags_purge_applications()');
