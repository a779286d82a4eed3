-- What VIES answers about a number, what is made of it, and when it is asked again: each rule at its edges, beside rows of others.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
update private.vat_settings set seller_vat_number = 'NL004495445B01';
-- What other tests have left on the stack must not matter.
delete from private.vat_check_requests;
insert into public.billing_details (org_id, kind, name, country, vat_number) select tests.org(u), 'business', u, 'DE', 'DE136695976' from unnest('{ada,bob}'::text[]) as u;

-- ---- the answer itself: only a boolean about this number, without an error, says something of it
create function tests.reads(status integer, body text) returns text language sql as $$
  select concat_ws(' ', a.outcome, a.error) from private.vat_read_answer('DE136695976', reads.status, reads.body) as a
$$;
create function tests.vies(more jsonb default '{}') returns text language sql as $$ select ('{"countryCode": "DE", "vatNumber": "136695976", "valid": true}' || more)::text $$;
select is(tests.reads(status, body), wanted, format('%s %s', status, body))
from (values
  (null, null, 'unavailable NO_ANSWER'), (503, 'down', 'unavailable HTTP_503'), (200, '[]', 'unavailable HTTP_200'), (200, tests.vies(), 'valid'), (299, tests.vies('{"valid": false}'), 'invalid'),
  (200, tests.vies('{"countryCode": "de"}'), 'valid'), (200, tests.vies('{"userError": "VALID"}'), 'valid'), (200, tests.vies('{"userError": "INVALID", "valid": false}'), 'invalid'),
  (200, tests.vies('{"userError": "MS_UNAVAILABLE"}'), 'unavailable MS_UNAVAILABLE'), (200, tests.vies('{"errorWrappers": [{"error": "GLOBAL_MAX_CONCURRENT_REQ"}]}'), 'unavailable GLOBAL_MAX_CONCURRENT_REQ'),
  (400, '{"errorWrappers": [{"error": "INVALID_INPUT"}]}', 'invalid INVALID_INPUT'), (200, tests.vies('{"actionSucceed": false}'), 'unavailable HTTP_200'), (null, tests.vies(), 'unavailable NO_ANSWER'),
  (199, tests.vies(), 'unavailable HTTP_199'), (300, tests.vies(), 'unavailable HTTP_300'), (200, tests.vies('{"valid": "true"}'), 'unavailable HTTP_200'), (200, tests.vies('{"vatNumber": "136695977"}'), 'unavailable OTHER_NUMBER'),
  (200, tests.vies() || 'x', 'unavailable HTTP_200')
) as v (status, body, wanted);
select is(private.vat_given(jsonb_build_object('name', n), 'name', 5), wanted, coalesce(n, 'null')) from (values (E' Ada\n', 'Ada'), ('Ada Lovelace', 'Ada L'), ('---', null), (' ', null), (null, null)) as v (n, wanted);
select is((select count(*) from generate_series(1, 200) where private.vat_backoff(n) not between pause * 0.8 and pause * 1.2), 0::bigint, format('after %s attempts about %s', n, pause))
from (values (0, interval '1 minute'), (1, '1 minute'), (2, '5 minutes'), (6, '12 hours'), (7, '1 day'), (8, '1 day')) as v (n, pause);

-- ---- checks: of ada's number and pending, unless they say otherwise; "sent" have a request, "waits" says how long one waits for its next attempt
create function tests.check_id(n bigint) returns uuid language sql as $$ select md5(tests.org('ada')::text || n)::uuid $$;
create function tests.checks(rows jsonb) returns void language plpgsql as $$
begin
  delete from kijko.http_requests as h where h.idempotency_key like any (array(select format('vies/%s/%%', tests.check_id(n)) from generate_series(1, 9) as n));
  delete from public.vat_checks as c where c.org_id in (tests.org('ada'), tests.org('bob'));
  update public.billing_details as d set vat_number_status = 'pending' where d.org_id in (tests.org('ada'), tests.org('bob'));
  insert into public.vat_checks
  select (jsonb_populate_record(null::public.vat_checks, jsonb_build_object(
    'id', tests.check_id(n), 'org_id', tests.org(coalesce(r ->> 'who', 'ada')), 'vat_number', 'DE136695976', 'status', 'pending', 'attempts', 0, 'created_at', kijko.now(), 'updated_at', kijko.now()
  ) || r || case when r ? 'ago' then jsonb_build_object('consulted_at', kijko.now() - (r ->> 'ago')::interval) else '{}' end)).*
  from jsonb_array_elements(rows) with ordinality as e (r, n) order by n;
  insert into private.vat_check_requests (organization, check_id, next_attempt_at)
  select tests.org(coalesce(r ->> 'who', 'ada')), tests.check_id(n), clock_timestamp() + coalesce((r ->> 'waits')::interval, '0')
  from jsonb_array_elements(rows) with ordinality as e (r, n) where r ? 'sent' or r ? 'waits';
  perform private.vat_send_check(tests.org(coalesce(r ->> 'who', 'ada')), tests.check_id(n)) from jsonb_array_elements(rows) with ordinality as e (r, n) where r ? 'sent';
end
$$;
create function tests.checks_now() returns text language sql as $$
  select string_agg(concat_ws(' ', n, c.status, c.attempts, c.error, case when r.request_id is not null then 'sent' when r.check_id is not null then 'waits' end), ', ' order by n)
  from generate_series(1, 9) as n join public.vat_checks as c on c.id = tests.check_id(n) left join private.vat_check_requests as r on r.check_id = c.id
$$;
-- As the outbox ends a request.
create function tests.answers(n bigint, status integer, body text, state text default 'succeeded', error_code text default null) returns void language sql as $$
  insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, status, body, error_code)
  select r.request_id, 1, clock_timestamp(), 1, answers.status, convert_to(answers.body, 'UTF8'), answers.error_code from private.vat_check_requests as r where r.check_id = tests.check_id(n);
  update kijko.http_requests as h set state = answers.state, attempts = 1, ended_at = case when answers.state <> 'pending' then clock_timestamp() end
  from private.vat_check_requests as r where r.check_id = tests.check_id(n) and h.id = r.request_id;
$$;
create function tests.asked_with(n bigint) returns text language sql as $$
  select concat_ws(' ', h.body::jsonb ->> 'requesterMemberStateCode', h.body::jsonb ->> 'requesterNumber') from private.vat_check_requests as r join kijko.http_requests as h on h.id = r.request_id where r.check_id = tests.check_id(n)
$$;

-- ---- one is sent: that of the organization, with the seller's number unless VIES has refused it
select tests.checks('[{"waits": "0"}, {"vat_number": "DE2", "waits": "0"}, {"who": "bob", "waits": "0"}]');
select private.vat_send_check(tests.org('ada'), tests.check_id(1));
select is(tests.checks_now(), '1 pending 1 sent, 2 pending 0 waits, 3 pending 0 waits', 'one of three');
select is(tests.asked_with(1), 'NL 004495445B01', 'by the seller''s number');
select tests.checks('[{"sent": true, "error": "INVALID_REQUESTER_INFO"}]');
select is(tests.asked_with(1), '', 'not by one that VIES has refused');
select tests.checks('[{"sent": true, "error": "MS_UNAVAILABLE"}]');
select is(tests.asked_with(1), 'NL 004495445B01', 'but after another failure');
update private.vat_settings set seller_vat_number = null;
select tests.checks('[{"sent": true}]');
select is(tests.asked_with(1), '', 'nor by one that the seller has not');

-- ---- one of a number is open at a time
select tests.checks('[{"status": "valid", "ago": "1 day"}, {"who": "bob"}, {"vat_number": "DE2"}, {"status": "unavailable"}]');
select is((private.vat_open_check(tests.org('ada'), 'DE136695976')).id, tests.check_id(4), 'the open one of the number');
select tests.checks('[{"status": "valid", "ago": "1 day"}, {"who": "bob"}, {"vat_number": "DE2"}]');
select is((select concat_ws(' ', c.status, c.attempts, c.vat_number, c.org_id = tests.org('ada')) from private.vat_open_check(tests.org('ada'), 'DE136695976') as c), 'pending 1 DE136695976 t', 'or a new one, which is sent');

-- ---- an answer is taken over once it has come, of this check
create function tests.takes(status integer, body text, state text default 'succeeded', error_code text default null) returns text language plpgsql as $$
declare
  outcome text;
begin
  perform tests.checks('[{"sent": true}, {"vat_number": "DE2", "sent": true}, {"who": "bob", "sent": true}]');
  perform tests.answers(1, takes.status, takes.body, takes.state, takes.error_code), tests.answers(3, 200, tests.vies('{"valid": false}'));
  outcome := private.vat_take_answer(tests.org('ada'), tests.check_id(1));
  return concat_ws('; ', outcome, tests.checks_now());
end
$$;
select is(tests.takes(status, body, state, code), wanted, format('%s %s %s %s', status, body, state, code))
from (values
  (200, tests.vies(), 'succeeded', null, 'valid; 1 valid 1, 2 pending 1 sent, 3 pending 1 sent'), (200, tests.vies('{"valid": false}'), 'succeeded', null, 'invalid; 1 invalid 1, 2 pending 1 sent, 3 pending 1 sent'),
  (null, null, 'pending', null, '1 pending 1 sent, 2 pending 1 sent, 3 pending 1 sent'), (null, null, 'dead', 'unreachable', 'unavailable; 1 unavailable 1 unreachable waits, 2 pending 1 sent, 3 pending 1 sent'),
  (503, 'down', 'dead', 'status', 'unavailable; 1 unavailable 1 HTTP_503 waits, 2 pending 1 sent, 3 pending 1 sent'), (null, null, 'dead', null, 'unavailable; 1 unavailable 1 NO_ANSWER waits, 2 pending 1 sent, 3 pending 1 sent'),
  (400, '{"errorWrappers": [{"error": "INVALID_INPUT"}]}', 'dead', 'status', 'invalid; 1 invalid 1 INVALID_INPUT, 2 pending 1 sent, 3 pending 1 sent')
) as v (status, body, state, code, wanted);
select tests.takes(503, 'down', 'dead', 'status') as taken \gset
select is((select r.next_attempt_at > clock_timestamp() + interval '30 seconds' from private.vat_check_requests as r where r.check_id = tests.check_id(1)), true, 'without an answer, it is asked again later');
select is(private.vat_take_answer(tests.org('ada'), tests.check_id(1)), null, 'none that was taken over already')
from (select tests.takes(200, tests.vies())) as taken;
select tests.checks('[{"waits": "0"}]');
select is(private.vat_take_answer(tests.org('ada'), tests.check_id(1)), null, 'none to a question that waits');
-- An operator writes down an answer by hand. What the open question brings back does not undo it, nor is it asked again.
create function tests.write_down() returns void language sql as $$
  update public.vat_checks as c set status = 'valid', consulted_at = kijko.now() where c.id = tests.check_id(1)
$$;
select tests.checks('[{"sent": true}, {"vat_number": "DE2", "sent": true}]'), tests.write_down(), tests.answers(1, 503, 'down', 'dead', 'status');
select is(private.vat_take_answer(tests.org('ada'), tests.check_id(1)), 'valid', 'an answer that was written down stays');
select is(tests.checks_now(), '1 valid 1, 2 pending 1 sent', 'its question ends');
select tests.checks('[{"waits": "0"}, {"vat_number": "DE2", "waits": "0"}]'), tests.write_down(), private.vat_send_check(tests.org('ada'), tests.check_id(1));
select is(tests.checks_now(), '1 valid 0, 2 pending 0 waits', 'and one that waits is not sent');
-- Two of one moment keep their order, among those of the number and the organization.
create function tests.taken_at(former jsonb) returns interval language plpgsql as $$
begin
  perform tests.checks('[{"sent": true}]'::jsonb || former);
  perform tests.answers(1, 200, tests.vies());
  perform private.vat_take_answer(tests.org('ada'), tests.check_id(1));
  return (select c.consulted_at - kijko.now() from public.vat_checks as c where c.id = tests.check_id(1));
end
$$;
select is(tests.taken_at(former), wanted, 'beside ' || former::text)
from (values
  ('[]'::jsonb, interval '0'), ('[{"status": "invalid", "ago": "0"}]', '1 microsecond'), ('[{"status": "invalid", "ago": "-1 hour"}]', '1 hour 0.000001 seconds'), ('[{"status": "invalid", "ago": "1 microsecond"}]', '0'),
  ('[{"status": "invalid", "ago": "1 second"}]', '0'), ('[{"status": "invalid", "ago": "-1 hour", "vat_number": "DE2"}]', '0'), ('[{"status": "invalid", "ago": "-1 hour", "who": "bob"}]', '0')
) as v (former, wanted);
select is((select c.org_id = tests.org('bob') from public.vat_checks as c where c.id = tests.check_id(2)), true, 'the last of which was bob''s');

-- ---- those that have come, and those whose request is gone; not what is on its way or waits
select tests.checks('[{"sent": true}, {"vat_number": "DE2", "sent": true}, {"vat_number": "DE3", "waits": "1 hour"}, {"vat_number": "DE4", "sent": true}]');
select tests.answers(1, 200, tests.vies());
update private.vat_check_requests as r set request_id = gen_random_uuid() where r.check_id = tests.check_id(4);
select is(private.vat_collect_answers(), 2, 'two of four');
select is(tests.checks_now(), '1 valid 1, 2 pending 1 sent, 3 pending 0 waits, 4 unavailable 1 NO_ANSWER waits', 'the valid one and the lost one');

-- ---- a question whose pause is over is asked again
select tests.checks('[{"waits": "-1 second"}, {"vat_number": "DE2", "waits": "1 hour"}, {"vat_number": "DE3", "sent": true}]');
update private.vat_check_requests as r set next_attempt_at = clock_timestamp() - interval '1 day' where r.check_id = tests.check_id(3);
select is(private.vat_send_due(), 1, 'one');
select is(tests.checks_now(), '1 pending 1 sent, 2 pending 0 waits, 3 pending 1 sent', 'one of three');

-- ---- an answer is asked for again after ninety days, if none is open
create function tests.rechecks(rows jsonb, status text default 'valid') returns boolean language plpgsql as $$
declare
  opened integer;
begin
  perform tests.checks(rows);
  update public.billing_details as d set vat_number_status = rechecks.status where d.org_id = tests.org('ada');
  opened := private.vat_recheck();
  return opened > 0 and exists (
    select from public.vat_checks as c where c.org_id = tests.org('ada') and c.vat_number = 'DE136695976' and c.status = 'pending'
      and c.id <> all (array(select tests.check_id(n) from generate_series(1, 9) as n))
  );
end
$$;
select is(tests.rechecks(rows, status), wanted, format('%s, details %s', rows, status))
from (values
  ('[{"status": "valid", "ago": "90 days"}]'::jsonb, 'valid', true), ('[{"status": "valid", "ago": "89 days 23:59:59.999999"}]', 'valid', false), ('[{"status": "invalid", "ago": "90 days"}]', 'invalid', true),
  ('[{"status": "valid", "ago": "90 days"}]', 'pending', false), ('[{"status": "valid", "ago": "91 days"}, {}]', 'valid', false), ('[{"status": "valid", "ago": "91 days"}, {"status": "unavailable"}]', 'valid', false),
  ('[{"status": "valid", "ago": "91 days"}, {"status": "valid", "ago": "1 day"}]', 'valid', false), ('[{"status": "valid", "ago": "91 days"}, {"status": "valid", "ago": "1 day", "who": "bob"}]', 'valid', true),
  ('[{"status": "valid", "ago": "91 days"}, {"status": "valid", "ago": "1 day", "vat_number": "DE2"}]', 'valid', true), ('[{"status": "valid", "ago": "91 days"}, {"who": "bob"}]', 'valid', true)
) as v (rows, status, wanted);

-- ---- a member asks again: what has come is taken over, and a new question waits a minute
create function tests.asks(rows jsonb) returns text language plpgsql as $$
declare
  checked public.vat_checks;
begin
  perform tests.act_as_superuser();
  perform tests.checks(rows);
  perform tests.answers(n, 200, tests.vies()) from jsonb_array_elements(rows) with ordinality as e (r, n) where r ? 'sent';
  perform tests.act_as('ada', tests.org('ada'));
  checked := public.check_vat_number();
  perform tests.act_as_superuser();
  return concat_ws(' ', coalesce((select n::text from generate_series(1, 9) as n where tests.check_id(n) = checked.id), 'new'), checked.status);
end
$$;
select is(tests.asks(rows), wanted, rows::text)
from (values
  ('[{"sent": true}]'::jsonb, '1 valid'), ('[{"status": "unavailable", "waits": "1 hour"}]', '1 unavailable'), ('[{"status": "valid", "ago": "1 minute"}]', '1 valid'), ('[{"status": "valid", "ago": "1 minute 0.000001 seconds"}]', 'new pending'),
  ('[]', 'new pending'), ('[{"status": "valid", "ago": "1 second", "who": "bob"}, {"status": "valid", "ago": "1 second", "vat_number": "DE2"}]', 'new pending'),
  ('[{"status": "valid", "ago": "2 days"}, {"status": "invalid", "ago": "1 second"}]', '2 invalid'), ('[{"status": "valid", "ago": "1 second"}, {"sent": true}]', '2 valid')
) as v (rows, wanted);

select count(tests.asks('[]')) as asked from generate_series(1, 7) \gset
select tests.refuses($$select tests.asks('[]')$$, 'rate_limited', 'the eleventh new question in an hour');
select tests.act('authenticated', tests.token('authenticated'), tests.org('ada'));
select tests.refuses('select public.check_vat_number()', 'not_identified', 'a session that has ended');
select tests.act_as_superuser();

-- ---- what the details show: the answer of their number and organization, and while there is none, the former one
create function tests.shows(former jsonb, status text, number text default 'DE136695976') returns text language plpgsql as $$
begin
  delete from public.notifications as n where n.type = 'vat.invalid';
  perform tests.checks(jsonb_build_array(jsonb_build_object('vat_number', number)) || former);
  update public.vat_checks as c set status = shows.status, consulted_at = case when shows.status <> 'unavailable' then kijko.now() end where c.id = tests.check_id(1);
  return (select string_agg(d.vat_number_status, ' ' order by d.org_id = tests.org('bob')) from public.billing_details as d where d.org_id in (tests.org('ada'), tests.org('bob')))
    || (select ' ' || count(*) from public.notifications as n where n.type = 'vat.invalid');
end
$$;
select is(tests.shows(former, status, number), wanted, format('%s is %s after %s', number, status, former))
from (values
  ('[]'::jsonb, 'valid', 'DE136695976', 'valid pending 0'), ('[]', 'invalid', 'DE136695976', 'invalid pending 1'), ('[]', 'unavailable', 'DE136695976', 'unavailable pending 0'),
  ('[{"status": "valid", "ago": "1 day"}]', 'unavailable', 'DE136695976', 'valid pending 0'), ('[{"status": "invalid", "ago": "1 day"}]', 'unavailable', 'DE136695976', 'unavailable pending 0'),
  ('[{"status": "valid", "ago": "2 days"}, {"status": "invalid", "ago": "1 day"}]', 'unavailable', 'DE136695976', 'unavailable pending 0'),
  ('[{"status": "valid", "ago": "1 day"}]', 'invalid', 'DE136695976', 'invalid pending 1'), ('[{"status": "valid", "ago": "1 day", "who": "bob"}]', 'unavailable', 'DE136695976', 'unavailable pending 0'),
  ('[{"status": "valid", "ago": "1 day", "vat_number": "DE3"}]', 'unavailable', 'DE136695976', 'unavailable pending 0'), ('[]', 'invalid', 'DE2', 'pending pending 0'), ('[]', 'valid', 'DE2', 'pending pending 0')
) as v (former, status, number, wanted);

-- ---- which answer held at a moment: the latest until then, of the number and the organization
select tests.checks('[{"status": "valid", "ago": "2 days"}, {"status": "invalid", "ago": "1 day"}, {"status": "invalid", "ago": "2 days", "who": "bob"}, {"status": "invalid", "ago": "2 days", "vat_number": "DE2"}]');
select is(private.vat_number_valid_at(tests.org('ada'), 'DE136695976', kijko.now() - ago), wanted, ago || ' ago')
from (values (interval '2 days 00:00:00.000001', false), ('2 days', true), ('1 day 00:00:00.000001', true), ('1 day', false), ('0', false)) as v (ago, wanted);

-- ---- a new number is asked about, at most twenty in an hour
create function tests.gives(number text) returns text language plpgsql as $$
begin
  update public.billing_details as d set vat_number = gives.number where d.org_id = tests.org('bob');
  return (select string_agg(c.vat_number || ' ' || c.status, ', ') from public.vat_checks as c where c.org_id = tests.org('bob') and c.status = 'pending');
end
$$;
select tests.checks('[]');
select is(tests.gives('DE129273398'), 'DE129273398 pending', 'another number');
select is(tests.gives('DE129273398'), 'DE129273398 pending', 'the same one again is no new one');
select count(tests.gives((array['DE136695976', 'DE129273398'])[n % 2 + 1])) as given from generate_series(2, 19) as n \gset
select tests.refuses($$select tests.gives('DE136695976')$$, 'rate_limited', 'the twenty-first');

-- ---- when the next rate begins: at midnight of its country, and later than now
insert into private.vat_rates (country, valid_from, basis_points, source) values ('NL', '2092-01-01', 2200, 'a law to come');
update private.vat_settings set oss_since = '2092-01-02';
select is(private.vat_next_change(m) - m, wanted, 'after ' || m)
from (values ('2091-12-31 22:59:59.999999Z'::timestamptz, interval '1 microsecond'), ('2091-12-31 23:00Z', '1 day'), ('2092-01-01 23:00Z', null)) as v (m, wanted);

select * from finish();
rollback;
