-- ============================================================================
-- Webhooks: how deliveries went, endpoints that only fail, and retention.
-- ============================================================================

create table private.webhook_cursor (
  only_row boolean primary key default true check (only_row),
  ended_at timestamptz not null default '-infinity'
);
comment on table private.webhook_cursor is 'Up to which end the outbox has been read: one row.';
comment on column private.webhook_cursor.only_row is 'True: there is one row.';
comment on column private.webhook_cursor.ended_at is 'End of the last request that was taken over, by the clock of the server.';
select private.describe_data('private.webhook_cursor', '{"only_row, ended_at": "continues where the last run ended"}', 'platform');
alter table private.webhook_cursor enable row level security;
insert into private.webhook_cursor default values;

create function private.webhooks_record(delivery private.webhook_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if delivery.status = 'succeeded' then
    update public.webhook_endpoints as e
    set last_success_at = greatest(e.last_success_at, delivery.created_at), failing_since = null, failure_count = 0
    where e.id = delivery.endpoint_id;
  elsif delivery.status = 'failed' and delivery.error_code = 'gone' then
    update public.webhook_endpoints as e set enabled = false, disabled_reason = 'gone' where e.id = delivery.endpoint_id and e.enabled;
  elsif delivery.status = 'failed' then
    update public.webhook_endpoints as e
    set failing_since = coalesce(e.failing_since, greatest(delivery.created_at, e.last_success_at)),
      failure_count = e.failure_count + delivery.attempts
    where e.id = delivery.endpoint_id and e.enabled;
  end if;
end
$$;
comment on function private.webhooks_record(private.webhook_requests) is 'Writes on the endpoint how a delivery ended. One that answered 410 is disabled.';

create function private.webhooks_sync(max_rows integer default 5000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  place timestamptz;
  delivery private.webhook_requests;
  synced integer := 0;
begin
  select c.ended_at into place from private.webhook_cursor as c for update skip locked;
  if not found then
    return 0; -- another run is at it
  end if;
  for delivery in
    update private.webhook_requests as r
    set status = case e.state when 'dead' then 'failed' else e.state end, error_code = e.error_code, attempts = e.attempts, ended_at = e.ended_at
    from (
      select q.id, q.state, q.error_code, q.attempts, q.ended_at
      from kijko.http_requests as q
      join private.webhook_requests as d on d.request_id = q.id and d.status = 'pending'
      -- One may commit a while after the time that it says.
      where q.ended_at >= place - interval '10 minutes'
      order by q.ended_at
      limit max_rows
    ) as e
    where r.request_id = e.id and r.status = 'pending'
    returning r.*
  loop
    begin
      perform private.webhooks_record(delivery);
    exception when others then
      raise warning 'webhook endpoint %: %', delivery.endpoint_id, sqlerrm;
    end;
    place := greatest(place, delivery.ended_at);
    synced := synced + 1;
  end loop;
  update private.webhook_cursor as c set ended_at = place where c.ended_at < place;
  return synced;
end
$$;
comment on function private.webhooks_sync(integer) is 'Takes over how deliveries ended from the outbox, at most max_rows, and returns how many.';

-- ----------------------------------------------------------------------------
-- Endpoints that only fail
-- ----------------------------------------------------------------------------

create function private.webhooks_notify_disabled() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_send(
    new.org_id, null, 'webhook.disabled',
    jsonb_build_object('endpoint_id', new.id, 'host', substring(new.url from '^https?://([^/?#]*)'), 'reason', new.disabled_reason),
    format('webhook.disabled:%s:%s', new.id, extract(epoch from new.disabled_at))
  );
  return null;
end
$$;
comment on function private.webhooks_notify_disabled() is 'Trigger: tells those who see endpoints that one was disabled by the product. Definer: only the domain sends notifications.';
create trigger webhook_endpoints_notify after update of enabled on public.webhook_endpoints
  for each row when (old.enabled and not new.enabled and new.disabled_reason in ('gone', 'failing'))
  execute function private.webhooks_notify_disabled();

create function private.webhooks_disable_failing() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  min_failures constant integer := 10;
  patience constant interval := interval '5 days';
  disabled integer;
begin
  update public.webhook_endpoints as e set enabled = false, disabled_reason = 'failing'
  where e.id = any (array(
    select k.id from public.webhook_endpoints as k
    where k.enabled and k.failing_since < kijko.now() - patience and k.failure_count >= min_failures
    limit 100 for no key update skip locked
  ));
  get diagnostics disabled = row_count;
  -- What their triggers have left.
  perform private.webhooks_cancel(e.id, 5000)
  from (
    select k.id from public.webhook_endpoints as k
    where not k.enabled and exists (select 1 from private.webhook_requests as r where r.endpoint_id = k.id and r.status = 'pending' and r.cause <> 'test')
    order by k.id limit 20
  ) as e;
  return disabled;
end
$$;
comment on function private.webhooks_disable_failing() is 'Disables endpoints to which nothing was delivered for 5 days, after 10 failed attempts at least, and returns how many. Cancels what disabled ones have not been sent.';

-- ----------------------------------------------------------------------------
-- Retention
-- ----------------------------------------------------------------------------

select private.set_retention('public.webhook_messages', '30 days', 'sending again what a receiver has lost');
select private.set_retention('private.webhook_backlog', null, 'events that could not be made at once', kept_by => 'a day: then they are given up');

create function private.webhooks_purge(max_rows integer default 5000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kept_messages constant integer := 10000;
  kept_bytes constant bigint := 64 * 1024 * 1024;
  purged integer;
  more integer;
begin
  delete from public.webhook_messages as m
  where m.id = any (array(
    select o.id from public.webhook_messages as o where o.created_at < kijko.now() - private.retention_of('public.webhook_messages')
    order by o.created_at limit max_rows for update skip locked
  ));
  get diagnostics purged = row_count;
  delete from public.webhook_messages as m
  where m.id = any (array(
    select o.id
    from (select distinct e.org_id from public.webhook_endpoints as e) as w
    cross join lateral (
      select k.id, k.org_id,
        row_number() over (order by k.created_at desc, k.id desc) as place, sum(k.payload_bytes) over (order by k.created_at desc, k.id desc) as total
      from public.webhook_messages as k where k.org_id = w.org_id
    ) as o
    where (o.place > kept_messages or o.total > kept_bytes) and not exists (
      select 1 from private.webhook_requests as r where r.organization = o.org_id and r.message_id = o.id and r.status = 'pending'
    )
    limit max_rows
  ));
  get diagnostics more = row_count;
  return purged + more;
end
$$;
comment on function private.webhooks_purge(integer) is 'Deletes messages with their deliveries after their retention, and those beyond the newest 10,000 or 64 MiB of an organization whose deliveries have ended: at most max_rows of each. Returns how many.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-webhooks-backlog', '* * * * *', 'perform private.webhooks_drain()');
select private.schedule('kijko-webhooks-results', '* * * * *', 'perform private.webhooks_sync()', 'perform private.webhooks_disable_failing()', 'perform private.webhooks_end_overlaps()');
select private.schedule('kijko-webhooks-purge', '*/10 * * * *', 'perform private.webhooks_purge()');
