-- Whose job is claimed next: tenants' turns and limits.
begin;
\ir 000_helpers.sql
select plan(16);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('cyd');

-- ---- tenants take turns, also when each claim takes one
select tests.queue('ada', 'turn', 200);
select tests.queue('bob', 'turn', 1);
select ok(tests.served('turn', 4) in ('abaa', 'baaa'), 'a tenant''s only job is served second at the latest, not 201st');
select tests.queue('bob', 'turn', 2);
select tests.queue('cyd', 'turn', 2);
select is(
  (select count(*) from regexp_matches(tests.served('turn', 6), '[bc]', 'g')), 4::bigint, 'three in turn: in six claims each is served twice'
);
select is(tests.served('turn', 3), 'aaa', 'a tenant that is alone gets every turn');
-- A tenant has one place in the round, however many lanes it opens.
select count(*) from private.jobs_enqueue_many((
  select jsonb_agg(jsonb_build_object('org_id', tests.org('ada'), 'kind', 'keys', 'concurrency_key', 'key ' || n)) from generate_series(1, 200) as n
));
select tests.queue('bob', 'keys', 3);
select ok(tests.served('keys', 6) in ('ababab', 'bababa'), 'a tenant with 200 keys has one turn in two');
-- Jobs of one kind do not take the turn of another's.
select tests.queue('ada', 'first', 9), tests.queue('bob', 'first', 9), tests.queue('bob', 'second', 9), tests.queue('ada', 'second', 9);
select is(
  (select string_agg(tests.served('first', 1) || tests.served('second', 1), '' order by n) from generate_series(1, 4) as n) ~ '^(a.b.a.b.|b.a.b.a.)$',
  true, 'each kind has its own turns'
);
-- Two sets of kinds share a sequence: a claim that finds the other set's turn starts at random, and no tenant is left out.
select tests.queue('ada', 'met' || n, 3), tests.queue('bob', 'met' || n, 3) from generate_series(1, 20) as n;
select tests.served('met' || n, 1) from generate_series(1, 20) as n;
select is((select count(*) from generate_series(1, 20) as n where tests.served('met' || n, 5) ~ '^[ab]*$'), 20::bigint, 'kinds that share a sequence serve both tenants');
select is((select count(*) from public.jobs where kind like 'met%' and status = 'queued'), 0::bigint, 'no job of these kinds is left');
-- Workers that claim different kinds and share a sequence, one claim each in turn.
select tests.queue('ada', 'mixed', 200);
select tests.queue('bob', 'mixed', 1);
create temporary table meeting on commit drop as
  select array['mixed', 'other' || (array_agg(n order by n))[1]] as one, array['mixed', 'other' || (array_agg(n order by n))[2]] as two
  from generate_series(1, 20) as n
  group by private.jobs_turn_sequence(array['mixed', 'other' || n], 0::smallint)
  having count(*) > 1 and count(distinct private.jobs_turn_tag(array['mixed', 'other' || n], 0::smallint)) > 1
  limit 1;
-- By chance the tenant is not served in 120 claims once in 10 to the 36.
select isnt_empty(
  $$select 1 from meeting as m cross join generate_series(1, 120) as n
    cross join lateral private.jobs_claim('w', '1 minute', 1, case when n % 2 = 0 then m.one else m.two end) as c
    where c.org_id = tests.org('bob')$$,
  'a tenant''s only job is served also when workers forget each other''s turns'
);

-- ---- a job held back by a limit takes no other job's place
select tests.queue('bob', 'held', 1, '{"concurrency_key": "repo"}');
select is(tests.served('held', 1), 'b', 'one job of a concurrency key runs');
select tests.queue('ada', 'held', 20);
select tests.queue('bob', 'held', 2, '{"concurrency_key": "repo"}');
select private.jobs_set_limit(tests.org('cyd'), null, 0);
select tests.queue('cyd', 'held', 1);
select is(tests.served('held', 1, 5), 'aaaaa', 'a claim of five takes only jobs that may run');
select is(tests.served('held', 15), repeat('a', 15), 'so do claims of one job');
select is(tests.served('held', 3), '', 'no other job may run');
select private.jobs_set_limit(tests.org('cyd'), null, null);
select is(tests.served('held', 3), 'c', 'without its limit a job is claimed');
-- The longest due are all held back, and more of them than a claim looks at.
select tests.queue('bob', 'crowd', 1, '{"concurrency_key": "repo"}');
update public.jobs set status = 'cancelled', finished_at = clock_timestamp(), locked_by = null, locked_until = null where kind = 'held' and status = 'running';
select is(tests.served('crowd', 1), 'b', 'one job of the concurrency key runs');
select tests.queue('bob', 'crowd', 500, '{"concurrency_key": "repo"}');
select tests.queue('ada', 'crowd', 20);
select is(tests.served('crowd', 1, 10), repeat('a', 10), 'a claim takes jobs behind 500 that may not run');
-- Also of other organizations.
select tests.sign_up('u' || n) from generate_series(1, 80) as n;
select private.jobs_set_limit(tests.org('u' || n), null, 0), tests.queue('u' || n, 'crowds') from generate_series(1, 80) as n;
select tests.queue('ada', 'crowds', 2);
select is(tests.served('crowds', 3), 'aa', 'eighty tenants that may run nothing do not hide one that may');

select * from finish();
rollback;
