\set VERBOSITY terse
set timezone to 'UTC';
set datestyle to iso;
-- Strictly after, in the zone.
select kijko.cron_next('30 9 * * mon-fri', 'Europe/Amsterdam', '2026-07-03 07:30:00Z');
select kijko.cron_next('30 9 * * mon-fri', 'Europe/Amsterdam', '2026-07-03 07:29:59.999999Z');
select kijko.cron_next('@daily', 'america/new_york', '2026-01-01 00:00Z');
select * from kijko.cron_upcoming('*/20 9-10 1,15 jan,feb *', 'UTC', '2026-01-01 00:00Z', 8);
select * from kijko.cron_upcoming('@hourly', 'UTC', '2026-01-01 00:00Z', 0);
-- Nicknames.
select n, kijko.cron_next(n, 'UTC', '2026-05-05 05:05Z')
from unnest(array['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly']) as n;
-- Day of month or day of week when both are given, the given one when one is.
select to_char(u, 'Dy DD') from kijko.cron_upcoming('0 0 13 * fri', 'UTC', '2026-02-01 00:00Z', 5) as u;
select to_char(u, 'Dy DD Mon') from kijko.cron_upcoming('0 0 13 * *', 'UTC', '2026-02-01 00:00Z', 3) as u;
select to_char(u, 'Dy DD') from kijko.cron_upcoming('0 0 * * 0,7', 'UTC', '2026-02-01 00:00Z', 3) as u;
select kijko.cron_next('0 0 29 2 *', 'UTC', '2097-01-01 00:00Z') as leap_day_over_2100;
-- Amsterdam skips 02:00 to 03:00 on 2026-03-29: once, at the end of the gap.
select * from kijko.cron_upcoming('30 2 * * *', 'Europe/Amsterdam', '2026-03-28 00:00Z', 3);
select * from kijko.cron_upcoming('*/15 2 * * *', 'Europe/Amsterdam', '2026-03-28 23:00Z', 2);
-- It repeats 02:00 to 03:00 on 2026-10-25: once, the first time.
select * from kijko.cron_upcoming('30 2 * * *', 'Europe/Amsterdam', '2026-10-24 12:00Z', 2);
select kijko.cron_next('30 2 * * *', 'Europe/Amsterdam', '2026-10-25 00:30Z');
-- Every hour means elapsed time.
select * from kijko.cron_upcoming('30 * * * *', 'Europe/Amsterdam', '2026-03-28 23:45Z', 2);
select * from kijko.cron_upcoming('30 * * * *', 'Europe/Amsterdam', '2026-10-24 23:45Z', 3);
-- The last one not after a time: its own moment counts, the second pass of a repeated hour fires nothing, a gap once.
select kijko.cron_latest('30 9 * * mon-fri', 'Europe/Amsterdam', '2026-07-06 07:30:00Z');
select kijko.cron_latest('30 9 * * mon-fri', 'Europe/Amsterdam', '2026-07-06 07:29:59.999999Z');
select kijko.cron_latest('30 2 * * *', 'Europe/Amsterdam', '2026-10-25 01:29Z');
select kijko.cron_latest('30 2 * * *', 'Europe/Amsterdam', '2026-10-25 00:29Z');
select kijko.cron_latest('30 * * * *', 'Europe/Amsterdam', '2026-10-25 01:45Z');
select kijko.cron_latest('30 2 * * *', 'Europe/Amsterdam', '2026-03-29 01:00Z');
select kijko.cron_latest('* * * * *', 'UTC', '2126-01-01 00:00:30Z'), kijko.cron_latest('0 0 29 2 *', 'UTC', '2104-02-28 00:00Z');
select kijko.cron_latest('@daily', 'UTC', 'infinity'), kijko.cron_latest('@daily', 'UTC', '-infinity'), kijko.cron_latest('@daily', null, now());
select kijko.cron_latest('61 * * * *', 'UTC', now());
select kijko.cron_latest('@daily', 'Mars/Olympus', now());
-- No further time, and null arguments.
select kijko.cron_next('@daily', 'UTC', 'infinity'), kijko.cron_next('@daily', 'UTC', '-infinity');
select kijko.cron_next(null, 'UTC', now()), kijko.cron_next('@daily', null, now()), kijko.cron_next('@daily', 'UTC', null);
-- Refusals name the field and the reason.
select e, p.* from unnest(array[
    '', '* * * *', '0 0 * * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * * 13 *', '* * * * 8', '* * * foo *',
    'x * * * *', '-5 * * * *', '5-1 * * * *', '* * * * sat-mon', '1,,2 * * * *', '*/0 * * * *', '*/90 * * * *',
    '5/10 * * * *', '* * L * *', '* * 15W * *', '* * ? * *', '* * * * 5#2', '* * * * fri#2', '@reboot', '0 0 30 2 *',
    '0 0 31 4,6,9,11 *', '0 0 30 2 mon', '0 0 29 2 *', '* * * * * ; drop table x', E'*\t* *\n* *'
]) as e left join lateral kijko.cron_problem(e) as p on true;
select * from kijko.cron_problem(null)
union all select * from kijko.cron_problem('@daily', null);
select z, code, reason from unnest(array['', 'Mars/Olympus', 'CEST-2', '+02:00', 'local', '../UTC', 'Europe/Amsterdam']) as z
left join lateral kijko.cron_problem('@daily', z) on true;
select kijko.cron_next('61 * * * *', 'UTC', now());
select kijko.cron_next('@daily', 'Mars/Olympus', now());
select * from kijko.cron_upcoming('61 * * * *', 'UTC', now(), 1);
select * from kijko.cron_upcoming('@daily', 'UTC', now(), 1001);
select * from kijko.cron_upcoming('@daily', 'UTC', now(), -1);
-- The domain: nothing bad can be stored.
create table habits (cron kijko.cron);
insert into habits values ('0 9 * * 1'), (null);
insert into habits values ('0 25 * * *');
update habits set cron = 'never';
select 'x y z'::kijko.cron;
\set VERBOSITY default
\set SHOW_CONTEXT never
insert into habits values ('0 0 31 feb *');
begin;
set local request.method = 'POST';
insert into habits values ('0 0 31 feb *');
rollback;
select * from habits;
drop table habits;
