-- What fails with one organization's row stops no other's, and no schedule waits for a lock for long.
begin;
\ir 000_helpers.sql
select no_plan();

select is_empty(
  $$select j.jobname from cron.job as j where j.username = 'postgres' and j.jobname like 'kijko-%' and j.command not like '%set lock_timeout%' and j.command like '%private.%'$$,
  'every schedule gives up what it waits for: private.schedule()'
);

select tests.sign_up('ada'), tests.sign_up('bob');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
create function tests.refuse_ada() returns trigger language plpgsql as $$
begin
  if new.org_id = tests.org('ada') then
    raise exception 'a fault of one organization';
  end if;
  return new;
end
$$;

-- ---- approvals
insert into public.approvals (org_id, kind, subject_id, title, change, expires_at)
select tests.org(w.who), 'blog_post', gen_random_uuid(), 'x', '{}', kijko.now() - w.age
from (values ('ada', interval '2 hours'), ('bob', interval '1 hour')) as w (who, age);
create trigger refuse_ada before update on public.approvals for each row execute function tests.refuse_ada();
select lives_ok('select private.approvals_maintain()', 'an approval that cannot expire');
select results_eq(
  $$select a.status from public.approvals as a where a.org_id in (tests.org('ada'), tests.org('bob')) order by a.expires_at$$, '{pending,expired}'::text[],
  'stops that of no other organization'
);

-- ---- overrides
insert into public.plan_overrides (org_id, meter, amount, reason, ends_at)
select tests.org(w.who), 'projects', 9, 'x', kijko.now() + w.after
from (values ('ada', interval '1 second'), ('bob', interval '2 seconds')) as w (who, after);
create trigger refuse_ada before update on public.plan_overrides for each row execute function tests.refuse_ada();
set local kijko.clock_offset = '1 minute';
select lives_ok('select private.plans_end_overrides()', 'an override that cannot end');
select results_eq(
  $$select o.ended_at is not null from public.plan_overrides as o where o.org_id in (tests.org('ada'), tests.org('bob')) order by o.ends_at$$,
  '{f,t}'::boolean[], 'stops that of no other organization'
);
reset kijko.clock_offset;

-- ---- posts
select tests.act_as('ada', tests.org('ada'));
select id as ada_post from public.create_post('Ada', '{"content_markdown": "x"}') \gset
select tests.act_as('bob', tests.org('bob'));
select id as bob_post from public.create_post('Bob', '{"content_markdown": "x"}') \gset
select tests.act_as_superuser();
select private.blog_record_render(p.id, p.content_hash, '<p>x</p>', 1) from public.blog_posts as p where p.id in (:'ada_post', :'bob_post');
update public.blog_posts set status = 'scheduled', scheduled_at = kijko.now() - case when title = 'Ada' then interval '2 hours' else interval '1 hour' end
where id in (:'ada_post', :'bob_post');
create trigger a_refuse_ada before update on public.blog_posts for each row execute function tests.refuse_ada();
select lives_ok('select private.blog_maintain()', 'a post that cannot be published');
select results_eq(
  format('select status from public.blog_posts where id in (%L, %L) order by title', :'ada_post', :'bob_post'), '{scheduled,published}'::text[],
  'stops that of no other organization'
);

-- ---- the steps of billing
create or replace function private.billing_settle(max_effects integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$ begin raise exception 'a fault of one step'; end $$;
create or replace function private.billing_remind(max_reminders integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$ begin perform set_config('tests.reminded', 'yes', true); return 0; end $$;
-- pg_cron may be at it.
select pg_advisory_xact_lock(hashtext('kijko.billing.tick')) is not null as alone \gset
select lives_ok('select private.billing_tick()', 'a step of billing that fails');
select is(current_setting('tests.reminded', true), 'yes', 'does not stop the last one');

select * from finish();
rollback;
