-- ============================================================================
-- Privacy: asking for exports and erasures, and confirming an erasure.
-- ============================================================================

insert into private.mail_kinds (name, required, optional) values
  ('erasure_confirmation', '{token, subject}', '{token_hash, site_url, redirect_to, email, new_email}'),
  ('erasure_scheduled', '{date, subject}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('erasure_done', '{subject, days}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('erasure_cancelled', '{subject, reason}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('erasure_failed', '{subject, reason}', '{token, token_hash, site_url, redirect_to, email, new_email}');

insert into private.mail_templates (name, locale, subject, text, html) values
  ('erasure_confirmation', 'en', 'Confirm the erasure of data',
$m$Somebody asked to erase {subject}.

Enter this code to confirm: {token}

Nothing is erased without the code. After it there is a waiting time, in which you can cancel.
If it was not you, ignore this mail and change your password.
$m$,
$m$<p>Somebody asked to erase {subject}.</p>
<p>Enter this code to confirm: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">Nothing is erased without the code. After it there is a waiting time, in which you can cancel. If it was not you, ignore this mail and change your password.</p>$m$),
  ('erasure_confirmation', 'nl', 'Bevestig het wissen van gegevens',
$m$Iemand heeft gevraagd om {subject} te wissen.

Vul deze code in om te bevestigen: {token}

Zonder de code wordt er niets gewist. Daarna is er een wachttijd, waarin je kunt annuleren.
Was jij dit niet? Negeer deze mail en wijzig je wachtwoord.
$m$,
$m$<p>Iemand heeft gevraagd om {subject} te wissen.</p>
<p>Vul deze code in om te bevestigen: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">Zonder de code wordt er niets gewist. Daarna is er een wachttijd, waarin je kunt annuleren. Was jij dit niet? Negeer deze mail en wijzig je wachtwoord.</p>$m$),
  ('erasure_scheduled', 'en', 'Data will be erased on {date}',
$m$On {date} this will be erased: {subject}.

Until then you can cancel it: sign in and open your privacy settings.
$m$,
$m$<p>On <strong>{date}</strong> this will be erased: {subject}.</p>
<p style="color:#71717a;font-size:14px">Until then you can cancel it: sign in and open your privacy settings.</p>$m$),
  ('erasure_scheduled', 'nl', 'Gegevens worden gewist op {date}',
$m$Op {date} wordt dit gewist: {subject}.

Tot dan kun je annuleren: log in en open je privacy-instellingen.
$m$,
$m$<p>Op <strong>{date}</strong> wordt dit gewist: {subject}.</p>
<p style="color:#71717a;font-size:14px">Tot dan kun je annuleren: log in en open je privacy-instellingen.</p>$m$),
  ('erasure_cancelled', 'en', 'An erasure was cancelled',
$m$This was not erased: {subject}.

The erasure was due, and was cancelled. Reason: {reason}

permission_denied: who asked for it has no right to it any more.
last_owner: the member is now the last owner of the organization.
joined_again: the member left the organization and joined it again.
$m$,
$m$<p>This was not erased: {subject}.</p>
<p>The erasure was due, and was cancelled. Reason: <strong>{reason}</strong></p>
<p style="color:#71717a;font-size:14px">permission_denied: who asked for it has no right to it any more.<br>last_owner: the member is now the last owner of the organization.<br>joined_again: the member left the organization and joined it again.</p>$m$),
  ('erasure_cancelled', 'nl', 'Het wissen is geannuleerd',
$m$Dit is niet gewist: {subject}.

Het wissen was aan de beurt en is geannuleerd. Reden: {reason}

permission_denied: wie erom vroeg, mag het niet meer.
last_owner: het lid is nu de laatste eigenaar van de organisatie.
joined_again: het lid heeft de organisatie verlaten en is er weer lid van.
$m$,
$m$<p>Dit is niet gewist: {subject}.</p>
<p>Het wissen was aan de beurt en is geannuleerd. Reden: <strong>{reason}</strong></p>
<p style="color:#71717a;font-size:14px">permission_denied: wie erom vroeg, mag het niet meer.<br>last_owner: het lid is nu de laatste eigenaar van de organisatie.<br>joined_again: het lid heeft de organisatie verlaten en is er weer lid van.</p>$m$),
  ('erasure_failed', 'en', 'An erasure failed',
$m$This could not be erased: {subject}.

Reason: {reason}

last_owner: the member is the last owner of the organization. Make another member owner and ask again.
Any other reason: the operator has been told. You can ask again.
$m$,
$m$<p>This could not be erased: {subject}.</p>
<p>Reason: <strong>{reason}</strong></p>
<p style="color:#71717a;font-size:14px">last_owner: the member is the last owner of the organization. Make another member owner and ask again.<br>Any other reason: the operator has been told. You can ask again.</p>$m$),
  ('erasure_failed', 'nl', 'Het wissen is mislukt',
$m$Dit kon niet worden gewist: {subject}.

Reden: {reason}

last_owner: het lid is de laatste eigenaar van de organisatie. Maak een ander lid eigenaar en vraag het opnieuw.
Een andere reden: de beheerder weet ervan. Je kunt het opnieuw vragen.
$m$,
$m$<p>Dit kon niet worden gewist: {subject}.</p>
<p>Reden: <strong>{reason}</strong></p>
<p style="color:#71717a;font-size:14px">last_owner: het lid is de laatste eigenaar van de organisatie. Maak een ander lid eigenaar en vraag het opnieuw.<br>Een andere reden: de beheerder weet ervan. Je kunt het opnieuw vragen.</p>$m$),
  ('erasure_done', 'en', 'Data is erased',
$m$This has been erased: {subject}.

Invoices are kept as long as the law requires. Backups lose the data within {days} days, and a backup that is restored before is erased again.
This mail is deleted an hour after it was sent.
$m$,
$m$<p>This has been erased: {subject}.</p>
<p style="color:#71717a;font-size:14px">Invoices are kept as long as the law requires. Backups lose the data within {days} days, and a backup that is restored before is erased again. This mail is deleted an hour after it was sent.</p>$m$),
  ('erasure_done', 'nl', 'Gegevens zijn gewist',
$m$Dit is gewist: {subject}.

Facturen worden bewaard zolang de wet dat vraagt. Back-ups verliezen de gegevens binnen {days} dagen, en een back-up die eerder wordt teruggezet, wordt opnieuw gewist.
Deze mail wordt een uur na verzending verwijderd.
$m$,
$m$<p>Dit is gewist: {subject}.</p>
<p style="color:#71717a;font-size:14px">Facturen worden bewaard zolang de wet dat vraagt. Back-ups verliezen de gegevens binnen {days} dagen, en een back-up die eerder wordt teruggezet, wordt opnieuw gewist. Deze mail wordt een uur na verzending verwijderd.</p>$m$);

-- ----------------------------------------------------------------------------
-- Who may ask for whom
-- ----------------------------------------------------------------------------

create function private.privacy_was_member(org uuid, person uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from public.audit_log as e
    where e.subject_user_id = person and e.personal_salt is not null and e.org_id = org and e.action = 'member.deleted'
  ) and not exists (select from public.memberships as m where m.org_id = org and m.user_id = person)
$$;
comment on function private.privacy_was_member(uuid, uuid) is 'Whether the audit log says that a person was a member of an organization, and is none any more.';

create function private.privacy_authorize(org uuid, person uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  subject constant uuid := coalesce(person, me);
  member_role text;
begin
  if org is not null and not org = any (array(select public.org_ids())) then
    if subject <> me or private.privacy_was_member(org, me) is not true then
      perform kijko.fail('not_a_member', 'org_id: the caller is not a member', 'Former members: ask the organization, or ask without org_id.');
    end if;
  elsif subject <> me then
    if org is null then
      perform kijko.fail('permission_denied', 'user_id: of another person only what an organization has', 'Name the organization in org_id.');
    elsif public.can(org, 'privacy:write') is not true then
      perform kijko.fail('permission_denied', 'requires the permission privacy:write');
    end if;
    select m.role into member_role from public.memberships as m where m.org_id = org and m.user_id = subject;
    if member_role is null and private.privacy_was_member(org, subject) is not true then
      perform kijko.fail('not_found', 'user_id: not a member of the organization');
    elsif public.has_role(org, coalesce(member_role, (
      select e.before ->> 'role' from public.audit_log as e
      where e.subject_user_id = subject and e.org_id = org and e.action = 'member.deleted' order by e.seq desc limit 1
    ))) is not true then
      perform kijko.fail('permission_denied', 'the member has a higher role, or had it when they left');
    end if;
  end if;
  perform private.tenancy_require_fresh_sign_in(me);
  return subject;
end
$$;
comment on function private.privacy_authorize(uuid, uuid) is 'Whose data the caller asks for: their own, or that of a member in an organization, with privacy:write and no lower role than the member has, or had at last. As long as the audit log knows it, former members may ask about themselves, and administrators about them. Fails with not_a_member, permission_denied or not_found, and unless the caller has signed in within the hour, with the second factor if there is one. Not for API keys. Definer: reads memberships and users.';

create function private.privacy_open(kind text, org uuid, person uuid, status text) returns private.privacy_requests
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  made private.privacy_requests;
begin
  insert into private.privacy_requests as r (kind, user_id, organization, requested_by, session_id, status, email)
  select privacy_open.kind, u.id, privacy_open.org, kijko.user_id(), kijko.session_id(), privacy_open.status, u.email
  from auth.users as u where u.id = privacy_open.person and u.deleted_at is null
  on conflict do nothing
  returning r.* into made;
  if made.id is null then
    perform kijko.fail('conflict', format('an %s of this person is under way', privacy_open.kind), 'See list_privacy_requests().');
  end if;
  return made;
end
$$;
comment on function private.privacy_open(text, uuid, uuid, text) is 'Makes a request. Of a kind, person and organization one is under way at a time: another fails with conflict.';

create function public.request_export(org_id uuid default null, user_id uuid default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.privacy_authorize(request_export.org_id, request_export.user_id);
begin
  perform private.limit_rate('privacy_export:' || kijko.user_id(), 10, interval '1 day', 'a user asks for at most %s exports a day');
  return (private.privacy_open('export', request_export.org_id, person, 'queued')).id;
end
$$;
comment on function public.request_export(uuid, uuid) is 'Asks for an export of what is about the caller, or with org_id of what that organization has about them, or about its member user_id (needs privacy:write). Returns the request; list_privacy_requests() says when it is ready. Needs a sign-in within the hour. Not for API keys. Definer: users do not write the table.';
grant execute on function public.request_export(uuid, uuid) to authenticated;

create function private.privacy_code_hash(request_id uuid, code text) returns bytea
language sql immutable set search_path = pg_catalog, pg_temp
return sha256(convert_to(request_id::text || ':' || code, 'UTF8'));
comment on function private.privacy_code_hash(uuid, text) is 'Hash of the code of a request.';

create function private.privacy_subject_text(request private.privacy_requests) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when request.organization is null then coalesce(request.email, 'the account')
    else concat_ws(' @ ', coalesce(request.email, 'a member'), (select o.name from public.organizations as o where o.id = request.organization))
  end
$$;
comment on function private.privacy_subject_text(private.privacy_requests) is 'What a mail says of what is erased: the address, and the organization.';

create function public.request_erasure(org_id uuid default null, user_id uuid default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.privacy_authorize(request_erasure.org_id, request_erasure.user_id);
  address constant text := (select u.email from auth.users as u where u.id = kijko.user_id());
  -- From pg_strong_random.
  code constant text := lpad(((('x' || left(replace(gen_random_uuid()::text, '-', ''), 12))::bit(48)::bigint) % 100000000)::text, 8, '0');
  request private.privacy_requests;
begin
  if address is null then
    perform kijko.fail('invalid_input', 'the account has no address to which the code can be sent', 'Add one, or delete the account: delete_account().');
  end if;
  if request_erasure.org_id is not null and not exists (
    select from public.memberships as m where m.org_id = request_erasure.org_id and m.user_id <> person and m.role = 'owner'
  ) then
    perform kijko.fail('conflict', 'the member is the last owner', 'Make another member owner first.');
  end if;
  perform private.limit_rate('privacy_erasure:' || kijko.user_id(), 10, interval '1 day', 'a user asks for at most %s erasures a day');
  -- A former one that nobody has confirmed; not what the person has asked for themselves.
  update private.privacy_requests as r set status = 'expired', email = null, code_hash = null, finished_at = kijko.now()
  where r.user_id = person and r.kind = 'erasure' and r.organization is not distinct from request_erasure.org_id and r.status = 'unconfirmed'
    and kijko.user_id() in (r.requested_by, r.user_id);
  request := private.privacy_open('erasure', request_erasure.org_id, person, 'unconfirmed');
  update private.privacy_requests as r
  set code_hash = private.privacy_code_hash(r.id, code), code_expires_at = kijko.now() + (select s.code_lifetime from private.privacy_settings as s)
  where r.id = request.id;
  perform private.mail_send(
    address, 'erasure_confirmation', null, jsonb_build_object('token', code, 'subject', private.privacy_subject_text(request)),
    dedupe_key => 'erasure_confirmation:' || request.id
  );
  return request.id;
end
$$;
comment on function public.request_erasure(uuid, uuid) is 'Asks to erase the caller''s account, or with org_id what that organization has about them, or about its member user_id (needs privacy:write). Mails a code to the caller for confirm_erasure(). Returns the request. Needs a sign-in within the hour. Not for API keys. Fails with conflict for the last owner of an organization. Definer: users do not write the table.';
grant execute on function public.request_erasure(uuid, uuid) to authenticated;

create function public.confirm_erasure(request_id uuid, code text) returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  reader record;
  request private.privacy_requests;
begin
  -- Before the row is looked at, and whatever it says. A rollback does not take the count back.
  perform private.limit_rate('privacy_code:' || me, 10, interval '1 hour', 'a user tries at most %s codes an hour');
  select r.* into request from private.privacy_requests as r
  where r.id = confirm_erasure.request_id and r.requested_by = me and r.kind = 'erasure' for update;
  if request.id is null then
    perform kijko.fail('not_found', 'request_id: not an erasure that the caller asked for');
  end if;
  perform private.privacy_authorize(request.organization, request.user_id);
  if request.status = 'confirmed' then
    return request.due_at;
  elsif request.status <> 'unconfirmed' then
    perform kijko.fail('conflict', format('the erasure is %s', request.status));
  elsif request.code_expires_at < kijko.now()
    or (private.privacy_code_hash(request.id, btrim(confirm_erasure.code)) = request.code_hash) is not true
  then
    perform kijko.fail('invalid_input', 'code: wrong, or no longer valid', 'Ask for the erasure again.');
  end if;
  update private.privacy_requests as r
  set status = 'confirmed', code_hash = null, due_at = kijko.now() + (select s.waiting_time from private.privacy_settings as s)
  where r.id = request.id
  returning r.* into request;
  -- Who asked for it, and the person, who can cancel it, too.
  for reader in
    select u.id, u.email::text as address from auth.users as u
    where u.id = me or (u.id = request.user_id and u.email_confirmed_at is not null and private.mail_is_address(u.email))
  loop
    perform private.mail_send(reader.address, 'erasure_scheduled', null, jsonb_build_object(
      'date', to_char(request.due_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), 'subject', private.privacy_subject_text(request)
    ), dedupe_key => format('erasure_scheduled:%s:%s', request.id, reader.id));
  end loop;
  return request.due_at;
end
$$;
comment on function public.confirm_erasure(uuid, text) is 'Confirms an erasure with the code that was mailed, and returns when it is done, after the waiting time. Mails it to the caller, and to the person. The same again returns the same. Needs a sign-in within the hour, and the right to ask for it still. Ten codes an hour. Definer: users do not write the table.';
grant execute on function public.confirm_erasure(uuid, text) to authenticated;

create function public.cancel_erasure(request_id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  update private.privacy_requests as r set status = 'cancelled', email = null, code_hash = null, finished_at = kijko.now()
  where r.id = cancel_erasure.request_id and r.kind = 'erasure' and me in (r.requested_by, r.user_id) and r.status in ('unconfirmed', 'confirmed');
  if not found then
    perform kijko.fail('not_found', 'request_id: not an erasure of the caller that still waits');
  end if;
end
$$;
comment on function public.cancel_erasure(uuid) is 'Cancels an erasure that waits: by who asked for it, or by the person whose data it is. Definer: users do not write the table.';
grant execute on function public.cancel_erasure(uuid) to authenticated;

create function public.list_privacy_requests() returns table (
  id uuid, kind text, user_id uuid, org_id uuid, status text, created_at timestamptz, due_at timestamptz, expires_at timestamptz, bytes bigint, sha256 text,
  error_code text, requested_by uuid
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  me constant uuid := private.tenancy_require_user();
begin
  return query
  select r.id, r.kind, r.user_id, r.organization, r.status, r.created_at, r.due_at, r.expires_at, r.bytes, r.sha256, r.error_code, r.requested_by
  from private.privacy_requests as r
  where r.requested_by = me or (r.user_id = me and r.kind = 'erasure')
  order by r.created_at desc, r.id desc
  limit 100;
end
$$;
comment on function public.list_privacy_requests() is 'The newest 100 exports and erasures that the caller asked for, and erasures of their own data that others asked for. Nullable: org_id, due_at, expires_at, bytes, sha256, error_code, requested_by. Definer: the table is private.';
grant execute on function public.list_privacy_requests() to authenticated;
