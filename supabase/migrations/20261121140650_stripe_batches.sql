-- ============================================================================
-- Stripe: events that arrive at once, in one transaction.
--
-- A transaction costs as much as the event in it, so the sidecar sends what has arrived
-- while it waited for the transaction before. Each event is stored and applied as if it
-- came alone: what stripe_apply.sql says of an event that fails holds here, too.
-- ============================================================================

create function private.stripe_ingest_events(payloads jsonb[])
returns table (place integer, status text, duplicate boolean, error_code text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- As private.stripe_ingest_event.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '1s'
as $$
#variable_conflict use_column
declare
  taken record;
begin
  -- All locks before any row, and in one order, so that no two batches wait for each other.
  perform pg_advisory_xact_lock(l.key)
  from (
    select distinct k.key
    from unnest(payloads) as p (payload)
    cross join lateral (
      select p.payload #> '{data,object}' as object, coalesce((p.payload ->> 'livemode')::boolean, false) as livemode
    ) as e
    cross join lateral (
      values
        (private.stripe_object_lock(e.object ->> 'id', e.livemode)),
        (private.stripe_customer_lock(private.stripe_customer_of(e.object), e.livemode))
    ) as k (key)
    where private.stripe_is_mirrored_event(p.payload) and k.key is not null
    order by k.key
  ) as l;
  for n in 1 .. cardinality(payloads) loop
    taken := private.stripe_take_event(payloads[n], true);
    place := n;
    status := taken.status;
    duplicate := taken.duplicate;
    error_code := taken.error_code;
    -- Somebody else holds a lock, or waits for one of ours. None of the batch is stored: alone, each of them waits for its own.
    if error_code in ('55P03', '40P01') then
      perform kijko.fail('unavailable', 'an event waits for a lock');
    end if;
    return next;
  end loop;
end
$$;
comment on function private.stripe_ingest_events(jsonb[]) is 'As private.stripe_ingest_event() for each of several verified events, in one transaction: place is the position in the array. Fails as a whole, and stores nothing, if one of them is no event or waits for a lock for longer than a second; the caller then sends each alone. Nullable: error_code. Definer: the sidecar has no rights on the tables.';
grant execute on function private.stripe_ingest_events(jsonb[]) to kijko_sidecar;
