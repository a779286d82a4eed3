-- ============================================================================
-- Flags: what programs ask for.
-- ============================================================================

create function private.flags_properties(org uuid) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select jsonb_build_object('plan', s.plan) from public.subscriptions as s where s.org_id = org), '{}')
    || coalesce((
      select jsonb_build_object('role', m.role) from public.memberships as m where m.org_id = org and m.user_id = kijko.user_id()
    ), '{}')
    || coalesce((select jsonb_object_agg('entitled_' || f.code, 'true') from public.features as f where kijko.entitled(org, f.code)), '{}')
$$;
comment on function private.flags_properties(uuid) is 'What a flag may require, of an organization and of the caller: plan, role and entitled_<feature>.';

create function private.flags_is_reserved(name text) returns boolean
language sql immutable
return name in ('plan', 'role') or name like 'entitled\_%';
comment on function private.flags_is_reserved(text) is 'Whether only servers set this property of a context.';

create function public.flags(context jsonb default '{}', environment text default 'production') returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  members jsonb := flags.context;
  own jsonb;
begin
  perform private.tenancy_require_caller();
  if jsonb_typeof(members) is distinct from 'object' or not private.json_fits(members, 16384) then
    perform kijko.fail('invalid_input', 'context: an object of at most 16 KiB');
  end if;
  members := members || case when jsonb_typeof(members -> 'properties') = 'object' then members -> 'properties' else '{}' end;
  select coalesce(jsonb_object_agg(m.key, m.value), '{}') into own
  from jsonb_each(members) as m where m.key <> 'properties' and not private.flags_is_reserved(m.key);
  own := own || jsonb_strip_nulls(jsonb_build_object('userId', kijko.user_id())) || private.flags_properties(public.org_id());
  return jsonb_build_object('toggles', (
    select coalesce(jsonb_agg(t.value), '[]') from jsonb_array_elements(kijko.flags(own, flags.environment)) as t where (t.value -> 'enabled')::boolean
  ));
end
$$;
comment on function public.flags(jsonb, text) is 'The platform''s flags that are on for the caller, as Unleash''s Frontend API lists them: {toggles: [{name, enabled, impressionData, variant}]}. The caller''s user, role, plan and features are in the context already. Definer: callers do not read the flags themselves.';
grant execute on function public.flags(jsonb, text) to authenticated;

create function public.flag_definitions(environment text default 'production', known_revision bigint default null) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  revision bigint;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:evaluate');
  perform private.flags_require_environment(org, flag_definitions.environment);
  select r.revision into revision from private.flag_revisions as r where r.organization = org;
  return jsonb_build_object(
    'org_id', org, 'environment', flag_definitions.environment, 'revision', coalesce(revision, 0), 'now', kijko.now(),
    'user_id', kijko.user_id(), 'remote_address', host(kijko.client_address()), 'properties', private.flags_properties(org),
    'definitions', case
      when flag_definitions.known_revision is distinct from coalesce(revision, 0) then private.flags_definitions(org, flag_definitions.environment)
    end
  );
end
$$;
comment on function public.flag_definitions(text, bigint) is 'The flags of the organization of the request, for a program that evaluates them: {org_id, environment, revision, now, user_id, remote_address, properties, definitions}. With the revision that the program knows, definitions is null while nothing has changed. Requires flags:evaluate. Definer: a publishable key reads no tables.';
grant execute on function public.flag_definitions(text, bigint) to authenticated;

-- ----------------------------------------------------------------------------
-- Segments
-- ----------------------------------------------------------------------------

create function private.flags_read_constraints(list jsonb)
returns table (place bigint, context_name text, operator text, "values" text[], value text, inverted boolean, case_insensitive boolean)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select c.place, c.value ->> 'contextName', c.value ->> 'operator',
    array(select v.value from jsonb_array_elements_text(coalesce(c.value -> 'values', '[]')) as v), c.value ->> 'value',
    coalesce((c.value -> 'inverted')::boolean, false), coalesce((c.value -> 'caseInsensitive')::boolean, false)
  from jsonb_array_elements(flags_read_constraints.list) with ordinality as c (value, place)
$$;
comment on function private.flags_read_constraints(jsonb) is 'A checked list of Unleash''s constraints, as rows. Nullable: value.';

create function public.set_flag_segment(name text, constraints jsonb, description text default null) returns public.flag_segments
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  segment public.flag_segments;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:write');
  if (char_length(set_flag_segment.name) <= 100 and private.is_name(set_flag_segment.name)) is not true then
    perform kijko.fail('invalid_input', 'name: 1 to 100 characters');
  elsif char_length(set_flag_segment.description) > 1000 then
    perform kijko.fail('invalid_input', 'description: at most 1,000 characters');
  end if;
  perform private.flags_refuse('constraints', set_flag_segment.constraints);
  insert into public.flag_segments as g (org_id, name, description)
  values (org, set_flag_segment.name, coalesce(set_flag_segment.description, ''))
  on conflict (org_id, name) do update set description = coalesce(set_flag_segment.description, g.description)
  returning g.* into segment;
  if private.flags_counts_in_protected('flag_constraints', jsonb_build_object('org_id', org, 'segment_id', segment.id)) then
    perform kijko.fail('conflict', 'this counts in a protected environment', 'Make another segment, and ask for its use by change_flag().');
  end if;
  delete from public.flag_constraints as c where c.org_id = org and c.segment_id = segment.id;
  insert into public.flag_constraints (org_id, segment_id, position, context_name, operator, "values", value, inverted, case_insensitive)
  select org, segment.id, c.place, c.context_name, c.operator, c."values", c.value, c.inverted, c.case_insensitive
  from private.flags_read_constraints(set_flag_segment.constraints) as c;
  return segment;
end
$$;
comment on function public.set_flag_segment(text, jsonb, text) is 'Makes a segment, or replaces all constraints of one, at once: [{contextName, operator, values or value, inverted, caseInsensitive}]. Requires flags:write. Fails with conflict if a protected environment uses it. Definer: it checks the permission itself.';
grant execute on function public.set_flag_segment(text, jsonb, text) to authenticated;

-- ----------------------------------------------------------------------------
-- Evaluations
-- ----------------------------------------------------------------------------

create function private.flags_add_variants(counted jsonb, more jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  -- The first 60 names: a flag has at most 50 variants, and a report may name anything.
  select coalesce(jsonb_object_agg(v.name, v.amount), '{}')
  from (
    select e.key as name, sum((e.value)::bigint) as amount, min(e.source) as source
    from (
      select c.key, c.value, 1 as source from jsonb_each_text(counted) as c
      union all
      select m.key, m.value, 2 from jsonb_each_text(case when jsonb_typeof(more) = 'object' then more else '{}' end) as m
      where m.value ~ '^[0-9]{1,9}$' and octet_length(m.key) <= 100
    ) as e
    group by e.key order by 3, 1 limit 60
  ) as v
$$;
comment on function private.flags_add_variants(jsonb, jsonb) is 'Counts of variants, with those of a report.';

create function private.flags_known_variants(org uuid, toggles jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(t.key, case
    when jsonb_typeof(t.value -> 'variants') = 'object' then t.value || jsonb_build_object('variants', (
      select coalesce(jsonb_object_agg(v.key, v.value), '{}')
      from jsonb_each(t.value -> 'variants') as v
      where v.key = 'disabled' or exists (
        select 1 from public.flag_variants as n left join public.flag_strategies as s on s.org_id = n.org_id and s.id = n.strategy_id
        where n.org_id = flags_known_variants.org and n.name = v.key and f.id in (n.flag_id, s.flag_id)
      )
    ))
    else t.value
  end), '{}')
  from jsonb_each(flags_known_variants.toggles) as t
  join public.feature_flags as f on f.org_id = flags_known_variants.org and f.name = t.key
$$;
comment on function private.flags_known_variants(uuid, jsonb) is 'A report of evaluations without variants that its flags do not have.';

create function private.flags_count(org uuid, environment text, toggles jsonb) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  line record;
begin
  -- In one order, so that two reports at once do not wait for each other in a circle.
  for line in
    select f.id,
      case when t.value ->> 'yes' ~ '^[0-9]{1,9}$' then (t.value ->> 'yes')::bigint else 0 end as yes,
      case when t.value ->> 'no' ~ '^[0-9]{1,9}$' then (t.value ->> 'no')::bigint else 0 end as no,
      t.value -> 'variants' as variants
    from jsonb_each(flags_count.toggles) as t
    join public.feature_flags as f on f.org_id = flags_count.org and f.name = t.key
    order by f.id
  loop
    insert into public.flag_evaluations as e (org_id, flag_id, environment, hour, yes, no, variants)
    values (
      flags_count.org, line.id, flags_count.environment, date_trunc('hour', kijko.now(), 'UTC'), line.yes, line.no,
      private.flags_add_variants('{}', line.variants)
    )
    on conflict (org_id, flag_id, environment, hour) do update
    set yes = e.yes + excluded.yes, no = e.no + excluded.no, variants = private.flags_add_variants(e.variants, line.variants);
  end loop;
end
$$;
comment on function private.flags_count(uuid, text, jsonb) is 'Adds evaluations of the current hour: {flag: {yes, no, variants: {name: number}}}. Flags that do not exist are left out. Definer: the sidecar reports its own.';
grant execute on function private.flags_count(uuid, text, jsonb) to kijko_sidecar;

create function public.record_flag_evaluations(toggles jsonb, environment text default 'production', application jsonb default null) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:evaluate');
  perform private.flags_require_environment(org, record_flag_evaluations.environment);
  if jsonb_typeof(record_flag_evaluations.toggles) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'toggles: {flag: {yes, no, variants}}');
  elsif not private.json_fits(record_flag_evaluations.toggles, 131072) then
    perform kijko.fail('invalid_input', 'toggles: at most 128 KiB');
  elsif not coalesce(private.json_fits(record_flag_evaluations.application, 4096), true) then
    perform kijko.fail('invalid_input', 'application: at most 4 KiB');
  end if;
  perform private.flags_see_application(org, record_flag_evaluations.environment, record_flag_evaluations.application);
  -- Everybody has a publishable key, and could use up the names of an hour, so that those of the flag have no room.
  perform private.flags_count(org, record_flag_evaluations.environment, case
    when (kijko.actor()).kind = 'publishable_key' then private.flags_known_variants(org, record_flag_evaluations.toggles)
    else record_flag_evaluations.toggles
  end);
end
$$;
comment on function public.record_flag_evaluations(jsonb, text, jsonb) is 'Adds evaluations that a program has counted to those of the current hour: {flag: {yes, no, variants: {name: number}}}. application is the program, if it has registered: {appName, instanceId}. From a publishable key, only variants that the flag has are counted. Requires flags:evaluate. Definer: nobody writes the table.';
grant execute on function public.record_flag_evaluations(jsonb, text, jsonb) to authenticated;

create function private.flags_collect(max_rows integer default 10000) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  collected integer;
begin
  with taken as materialized (
    select t.* from kijko.take_flag_evaluations(flags_collect.max_rows) as t
  ), counted as (
    select f.id as flag_id, t.environment, t.hour, sum(t.yes)::bigint as yes, sum(t.no)::bigint as no,
      coalesce(jsonb_object_agg(t.variant, t.yes) filter (where t.variant <> '' and t.yes > 0), '{}') as variants
    from taken as t
    join public.feature_flags as f on f.org_id = kijko.platform_org_id() and f.name = t.flag
    group by f.id, t.environment, t.hour
  ), written as (
    insert into public.flag_evaluations as e (org_id, flag_id, environment, hour, yes, no, variants)
    select kijko.platform_org_id(), c.flag_id, c.environment, c.hour, c.yes, c.no, c.variants
    from counted as c order by c.flag_id, c.environment, c.hour
    on conflict (org_id, flag_id, environment, hour) do update
    set yes = e.yes + excluded.yes, no = e.no + excluded.no, variants = private.flags_add_variants(e.variants, excluded.variants)
  )
  select count(*) into collected from taken;
  return collected;
end
$$;
comment on function private.flags_collect(integer) is 'Takes evaluations of the platform''s flags from the extension, which counts them, and says how many rows. Those of flags that do not exist are dropped. Definer: a job of pg_cron.';
select private.schedule('kijko-flags-collect', '* * * * *', 'perform private.flags_collect()');

create function public.stale_flags(environment text default 'production', org_id uuid default null)
returns table (flag_id uuid, name text, type text, reason text, last_evaluated_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select f.id, f.name, f.type, s.reason, e.last_hour
  from public.feature_flags as f
  cross join lateral (
    select max(v.hour) as last_hour, coalesce(sum(v.yes) filter (where v.hour > kijko.now() - interval '30 days'), 0) as yes,
      coalesce(sum(v.no) filter (where v.hour > kijko.now() - interval '30 days'), 0) as no
    from public.flag_evaluations as v
    where v.org_id = f.org_id and v.flag_id = f.id and v.environment = stale_flags.environment
  ) as e
  cross join lateral (
    select case
      when f.created_at > kijko.now() - interval '30 days' and f.type <> 'operational' then null
      when e.yes + e.no = 0 and f.created_at <= kijko.now() - interval '30 days' then 'unused'
      when f.type in ('kill-switch', 'permission') then null
      when f.created_at <= kijko.now() - case f.type when 'operational' then interval '7 days' else interval '40 days' end then
        case when e.yes = 0 or e.no = 0 then 'settled' else 'expired' end
    end as reason
  ) as s
  where f.org_id = coalesce(stale_flags.org_id, public.org_id()) and s.reason is not null
  order by f.name
$$;
comment on function public.stale_flags(text, uuid) is 'Flags that can go, of the organization of the request, or of the given one (a back office asks for those of kijko.platform_org_id()): unused (not asked for in 30 days), settled (for longer than its type is meant for the same answer to all), or expired (longer than its type is meant for: release and experiment 40 days, operational 7). Nullable: last_evaluated_at.';
grant execute on function public.stale_flags(text, uuid) to authenticated, service_role;

create function private.flags_purge() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  purged integer;
begin
  delete from public.flag_evaluations as e
  where e.id in (
    select o.id from public.flag_evaluations as o
    where o.hour < kijko.now() - private.retention_of('public.flag_evaluations') order by o.hour limit 10000
    -- What another session holds must not keep those of all organizations.
    for update skip locked
  );
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.flags_purge() is 'Deletes evaluations of more than 90 days ago, and says how many. Definer: a job of pg_cron.';
select private.set_retention('public.flag_evaluations', '90 days', 'whether a flag is still in use');
select private.schedule('kijko-flags-purge', '37 * * * *', 'perform private.flags_purge()');
