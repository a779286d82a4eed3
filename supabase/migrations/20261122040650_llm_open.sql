-- ============================================================================
-- LLM gateway: a call is opened and raised by the sidecar.
-- ============================================================================

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
