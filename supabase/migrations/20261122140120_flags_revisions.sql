-- ============================================================================
-- Flags: the definitions that servers evaluate, and their revisions.
-- ============================================================================

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
-- Nobody knows how many rows the parts have: loops over 2,000 strategies for each of 500 flags took minutes.
set enable_nestloop = off
as $$
  with constraints as materialized (
    select c.strategy_id, c.segment_id, jsonb_agg(private.flags_constraint_form(c) order by c.position, c.id) as list
    from public.flag_constraints as c where c.org_id = flags_definitions.org group by c.strategy_id, c.segment_id
  ), variants as materialized (
    select v.flag_id, v.strategy_id, jsonb_agg(private.flags_variant_form(v) order by v.position, v.name) as list
    from public.flag_variants as v where v.org_id = flags_definitions.org group by v.flag_id, v.strategy_id
  ), segment as materialized (
    select s.id, s.name, coalesce(c.list, '[]') as constraints, (row_number() over (order by s.created_at, s.id))::integer as number
    from public.flag_segments as s
    left join constraints as c on c.segment_id = s.id
    where s.org_id = flags_definitions.org
  ), gates as materialized (
    select f.id as flag_id, private.flags_gates(f) as list from public.feature_flags as f where f.org_id = flags_definitions.org
  ), dependencies as materialized (
    select d.flag_id, jsonb_agg(jsonb_build_object('feature', p.name, 'enabled', d.enabled, 'variants', to_jsonb(d.variants)) order by p.name) as list
    from public.flag_dependencies as d
    join public.feature_flags as p on p.org_id = d.org_id and p.id = d.parent_id
    where d.org_id = flags_definitions.org
    group by d.flag_id
  ), strategies as materialized (
    select s.flag_id, jsonb_agg(jsonb_build_object(
      'name', s.name, 'parameters', s.parameters, 'constraints', coalesce(c.list, '[]') || g.list, 'variants', coalesce(v.list, '[]'),
      'segments', (select coalesce(jsonb_agg(n.number order by n.number), '[]') from segment as n where n.id = any (s.segment_ids))
    ) order by s.position, s.created_at, s.id) as list
    from public.flag_strategies as s
    join gates as g on g.flag_id = s.flag_id
    left join constraints as c on c.strategy_id = s.id
    left join variants as v on v.strategy_id = s.id
    where s.org_id = flags_definitions.org and s.environment = flags_definitions.environment
    group by s.flag_id
  )
  select jsonb_build_object(
    'version', 2,
    'query', jsonb_build_object('environment', flags_definitions.environment),
    'segments', (select coalesce(jsonb_agg(jsonb_build_object('id', s.number, 'name', s.name, 'constraints', s.constraints) order by s.number), '[]') from segment as s),
    'features', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'name', f.name, 'type', f.type, 'description', f.description, 'project', 'default', 'stale', false,
        'enabled', flags_definitions.environment = any (f.enabled_in), 'impressionData', f.impression_data, 'variants', coalesce(v.list, '[]'),
        'strategies', coalesce(
          s.list, case when g.list = '[]' then '[]' else jsonb_build_array(jsonb_build_object('name', 'default', 'constraints', g.list)) end
        ),
        'dependencies', coalesce(d.list, '[]')
      ) order by f.name), '[]')
      from public.feature_flags as f
      join gates as g on g.flag_id = f.id
      left join strategies as s on s.flag_id = f.id
      left join dependencies as d on d.flag_id = f.id
      left join variants as v on v.flag_id = f.id
      where f.org_id = flags_definitions.org
    )
  )
$$;
comment on function private.flags_definitions(uuid, text) is 'The flags and segments of an organization in an environment, as Unleash''s Client API has them.';

create function private.flags_size(org uuid) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(p.bytes), 0)
  from (
    select octet_length(f.name || f.description) from public.feature_flags as f where f.org_id = flags_size.org
    union all
    select octet_length(s.name || s.title || s.parameters) from public.flag_strategies as s where s.org_id = flags_size.org
    union all
    select octet_length(s.name || s.description) from public.flag_segments as s where s.org_id = flags_size.org
    union all
    select octet_length(private.flags_constraint_form(c)::text) from public.flag_constraints as c where c.org_id = flags_size.org
    union all
    select octet_length(private.flags_variant_form(v)::text) from public.flag_variants as v where v.org_id = flags_size.org
  ) as p (bytes)
$$;
comment on function private.flags_size(uuid) is 'Bytes of what members write into flags and their parts.';

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
  elsif exists (
    select from public.flag_constraints as c where c.org_id = org group by c.strategy_id, c.segment_id having count(*) > 50
    union all
    select from public.flag_variants as v where v.org_id = org group by v.flag_id, v.strategy_id having count(*) > 50
  ) then
    perform kijko.fail('invalid_input', 'a strategy or segment has at most 50 constraints, and a flag or strategy at most 50 variants');
  elsif private.flags_size(org) > 262144 then
    perform kijko.fail('invalid_input', 'the flags of an organization have at most 256 KiB, with their strategies, segments, constraints and variants');
  end if;
  select count(*) into patterns from public.flag_constraints as c where c.org_id = org and c.operator = 'REGEX';
  if patterns > 0 and org = kijko.platform_org_id() then
    perform kijko.fail('invalid_input', 'operator: the platform''s flags have no regular expressions, which the database does not evaluate');
  elsif patterns > 50 then
    perform kijko.fail('invalid_input', 'operator: the flags of an organization have at most 50 regular expressions');
  end if;
end
$$;
comment on function private.flags_check(uuid) is 'Refuses what several rows of an organization''s flags must not be together. The caller has locked the flags.';

create function private.flags_touch(organizations uuid[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
begin
  for org in select o.id from public.organizations as o where o.id = any (organizations) order by o.id loop
    perform private.flags_lock(org);
    -- A statement of its own, which sees what was committed before the lock.
    perform private.flags_check(org);
    update private.flag_revisions as r set revision = nextval('kijko.flag_revision') where r.organization = org;
    if org = kijko.platform_org_id() then
      perform kijko.put_flag_snapshot(e.name, private.flags_definitions(org, e.name)) from public.flag_environments as e where e.org_id = org;
    end if;
  end loop;
end
$$;
comment on function private.flags_touch(uuid[]) is 'Gives changed flags a new revision. The platform''s flags go to the extension, from the next statement on.';

create function private.flags_after_write() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.flags_touch(array(select c.org_id from changed as c));
  return null;
end
$$;
comment on function private.flags_after_write() is 'Trigger: flags were added or removed. Definer: users have no rights on revisions.';

-- Who deletes a user holds the user's row, and clears created_by here. With the flags locked, too, that would end in a deadlock
-- with those who locked the flags first and write a row in the user's name.
create function private.flags_after_update() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- A session keeps the plan of its first statement, which may have changed no row: a loop would compare each of many with each.
set enable_nestloop = off
as $$
begin
  -- As texts: 1 and 1.000 are equal in jsonb, and the size of flags is limited.
  perform private.flags_touch(array(
    select c.org_id from changed as c join previous as p on p.id = c.id
    where (to_jsonb(c) - array['created_by', 'updated_at'])::text <> (to_jsonb(p) - array['created_by', 'updated_at'])::text
  ));
  return null;
end
$$;
comment on function private.flags_after_update() is 'Trigger: flags were changed, and not only who made them. Definer: users have no rights on revisions.';

do $$
declare
  part record;
begin
  for part in
    select t.name, e.event, e.tables, e.trigger
    from unnest(array['feature_flags', 'flag_strategies', 'flag_segments', 'flag_dependencies', 'flag_constraints', 'flag_variants']) as t (name)
    cross join (
      values
        ('insert', 'new table as changed', 'flags_after_write'),
        ('update', 'old table as previous new table as changed', 'flags_after_update'),
        ('delete', 'old table as changed', 'flags_after_write')
    ) as e (event, tables, trigger)
  loop
    execute format(
      'create trigger %I after %s on public.%I referencing %s for each statement execute function private.%I()',
      format('%s_touch_%s', part.name, part.event), part.event, part.name, part.tables, part.trigger
    );
  end loop;
end
$$;
