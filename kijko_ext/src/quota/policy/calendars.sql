create table kijko.calendars (
    subject uuid primary key,
    time_zone text not null,
    billing_anchor timestamptz,
    former_time_zone text,
    former_billing_anchor timestamptz,
    changed_at timestamptz,
    check ((former_time_zone is null) = (changed_at is null))
);
comment on table kijko.calendars is 'Time zone and billing anchor of each subject. Without a row, days and months begin at midnight UTC.';
comment on column kijko.calendars.subject is 'Subject.';
comment on column kijko.calendars.time_zone is 'The time zone of its days and months.';
comment on column kijko.calendars.billing_anchor is 'Start of its first billing month. Null: billing months are calendar months.';
comment on column kijko.calendars.former_time_zone is 'The time zone before the last change. It applies until the periods that were current then have ended.';
comment on column kijko.calendars.former_billing_anchor is 'The anchor before the last change.';
comment on column kijko.calendars.changed_at is 'When it was last changed, by kijko.now(). Null when it never was.';

select pg_catalog.pg_extension_config_dump('kijko.calendars', '');
create trigger invalidate_cache after insert or update or delete on kijko.calendars
    for each row execute function kijko.invalidate_cache('limits', 'subject');
create trigger invalidate_cache_truncated after truncate on kijko.calendars
    for each statement execute function kijko.invalidate_cache('limits');
alter table kijko.calendars enable always trigger invalidate_cache;
alter table kijko.calendars enable always trigger invalidate_cache_truncated;

comment on function kijko.period_at(uuid, text, timestamptz, text) is 'The period of a subject''s meter that contains a time: its kind, its start (-infinity for a lifetime) and its end (infinity). otherwise is the kind for a meter without a limit.';
comment on function kijko.period_end(uuid, text, timestamptz) is 'Internal: the end of the period of a kind in the subject''s calendar, whatever its limits are. Null for a lifetime.';
comment on function kijko.calendar_is_changing(uuid, timestamptz) is 'Internal: whether a current period is affected by the last change of the subject''s calendar.';
comment on function kijko.is_time_zone(text) is 'Internal: whether the library''s time zone database has a zone of this name.';
comment on function kijko.local_day(timestamptz, text) is 'Internal: the day of a moment in a time zone, by the library''s own time zone database, as for periods. UTC when the zone is unknown.';

create function kijko.has_usage(subject uuid) returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_has_usage';
comment on function kijko.has_usage(uuid) is 'Internal: whether a subject has anything in the ledger or the rolled-up tables, or a hold. In a SERIALIZABLE transaction it takes no predicate lock on them.';

create function kijko.lock_calendar(subject uuid, out at tid, out calendar kijko.calendars)
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- by its place, also in a table of one page
as $$
declare
    found_row record;
begin
    -- A query by the subject takes predicate locks in a SERIALIZABLE transaction: on a page of the index, where other tenants
    -- have calendars, too. By its place the row alone is locked.
    loop
        at := (kijko.find_subject_rows('kijko.calendars', lock_calendar.subject))[1];
        exit when at is null;
        select o.ctid as at, o as calendar into found_row from kijko.calendars as o
        where o.ctid = lock_calendar.at and o.subject = lock_calendar.subject
        for update;
        if found then
            at := found_row.at;
            calendar := found_row.calendar;
            exit;
        end if;
        -- Changed by somebody else in between.
        if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
            raise serialization_failure using message = 'the calendar was changed after this transaction began', hint = 'Retry the transaction.';
        end if;
    end loop;
end
$$;
comment on function kijko.lock_calendar(uuid) is 'Internal: locks a subject''s calendar, and says where it is and what it is; nulls when there is none.';

create function kijko.set_calendar(subject uuid, time_zone text, billing_anchor timestamptz default null)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- as kijko.lock_calendar
as $$
declare
    locked record;
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
        perform kijko.fail('invalid_input', 'the billing anchor must be finite');
    end if;
    -- A subject without usage has no current period that must end first.
    is_new := not kijko.has_usage(set_calendar.subject);
    loop
        insert into kijko.calendars as c (subject, time_zone, billing_anchor, former_time_zone, changed_at)
        values (
            set_calendar.subject, set_calendar.time_zone, set_calendar.billing_anchor,
            case when not is_new then 'UTC' end, case when not is_new then kijko.now() end
        )
        on conflict on constraint calendars_pkey do nothing;
        if found then
            return;
        end if;
        locked := kijko.lock_calendar(set_calendar.subject);
        exit when locked.at is not null; -- it may have been deleted in between
    end loop;
    old := locked.calendar;
    if (old.time_zone, old.billing_anchor) is not distinct from (set_calendar.time_zone, set_calendar.billing_anchor) then
        return;
    end if;
    if not is_new and kijko.calendar_is_changing(set_calendar.subject, kijko.now()) then
        perform kijko.fail(
            'conflict', 'a current period is affected by the last change of this calendar',
            'Change it again when a whole period of the changed calendar has begun.'
        );
    end if;
    update kijko.calendars as c set
        time_zone = set_calendar.time_zone,
        billing_anchor = set_calendar.billing_anchor,
        former_time_zone = case when not is_new then old.time_zone end,
        former_billing_anchor = case when not is_new then old.billing_anchor end,
        changed_at = case when not is_new then kijko.now() end
    where c.ctid = locked.at and c.subject = set_calendar.subject;
    if not found then
        raise internal_error using message = 'a locked calendar has moved';
    end if;
end
$$;
comment on function kijko.set_calendar(uuid, text, timestamptz) is 'Sets the calendar of a subject: its time zone, and the start of its first billing month (null for calendar months). For a subject with usage the change takes effect when the current periods end, and the calendar cannot be changed again before a whole day and month of it have begun.';
