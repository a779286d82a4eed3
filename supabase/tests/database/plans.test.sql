begin;
\ir 000_helpers.sql
select plan(49);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
select tests.join_org('vic', tests.org('ada'), 'viewer');

create function tests.catalogue(meters text[]) returns table (plan text, amounts bigint[]) language sql stable as $$
  select p.code, array_agg(l.amount order by array_position(meters, l.meter))
  from public.plans as p
  join public.plan_limits as l on l.plan = p.code and l.meter = any (meters)
  group by p.code, p.rank
  order by p.rank
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select is((select count(*) from public.plans), 4::bigint, 'anon reads the plans');
select is((select l.amount from public.plan_limits as l where l.plan = 'PRO' and l.meter = 'events'), 5000000::bigint, 'and their limits');
select throws_ok($$update public.plans set name = 'x'$$, '42501', null, 'and writes none of them');
select throws_ok($$delete from public.plan_limits$$, '42501', null, 'nor these');
select throws_ok('select * from public.subscriptions', '42501', null, 'anon reads no subscriptions');
select throws_ok('select * from public.usage_summary()', '42501', null, 'anon has no usage');

select tests.act_as('bob');
select is_empty($$select 1 from public.subscriptions where org_id = tests.org('ada')$$, 'a non-member sees no subscription');
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
select tests.refuses('select * from public.usage_summary()', 'not_a_member', 'not of an organization of others');

-- ---- the catalogue is the one of the design
select tests.act_as('ada');
select results_eq(
  'select code, rate_per_minute from public.plans order by rank',
  $$values ('FREE', 600), ('PRO', 3000), ('TEAMS', 12000), ('ENTERPRISE', 60000)$$,
  'requests a minute'
);
select results_eq(
  $$select * from tests.catalogue('{api_requests, executions, llm_tokens, llm_cost_microusd, publish_cost_microusd, events, code_searches}')$$,
  $$values ('FREE', '{100000, 50, 100000, 500000, 500000, 100000, 1000}'::bigint[]),
      ('PRO', '{5000000, 2000, 5000000, 50000000, 20000000, 5000000, 50000}'),
      ('TEAMS', '{50000000, 20000, 50000000, 500000000, 200000000, 50000000, 1000000}'),
      ('ENTERPRISE', '{null, null, null, null, null, null, null}')$$,
  'monthly meters'
);
select results_eq(
  $$select * from tests.catalogue('{projects, members, habits, skills, reflexes, repositories, storage_bytes, api_keys, webhook_endpoints, usage_meters}')$$,
  $$values ('FREE', '{3, 3, 3, 25, 3, 1, 104857600, 3, 1, 10}'::bigint[]),
      ('PRO', '{25, 5, 50, 500, 50, 10, 10737418240, 50, 10, 50}'),
      ('TEAMS', '{100, 50, 500, 5000, 500, 100, 107374182400, 500, 50, 200}'),
      ('ENTERPRISE', '{null, null, null, null, null, null, null, null, null, null}')$$,
  'gauges'
);
select is(
  (select jsonb_object_agg(l.period || ' ' || l.overage_policy, l.meters) from (
    select l.period, l.overage_policy, count(distinct l.meter) as meters from public.plan_limits as l group by l.period, l.overage_policy
  ) as l),
  '{"month refuse": 7, "lifetime refuse": 10}', 'and these are all'
);
-- Three widgets that poll each second for an hour: a minute's worth at once (more than they ever ask at a time), and all of it in the month.
select ok((select 3 * 60 <= p.rate_per_minute from public.plans as p where p.code = 'FREE'), 'three widgets stay within the rate of FREE');
select ok((select 3 * 3600 <= l.amount from public.plan_limits as l where l.plan = 'FREE' and l.meter = 'api_requests'), 'and an hour of them within its month');
select is(
  (select count(*) from generate_series(1, 180) where tests.answer('select public.before_request()') -> 'status' is not null), 0::bigint, 'none is refused'
);

-- ---- limits follow the plan, usage stays
select results_eq(
  $$select meter, used, "limit", remaining from public.usage_summary() where meter in ('executions', 'members', 'skills') order by meter collate "C"$$,
  $$values ('executions', 0::bigint, 50::bigint, 50::bigint), ('members', 2, 3, 1), ('skills', 0, 25, 25)$$,
  'a new organization has the limits of FREE'
);
select results_eq(
  'select meter, period, "limit" from public.usage_summary() order by meter', $$select l.meter, l.period, l.amount from public.plan_limits as l where l.plan = 'FREE' order by l.meter$$, 'all of them'
);
select ok((select bool_and(reset_at > kijko.now()) from public.usage_summary() where period = 'month'), 'and which are of a month start anew');
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
select is((select "limit" from public.usage_summary() where meter = 'executions'), null, 'and no organization on the plan has one any more');
select tests.act_as_service();
insert into public.plan_limits (plan, meter, period, amount) values ('FREE', 'own', 'month', 7);
select tests.act_as('bob');
select is((select "limit" from public.usage_summary() where meter = 'own'), 7::bigint, 'a new one counts for all of them');
select tests.act_as_service();
select is(tests.changed($$update public.subscriptions set plan = 'PRO' where org_id = tests.org('bob')$$), 1::bigint, 'bob goes to PRO, which does not have it');
select tests.act_as('bob');
select is((select "limit" from public.usage_summary() where meter = 'own'), null, 'and leaves its figure behind');
select tests.act_as_service();
insert into public.plan_limits (plan, meter, period, amount) values ('ENTERPRISE', 'theirs', 'month', 7);
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('bob');
select tests.act_as('bob');
select is_empty($$select 1 from public.usage_summary() where meter = 'theirs'$$, 'what another plan limits is no meter of it');

select tests.act_as_superuser();
select is((select count(*) from cron.job where username = 'postgres' and jobname = 'kijko-maintain-usage'), 1::bigint, 'pg_cron keeps the ledger in order');
set role postgres;
select lives_ok('select * from kijko.maintain_usage()', 'and may');
reset role;

-- ---- the check of subscriptions, asked as the role that writes them
select is_empty(
  $$select c.n from (values
      (1, private.plans_is_subscription_row(kijko.platform_org_id(), 'FREE', null, now(), null)),
      (2, private.plans_is_subscription_row(tests.org('bob'), 'PRO', 'TEAMS', now(), null)),
      (3, private.plans_is_subscription_row(tests.org('bob'), 'PRO', null, now(), now()))
    ) as c (n, fits) where c.fits is not false$$,
  'not of the platform, not with another plan than its override, not with a period of no length'
);
select tests.act_as_service();
select throws_ok(
  format($$update public.subscriptions set current_period_end = current_period_start where org_id = %L$$, tests.org('bob')), '23514', null,
  'service_role writes subscriptions by the same check'
);
reset role;

select * from finish();
rollback;
