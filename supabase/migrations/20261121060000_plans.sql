-- ============================================================================
-- Plans: what an organization pays for, and the limits that follow from it.
--
--   1. plans and plan_limits are the catalogue. It is filled here because sign-up needs it.
--   2. Each organization has one row in subscriptions, which names its plan.
--   3. A change of plan (plans_entitlements.sql) or of the catalogue sets the limits in the
--      extension, in the same transaction. Usage is in the extension's ledger; no change
--      resets it.
--   4. plans_tiers.sql gives each user the rate of their best plan, and
--      plans_organizations.sql limits how many organizations they create.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- plans
-- ----------------------------------------------------------------------------

create table public.plans (
  code text primary key check (octet_length(code) <= 32 and code ~ '^[A-Z][A-Z0-9_]*$'),
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  rank smallint not null unique,
  rate_per_minute integer not null check (rate_per_minute > 0),
  max_organizations integer check (max_organizations > 0),
  -- PostgREST gives up a request that waits ten seconds for a connection.
  statement_seconds smallint not null default 3 check (statement_seconds between 1 and 10),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.plans is 'Catalogue of plans. It is public and the same for all organizations.';
comment on column public.plans.code is 'Stable name, used by subscriptions and by the lookup keys of prices.';
comment on column public.plans.name is 'Name that customers see.';
comment on column public.plans.rank is 'Order of the plans. A higher rank offers more.';
comment on column public.plans.rate_per_minute is 'Requests per minute of an organization.';
comment on column public.plans.max_organizations is 'How many organizations a user may create. The highest number among FREE and the plans of the organizations that they own counts. Null is unlimited.';
comment on column public.plans.statement_seconds is 'Statement timeout of a request. A longer statement is cancelled (57014).';
comment on column public.plans.created_at is 'When the plan was created.';
comment on column public.plans.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.plans', '{
  "code, name, rank, rate_per_minute, max_organizations, statement_seconds": "what a plan offers"
}', 'platform');

alter table public.plans enable row level security;
grant select on public.plans to anon, authenticated;
grant select, insert, update, delete on public.plans to service_role;
create policy plans_select on public.plans for select to anon, authenticated using (true);
create trigger plans_touch before update on public.plans
  for each row execute function private.touch_updated_at();

-- The rate of a plan is two rate limit policies of its tier: one counts by organization, one by user. The tier of a user is
-- their best plan. The rate of FREE also applies to requests without a plan.
create function private.plans_push_rate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    perform kijko.drop_rate_limit_policy('requests', old.code), kijko.drop_rate_limit_policy('user_requests', old.code);
    return null;
  end if;
  perform kijko.set_rate_limit_policy(r.name, r.scope, new.rate_per_minute, interval '1 minute', r.tier)
  from (values
    ('requests', 'organization', new.code), ('user_requests', 'user', new.code),
    ('requests', 'organization', '*'), ('user_requests', 'user', '*'), ('requests', 'address', 'anonymous')
  ) as r (name, scope, tier)
  where r.tier = new.code or new.code = 'FREE';
  return null;
end
$$;
comment on function private.plans_push_rate() is 'Trigger: sets the rate limits of a plan, from the next request on. Definer: only the domain may set rate limits.';
create trigger plans_push_rate after insert or delete or update of rate_per_minute on public.plans
  for each row execute function private.plans_push_rate();

create function private.plans_push_statement_timeout() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    perform kijko.set_statement_timeout(old.code, null);
    return null;
  end if;
  perform kijko.set_statement_timeout(t.tier, make_interval(secs => new.statement_seconds))
  from unnest(array[new.code] || case new.code when 'FREE' then array['*', 'user', 'anonymous'] end) as t (tier);
  return null;
end
$$;
comment on function private.plans_push_statement_timeout() is 'Trigger: sets the statement timeout of a plan, from the next request on. That of FREE also applies to requests without a plan. Definer: only the domain may set timeouts.';
create trigger plans_push_statement_timeout after insert or delete or update of statement_seconds on public.plans
  for each row execute function private.plans_push_statement_timeout();

insert into public.plans (code, name, rank, rate_per_minute, statement_seconds, max_organizations) values
  ('FREE', 'Free', 10, 600, 3, 3),
  ('PRO', 'Pro', 20, 3000, 5, 10),
  ('TEAMS', 'Teams', 30, 12000, 8, 50),
  ('ENTERPRISE', 'Enterprise', 40, 60000, 10, null);

-- ----------------------------------------------------------------------------
-- plan_limits
-- ----------------------------------------------------------------------------

create table public.plan_limits (
  plan text not null references public.plans (code) on delete cascade,
  meter text not null check (octet_length(meter) <= 63 and meter ~ '^[a-z][a-z0-9_]*$'),
  period text not null check (period in ('month', 'day', 'lifetime')),
  amount bigint check (amount >= 0),
  overage_policy text not null default 'refuse' check (overage_policy in ('refuse', 'flag', 'bill')),
  primary key (plan, meter)
);
comment on table public.plan_limits is 'Limits of each plan by meter. They are public. A change applies to every organization on the plan at once.';
comment on column public.plan_limits.plan is 'Plan.';
comment on column public.plan_limits.meter is 'What is counted: the name that kijko.consume takes.';
comment on column public.plan_limits.period is 'After which time the count starts again.';
comment on column public.plan_limits.amount is 'Included amount. Null is unlimited.';
comment on column public.plan_limits.overage_policy is 'Policy beyond the limit: refuse, flag (record and report) or bill. Model use is reserved before each call, so refuse stops a call that does not fit; actual use is always recorded. With flag, a call may exceed the limit.';
select private.describe_data('public.plan_limits', '{
  "plan, meter, period, amount, overage_policy": "what a plan includes"
}', 'platform');

alter table public.plan_limits enable row level security;
grant select on public.plan_limits to anon, authenticated;
grant select, insert, update, delete on public.plan_limits to service_role;
create policy plan_limits_select on public.plan_limits for select to anon, authenticated using (true);

-- One line for each meter, with the amount that each plan includes. Null is unlimited.
insert into public.plan_limits (plan, meter, period, amount)
select included.plan, line.meter, line.period, included.amount
from (
  values
    ('api_requests', 'month', 100000, 5000000, 50000000),
    ('executions', 'month', 50, 2000, 20000),
    ('llm_tokens', 'month', 100000, 5000000, 50000000),
    ('llm_cost_microusd', 'month', 500000, 50000000, 500000000),
    ('publish_cost_microusd', 'month', 500000, 20000000, 200000000),
    ('events', 'month', 100000, 5000000, 50000000),
    ('code_searches', 'month', 1000, 50000, 1000000),
    -- Gauges count what exists now. The tables of some of them do not exist yet.
    ('projects', 'lifetime', 3, 25, 100),
    ('members', 'lifetime', 3, 5, 50),
    ('habits', 'lifetime', 3, 50, 500),
    ('skills', 'lifetime', 25, 500, 5000),
    ('reflexes', 'lifetime', 3, 50, 500),
    ('repositories', 'lifetime', 1, 10, 100),
    ('storage_bytes', 'lifetime', 104857600, 10737418240, 107374182400),
    ('api_keys', 'lifetime', 3, 50, 500),
    ('webhook_endpoints', 'lifetime', 1, 10, 50),
    ('usage_meters', 'lifetime', 10, 50, 200)
) as line (meter, period, free, pro, teams)
cross join lateral (
  values ('FREE', line.free), ('PRO', line.pro), ('TEAMS', line.teams), ('ENTERPRISE', null)
) as included (plan, amount);

-- ----------------------------------------------------------------------------
-- subscriptions
-- ----------------------------------------------------------------------------

-- Postgres reads and plans a check constraint anew in every statement that writes the table. A function in plpgsql keeps its plan, and
-- is not inlined.
create function private.plans_is_subscription_row(
  org_id uuid, plan text, plan_override text, current_period_start timestamptz, current_period_end timestamptz
) returns boolean
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return org_id <> kijko.platform_org_id() and plan_override = plan and current_period_end > current_period_start;
end
$$;
comment on function private.plans_is_subscription_row(uuid, text, text, timestamptz, timestamptz) is 'The check of subscriptions: not of the platform, an override is the plan, and a period ends after its start. Null, which a check accepts, where there is no override or end. Nullable: result.';
-- A check is evaluated as the role that writes the row.
grant execute on function private.plans_is_subscription_row(uuid, text, text, timestamptz, timestamptz) to service_role;

create table public.subscriptions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() unique references public.organizations (id) on delete cascade,
  plan text not null default 'FREE' references public.plans (code),
  -- Without a foreign key: plan has one, and a second would make the embedding of plans ambiguous.
  plan_override text,
  status text not null default 'active' check (status in ('active', 'trialing', 'past_due', 'unpaid', 'canceled')),
  current_period_start timestamptz not null default kijko.now(),
  current_period_end timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (private.plans_is_subscription_row(org_id, plan, plan_override, current_period_start, current_period_end))
);
create index subscriptions_plan_idx on public.subscriptions (plan);
create index subscriptions_created_by_idx on public.subscriptions (created_by);

comment on table public.subscriptions is 'The plan of each organization: one row each, FREE at first. Written by service_role. Limits follow by trigger.';
comment on column public.subscriptions.id is 'Identity of the row.';
comment on column public.subscriptions.org_id is 'Organization.';
comment on column public.subscriptions.plan is 'Current plan.';
comment on column public.subscriptions.plan_override is 'Plan that applies regardless of payment, for example for a partner. No Stripe event changes it. Null: Stripe decides.';
comment on column public.subscriptions.status is 'Status of the payment.';
comment on column public.subscriptions.current_period_start is 'Start of the paid period.';
comment on column public.subscriptions.current_period_end is 'End of the paid period. Null if there is none, as on FREE.';
comment on column public.subscriptions.created_by is 'User who created the organization. Null if the system created it.';
comment on column public.subscriptions.created_at is 'When it was made.';
comment on column public.subscriptions.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.subscriptions', '{
  "plan, plan_override": "limits of the organization",
  "status, current_period_start, current_period_end": "shows members how their subscription stands"
}');

alter table public.subscriptions enable row level security;
grant select on public.subscriptions to authenticated;
grant select, insert, update, delete on public.subscriptions to service_role;
create policy subscriptions_select on public.subscriptions for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));

create trigger subscriptions_touch before update on public.subscriptions
  for each row execute function private.touch_updated_at();
create trigger subscriptions_identity before update of id, org_id, created_by on public.subscriptions
  for each row when (
    old.id is distinct from new.id
    or old.org_id is distinct from new.org_id
    or (new.created_by is not null and old.created_by is distinct from new.created_by)
  ) execute function private.refuse_identity_change();

create function private.plans_keep_override() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.plan := new.plan_override;
  return new;
end
$$;
comment on function private.plans_keep_override() is 'Trigger: while plan_override is set, it is the plan, whatever a statement writes.';
create trigger subscriptions_override before insert or update of plan, plan_override on public.subscriptions
  for each row when (new.plan_override is not null)
  execute function private.plans_keep_override();

-- ----------------------------------------------------------------------------
-- From the catalogue to limits
-- ----------------------------------------------------------------------------

create function private.plans_push_limit_change() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  l public.plan_limits := new;
begin
  if tg_op = 'DELETE' then
    l := old;
    l.amount := null;
  end if;
  perform kijko.set_limits(array_agg(s.org_id), array_agg(l.meter), array_agg(l.period), array_agg(l.amount), array_agg(l.overage_policy))
  from public.subscriptions as s
  where s.plan = l.plan
  having count(*) > 0;
  return null;
end
$$;
comment on function private.plans_push_limit_change() is 'Trigger: applies a change of the catalogue to every organization on the plan. Definer: only the domain may set limits.';
create trigger plan_limits_push after insert or update or delete on public.plan_limits
  for each row execute function private.plans_push_limit_change();

create function private.plans_start_subscription() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.subscriptions (org_id, plan, created_by) values (new.id, 'FREE', new.created_by);
  return null;
end
$$;
comment on function private.plans_start_subscription() is 'Trigger: a new organization gets a FREE subscription and its limits in the same transaction. Definer: users may not write subscriptions.';
create trigger organizations_subscription after insert on public.organizations
  for each row execute function private.plans_start_subscription();

-- ----------------------------------------------------------------------------
-- The gauge of members. Later tables get theirs from private.make_tenant_table().
-- ----------------------------------------------------------------------------

create trigger memberships_gauge_insert after insert on public.memberships
  referencing new table as changed for each statement execute function private.sync_gauge('members');
create trigger memberships_gauge_delete after delete on public.memberships
  referencing old table as changed for each statement execute function private.sync_gauge('members');
