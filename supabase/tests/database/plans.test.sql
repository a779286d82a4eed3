begin;
\ir 000_helpers.sql
select plan(39);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
select tests.join_org('vic', tests.org('ada'), 'viewer');

-- ---- nobody and strangers first
select tests.act_as_anon();
select throws_ok('select * from public.plans', '42501', null, 'anon reads no plans');
select throws_ok('select * from public.plan_limits', '42501', null, 'anon reads no limits');
select throws_ok('select * from public.subscriptions', '42501', null, 'anon reads no subscriptions');
select throws_ok('select * from public.usage_summary()', '42501', null, 'anon has no usage');

select tests.act_as('bob');
select is_empty($$select 1 from public.subscriptions where org_id = tests.org('ada')$$, 'a stranger sees no subscription');
select throws_ok($$update public.subscriptions set plan = 'PRO'$$, '42501', null, 'a user does not choose the plan');
select throws_ok($$insert into public.subscriptions (org_id) values (tests.org('bob'))$$, '42501', null, 'nor add one');
select throws_ok($$delete from public.subscriptions$$, '42501', null, 'nor end one');
select throws_ok($$update public.plan_limits set amount = null$$, '42501', null, 'nor write the catalogue');
select throws_ok($$select kijko.set_limit(tests.org('bob'), 'executions', 'month', null)$$, '42501', null, 'nor set limits');
select throws_ok($$select kijko.usage(tests.org('ada'))$$, '42501', null, 'nor read another''s usage');

select tests.act_as('vic', tests.org('ada'));
select is_empty($$select 1 from public.subscriptions where org_id = tests.org('ada')$$, 'a viewer does not see billing');
select isnt_empty('select 1 from public.usage_summary()', 'but usage');
select tests.act_as('vic', tests.org('bob'));
select tests.refuses('select * from public.usage_summary()', 'not_a_member', 'not of a stranger''s organization');

-- ---- the catalogue is the one of the design
select tests.act_as('ada');
select results_eq(
  'select code, rate_per_minute from public.plans order by rank',
  $$values ('FREE', 60), ('PRO', 600), ('TEAMS', 3000), ('ENTERPRISE', 6000)$$,
  'requests a minute'
);
select results_eq(
  $$select p.code, max(l.amount) filter (where l.meter = 'api_requests'), max(l.amount) filter (where l.meter = 'executions'),
      max(l.amount) filter (where l.meter = 'llm_tokens'), max(l.amount) filter (where l.meter = 'llm_cost_microusd'), count(*)
    from public.plans p join public.plan_limits l on l.plan = p.code where l.period = 'month' group by p.code, p.rank order by p.rank$$,
  $$values ('FREE', 10000::bigint, 50::bigint, 100000::bigint, 500000::bigint, 4::bigint),
      ('PRO', 1000000, 2000, 5000000, 50000000, 4),
      ('TEAMS', 5000000, 20000, 50000000, 500000000, 4),
      ('ENTERPRISE', null, null, null, null, 4)$$,
  'monthly meters'
);

select results_eq(
  $$select p.code, max(l.amount) filter (where l.meter = 'projects'), max(l.amount) filter (where l.meter = 'members'),
      max(l.amount) filter (where l.meter = 'habits'), count(*)
    from public.plans p join public.plan_limits l on l.plan = p.code where l.period = 'lifetime' group by p.code, p.rank order by p.rank$$,
  $$values ('FREE', 3::bigint, 3::bigint, 3::bigint, 3::bigint), ('PRO', 25, 5, 50, 3), ('TEAMS', 100, 50, 500, 3), ('ENTERPRISE', null, null, null, 3)$$,
  'gauges'
);

-- ---- limits follow the plan, usage stays
select results_eq(
  'select meter, used, "limit", remaining from public.usage_summary()',
  $$values ('api_requests', 0::bigint, 10000::bigint, 10000::bigint), ('executions', 0, 50, 50), ('habits', 0, 3, 3), ('llm_cost_microusd', 0, 500000, 500000),
      ('llm_tokens', 0, 100000, 100000), ('members', 2, 3, 1), ('projects', 0, 3, 3)$$,
  'a new organization has the limits of FREE'
);
select ok((select bool_and(reset_at > kijko.now() and period = 'month') from public.usage_summary() where meter not in ('habits', 'members', 'projects')), 'which start anew each month');
select is((select plan from public.subscriptions), 'FREE', 'the owner sees the subscription');

select tests.act_as_superuser();
select is((select count(*) from generate_series(1, 50) where (kijko.try_consume(tests.org('ada'), 'executions', 1)).allowed), 50::bigint, 'fifty fit');
select is((kijko.try_consume(tests.org('ada'), 'executions', 1)).allowed, false, 'not fifty-one');
select tests.act_as_service();
select is(tests.changed($$update public.subscriptions set plan = 'PRO' where org_id = tests.org('ada')$$), 1::bigint, 'service_role raises the plan');
select tests.act_as('ada');
select results_eq(
  $$select used, "limit" from public.usage_summary() where meter = 'executions'$$,
  $$values (50::bigint, 2000::bigint)$$, 'the limit rises in the same transaction, usage stays'
);
select tests.act_as_service();
select is(tests.changed($$update public.subscriptions set plan = 'ENTERPRISE' where org_id = tests.org('ada')$$), 1::bigint, 'up to no limit');
select tests.act_as('ada');
select is((select array_agg("limit") filter (where "limit" is not null) from public.usage_summary()), null, 'ENTERPRISE has none');
select tests.act_as_service();
select is(tests.changed($$update public.subscriptions set plan = 'FREE' where org_id = tests.org('ada')$$), 1::bigint, 'and down again');
select tests.act_as('ada');
select results_eq(
  $$select used, "limit", remaining from public.usage_summary() where meter = 'executions'$$,
  $$values (50::bigint, 50::bigint, 0::bigint)$$, 'a lower limit does not reset usage either'
);
select tests.act_as_service();
select throws_ok($$update public.subscriptions set plan = 'GOLD' where org_id = tests.org('ada')$$, '23503', null, 'an unknown plan is refused');
select tests.refuses($$update public.subscriptions set org_id = tests.org('bob') where org_id = tests.org('ada')$$, 'permission_denied', 'a subscription does not move');
select is(tests.changed($$update public.plan_limits set amount = 60 where plan = 'FREE' and meter = 'executions'$$), 1::bigint, 'the operator edits the catalogue');
select tests.act_as('bob');
select is((select "limit" from public.usage_summary() where meter = 'executions'), 60::bigint, 'and every organization on the plan has the new limit');
select tests.act_as_service();
select is(tests.changed($$delete from public.plan_limits where plan = 'FREE' and meter = 'executions'$$), 1::bigint, 'takes a limit out of it');
select tests.act_as('bob');
select is((select "limit" from public.usage_summary() where meter = 'executions'), null, 'and nobody on the plan has one any more');
select tests.act_as_service();
insert into public.plan_limits (plan, meter, period, amount) values ('FREE', 'own', 'month', 7);
select tests.act_as('bob');
select is((select "limit" from public.usage_summary() where meter = 'own'), 7::bigint, 'a new one counts for all of them');
select tests.act_as_service();
select is(tests.changed($$update public.subscriptions set plan = 'PRO' where org_id = tests.org('bob')$$), 1::bigint, 'bob goes to PRO, which does not have it');
select tests.act_as('bob');
select is((select "limit" from public.usage_summary() where meter = 'own'), null, 'and leaves its figure behind');

select tests.act_as_superuser();
select is((select count(*) from cron.job where username = 'postgres' and jobname = 'kijko-maintain-usage'), 1::bigint, 'pg_cron keeps the ledger in order');
set role postgres;
select lives_ok('select * from kijko.maintain_usage()', 'and may');
reset role;

select * from finish();
rollback;
