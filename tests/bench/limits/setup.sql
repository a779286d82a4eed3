-- What the variants need. The plain table is the ledger's partition to the letter: same columns, same index.
select kijko.make_ledger_partitions('6 hours');
select kijko.set_limit('00000000-0000-4000-8000-000000000001', 'calls', 'month', 1000000000000);
create table public.plain (like kijko.ledger including defaults);
create index on public.plain (subject, meter, period_start);
create table public.row (subject uuid primary key, used bigint not null, "limit" bigint not null) with (fillfactor = 30);
insert into public.row values ('00000000-0000-4000-8000-000000000001', 0, 1000000000000);
create table public.slots (slot integer primary key, used bigint not null, "limit" bigint not null) with (fillfactor = 30);
insert into public.slots select n, 0, 1000000000000 from generate_series(0, 15) as n;
-- With a history, as such a table has, so that the window is found by the index; newer than any vacuum, as a last minute is.
create table public.events (subject uuid not null, at timestamptz not null default now()) with (autovacuum_enabled = off);
create index on public.events (subject, at);
create procedure public.thousand_events(at timestamptz) language sql as $$
    truncate public.events;
    insert into public.events select '00000000-0000-4000-8000-000000000001', now() - interval '1 day' from generate_series(1, 50000);
    insert into public.events select '00000000-0000-4000-8000-000000000001', thousand_events.at from generate_series(1, 1000);
$$;
-- INSERT + COUNT(*) lets two that count at once both take the last place; one at a time it does not.
create function public.insert_counted() returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1);
    insert into public.events (subject) select '00000000-0000-4000-8000-000000000001' where (select count(*) from public.events where subject = '00000000-0000-4000-8000-000000000001' and at > now() - interval '1 minute') < 1000000;
end
$$;
