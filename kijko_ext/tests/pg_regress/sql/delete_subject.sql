-- delete_subject leaves accounting and nothing else.
\set VERBOSITY terse
\set org 'ffffffff-0000-4000-8000-00000000000a'
\set other 'ffffffff-0000-4000-8000-00000000000b'
create function rows_of(subject uuid) returns table (relation text, rows bigint) language plpgsql as $$
begin
    for relation in
        select c.table_name from information_schema.columns as c join information_schema.tables as t using (table_schema, table_name)
        where c.table_schema = 'kijko' and c.column_name = 'subject' and c.data_type = 'uuid' and t.table_type = 'BASE TABLE'
            and c.table_name !~ '^ledger_' order by 1
    loop
        execute format('select count(*) from kijko.%I where subject = $1', relation) into rows using subject;
        return next;
    end loop;
end
$$;
create function use(subject uuid) returns void language plpgsql as $$
begin
    perform kijko.set_limit(subject, 'calls', 'month', 10);
    perform kijko.set_calendar(subject, 'Europe/Amsterdam');
    perform kijko.set_tier(subject, 'PRO');
    perform kijko.consume(subject, 'calls', 6, 'key');
    perform kijko.reserve(subject, 'calls', 2, '1 hour', 'hold');
    perform kijko.ingest_usage(subject, '[{"specversion": "1.0", "source": "/a", "id": "1", "type": "t"}]', '{"t": {"meter": "own.events"}}');
end
$$;
select use(:'org'), use(:'other');
select * from rows_of(:'org');
select kijko.delete_subject(:'org');
select * from rows_of(:'org');
-- Other subjects keep theirs.
select bool_and(a.rows = b.rows) filter (where a.relation <> 'ledger') as the_same
from rows_of(:'other') as a join (values ('limits', 1), ('tiers', 1), ('holds', 1), ('idempotency_keys', 1), ('calendars', 1)) as b(relation, rows) using (relation);
-- Its usage stays in the ledger.
select meter, sum(amount) from kijko.ledger where subject = :'org' group by meter order by meter;
-- A rollback deletes nothing.
begin;
select kijko.delete_subject(:'other');
rollback;
select used, "limit" from kijko.quota_status(:'other', 'calls');
select kijko.delete_subject(null);
create role app_user;
set role app_user;
select kijko.delete_subject(:'other');
reset role;
drop role app_user;
select kijko.delete_subject(:'other'), kijko.delete_subject(:'org');
drop function rows_of, use;
