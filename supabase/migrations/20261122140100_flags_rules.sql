-- ============================================================================
-- Flags: what is refused when it is stored, and what each change does.
--
--   1. Before a row is written, what cannot work by itself is refused.
--   2. After the statement, flags_touch() locks the revision of the organization's flags, and checks what is about several rows.
-- Lock order: flags and their parts, then the revision. So nobody who holds the revision waits for a row.
-- ============================================================================

create function private.flags_lock(org uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.flag_revisions as r (organization, revision)
  select o.id, nextval('kijko.flag_revision') from public.organizations as o where o.id = org
  on conflict (organization) do nothing;
  perform 1 from private.flag_revisions as r where r.organization = org for no key update;
end
$$;
comment on function private.flags_lock(uuid) is 'Locks the flags of an organization: rules about several rows are checked by one transaction at a time.';

create function private.flags_problem(part text, definition jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return case when private.json_fits(definition, 262144) then kijko.flag_problem(part, definition) else ': at most 256 KiB, and no number of more than 400 digits' end;
comment on function private.flags_problem(text, jsonb) is 'Why a part of a flag cannot work, as kijko.flag_problem() says it; null if it can. What is too large is not read.';

create function private.flags_check_flag() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := private.flags_problem('variants', new.variants);
begin
  if problem is not null then
    perform kijko.fail('invalid_input', 'variants' || problem);
  end if;
  return new;
end
$$;
comment on function private.flags_check_flag() is 'Trigger: refuses variants that cannot work. Definer: users do not call what checks it.';
create trigger feature_flags_check before insert or update of variants on public.feature_flags
  for each row execute function private.flags_check_flag();

create function private.flags_add_environments() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.flag_environments (org_id, name) select new.org_id, e.name from unnest(array['production', 'development']) as e (name)
  on conflict (org_id, name) do nothing;
  return null;
end
$$;
comment on function private.flags_add_environments() is 'Trigger: with its first flag an organization has environments. Definer: users write no environments.';
create trigger feature_flags_environments after insert on public.feature_flags
  for each row execute function private.flags_add_environments();

create function private.flags_count_patterns(constraints jsonb) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select count(*) from jsonb_array_elements(constraints) as c where c.value ->> 'operator' = 'REGEX' $$;
comment on function private.flags_count_patterns(jsonb) is 'How many regular expressions a list of constraints has.';

create function private.flags_check_strategy() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := private.flags_problem('strategy', jsonb_build_object(
    'name', new.name, 'parameters', new.parameters, 'constraints', new.constraints, 'variants', new.variants
  ));
begin
  if problem is not null then
    perform kijko.fail('invalid_input', ltrim(problem, ': '));
  end if;
  return new;
end
$$;
comment on function private.flags_check_strategy() is 'Trigger: refuses a strategy that cannot work. Definer: users do not call what checks it.';
create trigger flag_strategies_check before insert or update of name, parameters, constraints, variants
  on public.flag_strategies for each row execute function private.flags_check_strategy();

create function private.flags_check_segment() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := private.flags_problem('constraints', new.constraints);
begin
  if problem is not null then
    perform kijko.fail('invalid_input', 'constraints' || problem);
  end if;
  return new;
end
$$;
comment on function private.flags_check_segment() is 'Trigger: refuses constraints that cannot work. Definer: users do not call what checks it.';
create trigger flag_segments_check before insert or update of constraints on public.flag_segments
  for each row execute function private.flags_check_segment();

-- ----------------------------------------------------------------------------
-- Protected environments: there only change_flag() changes what is on, and by it a second person.
-- ----------------------------------------------------------------------------

create function private.flags_protected(org uuid, flag_id uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from public.feature_flags as f
    join public.flag_environments as e on e.org_id = f.org_id and e.name = any (f.enabled_in) and e.protected
    where f.org_id = flags_protected.org and f.id = flags_protected.flag_id
  )
$$;
comment on function private.flags_protected(uuid, uuid) is 'Whether a flag is on in a protected environment.';

create function private.flags_guard() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  changed constant jsonb := to_jsonb(coalesce(old, new));
  org constant uuid := (changed ->> 'org_id')::uuid;
  refused boolean := false;
begin
  if tg_table_name = 'feature_flags' then
    refused := exists (
      select from public.flag_environments as e where e.org_id = org and e.protected and changed -> 'enabled_in' ? e.name
    );
  elsif tg_table_name = 'flag_dependencies' then
    refused := private.flags_protected(org, (changed ->> 'flag_id')::uuid) or private.flags_protected(org, (to_jsonb(coalesce(new, old)) ->> 'flag_id')::uuid);
  elsif tg_table_name = 'flag_strategies' then
    refused := exists (
      select from public.flag_environments as e
      where e.org_id = org and e.protected and e.name in (changed ->> 'environment', to_jsonb(coalesce(new, old)) ->> 'environment')
    );
  else
    refused := exists (
      select from public.flag_strategies as s
      join public.flag_environments as e on e.org_id = s.org_id and e.name = s.environment and e.protected
      where s.org_id = org and (changed ->> 'id')::uuid = any (s.segment_ids)
    );
  end if;
  if refused then
    perform kijko.fail('conflict', 'this counts in a protected environment', 'Ask for the change by change_flag().');
  end if;
  return null;
end
$$;
comment on function private.flags_guard() is 'Trigger: refuses direct writes of what counts in a protected environment. Definer: a policy must not hide the environment.';
-- Of requests only: functions of the domain run as its owner, and ask for the approval themselves. After the row: before it, row level security
-- has not decided yet, and a stranger would learn what is protected.
create trigger feature_flags_guard after delete or update of name, variants, required_roles, required_plans, required_feature on public.feature_flags
  for each row when (pg_trigger_depth() = 0 and current_user in ('authenticated', 'service_role')) execute function private.flags_guard();
create trigger flag_strategies_guard after insert or delete or update on public.flag_strategies
  for each row when (pg_trigger_depth() = 0 and current_user in ('authenticated', 'service_role')) execute function private.flags_guard();
create trigger flag_dependencies_guard after insert or delete or update on public.flag_dependencies
  for each row when (pg_trigger_depth() = 0 and current_user in ('authenticated', 'service_role')) execute function private.flags_guard();
create trigger flag_segments_guard after update of constraints on public.flag_segments
  for each row when (pg_trigger_depth() = 0 and current_user in ('authenticated', 'service_role')) execute function private.flags_guard();

-- ----------------------------------------------------------------------------
-- Definitions
-- ----------------------------------------------------------------------------

create function private.flags_gates(flag public.feature_flags) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('contextName', g.name, 'operator', 'IN', 'values', to_jsonb(g.allowed)) order by g.name), '[]')
  from (
    values
      ('role', flag.required_roles), ('plan', flag.required_plans),
      ('entitled_' || flag.required_feature, case when flag.required_feature is null then '{}' else array['true'] end)
  ) as g (name, allowed)
  where cardinality(g.allowed) > 0
$$;
comment on function private.flags_gates(public.feature_flags) is 'The role, plan and feature that a flag requires, as constraints on properties of the context that only servers set.';

create function private.flags_definitions(org uuid, environment text) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with segment as (
    select s.id, s.name, s.constraints, (row_number() over (order by s.created_at, s.id))::integer as number
    from public.flag_segments as s where s.org_id = flags_definitions.org
  )
  select jsonb_build_object(
    'version', 2,
    'query', jsonb_build_object('environment', flags_definitions.environment),
    'segments', (select coalesce(jsonb_agg(jsonb_build_object('id', s.number, 'name', s.name, 'constraints', s.constraints) order by s.number), '[]') from segment as s),
    'features', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'name', f.name, 'type', f.type, 'description', f.description, 'project', 'default', 'stale', false,
        'enabled', flags_definitions.environment = any (f.enabled_in), 'impressionData', f.impression_data, 'variants', f.variants,
        'strategies', coalesce(
          strategies.list, case when gates.list = '[]' then '[]' else jsonb_build_array(jsonb_build_object('name', 'default', 'constraints', gates.list)) end
        ),
        'dependencies', (
          select coalesce(jsonb_agg(jsonb_build_object('feature', p.name, 'enabled', d.enabled, 'variants', to_jsonb(d.variants)) order by p.name), '[]')
          from public.flag_dependencies as d
          join public.feature_flags as p on p.org_id = d.org_id and p.id = d.parent_id
          where d.org_id = f.org_id and d.flag_id = f.id
        )
      ) order by f.name), '[]')
      from public.feature_flags as f
      cross join lateral (select private.flags_gates(f) as list) as gates
      cross join lateral (
        select jsonb_agg(jsonb_build_object(
          'name', s.name, 'parameters', s.parameters, 'constraints', s.constraints || gates.list, 'variants', s.variants,
          'segments', (select coalesce(jsonb_agg(n.number order by n.number), '[]') from segment as n where n.id = any (s.segment_ids))
        ) order by s.position, s.created_at, s.id) as list
        from public.flag_strategies as s
        where s.org_id = f.org_id and s.flag_id = f.id and s.environment = flags_definitions.environment
      ) as strategies
      where f.org_id = flags_definitions.org
    )
  )
$$;
comment on function private.flags_definitions(uuid, text) is 'The flags and segments of an organization in an environment, as Unleash''s Client API has them.';

create function private.flags_size(org uuid) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select (select coalesce(sum(octet_length(f.name || f.description || f.variants)), 0) from public.feature_flags as f where f.org_id = flags_size.org)
    + (select coalesce(sum(octet_length(s.title || s.parameters || s.constraints || s.variants)), 0) from public.flag_strategies as s where s.org_id = flags_size.org)
    + (select coalesce(sum(octet_length(s.name || s.description || s.constraints)), 0) from public.flag_segments as s where s.org_id = flags_size.org)
$$;
comment on function private.flags_size(uuid) is 'Bytes of what members write into flags, strategies and segments.';

create function private.flags_check(org uuid) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  patterns bigint;
begin
  if exists (
    select from public.flag_dependencies as d
    join public.flag_dependencies as p on p.org_id = d.org_id and p.flag_id = d.parent_id
    where d.org_id = org
  ) then
    perform kijko.fail('invalid_input', 'parent_id: a flag that others depend on depends on none itself');
  elsif exists (
    select from public.flag_dependencies as d
    where d.org_id = org and not exists (select from public.feature_flags as f where f.org_id = org and f.id = d.parent_id)
  ) then
    perform kijko.fail('conflict', 'parent_id: a flag depends on one that does not exist', 'Delete what depends on a flag before you delete it.');
  elsif exists (
    select from public.flag_strategies as s
    cross join unnest(s.segment_ids) as i (id)
    where s.org_id = org and not exists (select from public.flag_segments as g where g.org_id = org and g.id = i.id)
  ) then
    perform kijko.fail('conflict', 'segment_ids: a strategy names a segment that does not exist', 'Take a segment out of its strategies before you delete it.');
  elsif exists (
    select from public.flag_strategies as s where s.org_id = org group by s.flag_id, s.environment having count(*) > 50
  ) then
    perform kijko.fail('conflict', 'a flag has at most 50 strategies in an environment');
  elsif private.flags_size(org) > 262144 then
    perform kijko.fail('invalid_input', 'the flags, strategies and segments of an organization have at most 256 KiB');
  end if;
  select (select coalesce(sum(private.flags_count_patterns(s.constraints)), 0) from public.flag_strategies as s where s.org_id = org)
    + (select coalesce(sum(private.flags_count_patterns(s.constraints)), 0) from public.flag_segments as s where s.org_id = org)
  into patterns;
  if patterns > 0 and org = kijko.platform_org_id() then
    perform kijko.fail('invalid_input', 'constraints: the platform''s flags have no regular expressions, which the database does not evaluate');
  elsif patterns > 50 then
    perform kijko.fail('invalid_input', 'constraints: the flags of an organization have at most 50 regular expressions');
  end if;
end
$$;
comment on function private.flags_check(uuid) is 'Refuses what several rows of an organization''s flags must not be together. The caller has locked the flags.';

create function private.flags_touch() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
begin
  for org in select distinct c.org_id from changed as c join public.organizations as o on o.id = c.org_id order by c.org_id loop
    perform private.flags_lock(org);
    -- A statement of its own, which sees what was committed before the lock.
    perform private.flags_check(org);
    update private.flag_revisions as r set revision = nextval('kijko.flag_revision') where r.organization = org;
    if org = kijko.platform_org_id() then
      perform kijko.put_flag_snapshot(e.name, private.flags_definitions(org, e.name)) from public.flag_environments as e where e.org_id = org;
    end if;
  end loop;
  return null;
end
$$;
comment on function private.flags_touch() is 'Trigger: a change of flags takes a new revision, and the platform''s flags go to the extension, from the next statement on. Definer: users have no rights on either.';

do $$
declare
  part record;
begin
  for part in
    select t.name, e.event, e.transition
    from unnest(array['feature_flags', 'flag_strategies', 'flag_segments', 'flag_dependencies']) as t (name)
    cross join (values ('insert', 'new'), ('update', 'new'), ('delete', 'old')) as e (event, transition)
  loop
    execute format(
      'create trigger %I after %s on public.%I referencing %s table as changed for each statement execute function private.flags_touch()',
      format('%s_touch_%s', part.name, part.event), part.event, part.name, part.transition
    );
  end loop;
end
$$;
