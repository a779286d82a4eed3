-- Supabase Realtime's schema with its own names, so that migrations that use it run here and on Supabase alike. Plain clusters
-- only: Supabase brings it. Facts: the migrations of supabase/realtime.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;

select 'create role supabase_realtime_admin nologin noinherit'
where not exists (select from pg_catalog.pg_roles where rolname = 'supabase_realtime_admin')
\gexec

create schema if not exists realtime authorization supabase_realtime_admin;
grant usage on schema realtime to :"owner", anon, authenticated, service_role;
-- Migrations make policies on realtime.messages, as on Supabase, where an extension of the server allows it.
grant supabase_realtime_admin to :"owner";

-- Not in the temporary schema, and not replaced by objects of the same name.
set role supabase_realtime_admin;

create sequence if not exists realtime.messages_seq as bigint;

create table if not exists realtime.messages (
    id uuid not null default gen_random_uuid(),
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp without time zone not null default now(),
    inserted_at timestamp without time zone not null default now(),
    binary_payload bytea,
    -- The reader finds what was committed since it last looked by the transaction that wrote it.
    xid xid8 not null default pg_current_xact_id(),
    -- And delivers them in the order in which they were sent, also those of one transaction.
    seq bigint not null default nextval('realtime.messages_seq'),
    primary key (id, inserted_at),
    check (payload is null or binary_payload is null)
) partition by range (inserted_at);
comment on table realtime.messages is 'Messages sent from SQL, kept for three days; and what policies are written on: their SELECT decides who joins a private channel, their INSERT who sends.';
comment on column realtime.messages.id is 'Identity of the message; clients see it as meta.id.';
comment on column realtime.messages.topic is 'The channel, without the prefix realtime:.';
comment on column realtime.messages.extension is 'broadcast or presence.';
comment on column realtime.messages.payload is 'What clients get.';
comment on column realtime.messages.event is 'The event that clients listen to.';
comment on column realtime.messages.private is 'Whether it goes to the private channel of the topic, or to the public one.';
comment on column realtime.messages.updated_at is 'When the row was written.';
comment on column realtime.messages.inserted_at is 'When the message was sent, in UTC.';
comment on column realtime.messages.binary_payload is 'What clients get, as bytes.';
comment on column realtime.messages.xid is 'Transaction that sent it. Not on Supabase, which reads the write-ahead log.';
comment on column realtime.messages.seq is 'Order of delivery. Not on Supabase.';

-- No message is lost for want of a day's partition.
create table if not exists realtime.messages_default partition of realtime.messages default;
alter table realtime.messages enable row level security;
alter table realtime.messages_default enable row level security;
create index if not exists messages_xid_idx on realtime.messages (xid);
create index if not exists messages_replay_idx on realtime.messages (topic, inserted_at desc) where private and extension = 'broadcast';
-- Senders do not choose when and in which order a message counts as sent.
grant select on realtime.messages to :"owner", anon, authenticated, service_role;
grant insert (id, topic, extension, payload, event, private, binary_payload), update (topic, extension, payload, event, private, binary_payload)
on realtime.messages to anon, authenticated, service_role;
grant insert, update on realtime.messages to :"owner";
grant usage on sequence realtime.messages_seq to :"owner", anon, authenticated, service_role;

create or replace function realtime.topic() returns text
language sql stable set search_path = pg_catalog, pg_temp
return nullif(current_setting('realtime.topic', true), '');
comment on function realtime.topic() is 'The topic of the channel whose policies are being evaluated.';

-- Invoker, as on Supabase: in a trigger that fires as a user, the user needs an INSERT policy on realtime.messages.
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    message constant uuid := gen_random_uuid();
begin
    perform set_config('realtime.topic', send.topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
    values (
        message,
        case when jsonb_typeof(send.payload) = 'object' and not send.payload ? 'id' then send.payload || jsonb_build_object('id', message) else send.payload end,
        send.event, send.topic, send.private, 'broadcast'
    );
exception when others then
    -- The caller's transaction does not fail for a message.
    raise warning 'realtime.send: %', sqlerrm
        using hint = case when sqlstate = '42501' then 'The sender needs an INSERT policy on realtime.messages; or call it in a SECURITY DEFINER function.' else 'Nothing was sent.' end;
end
$$;
comment on function realtime.send(jsonb, text, text, boolean) is 'Sends a message to everybody who has joined the topic when the transaction commits. An error becomes a warning.';

create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform set_config('realtime.topic', send_binary.topic, true);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
    values (send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast');
exception when others then
    raise warning 'realtime.send_binary: %', sqlerrm;
end
$$;
comment on function realtime.send_binary(bytea, text, text, boolean) is 'realtime.send() for bytes, which clients of serializer 2.0.0 get.';

create or replace function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record, level text default 'ROW'
) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    change jsonb := jsonb_build_object('operation', operation, 'table', table_name, 'schema', table_schema, 'record', null, 'old_record', null);
begin
    if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
    end if;
    if operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Unexpected operation type: %', operation;
    end if;
    if operation <> 'DELETE' then
        change := change || jsonb_build_object('record', to_jsonb(new));
    end if;
    if operation <> 'INSERT' then
        change := change || jsonb_build_object('old_record', to_jsonb(old));
    end if;
    perform realtime.send(change, event_name, topic_name);
exception when others then
    raise exception 'Failed to process the row: %', sqlerrm;
end
$$;
comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is 'Sends a row''s change to the private channel of a topic. For triggers: realtime.broadcast_changes(''room:'' || new.room_id, tg_op, tg_op, tg_table_name, tg_table_schema, new, old).';

reset role;
revoke all on function
    realtime.topic(), realtime.send(jsonb, text, text, boolean), realtime.send_binary(bytea, text, text, boolean),
    realtime.broadcast_changes(text, text, text, text, text, record, record, text)
from public;
grant execute on function
    realtime.topic(), realtime.send(jsonb, text, text, boolean), realtime.send_binary(bytea, text, text, boolean),
    realtime.broadcast_changes(text, text, text, text, text, record, record, text)
to :"owner", anon, authenticated, service_role;
