-- ============================================================================
-- Stripe: small functions that read an event.
--
-- The bodies with "return" are parsed when they are created, so no name in them can be
-- captured. They have no "set" clause, because with one Postgres would not inline them.
-- Functions with a subquery are not inlined either: an SQL function would be planned in
-- each call, and plpgsql keeps the plan.
-- ============================================================================

create function private.stripe_id(reference jsonb) returns text
language sql immutable parallel safe
return case jsonb_typeof(reference) when 'string' then reference #>> '{}' when 'object' then reference ->> 'id' end;
comment on function private.stripe_id(jsonb) is 'Id of a reference, which is the id itself or the expanded object.';

create function private.stripe_customer_of(object jsonb) returns text
language sql immutable parallel safe
return case object ->> 'object'
  when 'customer' then object ->> 'id'
  when 'price' then null
  else private.stripe_id(object -> 'customer')
end;
comment on function private.stripe_customer_of(jsonb) is 'Id of the customer that an object belongs to, or is; null for a price.';

create function private.stripe_ids(list jsonb) returns text[]
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return case jsonb_typeof(list) when 'array' then array(select private.stripe_id(e.value) from jsonb_array_elements(list) as e) else '{}' end;
end
$$;
comment on function private.stripe_ids(jsonb) is 'Ids of a list of references; none for null.';

create function private.stripe_invoice_subscription(invoice jsonb) returns text
language sql immutable parallel safe
-- Under "parent" since API version 2025-03-31.
return coalesce(private.stripe_id(invoice #> '{parent,subscription_details,subscription}'), private.stripe_id(invoice -> 'subscription'));
comment on function private.stripe_invoice_subscription(jsonb) is 'Id of the subscription that an invoice bills; null for any other invoice.';

create function private.stripe_time(seconds jsonb) returns timestamptz
language sql immutable parallel safe
return to_timestamp((seconds #>> '{}')::double precision);
comment on function private.stripe_time(jsonb) is 'Time from Stripe''s seconds since 1970.';

create function private.stripe_rank(type text, object jsonb) returns smallint
language sql immutable parallel safe
return case
  when type like '%.deleted' then 9
  when object ->> 'object' = 'subscription' and object ->> 'status' in ('canceled', 'incomplete_expired') then 8
  when object ->> 'object' = 'invoice' and object ->> 'status' in ('paid', 'void') then 8
  when type like '%.created' then 0
  when object ->> 'object' = 'subscription' then case object ->> 'status' when 'incomplete' then 1 else 2 end
  when object ->> 'object' = 'invoice' then
    case object ->> 'status' when 'draft' then 1 when 'open' then 2 else 3 end
  when object ->> 'object' = 'checkout.session' then
    case
      when object ->> 'status' = 'open' then 1
      when type = 'checkout.session.completed' and object ->> 'payment_status' = 'unpaid' then 2
      when object ->> 'payment_status' = 'unpaid' then 3
      else 4
    end
  else 1
end;
comment on function private.stripe_rank(text, jsonb) is 'How far the life of an object has gone. It may order only what cannot happen the other way round: a subscription or invoice never becomes unfinished again, and nothing follows its end.';

create function private.stripe_sort_key(object jsonb) returns numeric[]
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  transitions jsonb := object -> 'status_transitions';
  period numeric := (object ->> 'current_period_start')::numeric;
begin
  -- Since API version 2025-03-31 the period is in the items.
  if period is null and object ? 'items' then
    period := (select max((item ->> 'current_period_start')::numeric) from jsonb_array_elements(object #> '{items,data}') as item);
  end if;
  return array[
    coalesce((object ->> 'attempt_count')::numeric, 0),
    coalesce(greatest(
      (transitions ->> 'finalized_at')::numeric, (transitions ->> 'marked_uncollectible_at')::numeric,
      (transitions ->> 'paid_at')::numeric, (transitions ->> 'voided_at')::numeric
    ), 0),
    coalesce(period, 0),
    coalesce((object ->> 'amount_paid')::numeric, 0)
  ];
end
$$;
comment on function private.stripe_sort_key(jsonb) is 'Values of an object that only grow: attempts, transitions, start of the period, amount paid. Orders snapshots of one second that no before-image connects.';

create function private.stripe_deep_merge(object jsonb, before jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return object || (
    select coalesce(jsonb_object_agg(b.key, case
      when jsonb_typeof(b.value) = 'object' and jsonb_typeof(object -> b.key) = 'object'
      then private.stripe_deep_merge(object -> b.key, b.value)
      when jsonb_typeof(b.value) = 'array' and jsonb_typeof(object -> b.key) = 'array'
      then (
        -- A list is complete. Each element is a whole object, or the changed fields of the element with the same id.
        select coalesce(jsonb_agg(case
          when e.value ? 'object' or mine.value is null then e.value
          else private.stripe_deep_merge(mine.value, e.value)
        end order by e.n), '[]')
        from jsonb_array_elements(b.value) with ordinality as e (value, n)
        left join lateral (
          select m.value from jsonb_array_elements(object -> b.key) as m (value)
          where m.value ->> 'id' = e.value ->> 'id'
          limit 1
        ) as mine on true
      )
      else b.value
    end), '{}')
    from jsonb_each(before) as b
  );
end
$$;
comment on function private.stripe_deep_merge(jsonb, jsonb) is 'Merges previous_attributes into the object of the same event, which gives the state before that event.';

create function private.stripe_add_fields(mask jsonb, before jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  field record;
begin
  for field in select key, value from jsonb_each(before) loop
    mask := mask || jsonb_build_object(field.key, case
      when jsonb_typeof(field.value) = 'object' and coalesce(jsonb_typeof(mask -> field.key), 'object') = 'object'
      then private.stripe_add_fields(coalesce(mask -> field.key, '{}'), field.value)
      else 'true'
    end);
  end loop;
  return mask;
end
$$;
comment on function private.stripe_add_fields(jsonb, jsonb) is 'Adds the fields of one previous_attributes to a mask. A field is true if it is compared as a whole, else a nested mask.';

create function private.stripe_masked(object jsonb, mask jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_object_agg(m.key, case
      when jsonb_typeof(m.value) = 'object' and jsonb_typeof(object -> m.key) = 'object'
      then private.stripe_masked(object -> m.key, m.value)
      else object -> m.key
    end), '{}')
    from jsonb_each(mask) as m
    where object ? m.key
  );
end
$$;
comment on function private.stripe_masked(jsonb, jsonb) is 'The fields of an object that the mask names. Two states are equal when these fields are.';
