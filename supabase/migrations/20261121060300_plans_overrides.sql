-- ============================================================================
-- Plans: features, and exceptions from the plan for one organization.
--
--   1. features and plan_features are the catalogue: which plan includes what.
--   2. A row of plan_overrides changes one limit or one feature of one organization until its end.
--   3. plans_entitlements.sql applies both.
-- ============================================================================

create table public.features (
  code text primary key check (octet_length(code) <= 63 and code ~ '^[a-z][a-z0-9_]*$'),
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  description text not null default '' check (char_length(description) <= 500),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.features is 'Features that a plan may include. They are public and the same for all organizations.';
comment on column public.features.code is 'Stable name: the argument of entitled().';
comment on column public.features.name is 'Name that customers see.';
comment on column public.features.description is 'What the feature is.';
comment on column public.features.created_at is 'When it was created.';
comment on column public.features.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.features', '{"code, name, description, created_at, updated_at": "what a plan offers"}', 'platform');
alter table public.features enable row level security;
grant select on public.features to anon, authenticated;
grant select, insert, update, delete on public.features to service_role;
create policy features_select on public.features for select to anon, authenticated using (true);
create trigger features_touch before update on public.features
  for each row execute function private.touch_updated_at();

create table public.plan_features (
  plan text not null references public.plans (code) on delete cascade,
  feature text not null references public.features (code) on delete cascade,
  primary key (plan, feature)
);
create index plan_features_feature_idx on public.plan_features (feature);
comment on table public.plan_features is 'Features that each plan includes. They are public. A change applies to every organization on the plan, from the next statement on.';
comment on column public.plan_features.plan is 'Plan.';
comment on column public.plan_features.feature is 'Feature.';
select private.describe_data('public.plan_features', '{"plan, feature": "what a plan includes"}', 'platform');
alter table public.plan_features enable row level security;
grant select on public.plan_features to anon, authenticated;
grant select, insert, delete on public.plan_features to service_role;
create policy plan_features_select on public.plan_features for select to anon, authenticated using (true);

-- Each is checked where it is used. All plans include them until an operator decides otherwise by deleting rows of plan_features.
insert into public.features (code, name, description) values
  ('custom_roles', 'Custom roles', 'Define roles of your own'),
  ('sso', 'Login server of your own', 'Enrol an issuer that signs members in'),
  ('audit_export', 'Export of the audit log', 'Export the audit log');
insert into public.plan_features (plan, feature)
select p.code, f.code from public.plans as p cross join public.features as f;

-- ----------------------------------------------------------------------------
-- plan_overrides
-- ----------------------------------------------------------------------------

create table public.plan_overrides (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade
    check (org_id <> kijko.platform_org_id()),
  meter text check (octet_length(meter) <= 63 and meter ~ '^[a-z][a-z0-9_]*$'),
  amount bigint check (amount >= 0),
  feature text references public.features (code) on delete cascade,
  included boolean,
  reason text not null check (char_length(reason) <= 500 and private.has_visible_text(reason)),
  ends_at timestamptz not null,
  ended_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (num_nonnulls(meter, feature) = 1),
  check ((feature is null) = (included is null)),
  check (meter is not null or amount is null)
);
create unique index plan_overrides_meter_idx on public.plan_overrides (org_id, meter) where ended_at is null;
create unique index plan_overrides_feature_idx on public.plan_overrides (org_id, feature) where ended_at is null;
create index plan_overrides_feature_fkey_idx on public.plan_overrides (feature);
create index plan_overrides_ends_idx on public.plan_overrides (ends_at) where ended_at is null;
comment on table public.plan_overrides is 'Exceptions from the plan of an organization: one limit or one feature each, with an end and a reason. Operators write them by service_role; the organization sees them.';
comment on column public.plan_overrides.id is 'Identity of the row.';
comment on column public.plan_overrides.org_id is 'Organization.';
comment on column public.plan_overrides.meter is 'The meter whose limit is another; null for a feature.';
comment on column public.plan_overrides.amount is 'The limit instead of the plan''s. Null is unlimited.';
comment on column public.plan_overrides.feature is 'The feature that is given or taken; null for a limit.';
comment on column public.plan_overrides.included is 'Whether the organization has the feature; null for a limit.';
comment on column public.plan_overrides.reason is 'Why. The organization reads it.';
comment on column public.plan_overrides.ends_at is 'When the plan applies again.';
comment on column public.plan_overrides.ended_at is 'When it ended; null while it applies. Set by maintenance at ends_at, or by hand.';
comment on column public.plan_overrides.created_by is 'User who made it; null for service_role.';
comment on column public.plan_overrides.created_by_key is 'API key that made it; null for service_role.';
comment on column public.plan_overrides.created_at is 'When it was made.';
comment on column public.plan_overrides.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.plan_overrides', resource => 'billing', writable => '{}', catalogue => '{
  "meter, amount, feature, included": "exception from the plan",
  "reason, ends_at, ended_at": "says why, and until when"
}');
grant insert, update, delete on public.plan_overrides to service_role;
