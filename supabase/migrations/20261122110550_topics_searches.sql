-- ============================================================================
-- Topics: what searches cost, and for whom they are made.
--
-- What a search can cost at most is held before the vendor is asked, against the organization's meters and budgets. A model that answers
-- is a call of models as every other: reserved by llm_reserve_call(), a row of llm_calls, with the provider and key that the
-- organization's routes and providers name. The price of the search comes on top, unless the key is the organization's own. Both are
-- settled once. A search whose outcome nobody knows, because its process died, counts as charged and is not repeated.
-- ============================================================================

create function private.topics_person_may_search(org uuid, member uuid, key uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return private.llm_may_call(org, member, 'content:write') or (
  member is null and exists (
    select from public.api_keys as k
    where k.org_id = topics_person_may_search.org and k.id = key and k.revoked_at is null and (k.expires_at is null or k.expires_at > kijko.now())
      and 'llm:call' = any (private.api_keys_permissions_of(k))
  )
);
comment on function private.topics_person_may_search(uuid, uuid, uuid) is 'Whether a member, or a service key that is valid, holds llm:call now.';

create type private.search_caller as (member uuid, key uuid);
comment on type private.search_caller is 'For whom a search is made: a member, a key, or neither when they are gone.';

create function private.topics_caller_of(run public.discovery_runs, discovery public.discoveries) returns private.search_caller
language sql immutable set search_path = pg_catalog, pg_temp
-- Who ran it by hand, else who made it.
return case
  when run.trigger = 'manual' and num_nulls(run.created_by, run.created_by_key) < 2
    then (run.created_by, run.created_by_key)::private.search_caller
  else (discovery.created_by, discovery.created_by_key)::private.search_caller
end;
comment on function private.topics_caller_of(public.discovery_runs, public.discoveries) is 'For whom a run searches.';

create function private.topics_maker_may_search(run public.discovery_runs, discovery public.discoveries) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return not exists (select from private.collector_prices as p where p.collector = run.collector) or (
  select private.topics_person_may_search(run.org_id, c.member, c.key) from private.topics_caller_of(run, discovery) as c
);
comment on function private.topics_maker_may_search(public.discovery_runs, public.discoveries) is 'Whether who has a search run that a vendor charges for may still call models. A collector without a price needs nobody.';

create function private.topics_reserve_answer(run public.discovery_runs, price private.collector_prices, caller private.search_caller)
returns private.llm_open_calls
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  -- The vendor is called once this transaction has committed, as its caller has set it.
  former_commit constant text := current_setting('synchronous_commit');
  is_routes_only constant boolean := (select s.routes_only from public.llm_settings as s where s.org_id = run.org_id);
  reserved jsonb;
  opened private.llm_open_calls;
  kind text;
begin
  reserved := private.llm_reserve_call(run.org_id, caller.member, caller.key, jsonb_build_object(
    'kind', 'chat', 'model', price.model, 'input_tokens', price.max_input_tokens, 'choices', 1, 'images', 0,
    'max_output_tokens', least(price.max_output_tokens, (private.llm_find_route(run.org_id, price.model, is_routes_only)).max_output_tokens),
    'trace_id', replace(run.id::text, '-', '')
  ));
  perform set_config('synchronous_commit', former_commit, true);
  opened := private.llm_lock_call((reserved ->> 'call_id')::uuid);
  select p.kind into kind from public.llm_providers as p where p.id = (opened.call #>> '{targets,0,provider_id}')::uuid;
  if kind is distinct from 'gemini' then
    perform kijko.fail(
      'model_not_allowed', format('%s is answered by a provider of the kind %s, which has no Google Search', price.model, kind),
      'Let the route of this name have a model of Gemini first.'
    );
  end if;
  return opened;
end
$$;
comment on function private.topics_reserve_answer(public.discovery_runs, private.collector_prices, private.search_caller) is 'Holds what the model that answers a search can use, as a call of models. Fails as llm_reserve_call() does, and with model_not_allowed if a route names another vendor.';

create function private.topics_hold_search(run public.discovery_runs, discovery public.discoveries, worker text, attempt_number integer)
returns private.discovery_holds
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant private.search_caller := private.topics_caller_of(run, discovery);
  price private.collector_prices;
  opened private.llm_open_calls;
  fee bigint;
  attempt jsonb;
  attributes jsonb;
  hold private.discovery_holds;
begin
  select p.* into price from private.collector_prices as p where p.collector = run.collector;
  if price.collector is null then
    return null;
  end if;
  if price.model is not null then
    opened := private.topics_reserve_answer(run, price, caller);
  end if;
  fee := case when (opened.call #>> '{targets,0,own_key}')::boolean then 0 else price.search_microusd end;
  attempt := jsonb_build_object('input_tokens', 0, 'output_tokens', 0, 'images', 0, 'cost_microusd', fee);
  attributes := private.executions_usage_attributes(caller.member, caller.key, null, null, null);
  insert into private.discovery_holds (organization, run_id, attempt, worker, search_microusd, call_id, holds, held, attributes)
  values (
    run.org_id, run.id, attempt_number, worker, fee, opened.call_id,
    case when fee = 0 then '[]' else private.llm_hold(
      '[]',
      private.llm_wants(
        run.org_id, attributes, run.collector, jsonb_build_object('own_key', false, 'name', coalesce(price.model, run.collector)), attempt
      ),
      attempt, interval '1 day'
    ) end,
    attempt, attributes
  )
  returning * into hold;
  return hold;
end
$$;
comment on function private.topics_hold_search(public.discovery_runs, public.discoveries, text, integer) is 'Holds what a search of a started run can cost at most; null if nothing is charged. Fails with quota_exceeded, budget_exceeded or model_not_priced, among others. Nullable: result.';

create function private.topics_settle_answer(hold private.discovery_holds, spent jsonb) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if hold.call_id is null then
    return 0;
  end if;
  -- Once; it may have been settled for its time.
  perform private.llm_settle(hold.call_id, case
    when spent is null or jsonb_typeof(spent) = 'null' then '{"status": "cancelled", "error_code": "not_answered", "prompt_tokens": 0, "completion_tokens": 0}'
    when spent ? 'searches' then jsonb_build_object(
      'status', 'succeeded', 'model', spent -> 'model', 'prompt_tokens', spent -> 'input_tokens', 'completion_tokens', spent -> 'output_tokens',
      'reasoning_tokens', spent -> 'reasoning_tokens'
    )
    -- Nobody knows.
    else '{"status": "failed", "error_code": "no_answer"}'
  end);
  return coalesce((select c.cost_microusd from public.llm_calls as c where c.org_id = hold.organization and c.id = hold.call_id), 0);
end
$$;
comment on function private.topics_settle_answer(private.discovery_holds, jsonb) is 'Settles the call of the model that answers a search, and returns its cost.';

create function private.topics_settle_hold(hold private.discovery_holds, spent jsonb) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  answer constant bigint := private.topics_settle_answer(hold, spent);
  used jsonb;
begin
  -- By the price that was held: a member may have changed the collector since, and the operator its price.
  used := case
    when spent is null or jsonb_typeof(spent) = 'null' then '{"input_tokens": 0, "output_tokens": 0, "cost_microusd": 0}'
    when spent ? 'searches' then jsonb_build_object(
      'input_tokens', 0, 'output_tokens', 0, 'cost_microusd', private.models_parse_count(spent -> 'searches') * hold.search_microusd
    )
    else hold.held
  end;
  perform private.llm_end_holds(hold.holds, used, hold.attributes);
  return answer + (used ->> 'cost_microusd')::bigint;
end
$$;
comment on function private.topics_settle_hold(private.discovery_holds, jsonb) is 'Settles what a deleted hold of a search stood for, and returns its cost. spent: null for nothing, {searches, model, input_tokens, output_tokens, reasoning_tokens} for what the vendor says, anything else for all that is held.';

create function private.topics_settle_search(run public.discovery_runs, spent jsonb) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  hold private.discovery_holds;
begin
  delete from private.discovery_holds as h where h.organization = run.org_id and h.run_id = run.id returning h.* into hold;
  return case when hold.run_id is null then 0 else private.topics_settle_hold(hold, spent) end;
end
$$;
comment on function private.topics_settle_search(public.discovery_runs, jsonb) is 'Settles what a search holds, once, and returns its cost, as topics_settle_hold() does.';
