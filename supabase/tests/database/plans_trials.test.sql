begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('eve');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as_superuser();
select is(private.plans_trial_allowed(tests.org('ada'), null), true, 'a new organization can have a trial');
select is(private.plans_trial_allowed(gen_random_uuid(), null), false, 'one that does not exist cannot');
select tests.refuses(format($$select private.plans_trial_begin(%L, 'card', '1 year')$$, tests.org('ada')), 'invalid_input', 'nor one of a year');
select is(private.plans_trial_begin(tests.org('ada'), 'card-1'), true, 'it begins');
select is(private.plans_trial_begin(tests.org('ada'), 'card-2'), false, 'once for the organization');
select is(private.plans_trial_allowed(tests.org('bob'), 'card-1'), false, 'once for the payment method');
select is(private.plans_trial_allowed(tests.org('bob'), 'card-2'), true, 'another one is free');
select is(private.plans_trial_allowed(tests.org('mem'), null), true, 'a member''s own organization is free, too');
select tests.act_as('ada');
select (public.create_organization('Second')).id as second \gset
select tests.act_as_superuser();
select is(private.plans_trial_allowed(:'second', 'card-3'), false, 'once for the user, also in a second organization');
update public.subscriptions set plan = 'PRO' where org_id = tests.org('bob');
select is(private.plans_trial_allowed(tests.org('bob'), 'card-2'), false, 'who pays already has none');
update public.subscriptions set plan = 'FREE' where org_id = tests.org('bob');

-- ---- the end, and its notices
select is((select count(*) from private.plan_trials as t where t.organization = tests.org('ada') and t.ended_at is null), 1::bigint, 'one runs');
select is(private.notifications_emit_trials(), 0, 'nobody is told early');
select tests.travel('11 days');
select is(private.notifications_emit_trials(), 1, 'three days before the end it is told');
select is(private.notifications_emit_trials(), 0, 'once');
select is((select n.permission from public.notifications as n where n.type = 'trial.ending' and n.org_id = tests.org('ada')), 'billing:read', 'to who sees billing');
select tests.travel('14 days');
select cmp_ok(private.plans_maintain_trials(), '>=', 1, 'after 14 days');
select is((select t.ended_at = t.ends_at from private.plan_trials as t where t.organization = tests.org('ada')), true, 'it ends');
select is(private.plans_trial_end(tests.org('ada')), false, 'once');
select is(private.notifications_emit_trials(), 1, 'and is told');
select is((select count(*) from public.notifications as n where n.type = 'trial.ended'), 1::bigint, 'as ended');
select is(private.plans_trial_begin(tests.org('bob'), 'card-2'), true, 'another');
select is(private.plans_trial_end(tests.org('bob')), true, 'can end early');
select is(private.notifications_emit_trials(), 0, 'of which nobody is told');
select tests.refuses(format($$select private.plans_trial_begin(%L, null, '90 days 1 microsecond')$$, tests.org('eve')), 'invalid_input', 'none is longer than 90 days');
select is(private.plans_trial_begin(tests.org('eve'), null, '90 days'), true, 'one of exactly 90 days begins');
create function tests.trial(who text) returns private.plan_trials language sql as $$ select t from private.plan_trials as t where t.organization = tests.org(who) $$;
select (tests.trial('bob')).ended_at as ended, (tests.trial('eve')).ends_at as ends \gset
select tests.travel((tests.trial('eve')).ends_at - now() - interval '1 microsecond');
select private.plans_maintain_trials();
select is((tests.trial('eve')).ended_at, null, 'the trial runs');
select is((tests.trial('bob')).ended_at, :'ended'::timestamptz, 'and one that ended early keeps its end');
select tests.travel(:'ends'::timestamptz - now());
select is(private.plans_maintain_trials(), 1, 'at its end it is ended');
select is(private.plans_maintain_trials(), 0, 'once');

-- ---- what a trial is, whom it counts for, and its payment method
select tests.sign_up(u) from unnest(array['fay', 'gus', 'hal', 'ivy']) as u;
select tests.join_org('gus', tests.org('fay'), 'owner'), tests.join_org('ivy', tests.org('fay'), 'member');
select tests.refuses(s, 'invalid_input', 'no trial: ' || s)
from unnest(array[
  format('select private.plans_trial_begin(%L, null, null)', tests.org('fay')), format('select private.plans_trial_begin(%L, null, %L)', tests.org('fay'), '0'),
  'select private.plans_trial_begin(null, null)'
]) as s;
select is(private.plans_trial_begin(tests.org('fay'), null, '30 days'), true, 'a trial begins without a payment method');
select is(private.plans_trial_begin(tests.org('hal'), null, '30 days'), true, 'and another one');
select is((select array_agg(u.user_id order by u.user_id) from private.plan_trial_users as u where u.trial_id = (tests.trial('fay')).id),
  (select array_agg(tests.id(n) order by tests.id(n)) from unnest('{fay,gus}'::text[]) as n), 'it counts for all owners, and for no other member');
select is(private.plans_trial_allowed(tests.org('gus'), null), false, 'so that none of them has another');
select is(private.plans_trial_identify(tests.org('fay'), card), known, 'a payment method: ' || coalesce(card, 'none'))
from (values (null, true), ('card-2', false), ('card-9', true), ('card-9', true), ('card-10', true)) as v (card, known);
select is((tests.trial('fay')).fingerprint_hash, sha256('card-9'), 'the first that nobody else had a trial with is recorded, once');
select is(num_nonnulls((tests.trial('hal')).fingerprint_hash, (tests.trial('eve')).fingerprint_hash), 0, 'for this trial alone');
select is(private.plans_trial_end(tests.org('hal')), true, 'one ends');
select is((tests.trial('fay')).ended_at, null, 'the other runs on');
select is(private.plans_trial_identify(tests.org('hal'), 'card-11'), true, 'a payment method after the end');
select is((tests.trial('hal')).fingerprint_hash, null, 'is not recorded');
select ok(
  exists (
    select from pg_locks as l
    where l.locktype = 'advisory' and l.pid = pg_backend_pid() and (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('plan_trials/card-1', 0)
  ), 'two trials with one payment method begin one after the other'
);
-- The edge of the retention, and rows that still say something about somebody.
insert into private.plan_trials (id, fingerprint_hash, started_at, ends_at, ended_at)
select gen_random_uuid(), sha256(name::bytea), at, at + interval '1 day', at + interval '1 day'
from (values ('edge', kijko.now() - interval '3 years'), ('past', kijko.now() - interval '3 years' - interval '1 microsecond')) as v (name, at);
insert into private.plan_trials (id, ends_at, ended_at) values (tests.id('trial of ivy'), kijko.now() + interval '1 day', kijko.now());
insert into private.plan_trial_users (user_id, trial_id) values (tests.id('ivy'), tests.id('trial of ivy'));
select private.plans_maintain_trials();
select is(
  (select array_agg(n order by n) from private.plan_trials as t join unnest('{edge,past,card-9}'::text[]) as n on t.fingerprint_hash = sha256(n::bytea)),
  '{card-9,edge}', 'a payment method is kept for three years to the microsecond'
);
select ok(exists (select from private.plan_trials as t where t.id = tests.id('trial of ivy')), 'a trial without an organization still counts for its user');
select is((tests.trial('fay')).organization, tests.org('fay'), 'and one without users for its organization');
delete from private.plan_trials as t where t.fingerprint_hash = sha256('edge') or t.id = tests.id('trial of ivy');

-- ---- privacy: the hash stays for three years, without a name
delete from public.organizations where id = :'second';
select tests.org('ada') as gone \gset
delete from public.organizations where id = :'gone';
delete from auth.users where id = tests.id('ada');
select is((select row(t.organization is null, t.fingerprint_hash is not null)::text from private.plan_trials as t where t.fingerprint_hash = sha256('card-1')), '(t,t)', 'a deleted organization leaves the hash');
select is((select count(*) from private.plan_trials as t where t.fingerprint_hash = 'card-1'), 0::bigint, 'never the fingerprint');
select is(private.plans_trial_allowed(tests.org('mem'), 'card-1'), false, 'so the card has no second trial');
select tests.travel('1400 days');
select private.plans_maintain_trials();
select is((select count(*) from private.plan_trials as t where t.fingerprint_hash is not null), 0::bigint, 'after three years it is gone');
select is(private.plans_trial_allowed(tests.org('mem'), 'card-1'), true, 'and the card is free');
select is((select count(*) from private.plan_trials as t where t.organization is null), 0::bigint, 'a row about nobody goes');

select * from finish();
rollback;
