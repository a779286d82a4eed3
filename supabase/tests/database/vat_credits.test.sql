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

select * from finish();
rollback;
