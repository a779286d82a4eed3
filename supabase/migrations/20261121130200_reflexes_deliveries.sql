-- ============================================================================
-- Reflexes: deliveries, from the sender to the queue.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- reflex_deliveries
-- ----------------------------------------------------------------------------

create table public.reflex_deliveries (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  reflex_id uuid not null,
  -- A trigger fills it.
  project_id uuid,
  source text not null check (source in ('webhook', 'event', 'repository', 'test')),
  event text check (char_length(event) <= 100),
  external_id text check (char_length(external_id) <= 255),
  headers jsonb not null default '{}' check (jsonb_typeof(headers) = 'object' and private.json_fits(headers, 16384)),
  payload jsonb check (private.json_fits(payload, 2097152) and private.reflexes_is_shallow(payload)),
  payload_bytes integer not null default 0 check (payload_bytes >= 0),
  status text not null default 'received' check (status in ('received', 'filtered', 'queued', 'refused', 'failed', 'tested')),
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 10000),
  execution_id uuid,
  dry_run boolean not null default false,
  input jsonb check (private.json_fits(input, 1048576)),
  depth integer not null default 0 check (depth >= 0),
  duplicate_count integer not null default 0 check (duplicate_count >= 0),
  redelivery_of uuid,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  finished_at timestamptz,
  unique (org_id, id),
  foreign key (org_id, reflex_id) references public.reflexes (org_id, id) on delete cascade,
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  foreign key (org_id, execution_id) references public.executions (org_id, id) on delete set null (execution_id),
  check ((status = 'received') = (finished_at is null))
);
create index reflex_deliveries_reflex_id_idx on public.reflex_deliveries (org_id, reflex_id, created_at desc, id desc);
create index reflex_deliveries_project_id_idx on public.reflex_deliveries (org_id, project_id) where project_id is not null;
create index reflex_deliveries_status_idx on public.reflex_deliveries (org_id, status, created_at desc, id desc);
create index reflex_deliveries_execution_id_idx on public.reflex_deliveries (org_id, execution_id) where execution_id is not null;
-- For the bounds: how much an organization keeps, and what is old.
create index reflex_deliveries_payload_idx on public.reflex_deliveries (org_id, created_at desc) include (payload_bytes) where payload is not null;
create index reflex_deliveries_created_at_idx on public.reflex_deliveries (created_at);

comment on table public.reflex_deliveries is 'What reflexes were sent, and what became of it. Bounded: 30 days, the last 1,000 of a reflex, and 64 MiB of payloads of an organization.';
comment on column public.reflex_deliveries.id is 'Identity of the delivery.';
comment on column public.reflex_deliveries.org_id is 'Organization of the reflex.';
comment on column public.reflex_deliveries.reflex_id is 'The reflex; the delivery is deleted with it.';
comment on column public.reflex_deliveries.project_id is 'Project of the skill at the time; hides the delivery with it.';
comment on column public.reflex_deliveries.source is 'webhook, event, repository, or test (test_reflex()).';
comment on column public.reflex_deliveries.event is 'What happened, by the sender''s name for it: header X-GitHub-Event, or type in the payload; or the event of the database.';
comment on column public.reflex_deliveries.external_id is 'The sender''s id of the delivery: X-GitHub-Delivery, webhook-id, or the id of the event in the payload; null without one.';
comment on column public.reflex_deliveries.headers is 'Headers that say what was sent. Never those that verify the sender.';
comment on column public.reflex_deliveries.payload is 'What was sent; null once it is too old to be kept.';
comment on column public.reflex_deliveries.payload_bytes is 'Its size.';
comment on column public.reflex_deliveries.status is 'received, then filtered, queued (execution_id runs), refused (may be delivered again), failed (the filter or the mapping), or tested (a dry run).';
comment on column public.reflex_deliveries.error_code is 'Why it was refused or failed.';
comment on column public.reflex_deliveries.error is 'The same in words.';
comment on column public.reflex_deliveries.execution_id is 'The execution that it caused; at most one.';
comment on column public.reflex_deliveries.dry_run is 'Whether a test stops before the execution.';
comment on column public.reflex_deliveries.input is 'The input that a dry run has made.';
comment on column public.reflex_deliveries.depth is 'How many executions in a chain of reflexes came before it.';
comment on column public.reflex_deliveries.duplicate_count is 'How often the same was sent again within 24 hours; at most 60 a minute are counted.';
comment on column public.reflex_deliveries.redelivery_of is 'The delivery that this one repeats.';
comment on column public.reflex_deliveries.created_by is 'User who tested or repeated it; null for a sender, and after that user is deleted.';
comment on column public.reflex_deliveries.created_by_key is 'API key that tested or repeated it; null otherwise.';
comment on column public.reflex_deliveries.created_at is 'When it was received.';
comment on column public.reflex_deliveries.updated_at is 'Last change; set by trigger.';
comment on column public.reflex_deliveries.finished_at is 'When it left the state received.';

select private.make_tenant_table('public.reflex_deliveries', resource => 'reflexes', writable => '{}', catalogue => '{
  "reflex_id, project_id, source, event, external_id, depth, redelivery_of, dry_run": "where the delivery came from",
  "headers, payload, payload_bytes, input": {"purpose": "what was sent and what input it made", "erasure": "retention"},
  "status, error_code, error, execution_id, duplicate_count, finished_at": "how it went"
}');
-- Events and repositories tell what other permissions read.
alter policy reflex_deliveries_select on public.reflex_deliveries using (
  org_id = any (array(select private.org_ids_with('reflexes:read')))
  and (project_id = any (array(select private.projects_hidden_ids()))) is not true
  and (reflex_id is null or exists (select 1 from public.reflexes as r where r.org_id = reflex_deliveries.org_id and r.id = reflex_deliveries.reflex_id))
  and (
    execution_id is null
    or exists (select 1 from public.executions as e where e.org_id = reflex_deliveries.org_id and e.id = reflex_deliveries.execution_id)
  )
  and (
    source <> 'event'
    or (
      org_id = any (array(select private.org_ids_with('executions:read')))
      and org_id = any (array(select private.org_ids_with('members:read')))
      and org_id = any (array(select private.org_ids_with('usage:read')))
      and org_id = any (array(select private.org_ids_with('files:read')))
    )
  )
  and (source <> 'repository' or org_id = any (array(select private.org_ids_with('repositories:read'))))
);

create function private.reflexes_place_delivery() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.project_id := (
    select s.project_id from public.reflexes as r join public.skills as s on s.org_id = r.org_id and s.id = r.skill_id
    where r.org_id = new.org_id and r.id = new.reflex_id
  );
  return new;
end
$$;
comment on function private.reflexes_place_delivery() is 'Trigger: a delivery stays with the project that its skill is in, also when the skill leaves it. Definer: reads skills.';
create trigger reflex_deliveries_project before insert on public.reflex_deliveries
  for each row execute function private.reflexes_place_delivery();

-- One execution for each delivery, whichever part crashes. A retry of the execution is another one, also once the first is deleted.
create unique index executions_reflex_delivery_key on public.executions (org_id, reflex_delivery_id)
  where reflex_delivery_id is not null and trigger = 'reflex';

-- ----------------------------------------------------------------------------
-- Duplicates
-- ----------------------------------------------------------------------------

create table private.reflex_delivery_keys (
  organization uuid not null,
  reflex_id uuid not null,
  key text not null check (char_length(key) between 1 and 300),
  delivery_id uuid not null,
  seen_at timestamptz not null default kijko.now(),
  primary key (reflex_id, key),
  foreign key (organization, reflex_id) references public.reflexes (org_id, id) on delete cascade
);
create index reflex_delivery_keys_seen_at_idx on private.reflex_delivery_keys (seen_at);
create index reflex_delivery_keys_organization_idx on private.reflex_delivery_keys (organization, reflex_id);
comment on table private.reflex_delivery_keys is 'What reflexes received in the last 24 hours, by the sender''s id or the hash of the body, to recognize duplicates and replays.';
comment on column private.reflex_delivery_keys.organization is 'Organization of the reflex.';
comment on column private.reflex_delivery_keys.reflex_id is 'The reflex.';
comment on column private.reflex_delivery_keys.key is 'id: and the sender''s id, or body: and the SHA-256 of the body.';
comment on column private.reflex_delivery_keys.delivery_id is 'The first delivery with this key. No foreign key: it may be deleted earlier.';
comment on column private.reflex_delivery_keys.seen_at is 'When it came.';
select private.describe_data('private.reflex_delivery_keys', '{
  "organization, reflex_id, key, delivery_id, seen_at": {"purpose": "recognizes what was delivered before", "export": "none", "erasure": "retention"}
}');
alter table private.reflex_delivery_keys enable row level security;

create function private.reflexes_seen(reflex_id uuid, keys text[]) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select k.delivery_id
  from private.reflex_delivery_keys as k
  where k.reflex_id = reflexes_seen.reflex_id and k.key = any (keys) and k.seen_at > kijko.now() - interval '24 hours'
  order by k.seen_at
  limit 1
$$;
comment on function private.reflexes_seen(uuid, text[]) is 'The delivery that had one of these keys in the last 24 hours; null if none. Nullable: result.';

create function private.reflexes_claim_keys(reflex public.reflexes, delivery_id uuid, keys text[]) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  claimed text;
begin
  -- Two deliveries of one key at once: the second waits here for the first. In the caller's order, the same for all.
  foreach claimed in array keys loop
    insert into private.reflex_delivery_keys as k (organization, reflex_id, key, delivery_id)
    values (reflex.org_id, reflex.id, claimed, reflexes_claim_keys.delivery_id)
    on conflict on constraint reflex_delivery_keys_pkey do update set delivery_id = excluded.delivery_id, seen_at = excluded.seen_at
    where k.seen_at <= kijko.now() - interval '24 hours';
    if not found then
      return false;
    end if;
  end loop;
  return true;
end
$$;
comment on function private.reflexes_claim_keys(public.reflexes, uuid, text[]) is 'Records the keys of a new delivery; false when another delivery has one of them.';

-- ----------------------------------------------------------------------------
-- Receiving
-- ----------------------------------------------------------------------------

create function private.reflexes_enqueue(delivery public.reflex_deliveries) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.jobs_enqueue(
    delivery.org_id, 'reflex_delivery', jsonb_build_object('delivery_id', delivery.id), timeout_seconds => 60,
    unique_key => delivery.id::text,
    project_id => (
      select s.project_id from public.reflexes as r join public.skills as s on s.org_id = r.org_id and s.id = r.skill_id
      where r.id = delivery.reflex_id
    )
  );
end
$$;
comment on function private.reflexes_enqueue(public.reflex_deliveries) is 'Queues the job of a delivery.';

-- Deleting an organization, a project, a skill or a reflex locks that row first and then what belongs to it. So whatever makes
-- rows of a reflex locks from the top as well, before a job, and none of them deadlock.
create function private.reflexes_lock(reflex_id uuid) returns public.reflexes
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  reflex public.reflexes;
  skill public.skills;
begin
  select r.* into reflex from public.reflexes as r where r.id = reflexes_lock.reflex_id;
  perform 1 from public.organizations as o where o.id = reflex.org_id for key share;
  select s.* into skill from public.skills as s where s.id = reflex.skill_id;
  perform 1 from public.projects as p where p.id = skill.project_id for key share;
  perform 1 from public.skills as s where s.id = reflex.skill_id for key share;
  select r.* into reflex from public.reflexes as r where r.id = reflexes_lock.reflex_id for key share;
  return reflex;
end
$$;
comment on function private.reflexes_lock(uuid) is 'A reflex, locked against its deletion together with what it belongs to; null if it is gone. Nullable: result.';

create function private.reflexes_rate(reflex public.reflexes, bytes integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kib constant integer := least(greatest(bytes / 1024, 1), 65536);
  verdict constant kijko.verdict := kijko.rate_limits(
    array['reflex:' || reflex.id, 'reflex-kib:' || reflex.org_id], array[reflex.rate_per_minute, 65536],
    array[interval '1 minute', interval '1 hour'], null, array[1, kib]
  );
begin
  return case when not verdict.allowed then greatest(coalesce(verdict.retry_after, 1), 1) end;
end
$$;
comment on function private.reflexes_rate(public.reflexes, integer) is 'Counts a delivery against the rate of its reflex and the 64 MiB an hour of its organization; the seconds to wait when it is beyond, else null. Nullable: result.';

create type private.reflex_receipt as (delivery_id uuid, status text, retry_after integer);
comment on type private.reflex_receipt is 'What became of a request to a reflex: stored as delivery_id (received, refused), duplicate of it, or rate_limited. All null: there is no such reflex any more.';

create function private.reflexes_duplicate(delivery_id uuid) returns private.reflex_receipt
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if (kijko.rate_limit('reflex-duplicate:' || delivery_id, 60, '1 minute')).allowed then
    update public.reflex_deliveries as d set duplicate_count = d.duplicate_count + 1
    where d.id = any (array(select k.id from public.reflex_deliveries as k where k.id = delivery_id for no key update skip locked));
  end if;
  return (delivery_id, 'duplicate', null)::private.reflex_receipt;
end
$$;
comment on function private.reflexes_duplicate(uuid) is 'Counts a duplicate on the delivery that it repeats. Nothing else of it is stored.';

create function private.reflexes_ingest(
  reflex_id uuid, body text, headers jsonb, event text, external_id text, body_hash text
) returns private.reflex_receipt
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  reflex public.reflexes;
  delivery public.reflex_deliveries;
  keys text[];
  seen uuid;
  retry_after integer;
begin
  reflex := private.reflexes_lock(reflexes_ingest.reflex_id);
  if reflex.id is null or reflex.source <> 'webhook' then
    return null;
  end if;
  -- The hash comes first, so that a replay under another id leaves no key behind.
  keys := case
    when reflexes_ingest.external_id is null then array['body:' || body_hash]
    when reflex.verification in ('github', 'hmac') and reflex.refuse_same_body then array['body:' || body_hash, 'id:' || external_id]
    else array['id:' || external_id]
  end;
  -- Before the rate: a replay must not use it up.
  seen := private.reflexes_seen(reflex.id, keys);
  if seen is not null then
    return private.reflexes_duplicate(seen);
  end if;
  retry_after := private.reflexes_rate(reflex, octet_length(body));
  if retry_after is not null then
    perform private.reflexes_report(reflex.id, 'rate_limited', 'more deliveries than rate_per_minute, or more than 64 MiB an hour');
    return (null, 'rate_limited', retry_after)::private.reflex_receipt;
  end if;
  delivery.id := gen_random_uuid();
  if not private.reflexes_claim_keys(reflex, delivery.id, keys) then
    -- In a transaction of its own the other delivery is visible now.
    return private.reflexes_duplicate(private.reflexes_seen(reflex.id, keys));
  end if;
  insert into public.reflex_deliveries (
    id, org_id, reflex_id, source, event, external_id, headers, payload, payload_bytes, status, error_code, error, finished_at
  ) values (
    delivery.id, reflex.org_id, reflex.id, 'webhook', substring(reflexes_ingest.event for 100), reflexes_ingest.external_id,
    reflexes_ingest.headers, body::jsonb, octet_length(body),
    case when reflex.enabled then 'received' else 'refused' end,
    case when not reflex.enabled then 'reflex_disabled' end, case when not reflex.enabled then 'the reflex is disabled' end,
    case when not reflex.enabled then kijko.now() end
  ) returning * into delivery;
  if delivery.status = 'received' then
    perform private.reflexes_enqueue(delivery);
  end if;
  return (delivery.id, delivery.status, null)::private.reflex_receipt;
end
$$;
comment on function private.reflexes_ingest(uuid, text, jsonb, text, text, text) is 'Stores a verified request to a reflex and queues its job, unless it is a duplicate or beyond the rate. Nullable: delivery_id, status, retry_after. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_ingest(uuid, text, jsonb, text, text, text) to kijko_sidecar;
