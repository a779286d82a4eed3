-- ============================================================================
-- Analytics: taking messages in.
-- ============================================================================

create function private.analytics_other_time(given text) returns timestamptz
language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
begin
  if given !~ '^[12]\d{3}-\d\d-\d\d' then
    return null;
  end if;
  return given::timestamptz;
exception when data_exception then
  return null;
end
$$;
comment on function private.analytics_other_time(text) is 'A time in another form of ISO 8601, which costs a subtransaction; null if it is none.';

-- Of these centuries, so that the difference of two is never out of range. What RFC 3339 allows and Postgres does not, or takes for
-- another moment, is left to Postgres: a second 60, and the name of a zone.
create function private.analytics_time(given text) returns timestamptz
language sql stable
return case when char_length(given) <= 40 and left(given, 1) in ('1', '2') then coalesce(
  case when given like '____-__-__T__:__:__%' and given not like '%:60%' and given not like '%[%' then kijko.event_time(given) end,
  private.analytics_other_time(given)
) end;
comment on function private.analytics_time(text) is 'A time in ISO 8601, from the year 1000 to 2999; null if it is none.';

create function private.analytics_read_time(given jsonb) returns timestamptz
language sql stable
return case when jsonb_typeof(given) = 'string' then private.analytics_time(given #>> '{}') end;
comment on function private.analytics_read_time(jsonb) is 'A time of a message; null if it is none.';

create function private.analytics_read(messages jsonb, arrived_at timestamptz) returns setof private.analytics_message
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select
    r.place,
    f.fault ->> 0, f.fault ->> 1,
    r.type, case when r.type = 'track' then r.event else '$' || r.type end,
    r.user_id, r.anonymous_id, case when r.type = 'alias' then r.previous_id end, case when r.type = 'group' then r.group_id end,
    r.message_id, md5(r.message_id)::uuid,
    coalesce(nullif(r.properties, 'null'), '{}'), case when jsonb_typeof(r.message -> 'context') = 'object' then r.message -> 'context' else '{}' end,
    r.original_timestamp, r.sent_at, r.happened_at, null::uuid, null::uuid
  from (
    select
      t.*, coalesce(t.given_message_id, gen_random_uuid()::text) as message_id,
      least(
        analytics_read.arrived_at - coalesce(t.sent_at - t.original_timestamp, analytics_read.arrived_at - t.original_timestamp, '0'), analytics_read.arrived_at
      ) as happened_at
    from (
      select
        g.*,
        private.analytics_time(g.given_timestamp) as original_timestamp,
        private.analytics_time(g.given_sent_at) as sent_at
      from (
        -- Functions with a search_path are not inlined, and these would be called thousands of times for a batch.
        select
          m.place, m.message, m.is_large, m.message ->> 'type' as type,
          case when jsonb_typeof(m.message -> 'event') = 'string' then m.message ->> 'event' end as event,
          case when jsonb_typeof(m.message -> 'userId') in ('string', 'number') then nullif(m.message ->> 'userId', '') end as user_id,
          case when jsonb_typeof(m.message -> 'anonymousId') in ('string', 'number') then nullif(m.message ->> 'anonymousId', '') end as anonymous_id,
          case when jsonb_typeof(m.message -> 'previousId') in ('string', 'number') then nullif(m.message ->> 'previousId', '') end as previous_id,
          case when jsonb_typeof(m.message -> 'groupId') in ('string', 'number') then nullif(m.message ->> 'groupId', '') end as group_id,
          case when jsonb_typeof(m.message -> 'messageId') in ('string', 'number') then nullif(m.message ->> 'messageId', '') end as given_message_id,
          coalesce(m.message -> case when m.message ->> 'type' in ('identify', 'group') then 'traits' else 'properties' end, '{}') as properties,
          coalesce(m.message ->> 'originalTimestamp', m.message ->> 'timestamp') as given_timestamp, m.message ->> 'sentAt' as given_sent_at
        -- One that is too large is not read at all. "offset 0" keeps the planner from asking again for each use of a column.
        from (
          select s.place, s.is_large, case when not s.is_large then s.message end as message
          from (
            select e.place, e.message, not private.json_fits(e.message, 32768) as is_large
            from jsonb_array_elements(messages) with ordinality as e (message, place)
            offset 0
          ) as s
          offset 0
        ) as m
      ) as g
      offset 0
    ) as t
  ) as r
  cross join lateral (
    select case
      when r.is_large then '["too_large", "a message has at most 32 KiB, and a number 400 digits"]'::jsonb
      when jsonb_typeof(r.message) <> 'object' then '["invalid_type", "a message is an object"]'
      when r.type is null or r.type not in ('track', 'page', 'screen', 'identify', 'group', 'alias')
        then '["invalid_type", "type: track, page, screen, identify, group or alias"]'
      when r.type = 'track' and (r.event is null or char_length(r.event) not between 1 and 200)
        then '["missing_event", "event: a name of 1 to 200 characters"]'
      when (r.user_id is null and r.anonymous_id is null) or (r.type = 'alias' and r.user_id is null)
        then '["missing_identity", "userId or anonymousId: text; alias needs userId"]'
      when greatest(char_length(r.user_id), char_length(r.anonymous_id), char_length(r.previous_id), char_length(r.group_id), char_length(r.message_id)) > 256
        then '["invalid_identity", "an id has at most 256 characters"]'
      when r.type = 'alias' and r.previous_id is null then '["missing_previous_id", "previousId: the id before"]'
      when r.type = 'group' and r.group_id is null then '["missing_group_id", "groupId: the id of the group"]'
      when jsonb_typeof(r.properties) not in ('object', 'null') then '["invalid_properties", "properties and traits are objects"]'
      when (r.given_timestamp is not null and r.original_timestamp is null) or r.happened_at < analytics_read.arrived_at - interval '365 days'
        then '["invalid_time", "timestamp: ISO 8601, at most 365 days ago"]'
    end
  ) as f (fault)
$$;
comment on function private.analytics_read(jsonb, timestamptz) is 'Reads and checks the messages of track(). Nullable: code, problem, name, user_id, anonymous_id, previous_id, group_id, original_timestamp, sent_at, user_person, anonymous_person.';

create function private.analytics_quarantine(org uuid, sent jsonb, messages private.analytics_message[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.quarantined_events (org_id, code, problem, message)
  select org, m.code, m.problem, case when m.code <> 'too_large' then sent -> (m.place - 1)::integer end
  from unnest(messages) as m where m.code is not null order by m.place limit 100;
  delete from public.quarantined_events as q
  where q.id = any (array(
    select o.id from public.quarantined_events as o where o.org_id = org order by o.created_at desc, o.id desc offset 1000 for update skip locked
  ));
end
$$;
comment on function private.analytics_quarantine(uuid, jsonb, private.analytics_message[]) is 'Keeps messages that could not be used: at most 100 of a call and the last 1,000 of the organization.';

-- Concurrent senders of one message wait here for the one that was first.
create function private.analytics_unseen(org uuid, messages private.analytics_message[]) returns private.analytics_message[]
language sql volatile set search_path = pg_catalog, pg_temp
-- Nobody knows how many messages an array has: a loop would compare each one with each.
set enable_nestloop = off
as $$
  with fresh as (
    insert into private.analytics_messages (organization, message)
    select org, m.message from unnest(messages) as m where m.code is null group by m.message order by m.message
    on conflict do nothing
    returning message
  )
  select coalesce(array_agg(f.m order by (f.m).place), '{}')
  from (
    select distinct on (m.message) m::private.analytics_message as m
    from unnest(messages) as m join fresh on fresh.message = m.message
    where m.code is null
    order by m.message, m.place
  ) as f
$$;
comment on function private.analytics_unseen(uuid, private.analytics_message[]) is 'The messages that were not seen within a day, each once, and remembers them.';

create function private.analytics_consume(org uuid, wanted bigint) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  verdict kijko.verdict;
begin
  while wanted > 0 loop
    verdict := kijko.try_consume(org, 'events', wanted);
    if verdict.allowed then
      return wanted;
    end if;
    -- Others may use the rest at the same moment, so this repeats.
    wanted := least(wanted - 1, greatest(verdict.remaining, 0));
  end loop;
  return 0;
end
$$;
comment on function private.analytics_consume(uuid, bigint) is 'Uses as many events of the plan as are left, and returns how many.';

create function private.analytics_store(org uuid, messages private.analytics_message[], received timestamptz, may_join boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  resolved constant private.analytics_message[] := private.analytics_identify(org, messages, may_join);
begin
  insert into public.events (
    org_id, type, name, person_id, user_id, anonymous_id, group_id, message_id, properties, context, "timestamp", original_timestamp, sent_at, created_at
  )
  select
    org, m.type, m.name, coalesce(m.user_person, m.anonymous_person), m.user_id, m.anonymous_id, m.group_id, m.message_id, m.properties, m.context,
    m.happened_at, m.original_timestamp, m.sent_at, received
  from unnest(resolved) as m;
  perform private.analytics_set_traits(org, messages);
  -- Who holds a person at the moment says so, too. To wait for them could be to wait in a circle.
  update public.persons as p set last_seen_at = received
  where p.id = any (array(
    select l.id from public.persons as l
    where l.last_seen_at < received - interval '1 day' and l.id = any (array(
      select distinct coalesce(m.user_person, m.anonymous_person) from unnest(resolved) as m
    ))
    for no key update skip locked
  ));
  insert into private.analytics_changes (organization, name, hour)
  select distinct org, m.name, date_trunc('hour', m.happened_at, 'UTC') from unnest(messages) as m;
end
$$;
comment on function private.analytics_store(uuid, private.analytics_message[], timestamptz, boolean) is 'Stores messages as events of their persons.';

create function private.analytics_lock_erasure(org uuid, is_shared boolean) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case
    when is_shared then pg_advisory_xact_lock_shared(hashtextextended('analytics_erasure:' || org::text, 0))
    else pg_advisory_xact_lock(hashtextextended('analytics_erasure:' || org::text, 0))
  end
$$;
comment on function private.analytics_lock_erasure(uuid, boolean) is 'Of an organization many transactions take messages in at once, or one erases a person: an event would name a person who is gone.';

create function private.analytics_track(org uuid, sent jsonb, may_join boolean) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  received constant timestamptz := kijko.now();
  quota constant kijko.verdict := kijko.quota_status(org, 'events');
  messages private.analytics_message[];
  total bigint;
  faulty bigint;
  unseen bigint := 0;
  accepted bigint := 0;
  duplicates bigint := 0;
begin
  if jsonb_typeof(sent) is distinct from 'array' or jsonb_array_length(sent) > 2500 or pg_column_size(sent) > 8388608 then
    perform kijko.fail('invalid_input', 'events: an array of at most 2,500 messages, 8 MiB in all');
  end if;
  perform private.analytics_lock_erasure(org, is_shared => true);
  select coalesce(array_agg(m order by m.place), '{}') into messages from private.analytics_read(sent, received) as m;
  total := cardinality(messages);
  faulty := (select count(*) from unnest(messages) as m where m.code is not null);
  if faulty > 0 then
    perform private.analytics_quarantine(org, sent, messages);
  end if;
  -- Without room nothing is remembered: the message counts as dropped each time it is sent.
  if total > faulty and (quota.remaining is distinct from 0 or kijko.explain_limit(org, 'events') #>> '{limit,overage_policy}' is distinct from 'refuse') then
    messages := private.analytics_unseen(org, messages);
    unseen := cardinality(messages);
    duplicates := total - faulty - unseen;
    if kijko.api_key_id() is not null then
      perform set_config(
        'kijko.usage_attributes',
        (coalesce(nullif(current_setting('kijko.usage_attributes', true), '')::jsonb, '{}') || jsonb_build_object('key', kijko.api_key_id()))::text, true
      );
    end if;
    accepted := private.analytics_consume(org, unseen);
    if accepted < unseen then
      -- A message that is dropped is no duplicate when it is sent again.
      delete from private.analytics_messages as k using unnest(messages[accepted + 1 : unseen]) as m
      where k.organization = org and k.message = m.message;
    end if;
    if accepted > 0 then
      perform private.analytics_store(org, messages[1 : accepted], received, may_join);
    end if;
  end if;
  -- Last, because others wait for this row until the commit.
  insert into public.event_intake as c (org_id, hour, accepted, duplicates, dropped, quarantined)
  values (org, date_trunc('hour', received, 'UTC'), accepted, duplicates, total - faulty - duplicates - accepted, faulty)
  on conflict (org_id, hour) do update set
    accepted = c.accepted + excluded.accepted, duplicates = c.duplicates + excluded.duplicates,
    dropped = c.dropped + excluded.dropped, quarantined = c.quarantined + excluded.quarantined;
  return jsonb_build_object(
    'accepted', accepted, 'duplicates', duplicates, 'dropped', total - faulty - duplicates - accepted, 'quarantined', faulty
  );
end
$$;
comment on function private.analytics_track(uuid, jsonb, boolean) is 'Takes messages of an organization in. The caller has checked the permission.';

-- Anybody can copy the key of a page, and requests alone would let one spend a month's events within minutes.
create function private.analytics_limit_page(sent jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  number constant integer := case when jsonb_typeof(sent) = 'array' then jsonb_array_length(sent) else 0 end;
  verdict kijko.verdict;
begin
  if number > 100 then
    perform kijko.fail('invalid_input', 'events: at most 100 messages with a publishable key');
  end if;
  if number > 0 then
    verdict := kijko.rate_limit(
      format('analytics:page:%s:%s', kijko.api_key_id(), kijko.client_network()), 1000, '1 minute', 1000, number
    );
    if verdict.allowed is not true then
      perform private.refuse_rate(verdict.retry_after, '1000 messages a minute of a network with a publishable key');
    end if;
  end if;
end
$$;
comment on function private.analytics_limit_page(jsonb) is 'Fails if a publishable key sends more than 100 messages at once, or 1,000 a minute from one network.';

create function public.track(events jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('events:ingest');
  is_public constant boolean := (kijko.actor()).kind = 'publishable_key';
begin
  if is_public then
    perform private.analytics_limit_page(track.events);
  end if;
  return private.analytics_track(org, track.events, not is_public);
end
$$;
comment on function public.track(jsonb) is 'Takes product events of the request''s organization in: an array of at most 2,500 messages in the form of Segment''s API (type, event, userId, anonymousId, properties, traits, context, messageId, timestamp, sentAt). Returns {accepted, duplicates, dropped, quarantined}. A message id is stored once within a day. Messages that cannot be used are in quarantined_events; what the plan does not include is dropped. Requires events:ingest. A publishable key sends at most 100 messages in a call and 1,000 a minute from one network, and does not join two signed-in users. Definer: only the domain writes events.';
grant execute on function public.track(jsonb) to authenticated;
