begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada');
create function tests.pass(step interval) returns void language sql as $$
  select tests.travel(coalesce(nullif(current_setting('kijko.clock_offset', true), ''), '0')::interval + step)
$$;
create function tests.says(answer text) returns void language sql as $$
  update public.vat_checks as c set status = answer, consulted_at = kijko.now() where c.org_id = tests.org('ada') and c.status in ('pending', 'unavailable')
$$;
create function tests.rechecked(answer text) returns void language plpgsql as $$
begin
  perform private.vat_open_check(tests.org('ada'), 'DE136695976');
  perform tests.says(answer);
end
$$;
create function tests.credits() returns interval[] language sql as $$
  select array(select c.charged_until - c.charged_from from private.vat_credits_due(tests.org('ada')) as c order by c.charged_from)
$$;
create function tests.treatment() returns text language sql as $$ select t.treatment from private.vat_treatment(tests.org('ada')) as t $$;

select tests.act_as('ada', tests.org('ada'));
insert into public.billing_details (kind, name, country, vat_number) values ('business', 'Ada', 'DE', 'DE136695976');
select tests.act_as_superuser();
select tests.pass('2 hours');
select tests.says('valid');
select is(tests.credits(), '{2 hours}'::interval[], 'VAT since the number was given is credited once it is valid');

-- ---- a number that stays valid
select tests.pass('91 days');
select private.vat_recheck() is not null as asked \gset
select is(tests.treatment(), 'reverse_charge', 'while it is asked again, the former answer holds');
select tests.says('valid');
select is(tests.credits(), '{2 hours}'::interval[], 'and when it is valid again, no VAT was charged and none is credited');

-- ---- one that was invalid for a time
select tests.pass('1 day');
select tests.rechecked('invalid');
select is(tests.treatment(), 'oss', 'an invalid number pays VAT');
select tests.pass('3 hours');
select tests.rechecked('invalid');
select tests.pass('2 hours');
select tests.rechecked('valid');
select is(tests.credits(), '{2 hours,5 hours}'::interval[], 'from the first answer that it is invalid, VAT is credited');

-- ---- a number that is given up, and given again
update public.billing_details set vat_number = null where org_id = tests.org('ada');
select tests.pass('1 day');
update public.billing_details set vat_number = 'DE136695976' where org_id = tests.org('ada');
select is(tests.treatment(), 'reverse_charge', 'a number that was valid before counts at once');
select tests.pass('1 hour');
select tests.says('valid');
select is(tests.credits(), '{2 hours,5 hours}'::interval[], 'so nothing is credited');
select tests.pass('1 hour');
select tests.rechecked('invalid');
update public.billing_details set vat_number = null where org_id = tests.org('ada');
select tests.pass('1 day');
update public.billing_details set vat_number = 'DE136695976' where org_id = tests.org('ada');
select tests.pass('7 hours');
select tests.says('valid');
select is(tests.credits(), '{2 hours,5 hours,7 hours}'::interval[], 'after an invalid answer, since it was given again');

-- ---- which answers count: those of the number and the organization, before this one
select tests.sign_up('bob');
select tests.travel('0');
insert into public.billing_details (org_id, kind, name, country, vat_number) values (tests.org('bob'), 'business', 'Bob', 'DE', 'DE136695976');
create function tests.credit(former jsonb, since interval default '2 hours', number text default 'DE136695976') returns text language plpgsql as $$
begin
  delete from private.vat_credits;
  delete from public.vat_checks as c where c.org_id in (tests.org('ada'), tests.org('bob'));
  update public.billing_details as d set vat_number_since = kijko.now() - since where d.org_id = tests.org('ada');
  insert into public.vat_checks (org_id, vat_number, status, consulted_at)
  select tests.org(coalesce(f ->> 'who', 'ada')), coalesce(f ->> 'number', 'DE136695976'), f ->> 'status', kijko.now() - (f ->> 'ago')::interval from jsonb_array_elements(former) as f;
  insert into public.vat_checks (org_id, vat_number) values (tests.org('ada'), credit.number);
  update public.vat_checks as c set status = 'valid', consulted_at = kijko.now() where c.org_id = tests.org('ada') and c.status = 'pending';
  return (select string_agg(concat_ws(' ', c.country, kijko.now() - c.charged_from, kijko.now() - c.charged_until), ', ') from private.vat_credits as c);
end
$$;
select is(tests.credit(former, since), wanted, format('since %s, after %s', since, former))
from (values
  ('[]'::jsonb, interval '2 hours', 'DE 02:00:00 00:00:00'), ('[]', '1 microsecond', 'DE 00:00:00.000001 00:00:00'), ('[]', '0', null), ('[{"status": "invalid", "ago": "1 hour"}]', '2 hours', 'DE 02:00:00 00:00:00'),
  ('[{"status": "valid", "ago": "3 hours"}]', '4 hours', null), ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "1 hour"}]', '4 hours', 'DE 01:00:00 00:00:00'),
  ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "2 hours"}, {"status": "invalid", "ago": "1 hour"}]', '4 hours', 'DE 02:00:00 00:00:00'),
  ('[{"status": "valid", "ago": "5 hours"}, {"status": "invalid", "ago": "4 hours"}, {"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "1 hour"}]', '6 hours', 'DE 01:00:00 00:00:00'),
  ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "5 hours"}]', '6 hours', null), ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "3 hours"}]', '6 hours', null),
  ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "2 hours"}]', '1 hour', 'DE 01:00:00 00:00:00'),
  ('[{"status": "valid", "ago": "3 hours", "who": "bob"}]', '2 hours', 'DE 02:00:00 00:00:00'), ('[{"status": "valid", "ago": "3 hours", "number": "DE2"}]', '2 hours', 'DE 02:00:00 00:00:00'),
  ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "1 hour", "who": "bob"}]', '4 hours', null), ('[{"status": "valid", "ago": "3 hours"}, {"status": "invalid", "ago": "1 hour", "number": "DE2"}]', '4 hours', null)
) as v (former, since, wanted);
select is(tests.credit('[]', number => 'DE2'), null, 'a number that is no longer that of the details');

-- ---- what is due, of whom, and settled once
select tests.credit('[]');
insert into public.vat_checks (id, org_id, vat_number) values (tests.id('check'), tests.org('bob'), 'DE136695976');
insert into private.vat_credits (id, organization, check_id, vat_number, country, charged_from, charged_until) values (tests.id('credit'), tests.org('bob'), tests.id('check'), 'DE136695976', 'DE', now(), now());
create function tests.due(who text default null) returns text language sql as $$
  select string_agg(case d.org_id when tests.org('ada') then 'ada' else 'bob' end, ' ' order by d.org_id = tests.org('bob')) from private.vat_credits_due(case when who is not null then tests.org(who) end) as d
$$;
select is(tests.due(who), wanted, 'of ' || coalesce(who, 'all')) from (values (null, 'ada bob'), ('ada', 'ada'), ('bob', 'bob')) as v (who, wanted);
select is(private.vat_credits_settle(tests.id('credit'), 'cn_1'), true, 'one is settled');
select is(private.vat_credits_settle(tests.id('credit'), 'cn_2'), false, 'once');
select is((select array_agg(c.settled_with order by c.settled_with) from private.vat_credits as c), '{cn_1,null}', 'and no other');
select is(tests.due(who), wanted, 'then of ' || coalesce(who, 'all')) from (values (null, 'ada'), ('ada', 'ada'), ('bob', null)) as v (who, wanted);

select * from finish();
rollback;
