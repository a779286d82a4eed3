create table kijko.holds (
    id uuid primary key,
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    amount bigint not null check (amount >= 0),
    state text collate "C" not null check (state in ('open', 'settled', 'released', 'expired')),
    idempotency_key text collate "C",
    created_at timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    settled_amount bigint,
    overage bigint not null default 0,
    check ((state = 'open') = (ended_at is null))
);
comment on table kijko.holds is 'Budgets reserved for work whose cost is known only afterwards. An open hold counts as used. Ended holds are kept for 35 days, so that a second settlement is detected.';
comment on column kijko.holds.id is 'Result of kijko.reserve.';
comment on column kijko.holds.subject is 'Subject.';
comment on column kijko.holds.meter is 'Meter.';
comment on column kijko.holds.period_start is 'Start of the period it counts in, also when it is settled later.';
comment on column kijko.holds.amount is 'Units reserved.';
comment on column kijko.holds.state is 'open, settled, released or expired.';
comment on column kijko.holds.idempotency_key is 'Key of kijko.reserve: the same call again returns the same hold. An expired or released hold gives the key up to the next such call.';
comment on column kijko.holds.created_at is 'Time, by kijko.now().';
comment on column kijko.holds.expires_at is 'When it stops counting, unless it has ended before.';
comment on column kijko.holds.ended_at is 'When it was settled, released or marked expired.';
comment on column kijko.holds.settled_amount is 'Actual cost of the work.';
comment on column kijko.holds.overage is 'The part of the amount above a limit that flags or bills. Recorded when it is settled.';
create unique index holds_by_key on kijko.holds (subject, meter, idempotency_key) where idempotency_key is not null;
comment on index kijko.holds_by_key is 'Finds the hold of a repeated call.';
create index holds_open on kijko.holds (subject, meter, period_start, expires_at) where state = 'open';
comment on index kijko.holds_open is 'Sums the open holds of a counter, and finds its expired ones.';
create index holds_expiring on kijko.holds (expires_at) where state = 'open';
comment on index kijko.holds_expiring is 'Finds expired holds of all subjects.';
create index holds_ended on kijko.holds (ended_at) where state <> 'open';
comment on index kijko.holds_ended is 'Finds ended holds that are old enough to be deleted.';

select pg_catalog.pg_extension_config_dump('kijko.holds', '');

create function kijko.reserve_until(subject uuid, meter text, amount bigint, expires_at timestamptz, idempotency_key text)
    returns uuid
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_reserve';
comment on function kijko.reserve_until(uuid, text, bigint, timestamptz, text) is 'Internal: kijko.reserve until a time.';

create function kijko.refuse_hold(meter text, used bigint, "limit" bigint, reset_at timestamptz, retry_after integer, amount bigint)
    returns void
    language plpgsql volatile parallel unsafe security definer -- called on behalf of callers who may only consume
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.refuse_use(
        row(false, 'quota_exceeded', meter, used, "limit", greatest("limit" - used, 0), reset_at, retry_after)::kijko.verdict,
        amount
    );
end
$$;
comment on function kijko.refuse_hold(text, bigint, bigint, timestamptz, integer, bigint) is 'Fails with quota_exceeded for a hold.';

create function kijko.reserve(
    subject uuid, meter text, amount bigint, ttl interval default interval '10 minutes', idempotency_key text default null
)
    returns uuid
    language sql volatile parallel unsafe security definer -- callers have no rights on the internal function
    set search_path = pg_catalog, pg_temp
as $$
    select kijko.reserve_until(subject, meter, amount, kijko.now() + ttl, idempotency_key)
$$;
comment on function kijko.reserve(uuid, text, bigint, interval, text) is 'Reserves an amount of a subject''s meter until it is settled, released or older than ttl. It counts as used meanwhile. Fails with quota_exceeded. The same key again returns the same hold, or a new one if that expired or was released. It may commit asynchronously (synchronous_commit = off): a crash may then lose the hold, and kijko.settle with subject and meter records the cost all the same.';

create function kijko.try_reserve_many(subjects uuid[], meters text[], amounts bigint[], expires_at timestamptz) returns uuid[]
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_reserve_many';
comment on function kijko.try_reserve_many(uuid[], text[], bigint[], timestamptz) is 'Like kijko.reserve for several holds at once, all or nothing, in one statement: the ids of the holds, in the order of the arrays. Null, and nothing is reserved, when one does not fit; kijko.reserve says why.';

create function kijko.find_hold(id uuid) returns tid
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_find_hold';
comment on function kijko.find_hold(uuid) is 'Internal: where the newest committed version of a hold is, or this transaction''s own; null without one.';

create function kijko.lock_hold(id uuid, out at tid, out hold kijko.holds)
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    -- By its place, also in a table of one page.
    set enable_seqscan = off
as $$
declare
    found_row record;
begin
    -- A query by the id takes predicate locks in a SERIALIZABLE transaction: on a page of the index, where other tenants have
    -- holds, too. By its place the row alone is locked.
    loop
        at := kijko.find_hold(lock_hold.id);
        exit when at is null;
        select o.ctid as at, o as hold into found_row from kijko.holds as o where o.ctid = lock_hold.at and o.id = lock_hold.id for update;
        if found then
            at := found_row.at;
            hold := found_row.hold;
            exit;
        end if;
        -- Changed by somebody else in between; or after this transaction took its snapshot.
        if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
            raise serialization_failure using message = 'the hold was changed after this transaction began', hint = 'Retry the transaction.';
        end if;
    end loop;
end
$$;
comment on function kijko.lock_hold(uuid) is 'Internal: locks a hold, and says where it is and what it is; nulls when there is none.';

create function kijko.end_hold(at tid, id uuid, state text, ended_at timestamptz, settled_amount bigint) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as kijko.lock_hold
as $$
begin
    update kijko.holds as o set state = end_hold.state, ended_at = end_hold.ended_at, settled_amount = end_hold.settled_amount
    where o.ctid = end_hold.at and o.id = end_hold.id;
    if not found then
        raise internal_error using message = 'a locked hold has moved';
    end if;
end
$$;
comment on function kijko.end_hold(tid, uuid, text, timestamptz, bigint) is 'Internal: ends a hold that kijko.lock_hold() has locked.';

create function kijko.extend_hold(id uuid, expires_at timestamptz, period_start timestamptz) returns boolean
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as kijko.lock_hold
as $$
declare
    locked constant record := kijko.lock_hold(extend_hold.id);
    h constant kijko.holds := locked.hold;
    is_current constant boolean := h.state = 'open' and h.period_start = extend_hold.period_start;
begin
    if locked.at is null then
        return false; -- deleted in between
    end if;
    if h.state = 'settled' then
        return true;
    end if;
    -- It gives its key up if it was released, if it has expired, or if it belongs to a former period, which has a limit of its own.
    update kijko.holds as o set
        expires_at = case when is_current then extend_hold.expires_at else o.expires_at end,
        idempotency_key = case when is_current then o.idempotency_key end
    where o.ctid = locked.at and o.id = h.id;
    if not found then
        raise internal_error using message = 'a locked hold has moved';
    end if;
    return is_current;
end
$$;
comment on function kijko.extend_hold(uuid, timestamptz, timestamptz) is 'Internal: has an open hold of a period continue until a time. False when it has ended, or is of another period: then its key is free, unless it was settled, which is true.';

create function kijko.settle(hold uuid, actual bigint, subject uuid default null, meter text default null) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    locked record;
    h kijko.holds;
    present constant timestamptz := kijko.now();
begin
    if hold is null or actual is null or actual < 0 then
        perform kijko.fail('invalid_input', 'a settlement needs a hold and an amount of at least 0');
    end if;
    locked := kijko.lock_hold(settle.hold);
    if locked.at is null then
        if settle.subject is null or settle.meter is null then
            perform kijko.fail('not_found', 'no such hold', 'Pass its subject and meter to record the amount without it.');
        end if;
        -- Lost in a crash, or deleted. Stored now, so that a second settlement is detected.
        insert into kijko.holds (id, subject, meter, period_start, amount, state, created_at, expires_at, ended_at)
        select settle.hold, settle.subject, settle.meter, p.starts_at, 0, 'expired', present, present, present
        from kijko.period_at(settle.subject, settle.meter, present) as p
        on conflict on constraint holds_pkey do nothing;
        locked := kijko.lock_hold(settle.hold);
    end if;
    h := locked.hold;
    -- A caller that names the subject and the meter must not settle another subject's hold.
    if settle.subject <> h.subject or settle.meter <> h.meter then
        perform kijko.fail('not_found', 'no such hold of this subject and meter');
    end if;
    if h.state = 'settled' then
        return false;
    end if;
    -- Record before the row changes: if the counter must be loaded, the load must find the open hold that is then released.
    perform kijko.record_entry(
        h.subject, h.meter, actual, h.period_start, case when h.state = 'open' then h.amount else 0 end,
        case when h.state = 'open' then h.overage else 0 end, case when h.state = 'open' then 'settle' else 'backfill' end,
        present, null, null, null, null
    );
    perform kijko.end_hold(locked.at, h.id, 'settled', present, actual);
    return true;
end
$$;
comment on function kijko.settle(uuid, bigint, uuid, text) is 'Ends a hold and records the actual cost, more or less than was reserved, in the period of the hold. True when it was recorded. A second settlement does nothing and returns false. The cost of a hold that expired or was released is recorded all the same, and so is that of an unknown hold whose subject and meter are given.';

create function kijko.try_settle_many(holds uuid[], actuals bigint[], attributes jsonb[] default null) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as kijko.lock_hold
as $$
declare
    present constant timestamptz := kijko.now();
    places tid[];
    found_holds kijko.holds[];
    are_wanted boolean;
    id uuid;
    h kijko.holds;
    place integer;
    ended bigint[];
    changed bigint;
begin
    if holds is null or pg_catalog.cardinality(holds) is distinct from pg_catalog.cardinality(actuals) or 0 > any (actuals) then
        perform kijko.fail('invalid_input', 'each hold needs an amount of at least 0, or null');
    end if;
    foreach id in array holds loop
        places := pg_catalog.array_append(places, kijko.find_hold(id));
    end loop;
    -- By their places, as kijko.lock_hold. Postgres sorts these, so that two calls do not deadlock.
    select pg_catalog.array_agg(l.at), pg_catalog.array_agg(l.hold), pg_catalog.bool_and((l.hold).id = any (holds))
    into places, found_holds, are_wanted
    from (select o.ctid as at, o as hold from kijko.holds as o where o.ctid = any (places) and o.state = 'open' for update) as l;
    -- A hold that was changed in between may have left its place to another one.
    if coalesce(pg_catalog.cardinality(found_holds), 0) <> pg_catalog.cardinality(holds) or not are_wanted then
        return false;
    end if;
    -- Before the rows change, as in kijko.settle.
    foreach h in array coalesce(found_holds, '{}') loop
        place := pg_catalog.array_position(holds, h.id);
        perform kijko.record_entry(
            h.subject, h.meter, coalesce(actuals[place], 0), h.period_start, h.amount, h.overage, 'settle', present, null, null, null,
            case when actuals[place] is not null then attributes[place] end
        );
        ended := pg_catalog.array_append(ended, actuals[place]);
    end loop;
    update kijko.holds as o
    set state = case when s.actual is null then 'released' else 'settled' end, ended_at = present, settled_amount = s.actual
    from unnest(places, ended) as s (at, actual) where o.ctid = s.at;
    get diagnostics changed = row_count;
    if changed <> pg_catalog.cardinality(holds) then
        raise internal_error using message = 'a locked hold has moved';
    end if;
    return true;
end
$$;
comment on function kijko.try_settle_many(uuid[], bigint[], jsonb[]) is 'Like kijko.settle for several open holds at once; an actual cost of null releases the hold. Attributes of each are merged into those of kijko.usage_attributes. False, and nothing is done, when one of them is not open, or is there twice: kijko.settle and kijko.release end each by itself.';

create function kijko.release(hold uuid) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    locked constant record := kijko.lock_hold(release.hold);
    h constant kijko.holds := locked.hold;
begin
    if (h.state = 'open') is not true then
        return false;
    end if;
    -- Before the row changes, as in kijko.settle.
    perform kijko.record_entry(h.subject, h.meter, 0, h.period_start, h.amount, h.overage, 'settle', null, null, null, null, null);
    perform kijko.end_hold(locked.at, h.id, 'released', kijko.now(), null);
    return true;
end
$$;
comment on function kijko.release(uuid) is 'Ends a hold for work that was not done. False when it is not open.';

create function kijko.find_expired_holds(present timestamptz, skipped bigint, at_most bigint) returns tid[]
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_find_expired_holds';
comment on function kijko.find_expired_holds(timestamptz, bigint, bigint) is 'Internal: where the newest committed versions of open holds are that have expired, or this transaction''s own, in the order of their expiry and without the first ones; null for none.';

create function kijko.lock_expired_hold(place tid, present timestamptz, out at tid, out hold kijko.holds)
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as kijko.lock_hold
as $$
declare
    found_row record;
begin
    select o.ctid as at, o as hold into found_row from kijko.holds as o
    where o.ctid = place and o.state = 'open' and o.expires_at <= present
    for update skip locked;
    if found then
        at := found_row.at;
        hold := found_row.hold;
    end if;
end
$$;
comment on function kijko.lock_expired_hold(tid, timestamptz) is 'Internal: locks an expired hold, and says where it is and what it is; nulls when it has moved or ended, or another transaction has locked it.';

create function kijko.expire_holds_at(places tid[], present timestamptz) returns bigint
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    place tid;
    locked record;
    h kijko.holds;
    expired bigint := 0;
begin
    foreach place in array places loop
        locked := kijko.lock_expired_hold(place, present);
        if locked.at is not null then
            h := locked.hold;
            perform kijko.end_hold(locked.at, h.id, 'expired', present, null);
            expired := expired + h.amount;
        end if;
    end loop;
    return expired;
end
$$;
comment on function kijko.expire_holds_at(tid[], timestamptz) is 'Internal: ends the expired ones of these holds, without an entry in the ledger, and returns the sum of their amounts.';

create function kijko.expire_holds(at_most integer default 10000) returns bigint
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    places tid[];
    place tid;
    locked record;
    h kijko.holds;
    expired bigint := 0;
    skipped bigint := 0;
begin
    if at_most < 0 then
        perform kijko.fail('invalid_input', 'the number of holds must not be negative');
    end if;
    -- A hold that another transaction has locked must not keep those behind it from ending.
    loop
        places := kijko.find_expired_holds(present, skipped, at_most - expired);
        exit when places is null;
        foreach place in array places loop
            locked := kijko.lock_expired_hold(place, present);
            if locked.at is null then
                skipped := skipped + 1;
                continue;
            end if;
            h := locked.hold;
            -- Before the row changes, as in kijko.settle.
            perform kijko.record_entry(h.subject, h.meter, 0, h.period_start, h.amount, h.overage, 'settle', null, null, null, null, null);
            perform kijko.end_hold(locked.at, h.id, 'expired', present, null);
            expired := expired + 1;
        end loop;
    end loop;
    return expired;
end
$$;
comment on function kijko.expire_holds(integer) is 'Ends expired holds. A use that would be refused ends those of its own subject and meter itself.';
