begin;
\ir 000_helpers.sql
select plan(13);

-- ---- how many organizations a user can create
select tests.sign_up('maker'), tests.sign_up('other');
create function tests.makes(n integer) returns integer language plpgsql as $$
declare
  made integer := 0;
begin
  for i in 1..n loop
    begin
      perform public.create_organization('made ' || i);
      made := made + 1;
    exception when sqlstate 'KJ429' then
      null;
    end;
  end loop;
  return made;
end
$$;
create function tests.plan_of(org uuid, plan text) returns void language sql security definer as $$
  update public.subscriptions as s set plan = plan_of.plan where s.org_id = plan_of.org
$$;
create function tests.a_made(who text) returns uuid language sql security definer as $$
  select o.id from public.organizations as o where o.created_by = tests.id(who) and o.personal_for is null limit 1
$$;
select tests.act_as('maker');
select is(tests.makes(5), 3, 'on FREE a user can create three organizations besides the personal one');
select is(tests.answer($$select public.create_organization('fourth')$$) - 'headers', '{"code": "quota_exceeded", "status": 429}', 'the fourth is refused with 429');
-- Handed over, it counts still.
select tests.a_made('maker') as handed_over \gset
select tests.act_as_superuser();
select tests.join_org('other', :'handed_over', 'owner');
delete from public.memberships where org_id = :'handed_over' and user_id = tests.id('maker');
select tests.act_as('maker');
select is(tests.makes(1), 0, 'a transferred organization still counts for its creator');
select tests.act_as('other');
select is(tests.makes(5), 3, 'a received organization does not count for the new owner');
select tests.act_as('maker');
select is(tests.changed($$delete from public.organizations where id = any (array(select o.id from public.organizations as o where o.name ~ '^made'))$$), 2::bigint, 'the creator deletes two organizations');
select is(tests.makes(5), 2, 'a deletion makes room');
select is(tests.changed($$delete from public.organizations where name ~ '^made'$$), 2::bigint, 'the creator deletes two more');
select is(tests.makes(5), 1, 'at most twice the limit can be created in a month');
select tests.act_as_superuser();
select tests.travel('31 days');
select tests.act_as('maker');
select is(tests.makes(5), 1, 'the next month allows more, up to the limit');
select tests.plan_of(tests.org('maker'), 'PRO');
select is(tests.makes(20), 7, 'the best plan of the owned organizations counts: ten on PRO');
select tests.plan_of(tests.org('maker'), 'FREE');
select tests.plan_of(:'handed_over', 'ENTERPRISE');
select tests.join_org('maker', :'handed_over', 'admin');
select is(tests.makes(1), 0, 'the plan of an organization that others own does not count');
select tests.act_as('other');
select is(tests.makes(60), 60, 'ENTERPRISE has no limit');
select tests.act_as_service();
select lives_ok($$insert into public.organizations (name, created_by) values ('by the back office', tests.id('maker'))$$, 'service_role is not limited');
select tests.act_as_superuser();
select tests.travel('0');

select * from finish();
rollback;
