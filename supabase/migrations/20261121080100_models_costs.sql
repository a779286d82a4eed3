-- ============================================================================
-- Models: what a call costs.
-- ============================================================================

create function private.models_parse_count(value jsonb) returns bigint
language sql immutable
return case
  when pg_catalog.jsonb_typeof(value) = 'number'
  then least(greatest(pg_catalog.trunc((value #>> '{}')::numeric), 0), 1000000000000)::bigint
  else 0
end;
comment on function private.models_parse_count(jsonb) is 'A count that a worker reports, as a whole number that is bounded and not negative; 0 when it is no number.';

-- The functions that price a call are plpgsql, whose expressions need neither a planner nor an executor: every call asks them.
create function private.models_rates(
  price public.llm_models, long boolean, priority boolean,
  out input bigint, out output bigint, out reasoning bigint, out cache_read bigint, out cache_write bigint, out cache_write_1h bigint
)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  -- A missing price is that of the next more general kind. If two surcharges apply, the higher one counts.
  if long then
    input := coalesce(price.long_input_microusd_per_mtok, price.input_microusd_per_mtok);
    output := coalesce(price.long_output_microusd_per_mtok, price.output_microusd_per_mtok);
    reasoning := case when price.reasoning_microusd_per_mtok is null then output else greatest(price.reasoning_microusd_per_mtok, output) end;
    cache_read := coalesce(price.long_cache_read_microusd_per_mtok, price.cache_read_microusd_per_mtok, input);
    cache_write := coalesce(price.long_cache_write_microusd_per_mtok, price.cache_write_microusd_per_mtok, input);
    cache_write_1h := coalesce(
      price.long_cache_write_1h_microusd_per_mtok, price.cache_write_1h_microusd_per_mtok, price.long_cache_write_microusd_per_mtok,
      price.cache_write_microusd_per_mtok, input
    );
  else
    input := price.input_microusd_per_mtok;
    output := price.output_microusd_per_mtok;
    reasoning := coalesce(price.reasoning_microusd_per_mtok, output);
    cache_read := coalesce(price.cache_read_microusd_per_mtok, input);
    cache_write := coalesce(price.cache_write_microusd_per_mtok, input);
    cache_write_1h := coalesce(price.cache_write_1h_microusd_per_mtok, cache_write);
  end if;
  -- greatest() skips nulls: without a price for the tier, it costs as any other call.
  if priority then
    input := greatest(input, price.priority_input_microusd_per_mtok);
    output := greatest(output, price.priority_output_microusd_per_mtok);
    reasoning := greatest(reasoning, price.priority_output_microusd_per_mtok);
    cache_read := greatest(cache_read, coalesce(price.priority_cache_read_microusd_per_mtok, price.priority_input_microusd_per_mtok));
    cache_write := greatest(cache_write, price.priority_input_microusd_per_mtok);
    cache_write_1h := greatest(cache_write_1h, price.priority_input_microusd_per_mtok);
  end if;
end
$$;
comment on function private.models_rates(public.llm_models, boolean, boolean) is 'Price of a million tokens of each kind: beyond the long-context step (long) or not, at service_tier priority or not.';

create function private.models_cost(requested text, reported text, usage jsonb) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  price constant public.llm_models := private.models_price(requested, reported);
  -- A vendor's counts may not add up: parts are cut to the whole.
  input constant bigint := private.models_parse_count(usage -> 'input_tokens');
  output constant bigint := private.models_parse_count(usage -> 'output_tokens');
  reasoning constant bigint := least(private.models_parse_count(usage -> 'reasoning_tokens'), output);
  cache_read constant bigint := least(private.models_parse_count(usage -> 'cache_read_tokens'), input);
  cache_write constant bigint := least(private.models_parse_count(usage -> 'cache_write_tokens'), input - cache_read);
  cache_write_1h constant bigint := least(private.models_parse_count(usage -> 'cache_write_1h_tokens'), cache_write);
  rates record;
  -- A batch's discount is a fraction of the plain price; a price of 0 has none.
  batch_input constant boolean := usage -> 'batch' = 'true' and price.input_microusd_per_mtok > 0;
  batch_output constant boolean := usage -> 'batch' = 'true' and price.output_microusd_per_mtok > 0;
  input_part constant numeric := case when batch_input then coalesce(price.batch_input_microusd_per_mtok, price.input_microusd_per_mtok) else 1 end;
  input_whole constant numeric := case when batch_input then price.input_microusd_per_mtok else 1 end;
  output_part constant numeric := case when batch_output then coalesce(price.batch_output_microusd_per_mtok, price.output_microusd_per_mtok) else 1 end;
  output_whole constant numeric := case when batch_output then price.output_microusd_per_mtok else 1 end;
begin
  if price.id is null then
    return null;
  end if;
  -- If the input is beyond the step, the whole call costs the long prices.
  rates := private.models_rates(price, coalesce(input > price.long_context_tokens, false), coalesce(usage ->> 'service_tier' = 'priority', false));
  -- Rounded once, at the end. The division comes last, so every step before it is exact.
  return ceil(
    (
      (
        (input - cache_read - cache_write)::numeric * rates.input + cache_read::numeric * rates.cache_read
        + (cache_write - cache_write_1h)::numeric * rates.cache_write + cache_write_1h::numeric * rates.cache_write_1h
      ) * input_part * output_whole
      + ((output - reasoning)::numeric * rates.output + reasoning::numeric * rates.reasoning) * output_part * input_whole
    ) / (input_whole * output_whole * 1000000)
  )::bigint;
end
$$;
comment on function private.models_cost(text, text, jsonb) is 'Cost of a call in millionths of a US dollar, rounded up once; null when no price is known. Usage: input_tokens (cached ones among them), output_tokens (reasoning_tokens among them), cache_read_tokens, cache_write_tokens, cache_write_1h_tokens (among the writes), batch, service_tier.';

create function private.models_max_cost(model text, call jsonb) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return greatest(
  private.models_cost(model, null, call),
  private.models_cost(model, null, call || jsonb_build_object('reasoning_tokens', call -> 'output_tokens'))
);
comment on function private.models_max_cost(text, jsonb) is 'The highest cost of a call with these token counts: all output may be reasoning.';
