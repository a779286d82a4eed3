create function kijko.record_entry(
    subject uuid, meter text, amount bigint, period_start timestamptz, hold_amount bigint, unrecorded_overage bigint, kind text,
    occurred_at timestamptz, idempotency_key text, actor text, reason text, attributes jsonb
)
    returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_record_entry';
comment on function kijko.record_entry(uuid, text, bigint, timestamptz, bigint, bigint, text, timestamptz, text, text, text, jsonb) is 'Internal: records what has happened, whatever the limit is, and releases hold_amount of an ended hold, of which unrecorded_overage lay above a limit that flags or bills. False when the idempotency key was used before.';

create function kijko.reload_counters(subject uuid default null) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_reload_counters';
comment on function kijko.reload_counters(uuid) is 'Loads the counters of a subject (null: of every subject) from the tables again, and has every backend read limits and calendars again. Takes effect at commit. Call it after a restore, and after any change to these tables that did not go through these functions. Deletes nothing.';

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
        perform kijko.fail('invalid_input', 'the time must not be in the future');
    end if;
    perform kijko.record_entry(
        subject, meter, amount, (select p.starts_at from kijko.period_at(subject, meter, at) as p), 0, 0, 'correction', at,
        null, coalesce(actor, kijko.user_id()::text, session_user::text), reason, null
    );
end
$$;
comment on function kijko.correct_usage(uuid, text, bigint, text, timestamptz, text) is 'Adds a correction to the period that contains a time: a positive amount charges more, a negative amount gives back (from the commit on). It is a ledger entry of its own with actor and reason; existing entries never change.';

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
        perform kijko.fail('invalid_input', 'a past use needs an amount of at least 1, and a time');
    end if;
    if not pg_catalog.isfinite(occurred_at) or occurred_at > kijko.now() + interval '5 minutes' then
        perform kijko.fail('invalid_input', 'the time must not be in the future');
    end if;
    return kijko.record_entry(
        subject, meter, amount, (select p.starts_at from kijko.period_at(subject, meter, occurred_at) as p), 0, 0, 'backfill',
        occurred_at, idempotency_key, coalesce(kijko.user_id()::text, session_user::text), reason, attributes
    );
end
$$;
comment on function kijko.record_usage(uuid, text, bigint, timestamptz, text, jsonb, text) is 'Records a past use in the period in which it happened, whatever the limit is. The entry names the reporter (the user, or the login) and the reason. False when the idempotency key was used before.';
