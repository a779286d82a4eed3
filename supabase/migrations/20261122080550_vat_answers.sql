-- ============================================================================
-- VAT: the answers of VIES, and questions that are repeated.
-- ============================================================================

create function private.vat_read_answer(number text, status integer, body text)
returns table (outcome text, error text, answer jsonb)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  parsed jsonb;
  code text;
begin
  begin
    parsed := body::jsonb;
  exception when data_exception or program_limit_exceeded or statement_too_complex then
    parsed := null;
  end;
  if jsonb_typeof(parsed) is distinct from 'object' then
    return query values ('unavailable', coalesce('HTTP_' || status, 'NO_ANSWER'), null::jsonb);
    return;
  end if;
  -- An error may come with any status, also 200.
  code := left(coalesce(parsed #>> '{errorWrappers,0,error}', nullif(nullif(parsed ->> 'userError', 'VALID'), 'INVALID')), 100);
  if code = 'INVALID_INPUT' then
    return query values ('invalid', code, parsed);
  elsif code is not null or parsed -> 'actionSucceed' = 'false' or status is null or status not between 200 and 299
    or jsonb_typeof(parsed -> 'valid') is distinct from 'boolean'
  then
    return query values ('unavailable', coalesce(code, 'HTTP_' || status, 'NO_ANSWER'), parsed);
  elsif upper(coalesce(parsed ->> 'countryCode', '') || coalesce(parsed ->> 'vatNumber', '')) <> number then
    return query values ('unavailable', 'OTHER_NUMBER', parsed);
  else
    return query values (case when (parsed ->> 'valid')::boolean then 'valid' else 'invalid' end, null::text, parsed);
  end if;
end
$$;
comment on function private.vat_read_answer(text, integer, text) is 'What an answer of VIES says about a number: valid, invalid, or unavailable with the code of the error. Only a boolean "valid" about this number, without an error, is an answer. Nullable: error, answer.';

create function private.vat_given(answer jsonb, field text, max_chars integer) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
-- Member states that give no names write dashes.
return nullif(nullif(left(btrim(answer ->> field, E' \n\r\t'), max_chars), ''), '---');
comment on function private.vat_given(jsonb, text, integer) is 'A text of an answer, as given; null if it is empty or dashes. Nullable: result.';

create function private.vat_backoff(attempts integer) returns interval
language sql volatile set search_path = pg_catalog, pg_temp
return (array['1 minute', '5 minutes', '15 minutes', '1 hour', '4 hours', '12 hours', '1 day']::interval[])[least(greatest(attempts, 1), 7)] * (0.8 + 0.4 * random());
comment on function private.vat_backoff(integer) is 'The pause after so many attempts without an answer. It never gives up: at last it asks once a day.';

create function private.vat_take_answer(org uuid, checked uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  open private.vat_check_requests;
  asked public.vat_checks;
  response record;
  read record;
begin
  select r.* into open from private.vat_check_requests as r
  where r.organization = org and r.check_id = checked and r.request_id is not null
  for update skip locked;
  if not found then
    return null; -- taken over already, or being taken over
  end if;
  select c.* into asked from public.vat_checks as c where c.org_id = org and c.id = checked;
  -- An operator has written down an answer that came another way. What VIES says now must not undo it.
  if asked.status in ('valid', 'invalid') then
    delete from private.vat_check_requests as r where r.organization = org and r.check_id = checked;
    return asked.status;
  end if;
  select h.state, h.status, h.body, (
    select a.error_code from kijko.http_attempts as a where a.request_id = open.request_id order by a.attempt desc limit 1
  ) as error_code into response
  from kijko.http_response(open.request_id) as h;
  if response.state in ('waiting', 'pending') then
    return null;
  end if;
  select a.outcome, coalesce(a.error, '') as error, a.answer into read
  from private.vat_read_answer(asked.vat_number, response.status, response.body) as a;
  if read.outcome = 'unavailable' then
    update public.vat_checks as c
    set status = 'unavailable',
      error = left(case when response.status is null and response.error_code is not null then response.error_code else read.error end, 100)
    where c.org_id = org and c.id = checked;
    update private.vat_check_requests as r set request_id = null, next_attempt_at = clock_timestamp() + private.vat_backoff(asked.attempts)
    where r.organization = org and r.check_id = checked;
  else
    delete from private.vat_check_requests as r where r.organization = org and r.check_id = checked;
    update public.vat_checks as c
    set status = read.outcome,
      -- Two answers of one moment keep their order.
      consulted_at = greatest(kijko.now(), (
        select max(f.consulted_at) + interval '1 microsecond' from public.vat_checks as f where f.org_id = org and f.vat_number = asked.vat_number
      )),
      error = nullif(read.error, ''),
      consultation_number = private.vat_given(read.answer, 'requestIdentifier', 100),
      name = private.vat_given(read.answer, 'name', 500),
      address = private.vat_given(read.answer, 'address', 1000),
      vies_date = private.vat_given(read.answer, 'requestDate', 100)
    where c.org_id = org and c.id = checked;
  end if;
  return read.outcome;
end
$$;
comment on function private.vat_take_answer(uuid, uuid) is 'Takes over the answer about a check, if it has come: valid, invalid or unavailable; else null. Nullable: result.';

create function private.vat_show_status() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.billing_details as d
  set vat_number_status = case
    -- A repeated check without an answer leaves the former one in force.
    when new.status = 'unavailable' and private.vat_number_valid_at(new.org_id, new.vat_number, kijko.now()) then 'valid'
    else new.status
  end
  where d.org_id = new.org_id and d.vat_number = new.vat_number;
  if found and new.status = 'invalid' then
    perform private.notifications_send(
      new.org_id, null, 'vat.invalid', jsonb_build_object('vat_number', new.vat_number), format('vat.invalid:%s', new.id)
    );
  end if;
  return null;
end
$$;
comment on function private.vat_show_status() is 'Trigger: billing details show what VIES said about their number, and an invalid one is notified. Definer: only the database writes the status.';
create trigger vat_checks_status after update of status on public.vat_checks
  for each row when (old.status is distinct from new.status)
  execute function private.vat_show_status();

create function private.vat_collect_answers(max_rows integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  sent record;
  taken integer := 0;
begin
  for sent in
    select r.organization, r.check_id
    from private.vat_check_requests as r
    left join kijko.http_requests as h on h.id = r.request_id
    where r.request_id is not null and (h.id is null or h.ended_at is not null)
    order by h.ended_at nulls first
    limit max_rows
  loop
    continue when sent.organization = any (private.passed_over());
    -- One that fails stops no other, here and below.
    begin
      taken := taken + (private.vat_take_answer(sent.organization, sent.check_id) is not null)::integer;
    exception when others then
      raise warning 'VAT check %: %', sent.check_id, sqlerrm;
      perform private.pass_over(sent.organization, sqlstate);
    end;
  end loop;
  return taken;
end
$$;
comment on function private.vat_collect_answers(integer) is 'Takes over answers that have come, at most max_rows, and returns how many.';

create function private.vat_send_due(max_rows integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  due record;
  sent integer := 0;
begin
  for due in
    select r.organization, r.check_id
    from private.vat_check_requests as r
    where r.request_id is null and r.next_attempt_at <= clock_timestamp()
    order by r.next_attempt_at
    limit max_rows
    for update skip locked
  loop
    continue when due.organization = any (private.passed_over());
    begin
      perform private.vat_send_check(due.organization, due.check_id);
      sent := sent + 1;
    exception when others then
      raise warning 'VAT check %: %', due.check_id, sqlerrm;
      perform private.pass_over(due.organization, sqlstate);
    end;
  end loop;
  return sent;
end
$$;
comment on function private.vat_send_due(integer) is 'Asks again about checks whose pause is over, at most max_rows, and returns how many.';

create function private.vat_recheck(max_rows integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  old record;
  opened integer := 0;
begin
  for old in
    select d.org_id, d.vat_number
    from public.billing_details as d
    where d.vat_number_status in ('valid', 'invalid')
      and not exists (
        select from public.vat_checks as c
        where c.org_id = d.org_id and c.vat_number = d.vat_number
          and (c.status in ('pending', 'unavailable') or c.consulted_at > kijko.now() - (select s.recheck_after from private.vat_settings as s))
      )
    limit max_rows
    for no key update of d skip locked
  loop
    begin
      perform private.vat_open_check(old.org_id, old.vat_number);
      opened := opened + 1;
    exception when others then
      raise warning 'VAT number of organization %: %', old.org_id, sqlerrm;
    end;
  end loop;
  return opened;
end
$$;
comment on function private.vat_recheck(integer) is 'Asks again about numbers of billing details whose answer is older than vat_settings.recheck_after, at most max_rows, and returns how many.';

create function public.check_vat_number() returns public.vat_checks
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  details public.billing_details;
  checked public.vat_checks;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('billing:write');
  select d.* into details from public.billing_details as d where d.org_id = org for no key update;
  if details.vat_number is null then
    perform kijko.fail('not_found', 'the organization has no VAT number');
  end if;
  select c.* into checked from public.vat_checks as c
  where c.org_id = org and c.vat_number = details.vat_number
  order by c.consulted_at desc nulls first
  limit 1;
  if checked.status in ('pending', 'unavailable') then
    perform private.vat_take_answer(org, checked.id);
  elsif checked.id is null or checked.consulted_at < kijko.now() - interval '1 minute' then
    perform private.limit_rate('vat_check/' || org, 10, '1 hour', 'at most %s checks of the VAT number in an hour');
    checked := private.vat_open_check(org, details.vat_number);
  end if;
  select c.* into checked from public.vat_checks as c where c.org_id = org and c.id = checked.id;
  return checked;
end
$$;
comment on function public.check_vat_number() is 'Takes over the answer of VIES about the VAT number of the organization of the request, if it has come; asks again if the last answer is older than a minute. Returns the check. Requires billing:write. Fails with not_found without a number, rate_limited. Definer: only the database writes checks.';
grant execute on function public.check_vat_number() to authenticated;

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-vat-checks', '* * * * *', 'perform private.vat_collect_answers()', 'perform private.vat_send_due()', 'perform private.vat_recheck()');
