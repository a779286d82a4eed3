comment on function kijko.period_at(uuid, text, timestamptz, text) is 'The period of a subject''s meter that a time falls into: its kind, its beginning (-infinity for a lifetime) and its end (infinity). otherwise is the kind for a meter without a limit.';
comment on function kijko.period_end(uuid, text, timestamptz) is 'Internal: the end of the period of a kind by the subject''s calendar, whatever its limit says; null for a lifetime.';
comment on function kijko.calendar_is_changing(uuid, timestamptz) is 'Internal: whether the last change of the subject''s calendar still shows in a period that is running.';
comment on function kijko.is_time_zone(text) is 'Internal: whether the library''s time zone database has a zone of this name.';
comment on function kijko.local_day(timestamptz, text) is 'Internal: the day of a moment in a time zone, by the library''s own time zone database, as periods are; in UTC where the zone is unknown.';

create function kijko.set_limits(subjects uuid[], meters text[], periods text[], amounts bigint[], overs text[])
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    problem text;
    changed bigint[];
begin
    if pg_catalog.num_nulls(subjects, meters, periods, amounts, overs) > 0
        or cardinality(subjects) <> any (array[cardinality(meters), cardinality(periods), cardinality(amounts), cardinality(overs)])
    then
        perform kijko.fail('invalid_input', 'limits need a subject, a meter, a period, an amount and an over each');
    end if;
    select
        coalesce(pg_catalog.min(case
            when a.subject is null or a.meter is null or pg_catalog.octet_length(a.meter) > 63 or a.meter !~ '^[a-z][a-z0-9_.]*$'
                then 'a limit needs a subject, and a meter in lower case'
            when a.period is null or a.period not in ('day', 'month', 'billing', 'lifetime')
                then 'the period must be day, month, billing or lifetime'
            when a.amount < 0 then 'the amount must not be negative; null is unlimited'
            when a."over" is null or a."over" not in ('refuse', 'flag', 'bill') then 'over must be refuse, flag or bill'
        end), case when count(*) > count(distinct (a.subject, a.meter)) then 'the same limit twice' end),
        pg_catalog.array_agg(a.n) filter (
            where (l.amount, l."over", l.period, l.next_period)
                is distinct from (a.amount, a."over", r.period, nullif(a.period, r.period))
        )
    into problem, changed
    from unnest(subjects, meters, periods, amounts, overs) with ordinality as a (subject, meter, period, amount, "over", n)
    -- One probe of the index for each limit: a plan that reads the whole table would be kept while the table grows.
    left join lateral (
        select o.period, o.amount, o."over", o.next_period, o.next_period_from from kijko.limits as o
        where o.subject = a.subject and o.meter = a.meter
        offset 0
    ) as l on true
    cross join lateral (select case when present >= l.next_period_from then l.next_period else l.period end) as r (period);
    if problem is not null then
        perform kijko.fail('invalid_input', problem);
    end if;
    -- Nothing is written without need, not even no rows: each statement that writes here makes every backend forget what
    -- it knows of limits.
    if changed is null then
        return;
    end if;
    -- In order, so that two calls with the same limits wait for each other and not in a circle. The amount counts at once
    -- and never resets the use. Another period waits for the current one to end; a lifetime has no end, so there it waits
    -- for the next beginning of the new one.
    insert into kijko.limits as l (subject, meter, period, amount, "over")
    select a.subject, a.meter, a.period, a.amount, a."over"
    from unnest(subjects, meters, periods, amounts, overs) with ordinality as a (subject, meter, period, amount, "over", n)
    where a.n = any (changed)
    order by a.subject, a.meter
    on conflict on constraint limits_pkey do update set
        amount = excluded.amount,
        "over" = excluded."over",
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
comment on function kijko.set_limits(uuid[], text[], text[], bigint[], text[]) is 'kijko.set_limit for several limits at once: the elements of the arrays belong together. Only those that are not so yet are written, by one statement.';

create function kijko.set_limit(subject uuid, meter text, period text, amount bigint, "over" text default 'refuse')
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers need no right to set several
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.set_limits(array[subject], array[meter], array[period], array[amount], array["over"]);
end
$$;
comment on function kijko.set_limit(uuid, text, text, bigint, text) is 'Sets the limit of a subject''s meter: amount (null is unlimited) in each period (day, month, billing, lifetime), and what happens over it (refuse, flag, bill). It counts from the next call on; use already counted stays. Another period takes effect when the current one ends.';

create function kijko.set_calendar(subject uuid, time_zone text, billing_anchor timestamptz default null)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    old kijko.calendars;
    is_new boolean;
begin
    if subject is null then
        perform kijko.fail('invalid_input', 'a calendar needs a subject');
    end if;
    if time_zone is null or not kijko.is_time_zone(time_zone) then
        perform kijko.fail('invalid_timezone', time_zone);
    end if;
    if not pg_catalog.isfinite(billing_anchor) then
        perform kijko.fail('invalid_input', 'the billing months must have begun at some time');
    end if;
    -- A subject without any use has no period that would have to end first.
    is_new := not exists (select from kijko.ledger as g where g.subject = set_calendar.subject)
        and not exists (select from kijko.usage_totals as t where t.subject = set_calendar.subject)
        and not exists (select from kijko.holds as h where h.subject = set_calendar.subject);
    insert into kijko.calendars as c (subject, time_zone, billing_anchor, former_time_zone, changed_at)
    values (
        set_calendar.subject, set_calendar.time_zone, set_calendar.billing_anchor,
        case when not is_new then 'UTC' end, case when not is_new then kijko.now() end
    )
    on conflict on constraint calendars_pkey do nothing;
    if found then
        return;
    end if;
    select c.* into old from kijko.calendars as c where c.subject = set_calendar.subject for update;
    if (old.time_zone, old.billing_anchor) is not distinct from (set_calendar.time_zone, set_calendar.billing_anchor) then
        return;
    end if;
    if not is_new and kijko.calendar_is_changing(set_calendar.subject, kijko.now()) then
        perform kijko.fail(
            'conflict', 'a period is running in which the last change of this calendar still shows',
            'Change it again when a whole period by it has begun.'
        );
    end if;
    update kijko.calendars as c set
        time_zone = set_calendar.time_zone,
        billing_anchor = set_calendar.billing_anchor,
        former_time_zone = case when not is_new then old.time_zone end,
        former_billing_anchor = case when not is_new then old.billing_anchor end,
        changed_at = case when not is_new then kijko.now() end
    where c.subject = set_calendar.subject;
end
$$;
comment on function kijko.set_calendar(uuid, text, timestamptz) is 'Sets where a subject''s days and months begin: its time zone, and when its billing months began (null for calendar months). For a subject that has used something, it takes effect when the current periods end, and is not changed again before a whole day and month by it have begun.';

create function kijko.try_consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_consume';
comment on function kijko.try_consume(uuid, text, bigint, text) is 'Uses an amount of a subject''s meter if its limit allows, in the caller''s transaction: a rollback gives it back. The verdict says what is left. An idempotency key charges once (for 35 days); under it another amount is idempotency_conflict. Amounts of 0 or less are refused, and so are READ ONLY transactions, standbys and PREPARE TRANSACTION.';

create function kijko.consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_consume';
comment on function kijko.consume(uuid, text, bigint, text) is 'kijko.try_consume that fails with quota_exceeded instead of answering no. Inside PostgREST it sets X-RateLimit-Limit, -Remaining, -Reset, -Resource, and Retry-After when refusing.';

create function kijko.try_consume_many(
    subjects uuid[], meter text, amount bigint default 1, idempotency_key text default null, attributes jsonb default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_consume_many';
comment on function kijko.try_consume_many(uuid[], text, bigint, text, jsonb) is 'kijko.try_consume for several subjects at once (organization, project, key), all or nothing. The verdict is that of the subject that refused, or else of the one with the least left. attributes are recorded with the use, joined to those of kijko.usage_attributes.';

create function kijko.consume_many(
    subjects uuid[], meter text, amount bigint default 1, idempotency_key text default null, attributes jsonb default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_consume_many';
comment on function kijko.consume_many(uuid[], text, bigint, text, jsonb) is 'kijko.try_consume_many that fails with quota_exceeded instead of answering no.';

create function kijko.standing(subject uuid, meter text) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_standing';
comment on function kijko.standing(uuid, text) is 'How a meter stands, from its counter: used (with what running transactions and holds have taken), limit, remaining, reset_at. Not allowed when nothing is left, whatever the limit does then. Uses nothing, and works in READ ONLY transactions. Cheaper than kijko.usage(), which sums up the tables.';

create function kijko.adjust_gauge(subject uuid, meter text, delta bigint) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_adjust_gauge';
comment on function kijko.adjust_gauge(uuid, text, bigint) is 'Changes a gauge (a number of things that exist) in the caller''s transaction. A rise above the limit fails with quota_exceeded; a fall makes room for others when it commits.';

create function kijko.set_gauge(subject uuid, meter text, value bigint) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_set_gauge';
comment on function kijko.set_gauge(uuid, text, bigint) is 'Sets a gauge. Waits until no other transaction is changing it; then as kijko.adjust_gauge.';

create function kijko.book(
    subject uuid, meter text, amount bigint, period_start timestamptz, freed bigint, unbooked bigint, kind text,
    occurred_at timestamptz, idempotency_key text, actor text, reason text, attributes jsonb
)
    returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_book';
comment on function kijko.book(uuid, text, bigint, timestamptz, bigint, bigint, text, timestamptz, text, text, text, jsonb) is 'Internal: books what has happened whatever the limit says, and gives back what an ended hold held, of which unbooked lay above a limit that flags or bills. False when the idempotency key was used before.';

create function kijko.forget_usage(subject uuid default null) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_forget_usage';
comment on function kijko.forget_usage(uuid) is 'After this transaction has committed, the counters of a subject (null: of everybody) are summed up from the tables again, and limits and calendars read again. Needed after a restore, and after any change to them but by these functions.';

create function kijko.limit_headers(v kijko.verdict) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_limit_headers';
comment on function kijko.limit_headers(kijko.verdict) is 'Adds a verdict to the response''s headers: to RateLimit-Policy and RateLimit beside what is there, and as X-RateLimit-*; Retry-After when it refuses.';

create function kijko.refuse_use(v kijko.verdict, amount bigint) returns void
    language plpgsql volatile parallel unsafe security definer -- called for those who may use a quota, not by them
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.limit_headers(v);
    perform kijko.fail(
        'quota_exceeded',
        pg_catalog.format('used %s of %s %s, asked for %s', v.used, coalesce(v."limit"::text, 'unlimited'), v.meter, amount),
        case when v.reset_at is null then 'Raise the limit.' else 'Wait for the next period or raise the limit.' end
    );
end
$$;
comment on function kijko.refuse_use(kijko.verdict, bigint) is 'Fails with quota_exceeded, with a verdict''s numbers and headers.';

create function kijko.correct_usage(
    subject uuid, meter text, amount bigint, reason text, occurred_at timestamptz default null, actor text default null
)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the internal function
    set search_path = pg_catalog, pg_temp
as $$
declare
    at constant timestamptz := coalesce(occurred_at, kijko.now());
begin
    if amount is null or amount = 0 or coalesce(reason, '') = '' then
        perform kijko.fail('invalid_input', 'a correction needs an amount and a reason');
    end if;
    if not pg_catalog.isfinite(at) or at > kijko.now() + interval '5 minutes' then
        perform kijko.fail('invalid_input', 'the time must have come');
    end if;
    perform kijko.book(
        subject, meter, amount, (select p.starts_at from kijko.period_at(subject, meter, at) as p), 0, 0, 'correction', at,
        null, coalesce(actor, kijko.user_id()::text, session_user::text), reason, null
    );
end
$$;
comment on function kijko.correct_usage(uuid, text, bigint, text, timestamptz, text) is 'Adds a correction to the period of a time: positive charges more, negative gives back (from the commit on). A row of its own with who and why; nothing is ever changed.';

create function kijko.record_usage(
    subject uuid, meter text, amount bigint, occurred_at timestamptz, idempotency_key text default null,
    attributes jsonb default null, reason text default null
)
    returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the internal function
    set search_path = pg_catalog, pg_temp
as $$
begin
    if amount is null or amount <= 0 or occurred_at is null then
        perform kijko.fail('invalid_input', 'a late use needs an amount of at least 1, and a time');
    end if;
    if not pg_catalog.isfinite(occurred_at) or occurred_at > kijko.now() + interval '5 minutes' then
        perform kijko.fail('invalid_input', 'the time must have come');
    end if;
    return kijko.book(
        subject, meter, amount, (select p.starts_at from kijko.period_at(subject, meter, occurred_at) as p), 0, 0, 'late',
        occurred_at, idempotency_key, coalesce(kijko.user_id()::text, session_user::text), reason, attributes
    );
end
$$;
comment on function kijko.record_usage(uuid, text, bigint, timestamptz, text, jsonb, text) is 'Books a use that has happened, in the period in which it happened, whatever the limit says: a row with who told it (the user, or the login) and why. False when its idempotency key was booked before.';
