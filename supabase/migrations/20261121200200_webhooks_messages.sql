-- ============================================================================
-- Webhooks: messages, their deliveries, and how an event becomes them.
--
-- private.webhooks_emit() is called by triggers of the tables that an event is about. It can neither fail nor hold up what
-- it is about: locks that it cannot get at once, and every error, put the event into private.webhook_backlog, from where a
-- schedule makes it later. So no event is lost, and events of one thing keep their order.
-- ============================================================================

create table public.webhook_messages (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  type text not null check (char_length(type) <= 100),
  version integer not null,
  permission text not null check (char_length(permission) <= 80),
  entity text not null check (octet_length(entity) <= 150),
  project_id uuid,
  payload jsonb not null,
  payload_bytes integer not null generated always as (octet_length(payload::text)) stored,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  -- What is about a deleted project goes with it: nobody could say any more who may see it.
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade
);
create index webhook_messages_project_id_idx on public.webhook_messages (org_id, project_id) where project_id is not null;
create index webhook_messages_created_at_idx on public.webhook_messages (created_at);
comment on table public.webhook_messages is 'Events that were sent to endpoints: one row for each event that an endpoint wanted. Kept for 30 days, and beyond the newest 10,000 or 64 MiB of an organization only while a delivery is pending.';
comment on column public.webhook_messages.id is 'Identity of the message. Receivers get msg_ and it as webhook-id, the same for every endpoint and attempt.';
comment on column public.webhook_messages.org_id is 'Organization whose event it is.';
comment on column public.webhook_messages.type is 'Type of the event.';
comment on column public.webhook_messages.version is 'Version of its data.';
comment on column public.webhook_messages.permission is 'Permission that a member needs besides webhooks:read to see it. Copied from the type.';
comment on column public.webhook_messages.entity is 'What the event is about, usually an id: events of one thing go to an endpoint one after the other.';
comment on column public.webhook_messages.project_id is 'Project in which it happened: the message is hidden with a private one.';
comment on column public.webhook_messages.payload is 'What is sent: {type, timestamp, data}.';
comment on column public.webhook_messages.payload_bytes is 'Size of the payload as it is sent.';
comment on column public.webhook_messages.created_by is 'User who called send_test_webhook(); null for events.';
comment on column public.webhook_messages.created_by_key is 'API key that called send_test_webhook(); null for events.';
comment on column public.webhook_messages.created_at is 'When the event happened.';
comment on column public.webhook_messages.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.webhook_messages', resource => 'webhooks', writable => '{}', catalogue => '{
  "type, version, payload, payload_bytes": "what endpoints are sent",
  "permission, project_id": "says who sees the message",
  "entity": "keeps events of one thing in order"
}');
alter policy webhook_messages_select on public.webhook_messages using (
  org_id = any (array(select private.org_ids_with('webhooks:read')))
  and (project_id = any (array(select private.projects_hidden_ids()))) is not true
  and org_id::text || ' ' || permission = any (array(select private.notifications_granted()))
);

create table private.webhook_requests (
  id uuid primary key default gen_random_uuid(),
  organization uuid not null,
  endpoint_id uuid not null,
  message_id uuid not null,
  request_id uuid unique,
  cause text not null check (cause in ('event', 'test', 'redelivery', 'recovery')),
  status text not null check (status in ('pending', 'succeeded', 'failed', 'cancelled')),
  error_code text check (char_length(error_code) <= 63),
  attempts integer not null default 0,
  created_at timestamptz not null default kijko.now(),
  ended_at timestamptz,
  foreign key (organization, endpoint_id) references public.webhook_endpoints (org_id, id) on delete cascade,
  foreign key (organization, message_id) references public.webhook_messages (org_id, id) on delete cascade
);
create index webhook_requests_endpoint_idx on private.webhook_requests (organization, endpoint_id, created_at desc, id desc);
create index webhook_requests_message_idx on private.webhook_requests (organization, message_id, endpoint_id);
create index webhook_requests_pending_idx on private.webhook_requests (endpoint_id) where status = 'pending';
comment on table private.webhook_requests is 'Deliveries: a message that was given to the outbox for one endpoint. list_webhook_deliveries() shows them.';
comment on column private.webhook_requests.id is 'Identity of the delivery.';
comment on column private.webhook_requests.organization is 'Organization of the endpoint and the message.';
comment on column private.webhook_requests.endpoint_id is 'Where it goes.';
comment on column private.webhook_requests.message_id is 'What is sent.';
comment on column private.webhook_requests.request_id is 'Its request in the outbox, which keeps the attempts for a time; null if the outbox refused it.';
comment on column private.webhook_requests.cause is 'event, test (send_test_webhook), redelivery (redeliver_webhook) or recovery (recover_webhooks).';
comment on column private.webhook_requests.status is 'pending, succeeded, failed or cancelled. A schedule takes it over from the outbox within a minute.';
comment on column private.webhook_requests.error_code is 'Why it failed; null otherwise.';
comment on column private.webhook_requests.attempts is 'How often it was tried until it ended.';
comment on column private.webhook_requests.created_at is 'When it was given to the outbox.';
comment on column private.webhook_requests.ended_at is 'When it ended, by the clock of the server; null while pending.';
select private.describe_data('private.webhook_requests', '{
  "id, organization, endpoint_id, message_id, request_id, cause, status, error_code, attempts, created_at, ended_at": "shows members how deliveries went"
}');
alter table private.webhook_requests enable row level security;

create function private.webhooks_cancel_request() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.http_cancel(old.request_id);
  return null;
end
$$;
comment on function private.webhooks_cancel_request() is 'Trigger: cancels the request of a deleted delivery, as of a deleted endpoint or organization. Definer: only postgres may.';
create trigger webhook_requests_cancel after delete on private.webhook_requests
  for each row when (old.status = 'pending' and old.request_id is not null) execute function private.webhooks_cancel_request();

create function private.webhooks_cancel(endpoint_id uuid, max_rows integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  cancelled integer;
begin
  with open as materialized (
    select r.id, r.request_id from private.webhook_requests as r
    where r.endpoint_id = webhooks_cancel.endpoint_id and r.status = 'pending' and r.cause <> 'test'
    order by r.request_id limit max_rows
  ), ended as materialized (
    select o.id from open as o where kijko.http_cancel(o.request_id)
  )
  update private.webhook_requests as r set status = 'cancelled', ended_at = clock_timestamp() from ended as e where r.id = e.id;
  get diagnostics cancelled = row_count;
  return cancelled;
end
$$;
comment on function private.webhooks_cancel(uuid, integer) is 'Cancels what an endpoint has not been sent yet, at most max_rows, except tests. Returns how many.';

create function private.webhooks_cancel_open() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- A schedule cancels the rest, so that a request of a client is not held up.
  perform private.webhooks_cancel(new.id, 1000);
  return null;
end
$$;
comment on function private.webhooks_cancel_open() is 'Trigger: cancels what has not been sent to an endpoint that was disabled; recover_webhooks() sends it later. Definer: only postgres may.';
create trigger webhook_endpoints_cancel after update of enabled on public.webhook_endpoints
  for each row when (old.enabled and not new.enabled) execute function private.webhooks_cancel_open();

-- ----------------------------------------------------------------------------
-- Giving a message to the outbox
-- ----------------------------------------------------------------------------

create function private.webhooks_send(endpoint public.webhook_endpoints, message public.webhook_messages, cause text, in_order boolean) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  delivery constant uuid := gen_random_uuid();
  request uuid;
begin
  begin
    request := kijko.http_enqueue(
      'POST', endpoint.url,
      headers => jsonb_build_object('Content-Type', 'application/json', 'User-Agent', 'Kijko-Webhooks', 'Event-Version', message.version::text),
      body => message.payload::text,
      key => case when in_order then 'webhook:' || endpoint.id || ':' || message.entity end,
      timeout => '20 seconds',
      org_id => endpoint.org_id,
      signing => jsonb_build_object(
        'id', 'msg_' || message.id,
        'secrets', jsonb_build_array(private.webhooks_secret_name(endpoint.id, 'current'), private.webhooks_secret_name(endpoint.id, 'former'))
      )
    );
  exception
    when lock_not_available or deadlock_detected or serialization_failure then
      raise;
    when others then
      -- Refused: what is allowed may have changed since the URL was stored. Other endpoints get theirs.
      raise warning 'webhook endpoint %: %', endpoint.id, sqlerrm;
  end;
  insert into private.webhook_requests (id, organization, endpoint_id, message_id, request_id, cause, status, error_code, ended_at)
  select delivery, endpoint.org_id, endpoint.id, message.id, request, webhooks_send.cause,
    case when request is null then 'failed' else 'pending' end, case when request is null then 'refused' end,
    case when request is null then clock_timestamp() end;
  return delivery;
end
$$;
comment on function private.webhooks_send(public.webhook_endpoints, public.webhook_messages, text, boolean) is 'Gives a message for one endpoint to the outbox and returns the delivery. in_order: after earlier ones of the same thing.';

create function private.webhooks_wants(endpoint public.webhook_endpoints, type text, data jsonb, is_private boolean) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return coalesce(
  endpoint.enabled and (endpoint.event_types is null or type = any (endpoint.event_types))
    and (endpoint.filter is null or data @> endpoint.filter) and (endpoint.include_private_projects or not is_private),
  false
);
comment on function private.webhooks_wants(public.webhook_endpoints, text, jsonb, boolean) is 'Whether an endpoint is to be sent an event.';

create function private.webhooks_listens(org uuid, variadic types text[]) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select 1 from public.webhook_endpoints as e where e.org_id = org and e.enabled and (e.event_types is null or e.event_types && types)
  );
end
$$;
comment on function private.webhooks_listens(uuid, text[]) is 'Whether an endpoint of the organization wants one of these types. Asked before data is put together. plpgsql keeps its plan: it runs at each end of an execution.';

create function private.webhooks_payload(type text, at timestamptz, data jsonb) returns jsonb
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'type', type, 'timestamp', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'data', data
);
comment on function private.webhooks_payload(text, timestamptz, jsonb) is 'The payload of Standard Webhooks.';

-- Whoever makes an event has locked rows already, so nothing here waits. Only a deletion holds a lock that refuses these.
create function private.webhooks_deliver(org uuid, type text, entity text, data jsonb, project_id uuid, at timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  known public.webhook_event_types;
  message public.webhook_messages;
  endpoint public.webhook_endpoints;
  is_private boolean := false;
begin
  select t.* into strict known from public.webhook_event_types as t where t.name = webhooks_deliver.type;
  perform 1 from public.organizations as o where o.id = org for key share nowait;
  if not found then
    return;
  end if;
  if project_id is not null then
    select p.visibility = 'private' into is_private from public.projects as p
    where p.org_id = org and p.id = webhooks_deliver.project_id for key share nowait;
    if not found then
      return;
    end if;
  end if;
  for endpoint in
    select e.* from public.webhook_endpoints as e
    where e.org_id = org and private.webhooks_wants(e, webhooks_deliver.type, jsonb_build_object('org_id', org) || webhooks_deliver.data, is_private)
    order by e.id for key share nowait
  loop
    if message.id is null then
      insert into public.webhook_messages (org_id, type, version, permission, entity, project_id, payload, created_by, created_by_key, created_at)
      values (
        org, known.name, known.version, known.permission, webhooks_deliver.entity, webhooks_deliver.project_id,
        private.webhooks_payload(known.name, at, jsonb_build_object('org_id', org) || webhooks_deliver.data), null, null, at
      )
      returning * into message;
    end if;
    perform private.webhooks_send(endpoint, message, 'event', true);
  end loop;
end
$$;
comment on function private.webhooks_deliver(uuid, text, text, jsonb, uuid, timestamptz) is 'Stores an event and gives it to the outbox for each endpoint that wants it. Fails rather than wait for a lock.';

-- ----------------------------------------------------------------------------
-- Emitting
-- ----------------------------------------------------------------------------

-- Without foreign keys: they would wait for locks.
create table private.webhook_backlog (
  seq bigint primary key generated always as identity,
  organization uuid not null,
  type text not null check (char_length(type) <= 100),
  entity text not null check (octet_length(entity) <= 150),
  data jsonb not null,
  project uuid,
  happened_at timestamptz not null,
  tries integer not null default 0
);
create index webhook_backlog_entity_idx on private.webhook_backlog (organization, entity);
comment on table private.webhook_backlog is 'Events that could not be made at once. A schedule makes them, in their order.';
comment on column private.webhook_backlog.seq is 'Order of the events.';
comment on column private.webhook_backlog.organization is 'Organization whose event it is.';
comment on column private.webhook_backlog.type is 'Type of the event.';
comment on column private.webhook_backlog.entity is 'What the event is about.';
comment on column private.webhook_backlog.data is 'Its data.';
comment on column private.webhook_backlog.project is 'Project in which it happened.';
comment on column private.webhook_backlog.happened_at is 'When it happened.';
comment on column private.webhook_backlog.tries is 'How often making it failed.';
select private.describe_data('private.webhook_backlog', '{
  "seq, organization, type, entity, data, project, happened_at, tries": {"purpose": "makes events later that could not be made at once", "export": "none", "erasure": "retention"}
}');
alter table private.webhook_backlog enable row level security;

create function private.webhooks_emit(org uuid, type text, entity text, data jsonb, project_id uuid default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $$
begin
  if not exists (select 1 from private.webhook_backlog as b where b.organization = org and b.entity = webhooks_emit.entity) then
    begin
      perform private.webhooks_deliver(org, type, entity, data, project_id, kijko.now());
      return;
    exception when others then
      raise warning 'webhook event %: made later: %', type, sqlerrm;
    end;
  end if;
  insert into private.webhook_backlog (organization, type, entity, data, project, happened_at)
  values (org, type, entity, data, project_id, kijko.now());
exception when others then
  raise warning 'webhook event %: %', type, sqlerrm;
end
$$;
comment on function private.webhooks_emit(uuid, text, text, jsonb, uuid) is 'Sends an event of an organization to the endpoints that want it, after the commit. entity: what it is about; project_id: where it happened, if in a project. Called by definer triggers, after webhooks_listens(); never fails, and waits at most a moment.';

create function private.webhooks_drain(max_rows integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
  max_tries constant integer := 1440;
  event private.webhook_backlog;
  failed text[] := array[]::text[];
  made integer := 0;
begin
  for event in
    select b.* from private.webhook_backlog as b order by b.tries, b.seq limit max_rows for update skip locked
  loop
    continue when event.organization || event.entity = any (failed) or exists (
      select 1 from private.webhook_backlog as b
      where b.organization = event.organization and b.entity = event.entity and b.seq < event.seq
    );
    begin
      perform private.webhooks_deliver(event.organization, event.type, event.entity, event.data, event.project, event.happened_at);
      delete from private.webhook_backlog as b where b.seq = event.seq;
      made := made + 1;
    exception when others then
      failed := failed || (event.organization || event.entity);
      if event.tries >= max_tries then
        raise warning 'webhook event % of organization %: given up: %', event.type, event.organization, sqlerrm;
        delete from private.webhook_backlog as b where b.seq = event.seq;
      else
        update private.webhook_backlog as b set tries = b.tries + 1 where b.seq = event.seq;
      end if;
    end;
  end loop;
  return made;
end
$$;
comment on function private.webhooks_drain(integer) is 'Makes the events of the backlog, those of one thing in their order, and returns how many. One that fails for a day is given up with a warning.';
