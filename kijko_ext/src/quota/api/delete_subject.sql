create function kijko.delete_subject(subject uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass;
begin
    if subject is null then
        perform kijko.fail('invalid_input', 'the subject must not be null');
    end if;
    foreach relation in array array[
        'kijko.limits', 'kijko.calendars', 'kijko.tiers', 'kijko.holds', 'kijko.idempotency_keys', 'kijko.ingested_events',
        'kijko.threshold_crossings'
    ]::regclass[] loop
        perform kijko.delete_subject_rows(relation, subject);
    end loop;
    perform kijko.reload_counters(subject);
end
$$;
comment on function kijko.delete_subject(uuid) is 'Deletes the state of a subject that no longer exists: limits, calendar, tier, holds, idempotency keys, ingested events and crossings. Its usage stays in the ledger and the rolled-up tables for accounting. These contain only its id.';
