-- ============================================================================
-- Plans: trials. Each user and each way to pay has one.
--
-- Before checkout, private.plans_trial_allowed() says whether a trial can be offered. When it begins, private.plans_trial_begin()
-- records it, or says that somebody else was first. The plan itself follows from Stripe's subscription.
-- ============================================================================

create table private.plan_trials (
  id uuid primary key default gen_random_uuid(),
  organization uuid unique references public.organizations (id) on delete set null,
  fingerprint_hash bytea unique check (octet_length(fingerprint_hash) = 32),
  started_at timestamptz not null default kijko.now(),
  ends_at timestamptz not null,
  ended_at timestamptz,
  end_notice text check (end_notice in ('ending', 'ended')),
  check (ends_at > started_at)
);
create index plan_trials_ends_idx on private.plan_trials (ends_at) where ended_at is null;
create index plan_trials_started_idx on private.plan_trials (started_at);
comment on table private.plan_trials is 'Trials that have begun. A row outlives its organization, so that the same card has no second trial.';
comment on column private.plan_trials.id is 'Identity of the row.';
comment on column private.plan_trials.organization is 'The organization; null once it is deleted.';
comment on column private.plan_trials.fingerprint_hash is 'SHA-256 of the payment method''s fingerprint, which Stripe gives; null if there was none. Deleted after three years.';
comment on column private.plan_trials.started_at is 'When it began.';
comment on column private.plan_trials.ends_at is 'When it ends.';
comment on column private.plan_trials.ended_at is 'When it ended; null while it runs.';
comment on column private.plan_trials.end_notice is 'The last notice that the organization got: ending, three days before, or ended.';
select private.describe_data('private.plan_trials', '{
  "id, organization, started_at, ends_at, ended_at, end_notice": {"purpose": "one trial for each organization", "export": "none"},
  "fingerprint_hash": {"subject": "platform", "purpose": "one trial for each payment method, against abuse; kept without a name after the organization is deleted", "erasure": "retention"}
}');
alter table private.plan_trials enable row level security;

create table private.plan_trial_users (
  user_id uuid primary key references auth.users (id) on delete cascade,
  trial_id uuid not null references private.plan_trials (id) on delete cascade
);
create index plan_trial_users_trial_idx on private.plan_trial_users (trial_id);
comment on table private.plan_trial_users is 'Users who owned an organization when its trial began.';
comment on column private.plan_trial_users.user_id is 'The user.';
comment on column private.plan_trial_users.trial_id is 'Their trial.';
select private.describe_data('private.plan_trial_users', '{"user_id, trial_id": {"purpose": "one trial for each user", "export": "none"}}', 'person');
alter table private.plan_trial_users enable row level security;

create function private.plans_trial_allowed(org uuid, fingerprint text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from public.subscriptions as s where s.org_id = org and s.plan = 'FREE')
    and not exists (select from private.plan_trials as t where t.organization = org or t.fingerprint_hash = sha256(convert_to(fingerprint, 'UTF8')))
    and not exists (
      select from private.plan_trial_users as u
      join public.memberships as m on m.user_id = u.user_id and m.org_id = org and m.role = 'owner'
    );
end
$$;
comment on function private.plans_trial_allowed(uuid, text) is 'Whether an organization can have a trial: it is on FREE, and neither it, nor one of its owners, nor the payment method with this fingerprint (null if not yet known) has had one.';

create function private.plans_trial_begin(org uuid, fingerprint text, lasts interval default '14 days') returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  begun uuid;
begin
  if org is null or lasts is null or lasts <= interval '0' or lasts > interval '90 days' then
    perform kijko.fail('invalid_input', 'a trial needs an organization, and lasts 90 days at most');
  end if;
  -- Two organizations of one owner begin one after the other; so do two with one payment method.
  perform 1 from public.profiles as p
  where p.id in (select m.user_id from public.memberships as m where m.org_id = org and m.role = 'owner')
  order by p.id for no key update;
  if fingerprint is not null then
    perform pg_advisory_xact_lock(hashtextextended('plan_trials/' || fingerprint, 0));
  end if;
  if not private.plans_trial_allowed(org, fingerprint) then
    return false;
  end if;
  insert into private.plan_trials (organization, fingerprint_hash, ends_at)
  values (org, sha256(convert_to(fingerprint, 'UTF8')), kijko.now() + lasts)
  returning id into begun;
  insert into private.plan_trial_users (user_id, trial_id)
  select m.user_id, begun from public.memberships as m where m.org_id = org and m.role = 'owner'
  on conflict on constraint plan_trial_users_pkey do nothing;
  return true;
end
$$;
comment on function private.plans_trial_begin(uuid, text, interval) is 'Records that a trial begins, with all owners of the organization; false if it is not allowed, also if another one began in the meantime.';

create function private.plans_trial_identify(org uuid, fingerprint text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  hash constant bytea := sha256(convert_to(fingerprint, 'UTF8'));
begin
  if fingerprint is null then
    return true;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('plan_trials/' || fingerprint, 0));
  if exists (select from private.plan_trials as t where t.fingerprint_hash = hash and t.organization is distinct from org) then
    return false;
  end if;
  update private.plan_trials as t set fingerprint_hash = hash
  where t.organization = org and t.ended_at is null and t.fingerprint_hash is null;
  return true;
end
$$;
comment on function private.plans_trial_identify(uuid, text) is 'Records the payment method of a trial that began before it was known; false if another organization has had a trial with it.';

create function private.plans_trial_end(org uuid) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update private.plan_trials as t set ended_at = kijko.now() where t.organization = org and t.ended_at is null;
  return found;
end
$$;
comment on function private.plans_trial_end(uuid) is 'Records that a trial ended, by payment or cancellation. False if none runs.';

select private.set_retention('private.plan_trials', '3 years', 'one trial for each payment method');
select private.set_retention('private.plans_tier_changes', null, 'collects the users of a transaction', kept_by => 'the transaction: deleted at its end');

create function private.plans_maintain_trials(max_rows integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kept constant interval := private.retention_of('private.plan_trials');
  ended integer;
begin
  update private.plan_trials as t set ended_at = t.ends_at
  where t.id = any (array(
    select e.id from private.plan_trials as e
    where e.ended_at is null and e.ends_at <= kijko.now()
    order by e.ends_at limit max_rows for no key update skip locked
  ));
  get diagnostics ended = row_count;
  -- A running organization keeps its row: it has had its trial.
  update private.plan_trials as t set fingerprint_hash = null
  where t.fingerprint_hash is not null and t.started_at < kijko.now() - kept;
  delete from private.plan_trials as t
  where t.organization is null and t.fingerprint_hash is null
    and not exists (select from private.plan_trial_users as u where u.trial_id = t.id);
  return ended;
end
$$;
comment on function private.plans_maintain_trials(integer) is 'Ends trials whose time is over, at most max_rows, and returns how many. Deletes hashes of payment methods after their retention, and rows that say nothing about anybody any more.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-plans-trials', '*/10 * * * *', 'perform private.plans_maintain_trials()');
