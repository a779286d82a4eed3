create function kijko.reserve_until(subject uuid, meter text, amount bigint, expires_at timestamptz, idempotency_key text)
    returns uuid
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_reserve';
comment on function kijko.reserve_until(uuid, text, bigint, timestamptz, text) is 'Internal: kijko.reserve until a time.';

create function kijko.refuse_hold(meter text, used bigint, "limit" bigint, reset_at timestamptz, retry_after integer, amount bigint)
    returns void
    language plpgsql volatile parallel unsafe security definer -- called for those who may use a quota, not by them
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
comment on function kijko.reserve(uuid, text, bigint, interval, text) is 'Holds an amount of a subject''s meter until it is settled, released or older than ttl; it counts as used meanwhile. Fails with quota_exceeded. The same key again answers the same hold, or makes another one if that expired or was released. It may commit asynchronously (synchronous_commit = off): a crash then loses the hold, and kijko.settle with subject and meter books what it came to.';

create function kijko.settle(hold uuid, actual bigint, subject uuid default null, meter text default null) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    h kijko.holds;
    present constant timestamptz := kijko.now();
begin
    if hold is null or actual is null or actual < 0 then
        perform kijko.fail('invalid_input', 'settling needs a hold and an amount of at least 0');
    end if;
    select o.* into h from kijko.holds as o where o.id = hold for update;
    if not found then
        if settle.subject is null or settle.meter is null then
            perform kijko.fail('not_found', 'no such hold', 'Name its subject and its meter to book without it.');
        end if;
        -- Lost in a crash, or forgotten: remembered from now on, so that settling it twice is noticed.
        insert into kijko.holds (id, subject, meter, period_start, amount, state, created_at, expires_at, ended_at)
        select hold, settle.subject, settle.meter, p.starts_at, 0, 'expired', present, present, present
        from kijko.period_at(settle.subject, settle.meter, present) as p
        on conflict on constraint holds_pkey do nothing;
        select o.* into h from kijko.holds as o where o.id = hold for update;
    end if;
    -- Whoever says whose hold it is must not settle another one.
    if settle.subject <> h.subject or settle.meter <> h.meter then
        perform kijko.fail('not_found', 'no such hold of this subject and meter');
    end if;
    if h.state = 'settled' then
        return false;
    end if;
    -- Book before the row changes: should the counter have to be loaded, it must find the hold that is then given back.
    perform kijko.book(
        h.subject, h.meter, actual, h.period_start, case when h.state = 'open' then h.amount else 0 end,
        case when h.state = 'open' then h.overage else 0 end, case when h.state = 'open' then 'settle' else 'late' end,
        present, null, null, null, null
    );
    update kijko.holds as o set state = 'settled', ended_at = present, settled_amount = actual where o.id = hold;
    return true;
end
$$;
comment on function kijko.settle(uuid, bigint, uuid, text) is 'Ends a hold and books what the work came to, more or less than was held, in the period of the hold. True when it was booked; settling twice does nothing and answers false. A hold that expired or was released is booked all the same, and so is an unknown one whose subject and meter are named.';

create function kijko.release(hold uuid) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    h kijko.holds;
begin
    select o.* into h from kijko.holds as o where o.id = hold and o.state = 'open' for update;
    if not found then
        return false;
    end if;
    -- Before the row changes, as in kijko.settle.
    perform kijko.book(h.subject, h.meter, 0, h.period_start, h.amount, h.overage, 'settle', null, null, null, null, null);
    update kijko.holds as o set state = 'released', ended_at = kijko.now() where o.id = hold;
    return true;
end
$$;
comment on function kijko.release(uuid) is 'Ends a hold for work that was not done. False when it is not open.';

create function kijko.expire_holds(at_most integer default 10000) returns bigint
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    h kijko.holds;
    expired bigint := 0;
begin
    for h in
        select o.* from kijko.holds as o
        where o.state = 'open' and o.expires_at <= kijko.now()
        order by o.expires_at
        limit at_most
        for update skip locked
    loop
        -- Before the row changes, as in kijko.settle.
        perform kijko.book(h.subject, h.meter, 0, h.period_start, h.amount, h.overage, 'settle', null, null, null, null, null);
        update kijko.holds as o set state = 'expired', ended_at = kijko.now() where o.id = h.id;
        expired := expired + 1;
    end loop;
    return expired;
end
$$;
comment on function kijko.expire_holds(integer) is 'Ends the holds whose time is over. A use that is in want of them does so itself for its own subject and meter.';
