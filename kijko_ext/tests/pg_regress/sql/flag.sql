-- Flags of the platform, evaluated in the database.
\pset null '<null>'
\set SHOW_CONTEXT never
\set on '{"version": 2, "features": [{"name": "new", "enabled": true, "strategies": []}]}'
\set off '{"version": 2, "features": [{"name": "new", "enabled": false, "strategies": []}]}'
create function is_on(name text) returns boolean language sql as $$ select kijko.flag_enabled(name, '{"userId": "a"}') $$;
select is_on('new');
-- A change counts in the next statement, and no longer when it is rolled back.
begin;
select kijko.put_flag_snapshot('production', :'on');
select is_on('new'), is_on('other');
savepoint before;
select kijko.put_flag_snapshot('production', :'off');
select is_on('new');
rollback to savepoint before;
select is_on('new');
-- After the rollback another change gets another revision.
select kijko.put_flag_snapshot('production', :'off');
select is_on('new');
commit;
-- What is null is off.
select kijko.put_flag_snapshot('production', :'on');
select kijko.flag_enabled(null), kijko.flag_enabled('new', '{}', null), kijko.flag_enabled('new', null), kijko.flag_enabled('new', '[]');
select kijko.flag_variant('other'), kijko.flags('{}', 'elsewhere');
-- Definitions that are none.
select kijko.put_flag_snapshot(null, :'on');
select kijko.put_flag_snapshot('production', '{}');
select kijko.put_flag_snapshot('production', null);
select is_on('new');
drop function is_on;
