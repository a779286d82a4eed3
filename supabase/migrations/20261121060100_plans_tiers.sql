-- ============================================================================
-- Plans: the tiers of users, and the removal of deleted subjects of limits.
--
-- An organization's subject is its id. Every other subject is kijko.subject(kind, id),
-- so that an id of one kind cannot pass for another's.
--
-- A user's tier is the best plan among their organizations. Each of their requests
-- counts against its rate, whichever organization it names.
--   1. A change of memberships or of a plan queues the users whose tier may change.
--   2. At the end of the transaction a deferred trigger sets the tiers of all of them.
--      It locks their profiles by one statement, in the order of their ids. Locks taken
--      change by change would be in no order: two deletions of several organizations
--      with common members could deadlock.
-- ============================================================================

create function private.plans_push_user_tiers(users uuid[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
-- Planning in each call costs more than the statement, and finds no better plan.
set plan_cache_mode = force_generic_plan
as $$
begin
  -- Serializes changes of one user: the later one reads what the earlier one has committed.
  perform 1 from public.profiles as p where p.id = any (users) order by p.id for no key update;
  perform kijko.set_tier(kijko.subject('user', u.id), (
    select s.plan
    from public.memberships as m
    join public.subscriptions as s on s.org_id = m.org_id
    join public.plans as p on p.code = s.plan
    where m.user_id = u.id
    order by p.rank desc
    limit 1
  ))
  from unnest(users) as u (id);
end
$$;
comment on function private.plans_push_user_tiers(uuid[]) is 'Sets the tiers of users, each given once, by the plans of their organizations. Called by definer functions only.';

-- Unlogged: no row is left when its transaction commits.
create unlogged table private.plans_tier_changes (
  transaction_id xid8 not null default pg_current_xact_id(),
  user_ids uuid[] not null
);
create index plans_tier_changes_transaction_idx on private.plans_tier_changes (transaction_id);
comment on table private.plans_tier_changes is 'Users whose tier may change, until the end of the transaction that changes it. Empty for every other transaction.';
comment on column private.plans_tier_changes.transaction_id is 'Transaction.';
comment on column private.plans_tier_changes.user_ids is 'The users, with repetition.';
alter table private.plans_tier_changes enable row level security;
select private.describe_data('private.plans_tier_changes', '{
  "transaction_id, user_ids": {"purpose": "collects the users of a transaction", "erasure": "retention"}
}', 'platform');

create function private.plans_queue_user_tiers(users uuid[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if users <> '{}' then
    insert into private.plans_tier_changes (user_ids) values (users);
  end if;
end
$$;
comment on function private.plans_queue_user_tiers(uuid[]) is 'Has the tiers of users set at the end of the transaction. Called by definer functions only.';

create function private.plans_apply_tier_changes() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- The plan must not depend on how many deleted rows vacuum has left.
set enable_seqscan = off
set jit = off
as $$
declare
  users uuid[];
begin
  with taken as (
    delete from private.plans_tier_changes as c where c.transaction_id = pg_current_xact_id() returning c.user_ids
  )
  select array_agg(distinct u.id) into users from taken as t cross join lateral unnest(t.user_ids) as u (id);
  -- The trigger fires for each queued row, and the first call takes them all.
  if users is not null then
    perform private.plans_push_user_tiers(users);
  end if;
  return null;
end
$$;
comment on function private.plans_apply_tier_changes() is 'Trigger: sets the tiers of all users that the transaction has queued. Definer: the table is private.';
create constraint trigger plans_tier_changes_apply after insert on private.plans_tier_changes
  deferrable initially deferred
  for each row execute function private.plans_apply_tier_changes();

create function private.plans_sync_member_tiers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The transition table has the same name in both triggers: the inserted rows, or the deleted ones.
  perform private.plans_queue_user_tiers(array(select c.user_id from changed as c));
  return null;
end
$$;
comment on function private.plans_sync_member_tiers() is 'Trigger: the tiers of users follow their memberships. Definer: it reads rows that the caller may not see.';
-- The user of a membership never changes (memberships_identity), so updates need no trigger.
create trigger memberships_user_tiers_insert after insert on public.memberships
  referencing new table as changed for each statement execute function private.plans_sync_member_tiers();
create trigger memberships_user_tiers_delete after delete on public.memberships
  referencing old table as changed for each statement execute function private.plans_sync_member_tiers();

create function private.plans_sync_subscription_tiers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.plans_queue_user_tiers(array(select m.user_id from public.memberships as m where m.org_id = old.org_id));
  return null;
end
$$;
comment on function private.plans_sync_subscription_tiers() is 'Trigger: without a subscription an organization gives its members no tier. Definer: it reads rows that the caller may not see.';
-- A row that is made or gets another plan does the same (plans_entitlements.sql).
create trigger subscriptions_user_tiers after delete on public.subscriptions
  for each row execute function private.plans_sync_subscription_tiers();

create function private.plans_sync_all_tiers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.plans_queue_user_tiers(array(select m.user_id from public.memberships as m));
  return null;
end
$$;
comment on function private.plans_sync_all_tiers() is 'Trigger: reordering the plans changes the best plan of users. Definer: it reads rows that the caller may not see.';
create trigger plans_user_tiers after update of rank on public.plans
  for each statement execute function private.plans_sync_all_tiers();

-- ----------------------------------------------------------------------------
-- A deleted subject leaves no limits behind. Its use stays in the ledger, which is accounting and has no foreign keys.
-- ----------------------------------------------------------------------------

create function private.plans_delete_subject() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.delete_subject(kijko.subject(tg_argv[0], old.id));
  return null;
end
$$;
comment on function private.plans_delete_subject() is 'Trigger: deletes the limits, the tier and the other state of a deleted subject in the extension; the argument is its kind. Definer: only the domain may change limits.';
-- After the cascades, which still change gauges: triggers fire by name, and those of constraints sort first.
create trigger organizations_forget after delete on public.organizations
  for each row execute function private.plans_delete_subject('organization');
create trigger profiles_forget after delete on public.profiles
  for each row execute function private.plans_delete_subject('user');
