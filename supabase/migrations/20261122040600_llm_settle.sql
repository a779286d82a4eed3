-- ============================================================================
-- LLM gateway: what a call used, and how it is settled by the sidecar.
-- ============================================================================

create function private.llm_lock_call(call_id uuid) returns private.llm_open_calls
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  opened private.llm_open_calls;
begin
  -- The organization first, as its deletion locks it. It is read again below.
  perform 1 from public.organizations as o
  where o.id = (select c.organization from private.llm_open_calls as c where c.call_id = llm_lock_call.call_id) for key share;
  select c.* into opened from private.llm_open_calls as c where c.call_id = llm_lock_call.call_id for update;
  return opened;
end
$$;
comment on function private.llm_lock_call(uuid) is 'Locks an open call; null when it was settled or released. Nullable: result.';

create function private.llm_lasts(call jsonb) returns interval
language sql stable
return make_interval(secs => (call ->> 'time_budget_seconds')::integer) + interval '10 minutes';
comment on function private.llm_lasts(jsonb) is 'How long after it was sent maintenance settles a call that nobody has settled.';

create function private.llm_number(value jsonb) returns integer
language sql immutable
return case when jsonb_typeof(value) = 'number' then least(private.models_parse_count(value), 2147483647)::integer end;
comment on function private.llm_number(jsonb) is 'A number that the sidecar reports; null without one. Nullable: result.';

create function private.llm_sum(spent jsonb, used jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'input_tokens', coalesce((spent ->> 'input_tokens')::bigint, 0) + coalesce((used ->> 'input_tokens')::bigint, 0),
    'output_tokens', coalesce((spent ->> 'output_tokens')::bigint, 0) + coalesce((used ->> 'output_tokens')::bigint, 0),
    'cache_read_tokens', coalesce((spent ->> 'cache_read_tokens')::bigint, 0) + coalesce((used ->> 'cache_read_tokens')::bigint, 0),
    'cache_write_tokens', coalesce((spent ->> 'cache_write_tokens')::bigint, 0) + coalesce((used ->> 'cache_write_tokens')::bigint, 0),
    'reasoning_tokens', coalesce((spent ->> 'reasoning_tokens')::bigint, 0) + coalesce((used ->> 'reasoning_tokens')::bigint, 0),
    'images', coalesce((spent ->> 'images')::bigint, 0) + coalesce((used ->> 'images')::bigint, 0),
    'cost_microusd', coalesce((spent ->> 'cost_microusd')::bigint, 0) + coalesce((used ->> 'cost_microusd')::bigint, 0),
    'estimated', (spent -> 'estimated' = 'true') is true or (used -> 'estimated' = 'true') is true
  );
end
$$;
comment on function private.llm_sum(jsonb, jsonb) is 'The sum of two uses, count by count; an estimate if one of them is.';

create function private.llm_finish_calls(opened private.llm_open_calls[], statuses text[], used jsonb[], outcomes jsonb[], out totals jsonb[])
language plpgsql volatile set search_path = pg_catalog, pg_temp
-- One plan for all partitions: by the times of the calls it reads those of their months only. Postgres would count them all, and plan
-- each time. It looks for each call by the primary key, however small the table is.
set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
as $$
declare
  call private.llm_open_calls;
  ids uuid[];
  organizations uuid[];
  times timestamptz[];
  holds jsonb[];
  attributes jsonb[];
  earliest timestamptz;
  latest timestamptz;
begin
  for n in 1 .. cardinality(opened) loop
    call := opened[n];
    ids := array_append(ids, call.call_id);
    organizations := array_append(organizations, call.organization);
    times := array_append(times, call.called_at);
    holds := array_append(holds, call.holds);
    attributes := array_append(attributes, call.attributes);
    totals := array_append(totals, private.llm_sum(call.spent, used[n]));
    earliest := least(earliest, call.called_at);
    latest := greatest(latest, call.called_at);
  end loop;
  delete from private.llm_open_calls as c where c.call_id = any (ids);
  perform private.llm_end_holds_of_calls(holds, used, attributes);
  update public.llm_calls as c
  set status = f.status,
    estimated = (f.total ->> 'estimated')::boolean,
    reported_model = substring(f.outcome ->> 'model' for 200),
    input_tokens = (f.total ->> 'input_tokens')::bigint,
    output_tokens = (f.total ->> 'output_tokens')::bigint,
    cache_read_tokens = (f.total ->> 'cache_read_tokens')::bigint,
    cache_write_tokens = (f.total ->> 'cache_write_tokens')::bigint,
    reasoning_tokens = (f.total ->> 'reasoning_tokens')::bigint,
    images = (f.total ->> 'images')::integer,
    cost_microusd = (f.total ->> 'cost_microusd')::bigint,
    attempts = greatest(c.attempts, least(private.models_parse_count(f.outcome -> 'attempts'), 1000)::integer),
    first_token_ms = private.llm_number(f.outcome -> 'first_token_ms'),
    total_ms = private.llm_number(f.outcome -> 'total_ms'),
    http_status = case when private.llm_number(f.outcome -> 'http_status') between 100 and 599 then private.llm_number(f.outcome -> 'http_status') end,
    finish_reason = substring(f.outcome ->> 'finish_reason' for 100),
    error_code = substring(f.outcome ->> 'error_code' for 100),
    finished_at = kijko.now()
  from unnest(organizations, times, ids, statuses, totals, outcomes) as f (organization, called_at, call_id, status, total, outcome)
  where c.org_id = f.organization and c.created_at = f.called_at and c.id = f.call_id and c.created_at between earliest and latest;
end
$$;
comment on function private.llm_finish_calls(private.llm_open_calls[], text[], jsonb[], jsonb[]) is 'Ends locked calls: settles their holds and records their results. Returns what each used in all.';

create function private.llm_finish(opened private.llm_open_calls, status text, used jsonb, outcome jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.llm_finish_calls(array[opened], array[status], array[used], array[outcome]);
end
$$;
comment on function private.llm_finish(private.llm_open_calls, text, jsonb, jsonb) is 'Ends a locked call, as private.llm_finish_calls().';

create function private.llm_used(opened private.llm_open_calls, usage jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  target constant jsonb := opened.call -> 'targets' -> opened.target_index;
  counts jsonb;
  input bigint;
  cached bigint;
begin
  -- What an attempt used whose use nobody knows is at most what it held, and is counted as that.
  -- So is what another target used than the one that is held for: there is no price to count it by.
  if jsonb_typeof(usage -> 'prompt_tokens') is distinct from 'number' or jsonb_typeof(usage -> 'completion_tokens') is distinct from 'number'
    or usage -> 'target_index' <> to_jsonb(opened.target_index)
  then
    return opened.attempt || '{"estimated": true}';
  end if;
  input := private.models_parse_count(usage -> 'prompt_tokens');
  cached := least(private.models_parse_count(usage -> 'cached_tokens'), input);
  counts := jsonb_build_object(
    'input_tokens', input,
    'output_tokens', private.models_parse_count(usage -> 'completion_tokens'),
    'cache_read_tokens', cached,
    'cache_write_tokens', least(private.models_parse_count(usage -> 'cache_write_tokens'), input - cached),
    'cache_write_1h_tokens', private.models_parse_count(usage -> 'cache_write_1h_tokens'),
    'reasoning_tokens', least(private.models_parse_count(usage -> 'reasoning_tokens'), private.models_parse_count(usage -> 'completion_tokens')),
    'images', least(private.models_parse_count(usage -> 'images'), 1000),
    'service_tier', usage -> 'service_tier'
  );
  return counts || jsonb_build_object(
    'estimated', coalesce(usage -> 'estimated' = 'true', false),
    -- The price was deleted while the call ran: what was held.
    'cost_microusd', coalesce(
      private.llm_cost(target ->> 'name', (target ->> 'provider') || '/' || nullif(usage ->> 'model', ''), counts),
      (opened.attempt ->> 'cost_microusd')::bigint
    )
  );
end
$$;
comment on function private.llm_used(private.llm_open_calls, jsonb) is 'What the running attempt of a call used and cost, by what the sidecar reports; all that it held, as an estimate, if that is unknown or another target (target_index, if it is given) was called than the one that is held for.';

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.llm_record_content(opened private.llm_open_calls, usage jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  member constant uuid := private.as_uuid(opened.attributes ->> 'member');
begin
  if member is not null then
    -- Who was erased during the call is not recorded. An erasure of an account that begins now waits for this lock, and deletes what it then finds.
    perform 1 from auth.users as u where u.id = member and u.deleted_at is null for key share;
    if not found then
      return;
    end if;
  end if;
  insert into public.llm_call_contents (id, org_id, called_at, project_id, prompt, answer, delete_after, created_by)
  values (
    opened.call_id, opened.organization, opened.called_at, private.as_uuid(opened.attributes ->> 'project'),
    case when private.json_fits(usage -> 'prompt', 1048576) then usage -> 'prompt' end,
    case when private.json_fits(usage -> 'answer', 1048576) then usage -> 'answer' end,
    kijko.now() + make_interval(days => coalesce((opened.call ->> 'content_days')::integer, 30)), member
  );
end
$$;
comment on function private.llm_record_content(private.llm_open_calls, jsonb) is 'Keeps prompt and answer of a call, unless its member was erased meanwhile.';

create function private.llm_settle_locked(opened private.llm_open_calls[], usages jsonb[]) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  call private.llm_open_calls;
  usage jsonb;
  used jsonb[];
  statuses text[];
  totals jsonb[];
  settled jsonb := '{}'::jsonb;
begin
  for n in 1 .. cardinality(opened) loop
    call := opened[n];
    usage := usages[n];
    if (usage ->> 'status' in ('succeeded', 'failed', 'cancelled')) is not true then
      perform kijko.fail('invalid_input', 'status: succeeded, failed or cancelled');
    end if;
    used := array_append(used, private.llm_used(call, usage));
    statuses := array_append(statuses, usage ->> 'status');
  end loop;
  totals := private.llm_finish_calls(opened, statuses, used, usages);
  for n in 1 .. cardinality(opened) loop
    call := opened[n];
    usage := usages[n];
    if (call.call ->> 'record_content')::boolean and (usage ? 'prompt' or usage ? 'answer') then
      perform private.llm_record_content(call, usage);
    end if;
    settled := settled || jsonb_build_object(call.call_id::text, jsonb_build_object(
      'cost_microusd', case when used[n] ->> 'cost_microusd' is not null then totals[n] -> 'cost_microusd' end,
      'tokens', private.llm_amount('llm_tokens', totals[n]), 'estimated', totals[n] -> 'estimated'
    ));
  end loop;
  return settled;
end
$$;
comment on function private.llm_settle_locked(private.llm_open_calls[], jsonb[]) is 'Ends locked calls: settles the holds of each with what it used, even above the limits, and records the results. Answers what each cost, by its id.';

create function private.llm_settle(call_id uuid, usage jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  opened constant private.llm_open_calls := private.llm_lock_call(llm_settle.call_id);
begin
  return case when opened.call_id is not null then private.llm_settle_locked(array[opened], array[llm_settle.usage]) -> opened.call_id::text end;
end
$$;
comment on function private.llm_settle(uuid, jsonb) is 'As private.llm_settle_locked(), of a call that it locks: what it cost; null when it was settled or released before. Nullable: result.';

create function private.llm_settle_many(call_ids uuid[], usages jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- For whatever else a settlement may wait for. Shorter than deadlock_timeout, so that this side gives way.
set lock_timeout = '500ms'
as $$
declare
  free private.llm_open_calls[];
  opened private.llm_open_calls;
  usages_of_free jsonb[];
  settled jsonb := '{}'::jsonb;
begin
  -- What another session holds is left out, and delays nobody: an organization that is being changed, a call that maintenance is at.
  select array_agg(l.opened) into free
  from (
    select c as opened from private.llm_open_calls as c join public.organizations as o on o.id = c.organization
    where c.call_id = any (llm_settle_many.call_ids) order by c.call_id
    for key share of o skip locked for update of c skip locked
  ) as l;
  if free is not null then
    foreach opened in array free loop
      usages_of_free := array_append(usages_of_free, usages -> (array_position(llm_settle_many.call_ids, opened.call_id) - 1));
    end loop;
    settled := private.llm_settle_locked(free, usages_of_free);
  end if;
  if cardinality(free) is distinct from cardinality(llm_settle_many.call_ids) then
    -- A statement of its own: it sees which of the others have ended.
    settled := settled || coalesce(
      (
        select jsonb_object_agg(i.id::text, null::jsonb) from unnest(llm_settle_many.call_ids) as i (id)
        where not settled ? i.id::text and not exists (select 1 from private.llm_open_calls as o where o.call_id = i.id)
      ),
      '{}'
    );
  end if;
  return settled;
end
$$;
comment on function private.llm_settle_many(uuid[], jsonb) is 'Ends calls in one transaction, all or none, as private.llm_settle() with the use at the same place of the array: its answer by the id of the call. Calls that another session has locked, or whose organization it has, are left out and stay open. Definer: the sidecar holds no table rights.';
grant execute on function private.llm_settle_many(uuid[], jsonb) to kijko_sidecar;

create function private.llm_is_calling(org uuid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
return exists (select 1 from private.llm_open_calls as c where c.organization = org and c.status = 'sent');
comment on function private.llm_is_calling(uuid) is 'Whether calls of an organization were sent and are not settled, so that what they hold may become free. Definer: the sidecar holds no table rights.';
grant execute on function private.llm_is_calling(uuid) to kijko_sidecar;
