-- ============================================================================
-- Billing: an organization pays once. Of its checkouts one is open at a time: the sidecar expires the others before it hands out a
-- new one, and the schedule does what a crash has left. If two are paid nevertheless, the second subscription is cancelled and
-- its payment goes back.
-- ============================================================================

create table private.billing_sessions (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  has_trial boolean not null,
  state text not null default 'open' check (state in ('open', 'complete', 'expired')),
  created_at timestamptz not null default clock_timestamp(),
  primary key (id, livemode)
);
create index billing_sessions_organization_idx on private.billing_sessions (organization_id, state);
create index billing_sessions_open_idx on private.billing_sessions (created_at) where state = 'open';
create index billing_sessions_complete_idx on private.billing_sessions (created_at) where state = 'complete';
comment on table private.billing_sessions is 'Checkouts that were handed out. Deleted after 90 days.';
comment on column private.billing_sessions.id is 'Stripe''s id of the session.';
comment on column private.billing_sessions.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_sessions.organization_id is 'Organization.';
comment on column private.billing_sessions.has_trial is 'Whether its subscription begins with a trial.';
comment on column private.billing_sessions.state is 'open, complete or expired.';
comment on column private.billing_sessions.created_at is 'When it was made, by the clock of the server.';
select private.describe_data('private.billing_sessions', '{
  "id, livemode, organization_id, has_trial, state": {"purpose": "an organization pays once", "export": "none"}
}', 'organization');
alter table private.billing_sessions enable row level security;

create function private.billing_record_session(org uuid, livemode boolean, session text, has_trial boolean) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  made timestamptz;
begin
  -- Two at once record one after the other, so that the second sees the first.
  perform from public.organizations as o where o.id = org for no key update;
  if not found then
    return null;
  end if;
  insert into private.billing_sessions (id, livemode, organization_id, has_trial)
  values (session, billing_record_session.livemode, org, billing_record_session.has_trial)
  on conflict (id, livemode) do nothing;
  select s.created_at into made from private.billing_sessions as s where s.id = session and s.livemode = billing_record_session.livemode;
  return (
    select coalesce(jsonb_agg(s.id order by s.created_at), '[]') from private.billing_sessions as s
    where s.organization_id = org and s.livemode = billing_record_session.livemode and s.state = 'open' and s.created_at < made
  );
end
$$;
comment on function private.billing_record_session(uuid, boolean, text, boolean) is 'Keeps a checkout before it is handed out, and returns the earlier ones that are still open: they are expired first. Null when the organization is gone. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_record_session(uuid, boolean, text, boolean) to kijko_sidecar;

create function private.billing_end_session(session text, livemode boolean, state text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update private.billing_sessions as s set state = billing_end_session.state
  where s.id = session and s.livemode = billing_end_session.livemode and s.state = 'open';
end
$$;
comment on function private.billing_end_session(text, boolean, text) is 'Records that a checkout was paid or has expired. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_end_session(text, boolean, text) to kijko_sidecar;

create function private.billing_settle_session(effect private.billing_effects, state text, http_status integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Stripe refuses to expire what was paid or has expired; which of them an event says.
  if state = 'done' or http_status = 404 then
    perform private.billing_end_session(effect.subject, effect.livemode, 'expired');
  end if;
end
$$;
comment on function private.billing_settle_session(private.billing_effects, text, integer) is 'Records that Stripe has expired a checkout.';

create function private.billing_expire_session(session private.billing_sessions) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return not private.billing_is_recent('session_expiry', session.id, '{}')
    and private.billing_send(
      'session_expiry', session.id, session.organization_id, 'POST', format('/v1/checkout/sessions/%s/expire', session.id), '{}'
    ) is not null;
end
$$;
comment on function private.billing_expire_session(private.billing_sessions) is 'Asks Stripe to expire a checkout. False if that was asked for in the last 10 minutes.';

create function private.billing_expire_sessions(max_sessions integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  session private.billing_sessions;
  n integer := 0;
begin
  -- Stripe ends a session after a day, and its event may be lost.
  update private.billing_sessions as s set state = 'expired'
  where s.state = 'open' and s.created_at < clock_timestamp() - interval '25 hours';
  for session in
    select s.* from private.billing_sessions as s
    join private.billing_account as a on a.livemode = s.livemode
    where s.state = 'open'
      and (
        -- The sidecar that made a newer one has been killed before it expired this one.
        exists (
          select from private.billing_sessions as o
          where o.organization_id = s.organization_id and o.livemode = s.livemode and o.state = 'open' and o.created_at > s.created_at
        )
        or (private.billing_subscription(s.organization_id)).id is not null
        or (s.has_trial and not private.plans_trial_allowed(s.organization_id, null))
      )
    order by s.created_at limit max_sessions
  loop
    n := n + private.billing_expire_session(session)::integer;
  end loop;
  return n;
end
$$;
comment on function private.billing_expire_sessions(integer) is 'Asks Stripe to expire open checkouts that must not be paid any more: there is a newer one, a subscription runs, or the trial that it offers is taken. Returns how many.';

create function private.billing_after_checkout() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  other private.billing_sessions;
begin
  perform private.billing_end_session(new.id, new.livemode, new.status);
  if new.status = 'complete' and new.mode = 'subscription' then
    for other in
      select s.* from private.billing_sessions as s join private.billing_account as a on a.livemode = s.livemode
      where s.organization_id = new.org_id and s.livemode = new.livemode and s.state = 'open'
    loop
      perform private.billing_expire_session(other);
    end loop;
  end if;
  return null;
end
$$;
comment on function private.billing_after_checkout() is 'Trigger: a checkout that is paid expires the others of its organization. Definer: the sidecar has no rights on the tables.';
create trigger stripe_checkouts_sessions_insert after insert on public.stripe_checkouts
  for each row when (new.status in ('complete', 'expired')) execute function private.billing_after_checkout();
create trigger stripe_checkouts_sessions_update after update on public.stripe_checkouts
  for each row when (new.status in ('complete', 'expired') and (old.status, old.org_id) is distinct from (new.status, new.org_id))
  execute function private.billing_after_checkout();

-- ----------------------------------------------------------------------------
-- Two that were paid
-- ----------------------------------------------------------------------------

create function private.billing_cancel_duplicates(max_sessions integer default 200) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  second record;
  n integer := 0;
begin
  -- Only what was bought here: what an operator has set up beside a plan stays, and reconcile reports it.
  for second in
    select k.subscription_id as id, s.organization_id, k.livemode
    from private.billing_sessions as s
    join private.billing_account as a on a.livemode = s.livemode
    join public.stripe_checkouts as k on k.id = s.id and k.livemode = s.livemode
    join private.stripe_entitlements as e on e.id = k.subscription_id and e.livemode = k.livemode
    where s.state = 'complete' and s.created_at > clock_timestamp() - interval '35 days' and e.running and e.org_id = s.organization_id
      -- The one that gives the plan stays, or else the earlier one; of one second, one that was not bought here, as nothing cancels it.
      and exists (
        select from private.stripe_entitlements as first
        where first.org_id = e.org_id and first.livemode = e.livemode and first.running and first.id <> e.id
          and (not first.live, first.created_at, exists (
            select from public.stripe_checkouts as fk
            join private.billing_sessions as fs on fs.id = fk.id and fs.livemode = fk.livemode
            where fk.subscription_id = first.id and fk.livemode = first.livemode and fs.state = 'complete'
          ), first.id collate "C") < (not e.live, e.created_at, true, e.id collate "C")
      )
    order by s.created_at limit max_sessions
  loop
    continue when private.billing_is_recent('duplicate', second.id, '{}');
    perform private.billing_send('duplicate', second.id, second.organization_id, 'DELETE', '/v1/subscriptions/' || second.id, '{}');
    perform private.notifications_send(second.organization_id, null, 'billing.duplicate_cancelled', '{}', 'billing.duplicate_cancelled:' || second.id);
    n := n + 1;
  end loop;
  return n + private.billing_refund_duplicates(max_sessions);
end
$$;
comment on function private.billing_cancel_duplicates(integer) is 'Cancels the second of two running subscriptions that were both bought by checkout, and pays it back. Returns how many requests that made.';

create function private.billing_refund_duplicates(max_invoices integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  paid record;
  n integer := 0;
begin
  -- A payment may arrive days after its subscription was cancelled. A second credit note of an invoice Stripe refuses.
  for paid in
    select i.id, i.amount_paid, e.organization_id
    from private.billing_effects as e
    join public.stripe_invoices as i on i.subscription_id = e.subject and i.livemode = e.livemode
    where e.kind = 'duplicate' and e.created_at > clock_timestamp() - interval '35 days' and i.status = 'paid' and i.amount_paid > 0
      and not exists (
        select from private.billing_effects as c
        where c.kind = 'credit_note' and c.subject = i.id and (c.state in ('open', 'done') or c.ended_at > clock_timestamp() - interval '1 hour')
      )
    order by i.id limit max_invoices
  loop
    n := n + (private.billing_send('credit_note', paid.id, paid.organization_id, 'POST', '/v1/credit_notes', jsonb_build_object(
      'invoice', paid.id, 'amount', paid.amount_paid, 'refund_amount', paid.amount_paid, 'reason', 'duplicate',
      'memo', 'A second subscription of the same organization was cancelled.'
    )) is not null)::integer;
  end loop;
  return n;
end
$$;
comment on function private.billing_refund_duplicates(integer) is 'Pays back what was paid for subscriptions that were cancelled as a second one, by credit notes. Returns how many.';

select private.set_retention('private.billing_sessions', '90 days', 'finding out what a checkout led to');

create function private.billing_purge_sessions(max_rows integer default 10000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  n integer;
begin
  delete from private.billing_sessions as s
  where (s.id, s.livemode) in (
    select o.id, o.livemode from private.billing_sessions as o
    where o.created_at < clock_timestamp() - private.retention_of('private.billing_sessions') and o.state <> 'open' order by o.created_at limit max_rows
  );
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function private.billing_purge_sessions(integer) is 'Deletes checkouts that are older than their retention, at most max_rows, and returns how many.';
