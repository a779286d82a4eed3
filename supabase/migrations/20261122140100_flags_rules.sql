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
