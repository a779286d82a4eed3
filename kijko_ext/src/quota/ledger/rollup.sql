create function kijko.rollup_usage(at_most integer default 24) returns integer
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    p kijko.ledger_partitions;
    rolled integer := 0;
begin
    perform kijko.require_read_committed('rollup_usage');
    begin
        lock table kijko.ledger_partitions in share row exclusive mode nowait;
    exception
        when lock_not_available then return 0; -- another call is running
    end;
    -- The default partition has rows of a time that will be a partition's. The rolled-up part must not end after them.
    if exists (
        select from kijko.ledger_default_bounds as b
        where pg_catalog.isfinite(b.recorded_from) or pg_catalog.isfinite(b.recorded_until)
    ) then
        return 0;
    end if;
    while rolled < at_most loop
        -- In order: the rolled-up part has one end.
        select q.* into p from kijko.ledger_partitions as q where q.rolled_at is null order by q.starts_at limit 1;
        exit when not found or p.ends_at > pg_catalog.clock_timestamp();
        begin
            -- Does not wait: a partition with a running writer is left for the next call. Under this lock every row of the
            -- partition is visible, and no row is added (ledger/partition.rs).
            execute pg_catalog.format('lock table %s in share mode nowait', p.partition);
        exception
            when lock_not_available then exit;
        end;
        perform kijko.rollup_partition(p.partition);
        update kijko.ledger_partitions as q set rolled_at = pg_catalog.clock_timestamp() where q.partition = p.partition;
        rolled := rolled + 1;
    end loop;
    return rolled;
end
$$;
comment on function kijko.rollup_usage(integer) is 'Rolls up past partitions of the ledger by period, hour and day, in one transaction, and returns their number. It can be killed at any time: each row is summed exactly once. A partition with a running writer is left for the next call.';

create function kijko.rollup_partition(partition text) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute pg_catalog.format(
        $sql$
            insert into kijko.usage_totals as t (subject, meter, period_start, amount, overage, entries)
            select g.subject, g.meter, g.period_start, kijko.clamp(pg_catalog.sum(g.amount)), kijko.clamp(pg_catalog.sum(g.overage)), pg_catalog.count(*)
            from %s as g
            group by g.subject, g.meter, g.period_start
            on conflict (subject, meter, period_start) do update
            set amount = kijko.clamp(t.amount::numeric + excluded.amount),
                overage = kijko.clamp(t.overage::numeric + excluded.overage), entries = t.entries + excluded.entries
        $sql$, partition
    );
    -- Attributes are part of the key. A set that is too large for an index must not block the rollup of other subjects, so it
    -- is kept only in the ledger.
    execute pg_catalog.format(
        $sql$
            insert into kijko.usage_hourly as t (subject, meter, hour, attributes, amount, overage, entries)
            select g.subject, g.meter, pg_catalog.date_trunc('hour', g.occurred_at, 'UTC'),
                case when pg_catalog.pg_column_size(g.attributes) <= 2000 then g.attributes else '{}' end,
                kijko.clamp(pg_catalog.sum(g.amount)), kijko.clamp(pg_catalog.sum(g.overage)), pg_catalog.count(*)
            from %s as g
            group by 1, 2, 3, 4
            on conflict (subject, meter, hour, attributes) do update
            set amount = kijko.clamp(t.amount::numeric + excluded.amount),
                overage = kijko.clamp(t.overage::numeric + excluded.overage), entries = t.entries + excluded.entries
        $sql$, partition
    );
    execute pg_catalog.format(
        $sql$
            insert into kijko.usage_daily as t (subject, meter, day, attributes, amount, overage, entries)
            select g.subject, g.meter, kijko.local_day(g.occurred_at, coalesce(c.time_zone, 'UTC')),
                case when pg_catalog.pg_column_size(g.attributes) <= 2000 then g.attributes else '{}' end,
                kijko.clamp(pg_catalog.sum(g.amount)), kijko.clamp(pg_catalog.sum(g.overage)), pg_catalog.count(*)
            from %s as g
            left join kijko.calendars as c on c.subject = g.subject
            group by 1, 2, 3, 4
            on conflict (subject, meter, day, attributes) do update
            set amount = kijko.clamp(t.amount::numeric + excluded.amount),
                overage = kijko.clamp(t.overage::numeric + excluded.overage), entries = t.entries + excluded.entries
        $sql$, partition
    );
end
$$;
comment on function kijko.rollup_partition(text) is 'Internal: adds a partition of the ledger to the rolled-up tables.';

create function kijko.detach_ledger_partitions(older_than interval default interval '7 days') returns integer
    language plpgsql volatile parallel unsafe security definer -- the ledger belongs to the superuser
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '2s'
as $$
declare
    p kijko.ledger_partitions;
    detached integer := 0;
begin
    perform kijko.require_read_committed('detach_ledger_partitions');
    if pg_catalog.to_regnamespace('kijko_archive') is null then -- a notice each minute would fill the log
        create schema if not exists kijko_archive;
    end if;
    -- An owner of the schema could drop the tables in it.
    if exists (
        select from pg_catalog.pg_namespace as n
        where n.nspname = 'kijko_archive' and n.nspowner <> current_user::pg_catalog.regrole
    ) then
        execute pg_catalog.format('alter schema kijko_archive owner to %I', current_user);
    end if;
    for p in
        select q.* from kijko.ledger_partitions as q
        where q.rolled_at is not null and q.detached_at is null
            and q.ends_at < pg_catalog.clock_timestamp() - older_than
        order by q.starts_at
        for update
    loop
        -- Who waits for these locks keeps everybody waiting who records a use.
        perform kijko.lock_briefly(p.partition::regclass), kijko.lock_briefly('kijko.ledger');
        execute pg_catalog.format('alter table kijko.ledger detach partition %s', p.partition);
        -- Out of the extension's schema, which must be empty when the extension is created again.
        execute pg_catalog.format('alter table %s set schema kijko_archive', p.partition);
        update kijko.ledger_partitions as q
        set detached_at = pg_catalog.clock_timestamp(), partition = pg_catalog.replace(q.partition, 'kijko.', 'kijko_archive.')
        where q.partition = p.partition;
        detached := detached + 1;
    end loop;
    return detached;
end
$$;
comment on function kijko.detach_ledger_partitions(interval) is 'Detaches old partitions that are rolled up, and returns their number. They remain as tables in the schema kijko_archive, to be archived and dropped.';

