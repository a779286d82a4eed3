comment on function kijko.cron_problem(text, text) is 'What is wrong with a cron expression or a time zone: one row with the error''s code and the reason, or none.';
comment on function kijko.cron_next_unchecked(text, text, timestamptz) is 'kijko.cron_next without the refusal: null when the expression or the zone is bad.';
comment on function kijko.cron_latest_unchecked(text, text, timestamptz) is 'kijko.cron_latest without the refusal: null when the expression or the zone is bad.';
comment on function kijko.cron_upcoming_unchecked(text, text, timestamptz, integer) is 'kijko.cron_upcoming without the refusal: no rows when the expression or the zone is bad.';

create function kijko.cron_check(expr text, tz text default 'UTC') returns boolean
    language plpgsql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    problem record;
begin
    if expr is null then
        return null;
    end if;
    select p.code, p.reason into problem from kijko.cron_problem(expr, tz) as p;
    if found then
        perform kijko.fail(problem.code, problem.reason);
    end if;
    return true;
end
$$;
comment on function kijko.cron_check(text, text) is 'True for a usable cron expression (null for null); anything else fails with invalid_cron, naming the field and the reason, or with invalid_timezone.';

create domain kijko.cron as text constraint cron_is_usable check (kijko.cron_check(value));
comment on domain kijko.cron is 'A cron expression that can be used: five fields or a nickname. A bad one cannot be stored; the error is invalid_cron and says which field and why.';
comment on constraint cron_is_usable on domain kijko.cron is 'Fails by itself, with the reason.';

create function kijko.cron_next(expr text, tz text, after timestamptz) returns timestamptz
    language plpgsql stable strict parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    due constant timestamptz := kijko.cron_next_unchecked(expr, tz, after);
begin
    if due is null then
        perform kijko.cron_check(expr, tz);
    end if;
    return due;
end
$$;
comment on function kijko.cron_next(text, text, timestamptz) is 'The first time strictly after the given one at which the expression fires in the IANA time zone; null if that lies beyond the calendar. A wall-clock time that a clock change skips fires once, at the end of the gap; one that comes twice fires the first time; an expression whose hour is * follows elapsed time.';

create function kijko.cron_latest(expr text, tz text, until timestamptz) returns timestamptz
    language plpgsql stable strict parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    due constant timestamptz := kijko.cron_latest_unchecked(expr, tz, until);
begin
    if due is null then
        perform kijko.cron_check(expr, tz);
    end if;
    return due;
end
$$;
comment on function kijko.cron_latest(text, text, timestamptz) is 'The last time not after the given one at which the expression fires in the IANA time zone, by the rules of kijko.cron_next; null if that lies before the calendar. Found at once, however many times lie between.';

create function kijko.cron_upcoming(expr text, tz text, after timestamptz, n integer) returns setof timestamptz
    language plpgsql stable strict parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.cron_check(expr, tz);
    if n not between 0 and 1000 then
        perform kijko.fail('invalid_input', 'n must be between 0 and 1000');
    end if;
    return query select u from kijko.cron_upcoming_unchecked(expr, tz, after, n) as u;
end
$$;
comment on function kijko.cron_upcoming(text, text, timestamptz, integer) is 'The next n times (at most 1000) of kijko.cron_next, in order.';
