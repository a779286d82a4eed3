create function kijko.delete_subject(subject uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    if subject is null then
        perform kijko.fail('invalid_input', 'the subject must not be null');
    end if;
    -- Even a delete of no rows makes every backend read these tables again.
    if exists (select from kijko.limits as l where l.subject = delete_subject.subject) then
        delete from kijko.limits as l where l.subject = delete_subject.subject;
    end if;
    if exists (select from kijko.calendars as c where c.subject = delete_subject.subject) then
        delete from kijko.calendars as c where c.subject = delete_subject.subject;
    end if;
    perform kijko.set_tier(subject, null);
    delete from kijko.holds as h where h.subject = delete_subject.subject;
    delete from kijko.idempotency_keys as k where k.subject = delete_subject.subject;
    delete from kijko.ingested_events as e where e.subject = delete_subject.subject;
    delete from kijko.threshold_crossings as c where c.subject = delete_subject.subject;
    perform kijko.reload_counters(subject);
end
$$;
comment on function kijko.delete_subject(uuid) is 'Deletes the state of a subject that no longer exists: limits, calendar, tier, holds, idempotency keys, ingested events and crossings. Its usage stays in the ledger and the rolled-up tables for accounting. These contain only its id.';
