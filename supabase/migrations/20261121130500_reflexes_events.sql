-- ============================================================================
-- Reflexes: events of the database.
--
-- A trigger of the table that an event is about calls private.reflexes_emit() in the transaction that makes the event. So an
-- event and its deliveries are committed together or not at all. A reflex cannot fail that transaction: what is wrong with one
-- is reported on it.
--
-- An execution that a reflex runs may fire the next reflex. Each delivery knows how many executions came before it; a chain
-- that is longer than 5 ends, and its reflex says so.
-- ============================================================================

create function private.reflexes_deliver_event(
  reflex public.reflexes, event text, data jsonb, depth integer, source text default 'event', headers jsonb default '{}',
  external_id text default null
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  max_depth constant integer := 5;
  bytes constant integer := octet_length(data::text);
  delivery public.reflex_deliveries;
begin
  delivery.id := gen_random_uuid();
  if depth > max_depth then
    perform private.reflexes_report(reflex.id, 'chain_too_deep', format('reflexes ran each other more than %s times', max_depth));
    -- One row a day says so, however long the chain would be.
    if not private.reflexes_claim_keys(reflex, delivery.id, array['chain_too_deep']) then
      return;
    end if;
  elsif private.reflexes_rate(reflex, bytes) is not null then
    perform private.reflexes_report(reflex.id, 'rate_limited', 'more deliveries than rate_per_minute, or more than 64 MiB an hour');
    return;
  end if;
  insert into public.reflex_deliveries (
    id, org_id, reflex_id, source, event, headers, external_id, payload, payload_bytes, depth, status, error_code, error, finished_at,
    created_by, created_by_key
  )
  select delivery.id, reflex.org_id, reflex.id, reflexes_deliver_event.source, reflexes_deliver_event.event, reflexes_deliver_event.headers,
    reflexes_deliver_event.external_id, data, bytes, reflexes_deliver_event.depth,
    case when refused.code is null then 'received' else 'refused' end, refused.code, refused.message,
    case when refused.code is not null then kijko.now() end, null, null
  from (
    select case when reflexes_deliver_event.depth > max_depth then 'chain_too_deep' end,
      case when reflexes_deliver_event.depth > max_depth then format('reflexes ran each other more than %s times', max_depth) end
  ) as refused (code, message)
  returning * into delivery;
  if delivery.status = 'received' then
    perform private.reflexes_enqueue(delivery);
  end if;
end
$$;
comment on function private.reflexes_deliver_event(public.reflexes, text, jsonb, integer, text, jsonb, text) is 'Stores a delivery of an event to one reflex and queues its job, within its rate and the length of chains.';

-- Who makes an event has locked rows already, so this must not wait. Only a deletion of the reflex, or of what it belongs to, holds
-- such a lock: then there is nothing to deliver to.
create function private.reflexes_try_lock(reflex public.reflexes) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  skill public.skills;
begin
  perform 1 from public.organizations as o where o.id = reflex.org_id for key share skip locked;
  if not found then
    return false;
  end if;
  select s.* into skill from public.skills as s where s.id = reflex.skill_id for key share skip locked;
  if not found then
    return false;
  end if;
  perform 1 from public.projects as p where p.id = skill.project_id for key share skip locked;
  if not found and skill.project_id is not null then
    return false;
  end if;
  perform 1 from public.reflexes as r where r.id = reflex.id for key share skip locked;
  return found;
end
$$;
comment on function private.reflexes_try_lock(public.reflexes) is 'Locks a reflex against its deletion together with what it belongs to, without waiting; false while one of them is being deleted.';

create function private.reflexes_emit(org uuid, event text, data jsonb, depth integer default 0, project_id uuid default null) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- Events of a private project fire reflexes of that project's skills only.
  hidden constant boolean := exists (select 1 from public.projects as p where p.id = reflexes_emit.project_id and p.visibility = 'private');
  reflex public.reflexes;
  emitted integer := 0;
begin
  for reflex in
    select r.*
    from public.reflexes as r
    join public.skills as s on s.org_id = r.org_id and s.id = r.skill_id
    where r.org_id = reflexes_emit.org and r.source = 'event' and r.enabled and r.event = reflexes_emit.event
      and (not hidden or s.project_id = reflexes_emit.project_id)
    order by r.id
  loop
    begin
      if not private.reflexes_may_listen(reflex) then
        perform private.reflexes_pause(reflex);
      elsif private.reflexes_try_lock(reflex) then
        perform private.reflexes_deliver_event(reflex, reflexes_emit.event, data, reflexes_emit.depth);
        emitted := emitted + 1;
      end if;
    exception when others then
      raise warning 'reflex %: %', reflex.id, sqlerrm;
    end;
  end loop;
  return emitted;
end
$$;
comment on function private.reflexes_emit(uuid, text, jsonb, integer, uuid) is 'Delivers an event to the enabled reflexes of an organization that listen to it, and returns to how many. One whose author lost the permission for it is paused instead. depth: how many executions of reflexes led to it. project_id: where it happened, if in a project. Called by triggers of definer functions; never fails because of a reflex.';

create function private.reflexes_listens(org uuid, event text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (
  select 1 from public.reflexes as r where r.org_id = org and r.source = 'event' and r.enabled and r.event = reflexes_listens.event
);
comment on function private.reflexes_listens(uuid, text) is 'Whether a reflex of the organization listens to an event. Asked before data is put together.';

-- ----------------------------------------------------------------------------
-- execution.finished
-- ----------------------------------------------------------------------------

create function private.reflexes_execution_data(execution public.executions) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'id', execution.id, 'status', execution.status, 'trigger', execution.trigger, 'skill_id', execution.skill_id, 'project_id', execution.project_id,
  'habit_id', execution.habit_id, 'reflex_id', execution.reflex_id, 'error_code', execution.error_code, 'model', execution.model,
  'cost_microusd', execution.cost_microusd, 'input_tokens', execution.input_tokens, 'output_tokens', execution.output_tokens,
  'output', case
    when private.json_fits(execution.output, 131072) and private.reflexes_is_shallow(jsonb_build_array(execution.output)) then execution.output
  end,
  'created_at', execution.created_at, 'finished_at', execution.finished_at
);
comment on function private.reflexes_execution_data(public.executions) is 'An execution that has ended, as events tell of it. An output of more than 128 KiB is left out.';

create function private.reflexes_after_execution() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- An execution that its deleted private project hides fires no reflex.
  if new.managers_only or not private.reflexes_listens(new.org_id, 'execution.finished') then
    return null;
  end if;
  perform private.reflexes_emit(new.org_id, 'execution.finished', private.reflexes_execution_data(new), new.depth + 1, new.project_id);
  return null;
end
$$;
comment on function private.reflexes_after_execution() is 'Trigger: emits execution.finished. Definer: reads reflexes, which the worker''s functions have no right on.';
create trigger executions_reflexes after update of status on public.executions
  for each row when (old.status <> new.status and new.status in ('succeeded', 'failed', 'cancelled'))
  execute function private.reflexes_after_execution();

-- ----------------------------------------------------------------------------
-- member.joined
-- ----------------------------------------------------------------------------

create function private.reflexes_after_membership() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.reflexes_listens(new.org_id, 'member.joined') then
    perform private.reflexes_emit(
      new.org_id, 'member.joined', jsonb_build_object('user_id', new.user_id, 'role', new.role, 'joined_at', new.created_at)
    );
  end if;
  return null;
end
$$;
comment on function private.reflexes_after_membership() is 'Trigger: emits member.joined. Definer: who accepts an invitation has no right on the organization''s reflexes.';
create trigger memberships_reflexes after insert on public.memberships
  for each row execute function private.reflexes_after_membership();

-- ----------------------------------------------------------------------------
-- usage.threshold
--
-- The extension records thresholds beside the domain's transactions, so this looks for them once a minute.
-- ----------------------------------------------------------------------------

create table private.reflex_cursors (
  organization uuid not null,
  reflex_id uuid primary key,
  crossed_at timestamptz not null,
  foreign key (organization, reflex_id) references public.reflexes (org_id, id) on delete cascade
);
create index reflex_cursors_organization_idx on private.reflex_cursors (organization, reflex_id);
comment on table private.reflex_cursors is 'The last threshold of usage for which each reflex was fired.';
comment on column private.reflex_cursors.organization is 'Organization of the reflex.';
comment on column private.reflex_cursors.reflex_id is 'The reflex.';
comment on column private.reflex_cursors.crossed_at is 'Time of the last threshold for which it was fired.';
select private.describe_data('private.reflex_cursors', '{
  "organization, reflex_id, crossed_at": {"purpose": "fires each threshold once", "export": "none"}
}');
alter table private.reflex_cursors enable row level security;

create function private.reflexes_emit_thresholds() returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  reflex public.reflexes;
  fired_until timestamptz;
  crossing record;
  emitted integer := 0;
begin
  for reflex in
    select r.* from public.reflexes as r where r.source = 'event' and r.enabled and r.event = 'usage.threshold' order by r.id
    for no key update skip locked
  loop
    continue when reflex.org_id = any (private.passed_over());
    begin
      if not private.reflexes_may_listen(reflex) then
        perform private.reflexes_pause(reflex);
        continue;
      end if;
      select c.crossed_at into fired_until from private.reflex_cursors as c where c.reflex_id = reflex.id;
      fired_until := coalesce(fired_until, reflex.created_at);
      for crossing in
        -- A transaction may commit a threshold a while after it was crossed. The keys show which ones have fired.
        select t.* from kijko.list_threshold_crossings(reflex.org_id, fired_until - interval '5 minutes') as t order by t.crossed_at
      loop
        if crossing.crossed_at >= reflex.created_at and private.reflexes_claim_keys(
          reflex, reflex.id, array[format('threshold:%s:%s:%s', crossing.meter, crossing.period_start, crossing.threshold)]
        ) then
          perform private.reflexes_deliver_event(reflex, 'usage.threshold', to_jsonb(crossing), 0);
          emitted := emitted + 1;
        end if;
        fired_until := greatest(fired_until, crossing.crossed_at);
      end loop;
      insert into private.reflex_cursors as c (organization, reflex_id, crossed_at) values (reflex.org_id, reflex.id, fired_until)
      on conflict on constraint reflex_cursors_pkey do update set crossed_at = excluded.crossed_at
      where c.crossed_at <> excluded.crossed_at;
    exception when others then
      raise warning 'reflex %: %', reflex.id, sqlerrm;
      perform private.pass_over(reflex.org_id, sqlstate);
    end;
  end loop;
  return emitted;
end
$$;
comment on function private.reflexes_emit_thresholds() is 'Emits usage.threshold to each reflex for the thresholds that were crossed since the last call, and returns how many.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-reflexes-thresholds', '* * * * *', 'perform private.reflexes_emit_thresholds()');
