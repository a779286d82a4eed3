-- ============================================================================
-- Webhooks: the functions that members call.
-- ============================================================================

create function private.webhooks_limit_rate(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.limit_rate('webhook_send:' || org, 60, interval '1 minute', 'an organization makes at most %s of these calls a minute');
end
$$;
comment on function private.webhooks_limit_rate(uuid) is 'Counts a test, redelivery or recovery against the rate of the organization, or fails with rate_limited.';

-- ----------------------------------------------------------------------------
-- The log
-- ----------------------------------------------------------------------------

create type public.webhook_delivery as (
  id uuid, endpoint_id uuid, message_id uuid, type text, cause text, status text, attempts integer, response_status integer, error_code text,
  next_attempt_at timestamptz, created_at timestamptz, ended_at timestamptz
);
comment on type public.webhook_delivery is 'A delivery of a message to an endpoint. cause: event, test, redelivery or recovery. status: pending, succeeded, failed or cancelled. response_status: of the last attempt. Nullable: response_status, error_code, next_attempt_at, ended_at.';

create type public.webhook_attempt as (
  attempt integer, started_at timestamptz, duration_ms integer, response_status integer, response_body text, error_code text, error text
);
comment on type public.webhook_attempt is 'An attempt of a delivery, with the first 4,096 characters of the answer. Nullable: response_status, response_body, error_code, error.';

create function private.webhooks_sees_message(message public.webhook_messages) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return public.can(message.org_id, 'webhooks:read') and public.can(message.org_id, message.permission)
    and (message.project_id is null or private.projects_is_visible(message.project_id));
end
$$;
comment on function private.webhooks_sees_message(public.webhook_messages) is 'Whether the caller sees a message, as the policy of webhook_messages says. Called by definer functions only.';

create function private.webhooks_describe(delivery private.webhook_requests, type text) returns public.webhook_delivery
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- The outbox knows more than the row until a schedule has taken it over, and forgets it some days after the end.
  select (
    delivery.id, delivery.endpoint_id, delivery.message_id, type, delivery.cause,
    case when delivery.status <> 'pending' then delivery.status
      else case q.state when 'succeeded' then 'succeeded' when 'dead' then 'failed' when 'cancelled' then 'cancelled' else 'pending' end
    end,
    coalesce(q.attempts, delivery.attempts), a.status, coalesce(delivery.error_code, q.error_code),
    case when q.state = 'pending' then q.run_at end, delivery.created_at, coalesce(delivery.ended_at, q.ended_at)
  )::public.webhook_delivery
  from (values (delivery.request_id)) as r (id)
  left join kijko.http_requests as q on q.id = r.id
  left join kijko.http_attempts as a on a.request_id = q.id and a.attempt = q.attempts
$$;
comment on function private.webhooks_describe(private.webhook_requests, text) is 'A delivery as members see it.';

create function public.list_webhook_deliveries(
  endpoint_id uuid, status text default null, before_id uuid default null, "limit" integer default 50
) returns setof public.webhook_delivery
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint constant public.webhook_endpoints := private.webhooks_require(list_webhook_deliveries.endpoint_id, 'webhooks:read');
  hidden constant uuid[] := array(select private.projects_hidden_ids());
  readable constant text[] := array(select k.name from public.webhook_event_types as k where public.can(endpoint.org_id, k.permission));
  before private.webhook_requests;
begin
  if "limit" is null or "limit" not between 1 and 200 then
    perform kijko.fail('invalid_input', 'limit: 1 to 200');
  end if;
  if list_webhook_deliveries.status not in ('pending', 'succeeded', 'failed', 'cancelled') then
    perform kijko.fail('invalid_input', 'status: pending, succeeded, failed or cancelled');
  end if;
  select r.* into before from private.webhook_requests as r
  where r.organization = endpoint.org_id and r.endpoint_id = endpoint.id and r.id = before_id;
  if before.id is null and before_id is not null then
    perform kijko.fail('not_found', 'before_id: no delivery of the endpoint');
  end if;
  return query
  select d.*
  from private.webhook_requests as r
  join public.webhook_messages as m on m.org_id = r.organization and m.id = r.message_id
  cross join lateral private.webhooks_describe(r, m.type) as d
  where r.organization = endpoint.org_id and r.endpoint_id = endpoint.id
    and (before.id is null or (r.created_at, r.id) < (before.created_at, before.id))
    and m.type = any (readable) and (m.project_id = any (hidden)) is not true
    and (list_webhook_deliveries.status is null or d.status = list_webhook_deliveries.status)
  order by r.created_at desc, r.id desc
  limit "limit";
end
$$;
comment on function public.list_webhook_deliveries(uuid, text, uuid, integer) is 'Deliveries of an endpoint, the newest first: those with a status, or all; before_id continues after the last one of a page. Needs webhooks:read; shows those whose message the caller sees. Definer: only postgres may read the outbox.';
grant execute on function public.list_webhook_deliveries(uuid, text, uuid, integer) to authenticated;

create function public.list_webhook_attempts(delivery_id uuid) returns setof public.webhook_attempt
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  delivery private.webhook_requests;
  message public.webhook_messages;
begin
  perform private.tenancy_require_caller();
  select r.* into delivery from private.webhook_requests as r
  where r.id = list_webhook_attempts.delivery_id and r.organization = any (array(select private.org_ids_with('webhooks:read')));
  select m.* into message from public.webhook_messages as m where m.org_id = delivery.organization and m.id = delivery.message_id;
  if message.id is null or private.webhooks_sees_message(message) is not true then
    perform kijko.fail('not_found', 'no such delivery');
  end if;
  return query
  select a.attempt, a.started_at, a.duration_ms, a.status, left(kijko.http_body_text(a.body), 4096), a.error_code, a.error
  from kijko.http_attempts as a
  where a.request_id = delivery.request_id
  order by a.attempt;
end
$$;
comment on function public.list_webhook_attempts(uuid) is 'Attempts of a delivery, with the answers; none once the outbox has forgotten them, 7 days after the end. Needs webhooks:read, and the permission of the event. Definer: only postgres may read the outbox.';
grant execute on function public.list_webhook_attempts(uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- Sending by hand
-- ----------------------------------------------------------------------------

-- Volatile: it sees what its own statement has stored.
create function private.webhooks_result(delivery_id uuid) returns public.webhook_delivery
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select private.webhooks_describe(r, m.type)
  from private.webhook_requests as r
  join public.webhook_messages as m on m.org_id = r.organization and m.id = r.message_id
  where r.id = webhooks_result.delivery_id
$$;
comment on function private.webhooks_result(uuid) is 'A new delivery, for the function that made it.';

create function public.send_test_webhook(endpoint_id uuid) returns public.webhook_delivery
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint constant public.webhook_endpoints := private.webhooks_require(send_test_webhook.endpoint_id, 'webhooks:write');
  message public.webhook_messages;
begin
  perform private.webhooks_limit_rate(endpoint.org_id);
  insert into public.webhook_messages (org_id, type, version, permission, entity, payload)
  select endpoint.org_id, t.name, t.version, t.permission, endpoint.id::text,
    private.webhooks_payload(t.name, kijko.now(), jsonb_build_object('org_id', endpoint.org_id, 'endpoint_id', endpoint.id))
  from public.webhook_event_types as t where t.name = 'webhook.test'
  returning * into message;
  return private.webhooks_result(private.webhooks_send(endpoint, message, 'test', false));
end
$$;
comment on function public.send_test_webhook(uuid) is 'Sends the event webhook.test to an endpoint, also to a disabled one, and returns the delivery. Needs webhooks:write; 60 calls a minute of an organization. Definer: only postgres may use the outbox.';
grant execute on function public.send_test_webhook(uuid) to authenticated;

create function private.webhooks_require_enabled(endpoint public.webhook_endpoints) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not endpoint.enabled then
    perform kijko.fail('conflict', 'the endpoint is disabled', 'Enable it first.');
  end if;
end
$$;
comment on function private.webhooks_require_enabled(public.webhook_endpoints) is 'Fails with conflict for a disabled endpoint.';

create function public.redeliver_webhook(message_id uuid, endpoint_id uuid) returns public.webhook_delivery
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint constant public.webhook_endpoints := private.webhooks_require(redeliver_webhook.endpoint_id, 'webhooks:write');
  message public.webhook_messages;
begin
  select m.* into message from public.webhook_messages as m where m.org_id = endpoint.org_id and m.id = redeliver_webhook.message_id;
  if message.id is null or private.webhooks_sees_message(message) is not true then
    perform kijko.fail('not_found', 'no such message');
  end if;
  perform private.webhooks_require_enabled(endpoint);
  if not endpoint.include_private_projects
    and exists (select 1 from public.projects as p where p.org_id = message.org_id and p.id = message.project_id and p.visibility = 'private')
  then
    perform kijko.fail('conflict', 'the endpoint gets no events of private projects');
  end if;
  if exists (
    select 1 from private.webhook_requests as r
    where r.organization = endpoint.org_id and r.message_id = message.id and r.endpoint_id = endpoint.id
      and (private.webhooks_describe(r, message.type)).status = 'pending'
  ) then
    perform kijko.fail('conflict', 'a delivery of this message is pending');
  end if;
  perform private.webhooks_limit_rate(endpoint.org_id);
  return private.webhooks_result(private.webhooks_send(endpoint, message, 'redelivery', false));
end
$$;
comment on function public.redeliver_webhook(uuid, uuid) is 'Sends a message to an endpoint once more, to its present URL, with the same webhook-id. It does not wait for others. Needs webhooks:write, and to see the message; 60 calls a minute of an organization. Definer: only postgres may use the outbox.';
grant execute on function public.redeliver_webhook(uuid, uuid) to authenticated;

create function public.recover_webhooks(endpoint_id uuid, since timestamptz) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  max_messages constant integer := 1000;
  endpoint constant public.webhook_endpoints := private.webhooks_require(recover_webhooks.endpoint_id, 'webhooks:write');
  message public.webhook_messages;
  recovered integer := 0;
begin
  if recover_webhooks.since is null then
    perform kijko.fail('invalid_input', 'since: a time');
  end if;
  perform private.webhooks_require_enabled(endpoint);
  perform private.webhooks_limit_rate(endpoint.org_id);
  -- Two recoveries take turns, so that none sends twice.
  perform 1 from public.webhook_endpoints as e where e.id = endpoint.id for no key update;
  for message in
    select m.* from public.webhook_messages as m
    where m.org_id = endpoint.org_id and m.created_at >= recover_webhooks.since and m.type <> 'webhook.test'
      and exists (
        select 1 from private.webhook_requests as r where r.organization = m.org_id and r.message_id = m.id and r.endpoint_id = endpoint.id
      )
      and not exists (
        select 1 from private.webhook_requests as r
        where r.organization = m.org_id and r.message_id = m.id and r.endpoint_id = endpoint.id
          and (private.webhooks_describe(r, m.type)).status in ('pending', 'succeeded')
      )
      -- Who pointed it elsewhere was asked for the permissions of what it wants now, not of what it once got.
      and private.webhooks_wants(endpoint, m.type, m.payload -> 'data', exists (
        select 1 from public.projects as p where p.org_id = m.org_id and p.id = m.project_id and p.visibility = 'private'
      ))
    order by m.created_at, m.id
    limit max_messages
  loop
    perform private.webhooks_send(endpoint, message, 'recovery', true);
    recovered := recovered + 1;
  end loop;
  return recovered;
end
$$;
comment on function public.recover_webhooks(uuid, timestamptz) is 'Sends again what an endpoint was sent since a time and did not get: what failed or was cancelled and it still wants, at most 1,000 messages, the oldest first. Returns how many; call it until it returns 0. Needs webhooks:write. Definer: only postgres may use the outbox.';
grant execute on function public.recover_webhooks(uuid, timestamptz) to authenticated;
