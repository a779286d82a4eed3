-- ============================================================================
-- LLM gateway: budgets.
--
-- Each budget, or each member, key, project, skill or model of a budget without a target, is a subject of the limits engine. So
-- calls hold against it exactly as against a plan's meters. Hours and weeks, which the engine has not, are subjects of their own
-- with a limit that does not end.
-- ============================================================================

create table public.llm_budgets (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  scope text not null check (scope in ('organization', 'project', 'skill', 'key', 'member', 'model')),
  project_id uuid,
  skill_id uuid,
  key_id uuid,
  member_id uuid,
  model text check (char_length(model) <= 200 and model ~ '^[A-Za-z0-9][A-Za-z0-9_.:/@*-]*$'),
  period text not null check (period in ('hour', 'day', 'week', 'month', 'total')),
  unit text not null check (unit in ('tokens', 'microusd')),
  amount bigint not null check (amount between 0 and 1000000000000000),
  on_exceeded text not null default 'refuse' check (on_exceeded in ('refuse', 'flag', 'bill')),
  enabled boolean not null default true,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, name),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete cascade,
  foreign key (org_id, key_id) references public.api_keys (org_id, id) on delete cascade,
  foreign key (org_id, member_id) references public.memberships (org_id, user_id) on delete cascade,
  constraint llm_budgets_target check (
    (project_id is null or scope = 'project') and (skill_id is null or scope = 'skill') and (key_id is null or scope = 'key')
    and (member_id is null or scope = 'member') and (model is null or scope = 'model')
  )
);
create index llm_budgets_project_id_idx on public.llm_budgets (org_id, project_id);
create index llm_budgets_skill_id_idx on public.llm_budgets (org_id, skill_id);
create index llm_budgets_key_id_idx on public.llm_budgets (org_id, key_id);
create index llm_budgets_member_id_idx on public.llm_budgets (org_id, member_id);
comment on table public.llm_budgets is 'Limits of model use that an organization sets itself. Every budget that applies to a call must have room for it.';
comment on column public.llm_budgets.id is 'Identity of the row.';
comment on column public.llm_budgets.org_id is 'Organization that owns it; never changes.';
comment on column public.llm_budgets.name is 'What refusals call it.';
comment on column public.llm_budgets.scope is 'Whose calls count: organization (all), project, skill, key, member or model. Never changes.';
comment on column public.llm_budgets.project_id is 'The project, when scope is project; null: each project has the amount for itself. Never changes, like every target.';
comment on column public.llm_budgets.skill_id is 'The skill, when scope is skill; null: each skill.';
comment on column public.llm_budgets.key_id is 'The API key, when scope is key; null: each key.';
comment on column public.llm_budgets.member_id is 'The member, when scope is member, also by personal keys; null: each member.';
comment on column public.llm_budgets.model is 'A route or provider/model, or provider/* for all of a provider, when scope is model; null: each provider/model.';
comment on column public.llm_budgets.period is 'hour, day, week (from Monday) or month, which begin by UTC, or total, which never ends. Never changes.';
comment on column public.llm_budgets.unit is 'tokens (input and output) or microusd (millionths of a US dollar, by the price of the model). Never changes.';
comment on column public.llm_budgets.amount is 'How many in a period. A change counts from the next call on and resets nothing.';
comment on column public.llm_budgets.on_exceeded is 'refuse: a call that might exceed it fails with budget_exceeded. flag and bill: it passes, and what lies above is recorded as overage.';
comment on column public.llm_budgets.enabled is 'False: calls neither count against it nor fail by it.';
comment on column public.llm_budgets.created_by is 'User who created it; null after that user is deleted.';
comment on column public.llm_budgets.created_by_key is 'API key that created it; null for a user.';
comment on column public.llm_budgets.created_at is 'When it was created.';
comment on column public.llm_budgets.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.llm_budgets', resource => 'llm', max_rows => 100, catalogue => '{
  "name, scope, project_id, skill_id, key_id, model, period, unit, amount, on_exceeded, enabled": "limits what calls of models may use",
  "member_id": {"subject": "person", "purpose": "limits what calls of a member may use", "export": "organization"}
}');

create function private.llm_guard_budget() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.fail('conflict', 'only name, amount, on_exceeded and enabled of a budget change', 'Make a new budget.');
  return null;
end
$$;
comment on function private.llm_guard_budget() is 'Trigger: what a budget counts never changes, because its counter would not.';
create trigger llm_budgets_guard before update on public.llm_budgets
  for each row when (
    (old.scope, old.project_id, old.skill_id, old.key_id, old.member_id, old.model, old.period, old.unit)
    is distinct from (new.scope, new.project_id, new.skill_id, new.key_id, new.member_id, new.model, new.period, new.unit)
  ) execute function private.llm_guard_budget();

create table private.llm_budget_subjects (
  subject uuid primary key,
  organization uuid not null,
  budget_id uuid not null,
  value text not null check (char_length(value) <= 200),
  starts_at timestamptz,
  ends_at timestamptz,
  amount bigint not null,
  on_exceeded text not null check (on_exceeded in ('refuse', 'flag', 'bill')),
  foreign key (organization, budget_id) references public.llm_budgets (org_id, id) on delete cascade
);
create index llm_budget_subjects_budget_idx on private.llm_budget_subjects (organization, budget_id, starts_at);
create index llm_budget_subjects_ends_at_idx on private.llm_budget_subjects (ends_at) where ends_at is not null;
comment on table private.llm_budget_subjects is 'The subjects of the limits engine that budgets count by: made by the first call that counts.';
comment on column private.llm_budget_subjects.subject is 'The subject.';
comment on column private.llm_budget_subjects.organization is 'Organization of the budget.';
comment on column private.llm_budget_subjects.budget_id is 'The budget.';
comment on column private.llm_budget_subjects.value is 'Id of the project, skill, key or member, or the model; empty for the whole organization.';
comment on column private.llm_budget_subjects.starts_at is 'Start of the hour or week; null for periods of the engine.';
comment on column private.llm_budget_subjects.ends_at is 'End of the hour or week; null for periods of the engine.';
comment on column private.llm_budget_subjects.amount is 'Amount of the limit that was last set in the engine; when the budget has another, the next call sets it.';
comment on column private.llm_budget_subjects.on_exceeded is 'Its policy, as amount.';
select private.describe_data('private.llm_budget_subjects', '{
  "subject, organization, budget_id, starts_at, ends_at, amount, on_exceeded": "counts what calls of models use",
  "value": "whose calls are counted"
}');
alter table private.llm_budget_subjects enable row level security;

create function private.llm_drop_subject() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.usage_subjects as s where s.subject = old.subject;
  perform kijko.delete_subject(old.subject);
  return null;
end
$$;
comment on function private.llm_drop_subject() is 'Trigger: the engine forgets the subject of a deleted budget or of an hour or week that is over. Definer: only the domain may.';
create trigger llm_budget_subjects_drop after delete on private.llm_budget_subjects
  for each row execute function private.llm_drop_subject();

-- ----------------------------------------------------------------------------
-- By what a budget counts
-- ----------------------------------------------------------------------------

create function private.llm_budget_value(budget public.llm_budgets, attributes jsonb, route text, target text) returns text
language sql immutable
-- Without a "set" clause Postgres puts the body in its place.
return case budget.scope
  when 'organization' then ''
  when 'project' then case when budget.project_id is null or attributes ->> 'project' = budget.project_id::text then attributes ->> 'project' end
  when 'skill' then case when budget.skill_id is null or attributes ->> 'skill' = budget.skill_id::text then attributes ->> 'skill' end
  when 'key' then case when budget.key_id is null or attributes ->> 'key' = budget.key_id::text then attributes ->> 'key' end
  when 'member' then case when budget.member_id is null or attributes ->> 'member' = budget.member_id::text then attributes ->> 'member' end
  when 'model' then case
    when budget.model is null then target
    when budget.model in (route, target, split_part(target, '/', 1) || '/*') then budget.model
  end
end;
comment on function private.llm_budget_value(public.llm_budgets, jsonb, text, text) is 'For whom a call counts against a budget: an id, a model, or nothing for the whole organization; null when it does not count. Nullable: result.';

create function private.llm_budget_subject(budget public.llm_budgets, value text, starts_at timestamptz) returns uuid
language sql stable -- As extract() is: otherwise Postgres would not put the body in its place, and plan it at each call.
return kijko.subject(
  'llm_budget', md5(budget.id::text || '/' || value || '/' || coalesce(extract(epoch from starts_at)::bigint::text, ''))::uuid
);
comment on function private.llm_budget_subject(public.llm_budgets, text, timestamptz) is 'The subject by which a budget counts.';

create function private.llm_window_start(period text) returns timestamptz
language sql stable
return case when period in ('hour', 'week') then date_trunc(period, kijko.now(), 'UTC') end;
comment on function private.llm_window_start(text) is 'Start of the hour or week of now, which has a subject of its own; null for the periods of the engine. Nullable: result.';

create function private.llm_meter(unit text) returns text
language sql immutable
return case unit when 'tokens' then 'llm_tokens' else 'llm_cost_microusd' end;
comment on function private.llm_meter(text) is 'The meter that counts a unit.';

create function private.llm_set_budget_subject(
  budget public.llm_budgets, value text, subject uuid, starts_at timestamptz, ends_at timestamptz, project uuid
) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  -- The row first: of two calls the later one waits here, and then sets the same limit.
  insert into private.llm_budget_subjects as s (subject, organization, budget_id, value, starts_at, ends_at, amount, on_exceeded)
  values (subject, budget.org_id, budget.id, value, starts_at, ends_at, budget.amount, budget.on_exceeded)
  on conflict on constraint llm_budget_subjects_pkey do update set amount = excluded.amount, on_exceeded = excluded.on_exceeded;
  insert into private.usage_subjects as s (subject, organization, notification, project_id, data)
  values (
    subject, budget.org_id, 'llm.budget',
    -- A budget of a project or skill is the business of those who see it.
    case when budget.scope in ('project', 'skill') then project end,
    jsonb_build_object('budget_id', budget.id, 'budget', budget.name, 'scope', budget.scope, 'value', value, 'unit', budget.unit)
  )
  on conflict on constraint usage_subjects_pkey do update set data = excluded.data, project_id = excluded.project_id;
  perform kijko.set_limit(
    subject, private.llm_meter(budget.unit), case when budget.period in ('day', 'month') then budget.period else 'lifetime' end,
    budget.amount, budget.on_exceeded
  );
end
$$;
comment on function private.llm_set_budget_subject(public.llm_budgets, text, uuid, timestamptz, timestamptz, uuid) is 'Has a budget count by a subject, with the limit that it has now. project: that of the call.';
