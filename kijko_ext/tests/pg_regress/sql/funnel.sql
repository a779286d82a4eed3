-- How deep a person went into a funnel.
\pset null '<null>'
set timezone = 'UTC';
create table step (person text, at timestamptz, matched integer);
insert into step values
    ('all', '2026-01-01 10:00', 1), ('all', '2026-01-01 11:00', 2), ('all', '2026-01-01 12:00', 4),
    ('late', '2026-01-01 10:00', 1), ('late', '2026-01-01 11:00', 2), ('late', '2026-01-02 10:00:01', 4),
    ('backwards', '2026-01-01 10:00', 4), ('backwards', '2026-01-01 11:00', 2), ('backwards', '2026-01-01 12:00', 1),
    ('at once', '2026-01-01 10:00', 1), ('at once', '2026-01-01 10:00', 2), ('at once', '2026-01-01 10:00', 4),
    ('one event', '2026-01-01 10:00', 7), ('never', '2026-01-01 10:00', 2), ('null', null, 1);
select person, kijko.funnel_depth(at, matched, 3, 86400000000, false) as depth, kijko.funnel_depth(at, matched, 3, 86400000000, true) as strict
from (select * from step order by person, at, matched) as s group by person order by person;
select kijko.funnel_depth(at, matched, 3, 86400000000, false) from step where false;
-- Refused: another order, and funnels without steps or with too many.
\set VERBOSITY sqlstate
select kijko.funnel_depth(at, matched, 3, 1, false order by at desc) from step where person = 'all';
select kijko.funnel_depth(at, matched, 0, 1, false order by at) from step;
select kijko.funnel_depth(at, matched, 21, 1, false order by at) from step;
\set VERBOSITY default
drop table step;
reset timezone;
