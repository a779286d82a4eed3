-- Counts that must see what was committed before their locks, so that no snapshot may be older.
begin isolation level repeatable read;
\ir 000_helpers.sql
select plan(1);

select tests.refuses('select * from private.usage_recount_gauges()', 'bad_request', 'gauges are not recounted by an old snapshot');

select * from finish();
rollback;
