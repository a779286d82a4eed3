create table kijko.threshold_crossings (
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    threshold smallint not null check (threshold in (50, 80, 100)),
    used bigint not null,
    "limit" bigint not null,
    crossed_at timestamptz not null,
    take_at timestamptz default '-infinity',
    primary key (subject, meter, period_start, threshold)
);
comment on table kijko.threshold_crossings is 'The first use in a period that reached 50, 80 or 100 per cent of the limit of that time.';
comment on column kijko.threshold_crossings.subject is 'Subject.';
comment on column kijko.threshold_crossings.meter is 'Meter.';
comment on column kijko.threshold_crossings.period_start is 'Start of the period.';
comment on column kijko.threshold_crossings.threshold is 'Per cent.';
comment on column kijko.threshold_crossings.used is 'The total that reached the threshold.';
comment on column kijko.threshold_crossings."limit" is 'The limit at that time.';
comment on column kijko.threshold_crossings.crossed_at is 'Time, by kijko.now().';
comment on column kijko.threshold_crossings.take_at is 'From when kijko.take_threshold_crossings() returns it, by the clock of the server; null once it is handled.';
create index threshold_crossings_open on kijko.threshold_crossings (take_at, crossed_at) where take_at is not null;
comment on index kijko.threshold_crossings_open is 'Crossings that have not been notified.';

select pg_catalog.pg_extension_config_dump('kijko.threshold_crossings', '');

create table kijko.idempotency_keys (
    subject uuid not null,
    meter text collate "C" not null,
    key text collate "C" not null check (pg_catalog.length(key) between 1 and 255),
    amount bigint not null,
    created_at timestamptz not null,
    code text,
    used bigint,
    "limit" bigint,
    reset_at timestamptz,
    primary key (subject, meter, key)
);
comment on table kijko.idempotency_keys is 'Calls that were allowed under an idempotency key, kept for 35 days. The same call again returns the same verdict and charges nothing.';
comment on column kijko.idempotency_keys.subject is 'Subject.';
comment on column kijko.idempotency_keys.meter is 'Meter. One key may charge several meters, each once.';
comment on column kijko.idempotency_keys.key is 'Key.';
comment on column kijko.idempotency_keys.amount is 'Amount. Another amount under the same key fails with idempotency_conflict.';
comment on column kijko.idempotency_keys.created_at is 'When it was first used, by the real clock.';
comment on column kijko.idempotency_keys.code is 'Code of the verdict: quota_exceeded when the use was above a limit that flags or bills.';
comment on column kijko.idempotency_keys.used is 'Use in the verdict.';
comment on column kijko.idempotency_keys."limit" is 'Limit in the verdict.';
comment on column kijko.idempotency_keys.reset_at is 'End of the period in the verdict.';
create index idempotency_keys_created_at on kijko.idempotency_keys (created_at);
comment on index kijko.idempotency_keys_created_at is 'Finds keys that are old enough to be deleted.';

select pg_catalog.pg_extension_config_dump('kijko.idempotency_keys', '');

create function kijko.try_consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_consume';
comment on function kijko.try_consume(uuid, text, bigint, text) is 'Uses an amount of a subject''s meter if the limit allows it, in the caller''s transaction: a rollback undoes it. The verdict says how much is left. An idempotency key charges once (for 35 days); another amount under the same key fails with idempotency_conflict. Amounts below 1, READ ONLY transactions, standbys and PREPARE TRANSACTION are refused.';

create function kijko.consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_consume';
comment on function kijko.consume(uuid, text, bigint, text) is 'Like kijko.try_consume, but fails with quota_exceeded when the use is refused. Inside PostgREST it adds the meter to RateLimit and RateLimit-Policy and sets X-RateLimit-*, and Retry-After when it fails.';

create function kijko.try_consume_many(
    subjects uuid[], meter text, amount bigint default 1, idempotency_key text default null, attributes jsonb default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_consume_many';
comment on function kijko.try_consume_many(uuid[], text, bigint, text, jsonb) is 'Like kijko.try_consume for several subjects at once (organization, project, key), all or nothing. The verdict is that of the subject that refused, or else of the one with the least left. attributes are recorded with the use, merged into those of kijko.usage_attributes.';

create function kijko.consume_many(
    subjects uuid[], meter text, amount bigint default 1, idempotency_key text default null, attributes jsonb default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_consume_many';
comment on function kijko.consume_many(uuid[], text, bigint, text, jsonb) is 'Like kijko.try_consume_many, but fails with quota_exceeded when the use is refused.';

create function kijko.quota_status(subject uuid, meter text) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_quota_status';
comment on function kijko.quota_status(uuid, text) is 'The state of a meter, read from its counter: used (including reservations of running transactions and holds), limit, remaining, reset_at. allowed is false when nothing is left, also for a limit that flags or bills. Uses nothing, and works in READ ONLY transactions. Cheaper than kijko.usage(), which sums the tables.';

create function kijko.adjust_gauge(subject uuid, meter text, delta bigint) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_adjust_gauge';
comment on function kijko.adjust_gauge(uuid, text, bigint) is 'Changes a gauge (the current number of objects) in the caller''s transaction. An increase above the limit fails with quota_exceeded. A decrease counts for other transactions from the commit on.';

create function kijko.set_gauge(subject uuid, meter text, value bigint) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_set_gauge';
comment on function kijko.set_gauge(uuid, text, bigint) is 'Sets a gauge. Waits until no other transaction is changing it, then works like kijko.adjust_gauge.';

create function kijko.limit_headers(v kijko.verdict) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_limit_headers';
comment on function kijko.limit_headers(kijko.verdict) is 'Adds a verdict to the response headers: to RateLimit-Policy and RateLimit, beside what they contain; when it refuses, or with kijko.rate_limit_headers = all, as X-RateLimit-*, and Retry-After when it refuses.';

create function kijko.refuse_use(v kijko.verdict, amount bigint) returns void
    language plpgsql volatile parallel unsafe security definer -- called on behalf of callers who may only consume
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
comment on function kijko.refuse_use(kijko.verdict, bigint) is 'Fails with quota_exceeded, and the numbers and headers of a verdict.';
