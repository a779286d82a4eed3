comment on function kijko.http_request_problem(text, text, jsonb, text, jsonb) is 'What is wrong with a request (method, URL, headers, body, signing), in words; null when kijko.http_enqueue() would take it. Looks up no name.';
comment on function kijko.http_public_key(text) is 'The public key (whpk_...) of a private key for signatures by Ed25519 (whsk_...); null for any other text.';
comment on function kijko.http_secret_names(jsonb, jsonb) is 'Internal: the secrets that headers and a signature name.';
comment on function kijko.http_origin(text) is 'Internal: scheme, host and port of a URL; null for what is none.';
comment on function kijko.http_body_text(bytea) is 'Internal: a body as text, with U+FFFD for what is not UTF-8 or cannot be stored as text.';

create table kijko.http_secrets (
    org_id uuid not null default kijko.platform_org_id(),
    name text not null check (name ~ '^[A-Za-z0-9_.:-]+$' and pg_catalog.length(name) <= 100),
    sealed kijko.sealed not null,
    updated_at timestamptz not null default pg_catalog.now(),
    primary key (org_id, name)
);
comment on table kijko.http_secrets is 'Secrets that outgoing requests refer to by name, sealed. Only the outbox worker unseals them, while it sends.';
comment on column kijko.http_secrets.org_id is 'The organization whose requests may name it.';
comment on column kijko.http_secrets.name is 'What a header or a signature refers to.';
comment on column kijko.http_secrets.sealed is 'By kijko.seal(), in the context that kijko.http_secret_context() gives.';
comment on column kijko.http_secrets.updated_at is 'When it was last set.';
select pg_catalog.pg_extension_config_dump('kijko.http_secrets', '');

create function kijko.http_new_id() returns uuid
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_http_new_id';
comment on function kijko.http_new_id() is 'Internal: a UUID of version 7 with 62 unpredictable bits. Requests that are stored together are neighbours in the primary key: a random id would dirty a page of its own, which is written to the WAL in full after each checkpoint.';

create table kijko.http_requests (
    id uuid primary key default kijko.http_new_id(),
    seq bigint generated always as identity,
    org_id uuid not null default kijko.platform_org_id(),
    origin text not null,
    method text not null check (method in ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS')),
    url text not null,
    headers jsonb not null default '{}',
    body text check (pg_catalog.octet_length(body) <= 262144),
    signing jsonb,
    secret_names text[] not null default '{}',
    key text check (pg_catalog.octet_length(key) between 1 and 200),
    idempotency_key text check (pg_catalog.octet_length(idempotency_key) between 1 and 200),
    priority smallint not null default 0,
    timeout_ms integer not null default 30000 check (timeout_ms between 100 and 120000),
    max_attempts integer not null default 10 check (max_attempts between 1 and 100),
    not_after timestamptz,
    attempts integer not null default 0,
    state text not null default 'pending' check (state in ('waiting', 'pending', 'succeeded', 'dead', 'cancelled')),
    error_code text check (error_code in (
        'address_refused', 'attempts_exhausted', 'broken', 'expired', 'gone', 'secret_unavailable', 'status', 'timed_out', 'unreachable'
    )),
    run_at timestamptz not null default pg_catalog.clock_timestamp(),
    created_at timestamptz not null default pg_catalog.clock_timestamp(),
    ended_at timestamptz,
    check ((ended_at is null) = (state in ('waiting', 'pending')))
)
-- Requests that have ended leave entries in the index of pending ones, which every look for lanes passes. By the defaults, a
-- million queued requests would keep vacuum away until two hundred thousand have ended.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
comment on table kijko.http_requests is 'The outbox: requests to other people''s servers, stored by the transaction that wants them and sent by a worker after its commit, at least once.';
comment on column kijko.http_requests.id is 'The request, also for its receiver: every attempt carries it in the header Idempotency-Key, or as webhook-id when it is signed.';
comment on column kijko.http_requests.seq is 'The order in which requests with the same key were stored.';
comment on column kijko.http_requests.org_id is 'The organization on whose behalf it is sent: secrets, fairness and the share of connections are its own.';
comment on column kijko.http_requests.origin is 'Scheme, host and port of the URL: what concurrency is counted by.';
comment on column kijko.http_requests.method is 'The HTTP method.';
comment on column kijko.http_requests.url is 'Where it goes. Checked when stored and again when it connects.';
comment on column kijko.http_requests.headers is 'Names and values; a value is a text, or {"secret": name} for one of kijko.http_secrets.';
comment on column kijko.http_requests.body is 'What is sent, at most 256 KiB of UTF-8.';
comment on column kijko.http_requests.signing is 'Null, or {"id": text, "secrets": [name, ...]}: signed by Standard Webhooks, with the time of each attempt.';
comment on column kijko.http_requests.secret_names is 'The secrets that headers and signing name.';
comment on column kijko.http_requests.key is 'Requests of an organization with the same key are sent one after the other, in their order.';
comment on column kijko.http_requests.idempotency_key is 'Unique for an organization while the request is kept.';
comment on column kijko.http_requests.priority is 'Higher is sent first.';
comment on column kijko.http_requests.timeout_ms is 'How long one attempt may take.';
comment on column kijko.http_requests.max_attempts is 'After so many failed attempts the request is dead.';
comment on column kijko.http_requests.not_after is 'No attempt begins after this time; then the request is dead (expired). Null: never.';
comment on column kijko.http_requests.attempts is 'Attempts that have ended.';
comment on column kijko.http_requests.state is 'waiting behind an earlier one of its key, pending (also while it is being sent and between attempts), succeeded (an answer of 2xx), dead, cancelled.';
comment on column kijko.http_requests.error_code is 'Why the last attempt failed, or why the request is dead; null after success.';
comment on column kijko.http_requests.run_at is 'When the next attempt is due, by the clock of the server.';
comment on column kijko.http_requests.created_at is 'When it was stored.';
comment on column kijko.http_requests.ended_at is 'When it succeeded, died or was cancelled.';
-- Finds the lanes (origin, organization, priority) by a loose scan, and the due requests of each in their order.
create index http_requests_lane on kijko.http_requests (origin, org_id, priority, run_at, seq) where state = 'pending';
comment on index kijko.http_requests_lane is 'Due requests of each lane.';
create index http_requests_key on kijko.http_requests (org_id, key, seq) where key is not null and state in ('waiting', 'pending');
comment on index kijko.http_requests_key is 'The open requests of a key, in their order.';
create unique index http_requests_idempotency on kijko.http_requests (org_id, idempotency_key) where idempotency_key is not null;
comment on index kijko.http_requests_idempotency is 'One request for each key.';
create index http_requests_ended on kijko.http_requests (ended_at) where ended_at is not null;
comment on index kijko.http_requests_ended is 'What retention deletes.';
create index http_requests_dead on kijko.http_requests (org_id, ended_at) where state = 'dead';
comment on index kijko.http_requests_dead is 'Dead letters of an organization.';
select pg_catalog.pg_extension_config_dump('kijko.http_requests', '');
select pg_catalog.pg_extension_config_dump('kijko.http_requests_seq_seq', '');

create table kijko.http_attempts (
    request_id uuid not null references kijko.http_requests on delete cascade,
    attempt integer not null,
    started_at timestamptz not null,
    duration_ms integer not null,
    status integer,
    headers jsonb,
    body bytea,
    truncated boolean not null default false,
    error_code text,
    error text,
    primary key (request_id, attempt)
);
create index http_attempts_started on kijko.http_attempts (started_at);
comment on index kijko.http_attempts_started is 'The latest attempts, for metrics.';
comment on table kijko.http_attempts is 'What became of each attempt to send a request.';
comment on column kijko.http_attempts.request_id is 'The request.';
comment on column kijko.http_attempts.attempt is 'From 1.';
comment on column kijko.http_attempts.started_at is 'When it began.';
comment on column kijko.http_attempts.duration_ms is 'Until the answer''s end, or the failure.';
comment on column kijko.http_attempts.status is 'The answer''s status; null without an answer.';
comment on column kijko.http_attempts.headers is 'At most 50 of the answer''s headers, without cookies, each cut at 1 KiB.';
comment on column kijko.http_attempts.body is 'The first 64 KiB of the answer''s body.';
comment on column kijko.http_attempts.truncated is 'Whether the body was longer.';
comment on column kijko.http_attempts.error_code is 'As in kijko.http_requests; null after success.';
comment on column kijko.http_attempts.error is 'The failure in words, without the URL.';
select pg_catalog.pg_extension_config_dump('kijko.http_attempts', '');

create function kijko.http_wake() returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_http_wake';
comment on function kijko.http_wake() is 'Internal: has the outbox worker of this database look for lanes when the transaction has committed.';

create function kijko.http_stored(id uuid) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_http_stored';
comment on function kijko.http_stored(uuid) is 'Internal: tells the outbox worker of this database of a pending request when the transaction has committed.';

create function kijko.http_secret_context(org_id uuid, name text) returns text
    language sql immutable parallel safe
return 'kijko.http_secrets/' || org_id::text || '/' || name;
comment on function kijko.http_secret_context(uuid, text) is 'Internal: where a sealed secret belongs.';

create function kijko.set_http_secret(name text, secret text, org_id uuid default kijko.platform_org_id()) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null or name !~ '^[A-Za-z0-9_.:-]+$' or pg_catalog.length(name) > 100 or secret is null or org_id is null then
        perform kijko.fail('invalid_input', 'a name has 1 to 100 letters, digits and _.:-; the secret must not be null');
    end if;
    insert into kijko.http_secrets as s (org_id, name, sealed)
    values (set_http_secret.org_id, set_http_secret.name, kijko.seal(secret, kijko.http_secret_context(set_http_secret.org_id, set_http_secret.name)))
    on conflict on constraint http_secrets_pkey do update set sealed = excluded.sealed, updated_at = pg_catalog.now();
end
$$;
comment on function kijko.set_http_secret(text, text, uuid) is 'Stores a secret that outgoing requests of an organization refer to as {"secret": name}, sealed. An attempt uses the secret of its time.';

create function kijko.drop_http_secret(name text, org_id uuid default kijko.platform_org_id()) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from kijko.http_secrets as s where s.org_id = drop_http_secret.org_id and s.name = drop_http_secret.name;
    return found;
end
$$;
comment on function kijko.drop_http_secret(text, uuid) is 'Deletes a secret; false when there is none. Attempts that need it fail with secret_unavailable and are repeated.';

create function kijko.copy_http_secret(name text, to_name text, org_id uuid default kijko.platform_org_id()) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
declare
    secret text;
begin
    select kijko.unseal(s.sealed, kijko.http_secret_context(s.org_id, s.name)) into secret
    from kijko.http_secrets as s where s.org_id = copy_http_secret.org_id and s.name = copy_http_secret.name;
    if not found then
        return false;
    end if;
    perform kijko.set_http_secret(to_name, secret, copy_http_secret.org_id);
    return true;
end
$$;
comment on function kijko.copy_http_secret(text, text, uuid) is 'Gives a secret a second name, whose former secret it replaces; false when there is none. Shows nothing of it: for a rotation in which both names sign.';

-- The state of a new request of a key. The newest open one is locked, so that it does not end before this transaction does: its
-- end has to see the new request. The worker passes over locked requests and records their end later.
create function kijko.http_state_behind(org_id uuid, key text) returns text
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    loop
        perform from kijko.http_requests as r
        where r.org_id = http_state_behind.org_id and r.key = http_state_behind.key and r.state in ('waiting', 'pending')
        order by r.seq desc
        limit 1
        for share;
        if found then
            return 'waiting';
        end if;
        -- It may have ended while its lock was awaited, and another be open.
        if not exists (
            select from kijko.http_requests as r
            where r.org_id = http_state_behind.org_id and r.key = http_state_behind.key and r.state in ('waiting', 'pending')
        ) then
            return 'pending';
        end if;
    end loop;
end
$$;
comment on function kijko.http_state_behind(uuid, text) is 'Internal: the state of a new request of a key: waiting while another one is open.';

create function kijko.http_enqueue(
    method text,
    url text,
    headers jsonb default '{}',
    body text default null,
    key text default null,
    timeout interval default '30 seconds',
    max_attempts integer default 10,
    idempotency_key text default null,
    priority integer default 0,
    not_before timestamptz default null,
    org_id uuid default kijko.platform_org_id(),
    signing jsonb default null,
    not_after timestamptz default null
) returns uuid
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    problem text := kijko.http_request_problem(method, url, headers, body, signing);
    names text[] := kijko.http_secret_names(headers, signing);
    missing text;
    made uuid;
    earlier kijko.http_requests;
begin
    if problem is null then
        problem := case
            when org_id is null then 'the organization must not be null'
            when timeout is null or timeout < interval '0.1 seconds' or timeout > interval '2 minutes' then 'the timeout must be 0.1 to 120 seconds'
            when max_attempts is null or max_attempts not between 1 and 100 then 'there must be 1 to 100 attempts'
            when priority is null or priority not between -100 and 100 then 'the priority must be -100 to 100'
            when pg_catalog.octet_length(key) not between 1 and 200 then 'the key must have 1 to 200 bytes'
            when pg_catalog.octet_length(idempotency_key) not between 1 and 200 then 'the idempotency key must have 1 to 200 bytes'
            when not_before in ('infinity', '-infinity') or not_after in ('infinity', '-infinity') then 'the times must be finite'
        end;
    end if;
    if problem is not null then
        perform kijko.fail('invalid_input', problem);
    end if;
    select n into missing from pg_catalog.unnest(names) as n
    where not exists (select from kijko.http_secrets as s where s.org_id = http_enqueue.org_id and s.name = n)
    limit 1;
    if found then
        perform kijko.fail('invalid_input', pg_catalog.format('there is no secret %s', pg_catalog.to_json(missing)));
    end if;
    insert into kijko.http_requests as r (
        org_id, origin, method, url, headers, body, signing, secret_names, key, idempotency_key, priority, timeout_ms, max_attempts, not_after,
        state, run_at
    ) values (
        http_enqueue.org_id, kijko.http_origin(http_enqueue.url), http_enqueue.method, http_enqueue.url, http_enqueue.headers, http_enqueue.body,
        http_enqueue.signing, names, http_enqueue.key, http_enqueue.idempotency_key, http_enqueue.priority,
        (extract(epoch from http_enqueue.timeout) * 1000)::integer, http_enqueue.max_attempts, http_enqueue.not_after,
        case when http_enqueue.key is null then 'pending' else kijko.http_state_behind(http_enqueue.org_id, http_enqueue.key) end,
        coalesce(http_enqueue.not_before, pg_catalog.clock_timestamp())
    )
    on conflict (org_id, idempotency_key) where idempotency_key is not null do nothing
    returning r.id into made;
    if made is not null then
        perform kijko.http_stored(made);
        return made;
    end if;
    select r.* into earlier from kijko.http_requests as r
    where r.org_id = http_enqueue.org_id and r.idempotency_key = http_enqueue.idempotency_key;
    if not found then
        -- Only under a snapshot that is older than the other request.
        raise serialization_failure using message = 'the idempotency key was used by a transaction that this one cannot see';
    end if;
    if (earlier.method, earlier.url, earlier.body) is distinct from (http_enqueue.method, http_enqueue.url, http_enqueue.body) then
        perform kijko.fail('idempotency_conflict', 'another request has this idempotency key');
    end if;
    return earlier.id;
end
$$;
comment on function kijko.http_enqueue(text, text, jsonb, text, text, interval, integer, text, integer, timestamptz, uuid, jsonb, timestamptz) is 'Stores a request that the outbox worker sends after this transaction''s commit, and returns its id. Sent at least once: every attempt carries the id (Idempotency-Key, or webhook-id when signed). Failed attempts (no answer, or a status other than 2xx) are repeated after 5 s, 5 min, 30 min, 2, 5, 10, 14, 20 and 24 hours, each 20 % more or less, or later if Retry-After says so; 410 and a refused address end it, and so does not_after: no attempt begins later, also after a crash. Requests with the same key go one after the other. headers: {"name": "value"} or {"name": {"secret": "name"}}. Never for a tenant to call. Fails with invalid_input, idempotency_conflict.';

create function kijko.http_cancel(id uuid) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    update kijko.http_requests as r set state = 'cancelled', ended_at = pg_catalog.clock_timestamp()
    where r.id = http_cancel.id and r.state in ('waiting', 'pending');
    if found then
        perform kijko.http_wake();
    end if;
    return found;
end
$$;
comment on function kijko.http_cancel(uuid) is 'Ends a request that has not ended; false when there is none. An attempt under way is not broken off.';

create function kijko.http_replay(id uuid) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    update kijko.http_requests as r
    set state = 'pending', ended_at = null, error_code = null, run_at = pg_catalog.clock_timestamp(),
        max_attempts = least(r.attempts + 10, 100)
    where r.id = http_replay.id and r.state in ('succeeded', 'dead', 'cancelled') and r.attempts < 100;
    if found then
        perform kijko.http_stored(id);
    end if;
    return found;
end
$$;
comment on function kijko.http_replay(uuid) is 'Sends a request again that has ended, with the same id and up to ten more attempts (100 in all). It does not wait for others of its key. False when there is none.';

create function kijko.http_replay_dead(
    org_id uuid default null,
    origin text default null,
    since timestamptz default '-infinity',
    until timestamptz default 'infinity',
    max_requests integer default 1000
) returns bigint
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
declare
    replayed bigint;
begin
    with chosen as materialized (
        select r.id from kijko.http_requests as r
        where r.state = 'dead' and r.attempts < 100
            and (http_replay_dead.org_id is null or r.org_id = http_replay_dead.org_id)
            and (http_replay_dead.origin is null or r.origin = http_replay_dead.origin)
            and r.ended_at >= since and r.ended_at < until
        order by r.ended_at
        limit least(max_requests, 10000)
        for update skip locked
    )
    update kijko.http_requests as r
    set state = 'pending', ended_at = null, error_code = null, run_at = pg_catalog.clock_timestamp(),
        max_attempts = least(r.attempts + 10, 100)
    from chosen as c where r.id = c.id;
    get diagnostics replayed = row_count;
    perform kijko.http_wake();
    return replayed;
end
$$;
comment on function kijko.http_replay_dead(uuid, text, timestamptz, timestamptz, integer) is 'Sends dead requests again, the oldest first, at most 10,000 in a call; returns how many. Filters by organization, origin and when they died; null means all.';

create function kijko.http_response(id uuid) returns table (
    state text, attempts integer, status integer, headers jsonb, body text, truncated boolean, error_code text, error text, ended_at timestamptz
)
    language plpgsql stable parallel safe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select r.state, r.attempts, a.status, a.headers, kijko.http_body_text(a.body), a.truncated, r.error_code, a.error, r.ended_at
        from kijko.http_requests as r
        left join kijko.http_attempts as a on a.request_id = r.id and a.attempt = r.attempts
        where r.id = http_response.id;
end
$$;
comment on function kijko.http_response(uuid) is 'The state of a request and its last attempt''s answer; no row for an unknown id. A body that is not UTF-8 has U+FFFD in places. Kept for kijko.http_retention after the request has ended.';

create function kijko.http_queue() returns table (
    origin text, org_id uuid, pending bigint, due bigint, oldest_due_at timestamptz
)
    language sql stable parallel safe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
    select r.origin, r.org_id, count(*), count(*) filter (where r.run_at <= pg_catalog.clock_timestamp()),
        min(r.run_at) filter (where r.run_at <= pg_catalog.clock_timestamp())
    from kijko.http_requests as r
    where r.state = 'pending'
    group by r.origin, r.org_id
$$;
comment on function kijko.http_queue() is 'What is to be sent, by origin and organization: all pending requests, those due now, and since when the oldest of these is due. Counts every one: for an operator, not for a loop.';
