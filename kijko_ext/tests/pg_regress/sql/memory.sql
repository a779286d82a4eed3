-- What a backend keeps has a bound, whatever it is asked.
\set VERBOSITY terse
\set org '11111111-1111-4111-8111-111111111111'
-- This backend's own memory in MiB, without what it shares.
create function own_memory() returns bigint language sql as $$
    select (field[2]::bigint - field[3]::bigint) * 4096 / 1048576
    from string_to_array(pg_read_file('/proc/self/statm', 0, 1000, true), ' ') as field
$$;
create function grown(command text, times integer) returns text language plpgsql as $$
declare
    before bigint;
begin
    for i in 1 .. 100 loop
        begin execute command using i; exception when others then null; end;
    end loop;
    before := own_memory();
    for i in 101 .. times loop
        begin execute command using i; exception when others then null; end;
    end loop;
    return case when own_memory() - before < 12 then 'bounded' else pg_catalog.format('grew by %s MiB', own_memory() - before) end;
end
$$;
select grown($$select kijko.quota_status('11111111-1111-4111-8111-111111111111', 'm' || repeat('x', 100000) || $1)$$, 400);
select grown($$select kijko.explain_limit('11111111-1111-4111-8111-111111111111', 'm' || repeat('x', 100000) || $1)$$, 400);
select grown($$select * from kijko.period_at('11111111-1111-4111-8111-111111111111', 'm' || repeat('x', 100000) || $1, now())$$, 400);
-- A meter has a name.
select kijko.quota_status(:'org', 'No meter');
select kijko.quota_status(:'org', repeat('x', 64));
select kijko.explain_limit(:'org', 'No meter');
select kijko.explain_limit(:'org', repeat('x', 64));
drop function own_memory, grown;
