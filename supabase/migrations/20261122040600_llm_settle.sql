-- ============================================================================
-- LLM gateway: a call is opened, raised and settled by the sidecar.
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

create function private.llm_micros(moment timestamptz) returns bigint
language sql stable
return (extract(epoch from moment) * 1000000)::bigint;
comment on function private.llm_micros(timestamptz) is 'Microseconds since 1970: a time that is the same text in every session. Nullable: result.';

create function private.llm_open_target(org uuid, call jsonb, target jsonb, index integer, with_key boolean) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (select jsonb_build_object(
    'index', index,
    'provider', p.name,
    'provider_id', p.id,
    'kind', p.kind,
    -- Without an address and a key, a provider of the platform is what the sidecar's configuration says.
    'base_url', coalesce(p.base_url, case when p.org_id = org or p.key_set_at is not null then private.llm_vendor_url(p.kind) end),
    'key', case when with_key then private.llm_provider_key(p) end,
    'key_set_at', private.llm_micros(p.key_set_at),
    'own_key', p.org_id = org,
    'model', substr(target ->> 'name', strpos(target ->> 'name', '/') + 1),
    'max_output_tokens', target -> 'max_output_tokens',
    'input_tokens', private.llm_input_tokens(call, target),
    'max_concurrency', p.max_concurrency,
    'allowed_hosts', case when p.org_id = org then '' else coalesce(current_setting('kijko.http_allowed_hosts', true), '') end
  )
  from public.llm_providers as p
  where p.id = (target ->> 'provider_id')::uuid and p.enabled);
end
$$;
comment on function private.llm_open_target(uuid, jsonb, jsonb, integer, boolean) is 'What the sidecar needs to call a target: its key, too, or when that was set; null when the provider is gone. Nullable: result.';

create function private.llm_gateway_key(provider_id uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select jsonb_build_object('key', private.llm_provider_key(p), 'key_set_at', private.llm_micros(p.key_set_at))
    from public.llm_providers as p where p.id = llm_gateway_key.provider_id
  );
end
$$;
comment on function private.llm_gateway_key(uuid) is 'The key of a provider and when it was set, which the sidecar keeps for a while; null when the provider is gone. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.llm_gateway_key(uuid) to kijko_sidecar;

create function private.llm_open_locked(opened private.llm_open_calls, with_keys boolean default true) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  target jsonb;
  targets jsonb;
begin
  for place in 0 .. jsonb_array_length(opened.call -> 'targets') - 1 loop
    target := private.llm_open_target(opened.organization, opened.call, opened.call -> 'targets' -> place, place, with_keys);
    if target is not null then
      targets := coalesce(targets, '[]') || target;
    end if;
  end loop;
  if opened.status = 'reserved' then
    if (targets -> 0 -> 'index' = '0') is not true then
      -- The provider was removed or switched off in between.
      perform private.llm_finish(opened, 'cancelled', '{}', '{"error_code": "provider_gone"}');
      return null;
    end if;
    update private.llm_open_calls as c
    set status = 'sent', ends_at = clock_timestamp() + private.llm_lasts(opened.call)
    where c.call_id = opened.call_id;
    update public.llm_calls as c set status = 'sent', attempts = 1
    where c.org_id = opened.organization and c.created_at = opened.called_at and c.id = opened.call_id;
  end if;
  return (opened.call - array['targets', 'max_output_tokens', 'content_days']) || jsonb_build_object(
    'call_id', opened.call_id, 'org_id', opened.organization, 'targets', targets, 'attributes', opened.attributes
  );
end
$$;
comment on function private.llm_open_locked(private.llm_open_calls, boolean) is 'What the sidecar needs for a locked call, which counts as sent from now on; null when its provider is gone. Nullable: result.';

create function private.llm_open(ticket text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  sealed constant jsonb := kijko.unseal(llm_open.ticket, 'llm/ticket')::jsonb;
  opened constant private.llm_open_calls := private.llm_lock_call((sealed ->> 'call_id')::uuid);
begin
  if opened.call_id is null
    or (opened.status = 'reserved' and (sealed ->> 'expires_at')::numeric <= extract(epoch from clock_timestamp()))
  then
    return null;
  end if;
  return private.llm_open_locked(opened);
end
$$;
comment on function private.llm_open(text) is 'What a ticket of authorize_llm_call() allows: the targets, with their keys, and the settings of the route. From now on the call counts as sent. The same again for a call that is open already; null when the ticket has expired or the call has ended. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.llm_open(text) to kijko_sidecar;

create function private.llm_raise(call_id uuid, target_index integer, spent jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened private.llm_open_calls := private.llm_lock_call(llm_raise.call_id);
  target jsonb;
  used jsonb := '{}'::jsonb;
  is_first constant boolean := (llm_raise.spent -> 'sent' = 'false') is true;
  refusal text;
  code text;
begin
  if opened.call_id is null then
    return null;
  end if;
  if llm_raise.spent is not null and jsonb_typeof(llm_raise.spent) = 'object' and not is_first then
    used := private.llm_used(opened, llm_raise.spent);
  end if;
  -- What the attempt that failed has used stays held, whatever comes next.
  opened.spent := private.llm_sum(opened.spent, used);
  opened.holds := (
    select jsonb_agg(
      case when (h.value ->> 'counts')::boolean
        then h.value || jsonb_build_object('sunk', (h.value ->> 'sunk')::bigint + private.llm_amount(h.value ->> 'meter', used), 'counts', false)
        else h.value end
      order by h.place
    )
    from jsonb_array_elements(opened.holds) with ordinality as h (value, place)
  );
  target := opened.call -> 'targets' -> llm_raise.target_index;
  if target is null or llm_raise.target_index < 0
    or not exists (select 1 from public.llm_providers as p where p.id = (target ->> 'provider_id')::uuid and p.enabled)
  then
    code := 'model_not_found';
    refusal := 'the target is gone';
  else
    begin
      declare
        attempt constant jsonb := private.llm_attempt(opened.call, target);
      begin
        opened.holds := private.llm_hold(
          opened.holds, private.llm_wants(opened.organization, opened.attributes, opened.call ->> 'route', target, attempt), attempt,
          make_interval(secs => (opened.call ->> 'time_budget_seconds')::integer) + interval '1 hour'
        );
        opened.attempt := attempt;
      end;
    exception when sqlstate 'KJ429' or sqlstate 'KJ431' or sqlstate 'KJ425' then
      code := case sqlstate when 'KJ429' then 'quota_exceeded' when 'KJ431' then 'budget_exceeded' else 'model_not_priced' end;
      get stacked diagnostics refusal = pg_exception_detail;
    end;
  end if;
  -- A refusal changes nothing: the call is settled with what its last attempt has used.
  if code is not null then
    return jsonb_build_object('refused', code, 'message', refusal);
  end if;
  update private.llm_open_calls as c
  set spent = opened.spent, holds = opened.holds, attempt = opened.attempt, target_index = llm_raise.target_index
  where c.call_id = opened.call_id;
  update public.llm_calls as c
  -- The first attempt was counted when the call was opened.
  set attempts = c.attempts + (not is_first)::integer, provider = target ->> 'provider', model = target ->> 'name', own_key = (target ->> 'own_key')::boolean,
    held_tokens = private.llm_amount('llm_tokens', private.llm_sum(opened.spent, opened.attempt)),
    held_microusd = private.llm_amount('llm_cost_microusd', private.llm_sum(opened.spent, opened.attempt))
  where c.org_id = opened.organization and c.created_at = opened.called_at and c.id = opened.call_id;
  return jsonb_build_object('ok', true);
end
$$;
comment on function private.llm_raise(uuid, integer, jsonb) is 'Before a further attempt, and before the first one if it is not at the first target: adds what the last one used (spent: null for nothing, {"sent": false} if nobody was called yet, {"estimated": true} for all that it held, else its counts), and holds what the next one can use beyond. Answers {ok}; {refused, message} when it does not fit; null when the call has ended. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.llm_raise(uuid, integer, jsonb) to kijko_sidecar;

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
