-- Meters are compared by bytes ("C"), which is faster and the same in every locale.
create table kijko.limits (
    subject uuid not null,
    -- The length apart: a bounded repeat such as {0,62} makes matching more than ten times slower.
    meter text collate "C" not null check (pg_catalog.octet_length(meter) <= 63 and meter ~ '^[a-z][a-z0-9_.]*$'),
    period text not null check (period in ('day', 'month', 'billing', 'lifetime')),
    amount bigint check (amount >= 0),
    overage_policy text not null check (overage_policy in ('refuse', 'flag', 'bill')),
    next_period text check (next_period in ('day', 'month', 'billing', 'lifetime')),
    next_period_from timestamptz,
    period_from timestamptz,
    primary key (subject, meter),
    check ((next_period is null) = (next_period_from is null))
);
comment on table kijko.limits is 'The limit of each subject and meter. Without a row a meter is unlimited and monthly, and a gauge is unlimited.';
comment on column kijko.limits.subject is 'Subject of the limit, any uuid: an organization, a project, a key.';
comment on column kijko.limits.meter is 'Meter.';
comment on column kijko.limits.period is 'day, month or billing (a billing month) in the subject''s calendar, or lifetime, which never ends.';
comment on column kijko.limits.amount is 'Units in a period. Null is unlimited.';
comment on column kijko.limits.overage_policy is 'What happens above the limit: refuse rejects the use; flag and bill allow it and mark the verdict and the ledger entry.';
comment on column kijko.limits.next_period is 'The new period after a change, until the current one has ended.';
comment on column kijko.limits.next_period_from is 'When the new period takes effect.';
comment on column kijko.limits.period_from is 'When the kind of period last changed. The period that was current then started at that time. Null when it never changed.';

select pg_catalog.pg_extension_config_dump('kijko.limits', '');

create trigger invalidate_cache after insert or update or delete on kijko.limits
    for each row execute function kijko.invalidate_cache('limits', 'subject');
create trigger invalidate_cache_truncated after truncate on kijko.limits
    for each statement execute function kijko.invalidate_cache('limits');
alter table kijko.limits enable always trigger invalidate_cache;
alter table kijko.limits enable always trigger invalidate_cache_truncated;

create function kijko.find_limit(subject uuid, meter text) returns kijko.limits
    language c stable parallel safe as 'MODULE_PATHNAME', 'kijko_find_limit';
comment on function kijko.find_limit(uuid, text) is 'Internal: the limit of a subject''s meter as the running statement sees it, null without one. In a SERIALIZABLE transaction it takes no predicate lock: those of an index are on pages, where other tenants have limits, too.';

create function kijko.set_limits(subjects uuid[], meters text[], periods text[], amounts bigint[], overage_policies text[])
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    problem text;
    changed bigint[];
begin
    if pg_catalog.num_nulls(subjects, meters, periods, amounts, overage_policies) > 0
        or cardinality(subjects) <> any (array[cardinality(meters), cardinality(periods), cardinality(amounts), cardinality(overage_policies)])
    then
        perform kijko.fail('invalid_input', 'limits need a subject, a meter, a period, an amount and an overage policy each');
    end if;
    select
        coalesce(pg_catalog.min(case
            when a.subject is null or a.meter is null or pg_catalog.octet_length(a.meter) > 63 or a.meter !~ '^[a-z][a-z0-9_.]*$'
                then 'a limit needs a subject, and a meter in lower case'
            when a.period is null or a.period not in ('day', 'month', 'billing', 'lifetime')
                then 'the period must be day, month, billing or lifetime'
            when a.amount < 0 then 'the amount must not be negative; null is unlimited'
            when a.overage_policy is null or a.overage_policy not in ('refuse', 'flag', 'bill') then 'overage_policy must be refuse, flag or bill'
        end), case when count(*) > count(distinct (a.subject, a.meter)) then 'the same limit twice' end),
        pg_catalog.array_agg(a.n) filter (
            where (l.amount, l.overage_policy, l.period, l.next_period)
                is distinct from (a.amount, a.overage_policy, r.period, nullif(a.period, r.period))
        )
    into problem, changed
    from unnest(subjects, meters, periods, amounts, overage_policies) with ordinality as a (subject, meter, period, amount, overage_policy, n)
    left join lateral kijko.find_limit(a.subject, a.meter) as l on true
    cross join lateral (select case when present >= l.next_period_from then l.next_period else l.period end) as r (period);
    if problem is not null then
        perform kijko.fail('invalid_input', problem);
    end if;
    -- No row without a change: each one has every backend read the subject's limits again.
    if changed is null then
        return;
    end if;
    -- Ordered, so that two calls with the same limits cannot deadlock. The amount applies at once and never resets the use.
    -- A new period takes effect when the current one ends. A lifetime has no end: the next start of the new period applies.
    insert into kijko.limits as l (subject, meter, period, amount, overage_policy)
    select a.subject, a.meter, a.period, a.amount, a.overage_policy
    from unnest(subjects, meters, periods, amounts, overage_policies) with ordinality as a (subject, meter, period, amount, overage_policy, n)
    where a.n = any (changed)
    order by a.subject, a.meter
    on conflict on constraint limits_pkey do update set
        amount = excluded.amount,
        overage_policy = excluded.overage_policy,
        (period, period_from, next_period, next_period_from) = (
            select r.period, r.since, nullif(excluded.period, r.period), case when excluded.period <> r.period then
                coalesce(kijko.period_end(l.subject, r.period, present), kijko.period_end(l.subject, excluded.period, present))
            end
            from (
                select case when present >= l.next_period_from then l.next_period else l.period end,
                    case when present >= l.next_period_from then l.next_period_from else l.period_from end
            ) as r (period, since)
        );
end
$$;
comment on function kijko.set_limits(uuid[], text[], text[], bigint[], text[]) is 'Sets several limits at once, as kijko.set_limit: elements of the arrays at the same position belong together. Writes only limits that change, in one statement.';

create function kijko.set_limit(subject uuid, meter text, period text, amount bigint, overage_policy text default 'refuse')
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers need no right to set several
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.set_limits(array[subject], array[meter], array[period], array[amount], array[overage_policy]);
end
$$;
comment on function kijko.set_limit(uuid, text, text, bigint, text) is 'Sets the limit of a subject''s meter: amount (null is unlimited) in each period (day, month, billing, lifetime), and what happens above it (refuse, flag, bill). It applies from the next call on and never resets usage. A new kind of period takes effect when the current period ends.';
