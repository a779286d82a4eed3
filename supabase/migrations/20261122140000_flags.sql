-- ============================================================================
-- Flags: feature flags as Unleash has them.
--
-- A flag is on or off in each environment. Where it is on, its strategies there say for whom: any one that holds is enough, and a
-- flag without strategies is on for everybody. Constraints are rows of their strategy or segment, variants of their flag or
-- strategy, and definitions have them in Unleash's own form.
--
--   1. Every write takes a new revision (20261122140120_flags_revisions.sql). The platform's own flags also go to the extension.
--   2. The sidecar asks flag_definitions() for an organization's flags, keeps them by their revision, and evaluates them.
--   3. change_flag() turns a flag on or off and replaces its strategies, at once, later, or when a second person has approved.
-- ============================================================================

create table private.flag_revisions (
  organization uuid primary key references public.organizations (id) on delete cascade,
  revision bigint not null
);
comment on table private.flag_revisions is 'The revision of an organization''s flags. Each change takes a new one from a sequence, so none is ever given twice.';
comment on column private.flag_revisions.organization is 'The organization.';
comment on column private.flag_revisions.revision is 'Changes with any of its flags, strategies, segments and dependencies.';
select private.describe_data('private.flag_revisions', '{"organization, revision": "which flags a server may keep in memory"}');
alter table private.flag_revisions enable row level security;

create table public.flag_environments (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (octet_length(name) <= 63 and name ~ '^[a-z0-9][a-z0-9_-]*$'),
  protected boolean not null default false,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name)
);
comment on table public.flag_environments is 'Environments of flags. production and development come with an organization''s first flag; set_flag_environment() adds others.';
comment on column public.flag_environments.id is 'Identity of the environment.';
comment on column public.flag_environments.org_id is 'Organization that it belongs to.';
comment on column public.flag_environments.name is 'Name: small letters, digits, _ and -.';
comment on column public.flag_environments.protected is 'Whether changes there need a second person.';
comment on column public.flag_environments.created_by is 'User who added it; null for a service key and after that user is deleted.';
comment on column public.flag_environments.created_by_key is 'API key that added it; null when a user did.';
comment on column public.flag_environments.created_at is 'When it was added.';
comment on column public.flag_environments.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_environments', resource => 'flags', writable => '{}', catalogue => '{
  "name, protected": "where flags are evaluated, and what needs a second person"
}');
select private.audit_table('public.flag_environments', 'flag_environment', '{name,protected}');

create table public.feature_flags (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  type text not null default 'release' check (type in ('release', 'experiment', 'operational', 'kill-switch', 'permission')),
  description text not null default '' check (char_length(description) <= 1000),
  impression_data boolean not null default false,
  required_roles text[] not null default '{}' check (required_roles <@ array['viewer', 'member', 'admin', 'owner']),
  required_plans text[] not null default '{}' check (cardinality(required_plans) <= 20 and array_position(required_plans, null) is null),
  required_feature text check (octet_length(required_feature) <= 63 and required_feature ~ '^[a-z][a-z0-9_]*$'),
  enabled_in text[] not null default '{}',
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, name)
);
comment on table public.feature_flags is 'Feature flags. change_flag() turns them on and off.';
comment on column public.feature_flags.id is 'Identity of the flag.';
comment on column public.feature_flags.org_id is 'Organization that it belongs to.';
comment on column public.feature_flags.name is 'Name by which programs ask for it.';
comment on column public.feature_flags.type is 'What it is for: release, experiment, operational, kill-switch or permission. Says when it is stale.';
comment on column public.feature_flags.description is 'What it does.';
comment on column public.feature_flags.impression_data is 'Whether clients report each evaluation to the application.';
comment on column public.feature_flags.required_roles is 'Only members with one of these roles have it; empty: any caller.';
comment on column public.feature_flags.required_plans is 'Only organizations on one of these plans have it; empty: on any.';
comment on column public.feature_flags.required_feature is 'Only organizations entitled to this feature have it; null: all.';
comment on column public.feature_flags.enabled_in is 'Environments in which it is on. Written by change_flag().';
comment on column public.feature_flags.created_by is 'User who made it; null for a service key and after that user is deleted.';
comment on column public.feature_flags.created_by_key is 'API key that made it; null when a user did.';
comment on column public.feature_flags.created_at is 'When it was made.';
comment on column public.feature_flags.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.feature_flags', resource => 'flags', max_rows => 500,
  writable => '{name,type,description,impression_data,required_roles,required_plans,required_feature}', catalogue => '{
  "name, type, description, impression_data": "what the flag is",
  "required_roles, required_plans, required_feature, enabled_in": "who has the flag"
}');
select private.audit_table('public.feature_flags', 'feature_flag', '{name,type,enabled_in,required_roles,required_plans,required_feature}');

create table public.flag_segments (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  description text not null default '' check (char_length(description) <= 1000),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, name)
);
comment on table public.flag_segments is 'Constraints under a name, which strategies of several flags share.';
comment on column public.flag_segments.id is 'Identity of the segment.';
comment on column public.flag_segments.org_id is 'Organization that it belongs to.';
comment on column public.flag_segments.name is 'Name of the segment.';
comment on column public.flag_segments.description is 'Who is in it.';
comment on column public.flag_segments.created_by is 'User who made it; null for a service key and after that user is deleted.';
comment on column public.flag_segments.created_by_key is 'API key that made it; null when a user did.';
comment on column public.flag_segments.created_at is 'When it was made.';
comment on column public.flag_segments.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_segments', resource => 'flags', max_rows => 200, catalogue => '{
  "name, description": "who is in the segment"
}');

create table public.flag_strategies (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  flag_id uuid not null,
  environment text not null default 'production',
  name text not null check (octet_length(name) <= 63),
  title text not null default '' check (char_length(title) <= 200),
  position integer not null default 0 check (position between 0 and 10000),
  parameters jsonb not null default '{}',
  segment_ids uuid[] not null default '{}' check (cardinality(segment_ids) <= 20),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, flag_id) references public.feature_flags (org_id, id) on delete cascade,
  foreign key (org_id, environment) references public.flag_environments (org_id, name) on delete cascade
);
create index flag_strategies_flag_id_idx on public.flag_strategies (org_id, flag_id, environment);
create index flag_strategies_environment_idx on public.flag_strategies (org_id, environment);
comment on table public.flag_strategies is 'For whom a flag is on, in one environment. Any strategy that holds is enough.';
comment on column public.flag_strategies.id is 'Identity of the strategy.';
comment on column public.flag_strategies.org_id is 'Organization that it belongs to.';
comment on column public.flag_strategies.flag_id is 'The flag.';
comment on column public.flag_strategies.environment is 'The environment in which it counts.';
comment on column public.flag_strategies.name is 'Strategy of Unleash: default, flexibleRollout, userWithId, remoteAddress, applicationHostname, gradualRolloutUserId, gradualRolloutSessionId or gradualRolloutRandom.';
comment on column public.flag_strategies.title is 'What it is for.';
comment on column public.flag_strategies.position is 'Its place: the first strategy that holds chooses the variant.';
comment on column public.flag_strategies.parameters is 'Parameters of the strategy, each a text: {"rollout": "25", "stickiness": "userId", "groupId": "checkout"}.';
comment on column public.flag_strategies.segment_ids is 'Segments whose constraints must hold, too.';
comment on column public.flag_strategies.created_by is 'User who made it; null for a service key and after that user is deleted.';
comment on column public.flag_strategies.created_by_key is 'API key that made it; null when a user did.';
comment on column public.flag_strategies.created_at is 'When it was made.';
comment on column public.flag_strategies.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_strategies', resource => 'flags', max_rows => 2000, catalogue => '{
  "flag_id, environment, name, title, position, parameters, segment_ids": "for whom a flag is on"
}');

create table public.flag_constraints (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  strategy_id uuid,
  segment_id uuid,
  position integer not null default 0 check (position between 0 and 10000),
  context_name text not null check (octet_length(context_name) <= 100),
  operator text not null check (octet_length(operator) <= 63),
  "values" text[] not null default '{}' check (cardinality("values") <= 1000 and array_position("values", null) is null),
  value text check (octet_length(value) <= 500),
  inverted boolean not null default false,
  case_insensitive boolean not null default false,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (num_nonnulls(strategy_id, segment_id) = 1),
  foreign key (org_id, strategy_id) references public.flag_strategies (org_id, id) on delete cascade,
  foreign key (org_id, segment_id) references public.flag_segments (org_id, id) on delete cascade
);
create index flag_constraints_strategy_id_idx on public.flag_constraints (org_id, strategy_id);
create index flag_constraints_segment_id_idx on public.flag_constraints (org_id, segment_id);
comment on table public.flag_constraints is 'Conditions on the context. All of a strategy must hold, and all of the segments that it names.';
comment on column public.flag_constraints.id is 'Identity of the constraint.';
comment on column public.flag_constraints.org_id is 'Organization that it belongs to.';
comment on column public.flag_constraints.strategy_id is 'The strategy; null for one of a segment.';
comment on column public.flag_constraints.segment_id is 'The segment; null for one of a strategy.';
comment on column public.flag_constraints.position is 'Its place among the others.';
comment on column public.flag_constraints.context_name is 'The field or property of the context.';
comment on column public.flag_constraints.operator is 'Operator of Unleash: IN, NOT_IN, STR_STARTS_WITH, STR_ENDS_WITH, STR_CONTAINS, IN_CIDR, NUM_EQ, DATE_AFTER, SEMVER_GTE, REGEX ….';
comment on column public.flag_constraints."values" is 'What an operator on lists compares with.';
comment on column public.flag_constraints.value is 'What an operator on one value compares with; null for those on lists.';
comment on column public.flag_constraints.inverted is 'Whether it holds where it would not.';
comment on column public.flag_constraints.case_insensitive is 'Whether capital and small letters are the same.';
comment on column public.flag_constraints.created_by is 'User who added it; null for a service key and after that user is deleted.';
comment on column public.flag_constraints.created_by_key is 'API key that added it; null when a user did.';
comment on column public.flag_constraints.created_at is 'When it was added.';
comment on column public.flag_constraints.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_constraints', resource => 'flags', max_rows => 5000, catalogue => '{
  "strategy_id, segment_id, position, context_name, operator, values, value, inverted, case_insensitive": "for whom a flag is on"
}');

create table public.flag_variants (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  flag_id uuid,
  strategy_id uuid,
  position integer not null default 0 check (position between 0 and 10000),
  name text not null check (octet_length(name) <= 100),
  weight integer not null check (weight between 1 and 1000),
  weight_type text check (weight_type in ('fix', 'variable')),
  stickiness text check (octet_length(stickiness) <= 100),
  payload jsonb check (private.json_fits(payload, 20000)),
  overrides jsonb not null default '[]' check (private.json_fits(overrides, 262144)),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (num_nonnulls(flag_id, strategy_id) = 1),
  unique nulls not distinct (org_id, flag_id, strategy_id, name),
  foreign key (org_id, flag_id) references public.feature_flags (org_id, id) on delete cascade,
  foreign key (org_id, strategy_id) references public.flag_strategies (org_id, id) on delete cascade
);
create index flag_variants_strategy_id_idx on public.flag_variants (org_id, strategy_id);
comment on table public.flag_variants is 'Variants of a flag. Where the strategy that holds has its own, these count instead.';
comment on column public.flag_variants.id is 'Identity of the variant.';
comment on column public.flag_variants.org_id is 'Organization that it belongs to.';
comment on column public.flag_variants.flag_id is 'The flag; null for one of a strategy.';
comment on column public.flag_variants.strategy_id is 'The strategy; null for one of a flag.';
comment on column public.flag_variants.position is 'Its place among the others; those at one place are in the order of their names. A caller keeps their variant while order and weights stay.';
comment on column public.flag_variants.name is 'Name of the variant.';
comment on column public.flag_variants.weight is 'Its share, next to the weights of the others: 1 to 1000.';
comment on column public.flag_variants.weight_type is 'fix or variable: whether editors adjust the weight when others change; null: variable.';
comment on column public.flag_variants.stickiness is 'Field of the context by which a caller keeps their variant; null: default.';
comment on column public.flag_variants.payload is 'What it carries: {type, value}, where type is string, csv, number or json; null: nothing.';
comment on column public.flag_variants.overrides is 'Who gets it in any case: [{contextName, values}]. Of variants of a flag only.';
comment on column public.flag_variants.created_by is 'User who added it; null for a service key and after that user is deleted.';
comment on column public.flag_variants.created_by_key is 'API key that added it; null when a user did.';
comment on column public.flag_variants.created_at is 'When it was added.';
comment on column public.flag_variants.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_variants', resource => 'flags', max_rows => 5000, catalogue => '{
  "flag_id, strategy_id, position, name, weight, weight_type, stickiness, payload, overrides": "what those get for whom a flag is on"
}');

create table public.flag_dependencies (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  flag_id uuid not null,
  parent_id uuid not null,
  enabled boolean not null default true,
  variants text[] not null default '{}' check (cardinality(variants) <= 50 and array_position(variants, null) is null),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, flag_id, parent_id),
  check (flag_id <> parent_id),
  -- One key only, so that the two tables embed each other without a hint; flags_check() looks after parent_id.
  foreign key (org_id, flag_id) references public.feature_flags (org_id, id) on delete cascade
);
create index flag_dependencies_parent_id_idx on public.flag_dependencies (org_id, parent_id);
comment on table public.flag_dependencies is 'Flags that are on only if another one is. A flag that others depend on depends on none itself, and is not deleted before them.';
comment on column public.flag_dependencies.id is 'Identity of the dependency.';
comment on column public.flag_dependencies.org_id is 'Organization that it belongs to.';
comment on column public.flag_dependencies.flag_id is 'The flag that depends on the other.';
comment on column public.flag_dependencies.parent_id is 'The flag that it depends on.';
comment on column public.flag_dependencies.enabled is 'Whether the other must be on, or off.';
comment on column public.flag_dependencies.variants is 'If the other is on, one of these must be its variant; empty: any.';
comment on column public.flag_dependencies.created_by is 'User who made it; null for a service key and after that user is deleted.';
comment on column public.flag_dependencies.created_by_key is 'API key that made it; null when a user did.';
comment on column public.flag_dependencies.created_at is 'When it was made.';
comment on column public.flag_dependencies.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_dependencies', resource => 'flags', max_rows => 1000, catalogue => '{
  "flag_id, parent_id, enabled, variants": "which flags need which"
}');

create table public.flag_evaluations (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  flag_id uuid not null,
  environment text not null check (octet_length(environment) <= 63),
  hour timestamptz not null,
  yes bigint not null default 0,
  no bigint not null default 0,
  variants jsonb not null default '{}',
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, flag_id, environment, hour),
  foreign key (org_id, flag_id) references public.feature_flags (org_id, id) on delete cascade
);
create index flag_evaluations_hour_idx on public.flag_evaluations (hour);
comment on table public.flag_evaluations is 'How often a flag was asked for, by environment and hour, as clients report it. Kept for 90 days.';
comment on column public.flag_evaluations.id is 'Identity of the row.';
comment on column public.flag_evaluations.org_id is 'Organization that it belongs to.';
comment on column public.flag_evaluations.flag_id is 'The flag.';
comment on column public.flag_evaluations.environment is 'The environment.';
comment on column public.flag_evaluations.hour is 'Beginning of the hour.';
comment on column public.flag_evaluations.yes is 'How often it was on.';
comment on column public.flag_evaluations.no is 'How often it was off.';
comment on column public.flag_evaluations.variants is 'How often each variant was given: {name: number}.';
comment on column public.flag_evaluations.created_by is 'User whose report was the first of the hour; null for keys and servers.';
comment on column public.flag_evaluations.created_by_key is 'API key whose report was the first of the hour.';
comment on column public.flag_evaluations.created_at is 'When the first report of the hour came.';
comment on column public.flag_evaluations.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.flag_evaluations', resource => 'flags', writable => '{}', catalogue => '{
  "flag_id, environment, hour, yes, no, variants": "which flags are still in use"
}');
