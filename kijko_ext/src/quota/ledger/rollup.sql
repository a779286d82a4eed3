create function kijko.make_ledger_partition(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO'
    set timezone = 'UTC'
as $$
declare
    name constant text := 'ledger_' || pg_catalog.to_char(starts_at, 'YYYYMMDD_HH24MISS');
begin
    execute pg_catalog.format('create table kijko.%I (like kijko.ledger including defaults including constraints)', name);
    execute pg_catalog.format('alter table kijko.%I replica identity full', name);
    -- Waits for running writers of the default partition. Later writers find the new partition.
    lock table kijko.ledger_default in access exclusive mode;
    execute pg_catalog.format(
        'with moved as (delete from kijko.ledger_default where recorded_at >= %L and recorded_at < %L returning *) '
        'insert into kijko.%I select * from moved', starts_at, ends_at, name
    );
    execute pg_catalog.format('create index on kijko.%I (subject, meter, period_start)', name);
    execute pg_catalog.format(
        'alter table kijko.ledger attach partition kijko.%I for values from (%L) to (%L)', name, starts_at, ends_at
    );
    insert into kijko.ledger_partitions (partition, starts_at, ends_at)
    values (pg_catalog.format('kijko.%I', name), starts_at, ends_at);
end
$$;
comment on function kijko.make_ledger_partition(timestamptz, timestamptz) is 'Internal: makes one partition of the ledger, and moves its rows out of the default partition.';

create function kijko.make_ledger_partitions(
    ahead interval default interval '6 hours', width interval default interval '1 hour'
)
    returns integer
    language plpgsql volatile parallel unsafe security definer -- the ledger belongs to the superuser
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '2s' -- if a writer takes longer, the next call retries
as $$
declare
    epoch constant timestamptz := '2000-01-01 00:00:00+00';
    present timestamptz;
    next timestamptz;
    until timestamptz;
    made integer := 0;
begin
    if not width between '1 second' and '1 day' or not ahead between '0' and '31 days' then
        perform kijko.fail('invalid_input', 'partitions are 1 second to 1 day wide, and made 31 days ahead at most');
    end if;
    present := pg_catalog.date_bin(width, pg_catalog.clock_timestamp(), epoch);
    lock table kijko.ledger_partitions in share row exclusive mode;
    -- The first partition starts at the first row, including rows of running transactions.
    if not exists (select from kijko.ledger_partitions) then
        lock table kijko.ledger_default in access exclusive mode;
    end if;
    select coalesce(
            (select pg_catalog.max(p.ends_at) from kijko.ledger_partitions as p),
            (select pg_catalog.date_bin(width, pg_catalog.min(d.recorded_at), epoch) from kijko.ledger_default as d),
            present
        ) into next;
    -- One long partition covers the time since the last one.
    if next < present then
        perform kijko.make_ledger_partition(next, present);
        next := present;
        made := made + 1;
    end if;
    while next <= present + ahead loop
        -- Up to the next multiple of the width, also after a partition of another width.
        until := pg_catalog.date_bin(width, next, epoch) + width;
        perform kijko.make_ledger_partition(next, until);
        next := until;
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function kijko.make_ledger_partitions(interval, interval) is 'Makes partitions of the ledger up to a time ahead, of a given width, and returns their number. Rows without a partition go to the default partition and are moved later. A narrow partition is rolled up sooner, so a counter loads faster.';

create function kijko.rollup_usage(at_most integer default 24) returns integer
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    p kijko.ledger_partitions;
    rolled integer := 0;
begin
    -- Every statement must see what was committed before it got its lock.
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
        perform kijko.fail('bad_request', 'kijko.rollup_usage() needs read committed');
    end if;
    begin
        lock table kijko.ledger_partitions in share row exclusive mode nowait;
    exception
        when lock_not_available then return 0; -- another call is running
    end;
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

