create table kijko.limits (
    subject uuid not null,
    meter text not null check (meter ~ '^[a-z][a-z0-9_.]{0,62}$'),
    period text not null check (period in ('month', 'day', 'lifetime')),
    amount bigint check (amount >= 0),
    "over" text not null check ("over" in ('refuse', 'flag', 'bill')),
    next_period text check (next_period in ('month', 'day', 'lifetime')),
    next_period_from timestamptz,
    primary key (subject, meter),
    check ((next_period is null) = (next_period_from is null))
);
comment on table kijko.limits is 'One limit for each subject and meter. A meter without a row is unlimited and monthly.';
comment on column kijko.limits.subject is 'Whose limit: any uuid, here an organization, project or key.';
comment on column kijko.limits.meter is 'What is counted.';
comment on column kijko.limits.period is 'Calendar month or day in UTC, or lifetime, which never starts again.';
comment on column kijko.limits.amount is 'How much; null is unlimited.';
comment on column kijko.limits."over" is 'What happens above it: refuse; flag or bill allow it and say so in the verdict.';
comment on column kijko.limits.next_period is 'A changed period, which waits for the current one to end.';
comment on column kijko.limits.next_period_from is 'When it takes effect.';

create table kijko.meters (
    subject uuid not null,
    meter text not null,
    period text not null,
    period_start timestamptz not null,
    used bigint not null,
    primary key (subject, meter)
) with (fillfactor = 50); -- updated in place, again and again
comment on table kijko.meters is 'The use of each meter in its current period. The row is the lock: every call that uses the meter takes it in turn.';
comment on column kijko.meters.subject is 'Whose use.';
comment on column kijko.meters.meter is 'What is counted.';
comment on column kijko.meters.period is 'The kind of the period that used belongs to.';
comment on column kijko.meters.period_start is 'Its beginning; -infinity for a lifetime.';
comment on column kijko.meters.used is 'The sum of the ledger from period_start on.';

create table kijko.ledger (
    id bigint generated always as identity primary key,
    subject uuid not null,
    meter text not null,
    amount bigint not null,
    at timestamptz not null,
    idempotency_key text
);
comment on table kijko.ledger is 'Every use, one row each, only ever added to. The truth that kijko.meters sums up.';
comment on column kijko.ledger.id is 'Order of arrival.';
comment on column kijko.ledger.subject is 'Whose use.';
comment on column kijko.ledger.meter is 'What was used.';
comment on column kijko.ledger.amount is 'How much.';
comment on column kijko.ledger.at is 'When, by kijko.now().';
comment on column kijko.ledger.idempotency_key is 'The key of the call, if it had one.';
create index ledger_by_meter on kijko.ledger (subject, meter, at) include (amount);
comment on index kijko.ledger_by_meter is 'Sums a meter from a time on.';

create table kijko.idempotency_keys (
    subject uuid not null,
    meter text not null,
    key text not null check (pg_catalog.length(key) between 1 and 255),
    amount bigint not null,
    created_at timestamptz not null default pg_catalog.now(),
    primary key (subject, meter, key)
);
comment on table kijko.idempotency_keys is 'The calls that were allowed under an idempotency key, kept for 35 days. The same call again is allowed and charges nothing.';
comment on column kijko.idempotency_keys.subject is 'Whose call.';
comment on column kijko.idempotency_keys.meter is 'Its meter: one key may charge several meters, each once.';
comment on column kijko.idempotency_keys.key is 'The key.';
comment on column kijko.idempotency_keys.amount is 'The amount; another amount under the same key is idempotency_conflict.';
comment on column kijko.idempotency_keys.created_at is 'When it was first used, by the real clock.';
create index idempotency_keys_created_at on kijko.idempotency_keys (created_at);
comment on index kijko.idempotency_keys_created_at is 'Finds the keys that are old enough to be forgotten.';

-- The contents belong into a dump: they are the customers' use, not the extension's.
select pg_catalog.pg_extension_config_dump('kijko.limits', '');
select pg_catalog.pg_extension_config_dump('kijko.meters', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger_id_seq', '');
select pg_catalog.pg_extension_config_dump('kijko.idempotency_keys', '');

create function kijko.period_start(period text, at timestamptz) returns timestamptz
    language sql immutable strict parallel safe
return case period
    when 'month' then pg_catalog.date_trunc('month', at at time zone 'UTC') at time zone 'UTC'
    when 'day' then pg_catalog.date_trunc('day', at at time zone 'UTC') at time zone 'UTC'
    when 'lifetime' then timestamptz '-infinity'
end;
comment on function kijko.period_start(text, timestamptz) is 'The beginning of the period that a time falls into: calendar month or day in UTC, or -infinity for a lifetime.';

create function kijko.period_end(period text, at timestamptz) returns timestamptz
    language sql immutable strict parallel safe
return case period
    when 'month' then (pg_catalog.date_trunc('month', at at time zone 'UTC') + interval '1 month') at time zone 'UTC'
    when 'day' then (pg_catalog.date_trunc('day', at at time zone 'UTC') + interval '1 day') at time zone 'UTC'
end;
comment on function kijko.period_end(text, timestamptz) is 'The end of the period that a time falls into; null for a lifetime, which has none.';

create function kijko.current_period(l kijko.limits, at timestamptz) returns text
    language sql immutable parallel safe
-- A meter without a limit is monthly.
return coalesce(case when at >= l.next_period_from then l.next_period else l.period end, 'month');
comment on function kijko.current_period(kijko.limits, timestamptz) is 'The kind of period that a limit has at a time.';

create function kijko.set_limit(subject uuid, meter text, period text, amount bigint, "over" text default 'refuse')
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = ''
as $$
declare
    present constant timestamptz := kijko.now();
    old kijko.limits;
    old_period text;
begin
    if subject is null or meter is null or meter !~ '^[a-z][a-z0-9_.]{0,62}$' then
        perform kijko.fail('invalid_input', 'a limit needs a subject, and a meter in lower case');
    end if;
    if period is null or period not in ('month', 'day', 'lifetime') then
        perform kijko.fail('invalid_input', 'the period must be month, day or lifetime');
    end if;
    if amount < 0 then
        perform kijko.fail('invalid_input', 'the amount must not be negative; null is unlimited');
    end if;
    if "over" is null or "over" not in ('refuse', 'flag', 'bill') then
        perform kijko.fail('invalid_input', 'over must be refuse, flag or bill');
    end if;
    insert into kijko.limits (subject, meter, period, amount, "over")
    values (set_limit.subject, set_limit.meter, set_limit.period, set_limit.amount, set_limit."over")
    on conflict on constraint limits_pkey do nothing;
    if found then
        return;
    end if;
    select l.* into old from kijko.limits as l
    where l.subject = set_limit.subject and l.meter = set_limit.meter
    for update;
    old_period := kijko.current_period(old, present);
    -- The amount counts at once and never resets the use. Another period waits for the current one to end; a lifetime
    -- has no end, so there it waits for the next beginning of the new one.
    update kijko.limits as l set
        amount = set_limit.amount,
        "over" = set_limit."over",
        period = old_period,
        next_period = case when old_period <> set_limit.period then set_limit.period end,
        next_period_from = case when old_period <> set_limit.period then
            coalesce(kijko.period_end(old_period, present), kijko.period_end(set_limit.period, present))
        end
    where l.subject = set_limit.subject and l.meter = set_limit.meter;
end
$$;
comment on function kijko.set_limit(uuid, text, text, bigint, text) is 'Sets the limit of a subject''s meter: amount (null is unlimited) in each period (month, day, lifetime), and what happens over it (refuse, flag, bill). Use already counted stays. Another period takes effect when the current one ends.';

create function kijko.try_consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = ''
as $$
declare
    present constant timestamptz := kijko.now();
    m kijko.meters;
    l kijko.limits;
    kind text;
    beginning timestamptz;
    known bigint;
    fits boolean;
    replayed boolean := false;
    v kijko.verdict;
begin
    if subject is null or meter is null or meter !~ '^[a-z][a-z0-9_.]{0,62}$' then
        perform kijko.fail('invalid_input', 'a use needs a subject, and a meter in lower case');
    end if;
    if amount is null or amount <= 0 then
        perform kijko.fail('invalid_input', 'the amount must be at least 1');
    end if;
    if pg_catalog.length(idempotency_key) not between 1 and 255 then
        perform kijko.fail('invalid_input', 'an idempotency key has 1 to 255 characters');
    end if;

    -- Everybody who uses this meter waits here for his turn; statements from here on see what the former one committed.
    insert into kijko.meters (subject, meter, period, period_start, used)
    values (try_consume.subject, try_consume.meter, 'month', 'infinity', 0)
    on conflict on constraint meters_pkey do nothing;
    select c.* into m from kijko.meters as c
    where c.subject = try_consume.subject and c.meter = try_consume.meter
    for update;

    select x.* into l from kijko.limits as x where x.subject = try_consume.subject and x.meter = try_consume.meter;
    kind := kijko.current_period(l, present);
    beginning := kijko.period_start(kind, present);
    if m.period <> kind or m.period_start <> beginning then
        -- Another period, or the first use of the meter. The ledger knows, also when time was set back.
        select coalesce(pg_catalog.sum(g.amount), 0) into m.used from kijko.ledger as g
        where g.subject = try_consume.subject and g.meter = try_consume.meter
            and g.at >= beginning and g.at < coalesce(kijko.period_end(kind, present), 'infinity');
    end if;

    if idempotency_key is not null then
        select k.amount into known from kijko.idempotency_keys as k
        where k.subject = try_consume.subject and k.meter = try_consume.meter and k.key = idempotency_key;
        if found and known <> amount then
            perform kijko.fail('idempotency_conflict', pg_catalog.format('this key charged %s %s, not %s', known, meter, amount));
        end if;
        replayed := found;
    end if;

    fits := l.amount is null or amount <= l.amount - m.used;
    v.allowed := replayed or fits or l."over" <> 'refuse';
    if v.allowed and not replayed then
        m.used := m.used + amount;
        insert into kijko.ledger (subject, meter, amount, at, idempotency_key)
        values (try_consume.subject, try_consume.meter, try_consume.amount, present, try_consume.idempotency_key);
        if idempotency_key is not null then
            insert into kijko.idempotency_keys (subject, meter, key, amount)
            values (try_consume.subject, try_consume.meter, try_consume.idempotency_key, try_consume.amount);
            delete from kijko.idempotency_keys as k
            where (k.subject, k.meter, k.key) in (
                select o.subject, o.meter, o.key from kijko.idempotency_keys as o
                where o.created_at < pg_catalog.now() - interval '35 days'
                order by o.created_at
                limit 10
                for update skip locked
            );
        end if;
    end if;
    update kijko.meters as c set period = kind, period_start = beginning, used = m.used
    where c.subject = try_consume.subject and c.meter = try_consume.meter;

    v.meter := meter;
    v.used := m.used;
    v."limit" := l.amount;
    v.remaining := case when l.amount is not null then greatest(l.amount - m.used, 0) end;
    v.reset_at := kijko.period_end(kind, present);
    if not fits and not replayed then
        v.code := 'quota_exceeded';
        -- A new period helps only those who ask for no more than it holds.
        if not v.allowed and amount <= l.amount then
            v.retry_after := pg_catalog.ceil(extract(epoch from v.reset_at - present));
        end if;
    end if;
    return v;
end
$$;
comment on function kijko.try_consume(uuid, text, bigint, text) is 'Uses an amount of a subject''s meter if its limit allows, in the caller''s transaction: a rollback gives it back. The verdict says what is left. An idempotency key charges once (for 35 days); under it another amount is idempotency_conflict. Amounts of 0 or less are refused.';

create function kijko.consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language plpgsql volatile parallel unsafe security definer -- callers of consume may be refused try_consume
    set search_path = ''
as $$
declare
    v constant kijko.verdict := kijko.try_consume(subject, meter, amount, idempotency_key);
begin
    if v."limit" is not null then
        perform kijko.add_header('X-RateLimit-Limit', v."limit"::text);
        perform kijko.add_header('X-RateLimit-Remaining', v.remaining::text);
        perform kijko.add_header('X-RateLimit-Resource', v.meter);
        perform kijko.add_header('X-RateLimit-Reset', pg_catalog.ceil(extract(epoch from v.reset_at))::text);
    end if;
    if not v.allowed then
        if v.retry_after is not null then
            perform kijko.add_header('Retry-After', v.retry_after::text);
        end if;
        perform kijko.fail(
            v.code,
            pg_catalog.format('used %s of %s %s, asked for %s', v.used, v."limit", v.meter, amount),
            case when v.reset_at is null then 'Raise the limit.' else 'Wait for the next period or raise the limit.' end
        );
    end if;
    return v;
end
$$;
comment on function kijko.consume(uuid, text, bigint, text) is 'kijko.try_consume that fails with quota_exceeded instead of answering no. Inside PostgREST it sets X-RateLimit-Limit, -Remaining, -Reset, -Resource, and Retry-After when refusing.';

create function kijko.usage(subject uuid)
    returns table (meter text, period text, used bigint, "limit" bigint, remaining bigint, reset_at timestamptz)
    language plpgsql stable parallel safe security definer -- callers have no rights on the tables
    set search_path = ''
as $$
declare
    present constant timestamptz := kijko.now();
begin
    return query
    select a.meter, p.period, u.used, l.amount, case when l.amount is not null then greatest(l.amount - u.used, 0) end, kijko.period_end(p.period, present)
    from (
        select x.meter from kijko.limits as x where x.subject = usage.subject
        union
        select x.meter from kijko.meters as x where x.subject = usage.subject
    ) as a
    left join kijko.limits as l on l.subject = usage.subject and l.meter = a.meter
    left join kijko.meters as m on m.subject = usage.subject and m.meter = a.meter
    cross join lateral (select kijko.current_period(l, present)) as p(period)
    cross join lateral (
        select case
            when m.meter is null then 0
            when m.period = p.period and m.period_start = kijko.period_start(p.period, present) then m.used
            -- Nobody has used the meter since its period ended.
            else (
                select coalesce(pg_catalog.sum(g.amount), 0)::bigint from kijko.ledger as g
                where g.subject = usage.subject and g.meter = a.meter
                    and g.at >= kijko.period_start(p.period, present)
                    and g.at < coalesce(kijko.period_end(p.period, present), 'infinity')
            )
        end
    ) as u(used)
    order by a.meter;
end
$$;
comment on function kijko.usage(uuid) is 'The current use of every meter of a subject that has a limit or was used: period, used, limit and remaining (null is unlimited), and when the period ends (null for a lifetime).';
