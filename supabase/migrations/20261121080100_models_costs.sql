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

-- The functions that price a call are plpgsql: Postgres keeps their plans, and would plan a language sql function at each call.
create function private.models_rates(price public.llm_models, long boolean, priority boolean)
returns table (input bigint, output bigint, reasoning bigint, cache_read bigint, cache_write bigint, cache_write_1h bigint)
language plpgsql immutable rows 1 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  -- A missing price is that of the next more general kind. If two surcharges apply, the higher one counts.
  with plain as (
    select
      price.input_microusd_per_mtok as input,
      price.output_microusd_per_mtok as output,
      coalesce(price.reasoning_microusd_per_mtok, price.output_microusd_per_mtok) as reasoning,
      coalesce(price.cache_read_microusd_per_mtok, price.input_microusd_per_mtok) as cache_read,
      coalesce(price.cache_write_microusd_per_mtok, price.input_microusd_per_mtok) as cache_write,
      coalesce(price.cache_write_1h_microusd_per_mtok, price.cache_write_microusd_per_mtok, price.input_microusd_per_mtok) as cache_write_1h
  ),
  long_rates as (
    select
      coalesce(price.long_input_microusd_per_mtok, p.input) as input,
      coalesce(price.long_output_microusd_per_mtok, p.output) as output,
      coalesce(price.long_cache_read_microusd_per_mtok, price.cache_read_microusd_per_mtok, price.long_input_microusd_per_mtok, p.input) as cache_read,
      coalesce(price.long_cache_write_microusd_per_mtok, price.cache_write_microusd_per_mtok, price.long_input_microusd_per_mtok, p.input) as cache_write,
      coalesce(
        price.long_cache_write_1h_microusd_per_mtok, price.cache_write_1h_microusd_per_mtok, price.long_cache_write_microusd_per_mtok,
        price.cache_write_microusd_per_mtok, price.long_input_microusd_per_mtok, p.input
      ) as cache_write_1h
    from plain as p
  ),
  by_length as (
    select
      case when long then l.input else p.input end as input,
      case when long then l.output else p.output end as output,
      case when long and price.reasoning_microusd_per_mtok is null then l.output
        when long then greatest(p.reasoning, l.output) else p.reasoning end as reasoning,
      case when long then l.cache_read else p.cache_read end as cache_read,
      case when long then l.cache_write else p.cache_write end as cache_write,
      case when long then l.cache_write_1h else p.cache_write_1h end as cache_write_1h
    from plain as p cross join long_rates as l
  )
  -- greatest() skips nulls: without a price for the tier, it costs as any other call.
  select
    case when priority then greatest(b.input, price.priority_input_microusd_per_mtok) else b.input end,
    case when priority then greatest(b.output, price.priority_output_microusd_per_mtok) else b.output end,
    case when priority then greatest(b.reasoning, price.priority_output_microusd_per_mtok) else b.reasoning end,
    case when priority
      then greatest(b.cache_read, coalesce(price.priority_cache_read_microusd_per_mtok, price.priority_input_microusd_per_mtok))
      else b.cache_read end,
    case when priority then greatest(b.cache_write, price.priority_input_microusd_per_mtok) else b.cache_write end,
    case when priority then greatest(b.cache_write_1h, price.priority_input_microusd_per_mtok) else b.cache_write_1h end
  from by_length as b;
end
$$;
comment on function private.models_rates(public.llm_models, boolean, boolean) is 'Price of a million tokens of each kind: beyond the long-context step (long) or not, at service_tier priority or not.';

create function private.models_cost(requested text, reported text, usage jsonb) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
  with price as (
    select p.* from private.models_price(requested, reported) as p where p.id is not null
  ),
  -- A vendor's counts may not add up: parts are cut to the whole.
  whole as (
    select private.models_parse_count(usage -> 'input_tokens') as input, private.models_parse_count(usage -> 'output_tokens') as output,
      coalesce(usage -> 'batch' = 'true', false) as batch, coalesce(usage ->> 'service_tier' = 'priority', false) as priority
  ),
  reads as (
    select w.*, least(private.models_parse_count(usage -> 'reasoning_tokens'), w.output) as reasoning,
      least(private.models_parse_count(usage -> 'cache_read_tokens'), w.input) as cache_read
    from whole as w
  ),
  writes as (
    select r.*, least(private.models_parse_count(usage -> 'cache_write_tokens'), r.input - r.cache_read) as cache_write from reads as r
  ),
  tokens as (
    select w.*, least(private.models_parse_count(usage -> 'cache_write_1h_tokens'), w.cache_write) as cache_write_1h from writes as w
  ),
  -- A batch's discount is a fraction of the plain price; a price of 0 has none.
  discount as (
    select
      case when t.batch and p.input_microusd_per_mtok > 0 then coalesce(p.batch_input_microusd_per_mtok, p.input_microusd_per_mtok) else 1 end::numeric as input_part,
      case when t.batch and p.input_microusd_per_mtok > 0 then p.input_microusd_per_mtok else 1 end::numeric as input_whole,
      case when t.batch and p.output_microusd_per_mtok > 0 then coalesce(p.batch_output_microusd_per_mtok, p.output_microusd_per_mtok) else 1 end::numeric as output_part,
      case when t.batch and p.output_microusd_per_mtok > 0 then p.output_microusd_per_mtok else 1 end::numeric as output_whole
    from price as p cross join tokens as t
  )
  -- Rounded once, at the end. The division comes last, so every step before it is exact.
  select ceil(
    (
      (
        (t.input - t.cache_read - t.cache_write)::numeric * r.input + t.cache_read::numeric * r.cache_read
        + (t.cache_write - t.cache_write_1h)::numeric * r.cache_write + t.cache_write_1h::numeric * r.cache_write_1h
      ) * d.input_part * d.output_whole
      + ((t.output - t.reasoning)::numeric * r.output + t.reasoning::numeric * r.reasoning) * d.output_part * d.input_whole
    ) / (d.input_whole * d.output_whole * 1000000)
  )::bigint
  from price as p
  cross join tokens as t
  cross join discount as d
  -- If the input is beyond the step, the whole call costs the long prices.
  cross join lateral private.models_rates(p::public.llm_models, coalesce(t.input > p.long_context_tokens, false), t.priority) as r
  );
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
