begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as_superuser();
insert into public.features (code, name) values ('telepathy', 'Telepathy');
insert into public.plan_features (plan, feature) values ('TEAMS', 'telepathy');

create function tests.on_plan(plan text) returns void language sql security definer as $$ update public.subscriptions as s set plan = on_plan.plan where s.org_id = tests.org('ada') $$;

-- ---- who reads and writes
select tests.act_as('bob', tests.org('ada'));
select is(public.entitled('custom_roles'), false, 'a non-member does not learn what a plan includes');
select is((select count(*) from public.plan_overrides), 0::bigint, 'and sees no overrides');
select throws_ok(format($$insert into public.plan_overrides (org_id, meter, reason, ends_at) values (%L, 'projects', 'x', now() + interval '1 day')$$, tests.org('ada')), '42501', null, 'nor makes one');
select tests.act_as('ada', tests.org('ada'));
select throws_ok($$insert into public.plan_overrides (meter, reason, ends_at) values ('projects', 'x', now() + interval '1 day')$$, '42501', null, 'nor does an owner');
select throws_ok($$insert into public.plan_features (plan, feature) values ('FREE', 'telepathy')$$, '42501', null, 'or change the catalogue');
select ok(exists (select from public.features), 'everybody reads the catalogue');

-- ---- a plan decides, from the next statement on
select is(public.entitled('telepathy'), false, 'FREE does not include it');
select is(public.entitled('no_such_thing'), false, 'an unknown feature');
select is(public.entitled(null), false, 'null');
select is(kijko.entitled(null, 'telepathy'), false, 'no organization');
select tests.on_plan('TEAMS');
select is(public.entitled('telepathy'), true, 'TEAMS does, from the next statement on');
savepoint before;
select tests.on_plan('FREE');
select is(public.entitled('telepathy'), false, 'a downgrade takes it');
rollback to savepoint before;
select is(public.entitled('telepathy'), true, 'and when it rolls back, nothing sticks');

-- ---- in a policy
select tests.act_as_superuser();
create table public.thoughts (org_id uuid, thought text);
alter table public.thoughts enable row level security;
grant select, insert on public.thoughts to authenticated;
create policy thoughts_select on public.thoughts for select to authenticated
  using (org_id = any (array(select private.org_ids_with('skills:read'))) and (select public.entitled('telepathy')));
create policy thoughts_insert on public.thoughts for insert to authenticated with check (kijko.entitled(org_id, 'telepathy'));
select tests.act_as('mem', tests.org('ada'));
select lives_ok(format($$insert into public.thoughts values (%L, 'hello')$$, tests.org('ada')), 'a policy lets write with the feature');
select is((select count(*) from public.thoughts), 1::bigint, 'and read');
select tests.on_plan('PRO');
select is((select count(*) from public.thoughts), 0::bigint, 'without it nothing is seen');
select throws_ok(format($$insert into public.thoughts values (%L, 'again')$$, tests.org('ada')), '42501', null, 'or written');

-- ---- overrides of features
select tests.act_as_superuser();
select tests.refuses(format($$insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values (%L, 'telepathy', true, 'x', now() - interval '1 day')$$, tests.org('ada')), 'invalid_input', 'an end in the past');
select throws_ok(format($$insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values (%L, 'telepathy', true, ' ', now() + interval '1 day')$$, tests.org('ada')), '23514', null, 'no reason');
select throws_ok(format($$insert into public.plan_overrides (org_id, feature, meter, included, reason, ends_at) values (%L, 'telepathy', 'projects', true, 'x', now() + interval '1 day')$$, tests.org('ada')), '23514', null, 'two things at once');
select tests.refuses(format($$insert into public.plan_overrides (org_id, meter, reason, ends_at) values (%L, 'nonsense', 'x', now() + interval '1 day')$$, tests.org('ada')), 'invalid_input', 'a meter that nobody limits');
insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values (tests.org('ada'), 'telepathy', true, 'A test drive', kijko.now() + interval '7 days');
select throws_ok(format($$insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values (%L, 'telepathy', false, 'x', now() + interval '1 day')$$, tests.org('ada')), '23505', null, 'one at a time');
select tests.act_as('ada', tests.org('ada'));
select is(public.entitled('telepathy'), true, 'an override gives a feature');
select is((select o.reason from public.plan_overrides as o), 'A test drive', 'and the owner reads why');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.plan_overrides), 0::bigint, 'a member without billing:read does not');
select tests.on_plan('FREE');
select is(public.entitled('telepathy'), true, 'it survives a change of plan');
select tests.act_as_superuser();
select is((select a.after ->> 'reason' from public.audit_log as a where a.org_id = tests.org('ada') and a.action = 'plan_override.created'), 'A test drive', 'the audit log has it');
select private.plans_end_overrides();
select is(kijko.entitled(tests.org('ada'), 'telepathy'), true, 'maintenance leaves it until its end');
select tests.travel('7 days');
select private.plans_end_overrides();
select is(kijko.entitled(tests.org('ada'), 'telepathy'), false, 'and ends it then, from the next statement on');
select tests.refuses($$update public.plan_overrides set ended_at = null$$, 'conflict', 'what has ended does not come back');
insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values (tests.org('ada'), 'custom_roles', false, 'Abuse', kijko.now() + interval '7 days');
select is(kijko.entitled(tests.org('ada'), 'custom_roles'), false, 'an override can take a feature');

select tests.refuses($$update public.plan_overrides set ends_at = 'infinity' where ended_at is null$$, 'invalid_input', 'each has an end');
select tests.sign_up('ops');
insert into public.plan_overrides (org_id, feature, included, reason, ends_at, ended_at, created_by)
values (tests.org('ada'), 'sso', false, 'A mistake', kijko.now() + interval '7 days', kijko.now(), tests.id('ops'));
select lives_ok(format('delete from auth.users where id = %L', tests.id('ops')), 'who made an ended override can be deleted');

-- ---- overrides of limits
create function tests.limit_of(meter text) returns bigint language sql security definer as $$ select s.amount from kijko.limits as s where s.subject = tests.org('ada') and s.meter = limit_of.meter $$;
select is(tests.limit_of('projects'), 3::bigint, 'FREE has three projects');
insert into public.plan_overrides (org_id, meter, amount, reason, ends_at) values (tests.org('ada'), 'projects', 7, 'A migration', kijko.now() + interval '7 days');
select is(tests.limit_of('projects'), 7::bigint, 'an override has seven');
select tests.on_plan('PRO');
select is(tests.limit_of('projects'), 7::bigint, 'on another plan, too');
select is(tests.limit_of('skills'), 500::bigint, 'whose other limits apply');
update public.plan_limits set amount = 26 where plan = 'PRO' and meter = 'projects';
select is(tests.limit_of('projects'), 7::bigint, 'a change of the catalogue leaves it');
update public.plan_overrides set amount = null where meter = 'projects';
select is(tests.limit_of('projects'), null, 'null is unlimited');
select tests.travel('15 days');
select private.plans_end_overrides();
select is(tests.limit_of('projects'), 26::bigint, 'at its end the plan applies as it is then');
select is(kijko.entitled(tests.org('ada'), 'custom_roles'), true, 'and what was taken is back');

-- ---- of two organizations each has its own overrides, and their edges
insert into public.features (code, name) values ('clairvoyance', 'Clairvoyance');
insert into public.plan_overrides (org_id, meter, amount, feature, included, reason, ends_at)
select tests.org(who), meter, amount, feature, included, 'x', kijko.now() + interval '1 day'
from (values ('ada', 'projects', 8, null, null::boolean), ('bob', 'projects', 9, null, null), ('bob', 'skills', 99, null, null), ('bob', null, null, 'sso', false),
    ('ada', null, null, 'telepathy', true)) as v (who, meter, amount, feature, included);
select tests.on_plan('TEAMS');
select results_eq(
  $$select o.who, l.meter::text collate "default", l.amount from unnest('{ada,bob}'::text[]) as o (who) join kijko.limits as l on l.subject = tests.org(o.who) and l.meter in ('projects', 'skills') order by 1, 2$$,
  $$values ('ada', 'projects', 8::bigint), ('ada', 'skills', 5000), ('bob', 'projects', 9), ('bob', 'skills', 99)$$, 'limits'
);
select results_eq(
  $$select o.who, array_agg(f.code order by f.code) from unnest('{ada,bob}'::text[]) as o (who) join public.features as f on kijko.entitled(tests.org(o.who), f.code) group by 1 order by 1$$,
  $$values ('ada', '{audit_export,custom_roles,sso,telepathy}'::text[]), ('bob', '{audit_export,custom_roles}')$$, 'and features'
);
select tests.refuses(format($$insert into public.plan_overrides (org_id, meter, reason, ends_at) values (%L, 'habits', 'x', kijko.now())$$, tests.org('ada')), 'invalid_input', 'an end now is none in future');
select tests.refuses(format($$update public.plan_overrides set %s where org_id = %L and %s is not null and ended_at is null$$, change, tests.org('bob'), of), 'conflict', 'it stays of what it is: ' || change)
from (values ($$meter = 'habits'$$, 'meter'), ($$feature = 'telepathy'$$, 'feature')) as v (change, of);
update public.plan_overrides set ends_at = kijko.now() - interval '1 minute' where org_id in (tests.org('ada'), tests.org('bob')) and ended_at is null and feature is null;
select is(private.plans_end_overrides(2), 2, 'maintenance ends as many as it may');
update public.plan_overrides set ended_at = kijko.now() where org_id in (tests.org('ada'), tests.org('bob')) and ended_at is null;
select tests.on_plan('PRO');

-- ---- the catalogue, and what is checked
delete from public.plan_features where feature in ('custom_roles', 'sso', 'audit_export') and plan = 'PRO';
select tests.act_as('ada', tests.org('ada'));
select tests.refuses($$insert into public.custom_roles (name, permissions) values ('Own', '{skills:read}')$$, 'plan_required', 'custom roles');
select tests.refuses($$select public.enroll_issuer('https://login.example.com', '{kijko}')$$, 'plan_required', 'a login server');
select tests.refuses($$select public.export_audit_log()$$, 'plan_required', 'the export of the audit log');
select tests.act_as('bob', tests.org('ada'));
select throws_ok(format($$insert into public.custom_roles (org_id, name, permissions) values (%L, 'Own', '{skills:read}')$$, tests.org('ada')), '42501', null, 'a non-member learns nothing of the plan by it');
select tests.act_as_superuser();
insert into public.plan_features (plan, feature) values ('PRO', 'custom_roles');
select tests.act_as('ada', tests.org('ada'));
select lives_ok($$insert into public.custom_roles (name, permissions) values ('Own', '{skills:read}')$$, 'once the plan includes it');
select tests.act_as_superuser();
delete from public.plan_features where feature = 'custom_roles' and plan = 'PRO';
select tests.act_as('ada', tests.org('ada'));
select lives_ok($$update public.custom_roles set description = 'Still here'$$, 'a downgrade loses no data');

-- ---- the end of an organization
select tests.act_as_superuser();
select tests.org('bob') as gone \gset
insert into public.plan_overrides (org_id, meter, amount, reason, ends_at) values (:'gone', 'projects', 7, 'x', kijko.now() + interval '7 days');
insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values (:'gone', 'telepathy', true, 'x', kijko.now() + interval '7 days');
select tests.act_as('bob');
delete from public.organizations where id = tests.org('bob');
select tests.act_as_superuser();
delete from public.organizations where id = :'gone';
select is((select count(*) from kijko.entitlements as e where e.org_id = :'gone') + (select count(*) from kijko.limits as l where l.subject = :'gone'), 0::bigint, 'leaves nothing in the extension');

select * from finish();
rollback;
