create function kijko.forget_subject(subject uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    if subject is null then
        perform kijko.fail('invalid_input', 'whose limits to forget must not be null');
    end if;
    -- A statement that finds nothing still has every backend read these again.
    if exists (select from kijko.limits as l where l.subject = forget_subject.subject) then
        delete from kijko.limits as l where l.subject = forget_subject.subject;
    end if;
    if exists (select from kijko.calendars as c where c.subject = forget_subject.subject) then
        delete from kijko.calendars as c where c.subject = forget_subject.subject;
    end if;
    perform kijko.set_tier(subject, null);
    delete from kijko.holds as h where h.subject = forget_subject.subject;
    delete from kijko.idempotency_keys as k where k.subject = forget_subject.subject;
    delete from kijko.ingested_events as e where e.subject = forget_subject.subject;
    delete from kijko.threshold_crossings as c where c.subject = forget_subject.subject;
    perform kijko.forget_usage(subject);
end
$$;
comment on function kijko.forget_subject(uuid) is 'Forgets whoever is there no more: limits, calendar, tier, holds, idempotency keys, ingested events and crossings. What was used stays, in the ledger and its sums: that is accounting, and names nobody but the id.';
