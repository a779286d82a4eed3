-- ============================================================================
-- Stripe: what an organization pays for, as Stripe tells it.
--
-- Stripe delivers events late, twice and in any order, and stamps them to the second.
-- So nothing here depends on arrival: each mirrored row is a function of the *set* of
-- stored events about its object, and everything derived (whose it is, which plan
-- follows) is a function of those rows. Applying an event again changes nothing.
--
-- Which event of an object is the latest, in this order:
--   1. rank: how far the object's life has gone. It only grows in a real history
--      ("incomplete" never comes back, "canceled", "paid" and deletions are final).
--   2. created, in seconds.
--   3. within one second, Stripe's own before-images: previous_attributes says which
--      state an update left, its object which state it reached. So the updates are the
--      edges of one trail through all states, and its end is the state that is reached
--      more often than left; private.stripe_latest_in_second().
--   4. counters and times inside the object; at last the event id, so that the
--      answer is always the same one.
--
-- Test mode and live mode are two worlds: every key and every join has the mode, since
-- an id of one can be an id of the other.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Events
-- ----------------------------------------------------------------------------

create table private.stripe_events (
  id text not null check (octet_length(id) <= 254 and id ~ '^evt_[A-Za-z0-9_]+$'),
  type text not null,
  created timestamptz not null,
  api_version text,
  livemode boolean not null,
  object_id text,
  object_type text,
  rank smallint not null,
  payload jsonb not null,
  received_at timestamptz not null default now(),
  status text not null check (status in ('applied', 'failed', 'ignored')),
  attempts integer not null,
  error_code text,
  error text check (char_length(error) <= 2000),
  applied_at timestamptz,
  next_attempt_at timestamptz,
  primary key (id, livemode),
  -- One check, since each costs time in every insert.
  check (type <> '' and greatest(
    char_length(type), char_length(api_version), char_length(object_id), char_length(object_type), char_length(error_code)
  ) <= 300),
  check ((status = 'applied') = (applied_at is not null)),
  check ((status = 'failed') = (error_code is not null)),
  check (status = 'ignored' or object_id is not null)
);

create index stripe_events_object_idx on private.stripe_events (object_id, livemode, rank desc, created desc);
create index stripe_events_failed_idx on private.stripe_events (created, id) where status = 'failed';
create index stripe_events_ignored_idx on private.stripe_events (received_at) where status = 'ignored';

comment on table private.stripe_events is 'Every event that Stripe has delivered, once, with what became of it. Times are of the real clock.';
comment on column private.stripe_events.id is 'Stripe''s id; unique together with livemode, so that a redelivered event is stored once.';
comment on column private.stripe_events.type is 'Such as customer.subscription.updated.';
comment on column private.stripe_events.created is 'When it happened, by Stripe''s clock; in whole seconds unless it is a thin event.';
comment on column private.stripe_events.api_version is 'Version of the API that shaped the payload.';
comment on column private.stripe_events.livemode is 'False for Stripe''s test mode; absent means false.';
comment on column private.stripe_events.object_id is 'The object it is about.';
comment on column private.stripe_events.object_type is 'customer, subscription, invoice, price or checkout.session; others are ignored.';
comment on column private.stripe_events.rank is 'How far the object''s life has gone; private.stripe_rank().';
comment on column private.stripe_events.payload is 'The event as received; its signature was verified by the sidecar.';
comment on column private.stripe_events.received_at is 'When it was stored first.';
comment on column private.stripe_events.status is 'applied: the rows follow it. failed: kept and tried again, see error. ignored: not about anything we mirror.';
comment on column private.stripe_events.attempts is 'How often applying was tried.';
comment on column private.stripe_events.error_code is 'SQLSTATE of the last failure.';
comment on column private.stripe_events.error is 'Last failure in words.';
comment on column private.stripe_events.applied_at is 'When it was applied.';
comment on column private.stripe_events.next_attempt_at is 'When a failed event is tried again; null once given up.';
select private.describe_data('private.stripe_events', '{
  "id, type, created, api_version, livemode, object_id, object_type, rank": "applies each event once and in order",
  "payload": {"subject": "organization", "purpose": "what Stripe reported", "export": "none", "erasure": "retention"},
  "received_at, status, attempts, error_code, error, applied_at, next_attempt_at": {"subject": "platform", "purpose": "retries an event and shows operators what failed", "export": "none", "erasure": "retention"}
}');

alter table private.stripe_events enable row level security;
