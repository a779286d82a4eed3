\set SHOW_CONTEXT never
create function offset_of(text) returns interval language plpgsql as $$
begin
    perform set_config('kijko.clock_offset', $1, true);
    return kijko.now() - now();
end
$$;
select o, offset_of(o) from unnest(array['', '0', '90', '-90', '1 hour', '1h 30min', '2 days 03:00', '-1d', '1 day -01:00', '00:00:30', '1.5']) as o;
select offset_of('1 month');
select offset_of('soon');
select offset_of('1 fortnight');
select offset_of('101 years');
select offset_of('40000 days');
show kijko.clock_offset;
-- Only for superusers.
create role traveller;
set role traveller;
set kijko.clock_offset = '1 day';
select kijko.now() = now() as unmoved;
reset role;
drop role traveller;
-- A misspelt setting is reported.
set kijko.clock = '1 day';
drop function offset_of;
