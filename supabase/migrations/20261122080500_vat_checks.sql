-- ============================================================================
-- VAT: what VIES, the register of the European Commission, said about numbers.
--
--   1. A new number makes a row here. Its request goes out by the outbox, after the commit.
--   2. private.vat_collect_answers() reads what came back. valid and invalid are answers; anything else is unavailable, and
--      the row is asked again with growing pauses.
--   3. An answer that is older than vat_settings.recheck_after is asked again as a new row. Until its answer the former counts.
-- ============================================================================

create table public.vat_checks (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  vat_number text not null check (octet_length(vat_number) <= 20),
  status text not null default 'pending' check (status in ('pending', 'unavailable', 'valid', 'invalid')),
  consulted_at timestamptz,
  consultation_number text check (char_length(consultation_number) <= 100),
  requester_number text check (octet_length(requester_number) <= 20),
  name text check (char_length(name) <= 500),
  address text check (char_length(address) <= 1000),
  vies_date text check (char_length(vies_date) <= 100),
  error text check (char_length(error) <= 100),
  attempts integer not null default 0,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  check ((consulted_at is not null) = (status in ('valid', 'invalid')))
);
create unique index vat_checks_open_idx on public.vat_checks (org_id, vat_number) where status in ('pending', 'unavailable');
create index vat_checks_number_idx on public.vat_checks (org_id, vat_number, consulted_at desc) where consulted_at is not null;
comment on table public.vat_checks is 'Checks of VAT numbers with VIES, one row for each answer. Only the database writes them.';
comment on column public.vat_checks.id is 'Identity of the row.';
comment on column public.vat_checks.org_id is 'Organization.';
comment on column public.vat_checks.vat_number is 'The number that is asked about.';
comment on column public.vat_checks.status is 'pending: no answer yet. unavailable: VIES or the member state could not answer, and is asked again. valid, invalid: the answer.';
comment on column public.vat_checks.consulted_at is 'When the answer was taken over; null before.';
comment on column public.vat_checks.consultation_number is 'Number by which the tax authority finds this check. VIES gives it if the seller''s own number is known.';
comment on column public.vat_checks.requester_number is 'The seller''s number that was given with the question.';
comment on column public.vat_checks.name is 'Name in the register, as given. Some member states give none.';
comment on column public.vat_checks.address is 'Address in the register, as given.';
comment on column public.vat_checks.vies_date is 'Date of the answer, as VIES writes it.';
comment on column public.vat_checks.error is 'Why the last attempt had no answer: a code of VIES such as MS_UNAVAILABLE, or of the outbox.';
comment on column public.vat_checks.attempts is 'How often it was asked.';
comment on column public.vat_checks.created_by is 'User who gave the number; null for a repeated check.';
comment on column public.vat_checks.created_by_key is 'API key that gave the number.';
comment on column public.vat_checks.created_at is 'When the check was wanted.';
comment on column public.vat_checks.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.vat_checks', resource => 'billing', writable => '{}', catalogue => '{
  "vat_number, status, consulted_at, consultation_number, requester_number, name, address, vies_date": "proves that the customer''s number was checked",
  "error, attempts": "shows why there is no answer yet"
}');

create table private.vat_check_requests (
  organization uuid not null,
  check_id uuid not null,
  request_id uuid,
  next_attempt_at timestamptz not null default clock_timestamp(),
  primary key (organization, check_id),
  foreign key (organization, check_id) references public.vat_checks (org_id, id) on delete cascade
);
create index vat_check_requests_due_idx on private.vat_check_requests (next_attempt_at) where request_id is null;
create index vat_check_requests_sent_idx on private.vat_check_requests (request_id) where request_id is not null;
comment on table private.vat_check_requests is 'Open checks: a row goes when its answer is there.';
comment on column private.vat_check_requests.organization is 'Organization of the check.';
comment on column private.vat_check_requests.check_id is 'The check.';
comment on column private.vat_check_requests.request_id is 'Its request in the outbox; null while it waits for the next attempt.';
comment on column private.vat_check_requests.next_attempt_at is 'When it is sent again, by the clock of the server.';
select private.describe_data('private.vat_check_requests', '{
  "organization, check_id, request_id, next_attempt_at": {"purpose": "finds the answer of VIES", "export": "none"}
}');
alter table private.vat_check_requests enable row level security;

create function private.vat_number_valid_at(org uuid, number text, moment timestamptz) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select c.status = 'valid'
    from public.vat_checks as c
    where c.org_id = org and c.vat_number = number and c.consulted_at <= moment
    order by c.consulted_at desc, c.created_at desc
    limit 1
  ), false);
end
$$;
comment on function private.vat_number_valid_at(uuid, text, timestamptz) is 'Whether the latest answer about a number at a moment was valid. While VIES is unavailable the former answer counts.';

-- ----------------------------------------------------------------------------
-- Asking
-- ----------------------------------------------------------------------------

create function private.vat_send_check(org uuid, checked uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  settings private.vat_settings;
  asked public.vat_checks;
  requester text;
begin
  select s.* into settings from private.vat_settings as s;
  -- A seller's number that VIES refuses must not keep it from answering.
  update public.vat_checks as c
  set attempts = c.attempts + 1,
    requester_number = case when c.error is distinct from 'INVALID_REQUESTER_INFO' then settings.seller_vat_number end
  where c.org_id = org and c.id = checked and c.status in ('pending', 'unavailable')
  returning c.* into asked;
  if not found then
    -- An operator has written down an answer that came another way.
    delete from private.vat_check_requests as r where r.organization = org and r.check_id = checked;
    return;
  end if;
  requester := asked.requester_number;
  update private.vat_check_requests as r
  set request_id = kijko.http_enqueue(
    'POST', settings.vies_url || '/check-vat-number', '{"content-type": "application/json", "accept": "application/json"}',
    (jsonb_build_object('countryCode', left(asked.vat_number, 2), 'vatNumber', substr(asked.vat_number, 3)) || case
      when requester is null then '{}'
      else jsonb_build_object('requesterMemberStateCode', left(requester, 2), 'requesterNumber', substr(requester, 3))
    end)::text,
    -- A member state refuses more than a few questions at once.
    key => 'vies/' || left(asked.vat_number, 2), timeout => '20 seconds', max_attempts => 1,
    idempotency_key => format('vies/%s/%s', asked.id, asked.attempts)
  )
  where r.organization = org and r.check_id = checked;
end
$$;
comment on function private.vat_send_check(uuid, uuid) is 'Puts the question of a check into the outbox, for one attempt. Of a check that is answered it ends the question.';

create function private.vat_open_check(org uuid, number text) returns public.vat_checks
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  opened public.vat_checks;
begin
  insert into public.vat_checks as c (org_id, vat_number) values (org, number)
  on conflict (org_id, vat_number) where status in ('pending', 'unavailable') do nothing
  returning c.* into opened;
  if opened.id is null then
    select c.* into opened from public.vat_checks as c
    where c.org_id = org and c.vat_number = number and c.status in ('pending', 'unavailable');
    return opened;
  end if;
  insert into private.vat_check_requests (organization, check_id) values (org, opened.id);
  perform private.vat_send_check(org, opened.id);
  select c.* into opened from public.vat_checks as c where c.org_id = org and c.id = opened.id;
  return opened;
end
$$;
comment on function private.vat_open_check(uuid, text) is 'Asks VIES about a number, unless a check of it is open; returns the open check.';

create function private.vat_ask_about_number() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.limit_rate('vat_number/' || new.org_id, 20, '1 hour', 'at most %s new VAT numbers in an hour');
  perform private.vat_open_check(new.org_id, new.vat_number);
  return null;
end
$$;
comment on function private.vat_ask_about_number() is 'Trigger: a new VAT number is checked with VIES. Definer: only the database writes checks.';
create trigger billing_details_vat_number_insert after insert on public.billing_details
  for each row when (new.vat_number is not null) execute function private.vat_ask_about_number();
create trigger billing_details_vat_number_update after update of vat_number on public.billing_details
  for each row when (new.vat_number is not null and old.vat_number is distinct from new.vat_number)
  execute function private.vat_ask_about_number();
