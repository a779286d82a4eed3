-- Old rows, a bounded number in each call. Rows that another transaction has locked are left for the next one.
create function kijko.purge_idempotency_keys() returns bigint
    language sql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with purged as (
        delete from kijko.idempotency_keys as k
        where (k.subject, k.meter, k.key) in (
            select o.subject, o.meter, o.key from kijko.idempotency_keys as o
            where o.created_at < pg_catalog.now() - interval '35 days'
            limit 10000
            for update skip locked
        )
        returning 1
    )
    select pg_catalog.count(*) from purged
$$;
comment on function kijko.purge_idempotency_keys() is 'Internal: deletes idempotency keys after 35 days.';

create function kijko.purge_ingested_events() returns bigint
    language sql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with purged as (
        delete from kijko.ingested_events as e
        where (e.subject, e.event) in (
            select o.subject, o.event from kijko.ingested_events as o
            where o.received_at < pg_catalog.now() - interval '36 days'
            limit 100000
            for update skip locked
        )
        returning 1
    )
    select pg_catalog.count(*) from purged
$$;
comment on function kijko.purge_ingested_events() is 'Internal: deletes the keys of ingested events after 36 days.';

create function kijko.purge_holds() returns bigint
    language sql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with purged as (
        delete from kijko.holds as h
        where h.id in (
            select o.id from kijko.holds as o
            where o.state <> 'open' and o.ended_at < kijko.now() - interval '35 days'
            limit 10000
            for update skip locked
        )
        returning 1
    )
    select pg_catalog.count(*) from purged
$$;
comment on function kijko.purge_holds() is 'Internal: deletes holds 35 days after their end.';

create function kijko.purge_usage_hourly() returns bigint
    language sql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with purged as (
        delete from kijko.usage_hourly as u
        where u.ctid = any (array(
            select o.ctid from kijko.usage_hourly as o
            where o.hour < pg_catalog.now() - interval '90 days'
            limit 100000
            for update skip locked
        ))
        returning 1
    )
    select pg_catalog.count(*) from purged
$$;
comment on function kijko.purge_usage_hourly() is 'Internal: deletes sums by hour after 90 days. Those by day are kept longer.';

create function kijko.purge_usage_daily() returns bigint
    language sql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with purged as (
        delete from kijko.usage_daily as u
        where u.ctid = any (array(
            select o.ctid from kijko.usage_daily as o
            where o.day < (pg_catalog.now() - interval '25 months')::date
            limit 100000
            for update skip locked
        ))
        returning 1
    )
    select pg_catalog.count(*) from purged
$$;
comment on function kijko.purge_usage_daily() is 'Internal: deletes sums by day after 25 months. The totals of periods stay.';

create function kijko.maintain_usage() returns table (task text, done bigint, problem text)
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.require_read_committed('maintain_usage');
    -- Tasks whose locks block the load of counters come last, because locks are held until the end.
    foreach task in array array[
        'purge_idempotency_keys', 'purge_ingested_events', 'purge_holds', 'purge_usage_hourly', 'purge_usage_daily',
        'rollup_usage', 'expire_holds', 'make_ledger_partitions', 'detach_ledger_partitions'
    ] loop
        -- Each by itself: one that fails must not stop the others.
        problem := null;
        begin
            execute pg_catalog.format('select kijko.%I()', task) into done;
        exception
            when lock_not_available then done := null; -- left for the next call
            when others then
                done := null;
                problem := sqlerrm;
                perform kijko.count_maintenance_failure();
                raise warning 'kijko: the maintenance task % failed: % (%)', task, sqlerrm, sqlstate;
        end;
        return next;
    end loop;
end
$$;
comment on function kijko.maintain_usage() is 'Runs all maintenance; schedule it, for example each minute: partitions ahead, rollup, expired holds, old partitions, keys, events and sums (by hour after 90 days, by day after 25 months). done is null for a task that met a lock and is left for the next call, or that failed: problem then says why, and kijko.stats() counts it (maintenance.failures). A task that fails stops no other. Needs READ COMMITTED (bad_request).';
