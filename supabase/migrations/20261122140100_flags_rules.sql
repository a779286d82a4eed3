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

create function private.flags_constraint_form(item public.flag_constraints) returns jsonb
language sql stable
return jsonb_strip_nulls(jsonb_build_object(
  'contextName', item.context_name, 'operator', item.operator,
  'values', case when item.value is null or cardinality(item."values") > 0 then to_jsonb(item."values") end, 'value', item.value,
  'inverted', nullif(item.inverted, false), 'caseInsensitive', nullif(item.case_insensitive, false)
));
comment on function private.flags_constraint_form(public.flag_constraints) is 'A constraint as Unleash has it.';

create function private.flags_variant_form(item public.flag_variants) returns jsonb
language sql stable
return jsonb_build_object('name', item.name, 'weight', item.weight)
  || jsonb_strip_nulls(jsonb_build_object(
    'weightType', item.weight_type, 'stickiness', item.stickiness, 'payload', item.payload, 'overrides', nullif(item.overrides, '[]')
  ));
comment on function private.flags_variant_form(public.flag_variants) is 'A variant as Unleash has it.';

create function private.flags_constraints(org uuid, strategy_id uuid, segment_id uuid default null) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(private.flags_constraint_form(c) order by c.position, c.id), '[]')
  from public.flag_constraints as c
  where c.org_id = flags_constraints.org and (c.strategy_id = flags_constraints.strategy_id or c.segment_id = flags_constraints.segment_id)
$$;
comment on function private.flags_constraints(uuid, uuid, uuid) is 'The constraints of a strategy, or of a segment, as Unleash has them.';

create function private.flags_variants(org uuid, strategy_id uuid, flag_id uuid default null) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(private.flags_variant_form(v) order by v.position, v.name), '[]')
  from public.flag_variants as v
  where v.org_id = flags_variants.org and (v.strategy_id = flags_variants.strategy_id or v.flag_id = flags_variants.flag_id)
$$;
comment on function private.flags_variants(uuid, uuid, uuid) is 'The variants of a strategy, or of a flag, as Unleash has them.';

create function private.flags_refuse(part text, definition jsonb) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := private.flags_problem(part, definition);
begin
  if problem is not null then
    -- One row has no place in a list.
    perform kijko.fail('invalid_input', ltrim(regexp_replace(problem, '^(variants)?\[0\]', ''), ': '));
  end if;
end
$$;
comment on function private.flags_refuse(text, jsonb) is 'Fails with invalid_input if a part of a flag cannot work.';

create function private.flags_check_variant() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  list constant jsonb := jsonb_build_array(private.flags_variant_form(new));
begin
  if new.strategy_id is null then
    perform private.flags_refuse('variants', list);
  else
    perform private.flags_refuse('strategy', jsonb_build_object('name', 'default', 'variants', list));
  end if;
  return new;
end
$$;
comment on function private.flags_check_variant() is 'Trigger: refuses a variant that cannot work. Definer: users do not call what checks it.';
create trigger flag_variants_check before insert or update on public.flag_variants
  for each row execute function private.flags_check_variant();

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

create function private.flags_check_strategy() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.flags_refuse('strategy', jsonb_build_object('name', new.name, 'parameters', new.parameters));
  return new;
end
$$;
comment on function private.flags_check_strategy() is 'Trigger: refuses a strategy that cannot work. Definer: users do not call what checks it.';
create trigger flag_strategies_check before insert or update of name, parameters on public.flag_strategies
  for each row execute function private.flags_check_strategy();

create function private.flags_check_constraint() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.flags_refuse('constraints', jsonb_build_array(private.flags_constraint_form(new)));
  return new;
end
$$;
comment on function private.flags_check_constraint() is 'Trigger: refuses a constraint that cannot work. Definer: users do not call what checks it.';
create trigger flag_constraints_check before insert or update on public.flag_constraints
  for each row execute function private.flags_check_constraint();

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

create function private.flags_counts_in_protected(relation text, part jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with part (org_id, id, flag_id, strategy_id, segment_id) as (
    select r.org_id, r.id, r.flag_id, r.strategy_id, r.segment_id
    from jsonb_to_record(flags_counts_in_protected.part) as r (org_id uuid, id uuid, flag_id uuid, strategy_id uuid, segment_id uuid)
  )
  select case relation
    -- By the row itself, which may be gone.
    when 'feature_flags' then exists (
      select from public.flag_environments as e where e.org_id = p.org_id and e.protected and flags_counts_in_protected.part -> 'enabled_in' ? e.name
    )
    when 'flag_dependencies' then private.flags_protected(p.org_id, p.flag_id)
    when 'flag_strategies' then exists (
      select from public.flag_environments as e where e.org_id = p.org_id and e.protected and e.name = flags_counts_in_protected.part ->> 'environment'
    )
    -- Of a strategy, a segment that strategies name, or a flag.
    else private.flags_protected(p.org_id, p.flag_id) or exists (
      select from public.flag_strategies as s
      join public.flag_environments as e on e.org_id = s.org_id and e.name = s.environment and e.protected
      where s.org_id = p.org_id and (s.id = p.strategy_id or p.segment_id = any (s.segment_ids))
    )
  end
  from part as p
$$;
comment on function private.flags_counts_in_protected(text, jsonb) is 'Whether a row of a table counts in a protected environment.';

create function private.flags_guard() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- First, so that a change that is approved at the same moment is either seen here or sees this row.
  perform private.flags_lock(case when tg_op = 'DELETE' then old.org_id else new.org_id end);
  if (tg_op <> 'INSERT' and private.flags_counts_in_protected(tg_table_name, to_jsonb(old)))
    or (tg_op <> 'DELETE' and private.flags_counts_in_protected(tg_table_name, to_jsonb(new)))
  then
    perform kijko.fail('conflict', 'this counts in a protected environment', 'Ask for the change by change_flag().');
  end if;
  return null;
end
$$;
comment on function private.flags_guard() is 'Trigger: refuses direct writes of what counts in a protected environment. Definer: a policy must not hide the environment.';
-- Of requests only: functions of the domain run as its owner, and ask for the approval themselves. After the row: before it, row level security
-- has not decided yet, and a stranger would learn what is protected.
create trigger feature_flags_guard after delete or update of name, required_roles, required_plans, required_feature on public.feature_flags
  for each row when (pg_trigger_depth() = 0 and current_user in ('authenticated', 'service_role')) execute function private.flags_guard();
do $$
declare
  part text;
begin
  foreach part in array array['flag_strategies', 'flag_dependencies', 'flag_constraints', 'flag_variants'] loop
    execute format(
      'create trigger %I after insert or delete or update on public.%I for each row
        when (pg_trigger_depth() = 0 and current_user in (''authenticated'', ''service_role'')) execute function private.flags_guard()',
      part || '_guard', part
    );
  end loop;
end
$$;

create function private.flags_require_environment(org uuid, environment text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- Before the first flag there is production, without any.
  if flags_require_environment.environment is distinct from 'production' and not exists (
    select from public.flag_environments as e where e.org_id = org and e.name = flags_require_environment.environment
  ) then
    perform kijko.fail('not_found', 'no such environment');
  end if;
end
$$;
comment on function private.flags_require_environment(uuid, text) is 'Fails with not_found if the organization has no such environment.';

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
    from unnest(array['feature_flags', 'flag_strategies', 'flag_segments', 'flag_dependencies', 'flag_constraints', 'flag_variants']) as t (name)
    cross join (values ('insert', 'new'), ('update', 'new'), ('delete', 'old')) as e (event, transition)
  loop
    execute format(
      'create trigger %I after %s on public.%I referencing %s table as changed for each statement execute function private.flags_touch()',
      format('%s_touch_%s', part.name, part.event), part.event, part.name, part.transition
    );
  end loop;
end
$$;
