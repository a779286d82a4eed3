-- ============================================================================
-- Stripe: what an organization pays for, as Stripe reports it.
--
-- Stripe delivers events late, more than once and in any order, with times in whole
-- seconds. So nothing here depends on the order of arrival: a mirrored row is a
-- function of the set of stored events about its object. Which organization it
-- belongs to and which plan follows are functions of the rows. To apply an event
-- again changes nothing.
--
-- An event is processed in these steps:
--   1. stripe.sql          the sidecar has verified it; it is stored once
--   2. stripe_latest.sql   which stored event of the object is the latest
--   3. stripe_rows.sql     that event becomes the row of the object (stripe_mirror.sql)
--   4. stripe_plan.sql     rows are linked to an organization; its plan is derived
--   5. stripe_apply.sql    the functions that do 1 to 4, and retries
--   6. stripe_batches.sql  several events in one transaction
--   7. stripe_prices.sql   a price with a new lookup key changes many plans
-- All of them read events with the functions of stripe_reading.sql.
--
-- The latest event of an object, by these rules in this order:
--   1. rank: how far the life of the object has gone. Rank only grows: a subscription
--      never becomes incomplete again, and canceled, paid and deleted are final.
--   2. created, in seconds.
--   3. Within one second, Stripe's before-images. previous_attributes is the state
--      that an update left, its object the state that it entered. All updates of a
--      second form one path of states. Its last state is entered once more than left.
--   4. Counters and times inside the object, and at last the id of the event, so that
--      the answer is always the same.
--
-- Test mode and live mode are separate. Every key and every join contains the mode,
-- because an id of one mode may exist in the other.
-- ============================================================================

-- Postgres reads and plans a check constraint anew in every statement that writes the table, which took a tenth of the time of most
-- events. A function in plpgsql keeps its plan, and is not inlined.
create function private.stripe_is_event_row(
  id text, type text, api_version text, object_id text, object_type text, status text, error_code text, error text, applied_at timestamptz
) returns boolean
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return octet_length(id) <= 254 and id ~ '^evt_[A-Za-z0-9_]+$'
    and type <> ''
    and greatest(char_length(type), char_length(api_version), char_length(object_id), char_length(object_type), char_length(error_code)) <= 300
    and (error is null or char_length(error) <= 2000)
    and status in ('applied', 'failed', 'ignored')
    and (status = 'applied') = (applied_at is not null)
    and (status = 'failed') = (error_code is not null)
    and (status = 'ignored' or object_id is not null);
end
$$;
comment on function private.stripe_is_event_row(text, text, text, text, text, text, text, text, timestamptz) is 'The check of private.stripe_events: texts have their form and length, and the columns about the attempts fit the status.';

create table private.stripe_events (
  id text not null,
  type text not null,
  created timestamptz not null,
  api_version text,
  livemode boolean not null,
  object_id text,
  object_type text,
  rank smallint not null,
  payload jsonb not null,
  received_at timestamptz not null default now(),
  status text not null,
  attempts integer not null,
  error_code text,
  error text,
  applied_at timestamptz,
  next_attempt_at timestamptz,
  primary key (id, livemode),
  check (private.stripe_is_event_row(id, type, api_version, object_id, object_type, status, error_code, error, applied_at))
-- A payload that is compressed to less than that stays in its row: moved out, it costs an insert into another table and its index.
) with (toast_tuple_target = 4080);

create index stripe_events_object_idx on private.stripe_events (object_id, livemode, rank desc, created desc);
create index stripe_events_failed_idx on private.stripe_events (created, id) where status = 'failed';
create index stripe_events_ignored_idx on private.stripe_events (received_at) where status = 'ignored';

comment on table private.stripe_events is 'Each event that Stripe delivered, once, and whether it was applied. Times are those of the real clock.';
comment on column private.stripe_events.id is 'Stripe''s id; unique together with livemode, so that a redelivered event is stored once.';
comment on column private.stripe_events.type is 'Type, for example customer.subscription.updated.';
comment on column private.stripe_events.created is 'When it happened by Stripe''s clock. Whole seconds, except for thin events.';
comment on column private.stripe_events.api_version is 'Version of the API that shaped the payload.';
comment on column private.stripe_events.livemode is 'False in test mode, and when the event does not say.';
comment on column private.stripe_events.object_id is 'Id of the object that the event describes.';
comment on column private.stripe_events.object_type is 'customer, subscription, invoice, price or checkout.session. Events about other objects are ignored.';
comment on column private.stripe_events.rank is 'How far the life of the object has gone, by private.stripe_rank().';
comment on column private.stripe_events.payload is 'The event as received. The sidecar has verified its signature.';
comment on column private.stripe_events.received_at is 'When it was first stored.';
comment on column private.stripe_events.status is 'applied: the rows reflect it. failed: stored and retried, see error. ignored: about an object that is not mirrored.';
comment on column private.stripe_events.attempts is 'Number of attempts to apply it.';
comment on column private.stripe_events.error_code is 'SQLSTATE of the last failure.';
comment on column private.stripe_events.error is 'Message of the last failure.';
comment on column private.stripe_events.applied_at is 'When it was applied.';
comment on column private.stripe_events.next_attempt_at is 'When a failed event is retried. Null if it is not retried automatically.';
select private.describe_data('private.stripe_events', '{
  "id, type, created, api_version, livemode, object_id, object_type, rank": "applies each event once and in order",
  "payload": {"subject": "organization", "purpose": "what Stripe reported", "export": "none", "erasure": "retention"},
  "received_at, status, attempts, error_code, error, applied_at, next_attempt_at": {"subject": "platform", "purpose": "retries an event and shows operators what failed", "export": "none", "erasure": "retention"}
}');

alter table private.stripe_events enable row level security;

-- Compressing is a part of every delivery, and takes lz4 a fraction of the time. A Postgres that was built without it keeps its own method.
do $$
begin
  alter table private.stripe_events alter column payload set compression lz4;
exception when feature_not_supported then
  raise notice 'events of Stripe are compressed by pglz: this Postgres was built without lz4';
end
$$;
