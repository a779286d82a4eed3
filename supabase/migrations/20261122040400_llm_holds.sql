-- ============================================================================
-- LLM gateway: what an attempt can use and cost, and its holds.
--
-- A call holds by subject and meter: the organization's meters, and each budget that applies. An entry of llm_open_calls.holds is
--   {subject, meter, budget, name, unit, ends_at, holds: [ids], held, sunk, counts}
-- sunk is what former attempts used of what is held; counts says whether the running attempt uses it, too.
-- ============================================================================

-- In plpgsql for their cached plans, as whatever each call asks. Postgres plans the query of a language sql function each time.
create function private.llm_cost(requested text, reported text, usage jsonb) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  images constant bigint := private.models_parse_count(usage -> 'images');
  cost bigint := private.models_cost(requested, reported, usage);
begin
  if images > 0 then
    cost := cost + images * coalesce((private.models_price(requested, reported)).image_microusd, 0);
  end if;
  return cost;
end
$$;
comment on function private.llm_cost(text, text, jsonb) is 'Cost of a call with generated images, in the terms of models_cost(); null when no price is known. Nullable: result.';

create function private.llm_max_cost(price public.llm_models, attempt jsonb) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  input constant bigint := (attempt ->> 'input_tokens')::bigint;
  output constant bigint := (attempt ->> 'output_tokens')::bigint;
  is_long constant boolean := coalesce(input > price.long_context_tokens, false);
begin
  -- Each token at its highest price: all input may be written to the vendor's cache, and all output may be reasoning. greatest()
  -- skips what has no price of its own.
  return ceil(
    (
      input::numeric * greatest(
        price.input_microusd_per_mtok, price.cache_read_microusd_per_mtok, price.cache_write_microusd_per_mtok, price.cache_write_1h_microusd_per_mtok,
        case when is_long then greatest(
          price.long_input_microusd_per_mtok, price.long_cache_read_microusd_per_mtok, price.long_cache_write_microusd_per_mtok,
          price.long_cache_write_1h_microusd_per_mtok
        ) end
      )
      + output::numeric * greatest(
        price.output_microusd_per_mtok, price.reasoning_microusd_per_mtok, case when is_long then price.long_output_microusd_per_mtok end
      )
    ) / 1000000
  )::bigint + (attempt ->> 'images')::bigint * coalesce(price.image_microusd, 0);
end
$$;
comment on function private.llm_max_cost(public.llm_models, jsonb) is 'The highest cost of a call with these counts at a price; null without a price. Nullable: result.';

create function private.llm_input_tokens(call jsonb, target jsonb) returns bigint
language sql immutable
-- OpenAI's small models multiply what they count for an image: 50,000 tokens instead of 6,500.
return (call ->> 'input_tokens')::bigint + case
  when call ->> 'kind' = 'chat' and target ->> 'name' ~ '(mini|nano)' then coalesce((call ->> 'images')::bigint, 0) * 43500
  else 0
end;
comment on function private.llm_input_tokens(jsonb, jsonb) is 'The most that the model of a target reads in a call, its images included.';

create function private.llm_attempt(call jsonb, target jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  counts constant jsonb := jsonb_build_object(
    'input_tokens', private.llm_input_tokens(call, target),
    -- A vendor that counts tokens counts them for each image.
    'output_tokens', (call ->> 'choices')::bigint * (target ->> 'max_output_tokens')::bigint
      * case when call ->> 'kind' = 'images' then greatest((call ->> 'images')::bigint, 1) else 1 end,
    'images', case when call ->> 'kind' = 'images' then call -> 'images' else to_jsonb(0) end
  );
begin
  return counts || jsonb_build_object('cost_microusd', private.llm_max_cost(private.models_price(target ->> 'name', null), counts));
end
$$;
comment on function private.llm_attempt(jsonb, jsonb) is 'What an attempt at a target can use at most: input_tokens, output_tokens, images, cost_microusd (null without a price).';

create function private.llm_amount(meter text, used jsonb) returns bigint
language sql immutable
return case meter
  when 'llm_tokens' then coalesce((used ->> 'input_tokens')::bigint, 0) + coalesce((used ->> 'output_tokens')::bigint, 0)
  else coalesce((used ->> 'cost_microusd')::bigint, 0)
end;
comment on function private.llm_amount(text, jsonb) is 'What a use is on a meter.';

create function private.llm_wants(org uuid, attributes jsonb, route text, target jsonb, attempt jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  wants jsonb := jsonb_build_array(jsonb_build_object('subject', org, 'meter', 'llm_tokens'));
  is_priced constant boolean := attempt ->> 'cost_microusd' is not null;
  counted record;
begin
  if not (target ->> 'own_key')::boolean then
    wants := wants || jsonb_build_object('subject', org, 'meter', 'llm_cost_microusd');
  end if;
  -- In one order, so that calls that make subjects do not deadlock.
  for counted in
    select b as budget, v.value, w.starts_at, x.subject,
      w.starts_at + case b.period when 'hour' then interval '1 hour' else interval '7 days' end as ends_at,
      (select s.amount = b.amount and s.on_exceeded = b.on_exceeded from private.llm_budget_subjects as s where s.subject = x.subject) as is_set
    from public.llm_budgets as b
    cross join lateral (select private.llm_budget_value(b, attributes, route, target ->> 'name')) as v (value)
    cross join lateral (select private.llm_window_start(b.period)) as w (starts_at)
    cross join lateral (select private.llm_budget_subject(b, v.value, w.starts_at)) as x (subject)
    where b.org_id = org and b.enabled and v.value is not null
    order by b.id
  loop
    if counted.is_set is not true then
      perform private.llm_set_budget_subject(
        counted.budget, counted.value, counted.subject, counted.starts_at, counted.ends_at, private.as_uuid(attributes ->> 'project')
      );
    end if;
    if not is_priced and (counted.budget).unit = 'microusd' then
      if (counted.budget).on_exceeded = 'refuse' then
        perform kijko.fail(
          'model_not_priced', format('the budget %s is in money, and no price is known for %s', (counted.budget).name, target ->> 'name'),
          'Use a budget in tokens, or a model that has a price.'
        );
      end if;
      continue;
    end if;
    wants := wants || jsonb_build_object(
      'subject', counted.subject, 'meter', private.llm_meter((counted.budget).unit), 'budget', (counted.budget).id,
      'name', (counted.budget).name, 'unit', (counted.budget).unit, 'ends_at', counted.ends_at
    );
  end loop;
  return wants;
end
$$;
comment on function private.llm_wants(uuid, jsonb, text, jsonb, jsonb) is 'The meters and budgets that an attempt counts against. The limit of a budget that is new or has changed is set. Fails with model_not_priced if a budget in money cannot hold for it.';

create function private.llm_refuse(entry jsonb, amount bigint) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  v kijko.verdict := kijko.quota_status((entry ->> 'subject')::uuid, entry ->> 'meter');
begin
  v.allowed := false;
  v.code := 'quota_exceeded';
  v.reset_at := coalesce((entry ->> 'ends_at')::timestamptz, v.reset_at);
  v.retry_after := ceil(extract(epoch from v.reset_at - kijko.now()))::integer;
  perform kijko.limit_headers(v);
  perform kijko.fail(
    'budget_exceeded',
    format(
      'budget %s (%s): used %s of %s %s, asked for %s; resets at %s', entry ->> 'name', entry ->> 'budget', v.used, v."limit",
      entry ->> 'unit', amount, coalesce(to_char(v.reset_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'never')
    ),
    case when v.reset_at is null then 'Raise the budget.' else 'Wait for the next period or raise the budget.' end
  );
end
$$;
comment on function private.llm_refuse(jsonb, bigint) is 'Fails with budget_exceeded, and says which budget and when it resets.';

create function private.llm_hold_each(holds jsonb, wants jsonb, attempt jsonb, ttl interval) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  entries jsonb := wants;
  entry jsonb;
  missing bigint;
  made jsonb := '[]'::jsonb;
begin
  if holds <> '[]' then
    select jsonb_agg(
      h.value || jsonb_build_object('counts', exists (
        select 1 from jsonb_array_elements(wants) as w
        where w.value ->> 'subject' = h.value ->> 'subject' and w.value ->> 'meter' = h.value ->> 'meter'
      ))
      order by h.place
    )
    into entries
    from jsonb_array_elements(holds) with ordinality as h (value, place);
    entries := entries || coalesce(
      (
        select jsonb_agg(w.value order by w.place) from jsonb_array_elements(wants) with ordinality as w (value, place)
        where not exists (
          select 1 from jsonb_array_elements(holds) as h
          where h.value ->> 'subject' = w.value ->> 'subject' and h.value ->> 'meter' = w.value ->> 'meter'
        )
      ),
      '[]'
    );
  end if;

  for place in 0 .. jsonb_array_length(entries) - 1 loop
    entry := '{"holds": [], "held": 0, "sunk": 0, "counts": true}'::jsonb || (entries -> place);
    if (entry ->> 'counts')::boolean then
      missing := (entry ->> 'sunk')::bigint + private.llm_amount(entry ->> 'meter', attempt) - (entry ->> 'held')::bigint;
      if missing > 0 then
        entry := entry || jsonb_build_object(
          'holds', (entry -> 'holds') || to_jsonb(kijko.reserve((entry ->> 'subject')::uuid, entry ->> 'meter', missing, ttl)),
          'held', (entry ->> 'held')::bigint + missing
        );
      end if;
    end if;
    made := made || entry;
  end loop;
  return made;
exception when sqlstate 'KJ429' or sqlstate 'PGRST' then
  -- Inside PostgREST the code is in the message.
  if entry ->> 'budget' is null or (sqlstate = 'PGRST' and sqlerrm::jsonb ->> 'code' <> 'quota_exceeded') then
    raise;
  end if;
  perform private.llm_refuse(entry, missing);
  return null;
end
$$;
comment on function private.llm_hold_each(jsonb, jsonb, jsonb, interval) is 'As private.llm_hold(), one hold after the other: one that does not fit says why.';

create function private.llm_hold(holds jsonb, wants jsonb, attempt jsonb, ttl interval) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  tokens constant bigint := private.llm_amount('llm_tokens', attempt);
  cost constant bigint := private.llm_amount('llm_cost_microusd', attempt);
  entry jsonb;
  amount bigint;
  subjects uuid[];
  meters text[];
  amounts bigint[];
  ids uuid[];
  place_of_id integer := 0;
  made jsonb := '[]'::jsonb;
begin
  if holds <> '[]' then
    return private.llm_hold_each(holds, wants, attempt, ttl);
  end if;
  -- The first attempt: all at once. Loops and assignments of plpgsql need no executor.
  for place in 0 .. jsonb_array_length(wants) - 1 loop
    entry := wants -> place;
    amount := case when entry ->> 'meter' = 'llm_tokens' then tokens else cost end;
    if amount > 0 then
      subjects := array_append(subjects, (entry ->> 'subject')::uuid);
      meters := array_append(meters, entry ->> 'meter');
      amounts := array_append(amounts, amount);
    end if;
  end loop;
  if subjects is not null then
    ids := kijko.try_reserve_many(subjects, meters, amounts, kijko.now() + ttl);
    if ids is null then
      return private.llm_hold_each(holds, wants, attempt, ttl);
    end if;
  end if;
  for place in 0 .. jsonb_array_length(wants) - 1 loop
    entry := wants -> place || '{"holds": [], "held": 0, "sunk": 0, "counts": true}';
    amount := case when entry ->> 'meter' = 'llm_tokens' then tokens else cost end;
    if amount > 0 then
      place_of_id := place_of_id + 1;
      entry := entry || jsonb_build_object('holds', jsonb_build_array(ids[place_of_id]), 'held', amount);
    end if;
    made := made || entry;
  end loop;
  return made;
end
$$;
comment on function private.llm_hold(jsonb, jsonb, jsonb, interval) is 'The holds of a call, raised by what the attempt needs beyond them: all or none. Fails with budget_exceeded or quota_exceeded.';

create function private.llm_end_each_hold(holds jsonb, used jsonb, attributes jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
-- Restored when the function ends: the attributes are those of this use only.
set kijko.usage_attributes = '{}'
as $$
declare
  own text := attributes::text;
  entry jsonb;
  amount bigint;
  ids jsonb;
  settled integer;
begin
  for place in 0 .. jsonb_array_length(holds) - 1 loop
    entry := holds -> place;
    ids := entry -> 'holds';
    settled := 0;
    amount := (entry ->> 'sunk')::bigint + case when (entry ->> 'counts')::boolean then private.llm_amount(entry ->> 'meter', used) else 0 end;
    if amount > 0 then
      own := set_config('kijko.usage_attributes', own, true);
      -- Recorded also without a hold, and after it has expired. False when it was settled before.
      if kijko.settle(coalesce((ids ->> 0)::uuid, gen_random_uuid()), amount, (entry ->> 'subject')::uuid, entry ->> 'meter') is not null then
        settled := 1;
      end if;
    end if;
    if jsonb_array_length(ids) > settled then
      perform set_config('kijko.usage_attributes', '{}', true);
      perform kijko.release(h.value::uuid) from jsonb_array_elements_text(ids) with ordinality as h (value, place) where h.place > settled;
    end if;
  end loop;
end
$$;
comment on function private.llm_end_each_hold(jsonb, jsonb, jsonb) is 'As private.llm_end_holds(), one hold after the other: also one that has ended, and what was used without one.';

create function private.llm_end_holds_of_calls(holds jsonb[], used jsonb[], attributes jsonb[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
-- Restored when the function ends: the attributes are those of each use only.
set kijko.usage_attributes = '{}'
as $$
declare
  entry jsonb;
  amount bigint;
  ids jsonb;
  hold_ids uuid[];
  actuals bigint[];
  own jsonb[];
  are_all_held boolean := true;
begin
  -- Expressions and not queries, for each of which plpgsql would start an executor: every call comes here.
  for n in 1 .. cardinality(holds) loop
    for place in 0 .. jsonb_array_length(holds[n]) - 1 loop
      entry := holds[n] -> place;
      ids := entry -> 'holds';
      amount := (entry ->> 'sunk')::bigint + case when (entry ->> 'counts')::boolean then private.llm_amount(entry ->> 'meter', used[n]) else 0 end;
      are_all_held := are_all_held and (ids <> '[]' or amount = 0);
      -- The first one is settled, the others are released.
      for of_entry in 0 .. jsonb_array_length(ids) - 1 loop
        hold_ids := array_append(hold_ids, (ids ->> of_entry)::uuid);
        actuals := array_append(actuals, case when of_entry = 0 and amount > 0 then amount end);
        own := array_append(own, attributes[n]);
      end loop;
    end loop;
  end loop;
  if are_all_held and (hold_ids is null or kijko.try_settle_many(hold_ids, actuals, own)) then
    return;
  end if;
  for n in 1 .. cardinality(holds) loop
    perform private.llm_end_each_hold(holds[n], used[n], attributes[n]);
  end loop;
end
$$;
comment on function private.llm_end_holds_of_calls(jsonb[], jsonb[], jsonb[]) is 'Settles the holds of calls, as private.llm_end_holds() those of one, all at once.';

create function private.llm_end_holds(holds jsonb, used jsonb, attributes jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.llm_end_holds_of_calls(array[holds], array[used], array[attributes]);
end
$$;
comment on function private.llm_end_holds(jsonb, jsonb, jsonb) is 'Settles the holds of a call with what former attempts (sunk) and its last one (used) have used, and releases what is left.';
