-- What the realtime service calls: who a token names, what policies let them do, and what was sent since it last looked.
\set ON_ERROR_STOP on
\getenv realtime_password KIJKO_REALTIME_PASSWORD

set client_min_messages = warning;

-- Definer functions have an owner of their own: postgres is a member of supabase_realtime_admin, and could replace its functions.
select format('create role %I %s', name, options)
from (values
    ('kijko_realtime',       'login noinherit'),
    ('kijko_realtime_admin', 'nologin inherit')
) as wanted (name, options)
where not exists (select from pg_catalog.pg_roles where rolname = wanted.name)
\gexec
grant supabase_realtime_admin to kijko_realtime_admin;
alter role kijko_realtime password :'realtime_password';
alter role kijko_realtime set statement_timeout = '10s';
alter role kijko_realtime set jit = off; -- as in 20_extension.sql
-- Tokens and keys are parameters of its statements.
alter role kijko_realtime set log_parameter_max_length = 0;
alter role kijko_realtime set log_parameter_max_length_on_error = 0;
alter role kijko_realtime set auto_explain.log_verbose = off;
-- It evaluates policies as the caller, and can become no more than a caller.
grant anon, authenticated to kijko_realtime;
select format('grant connect on database %I to kijko_realtime', current_database())
\gexec
grant usage on schema kijko, realtime to kijko_realtime;
grant usage on schema kijko to kijko_realtime_admin;
grant execute on function kijko.verify_jwt(text), kijko.access_token_fault(jsonb), kijko.assume_api_key(uuid), kijko.api_key_valid_until(text)
to kijko_realtime_admin;

-- postgres owns realtime.messages and could make a trigger there, which runs as the owner of the definer functions below. So that
-- role owns those functions and nothing else here: it cannot make or replace one, and what runs as the service stays as it is.
begin;
create schema if not exists realtime_service;
grant usage on schema realtime_service to kijko_realtime, kijko_realtime_admin;

create or replace function realtime_service.verify(token text) returns jsonb
language sql volatile security definer set search_path = pg_catalog, pg_temp
return kijko.verify_jwt(token);
comment on function realtime_service.verify(text) is 'The claims of a token that this database signed and that is valid now; null for anything else. Definer: only a few roles verify tokens.';

create or replace function realtime_service.token_fault(claims jsonb) returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
return kijko.access_token_fault(claims);
comment on function realtime_service.token_fault(jsonb) is 'The first claim that an access token lacks. Definer: as realtime_service.verify().';

create or replace function realtime_service.assume_api_key(id uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
return kijko.assume_api_key(id);
comment on function realtime_service.assume_api_key(uuid) is 'Makes an API key the caller until the transaction ends. False for one that is not valid now. Definer: the service has identified it before.';

create or replace function realtime_service.api_key_expires(secret text) returns numeric
language sql volatile security definer set search_path = pg_catalog, pg_temp
-- By the clock of the server, as the service reads it.
return extract(epoch from clock_timestamp() + (kijko.api_key_valid_until(secret) - kijko.now()));
comment on function realtime_service.api_key_expires(text) is 'When the secret of an API key ends, in seconds since 1970; null if it does not. Definer: only a few roles look keys up.';

create or replace function realtime_service.is_issuer_token(token text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return token ~ '^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*$' and not starts_with(token, 'eyJraWprbyI6MS');
comment on function realtime_service.is_issuer_token(text) is 'Whether a token is none of ours: the headers of ours begin with {"kijko":1. As the proxy''s configuration tells them apart; a socket brings its tokens in messages, which the proxy does not read.';

-- Invoker, as realtime_service.identify(). Policies and whatever else runs later do not see the token.
create or replace function realtime_service.assume_issuer_member(token text, headers jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform set_config('request.jwt.claims', '', true), set_config('request.method', 'GET', true), set_config('request.path', '/realtime', true),
        set_config('request.headers', (headers || jsonb_build_object('x-kijko-token', token))::text, true);
    if to_regprocedure('private.issuers_assume_member()') is null or kijko.authenticate_issuer_token() is not true then
        perform kijko.fail('not_identified', 'tokens of other issuers are not accepted here');
    end if;
    execute 'select private.issuers_assume_member()';
    perform set_config('request.headers', (headers - 'x-org-id')::text, true);
end
$$;
comment on function realtime_service.assume_issuer_member(text, jsonb) is 'Makes the member whom the token of an outside issuer names the caller until the transaction ends, as authenticated and never more. The header x-org-id chooses among the organizations that have enrolled the issuer.';

-- Invoker, as realtime_service.authorize(): the organizations are read as the caller, and everything is undone.
create or replace function realtime_service.identify(token text, headers jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    claims jsonb;
    fault text;
    caller kijko.caller;
    org_ids uuid[] := '{}';
    network text;
    expires numeric;
    problem text;
    by_issuer constant boolean := realtime_service.is_issuer_token(token);
begin
    begin
        perform set_config('request.method', 'GET', true), set_config('request.path', '/realtime', true),
            set_config('request.headers', (headers - 'x-org-id')::text, true);
        network := kijko.client_network();
        if starts_with(token, 'kjk_') then
            perform set_config('request.jwt.claims', '', true),
                set_config('request.headers', (headers - 'x-org-id' || jsonb_build_object('x-api-key', token))::text, true);
            perform kijko.authenticate_api_key();
            claims := '{"role": "authenticated"}';
            expires := realtime_service.api_key_expires(token);
        elsif by_issuer then
            perform realtime_service.assume_issuer_member(token, headers);
            claims := kijko.claims();
        else
            claims := realtime_service.verify(token);
            fault := realtime_service.token_fault(claims);
            if claims is null then
                problem := 'InvalidJWTToken: the token is forged, malformed or expired';
            elsif fault is not null then
                problem := format('InvalidJWTToken: claim %s is missing or wrong', fault);
            end if;
            perform set_config('request.jwt.claims', coalesce(claims::text, ''), true);
        end if;
        caller := kijko.actor();
        if problem is null and caller.kind = 'none' then
            problem := 'SessionEnded: the session of this token has ended';
        end if;
        if problem is null and (caller.user_id is not null or caller.api_key_id is not null) and to_regprocedure('public.org_ids()') is not null then
            perform set_config('role', 'authenticated', true);
            org_ids := array(select public.org_ids());
        end if;
        raise exception using errcode = 'KJRTB';
    exception
        when sqlstate 'KJRTB' then
            null;
        -- A refusal of kijko.fail().
        when sqlstate 'PGRST' then
            problem := case
                when not by_issuer then 'InvalidApiKey'
                when sqlerrm::jsonb ->> 'code' = 'not_identified' then 'InvalidJWTToken'
                else sqlerrm::jsonb ->> 'code'
            end || ': ' || coalesce(sqlerrm::jsonb ->> 'details', sqlerrm::jsonb ->> 'message');
        when others then
            problem := 'NotIdentified: ' || sqlerrm;
    end;
    if problem is not null then
        return jsonb_build_object('problem', problem);
    end if;
    return jsonb_build_object(
        'role', claims ->> 'role', 'claims', claims, 'expires', coalesce(claims -> 'exp', to_jsonb(expires)), 'session_id', claims -> 'session_id',
        'issuer_id', case when by_issuer then claims -> 'issuer_id' end,
        'user_id', caller.user_id, 'api_key_id', caller.api_key_id, 'org_ids', org_ids, 'network', network
    );
end
$$;
comment on function realtime_service.identify(text, jsonb) is 'Whom an access token, a token of an outside issuer or an API key names: {role, claims, expires, session_id, issuer_id, user_id, api_key_id, org_ids, network}, or {problem} when it is not valid or its session has ended. issuer_id is of outside issuers only.';

create or replace function realtime_service.insert_probes(topic text, ids uuid[], extensions text[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    insert into realtime.messages (id, topic, extension)
    select p.id, insert_probes.topic, p.extension from unnest(ids, extensions) as p (id, extension);
end;
comment on function realtime_service.insert_probes(text, uuid[], text[]) is 'Rows that a caller sees if they may join. Rolled back by realtime_service.authorize(). Definer: the owner of the table passes its policies.';

-- Invoker: only so may it become the caller's role. All that it does is undone, by the exception at its end.
create or replace function realtime_service.authorize(
    role_name text, claims jsonb, api_key_id uuid, issuer_token text, headers jsonb, topic text
) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    extensions constant text[] := array['broadcast', 'presence'];
    ids constant uuid[] := array[gen_random_uuid(), gen_random_uuid()];
    readable text[];
    writable text[] := '{}';
    problem text;
    name text;
begin
    begin
        perform realtime_service.insert_probes(authorize.topic, ids, extensions);
        perform set_config('realtime.topic', authorize.topic, true),
            set_config('request.jwt.claims', case when api_key_id is null then claims::text else '' end, true),
            set_config('request.jwt.claim.sub', coalesce(claims ->> 'sub', ''), true),
            set_config('request.jwt.claim.role', coalesce(claims ->> 'role', ''), true),
            set_config('request.headers', (headers - 'x-org-id')::text, true);
        if api_key_id is not null and not realtime_service.assume_api_key(api_key_id) then
            raise exception using errcode = 'KJRTE';
        end if;
        -- Claims of others count only while their token does, so it is asked each time.
        if issuer_token is not null then
            begin
                perform realtime_service.assume_issuer_member(issuer_token, headers);
            exception when sqlstate 'PGRST' then
                raise exception using errcode = 'KJRTE';
            end;
        end if;
        if (kijko.actor()).kind = 'none' then
            raise exception using errcode = 'KJRTE';
        end if;
        perform set_config('role', case when issuer_token is null then role_name else 'authenticated' end, true);
        readable := array(select m.extension from realtime.messages as m where m.id = any (ids) and m.topic = authorize.topic);
        foreach name in array extensions loop
            begin
                insert into realtime.messages (topic, extension) values (authorize.topic, name);
                writable := writable || name;
            exception when insufficient_privilege or read_only_sql_transaction then
                null;
            end;
        end loop;
        raise exception using errcode = 'KJRTB';
    exception
        when sqlstate 'KJRTB' then
            null;
        when sqlstate 'KJRTE' then
            return jsonb_build_object('ended', true);
        when others then
            problem := sqlerrm;
    end;
    return jsonb_build_object('read', to_jsonb(coalesce(readable, '{}')), 'write', to_jsonb(writable), 'problem', problem);
end
$$;
comment on function realtime_service.authorize(text, jsonb, uuid, text, jsonb, text) is 'What a caller may do on the private channel of a topic, by the policies on realtime.messages: {read, write} (lists of broadcast and presence), and the problem of a policy that failed; {ended} when the session, the key or the token of an issuer is no longer valid. Evaluated as the caller, and rolled back.';

-- A transaction that began early and committed late is in progress in every snapshot before its commit, so it is not missed,
-- and a long one holds nobody back. Two scans of the index: what began after the snapshot, and what was in progress in it.
create or replace function realtime_service.read_since(snapshot text, until text, after_seq bigint, max_messages integer, max_bytes bigint)
returns table (snapshot_now text, seq bigint, id uuid, topic text, event text, payload text, binary_payload bytea, private boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    bytes bigint := 0;
begin
    snapshot_now := coalesce(until, pg_current_snapshot()::text);
    -- A row at a time: nobody bounds what SQL sends.
    for seq, id, topic, event, payload, binary_payload, private in
        select m.seq, m.id, m.topic, m.event, m.payload::text, m.binary_payload, coalesce(m.private, false)
        from (
            select * from realtime.messages where xid >= pg_snapshot_xmax(snapshot::pg_snapshot)
            union all
            select * from realtime.messages
            where xid = any (array(select pg_snapshot_xip(snapshot::pg_snapshot))) and xid < pg_snapshot_xmax(snapshot::pg_snapshot)
        ) as m
        where m.extension = 'broadcast' and m.seq > after_seq and (until is null or pg_visible_in_snapshot(m.xid, until::pg_snapshot))
        order by m.seq
        limit max_messages
    loop
        return next;
        bytes := bytes + coalesce(octet_length(payload), 0) + coalesce(octet_length(binary_payload), 0);
        exit when bytes >= max_bytes;
    end loop;
    if not found then
        return next;
    end if;
end
$$;
comment on function realtime_service.read_since(text, text, bigint, integer, bigint) is 'Messages that were committed after a snapshot, in the order in which they were sent, and in every row the snapshot up to which they were read: the present one, or until, for a further page. One row without a message when there is none. A page ends with the message with which its payloads reach max_bytes. A null snapshot reads nothing. Definer: the service reads all topics.';

create or replace function realtime_service.replay(topic text, since timestamptz, max_messages integer, max_bytes bigint)
returns table (seq bigint, id uuid, event text, payload text, binary_payload bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    bytes bigint := 0;
begin
    -- A row at a time: nobody bounds what SQL sends.
    for seq, id, event, payload, binary_payload in
        select m.seq, m.id, m.event, m.payload::text, m.binary_payload
        from realtime.messages as m
        where m.topic = replay.topic and m.private and m.extension = 'broadcast' and m.inserted_at >= replay.since at time zone 'UTC'
        order by m.inserted_at desc, m.seq desc
        limit max_messages
    loop
        bytes := bytes + coalesce(octet_length(payload), 0) + coalesce(octet_length(binary_payload), 0) + coalesce(octet_length(event), 0);
        exit when bytes > max_bytes;
        return next;
    end loop;
end
$$;
comment on function realtime_service.replay(text, timestamptz, integer, bigint) is 'The latest messages of a private channel since a time, so many messages and bytes at most; seq has their order. Definer: called after the policies let the caller read.';

create or replace function realtime_service.notify() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    notify kijko_realtime;
    return null;
end
$$;
comment on function realtime_service.notify() is 'Trigger: wakes the services at commit. Postgres sends one notification of a transaction. Definer: senders need no right on it.';

-- A partition is made beside the table and attached, which lets senders go on. What needs a stronger lock (the default
-- partition; a drop) gives up soon: the next round tries again, and there is time, because partitions are made days ahead.
create or replace function realtime_service.maintain() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '300ms' set timezone = 'UTC' as $$
declare
    today constant date := now()::date;
    day date;
    partition text;
    failures integer := 0;
begin
    for day in select d::date from generate_series(today, today + 3, interval '1 day') as d loop
        partition := 'messages_' || to_char(day, 'YYYY_MM_DD');
        continue when to_regclass('realtime.' || partition) is not null
            or exists (select from realtime.messages_default as m where m.inserted_at >= day and m.inserted_at < day + 1);
        begin
            execute format('create table realtime.%I (like realtime.messages including defaults including constraints)', partition);
            execute format('alter table realtime.%I enable row level security', partition);
            execute format('alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)', partition, day, day + 1);
        exception when lock_not_available then
            failures := failures + 1;
        end;
    end loop;
    for partition in
        select c.relname from pg_class as c
        where c.relnamespace = 'realtime'::regnamespace and c.relkind = 'r' and c.relname ~ '^messages_\d{4}_\d\d_\d\d$'
          and to_date(right(c.relname, 10), 'YYYY_MM_DD') < today - 3
    loop
        begin
            execute format('drop table realtime.%I', partition);
        exception when lock_not_available then
            failures := failures + 1;
        end;
    end loop;
    delete from realtime.messages_default as m where m.inserted_at < today - 3;
    return failures;
end
$$;
comment on function realtime_service.maintain() is 'Makes the partitions of today and the next three days, and drops those that are older than three. Messages of a missing day lie in the default partition. How many could not be made or dropped, because somebody used the table. Definer: it owns the table.';

drop trigger if exists messages_notify on realtime.messages;
create trigger messages_notify after insert on realtime.messages
    for each statement execute function realtime_service.notify();

select format('alter function %s owner to kijko_realtime_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'realtime_service'::regnamespace and p.prosecdef
\gexec
-- As that owner, who then owns the partitions.
select realtime_service.maintain();
revoke all on all functions in schema realtime_service from public;
grant execute on function
    realtime_service.verify(text),
    realtime_service.token_fault(jsonb),
    realtime_service.assume_api_key(uuid),
    realtime_service.api_key_expires(text),
    realtime_service.is_issuer_token(text),
    realtime_service.assume_issuer_member(text, jsonb),
    realtime_service.identify(text, jsonb),
    realtime_service.insert_probes(text, uuid[], text[]),
    realtime_service.authorize(text, jsonb, uuid, text, jsonb, text),
    realtime_service.read_since(text, text, bigint, integer, bigint),
    realtime_service.replay(text, timestamptz, integer, bigint),
    realtime_service.maintain()
to kijko_realtime;
commit;
