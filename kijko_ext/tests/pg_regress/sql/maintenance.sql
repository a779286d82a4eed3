-- Maintenance: by a publication of all tables, and when one of its tasks fails.
\set VERBOSITY terse
\set SHOW_CONTEXT never
\c postgres
set client_min_messages = warning;
create extension kijko;
create function m(n integer) returns uuid language sql immutable as $$ select ('33333333-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- Every table can be replicated: it has a key, or its rows as a whole are one.
select c.relname from pg_class as c
where c.relnamespace = 'kijko'::regnamespace and c.relkind in ('r', 'p') and c.relreplident <> 'f'
    and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary);
set client_min_messages = error;
create publication everything for all tables;
set client_min_messages = warning;
select used from kijko.consume(m(1), 'x', 2);
select count(*) from kijko.ledger_default;
select task, done is not null as done, problem from kijko.maintain_usage();
select count(*) from kijko.ledger_default;
select count(*) from kijko.ledger_partitions as p join pg_class as c on c.oid = p.partition::regclass where c.relreplident <> 'f';
-- Rows that are written without a partition again are moved by the next call.
insert into kijko.ledger (id, subject, meter, period_start, amount, kind, occurred_at, recorded_at)
select m(n), m(2), 'x', date_trunc('month', now()), 1, 'import', now(), (select max(ends_at) from kijko.ledger_partitions) + interval '1 minute' from generate_series(1, 3) as n;
select count(*) from kijko.ledger_default;
select kijko.make_ledger_partitions('8 hours') > 0 as made;
select count(*) from kijko.ledger_default;
drop publication everything;
-- Sums by hour are kept for 90 days, those by day for 25 months.
insert into kijko.usage_hourly select m(3), 'x', date_trunc('hour', now()) - age, '{}', 1, 0, 1 from unnest(array['89 days', '91 days', '2 years']::interval[]) as age;
insert into kijko.usage_daily select m(3), 'x', (now() - age)::date, '{}', 1, 0, 1 from unnest(array['91 days', '24 months', '26 months']::interval[]) as age;
select task, done from kijko.maintain_usage() where task like 'purge_usage%';
select (select count(*) from kijko.usage_hourly where subject = m(3)), (select count(*) from kijko.usage_daily where subject = m(3));
-- A task that fails stops no other, is counted and says why.
create function failing() returns trigger language plpgsql as $$ begin raise exception 'out of order' using errcode = 'P0099'; end $$;
create trigger failing before delete on kijko.usage_daily for each row execute function failing();
insert into kijko.usage_hourly select m(3), 'x', date_trunc('hour', now()) - interval '92 days', '{}', 1, 0, 1;
insert into kijko.usage_daily select m(3), 'x', (now() - interval '27 months')::date, '{}', 1, 0, 1;
select value as before from kijko.stats() where metric = 'maintenance.failures' \gset
select task, done, problem from kijko.maintain_usage() where task like 'purge_usage%';
select value - :before as failures from kijko.stats() where metric = 'maintenance.failures';
drop trigger failing on kijko.usage_daily;
select task, done, problem from kijko.maintain_usage() where task like 'purge_usage%';
drop function failing, m;
drop extension kijko;
