-- ============================================================================
-- Models: prices, and their import.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- llm_models: prices
-- ----------------------------------------------------------------------------

create table public.llm_models (
  id text primary key check (char_length(id) <= 200 and id ~ '^[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9*][A-Za-z0-9_.:/@*-]*$'),
  provider text not null generated always as (split_part(id, '/', 1)) stored,
  input_microusd_per_mtok bigint not null check (input_microusd_per_mtok >= 0),
  output_microusd_per_mtok bigint not null check (output_microusd_per_mtok >= 0),
  cache_read_microusd_per_mtok bigint check (cache_read_microusd_per_mtok >= 0),
  cache_write_microusd_per_mtok bigint check (cache_write_microusd_per_mtok >= 0),
  cache_write_1h_microusd_per_mtok bigint check (cache_write_1h_microusd_per_mtok >= 0),
  batch_input_microusd_per_mtok bigint check (batch_input_microusd_per_mtok >= 0),
  batch_output_microusd_per_mtok bigint check (batch_output_microusd_per_mtok >= 0),
  long_context_tokens bigint check (long_context_tokens > 0),
  long_input_microusd_per_mtok bigint check (long_input_microusd_per_mtok >= 0),
  long_output_microusd_per_mtok bigint check (long_output_microusd_per_mtok >= 0),
  long_cache_read_microusd_per_mtok bigint check (long_cache_read_microusd_per_mtok >= 0),
  long_cache_write_microusd_per_mtok bigint check (long_cache_write_microusd_per_mtok >= 0),
  long_cache_write_1h_microusd_per_mtok bigint check (long_cache_write_1h_microusd_per_mtok >= 0),
  reasoning_microusd_per_mtok bigint check (reasoning_microusd_per_mtok >= 0),
  priority_input_microusd_per_mtok bigint check (priority_input_microusd_per_mtok >= 0),
  priority_output_microusd_per_mtok bigint check (priority_output_microusd_per_mtok >= 0),
  priority_cache_read_microusd_per_mtok bigint check (priority_cache_read_microusd_per_mtok >= 0),
  max_output_tokens bigint check (max_output_tokens > 0),
  image_microusd bigint check (image_microusd >= 0),
  source text not null default 'operator' check (source in ('operator', 'seed', 'litellm')),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.llm_models is 'Prices by model; the same for every tenant, and public. A model without a price is not called (model_not_priced); one that is free has a row that says 0.';
comment on column public.llm_models.id is 'provider/model as skills name it, or provider/* for every model of a provider that has no row of its own.';
comment on column public.llm_models.provider is 'The part before the slash.';
comment on column public.llm_models.input_microusd_per_mtok is 'Price of a million input tokens in millionths of a US dollar.';
comment on column public.llm_models.output_microusd_per_mtok is 'Price of a million output tokens in millionths of a US dollar.';
comment on column public.llm_models.cache_read_microusd_per_mtok is 'The same for input tokens read from the vendor''s cache; null costs as input.';
comment on column public.llm_models.cache_write_microusd_per_mtok is 'The same for input tokens written to the vendor''s cache; null costs as input.';
comment on column public.llm_models.cache_write_1h_microusd_per_mtok is 'The same for tokens that the cache keeps an hour; null costs as any other write.';
comment on column public.llm_models.batch_input_microusd_per_mtok is 'Price of input in a batch call. Cached tokens and tokens beyond the step get the same discount in proportion. Null: no discount.';
comment on column public.llm_models.batch_output_microusd_per_mtok is 'Price of output in a batch call. Null: no discount.';
comment on column public.llm_models.long_context_tokens is 'A call with more input tokens than this costs the long prices throughout; null when there is no such step.';
comment on column public.llm_models.long_input_microusd_per_mtok is 'Price of input beyond the step; null costs as before it.';
comment on column public.llm_models.long_output_microusd_per_mtok is 'Price of output beyond the step; null costs as before it.';
comment on column public.llm_models.long_cache_read_microusd_per_mtok is 'Price of cache reads beyond the step; null costs as before it.';
comment on column public.llm_models.long_cache_write_microusd_per_mtok is 'Price of cache writes beyond the step; null costs as before it.';
comment on column public.llm_models.long_cache_write_1h_microusd_per_mtok is 'Price of one-hour cache writes beyond the step; null costs as before it.';
comment on column public.llm_models.reasoning_microusd_per_mtok is 'Price of output tokens that the model thinks with; null costs as output. Beyond the step and at priority they cost at least as much as the other output.';
comment on column public.llm_models.priority_input_microusd_per_mtok is 'Price of input at service_tier priority. Without it, or the one of output, that tier is refused before the call.';
comment on column public.llm_models.priority_output_microusd_per_mtok is 'Price of output at service_tier priority.';
comment on column public.llm_models.priority_cache_read_microusd_per_mtok is 'Price of cache reads at service_tier priority; null costs as input at that tier.';
comment on column public.llm_models.max_output_tokens is 'The longest answer that the model gives; null when unknown. Bounds the default of max_tokens.';
comment on column public.llm_models.image_microusd is 'The most that a generated image costs, beside tokens; null when the model makes none.';
comment on column public.llm_models.source is 'operator: set by hand, and no import touches it; seed or litellm: where it was taken from.';
comment on column public.llm_models.created_at is 'When the price was added.';
comment on column public.llm_models.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.llm_models', '{
  "provider, input_microusd_per_mtok, output_microusd_per_mtok, cache_read_microusd_per_mtok": "prices of a model",
  "cache_write_microusd_per_mtok, cache_write_1h_microusd_per_mtok, batch_input_microusd_per_mtok": "prices of a model",
  "batch_output_microusd_per_mtok, long_context_tokens, long_input_microusd_per_mtok": "prices of a model",
  "long_output_microusd_per_mtok, long_cache_read_microusd_per_mtok, long_cache_write_microusd_per_mtok": "prices of a model",
  "long_cache_write_1h_microusd_per_mtok, reasoning_microusd_per_mtok, priority_input_microusd_per_mtok": "prices of a model",
  "priority_output_microusd_per_mtok, priority_cache_read_microusd_per_mtok, max_output_tokens, image_microusd, source": "prices of a model"
}', 'platform');

alter table public.llm_models enable row level security;
grant select on public.llm_models to anon, authenticated;
grant select, insert, update, delete on public.llm_models to service_role;
create policy llm_models_select on public.llm_models for select to anon, authenticated using (true);
create trigger llm_models_touch before update on public.llm_models
  for each row execute function private.touch_updated_at();

-- The echo provider is for development; it has a price so that accounting can be seen without a vendor.
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, source) values
  ('echo/*', 150000, 600000, 'seed');
-- The demo's model when there is a key. An import replaces it.
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, cache_read_microusd_per_mtok, max_output_tokens, source) values
  ('openai/gpt-4o-mini', 150000, 600000, 75000, 16384, 'seed');

-- LiteLLM's model_prices_and_context_window.json: an object by model name, with prices in dollars for one token. That file
-- changes without notice, so an entry that is not understood is skipped with its reason; nothing is guessed.
create function private.models_parse_litellm_price(name text, entry jsonb, providers text[])
returns table (id text, prices jsonb, reason text)
language plpgsql stable set search_path = ''
as $$
declare
  vendor text := entry ->> 'litellm_provider';
  step text;
  field record;
  price numeric;
begin
  id := null;
  prices := '{}';
  reason := case
    when name = 'sample_spec' then 'an explanation, no model'
    when jsonb_typeof(entry) is distinct from 'object' then 'not an object'
    when vendor is null then 'no litellm_provider'
    when vendor <> all (providers) then format('provider %s is not imported', substring(vendor for 60))
    when (entry ->> 'mode' in ('chat', 'embedding')) is not true
      then format('mode %s, not chat or embedding', coalesce(substring(entry ->> 'mode' for 60), 'unknown'))
    when not entry ?& array['input_cost_per_token', 'output_cost_per_token'] then 'no price for a token'
  end;
  if reason is not null then
    return next;
    return;
  end if;

  id := vendor || '/' || case when starts_with(name, vendor || '/') then substring(name from char_length(vendor) + 2) else name end;
  if char_length(id) > 200 or id !~ '^[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.:/@-]*$' then
    reason := 'not a name that a skill can have';
    return next;
    return;
  end if;

  -- Only the lowest step is kept. Calls beyond it then cost at least the long price.
  select m.k into step
  from jsonb_object_keys(entry) as e (key)
  cross join lateral regexp_matches(e.key, '^input_cost_per_token_above_(\d{1,6})k_tokens$') as g (groups)
  cross join lateral (select g.groups[1] as k) as m
  order by m.k::integer
  limit 1;
  if step::integer > 0 then
    prices := jsonb_build_object('long_context_tokens', step::bigint * 1000);
  end if;

  for field in
    select f.key, f.col
    from (values
      ('input_cost_per_token', 'input_microusd_per_mtok'),
      ('output_cost_per_token', 'output_microusd_per_mtok'),
      ('cache_read_input_token_cost', 'cache_read_microusd_per_mtok'),
      ('cache_creation_input_token_cost', 'cache_write_microusd_per_mtok'),
      ('cache_creation_input_token_cost_above_1hr', 'cache_write_1h_microusd_per_mtok'),
      ('input_cost_per_token_batches', 'batch_input_microusd_per_mtok'),
      ('output_cost_per_token_batches', 'batch_output_microusd_per_mtok'),
      (format('input_cost_per_token_above_%sk_tokens', step), 'long_input_microusd_per_mtok'),
      (format('output_cost_per_token_above_%sk_tokens', step), 'long_output_microusd_per_mtok'),
      (format('cache_read_input_token_cost_above_%sk_tokens', step), 'long_cache_read_microusd_per_mtok'),
      (format('cache_creation_input_token_cost_above_%sk_tokens', step), 'long_cache_write_microusd_per_mtok'),
      (format('cache_creation_input_token_cost_above_1hr_above_%sk_tokens', step), 'long_cache_write_1h_microusd_per_mtok'),
      ('output_cost_per_reasoning_token', 'reasoning_microusd_per_mtok'),
      ('input_cost_per_token_priority', 'priority_input_microusd_per_mtok'),
      ('output_cost_per_token_priority', 'priority_output_microusd_per_mtok'),
      ('cache_read_input_token_cost_priority', 'priority_cache_read_microusd_per_mtok')
    ) as f (key, col)
    where jsonb_typeof(entry -> f.key) <> 'null'
  loop
    if jsonb_typeof(entry -> field.key) <> 'number' then
      reason := format('%s is no number', field.key);
      return next;
      return;
    end if;
    -- Dollars for a token are millionths of a dollar for a million tokens times 10^12. The file's figures are rounded
    -- binary fractions (1.8750000000000002e-08), so the nearest whole number is meant.
    price := round((entry ->> field.key)::numeric * 1000000000000);
    if price < 0 or price > 1000000000000000 then
      reason := format('%s is out of range', field.key);
      return next;
      return;
    end if;
    prices := prices || jsonb_build_object(field.col, price);
  end loop;
  if not prices ?& array['input_microusd_per_mtok', 'output_microusd_per_mtok'] then
    reason := 'no price for a token';
  end if;
  -- This is no price: a value that is not understood is left out, and the model is kept.
  if jsonb_typeof(entry -> 'max_output_tokens') = 'number' and (entry ->> 'max_output_tokens')::numeric between 1 and 1000000000 then
    prices := prices || jsonb_build_object('max_output_tokens', trunc((entry ->> 'max_output_tokens')::numeric));
  end if;
  return next;
end
$$;
comment on function private.models_parse_litellm_price(text, jsonb, text[]) is 'One entry of LiteLLM''s price file as columns of llm_models, or the reason why it is none.';

create function private.models_import_prices(prices jsonb, providers text[] default array['openai', 'anthropic', 'gemini']) returns jsonb
language plpgsql set search_path = ''
as $$
declare
  entry record;
  known public.llm_models;
  priced public.llm_models;
  added integer := 0;
  changed integer := 0;
  unchanged integer := 0;
  skipped jsonb := '[]'::jsonb;
begin
  if jsonb_typeof(prices) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'prices: an object by model name');
  end if;
  -- Ordered by name: if a file has a model under two names (with and without the vendor's prefix), the same one wins each time.
  for entry in
    select distinct on (coalesce(r.id, e.key)) e.key, r.id, r.prices, r.reason
    from jsonb_each(models_import_prices.prices) as e
    cross join lateral private.models_parse_litellm_price(e.key, e.value, providers) as r
    order by coalesce(r.id, e.key), r.reason nulls first, e.key
  loop
    if entry.reason is not null then
      skipped := skipped || jsonb_build_object('model', substring(entry.key for 200), 'reason', entry.reason);
      continue;
    end if;
    select m.* into known from public.llm_models as m where m.id = entry.id for update;
    if known.source = 'operator' then
      skipped := skipped || jsonb_build_object('model', entry.id, 'reason', 'its price was set by hand');
      continue;
    end if;
    priced := jsonb_populate_record(null::public.llm_models, entry.prices);
    if known.id is not null and jsonb_strip_nulls(to_jsonb(known) - array['id', 'provider', 'source', 'created_at', 'updated_at']) = entry.prices
      and known.source = 'litellm' then
      unchanged := unchanged + 1;
      continue;
    end if;
    insert into public.llm_models as m (
      id, source, input_microusd_per_mtok, output_microusd_per_mtok,
      cache_read_microusd_per_mtok, cache_write_microusd_per_mtok, cache_write_1h_microusd_per_mtok,
      batch_input_microusd_per_mtok, batch_output_microusd_per_mtok, long_context_tokens,
      long_input_microusd_per_mtok, long_output_microusd_per_mtok,
      long_cache_read_microusd_per_mtok, long_cache_write_microusd_per_mtok, long_cache_write_1h_microusd_per_mtok,
      reasoning_microusd_per_mtok, priority_input_microusd_per_mtok, priority_output_microusd_per_mtok,
      priority_cache_read_microusd_per_mtok, max_output_tokens
    ) values (
      entry.id, 'litellm', priced.input_microusd_per_mtok, priced.output_microusd_per_mtok,
      priced.cache_read_microusd_per_mtok, priced.cache_write_microusd_per_mtok, priced.cache_write_1h_microusd_per_mtok,
      priced.batch_input_microusd_per_mtok, priced.batch_output_microusd_per_mtok, priced.long_context_tokens,
      priced.long_input_microusd_per_mtok, priced.long_output_microusd_per_mtok,
      priced.long_cache_read_microusd_per_mtok, priced.long_cache_write_microusd_per_mtok, priced.long_cache_write_1h_microusd_per_mtok,
      priced.reasoning_microusd_per_mtok, priced.priority_input_microusd_per_mtok, priced.priority_output_microusd_per_mtok,
      priced.priority_cache_read_microusd_per_mtok, priced.max_output_tokens
    )
    on conflict (id) do update set
      source = excluded.source,
      input_microusd_per_mtok = excluded.input_microusd_per_mtok,
      output_microusd_per_mtok = excluded.output_microusd_per_mtok,
      cache_read_microusd_per_mtok = excluded.cache_read_microusd_per_mtok,
      cache_write_microusd_per_mtok = excluded.cache_write_microusd_per_mtok,
      cache_write_1h_microusd_per_mtok = excluded.cache_write_1h_microusd_per_mtok,
      batch_input_microusd_per_mtok = excluded.batch_input_microusd_per_mtok,
      batch_output_microusd_per_mtok = excluded.batch_output_microusd_per_mtok,
      long_context_tokens = excluded.long_context_tokens,
      long_input_microusd_per_mtok = excluded.long_input_microusd_per_mtok,
      long_output_microusd_per_mtok = excluded.long_output_microusd_per_mtok,
      long_cache_read_microusd_per_mtok = excluded.long_cache_read_microusd_per_mtok,
      long_cache_write_microusd_per_mtok = excluded.long_cache_write_microusd_per_mtok,
      long_cache_write_1h_microusd_per_mtok = excluded.long_cache_write_1h_microusd_per_mtok,
      reasoning_microusd_per_mtok = excluded.reasoning_microusd_per_mtok,
      priority_input_microusd_per_mtok = excluded.priority_input_microusd_per_mtok,
      priority_output_microusd_per_mtok = excluded.priority_output_microusd_per_mtok,
      priority_cache_read_microusd_per_mtok = excluded.priority_cache_read_microusd_per_mtok,
      max_output_tokens = excluded.max_output_tokens;
    if known.id is null then added := added + 1; else changed := changed + 1; end if;
  end loop;
  return jsonb_build_object('added', added, 'changed', changed, 'unchanged', unchanged, 'skipped', skipped);
end
$$;
comment on function private.models_import_prices(jsonb, text[]) is 'Imports prices from LiteLLM''s price file. Returns how many it added, changed and left unchanged, and what it skipped, with the reason. It keeps prices that were set by hand. It also keeps models that the file no longer has, because executions of them may still end.';

-- Without a "set" clause Postgres puts the body in its place; it would plan it at each call otherwise.
create function private.models_provider(model text) returns text
language sql immutable parallel safe
-- As the sidecar chooses it: by the part before the slash, or by a well-known name.
return case
  when strpos(model, '/') > 0 then split_part(model, '/', 1)
  when starts_with(model, 'claude-') then 'anthropic'
  when starts_with(model, 'gemini-') then 'gemini'
  else 'openai'
end;
comment on function private.models_provider(text) is 'The provider that runs a model.';

-- In plpgsql for its cached plan, as models_cost().
create function private.models_price(requested text, reported text) returns public.llm_models
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  price public.llm_models;
begin
  -- The most exact price wins. Vendors report dated names ("gpt-4o-2024-08-06") for the requested one, and a well-known name
  -- may be requested without its provider.
  select m.* into price from public.llm_models as m where m.id = coalesce(reported, requested);
  if found then
    return price;
  end if;
  select m.* into price
  from unnest(array[
    reported, requested, split_part(reported, '/', 1) || '/' || requested,
    case when strpos(requested, '/') = 0 then private.models_provider(requested) || '/' || requested end,
    split_part(reported, '/', 1) || '/*',
    private.models_provider(requested) || '/*'
  ]) with ordinality as candidate (id, preference)
  join public.llm_models as m on m.id = candidate.id
  order by candidate.preference
  limit 1;
  return price;
end
$$;
comment on function private.models_price(text, text) is 'The price of a model, by the requested name and the name that the vendor reports; null when there is none.';

create function private.models_unpriced_reason(model text, service_tier text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when p.id is null then format('no price is known for %s', coalesce(model, 'no model'))
    -- Only OpenAI's services receive the tier. auto and default cost the plain price, flex costs less.
    when p.provider in ('anthropic', 'gemini', 'echo') or coalesce(service_tier, 'auto') in ('auto', 'default', 'flex') then null
    when service_tier = 'priority' and p.priority_input_microusd_per_mtok is not null and p.priority_output_microusd_per_mtok is not null then null
    else format('no price is known for %s at service_tier %s', model, substring(service_tier for 60))
  end
  from (select) as one
  left join lateral private.models_price(model, null) as p on true
$$;
comment on function private.models_unpriced_reason(text, text) is 'Why a call of this model at this service tier has no price, or null when it has one.';
