-- Social posts whose outcome is looked up: after the restore of a backup, whose lost database may have published them, and at a price.
begin;
\ir 000_helpers.sql
select plan(25);

select tests.sign_up('ada');
insert into public.social_posts (org_id, platform, text, status, scheduled_at)
select tests.org('ada'), 'twitter', 'Restored ' || n, case when n in (2, 4) then 'publishing' else 'scheduled' end, now() + make_interval(hours => case n when 3 then 1 else -1 end)
from generate_series(1, 5) as n;
-- Of 4 a create call is known, 5 waits in the queue as the lost database left it.
insert into private.social_publications (post_id, organization, create_id, create_deadline)
select p.id, p.org_id, tests.id('call'), now() - interval '1 minute' from public.social_posts as p where p.text = 'Restored 4';
select private.social_enqueue(p) is not null as queued from public.social_posts as p where p.text = 'Restored 5' \gset

select tests.act_as('ada');
insert into public.social_posts (platform, text, hashtags) values ('facebook', repeat(chr(1), 60000), array(select repeat('é', 60) || n from generate_series(1, 60) as n)) returning id as long \gset
select lives_ok(format('select public.submit_social_post(%L)', :'long'), 'whatever a post says, its approval can be asked for');
select throws_ok('select private.social_doubt_restored()', '42501', null, 'only the operator doubts');
select tests.act_as_superuser();
set local session authorization postgres;
select throws_ok('select private.social_doubt_restored()', 'KJ409', null, 'and nobody doubts what workers publish');
select private.jobs_pause_queue('restored');
select is(private.social_doubt_restored(), 2, 'posts that were due, and that the lost database may have published');
select is(
  (select array_agg(p.status order by p.text) from public.social_posts as p where p.text like 'Restored %'), '{unconfirmed,unconfirmed,scheduled,publishing,scheduled}',
  'wait for a member; of others the platform is asked, and later ones wait for their time'
);
select is(private.social_tick() >= 0 and not exists (
  select from public.social_posts as p where p.text in ('Restored 1', 'Restored 2') and private.social_is_queued(p)
), true, 'and no worker publishes them');

-- ---- X charges for the posts that it shows
select tests.act_as_anon();
select throws_ok(format('select private.social_charge_reads(%L, %L, 1)', tests.id('call'), tests.id('look')), '42501', null, 'nobody but the worker charges');
select throws_ok(format('select private.social_reserve_reads(%L, 1)', tests.id('call')), '42501', null, 'or reserves');
select tests.act_as_sidecar();
select is(private.social_reserve_reads(tests.id('call'), 100), true, 'what a look may cost is held');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 100000::bigint, 'by the price of a post');
select is(private.social_reserve_reads(tests.id('call'), 100), true, 'a worker died while it looked, and another looks');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 100000::bigint, 'which is one hold');
select is(private.social_reserve_reads(gen_random_uuid(), 1), false, 'nobody looks for a post that is known');
select is(private.social_charge_reads(tests.id('call'), tests.id('look'), 3), true, 'a look is charged');
select is(private.social_charge_reads(tests.id('call'), tests.id('look'), 3), false, 'once');
select is(private.social_charge_reads(gen_random_uuid(), gen_random_uuid(), 3), false, 'of a call that is known');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 3000::bigint, 'by what it has read, of what was held');
select is(private.social_reserve_reads(tests.id('call'), 498), false, 'the platform is not asked beyond the plan');
select is(private.social_reserve_reads(tests.id('call'), 497), true, 'up to it, it is');
select is(private.social_charge_reads(tests.id('call'), gen_random_uuid(), 0), false, 'a look that has shown nothing');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 3000::bigint, 'costs nothing');
select tests.act_as_superuser();
update private.social_publications set own_application = true where create_id = tests.id('call');
select is(private.social_reserve_reads(tests.id('call'), 100), true, 'on its own application an organization pays the platform itself');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 3000::bigint, 'so nothing is held');
update private.social_publications set own_application = false where create_id = tests.id('call');
select is((select p.cost_microusd from public.social_posts as p where p.text = 'Restored 4'), 3000::bigint, 'which is a cost of the post');

-- ---- a token that is refused again and again
create function tests.waits(n integer) returns integer[] language plpgsql as $$
declare
  waits integer[] := '{}'::integer[];
begin
  for i in 1 .. n loop
    perform private.social_fail(p, 'reauthorize', 'token_refused', 'no', 401, null) from public.social_posts as p where p.text = 'Restored 4';
    waits := waits || (select extract(epoch from p.publish_after - kijko.now())::integer from public.social_posts as p where p.text = 'Restored 4');
  end loop;
  return waits;
end
$$;
select is(tests.waits(5), '{0,60,180,420,420}', 'is tried less and less often');
select * from finish();
rollback;
