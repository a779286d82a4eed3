-- Every statement of maintenance must see what was committed before it got its lock. And the tables of partitions are read by
-- SERIALIZABLE transactions of tenants, which such a writer would make fail (40001).
create function kijko.require_read_committed(caller text) returns void
    language plpgsql stable parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_catalog.current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        perform kijko.fail('bad_request', pg_catalog.format('kijko.%s() needs read committed', caller));
    end if;
end
$$;
comment on function kijko.require_read_committed(text) is 'Internal: fails with bad_request in a REPEATABLE READ or SERIALIZABLE transaction.';

-- Locks a table against everybody, without keeping others waiting behind a transaction that uses it for long: each attempt is
-- short, and between two of them everybody passes.
create function kijko.lock_briefly("table" regclass) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '50ms'
as $$
begin
    for attempt in 1..20 loop
        begin
            execute pg_catalog.format('lock table only %s in access exclusive mode', "table");
            return;
        exception
            when lock_not_available then
                -- Postgres itself cancels an autovacuum only for who waits longer (deadlock_timeout).
                perform pg_catalog.pg_cancel_backend(a.pid)
                from pg_catalog.pg_locks as l join pg_catalog.pg_stat_activity as a on a.pid = l.pid
                where l.locktype = 'relation' and l.relation = "table" and l.granted and a.datname = pg_catalog.current_database()
                    and a.backend_type = 'autovacuum worker' and a.query not like '%(to prevent wraparound)';
                perform pg_catalog.pg_sleep(0.05);
        end;
    end loop;
    raise lock_not_available using message = pg_catalog.format('%s is in use', "table");
end
$$;
comment on function kijko.lock_briefly(regclass) is 'Internal: locks a table exclusively; in vain after two seconds (55P03).';

-- Attaching a partition reads the whole default partition under an exclusive lock, unless a valid constraint says that it has no
-- such row. Adding a constraint NOT VALID needs the lock, but no time; validating it needs time, but no such lock. A
-- transaction keeps its locks, so these are steps of several calls.
create function kijko.bound_ledger_default(recorded_from timestamptz, recorded_until timestamptz) returns boolean
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO'
    set timezone = 'UTC'
    set client_min_messages = warning
as $$
begin
    perform kijko.lock_briefly('kijko.ledger_default');
    if pg_catalog.clock_timestamp() >= recorded_until then
        return false; -- rows were recorded after it while this waited
    end if;
    alter table kijko.ledger_default drop constraint if exists ledger_default_bounds;
    if pg_catalog.isfinite(recorded_from) or pg_catalog.isfinite(recorded_until) then
        execute pg_catalog.format(
            'alter table kijko.ledger_default add constraint ledger_default_bounds '
            'check (recorded_at >= %L and recorded_at < %L) not valid', recorded_from, recorded_until
        );
    end if;
    update kijko.ledger_default_bounds as b
    set recorded_from = bound_ledger_default.recorded_from, recorded_until = bound_ledger_default.recorded_until;
    return true;
end
$$;
comment on function kijko.bound_ledger_default(timestamptz, timestamptz) is 'Internal: from the commit on, rows that go to the default partition are recorded within these bounds. False if recorded_until has passed: then nothing changes.';

create function kijko.ledger_partition_name(starts_at timestamptz) returns text
    language sql immutable parallel unsafe
    return 'ledger_' operator(pg_catalog.||) pg_catalog.to_char(pg_catalog.timezone('UTC', starts_at), 'YYYYMMDD_HH24MISS');
comment on function kijko.ledger_partition_name(timestamptz) is 'Internal: the name of the table of a partition of the ledger.';

create function kijko.move_ledger_rows(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute pg_catalog.format(
        'with moved as (delete from kijko.ledger_default where recorded_at >= $1 and recorded_at < $2 returning *) '
        'insert into kijko.%I select * from moved', kijko.ledger_partition_name(starts_at)
    ) using starts_at, ends_at;
end
$$;
comment on function kijko.move_ledger_rows(timestamptz, timestamptz) is 'Internal: moves rows of the default partition into the table of another one.';

create function kijko.create_ledger_partition(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO'
    set timezone = 'UTC'
as $$
declare
    name constant text := kijko.ledger_partition_name(starts_at);
begin
    execute pg_catalog.format('create table kijko.%I (like kijko.ledger including defaults including constraints)', name);
    execute pg_catalog.format('alter table kijko.%I replica identity full', name);
    -- So that attaching does not read its rows.
    execute pg_catalog.format(
        'alter table kijko.%I add constraint bounds check (recorded_at >= %L and recorded_at < %L)', name, starts_at, ends_at
    );
end
$$;
comment on function kijko.create_ledger_partition(timestamptz, timestamptz) is 'Internal: creates the table of a partition of the ledger.';

create function kijko.attach_ledger_partition(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO'
    set timezone = 'UTC'
as $$
declare
    name constant text := kijko.ledger_partition_name(starts_at);
begin
    execute pg_catalog.format(
        'alter table kijko.ledger attach partition kijko.%I for values from (%L) to (%L)', name, starts_at, ends_at
    );
    execute pg_catalog.format('alter table kijko.%I drop constraint bounds', name);
    insert into kijko.ledger_partitions (partition, starts_at, ends_at)
    values (pg_catalog.format('kijko.%I', name), starts_at, ends_at);
end
$$;
comment on function kijko.attach_ledger_partition(timestamptz, timestamptz) is 'Internal: makes a table a partition of the ledger. The default partition is locked.';

create function kijko.make_ledger_partitions_between(boundaries timestamptz[]) returns integer
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    made constant integer := cardinality(boundaries) - 1;
    is_bounded constant boolean := exists (
        select from kijko.ledger_default_bounds as b where b.recorded_until <= boundaries[1]
    );
begin
    for i in 1..made loop
        perform kijko.create_ledger_partition(boundaries[i], boundaries[i + 1]);
        execute pg_catalog.format(
            'create index on kijko.%I (subject, meter, period_start)', kijko.ledger_partition_name(boundaries[i])
        );
    end loop;
    if made > 0 then
        -- Waits for running writers of the default partition. Later writers find the new partitions.
        perform kijko.lock_briefly('kijko.ledger_default');
    end if;
    for i in 1..made loop
        if not is_bounded then
            perform kijko.move_ledger_rows(boundaries[i], boundaries[i + 1]);
        end if;
        perform kijko.attach_ledger_partition(boundaries[i], boundaries[i + 1]);
    end loop;
    return made;
end
$$;
comment on function kijko.make_ledger_partitions_between(timestamptz[]) is 'Internal: makes partitions of the ledger, each from a boundary to the next, and returns their number.';

create function kijko.ledger_boundaries(starts_at timestamptz, until timestamptz, width interval) returns timestamptz[]
    language plpgsql immutable parallel unsafe
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC' -- elsewhere a day may have 23 hours, and the same multiple would come again and again
as $$
declare
    boundaries timestamptz[] := array[starts_at];
begin
    while starts_at <= until loop
        -- Up to the next multiple of the width, also after a partition of another width.
        starts_at := pg_catalog.date_bin(width, starts_at, '2000-01-01 00:00:00+00') + width;
        boundaries := boundaries || starts_at;
    end loop;
    return boundaries;
end
$$;
comment on function kijko.ledger_boundaries(timestamptz, timestamptz, interval) is 'Internal: where partitions of a width begin and end, from a time until they include another.';

-- Every step holds the exclusive lock for a moment only, however many rows there are:
--   1. Rows of the default partition are recorded before a boundary.
--   2. Partitions begin at the boundary.
--   3. Once the boundary has passed, no row is recorded before it.
--   4. The rows before it are moved into a partition of their own.
create function kijko.empty_ledger_default(ahead interval, width interval) returns integer
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC' -- as kijko.ledger_boundaries(): the end of today's partition is never before now
as $$
declare
    epoch constant timestamptz := '2000-01-01 00:00:00+00';
    present constant timestamptz := pg_catalog.clock_timestamp();
    bounds kijko.ledger_default_bounds;
    boundary timestamptz;
    starts_at timestamptz;
    made integer := 0;
begin
    select b.* into bounds from kijko.ledger_default_bounds as b;
    boundary := case when pg_catalog.isfinite(bounds.recorded_from) then bounds.recorded_from else bounds.recorded_until end;
    if boundary = 'infinity' then -- step 1
        -- After all partitions, and after all rows.
        select pg_catalog.date_bin(width, greatest(present, pg_catalog.max(d.recorded_at)), epoch) + width into boundary
        from kijko.ledger_default as d;
        select greatest(boundary, pg_catalog.max(p.ends_at)) into boundary from kijko.ledger_partitions as p;
        perform kijko.bound_ledger_default('-infinity', boundary);
        return 0;
    end if;
    -- What there is before the boundary ends here, or begins with the first row.
    starts_at := coalesce(
        (select pg_catalog.max(p.ends_at) from kijko.ledger_partitions as p where p.ends_at <= boundary),
        (select pg_catalog.date_bin(width, pg_catalog.min(d.recorded_at), epoch) from kijko.ledger_default as d), boundary
    );
    if not exists (select from kijko.ledger_partitions as p where p.starts_at >= boundary) then -- step 2
        alter table kijko.ledger_default validate constraint ledger_default_bounds;
        made := kijko.make_ledger_partitions_between(kijko.ledger_boundaries(boundary, greatest(present + ahead, boundary), width));
    elsif bounds.recorded_from = '-infinity' and starts_at < boundary then -- step 3
        if boundary <= present then
            perform kijko.bound_ledger_default(boundary, 'infinity');
        end if;
        return 0;
    elsif starts_at < boundary then -- step 4
        perform kijko.create_ledger_partition(starts_at, boundary), kijko.move_ledger_rows(starts_at, boundary);
        execute pg_catalog.format(
            'create index on kijko.%I (subject, meter, period_start)', kijko.ledger_partition_name(starts_at)
        );
        alter table kijko.ledger_default validate constraint ledger_default_bounds;
        perform kijko.lock_briefly('kijko.ledger_default');
        perform kijko.attach_ledger_partition(starts_at, boundary);
        starts_at := boundary;
        made := 1;
    end if;
    if starts_at = boundary then
        perform kijko.bound_ledger_default('-infinity', 'infinity');
    end if;
    return made;
end
$$;
comment on function kijko.empty_ledger_default(interval, interval) is 'Internal: one step of moving many rows out of the default partition. Returns the number of partitions made.';

create function kijko.make_ledger_partitions(
    ahead interval default interval '6 hours', width interval default interval '1 hour'
)
    returns integer
    language plpgsql volatile parallel unsafe security definer -- the ledger belongs to the superuser
    set search_path = pg_catalog, pg_temp
as $$
declare
    large constant bigint := 8 * 1024 * 1024; -- read in some milliseconds
    epoch constant timestamptz := '2000-01-01 00:00:00+00';
    present timestamptz;
    next timestamptz;
begin
    perform kijko.require_read_committed('make_ledger_partitions');
    if not width between '1 second' and '1 day' or not ahead between '0' and '31 days' then
        perform kijko.fail('invalid_input', 'partitions are 1 second to 1 day wide, and made 31 days ahead at most');
    end if;
    present := pg_catalog.date_bin(width, pg_catalog.clock_timestamp(), epoch);
    lock table kijko.ledger_partitions in share row exclusive mode nowait; -- another call is running
    select pg_catalog.max(p.ends_at) into next from kijko.ledger_partitions as p;
    if exists (
        select from kijko.ledger_default_bounds as b
        where pg_catalog.isfinite(b.recorded_from) or pg_catalog.isfinite(b.recorded_until)
    ) or pg_catalog.pg_relation_size('kijko.ledger_default') > large and coalesce(next <= present + ahead, true) then
        return kijko.empty_ledger_default(ahead, width);
    end if;
    -- The first partition starts at the first row, including rows of running transactions.
    if next is null then
        perform kijko.lock_briefly('kijko.ledger_default');
        select coalesce(pg_catalog.date_bin(width, pg_catalog.min(d.recorded_at), epoch), present) into next
        from kijko.ledger_default as d;
    end if;
    -- One long partition covers the time since the last one.
    return kijko.make_ledger_partitions_between(
        case when next < present then array[next] end || kijko.ledger_boundaries(greatest(next, present), present + ahead, width)
    );
end
$$;
comment on function kijko.make_ledger_partitions(interval, interval) is 'Makes partitions of the ledger up to a time ahead, of a given width, and returns their number. Rows without a partition go to the default partition and are moved later; many of them in several calls, so that no call blocks writers for long. A narrow partition is rolled up sooner, so a counter loads faster.';
