-- What an operator adds to the ledger: indexes of every kind, constraints, triggers, columns. An entry takes part in all of it,
-- and the sum of a counter stays what was used.
\set VERBOSITY sqlstate
\pset null '<null>'
set client_min_messages = warning;
create function c(n integer) returns uuid language sql immutable as $$ select ('1ed9e700-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- The rows of kijko.ledger_default that an index finds.
create function found_by(condition text) returns bigint language plpgsql set enable_seqscan = off as $$
declare
    found bigint;
begin
    execute 'select count(*) from kijko.ledger_default where ' || condition into found;
    return found;
end
$$;
-- Uses 1 and returns what is used by the counter, by the ledger, and by the counter when it is loaded again.
create function use_one(subject uuid) returns table (used bigint, in_ledger numeric, loaded bigint) language plpgsql as $$
begin
    perform kijko.consume(subject, 'x');
    return query select (kijko.quota_status(subject, 'x')).used, (select sum(g.amount) from kijko.ledger as g where g.subject = use_one.subject and g.meter = 'x'),
        coalesce(u.used, 0) from kijko.usage(subject) as u where u.meter = 'x';
end
$$;
-- An index on an expression, in a backend that has not looked at it.
create index changed on kijko.ledger_default ((lower(actor)), (amount / 2));
\c -
set client_min_messages = warning;
select used from kijko.consume(c(1), 'x', 3);
select kijko.correct_usage(c(1), 'x', -1, 'somebody');
select found_by($$ lower(actor) is null and amount / 2 = 1 and subject = '1ed9e700-0000-4000-8000-000000000001' $$) as by_expression;
drop index kijko.changed;
-- A partial index contains the rows of its predicate alone. Of a unique one the others may be alike, and those within may not.
create unique index changed on kijko.ledger_default (subject, meter) where meter = 'partial' and amount > 100;
\c -
set client_min_messages = warning;
select used from kijko.consume(c(2), 'partial', 1);
select used from kijko.consume(c(2), 'partial', 1);
select used from kijko.consume(c(2), 'partial', 101);
select used from kijko.consume(c(2), 'partial', 101);
select used from kijko.quota_status(c(2), 'partial');
drop index kijko.changed;
-- As the only index on the counter's key it must not be used to sum.
begin;
drop index kijko.ledger_default_by_counter;
create index changed on kijko.ledger_default (subject, meter, period_start) where amount > 100;
select used from kijko.consume(c(3), 'x', 5);
select kijko.reload_counters(c(3));
commit;
\c -
set client_min_messages = warning;
select used from kijko.consume(c(3), 'x', 1);
drop index kijko.changed;
-- Nor one in another order of texts, or with other columns.
create index changed on kijko.ledger_default (subject, meter text_pattern_ops, period_start);
create index other on kijko.ledger_default (subject, meter collate "POSIX", period_start) include (amount);
select kijko.reload_counters(c(3));
select used from kijko.consume(c(3), 'x', 1);
drop index kijko.changed, kijko.other;
create index ledger_default_by_counter on kijko.ledger_default (subject, meter, period_start);
-- A unique index and an exclusion constraint refuse, and nothing is used.
select kijko.reload_counters();
begin;
create unique index changed on kijko.ledger_default (subject, meter) where meter = 'unique';
select used from kijko.consume(c(4), 'unique', 2);
savepoint a;
select used from kijko.consume(c(4), 'unique', 3);
rollback to a;
select used from kijko.usage(c(4));
rollback;
begin;
alter table kijko.ledger_default add constraint changed exclude using gist (int8range(amount, amount, '[]') with &&) where (meter = 'exclusive');
select used from kijko.consume(c(5), 'exclusive', 7);
savepoint a;
select used from kijko.consume(c(5), 'exclusive', 7);
rollback to a;
select used from kijko.consume(c(5), 'exclusive', 8);
select used from kijko.quota_status(c(5), 'exclusive');
rollback;
-- A constraint on columns, for all rows, whose index is a B-tree as any other.
begin;
delete from kijko.ledger where reason is not null;
alter table kijko.ledger_default add constraint changed exclude using btree (subject with =, reason with =);
select kijko.correct_usage(c(5), 'exclusive', 7, 'somebody');
savepoint a;
select kijko.correct_usage(c(5), 'exclusive', 8, 'somebody');
rollback to a;
select used from kijko.quota_status(c(5), 'exclusive');
rollback;
-- A deferred one at commit.
begin;
alter table kijko.ledger_default add constraint changed unique (id, amount) deferrable initially deferred;
select used from kijko.consume(c(5), 'x', 7);
set constraints all immediate;
rollback;
-- Other access methods, more indexes than usual, plain ones with nulls, and a unique one on columns.
begin;
create index on kijko.ledger_default using gin (attributes);
create index on kijko.ledger_default using brin (recorded_at);
create index on kijko.ledger_default using hash (subject);
create index on kijko.ledger_default (actor, reason desc nulls last);
create unique index on kijko.ledger_default (id);
select used from kijko.try_consume_many(array[c(6)], 'x', 4, null, '{"member": "m"}');
select found_by(format($$ attributes @> '{"member": "m"}' and subject = %L $$, c(6))) as by_gin;
select found_by(format($$ subject = %L and actor is null $$, c(6))) as by_plain;
rollback;
-- Constraints, with the codes of any table.
begin;
alter table kijko.ledger add constraint changed check (amount < 1000) not valid;
select used from kijko.consume(c(7), 'x', 999);
savepoint a;
select used from kijko.consume(c(7), 'x', 1000);
rollback to a;
select used from kijko.quota_status(c(7), 'x');
rollback;
begin;
delete from kijko.ledger where reason is null;
alter table kijko.ledger alter column reason set not null;
select kijko.correct_usage(c(7), 'x', 1, 'somebody');
savepoint a;
select used from kijko.consume(c(7), 'x');
rollback to a;
rollback;
-- A column more, with a default; and a generated one.
begin;
alter table kijko.ledger add column node text default 'here', add column half bigint generated always as (amount / 2) stored;
select used from kijko.consume(c(8), 'x', 21);
select node, half from kijko.ledger where subject = c(8);
select kijko.reload_counters(c(8));
rollback;
-- Triggers of the ledger and of a partition, for rows and for statements. They run as the owner of the extension.
create table seen (of text, amount bigint);
create function see() returns trigger language plpgsql as $$
begin
    insert into public.seen select tg_name, case tg_level when 'ROW' then new.amount end;
    return new;
end
$$;
begin;
create trigger before_row before insert on kijko.ledger for each row execute function see();
create trigger after_row after insert on kijko.ledger_default for each row execute function see();
create trigger after_statement after insert on kijko.ledger for each statement execute function see();
select used from kijko.consume(c(9), 'x', 2);
select kijko.settle(kijko.reserve(c(9), 'x', 5), 4);
select * from seen order by amount, of;
rollback;
-- One that drops an entry, or changes what counts, is an error: the counter would differ from the ledger.
create function drop_entry() returns trigger language plpgsql as $$ begin return null; end $$;
create function change_entry() returns trigger language plpgsql as $$ begin new.amount := new.amount * 2; return new; end $$;
create function annotate_entry() returns trigger language plpgsql as $$ begin new.reason := 'noted'; return new; end $$;
begin;
create trigger changed before insert on kijko.ledger for each row execute function drop_entry();
select used from kijko.consume(c(10), 'x');
rollback;
begin;
create trigger changed before insert on kijko.ledger for each row execute function change_entry();
select used from kijko.consume(c(10), 'x');
rollback;
begin;
create trigger changed before insert on kijko.ledger for each row execute function annotate_entry();
select used from kijko.consume(c(10), 'x');
select reason from kijko.ledger where subject = c(10);
rollback;
-- Idempotency keys, too.
begin;
create index changed on kijko.idempotency_keys ((upper(key))) where amount > 1;
alter table kijko.idempotency_keys add constraint changed check (amount < 5) not valid;
create trigger changed after insert on kijko.idempotency_keys for each row execute function see();
select used from kijko.consume(c(11), 'x', 1, 'one');
select used from kijko.consume(c(11), 'x', 2, 'two');
select used from kijko.consume(c(11), 'x', 2, 'two');
select * from seen order by amount;
savepoint a;
select used from kijko.consume(c(11), 'x', 5, 'five');
rollback to a;
select used from kijko.quota_status(c(11), 'x');
rollback;
drop table seen;
-- A new partition, an index that is built concurrently, and a column of another type.
create index concurrently changed on kijko.ledger_default ((length(meter)));
select * from use_one(c(12));
select * from use_one(c(12));
drop index concurrently kijko.changed;
begin;
alter table kijko.ledger alter column amount type numeric;
select used from kijko.consume(c(13), 'x');
rollback;
select kijko.reload_counters();
select * from use_one(c(12));
-- Each backend has random numbers of its own: none of what it draws comes from the server's start.
select kijko.reserve(c(14), 'x', 1) as hold \gset first_
\c -
set client_min_messages = warning;
select right(:'first_hold', 16) <> right(kijko.reserve(c(14), 'x', 1)::text, 16) as differ;
drop function use_one(uuid), found_by(text), see(), drop_entry(), change_entry(), annotate_entry(), c(integer);
