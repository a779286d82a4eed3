-- ============================================================================
-- Plans: what a tenant pays for, and the limits that follow from it.
--
-- The catalogue (plans, plan_limits) is seeded here because sign-up needs it. A
-- subscription points at a plan; a change of plan pushes that plan's limits to the
-- extension in the same transaction. Usage lives in the extension's ledger and is
-- never reset by a change.
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
  -- Above ten seconds, requests that wait for one of PostgREST's connections would be given up.
  statement_seconds smallint not null default 3 check (statement_seconds between 1 and 10),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.plans is 'Catalogue of plans; the same for every tenant, and public.';
comment on column public.plans.code is 'Stable name used by subscriptions and by price lookup keys.';
comment on column public.plans.name is 'Shown to customers.';
comment on column public.plans.rank is 'Order of the plans: a higher one offers more.';
comment on column public.plans.rate_per_minute is 'Requests an organization may make in a minute.';
comment on column public.plans.max_organizations is 'How many organizations a user may create when this is the best plan among those they own; null is unlimited.';
comment on column public.plans.statement_seconds is 'How long the statement of one request may take; what takes longer is cancelled (57014).';
comment on column public.plans.created_at is 'When the plan was added.';
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

-- A plan's rate is two policies of its tier: one counts by organization, one by user. A user's tier is their best plan. FREE's
-- rate also holds for requests without a plan.
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
comment on function private.plans_push_rate() is 'Trigger: a plan''s rate counts from the next request on. Definer: only the domain may set rate limits.';
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
comment on function private.plans_push_statement_timeout() is 'Trigger: a plan''s statement time applies from the next request on; FREE''s also to requests without a plan. Definer: only the domain may set timeouts.';
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
  over text not null default 'refuse' check (over in ('refuse', 'flag', 'bill')),
  primary key (plan, meter)
);
comment on table public.plan_limits is 'Limits of each plan by meter, public; a change reaches every organization on the plan at once.';
comment on column public.plan_limits.plan is 'Plan.';
comment on column public.plan_limits.meter is 'What is counted; the name that kijko.consume takes.';
comment on column public.plan_limits.period is 'When counting starts anew.';
comment on column public.plan_limits.amount is 'How much is included; null is unlimited.';
comment on column public.plan_limits.over is 'Policy beyond the limit: refuse, flag (record and report) or bill. Model use is reserved before each call, so refuse stops a call that does not fit; actual use is always recorded. With flag, a call may exceed the limit.';
select private.describe_data('public.plan_limits', '{
  "plan, meter, period, amount, over": "what a plan includes"
}', 'platform');

alter table public.plan_limits enable row level security;
grant select on public.plan_limits to anon, authenticated;
grant select, insert, update, delete on public.plan_limits to service_role;
create policy plan_limits_select on public.plan_limits for select to anon, authenticated using (true);

-- A line for each meter, with what each plan includes of it; null is unlimited.
insert into public.plan_limits (plan, meter, period, amount)
select included.plan, line.meter, line.period, included.amount
from (
  values
    ('api_requests', 'month', 100000, 5000000, 50000000),
    ('executions', 'month', 50, 2000, 20000),
    ('llm_tokens', 'month', 100000, 5000000, 50000000),
    ('llm_cost_microusd', 'month', 500000, 50000000, 500000000),
    ('events', 'month', 100000, 5000000, 50000000),
    ('code_searches', 'month', 1000, 50000, 1000000),
    -- Gauges: what exists at a time, counted by triggers. Those whose tables come later are known to the catalogue.
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

create table public.subscriptions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() unique references public.organizations (id) on delete cascade,
  plan text not null default 'FREE' references public.plans (code),
  -- No foreign key of its own: plan has one, and a second would leave the embedding of plans two meanings.
  plan_override text check (plan_override = plan),
  status text not null default 'active' check (status in ('active', 'trialing', 'past_due', 'unpaid', 'canceled')),
  current_period_start timestamptz not null default kijko.now(),
  current_period_end timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (current_period_end > current_period_start)
);
create index subscriptions_plan_idx on public.subscriptions (plan);
create index subscriptions_created_by_idx on public.subscriptions (created_by);

comment on table public.subscriptions is 'The plan of each organization: exactly one row each, FREE from the start. Written by service_role; limits follow the plan by trigger.';
comment on column public.subscriptions.id is 'Identity of the row.';
comment on column public.subscriptions.org_id is 'Organization.';
comment on column public.subscriptions.plan is 'Current plan.';
comment on column public.subscriptions.plan_override is 'Plan that holds regardless of payment, for example for a partner; no Stripe event changes it. Null: Stripe decides.';
comment on column public.subscriptions.status is 'Standing of the payment.';
comment on column public.subscriptions.current_period_start is 'Start of the paid period.';
comment on column public.subscriptions.current_period_end is 'End of the paid period; null while there is none, as on FREE.';
comment on column public.subscriptions.created_by is 'Who caused it, null when made by the system.';
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
comment on function private.plans_keep_override() is 'Trigger: while plan_override is set, it is the plan; no other writer changes it.';
create trigger subscriptions_override before insert or update of plan, plan_override on public.subscriptions
  for each row when (new.plan_override is not null)
  execute function private.plans_keep_override();

-- ----------------------------------------------------------------------------
-- From plan to limits
-- ----------------------------------------------------------------------------

create function private.plans_push_limits() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- Planning anew costs more than the statement, and a better plan cannot be found.
set plan_cache_mode = force_generic_plan
as $$
begin
  perform kijko.set_tier(new.org_id, new.plan);
  perform kijko.set_limits(array_agg(new.org_id), array_agg(l.meter), array_agg(l.period), array_agg(l.amount), array_agg(l.over))
  from (
    select p.meter, p.period, p.amount, p.over from public.plan_limits as p where p.plan = new.plan
    union all
    -- A meter that only the former plan limits must not keep its old figure. (There is no former plan on insert.)
    select p.meter, p.period, null, p.over
    from public.plan_limits as p
    where p.plan = old.plan and not exists (select 1 from public.plan_limits as n where n.plan = new.plan and n.meter = p.meter)
  ) as l
  having count(*) > 0;
  return null;
end
$$;
comment on function private.plans_push_limits() is 'Trigger: limits follow the plan in the same transaction; usage stays. Definer: only the domain may set limits.';
create trigger subscriptions_limits_insert after insert on public.subscriptions
  for each row execute function private.plans_push_limits();
create trigger subscriptions_limits_update after update of plan, plan_override on public.subscriptions
  for each row when (old.plan is distinct from new.plan)
  execute function private.plans_push_limits();

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
  perform kijko.set_limits(array_agg(s.org_id), array_agg(l.meter), array_agg(l.period), array_agg(l.amount), array_agg(l.over))
  from public.subscriptions as s
  where s.plan = l.plan
  having count(*) > 0;
  return null;
end
$$;
comment on function private.plans_push_limit_change() is 'Trigger: a change in the catalogue reaches every organization on the plan. Definer: only the domain may set limits.';
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
comment on function private.plans_start_subscription() is 'Trigger: every organization starts on FREE, and so has limits from its first moment. Definer: nobody may write subscriptions.';
create trigger organizations_subscription after insert on public.organizations
  for each row execute function private.plans_start_subscription();

-- ----------------------------------------------------------------------------
-- Gauges: how many of something an organization has. The tables are the truth; the extension's gauge follows them in
-- the same transaction, once for each statement and organization.
-- ----------------------------------------------------------------------------

create function private.plans_sync_gauge() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  -- The transition table has one name in both triggers: the rows that came, or those that went.
  sign integer := case tg_op when 'INSERT' then 1 else -1 end;
begin
  perform kijko.adjust_gauge(c.org_id, tg_argv[0], sign * c.rows)
  from (select r.org_id, count(*) as rows from changed as r group by r.org_id) as c;
  return null;
end
$$;
comment on function private.plans_sync_gauge() is 'Trigger: the gauge named by its argument follows the rows of a table. A row too many fails with quota_exceeded. Definer: only the domain may move gauges.';
create trigger memberships_gauge_insert after insert on public.memberships
  referencing new table as changed for each statement execute function private.plans_sync_gauge('members');
create trigger memberships_gauge_delete after delete on public.memberships
  referencing old table as changed for each statement execute function private.plans_sync_gauge('members');

-- ----------------------------------------------------------------------------
-- The best plan among the organizations that a user owns limits how many they may create. An organization counts for its
-- creator until it is deleted, even if others own it by then; the personal one does not count. Each organization has monthly
-- quotas of its own, so the number created in a month is limited, too.
-- ----------------------------------------------------------------------------

create table private.plans_organizations_created (
  user_id uuid primary key references auth.users (id) on delete cascade,
  month date not null,
  created integer not null check (created > 0)
);
comment on table private.plans_organizations_created is 'How many organizations each user created in the last month in which they created one. Its row also serializes concurrent calls of one user.';
comment on column private.plans_organizations_created.user_id is 'The user.';
comment on column private.plans_organizations_created.month is 'First day of the month, in UTC.';
comment on column private.plans_organizations_created.created is 'How many they created in that month, including deleted ones.';
select private.describe_data('private.plans_organizations_created', '{
  "user_id, month, created": "limits how many organizations a user creates"
}', 'person');

alter table private.plans_organizations_created enable row level security;

create function private.plans_max_organizations(owner uuid) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select p.max_organizations
    from public.plans as p
    where p.code = 'FREE' or p.code in (
      select s.plan
      from public.memberships as m
      join public.subscriptions as s on s.org_id = m.org_id
      where m.user_id = owner and m.role = 'owner'
    )
    order by p.max_organizations desc nulls first
    limit 1
  );
end
$$;
comment on function private.plans_max_organizations(uuid) is 'How many organizations the user may create, by the best plan among those that they own; null is unlimited.';

create function private.plans_limit_organizations() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  created_this_month integer;
  max_created integer;
begin
  insert into private.plans_organizations_created as o (user_id, month, created)
  values (new.created_by, date_trunc('month', kijko.now(), 'UTC') at time zone 'UTC', 1)
  on conflict (user_id) do update
    set month = excluded.month, created = case o.month when excluded.month then o.created else 0 end + 1
  returning o.created into created_this_month;
  -- This user's concurrent calls now wait; the next statement sees what earlier ones created.
  max_created := private.plans_max_organizations(new.created_by);
  if (select count(*) from public.organizations as o where o.created_by = new.created_by and o.personal_for is null) >= max_created then
    perform kijko.fail('quota_exceeded', format('you have created %s organizations', max_created), 'Delete one of them, or choose a higher plan for one that you own.');
  elsif created_this_month > 2 * max_created then
    perform kijko.fail('quota_exceeded', format('you have created %s organizations this month', 2 * max_created), 'Wait for the next month, or choose a higher plan for one that you own.');
  end if;
  return new;
end
$$;
comment on function private.plans_limit_organizations() is 'Trigger: a user creates no more organizations than the best plan among those that they own allows. Definer: it counts rows that the user may not read.';
create trigger organizations_limit before insert on public.organizations
  for each row when (new.personal_for is null and new.created_by = (kijko.user_id()))
  execute function private.plans_limit_organizations();

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.usage_summary()
returns table (meter text, period text, used bigint, "limit" bigint, remaining bigint, reset_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select u.meter, u.period, u.used, u."limit", u.remaining, u.reset_at
  from kijko.usage(private.tenancy_require_org_with('usage:read')) as u
  order by u.meter;
end
$$;
comment on function public.usage_summary() is 'What the organization of the request has used of each meter. Needs usage:read. Nullable: limit, remaining, reset_at. Definer: only the domain may read the ledger.';
grant execute on function public.usage_summary() to authenticated;

-- ----------------------------------------------------------------------------
-- Upkeep of the ledger
-- ----------------------------------------------------------------------------

-- Sums the ledger's tail, makes its partitions ahead and frees what crashed holders kept; without it a counter that is
-- read anew has ever more rows to sum. cron.schedule replaces the entry of the same name, so a replay is harmless.
select cron.schedule('kijko-maintain-usage', '* * * * *', 'select kijko.maintain_usage()');
