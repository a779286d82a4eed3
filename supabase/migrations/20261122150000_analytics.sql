-- ============================================================================
-- Analytics: product events, in partitions by day.
--
--   1. track() takes messages in Segment's form (analytics_ingest.sql) and answers how many it took. What cannot be used is
--      quarantined, what was seen before is left out, what the plan does not include is dropped.
--   2. Each event belongs to a person. Persons are merged when a visitor signs in (analytics_persons.sql).
--   3. Each minute maintenance sums up the hours that events were added to (analytics_rollups.sql).
--   4. Members ask for series, funnels and retention; answers are cached (analytics_queries.sql and below).
--
-- Counting decides no money: what is billed is the ledger's.
-- ============================================================================

-- No foreign keys besides the organization's: events outlive the key that sent them. The primary key serves the list of an
-- organization, newest first, too.
create table public.events (
  id uuid not null default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  type text not null check (type in ('track', 'page', 'screen', 'identify', 'group', 'alias')),
  name text not null check (char_length(name) between 1 and 200),
  person_id uuid not null,
  user_id text check (char_length(user_id) between 1 and 256),
  anonymous_id text check (char_length(anonymous_id) between 1 and 256),
  group_id text check (char_length(group_id) between 1 and 256),
  message_id text not null check (char_length(message_id) between 1 and 256),
  properties jsonb not null default '{}' check (jsonb_typeof(properties) = 'object'),
  context jsonb not null default '{}' check (jsonb_typeof(context) = 'object'),
  "timestamp" timestamptz not null,
  original_timestamp timestamptz,
  sent_at timestamptz,
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  primary key (org_id, created_at, id),
  check ("timestamp" <= created_at)
) partition by range (created_at);
-- With the person, so that a count without filters reads no event: a funnel over a million events took 1.8 s instead of 7.0 s.
create index events_name_idx on public.events (org_id, name, "timestamp") include (person_id, created_at);
create index events_person_id_idx on public.events (org_id, person_id);
comment on table public.events is 'Product events of an organization''s own users, as its programs and pages sent them. Written by track() only.';
comment on column public.events.id is 'Identity of the event.';
comment on column public.events.org_id is 'Organization whose program sent it.';
comment on column public.events.type is 'Kind of message in Segment''s API.';
comment on column public.events.name is 'Name of the event; $page, $screen, $identify, $group and $alias for messages of the other kinds.';
comment on column public.events.person_id is 'Person that it belonged to when it arrived. If that person was merged into another one since, queries count it for the other.';
comment on column public.events.user_id is 'The organization''s own id of a signed-in user; null before.';
comment on column public.events.anonymous_id is 'Id that the client gave the visitor; null for none.';
comment on column public.events.group_id is 'Group that the user belongs to, in messages of the kind group.';
comment on column public.events.message_id is 'Id that the client gave the message: the same one is stored once within a day.';
comment on column public.events.properties is 'Properties of the event; traits, in messages of the kinds identify and group.';
comment on column public.events.context is 'Where it happened: library, page, locale and more, as the client sent it.';
comment on column public.events."timestamp" is 'When it happened, by our clock: created_at - (sent_at - original_timestamp), and never later than created_at.';
comment on column public.events.original_timestamp is 'When it happened, by the client''s clock; null if it did not say.';
comment on column public.events.sent_at is 'When the client sent it, by the client''s clock; null if it did not say.';
comment on column public.events.created_by is 'Member who sent it; null for a service or publishable key.';
comment on column public.events.created_by_key is 'API key that sent it; null for a signed-in member.';
comment on column public.events.created_at is 'When it arrived (Segment''s receivedAt). Names the partition.';
select private.describe_data('public.events', '{
  "type, name, properties, context, group_id": "what the organization''s users did in its product",
  "person_id, user_id, anonymous_id": {"subject": "person", "purpose": "who of the organization''s users did it", "export": "organization", "erasure": "retention"},
  "message_id": "keeps a message that is sent again from being counted again",
  "created_by": {"subject": "person", "purpose": "which member sent it", "export": "organization", "erasure": "retention"},
  "timestamp, original_timestamp, sent_at": "when it happened"
}');

alter table public.events enable row level security;
grant select on public.events to authenticated, service_role;
create policy events_select on public.events for select to authenticated
  using (org_id = any (array(select private.org_ids_with('analytics:read'))));

-- Partitions are in private: the API has the table only. The default takes what no day is there for.
create table private.events_default partition of public.events default;

create function private.analytics_make_partitions(days integer default 7) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
return private.make_partitions('public.events', 'day', days);
comment on function private.analytics_make_partitions(integer) is 'Makes the partitions of events for today and the next days, and returns how many. Definer: pg_cron and operators own no table.';
select private.analytics_make_partitions();

select private.set_retention('public.events', '400 days', 'comparing a year with the one before');
select private.tie_to_person('public.events', 'created_by', 'keep', 'events are dropped by the day, and are too many to change; mostly keys send them');

create function private.analytics_drop_partitions(older_than interval default private.retention_of('public.events')) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (older_than >= interval '400 days') is not true then
    -- An event arrives up to 365 days late, and its hour is summed up from all of its events.
    perform kijko.fail('invalid_input', 'older_than: at least 400 days');
  end if;
  return private.drop_partitions('public.events', kijko.now() - older_than);
end
$$;
comment on function private.analytics_drop_partitions(interval) is 'Drops the days of events that ended longer ago than older_than, and returns how many. Their rollups stay for 25 months. Definer: pg_cron and operators own no table.';

-- ----------------------------------------------------------------------------
-- What happened to messages, and those that could not be used
-- ----------------------------------------------------------------------------

create table public.event_intake (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  hour timestamptz not null,
  accepted bigint not null default 0 check (accepted >= 0),
  duplicates bigint not null default 0 check (duplicates >= 0),
  dropped bigint not null default 0 check (dropped >= 0),
  quarantined bigint not null default 0 check (quarantined >= 0),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now(),
  unique (org_id, hour)
);
create index event_intake_hour_idx on public.event_intake (hour);
comment on table public.event_intake is 'How many messages of product events arrived in each hour, and what became of them.';
comment on column public.event_intake.id is 'Identity of the row.';
comment on column public.event_intake.org_id is 'Organization that they were sent to.';
comment on column public.event_intake.hour is 'Beginning of the hour.';
comment on column public.event_intake.accepted is 'Stored, and counted toward the meter events.';
comment on column public.event_intake.duplicates is 'Left out: a message with this id was stored less than a day ago.';
comment on column public.event_intake.dropped is 'Left out: the plan includes no more events this month.';
comment on column public.event_intake.quarantined is 'Could not be used; see quarantined_events.';
comment on column public.event_intake.created_by is 'Member who sent the first message of the hour; null for a service or publishable key.';
comment on column public.event_intake.created_at is 'When the first message of the hour arrived.';
select private.describe_data('public.event_intake', '{
  "hour, accepted, duplicates, dropped, quarantined": "shows the organization what became of its messages"
}');
alter table public.event_intake enable row level security;
grant select on public.event_intake to authenticated, service_role;
create policy event_intake_select on public.event_intake for select to authenticated
  using (org_id = any (array(select private.org_ids_with('analytics:read'))));

create table public.quarantined_events (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  code text not null check (char_length(code) <= 60),
  problem text not null check (char_length(problem) <= 300),
  message jsonb,
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now()
);
create index quarantined_events_list_idx on public.quarantined_events (org_id, created_at desc, id desc);
create index quarantined_events_created_at_idx on public.quarantined_events (created_at);
comment on table public.quarantined_events is 'Messages that could not be used, and why: the last ones of 7 days, at most 1,000 of an organization. They are not counted toward the meter events.';
comment on column public.quarantined_events.id is 'Identity of the row.';
comment on column public.quarantined_events.org_id is 'Organization that it was sent to.';
comment on column public.quarantined_events.code is 'What is wrong: invalid_type, missing_event, missing_identity, invalid_identity, missing_previous_id, missing_group_id, invalid_properties, invalid_time or too_large.';
comment on column public.quarantined_events.problem is 'What is wrong, in words.';
comment on column public.quarantined_events.message is 'The message; null if it is too large to be kept.';
comment on column public.quarantined_events.created_by is 'Member who sent it; null for a service or publishable key.';
comment on column public.quarantined_events.created_by_key is 'API key that sent it; null for a signed-in member.';
comment on column public.quarantined_events.created_at is 'When it arrived.';
select private.describe_data('public.quarantined_events', '{
  "code, problem": "tells the organization what is wrong with what it sends",
  "message": {"subject": "person", "purpose": "shows what was wrong", "export": "none", "erasure": "retention"}
}');
select private.set_retention('public.quarantined_events', '7 days', 'finding out what is wrong with what is sent');
select private.tie_to_person('public.quarantined_events', 'created_by', 'clear', 'intake does not wait for the user');
select private.tie_to_person('public.event_intake', 'created_by', 'clear', 'intake does not wait for the user');
alter table public.quarantined_events enable row level security;
grant select, delete on public.quarantined_events to authenticated, service_role;
create policy quarantined_events_select on public.quarantined_events for select to authenticated
  using (org_id = any (array(select private.org_ids_with('analytics:read'))));
create policy quarantined_events_delete on public.quarantined_events for delete to authenticated
  using (org_id = any (array(select private.org_ids_with('analytics:write'))));

create table private.analytics_messages (
  organization uuid not null,
  message uuid not null,
  received_at timestamptz not null default clock_timestamp(),
  primary key (organization, message)
);
create index analytics_messages_received_at_idx on private.analytics_messages using brin (received_at);
comment on table private.analytics_messages is 'Messages of the last day, so that one that is sent again is stored once. Times are of the real clock. No foreign key: rows go after a day.';
comment on column private.analytics_messages.organization is 'Organization that it was sent to.';
comment on column private.analytics_messages.message is 'MD5 of the message''s id.';
comment on column private.analytics_messages.received_at is 'When it arrived.';
select private.describe_data('private.analytics_messages', '{
  "organization, message, received_at": {"purpose": "keeps a message that is sent again from being counted again", "export": "none", "erasure": "retention"}
}');
select private.set_retention('private.analytics_messages', '25 hours', 'a message that is sent again is stored once');
alter table private.analytics_messages enable row level security;
