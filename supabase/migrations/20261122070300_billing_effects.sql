-- ============================================================================
-- Billing: requests to Stripe that nobody waits for. They go by the outbox, so a crash loses none, and one about a thing that is
-- being deleted survives it. Of one kind and subject only one is open at a time: the next is made from what is true then.
-- ============================================================================

create table private.billing_effects (
  id uuid primary key default gen_random_uuid(),
  kind text not null check (kind in (
    'seats', 'cancel', 'meter_event', 'meter_check', 'invoice_item', 'invoice_item_check',
    'customer', 'customer_erasure', 'tax_id', 'tax_id_removal', 'tax_rate', 'tax', 'session_expiry', 'trial_end', 'duplicate', 'credit_note', 'vat_credit', 'vat_credit_check', 'invoice', 'comparison'
  )),
  subject text not null check (octet_length(subject) <= 300),
  -- Without a foreign key: an organization that is deleted still cancels.
  organization_id uuid not null,
  livemode boolean not null,
  request_id uuid not null,
  details jsonb not null default '{}',
  state text not null default 'open' check (state in ('open', 'done', 'failed', 'unknown')),
  http_status integer,
  error text check (char_length(error) <= 2000),
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  check ((state = 'open') = (ended_at is null))
);
create unique index billing_effects_open_key on private.billing_effects (kind, subject) where state = 'open';
create index billing_effects_subject_idx on private.billing_effects (kind, subject, ended_at desc);
create index billing_effects_created_at_idx on private.billing_effects (created_at);
comment on table private.billing_effects is 'Requests to Stripe that go by the outbox. Times are those of the real clock. Kept for 90 days, while they are open, and until the credit of VAT that they belong to is settled.';
comment on column private.billing_effects.id is 'Identity of the row.';
comment on column private.billing_effects.kind is 'What was asked for: docs/operations/billing.md has the list.';
comment on column private.billing_effects.subject is 'What it is about: a subscription, or a report. One of a kind and subject is open at a time.';
comment on column private.billing_effects.organization_id is 'Organization. It may be gone.';
comment on column private.billing_effects.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_effects.request_id is 'Request of the outbox; also Stripe''s idempotency key.';
comment on column private.billing_effects.details is 'What was asked for.';
comment on column private.billing_effects.state is 'open, done, failed (Stripe refused), or unknown (no answer in 20 hours, after which Stripe may forget that it did it; or none will come).';
comment on column private.billing_effects.http_status is 'Status of Stripe''s last answer.';
comment on column private.billing_effects.error is 'Stripe''s words, or those of the outbox.';
comment on column private.billing_effects.created_at is 'When it was queued.';
comment on column private.billing_effects.ended_at is 'When it ended.';
select private.describe_data('private.billing_effects', '{
  "kind, subject, organization_id, livemode, request_id, details": {"purpose": "what Stripe was asked for", "export": "none", "erasure": "retention"},
  "state, http_status, error, ended_at": {"subject": "platform", "purpose": "what became of a request to Stripe", "export": "none", "erasure": "retention"}
}', 'organization');
alter table private.billing_effects enable row level security;

create function private.billing_form(parameters jsonb, prefix text default '') returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  case jsonb_typeof(parameters)
    when 'object' then
      return (
        select string_agg(private.billing_form(e.value, case prefix when '' then e.key else prefix || '[' || e.key || ']' end), '&' order by e.key)
        from jsonb_each(parameters) as e where e.value <> 'null'
      );
    when 'array' then
      return (
        select string_agg(private.billing_form(e.value, prefix || '[' || e.place - 1 || ']'), '&' order by e.place)
        from jsonb_array_elements(parameters) with ordinality as e (value, place)
      );
    else
      return auth_api.url_encode(prefix) || '=' || auth_api.url_encode(parameters #>> '{}');
  end case;
end
$$;
comment on function private.billing_form(jsonb, text) is 'Parameters as Stripe takes them in a form or query: items[0][price]=… Null for none. Nullable: result.';

create function private.billing_send(kind text, subject text, org uuid, method text, path text, parameters jsonb, details jsonb default '{}') returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  account private.billing_account;
  form constant text := private.billing_form(parameters);
  request uuid;
  made uuid;
begin
  select a.* into account from private.billing_account as a;
  if not found or exists (
    select from private.billing_effects as e where e.kind = billing_send.kind and e.subject = billing_send.subject and e.state = 'open'
  ) then
    return null;
  end if;
  request := kijko.http_enqueue(
    method => billing_send.method,
    url => account.api_url || path || case when billing_send.method = 'GET' and form is not null then '?' || form else '' end,
    headers => jsonb_build_object('Authorization', jsonb_build_object('secret', 'stripe-api-key'), 'Stripe-Version', account.api_version)
      || case billing_send.method when 'POST' then '{"Content-Type": "application/x-www-form-urlencoded"}'::jsonb else '{}' end,
    body => case billing_send.method when 'POST' then coalesce(form, '') end,
    -- Of these Stripe does a second one when it has forgotten the first, so after one attempt without an answer it is asked what it
    -- has. An outbox that sleeps for days with its database then repeats none.
    max_attempts => case when billing_send.kind in ('meter_event', 'invoice_item', 'vat_credit') then 1 else 10 end,
    -- A server that is killed while one is on its way, and is down for more than a day, does not send it again either.
    not_after => case when billing_send.kind in ('meter_event', 'invoice_item', 'vat_credit') then clock_timestamp() + interval '20 hours' end
  );
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, details)
  values (billing_send.kind, billing_send.subject, org, account.livemode, request, billing_send.details)
  returning id into made;
  return made;
end
$$;
comment on function private.billing_send(text, text, uuid, text, text, jsonb, jsonb) is 'Queues a request to Stripe, and returns the effect. Null without an account, or while one of this kind and subject is open. Nullable: result.';

-- ----------------------------------------------------------------------------
-- What became of them
-- ----------------------------------------------------------------------------

create function private.billing_is_recent(kind text, subject text, details jsonb) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  last private.billing_effects;
begin
  select e.* into last from private.billing_effects as e
  where e.kind = billing_is_recent.kind and e.subject = billing_is_recent.subject
  order by e.state = 'open' desc, e.ended_at desc limit 1;
  return found and (
    last.state = 'open'
    or (last.ended_at > clock_timestamp() - interval '10 minutes' and (last.state <> 'done' or last.details = billing_is_recent.details))
  );
end
$$;
comment on function private.billing_is_recent(text, text, jsonb) is 'Whether the last request of a kind about something is still on its way, or ended in the last 10 minutes and failed or asked for the same: its event is still to come.';

create function private.billing_outcome(effect private.billing_effects, out state text, out http_status integer, out error text, out body jsonb)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- Of these Stripe would do a second one when it has forgotten the first.
  is_once constant boolean := effect.kind in ('meter_event', 'invoice_item', 'vat_credit');
  answer record;
begin
  select r.* into answer from kijko.http_response(effect.request_id) as r;
  http_status := answer.status;
  begin
    body := answer.body::jsonb;
  exception when others then
    body := null;
  end;
  error := left(coalesce(body #>> '{error,message}', answer.error, answer.error_code), 2000);
  state := case
    when answer.state = 'succeeded' then 'done'
    -- A key that is refused now says nothing of an earlier attempt.
    when is_once and answer.attempts > 1 and answer.status in (401, 403) then 'unknown'
    -- Stripe's refusal stays one. 409 and 429 pass, and so does whatever is on the way.
    when answer.status between 400 and 499 and answer.status not in (408, 409, 425, 429) then 'failed'
    when is_once and effect.created_at < clock_timestamp() - interval '20 hours' then 'unknown'
    when answer.state in ('dead', 'cancelled') or answer.state is null then case when is_once then 'unknown' else 'failed' end
    else 'open'
  end;
  if state in ('failed', 'unknown') then
    perform kijko.http_cancel(effect.request_id);
  end if;
  if state = 'done' then
    error := null;
  end if;
end
$$;
comment on function private.billing_outcome(private.billing_effects) is 'What became of an open effect: open, done, failed or unknown, and Stripe''s answer. Ends the request of one that is refused or unknown.';

create function private.billing_settle(max_effects integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  effect private.billing_effects;
  outcome record;
  n integer := 0;
begin
  for effect in
    select e.* from private.billing_effects as e where e.state = 'open' order by e.created_at limit max_effects for update skip locked
  loop
    -- What fails with one of them must not stop the others.
    begin
      select o.* into outcome from private.billing_outcome(effect) as o;
      continue when outcome.state = 'open';
      update private.billing_effects as e
      set state = outcome.state, http_status = outcome.http_status, error = outcome.error, ended_at = clock_timestamp()
      where e.id = effect.id;
      case
        when effect.kind in ('meter_event', 'meter_check', 'invoice_item', 'invoice_item_check') then
          perform private.billing_settle_report(effect, outcome.state, outcome.body);
        when effect.kind in ('customer', 'tax_id', 'tax_id_removal', 'tax_rate') then
          perform private.billing_settle_details(effect, outcome.state, outcome.http_status, outcome.body);
        when effect.kind = 'vat_credit' and outcome.state = 'done' then
          update private.billing_effects as e set details = e.details || jsonb_build_object('credit_note', outcome.body ->> 'id') where e.id = effect.id;
        when effect.kind = 'vat_credit_check' and outcome.state = 'done' then
          perform private.billing_found_vat_credit(effect.subject, n.value ->> 'id')
          from jsonb_array_elements(outcome.body -> 'data') as n (value)
          where n.value #>> '{metadata,kijko_vat_credit}' = split_part(effect.subject, ':', 1);
        when effect.kind = 'comparison' then
          perform private.billing_settle_comparison(effect, outcome.state, outcome.body);
        when effect.kind = 'customer_erasure' and outcome.state = 'done' then
          perform private.privacy_check_customer(effect, outcome.body);
        when effect.kind = 'session_expiry' then
          perform private.billing_settle_session(effect, outcome.state, outcome.http_status);
        else null;
      end case;
      n := n + 1;
    exception when others then
      raise warning 'billing, effect %: %', effect.id, sqlerrm;
    end;
  end loop;
  return n;
end
$$;
comment on function private.billing_settle(integer) is 'Records what became of open requests to Stripe. Returns how many ended.';

-- ----------------------------------------------------------------------------
-- Seats: the quantity follows the members. Each request has the count of the moment in which it is made, and the next is made when
-- it has ended: ten who join at once are one or two requests.
-- ----------------------------------------------------------------------------

create function private.billing_sync_seats(max_subscriptions integer default 200) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due record;
  n integer := 0;
begin
  for due in
    select s.id, s.org_id, item.value ->> 'id' as item, members.n as members
    from public.stripe_subscriptions as s
    join private.billing_account as a on a.livemode = s.livemode
    cross join lateral jsonb_array_elements(s.items) as item (value)
    join public.prices as c on c.lookup_key = item.value ->> 'lookup_key' and c.kind = 'seat'
    cross join lateral (select private.billing_members(s.org_id) as n) as members
    where s.org_id is not null and s.status in ('active', 'trialing', 'past_due')
      and (item.value ->> 'quantity')::bigint is distinct from members.n
      and not private.billing_is_recent('seats', s.id, jsonb_build_object('quantity', members.n))
    order by s.id
    limit max_subscriptions
  loop
    if private.billing_send('seats', due.id, due.org_id, 'POST', '/v1/subscription_items/' || due.item, jsonb_build_object(
      'quantity', due.members, 'proration_behavior', 'create_prorations'
    ), jsonb_build_object('quantity', due.members)) is not null then
      n := n + 1;
    end if;
  end loop;
  return n;
end
$$;
comment on function private.billing_sync_seats(integer) is 'Asks Stripe to bill as many seats as there are members, where that differs. Returns how many subscriptions.';

-- ----------------------------------------------------------------------------
-- Deletion
-- ----------------------------------------------------------------------------

create function private.billing_cancel_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.billing_send('cancel', s.id, old.id, 'DELETE', '/v1/subscriptions/' || s.id, '{}')
  from public.stripe_subscriptions as s
  join private.billing_account as a on a.livemode = s.livemode
  where s.org_id = old.id and s.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete');
  return old;
end
$$;
comment on function private.billing_cancel_deleted() is 'Trigger: an organization that is deleted ends its subscriptions at Stripe; the request outlives it. Definer: who deletes has no rights on the tables.';
create trigger organizations_cancel_subscriptions before delete on public.organizations
  for each row execute function private.billing_cancel_deleted();

select private.set_retention('private.billing_effects', '90 days', 'finding out what Stripe was asked for');

create function private.billing_purge(max_rows integer default 10000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  n integer;
begin
  delete from private.billing_effects as e
  where e.id in (
    select old.id from private.billing_effects as old
    where old.created_at < clock_timestamp() - private.retention_of('private.billing_effects') and old.state <> 'open'
      -- They say what is credited already.
      and not (old.kind = 'vat_credit' and exists (
        select from private.vat_credits as c where c.id::text = split_part(old.subject, ':', 1) and c.settled_at is null
      ))
    order by old.created_at limit max_rows
  );
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function private.billing_purge(integer) is 'Deletes effects that have ended and are older than their retention, at most max_rows, and returns how many. Those of a credit of VAT that is not settled stay.';
