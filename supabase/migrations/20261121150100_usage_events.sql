-- ============================================================================
-- Usage: events from an organization's own services.
--
--   1. ingest_usage() takes a batch of CloudEvents, and the quota of events limits it.
--   2. The organization's usage_meters say which events are counted, and how.
--   3. The extension writes each event to the ledger once, by source and id.
-- ============================================================================

create function private.usage_refuse_events_over_quota(events jsonb, sent jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'source', e.event -> 'source', 'id', e.event -> 'id', 'status', 'refused', 'code', 'quota_exceeded',
        'reason', 'no more events are included this month'
      )
      order by e.number
    ),
    '[]'
  )
  from jsonb_array_elements(events) with ordinality as e (event, number)
  where e.number > jsonb_array_length(sent)
$$;
comment on function private.usage_refuse_events_over_quota(jsonb, jsonb) is 'Results for the events of a batch that exceed the quota: those after the events in sent.';

create function private.usage_ingest(events jsonb, org uuid) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  quota kijko.verdict := kijko.quota_status(org, 'events');
  sent jsonb := usage_ingest.events;
  over jsonb := '[]'::jsonb;
  answer jsonb;
begin
  -- Events after the last one that fits are not processed. A refused batch stores nothing.
  if jsonb_typeof(sent) = 'array' and jsonb_array_length(sent) between quota.remaining + 1 and 10000
    and kijko.explain_limit(org, 'events') #>> '{limit,overage_policy}' = 'refuse'
  then
    if quota.remaining = 0 then
      perform kijko.consume(org, 'events', 1); -- fails and sets the headers of the meter
    end if;
    sent := jsonb_path_query_array(sent, '$[0 to $last]', jsonb_build_object('last', quota.remaining - 1));
    over := private.usage_refuse_events_over_quota(usage_ingest.events, sent);
  end if;

  with rules as (
    select coalesce(jsonb_object_agg(m.event_type, jsonb_build_object('meter', m.meter, 'field', m.amount_field)), '{}') as meters
    from public.usage_meters as m
    where m.org_id = org
  )
  select jsonb_build_object(
    'accepted', count(*) filter (where i.status = 'accepted'),
    'duplicate', count(*) filter (where i.status = 'duplicate'),
    'refused', count(*) filter (where i.status = 'refused') + jsonb_array_length(over),
    'events', coalesce(
      jsonb_agg(
        case when i.reason is null
          then jsonb_build_object('source', i.source, 'id', i.id, 'status', i.status)
          else jsonb_build_object('source', i.source, 'id', i.id, 'status', i.status, 'code', i.code, 'reason', i.reason)
        end
        order by i.number
      ),
      '[]'
    ) || over
  )
  into answer
  from rules as r
  cross join lateral kijko.ingest_usage(org, sent, r.meters) as i;

  -- Fails if a concurrent batch has used up the quota. Then nothing of this batch is stored.
  if (answer -> 'accepted')::bigint > 0 then
    if kijko.api_key_id() is not null then
      perform set_config(
        'kijko.usage_attributes',
        (coalesce(nullif(current_setting('kijko.usage_attributes', true), '')::jsonb, '{}') || jsonb_build_object('key', kijko.api_key_id()))::text, true
      );
    end if;
    perform kijko.consume(org, 'events', (answer -> 'accepted')::bigint);
  end if;
  return answer;
end
$$;
comment on function private.usage_ingest(jsonb, uuid) is 'Counts events by the organization''s own meters, and each accepted event toward the meter events. Returns one result for each event, in order, as one value, because PostgREST returns at most 1,000 rows. The caller has checked the organization.';

create function public.ingest_usage(events jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  org uuid := private.tenancy_require_org_with('organization:write');
begin
  return private.usage_ingest(ingest_usage.events, org);
end
$$;
comment on function public.ingest_usage(jsonb) is 'Counts a batch of CloudEvents 1.0 (at most 10,000 and 8 MiB) of the request''s organization, each once by source and id. Returns {accepted, duplicate, refused, events: [{source, id, status, code, reason}]}, with one entry for each event, in order. Accepted events count toward the meter events. Events beyond the quota are refused with quota_exceeded. If nothing is left, the call fails. Needs organization:write. Definer: only the domain may write the ledger.';
grant execute on function public.ingest_usage(jsonb) to authenticated;

create function public.ingest_usage(events jsonb, org_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  if not exists (select 1 from public.organizations as o where o.id = ingest_usage.org_id) then
    perform kijko.fail('not_found', 'no such organization');
  end if;
  return private.usage_ingest(ingest_usage.events, ingest_usage.org_id);
end
$$;
comment on function public.ingest_usage(jsonb, uuid) is 'As ingest_usage(events), for servers that hold the service key and name the organization. Definer: only the domain may write the ledger.';
grant execute on function public.ingest_usage(jsonb, uuid) to service_role;
