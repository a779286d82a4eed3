-- Several instances of the realtime service share the sockets: what a client of one sends, and who is present there, goes to the
-- others through a table. Messages from SQL do not: each instance reads realtime.messages itself.
-- Unlogged: what is here lives for seconds, and sockets that a crash cuts off join again.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

create unlogged table if not exists realtime_service.instances (
    id integer primary key,
    seen_at timestamptz not null
);
comment on table realtime_service.instances is 'Running instances of the realtime service.';
comment on column realtime_service.instances.id is 'Number that the instance has drawn; the upper bits of its sockets'' numbers.';
comment on column realtime_service.instances.seen_at is 'Its last sign of life.';

create sequence if not exists realtime_service.relayed_seq as bigint;
create unlogged table if not exists realtime_service.relayed (
    seq bigint primary key default nextval('realtime_service.relayed_seq'),
    xid xid8 not null default pg_current_xact_id(),
    instance integer not null,
    frame text not null,
    sent_at timestamptz not null default clock_timestamp()
);
comment on table realtime_service.relayed is 'What instances pass to each other, kept for a minute: broadcasts of sockets, and changes of presence.';
comment on column realtime_service.relayed.seq is 'Order of sending.';
comment on column realtime_service.relayed.xid is 'Transaction that sent it.';
comment on column realtime_service.relayed.instance is 'The sender.';
comment on column realtime_service.relayed.frame is 'The message, as JSON.';
comment on column realtime_service.relayed.sent_at is 'When it was sent.';
create index if not exists relayed_xid_idx on realtime_service.relayed (xid);
create index if not exists relayed_sent_at_idx on realtime_service.relayed (sent_at);
alter table realtime_service.instances enable row level security;
alter table realtime_service.relayed enable row level security;
alter table realtime_service.instances owner to kijko_realtime_admin;
alter table realtime_service.relayed owner to kijko_realtime_admin;
alter sequence realtime_service.relayed_seq owner to kijko_realtime_admin;

create or replace function realtime_service.heartbeat(instance integer) returns integer[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into realtime_service.instances (id, seen_at) values (heartbeat.instance, now())
    on conflict (id) do update set seen_at = excluded.seen_at;
    delete from realtime_service.instances as i where i.seen_at < now() - interval '1 minute';
    delete from realtime_service.relayed as r where r.sent_at < now() - interval '1 minute';
    return array(
        select i.id from realtime_service.instances as i where i.id <> heartbeat.instance and i.seen_at > now() - interval '15 seconds' order by i.id
    );
end
$$;
comment on function realtime_service.heartbeat(integer) is 'An instance is alive. Returns the other ones that are. Definer: the service has no right on the tables.';

create or replace function realtime_service.say_goodbye(instance integer) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    delete from realtime_service.instances as i where i.id = say_goodbye.instance;
end;
comment on function realtime_service.say_goodbye(integer) is 'An instance ends. Definer: as realtime_service.heartbeat().';

create or replace function realtime_service.relay(instance integer, frames text[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into realtime_service.relayed (instance, frame)
    select relay.instance, f.frame from unnest(frames) with ordinality as f (frame, n) order by f.n;
    notify kijko_realtime_relay;
end
$$;
comment on function realtime_service.relay(integer, text[]) is 'Passes messages to the other instances. Definer: as realtime_service.heartbeat().';

create or replace function realtime_service.read_relayed(instance integer, snapshot text)
returns table (snapshot_now text, sender integer, frame text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select pg_current_snapshot()::text, m.instance, m.frame
    from (values (1)) as always (n)
    left join lateral (
        select r.*
        from (
            select * from realtime_service.relayed where xid >= pg_snapshot_xmax(snapshot::pg_snapshot)
            union all
            select * from realtime_service.relayed
            where xid = any (array(select pg_snapshot_xip(snapshot::pg_snapshot))) and xid < pg_snapshot_xmax(snapshot::pg_snapshot)
        ) as r
        where r.instance <> read_relayed.instance
        order by r.seq
    ) as m on true
$$;
comment on function realtime_service.read_relayed(integer, text) is 'What other instances have passed on since a snapshot, and the present snapshot in every row, as realtime_service.read_since(). Definer: as realtime_service.heartbeat().';
select format('alter function %s owner to kijko_realtime_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'realtime_service'::regnamespace and p.prosecdef
\gexec

revoke all on all functions in schema realtime_service from public;
grant execute on function
    realtime_service.heartbeat(integer),
    realtime_service.say_goodbye(integer),
    realtime_service.relay(integer, text[]),
    realtime_service.read_relayed(integer, text)
to kijko_realtime;
commit;
