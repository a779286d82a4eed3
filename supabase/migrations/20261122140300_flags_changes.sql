-- ============================================================================
-- Flags: changes of what is on, at once, later, or when a second person has approved.
-- ============================================================================

create table public.flag_changes (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  flag_id uuid not null,
  environment text not null check (octet_length(environment) <= 63),
  change jsonb not null check (jsonb_typeof(change) = 'object' and private.json_fits(change, 16384)),
  reason text check (char_length(reason) <= 2000),
  status text not null default 'scheduled' check (status in ('scheduled', 'applied', 'failed', 'cancelled')),
  apply_at timestamptz not null,
  approval_id uuid,
  basis text check (char_length(basis) = 32),
  error text check (char_length(error) <= 500),
  finished_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check ((status = 'scheduled') = (finished_at is null)),
  foreign key (org_id, flag_id) references public.feature_flags (org_id, id) on delete cascade
);
create index flag_changes_due_idx on public.flag_changes (apply_at) where status = 'scheduled';
create index flag_changes_flag_id_idx on public.flag_changes (org_id, flag_id);
comment on table public.flag_changes is 'Changes of flags that were scheduled, and what became of them. Written by change_flag().';
comment on column public.flag_changes.id is 'Identity of the change.';
comment on column public.flag_changes.org_id is 'Organization that it belongs to.';
comment on column public.flag_changes.flag_id is 'The flag.';
comment on column public.flag_changes.environment is 'The environment.';
comment on column public.flag_changes.change is 'The change: {enabled, strategies}, either or both.';
comment on column public.flag_changes.reason is 'Why it is wanted.';
comment on column public.flag_changes.status is 'scheduled, then applied, failed or cancelled.';
comment on column public.flag_changes.apply_at is 'When it is made, within a minute.';
comment on column public.flag_changes.approval_id is 'The approval; null where none was needed.';
comment on column public.flag_changes.basis is 'Digest of what the approval relies on, and what must still be so when the change is made; null where none was needed.';
comment on column public.flag_changes.error is 'Why it failed.';
comment on column public.flag_changes.finished_at is 'When it was made, failed or was cancelled.';
comment on column public.flag_changes.created_by is 'User who asked for it; null for a service key and after that user is deleted.';
comment on column public.flag_changes.created_by_key is 'API key that asked for it; null when a user did.';
comment on column public.flag_changes.created_at is 'When it was asked for.';
comment on column public.flag_changes.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_changes', resource => 'flags', writable => '{}', catalogue => '{
  "flag_id, environment, change, reason, apply_at, approval_id, basis": "which change is wanted, and when",
  "status, error, finished_at": "what became of it"
}');

create function public.set_flag_environment(name text, protected boolean default false) returns public.flag_environments
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  environment public.flag_environments;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:approve');
  if (octet_length(set_flag_environment.name) <= 63 and set_flag_environment.name ~ '^[a-z0-9][a-z0-9_-]*$' and set_flag_environment.protected is not null) is not true then
    perform kijko.fail('invalid_input', 'name: 1 to 63 small letters, digits, _ and -; protected: true or false');
  end if;
  perform private.flags_lock(org);
  if (
    select count(*) >= 10 and not bool_or(e.name = set_flag_environment.name) from public.flag_environments as e where e.org_id = org
  ) then
    perform kijko.fail('conflict', 'an organization has at most 10 environments of flags');
  end if;
  insert into public.flag_environments as e (org_id, name, protected)
  values (org, set_flag_environment.name, set_flag_environment.protected)
  on conflict (org_id, name) do update set protected = excluded.protected
  returning e.* into environment;
  return environment;
end
$$;
comment on function public.set_flag_environment(text, boolean) is 'Adds an environment of flags, or says whether changes there need a second person. Requires flags:approve. Definer: users do not write the table.';
grant execute on function public.set_flag_environment(text, boolean) to authenticated;

create function private.flags_configuration(flag public.feature_flags, environment text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select md5((flags_configuration.environment = any (flag.enabled_in))::text || coalesce(
    string_agg(concat_ws(
      '|', s.id, s.name, s.title, s.position, s.parameters, private.flags_constraints(s.org_id, s.id), s.segment_ids, private.flags_variants(s.org_id, s.id)
    ), '|' order by s.id), ''
  ))
  from public.flag_strategies as s
  where s.org_id = flag.org_id and s.flag_id = flag.id and s.environment = flags_configuration.environment
$$;
comment on function private.flags_configuration(public.feature_flags, text) is 'A digest of what a change of a flag replaces in an environment.';

create function private.flags_basis(flag public.feature_flags, change jsonb) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select md5(jsonb_build_array(
    flag.name, private.flags_variants(flag.org_id, null, flag.id), flag.required_roles, flag.required_plans, flag.required_feature,
    (
      select jsonb_agg(jsonb_build_array(d.parent_id, d.enabled, d.variants) order by d.parent_id)
      from public.flag_dependencies as d where d.org_id = flag.org_id and d.flag_id = flag.id
    ),
    (
      select jsonb_agg(jsonb_build_array(g.id, private.flags_constraints(g.org_id, null, g.id)) order by g.id)
      from public.flag_segments as g
      where g.org_id = flag.org_id and g.id in (
        select i.id::uuid from jsonb_array_elements(coalesce(flags_basis.change -> 'strategies', '[]')) as s
        cross join jsonb_array_elements_text(coalesce(s.value -> 'segment_ids', '[]')) as i (id)
      )
    )
  )::text)
$$;
comment on function private.flags_basis(public.feature_flags, jsonb) is 'A digest of what a change relies on and what members write directly while the flag is off: what it requires, its variants and dependencies, and the segments that the change names.';

create function private.flags_check_change(change jsonb) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  strategy jsonb;
  problem text;
begin
  if jsonb_typeof(flags_check_change.change) is distinct from 'object' or flags_check_change.change - '{enabled,strategies}'::text[] <> '{}'
    or flags_check_change.change = '{}'
  then
    perform kijko.fail('invalid_input', 'change: {enabled, strategies}, either or both');
  elsif not private.json_fits(flags_check_change.change, 12000) then
    perform kijko.fail('invalid_input', 'change: at most 12,000 bytes', 'Larger strategies are rows of flag_strategies.');
  elsif flags_check_change.change ? 'enabled' and jsonb_typeof(flags_check_change.change -> 'enabled') <> 'boolean' then
    perform kijko.fail('invalid_input', 'change.enabled: true or false');
  elsif flags_check_change.change ? 'strategies' and (
    jsonb_typeof(flags_check_change.change -> 'strategies') <> 'array' or jsonb_array_length(flags_check_change.change -> 'strategies') > 50
  ) then
    perform kijko.fail('invalid_input', 'change.strategies: a list of at most 50');
  end if;
  for strategy in select s.value from jsonb_array_elements(coalesce(flags_check_change.change -> 'strategies', '[]')) as s loop
    problem := kijko.flag_problem('strategy', case when jsonb_typeof(strategy) = 'object' then strategy - '{title,segment_ids}'::text[] else strategy end);
    if problem is not null then
      perform kijko.fail('invalid_input', 'change.strategies: ' || problem);
    elsif jsonb_typeof(coalesce(strategy -> 'title', '""')) <> 'string' or char_length(strategy ->> 'title') > 200 then
      perform kijko.fail('invalid_input', 'change.strategies: title: at most 200 characters');
    elsif jsonb_typeof(coalesce(strategy -> 'segment_ids', '[]')) <> 'array' or jsonb_array_length(coalesce(strategy -> 'segment_ids', '[]')) > 20 or exists (
      select from jsonb_array_elements_text(strategy -> 'segment_ids') as i
      where (i.value ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$') is not true
    ) then
      perform kijko.fail('invalid_input', 'change.strategies: segment_ids: a list of at most 20 ids');
    end if;
  end loop;
end
$$;
comment on function private.flags_check_change(jsonb) is 'Refuses a change that cannot be made, before anybody approves or schedules it.';

create function private.flags_apply(flag public.feature_flags, environment text, change jsonb, approved_basis text default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from public.flag_environments as e where e.org_id = flag.org_id and e.name = flags_apply.environment) then
    perform kijko.fail('conflict', 'the environment was removed');
  end if;
  if flags_apply.change ? 'strategies' then
    delete from public.flag_strategies as s where s.org_id = flag.org_id and s.flag_id = flag.id and s.environment = flags_apply.environment;
    -- One statement, so that the flags are checked and get their revision once.
    with given as materialized (
      select gen_random_uuid() as id, s.value as strategy, s.place
      from jsonb_array_elements(flags_apply.change -> 'strategies') with ordinality as s (value, place)
    ), strategies as (
      insert into public.flag_strategies (id, org_id, flag_id, environment, name, title, position, parameters, segment_ids)
      select g.id, flag.org_id, flag.id, flags_apply.environment, g.strategy ->> 'name', coalesce(g.strategy ->> 'title', ''), g.place,
        coalesce(g.strategy -> 'parameters', '{}'),
        array(select i.value::uuid from jsonb_array_elements_text(coalesce(g.strategy -> 'segment_ids', '[]')) as i)
      from given as g
    ), constraints as (
      insert into public.flag_constraints (org_id, strategy_id, position, context_name, operator, "values", value, inverted, case_insensitive)
      select flag.org_id, g.id, c.place, c.context_name, c.operator, c."values", c.value, c.inverted, c.case_insensitive
      from given as g
      cross join private.flags_read_constraints(coalesce(g.strategy -> 'constraints', '[]')) as c
    )
    insert into public.flag_variants (org_id, strategy_id, position, name, weight, weight_type, stickiness, payload)
    select flag.org_id, g.id, v.place, v.value ->> 'name', (v.value -> 'weight')::integer, v.value ->> 'weightType', v.value ->> 'stickiness',
      nullif(v.value -> 'payload', 'null')
    from given as g
    cross join jsonb_array_elements(coalesce(g.strategy -> 'variants', '[]')) with ordinality as v (value, place);
  end if;
  if flags_apply.change ? 'enabled' then
    update public.feature_flags as f
    set enabled_in = array(
      select n.name from unnest(f.enabled_in) as n (name) where n.name <> flags_apply.environment
      union all
      select flags_apply.environment where (flags_apply.change -> 'enabled')::boolean
      order by 1
    )
    where f.org_id = flag.org_id and f.id = flag.id;
  end if;
  -- The flags are locked since the first write, which may have waited for what somebody else has written meanwhile.
  if approved_basis is null and (
    select e.protected from public.flag_environments as e where e.org_id = flag.org_id and e.name = flags_apply.environment
  ) then
    perform kijko.fail('conflict', 'the environment is protected since');
  elsif approved_basis <> private.flags_basis(flag, flags_apply.change) then
    perform kijko.fail('conflict', 'the flag has changed since the approval');
  end if;
end
$$;
comment on function private.flags_apply(public.feature_flags, text, jsonb, text) is 'Makes a change of a locked flag in an environment. approved_basis is what an approval relies on, null without one. Fails with conflict if that has changed meanwhile, or if a change without approval needs one since.';

create function private.flags_schedule(
  flag public.feature_flags, environment text, change jsonb, reason text, apply_at timestamptz, approval_id uuid, basis text
) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  scheduled uuid;
begin
  perform private.flags_lock(flag.org_id);
  if (select count(*) >= 100 from public.flag_changes as c where c.org_id = flag.org_id and c.status = 'scheduled') then
    perform kijko.fail('conflict', 'an organization has at most 100 scheduled changes of flags');
  end if;
  delete from public.flag_changes as c where c.id in (
    select o.id from public.flag_changes as o where o.org_id = flag.org_id and o.status <> 'scheduled' order by o.created_at desc, o.id desc offset 900
  );
  insert into public.flag_changes as c (org_id, flag_id, environment, change, reason, apply_at, approval_id, basis)
  values (
    flag.org_id, flag.id, flags_schedule.environment, flags_schedule.change, flags_schedule.reason, flags_schedule.apply_at,
    flags_schedule.approval_id, flags_schedule.basis
  )
  returning c.id into scheduled;
  return scheduled;
end
$$;
comment on function private.flags_schedule(public.feature_flags, text, jsonb, text, timestamptz, uuid, text) is 'Schedules a change of a locked flag.';

create function public.change_flag(flag text, environment text, change jsonb, reason text default null, apply_at timestamptz default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  found_flag public.feature_flags;
  target public.flag_environments;
  approval public.approvals;
  scheduled uuid;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:write');
  perform private.flags_check_change(change_flag.change);
  if char_length(change_flag.reason) > 2000 then
    perform kijko.fail('invalid_input', 'reason: at most 2,000 characters');
  elsif change_flag.apply_at > kijko.now() + interval '1 year' or not isfinite(change_flag.apply_at) then
    perform kijko.fail('invalid_input', 'apply_at: within a year');
  end if;
  select f.* into found_flag from public.feature_flags as f where f.org_id = org and f.name = change_flag.flag for no key update;
  select e.* into target from public.flag_environments as e where e.org_id = org and e.name = change_flag.environment;
  if found_flag.id is null then
    perform kijko.fail('not_found', 'no such flag');
  elsif target.id is null then
    perform kijko.fail('not_found', 'no such environment');
  end if;
  if target.protected then
    approval := private.approvals_request(
      org, 'flag_change', found_flag.id, target.name, left(format('Change the flag %s in %s', found_flag.name, target.name), 300),
      jsonb_build_object(
        'flag', found_flag.name, 'environment', target.name, 'from', private.flags_configuration(found_flag, target.name),
        'basis', private.flags_basis(found_flag, change_flag.change), 'to', change_flag.change, 'apply_at', change_flag.apply_at
      ),
      change_flag.reason, interval '14 days'
    );
  elsif change_flag.apply_at > kijko.now() then
    scheduled := private.flags_schedule(found_flag, target.name, change_flag.change, change_flag.reason, change_flag.apply_at, null, null);
  else
    perform private.flags_apply(found_flag, target.name, change_flag.change, null);
  end if;
  return jsonb_build_object(
    'flag', found_flag.name, 'environment', target.name, 'applied', approval.id is null and scheduled is null,
    'approval_id', approval.id, 'change_id', scheduled
  );
end
$$;
comment on function public.change_flag(text, text, jsonb, text, timestamptz) is 'Turns a flag on or off in an environment, and replaces its strategies there: change is {enabled, strategies}, either or both. With apply_at it is made then, within a minute (change_id is the row of flag_changes). In a protected environment it needs a second person, who decides by approve_change() (approval_id). Requires flags:write. Definer: it checks the permission itself.';
grant execute on function public.change_flag(text, text, jsonb, text, timestamptz) to authenticated;

create function public.cancel_flag_change(change_id uuid) returns public.flag_changes
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  found_change public.flag_changes;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('flags:write');
  select c.* into found_change from public.flag_changes as c where c.org_id = org and c.id = cancel_flag_change.change_id for update;
  if found_change.id is null then
    perform kijko.fail('not_found', 'no such change');
  elsif found_change.status <> 'scheduled' then
    perform kijko.fail('conflict', format('the change is %s already', found_change.status));
  end if;
  update public.flag_changes as c set status = 'cancelled', finished_at = kijko.now()
  where c.org_id = org and c.id = found_change.id
  returning c.* into found_change;
  return found_change;
end
$$;
comment on function public.cancel_flag_change(uuid) is 'Cancels a scheduled change of a flag. Fails with conflict if it was made already. Requires flags:write. Definer: users do not write the table.';
grant execute on function public.cancel_flag_change(uuid) to authenticated;

create function private.flags_apply_approval(approval public.approvals) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  flag public.feature_flags;
  at constant timestamptz := (approval.change ->> 'apply_at')::timestamptz;
begin
  select f.* into flag from public.feature_flags as f where f.org_id = approval.org_id and f.id = approval.subject_id for no key update;
  if flag.id is null then
    perform kijko.fail('conflict', 'the flag was deleted');
  elsif private.flags_configuration(flag, approval.subject_part) is distinct from approval.change ->> 'from'
    or private.flags_basis(flag, approval.change -> 'to') is distinct from approval.change ->> 'basis'
  then
    perform kijko.fail('conflict', 'the flag has changed since', 'Reject the request, and ask for it again.');
  elsif at > kijko.now() then
    perform private.flags_schedule(flag, approval.subject_part, approval.change -> 'to', approval.reason, at, approval.id, approval.change ->> 'basis');
  else
    perform private.flags_apply(flag, approval.subject_part, approval.change -> 'to', approval.change ->> 'basis');
  end if;
end
$$;
comment on function private.flags_apply_approval(public.approvals) is 'Makes or schedules an approved change of a flag; fails with conflict if the flag has changed since the request. Named by private.approval_kinds.';
insert into private.approval_kinds (kind, permission, apply_function, description)
values ('flag_change', 'flags:approve', 'flags_apply_approval', 'A flag changes in a protected environment');

create function private.flags_run_due(max_changes integer default 1) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  due_id uuid;
  due_flag uuid;
  due_org uuid;
  due public.flag_changes;
  flag public.feature_flags;
  fault text;
  handled integer := 0;
begin
  for due_id, due_flag, due_org in
    select c.id, c.flag_id, c.org_id from public.flag_changes as c
    where c.status = 'scheduled' and c.apply_at <= kijko.now()
    order by c.apply_at, c.created_at, c.id
  loop
    exit when handled >= max_changes;
    continue when due_org = any (private.passed_over());
    -- The flag before its change, as who deletes it. One that somebody writes at the moment waits for the next minute.
    select f.* into flag from public.feature_flags as f where f.id = due_flag for no key update skip locked;
    continue when flag.id is null;
    select c.* into due from public.flag_changes as c where c.id = due_id and c.status = 'scheduled' for update skip locked;
    continue when due.id is null;
    fault := null;
    begin
      if due.approval_id is null and exists (
        select from public.flag_environments as e where e.org_id = due.org_id and e.name = due.environment and e.protected
      ) then
        fault := 'the environment is protected since, and nobody has approved the change';
      elsif due.basis <> private.flags_basis(flag, due.change) then
        fault := 'the flag has changed since the approval';
      else
        perform private.flags_apply(flag, due.environment, due.change, due.basis);
      end if;
    exception
      when lock_not_available or deadlock_detected or serialization_failure then
        -- Somebody writes the flags at the moment: the next minute tries again. Other organizations' need not wait.
        perform private.pass_over(due_org, sqlstate);
        continue;
      when others then
        fault := left(sqlerrm, 500);
    end;
    update public.flag_changes as c
    set status = case when fault is null then 'applied' else 'failed' end, error = fault, finished_at = kijko.now()
    where c.org_id = due.org_id and c.id = due.id;
    handled := handled + 1;
  end loop;
  return handled;
end
$$;
comment on function private.flags_run_due(integer) is 'Makes the scheduled changes that are due, and says how many were handled. Definer: callable by the operator without table rights.';
grant execute on function private.flags_run_due(integer) to service_role;

-- A procedure, so that each change commits: it holds the revision of its organization, and must not wait for rows of another change
-- meanwhile. It can then have no "set" clause and no definer rights, so every name is qualified.
create procedure private.flags_tick()
language plpgsql
as $$
declare
  started timestamptz := clock_timestamp();
  handled integer;
begin
  loop
    handled := private.flags_run_due();
    commit;
    exit when handled = 0 or clock_timestamp() > started + interval '50 seconds';
  end loop;
end
$$;
comment on procedure private.flags_tick() is 'Called by pg_cron each minute: flags_run_due() until no change is due.';
select private.schedule('kijko-flags-run-due', '* * * * *', 'call private.flags_tick()');
