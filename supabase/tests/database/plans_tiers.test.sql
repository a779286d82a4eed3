begin;
\ir 000_helpers.sql
select plan(38);

-- Reads the extension's own tables, which only a superuser may.
create function tests.tier(name text) returns text language sql as $$
  select t.tier from kijko.tiers as t where t.subject = kijko.subject('user', tests.id(name))
$$;
-- How many of so many requests pass, each naming the next of the user's organizations.
create function tests.passed(n integer) returns integer language plpgsql as $$
declare
  orgs constant uuid[] := array(select public.org_ids());
  passed integer := 0;
begin
  for i in 1 .. n loop
    perform set_config('request.headers', json_build_object('x-org-id', orgs[1 + i % cardinality(orgs)])::text, true);
    if tests.answer('select public.before_request()') -> 'status' is null then passed := passed + 1; end if;
  end loop;
  return passed;
end
$$;
create function tests.make_org(plan text) returns uuid language plpgsql security definer as $$
declare
  org uuid;
begin
  insert into public.organizations (name) values ('made') returning id into org;
  update public.subscriptions set plan = make_org.plan where org_id = org;
  return org;
end
$$;

select tests.sign_up('ada'), tests.sign_up('bob');
update public.plans set rate_per_minute = 4 where code = 'FREE';
update public.plans set rate_per_minute = 9 where code = 'PRO';

-- ---- a user's tier is their best plan's
select is(tests.tier('ada'), 'FREE', 'from sign-up on');
select tests.make_org('PRO') as pro \gset
select tests.join_org('ada', :'pro', 'viewer');
select is(tests.tier('ada'), 'PRO', 'a better one counts from the membership on');
select tests.make_org('TEAMS') as teams \gset
insert into public.memberships (org_id, user_id, role) values (:'teams', tests.id('ada'), 'member'), (:'teams', tests.id('bob'), 'member');
select results_eq($$select tests.tier('ada'), tests.tier('bob')$$, $$values ('TEAMS', 'TEAMS')$$, 'of several users in one statement');
update public.subscriptions set plan = 'FREE' where org_id = :'teams';
select results_eq($$select tests.tier('ada'), tests.tier('bob')$$, $$values ('PRO', 'FREE')$$, 'it follows the plan down');
update public.subscriptions set plan = 'ENTERPRISE' where org_id = :'teams';
select is(tests.tier('bob'), 'ENTERPRISE', 'and up');
update public.plans set rank = 45 where code = 'PRO';
select is(tests.tier('ada'), 'PRO', 'another order of the plans counts at once');
update public.plans set rank = 20 where code = 'PRO';
select is(tests.tier('ada'), 'ENTERPRISE', 'and back');
delete from public.memberships where org_id = :'teams' and user_id = tests.id('ada');
select is(tests.tier('ada'), 'PRO', 'a membership that ends takes its plan along');
delete from public.subscriptions where org_id = :'teams';
select is(tests.tier('bob'), 'FREE', 'a subscription that is gone as well');
select tests.make_org('TEAMS') as doomed \gset
select tests.join_org('bob', :'doomed', 'member');
select is(tests.tier('bob'), 'TEAMS', 'an organization');
delete from public.organizations where id = :'doomed';
select is(tests.tier('bob'), 'FREE', 'that is deleted');
savepoint before;
select tests.make_org('TEAMS') as undone \gset
select tests.join_org('bob', :'undone', 'member');
rollback to before;
select is(tests.tier('bob'), 'FREE', 'what is rolled back was never so');
create temporary table changes as select xmin::text as version from kijko.tiers where subject = kijko.subject('user', tests.id('bob'));
select tests.join_org('bob', tests.make_org('FREE'), 'member');
select is((select t.xmin::text from kijko.tiers as t where t.subject = kijko.subject('user', tests.id('bob'))), (select c.version from changes as c), 'what stays as it is is not written');

-- ---- signed-in requests count against the user, whatever organizations they name
-- Rate limits outlive a rollback: users of this run alone.
select 'cam-' || gen_random_uuid() as cam, 'dot-' || gen_random_uuid() as dot, 'eve-' || gen_random_uuid() as eve \gset
select tests.sign_up(:'cam'), tests.sign_up(:'dot'), tests.sign_up(:'eve');
select count(tests.join_org(:'cam', tests.make_org('FREE'), 'member')) from generate_series(1, 19);
select tests.act_as(:'cam');
select is(tests.passed(40), 4, 'twenty organizations have one allowance');
select tests.act_as_superuser();
update public.subscriptions set plan = 'PRO' where org_id = tests.org(:'dot');
select count(tests.join_org(:'dot', tests.make_org('FREE'), 'member')) from generate_series(1, 9);
select tests.act_as(:'dot');
select is(tests.passed(40), 9, 'of the best plan');
-- Without an organization, too.
select tests.act_as_superuser();
delete from public.organizations where id = tests.org(:'eve');
select is(tests.tier(:'eve'), null, 'a user without an organization has no tier of their own');
select tests.act_as(:'eve');
select is(
  (select count(*) from generate_series(1, 10) where tests.answer('select public.before_request()') -> 'status' is null),
  4::bigint, 'and FREE''s rate'
);

-- ---- requests without a user count against the network
select tests.act_as_superuser();
-- How many of these requests pass, one after the other.
create function tests.passed(addresses text[]) returns integer language plpgsql as $$
declare
  address text;
  passed integer := 0;
begin
  foreach address in array addresses loop
    perform set_config('request.headers', json_build_object('x-forwarded-for', address)::text, true);
    if tests.answer('select public.before_request()') -> 'status' is null then passed := passed + 1; end if;
  end loop;
  return passed;
end
$$;
-- Rate limits outlive a rollback: networks of this run alone.
select format('192.0.2.%s', r.n) as v4, format('192.0.2.%s', r.n + 1) as other_v4, format('2001:db8:%s', to_hex((random() * 65534)::integer)) as v6
from (select (random() * 127)::integer * 2 as n) as r \gset
select tests.act_as_anon();
select is(tests.passed(array_fill(:'v4'::text, array[10])), 4, 'FREE''s rate for an address');
select is(tests.passed(array['::ffff:' || :'v4']), 0, 'that IPv6 maps, too');
select is(tests.passed(array[:'other_v4']), 1, 'another one is another one');
select is(tests.passed(array(select :'v6' || '::' || n from generate_series(1, 10) as n)), 4, 'of IPv6 the network counts');
select is(tests.passed(array[:'v6' || ':1::1']), 1, 'another network is another one');
select is(tests.passed(array['198.51.100.7, ' || :'v4']), 0, 'what a client says of itself does not count');

-- ---- who is deleted leaves accounting behind, and nothing else
select tests.act_as_superuser();
create function tests.left(subject uuid) returns setof text language plpgsql as $$
declare
  relation text;
  found_one boolean;
begin
  for relation in
    select c.table_name from information_schema.columns as c join information_schema.tables as t using (table_schema, table_name)
    where c.table_schema = 'kijko' and c.column_name = 'subject' and c.data_type = 'uuid' and t.table_type = 'BASE TABLE' and c.table_name !~ '^ledger_'
    order by 1
  loop
    execute format('select exists (select 1 from kijko.%I where subject = $1)', relation) into found_one using "left".subject;
    if found_one then return next relation; end if;
  end loop;
end
$$;
select tests.sign_up('fay');
select tests.org('fay') as gone \gset
select kijko.consume(:'gone', 'executions', 40, 'key');
select kijko.reserve(:'gone', 'executions', 1, '1 hour', 'hold');
select kijko.set_calendar(:'gone', 'Europe/Amsterdam');
select kijko.ingest_usage(:'gone', '[{"specversion": "1.0", "source": "/a", "id": "1", "type": "t"}]', '{"t": {"meter": "own.events"}}');
select kijko.set_limit(kijko.subject('user', tests.id('fay')), 'own.things', 'lifetime', 3);
select set_eq($$select tests.left('$$ || :'gone' || $$')$$,
  array['limits', 'tiers', 'calendars', 'holds', 'idempotency_keys', 'ingested_events', 'threshold_crossings', 'ledger'], 'what an organization has');
delete from public.organizations where id = :'gone';
select set_eq($$select tests.left('$$ || :'gone' || $$')$$, array['ledger'], 'a deleted one has its accounting');
select is((select sum(l.amount) from kijko.ledger as l where l.subject = :'gone' and l.meter = 'executions'), 40::numeric, 'as it was');
select is((select sum(l.amount) from kijko.ledger as l where l.subject = :'gone' and l.meter = 'members'), 0::numeric, 'and gauges that have come down');
select set_eq($$select tests.left(kijko.subject('user', tests.id('fay')))$$, array['limits'], 'what a user has');
delete from auth.users where id = tests.id('fay');
select is_empty($$select tests.left(kijko.subject('user', tests.id('fay')))$$, 'goes with the user');
select is_empty($$select tests.left(tests.id('fay'))$$, 'who never was a subject by their bare id');

-- ---- an id of one kind cannot be another's
select isnt(kijko.subject('user', tests.id('ada')), kijko.subject('project', tests.id('ada')), 'kinds are apart');
select throws_ok(
  $$insert into public.organizations (id, name) values (kijko.subject('user', tests.id('ada')), 'x')$$, '23514', null,
  'no organization has a subject of another kind for its id'
);
select tests.act_as('ada');
select throws_ok($$select kijko.set_tier(kijko.subject('user', tests.id('ada')), 'ENTERPRISE')$$, '42501', null, 'users cannot set their own tier');
select throws_ok($$select private.plans_push_user_tiers('{}')$$, '42501', null, 'nor has it set');
select throws_ok($$select kijko.delete_subject(tests.org('bob'))$$, '42501', null, 'or forget a subject');

-- ---- a plan that no organization has
select tests.act_as_superuser();
insert into public.plans (code, name, rank, rate_per_minute) values ('NOBODY', 'Nobody', 998, 60);
select lives_ok($$insert into public.plan_limits (plan, meter, period, amount) values ('NOBODY', 'projects', 'lifetime', 1)$$, 'a plan that nobody has gets limits');
select lives_ok($$delete from public.plan_limits where plan = 'NOBODY'$$, 'and loses them');
insert into public.plans (code, name, rank, rate_per_minute) values ('NOTHING', 'Nothing', 997, 60);
update public.subscriptions set plan = 'NOBODY' where org_id = tests.org('bob');
select lives_ok(format($$update public.subscriptions set plan = 'NOTHING' where org_id = %L$$, tests.org('bob')), 'from one plan without limits to another');

select * from finish();
rollback;
