-- ============================================================================
-- Privacy: erasures, once they are in the journal: the rows, then the proofs. Each step can be repeated.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Rows
-- ----------------------------------------------------------------------------

create function private.privacy_erase_column(tie private.data_subject_columns, person uuid, addresses text[], org uuid) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  org_column constant text := private.privacy_org_column(tie.table_name);
  condition text;
  erased bigint;
begin
  if org is not null and org_column is null then
    return null;
  end if;
  condition := case tie.matches
    when 'email' then private.privacy_address_condition(tie.table_name, tie.column_name) else format('t.%I = $1', tie.column_name)
  end || case when org is null then '' else format(' and t.%I = $3', org_column) end;
  if tie.erasure = 'delete' then
    execute format('delete from %s as t where %s', tie.table_name, condition) using person, addresses, org;
  else
    execute format(
      'update %s as t set %s where %s', tie.table_name,
      (select string_agg(format('%I = null', c.name), ', ') from unnest(tie.columns || tie.column_name::text) as c (name)), condition
    ) using person, addresses, org;
  end if;
  get diagnostics erased = row_count;
  return erased;
end
$$;
comment on function private.privacy_erase_column(private.data_subject_columns, uuid, text[], uuid) is 'Deletes or empties the rows that a column ties to a person, in an organization or everywhere; returns how many. Null for a table without organizations while one is meant. Nullable: result.';

create function private.privacy_count_column(tie private.data_subject_columns, person uuid, addresses text[], org uuid) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org_column constant text := private.privacy_org_column(tie.table_name);
  is_text constant boolean := (
    select a.atttypid <> 'uuid'::regtype from pg_attribute as a where a.attrelid = tie.relation and a.attname = tie.column_name
  );
  rows bigint;
begin
  if org is not null and org_column is null then
    return 0;
  end if;
  execute format('select count(*) from %s as t where %s', tie.table_name, case
    when tie.matches = 'email' then private.privacy_address_condition(tie.table_name, tie.column_name)
    when is_text then format('t.%I = $1::text', tie.column_name)
    else format('t.%I = $1', tie.column_name)
  end || case when org is null then '' else format(' and t.%I = $3', org_column) end)
  into rows using person, addresses, org;
  return rows;
end
$$;
comment on function private.privacy_count_column(private.data_subject_columns, uuid, text[], uuid) is 'How many rows a column ties to a person.';

create function private.privacy_erase_storage(request private.privacy_requests) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  allowed constant text := coalesce(current_setting('storage.allow_delete_query', true), '');
  orgs constant uuid[] := private.privacy_sole_organizations(request.user_id);
  deleted bigint;
  cleared bigint;
  with_organizations bigint;
begin
  if to_regclass('storage.objects') is null then
    return '{"deleted": 0}'::jsonb;
  elsif request.organization is not null then
    update storage.objects as o set owner = null, owner_id = null
    where o.owner_id = request.user_id::text and o.bucket_id in (select m.bucket_id from private.metered_buckets as m)
      and private.storage_org_id(o.name) = request.organization;
    get diagnostics cleared = row_count;
    return jsonb_build_object('owner_cleared', cleared);
  end if;
  select count(*) into with_organizations from storage.objects as o
  where o.bucket_id in (select m.bucket_id from private.metered_buckets as m) and private.storage_org_id(o.name) = any (orgs);
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.objects as o
  where o.bucket_id not in (select m.bucket_id from private.metered_buckets as m)
    and (o.owner_id = request.user_id::text or (o.bucket_id = 'privacy-exports' and split_part(o.name, '/', 1) = request.user_id::text));
  get diagnostics deleted = row_count;
  perform set_config('storage.allow_delete_query', allowed, true);
  -- Files of an organization are its content. Only who wrote them goes.
  update storage.objects as o set owner = null, owner_id = null
  where o.owner_id = request.user_id::text and private.storage_org_id(o.name) <> all (orgs);
  get diagnostics cleared = row_count;
  return jsonb_build_object('deleted', deleted, 'deleted_with_organizations', with_organizations, 'owner_cleared', cleared);
end
$$;
comment on function private.privacy_erase_storage(private.privacy_requests) is 'Deletes the objects of a person outside organizations, and clears who wrote those of organizations, or of the one that is meant; says how many. Those of organizations that go with the person go with them.';

create function private.privacy_erase_mails(request private.privacy_requests) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  deleted bigint;
begin
  delete from private.mail_messages as m
  where m.sealed_data is not null and (
    (m.created_by = request.user_id and (request.organization is null or m.org_id = request.organization))
    or (m.org_id = kijko.platform_org_id() and m.dedupe_key like 'erasure\_%' and split_part(m.dedupe_key, ':', 2) in (
      select r.id::text from private.privacy_requests as r
      where r.user_id = request.user_id and r.kind = 'erasure' and (request.organization is null or r.organization = request.organization)
    ))
  );
  get diagnostics deleted = row_count;
  return deleted;
end
$$;
comment on function private.privacy_erase_mails(private.privacy_requests) is 'Deletes mails to others that still have their text and name the person: invitations that the person sent, and mails about erasures; returns how many. A mail that was delivered has no text any more.';

create function private.privacy_erase_payloads(request private.privacy_requests, addresses text[]) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  emptied bigint;
begin
  update public.webhook_messages as m set payload = jsonb_set(m.payload, '{data,email}', 'null')
  where m.type in ('invitation.sent', 'invitation.accepted') and lower((m.payload #>> '{data,email}') collate "C") = any (addresses)
    and (request.organization is null or m.org_id = request.organization)
    and private.privacy_had_address(request.user_id, m.payload #>> '{data,email}', m.created_at);
  get diagnostics emptied = row_count;
  return emptied;
end
$$;
comment on function private.privacy_erase_payloads(private.privacy_requests, text[]) is 'Takes the person''s address from the events of invitations that organizations have sent to their endpoints; returns from how many.';

create function private.privacy_end_invitations(person uuid, org uuid default null) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  ended bigint;
begin
  update public.invitations as i set status = 'revoked'
  where i.sent_by = person and i.status = 'pending' and (org is null or i.org_id = org);
  get diagnostics ended = row_count;
  return ended;
end
$$;
comment on function private.privacy_end_invitations(uuid, uuid) is 'Revokes the open invitations that rest on the rights of a person, in an organization or everywhere: nobody could accept them any more. Returns how many.';

create function private.privacy_is_emptied(person uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select exists (select from auth.users as u where u.id = person and u.deleted_at is not null) $$;
comment on function private.privacy_is_emptied(uuid) is 'Whether a user was softly deleted: the row stays with its id, so foreign keys do nothing.';

create function private.privacy_erase_rows(request private.privacy_requests, addresses text[]) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  is_emptied constant boolean := request.organization is null and private.privacy_is_emptied(request.user_id);
  mails constant bigint := private.privacy_erase_mails(request);
  payloads constant bigint := private.privacy_erase_payloads(request, addresses);
  tie private.data_subject_columns;
  rows bigint;
  counts jsonb := case when mails > 0 then jsonb_build_object('private.mail_messages.sealed_data', mails) else '{}' end
    || case when payloads > 0 then jsonb_build_object('public.webhook_messages.payload', payloads) else '{}' end;
begin
  for tie in
    select s.* from private.data_subject_columns as s
    where s.erasure <> 'keep' and s.table_name not in ('auth.users', 'public.profiles', 'private.privacy_requests') and s.relation is not null
      -- The user's deletion does what foreign keys say. Without one they are followed here. Who made a row may stay an id that names nobody.
      and (not s.by_foreign_key or (
        s.table_name ~ '^(public|private)\.' and (request.organization is not null or (is_emptied and s.erasure = 'delete'))
      ))
    -- What foreign keys to the membership do must happen before their columns are emptied.
    order by s.table_name = 'public.memberships' desc, s.is_about desc, s.table_name, s.column_name
  loop
    rows := private.privacy_erase_column(tie, request.user_id, addresses, request.organization);
    if rows > 0 then
      counts := counts || jsonb_build_object(tie.table_name || '.' || tie.column_name, rows);
    end if;
  end loop;
  return counts;
end
$$;
comment on function private.privacy_erase_rows(private.privacy_requests, text[]) is 'Deletes and empties what private.data_subject_columns ties to the person or to an address of theirs; says how many rows of which column.';

create function private.privacy_left(request private.privacy_requests, addresses text[], kept boolean) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(c.table_name || '.' || c.column_name, c.rows), '{}')
  from (
    select s.table_name, s.column_name, private.privacy_count_column(s, request.user_id, addresses, request.organization) as rows
    from private.data_subject_columns as s
    where (s.erasure = 'keep') = kept and s.relation is not null
      -- Login's own tables go by their foreign keys.
      and s.table_name !~ '^auth_api\.' and has_table_privilege(s.relation, 'select')
      and not (request.organization is not null and s.table_name = 'public.profiles')
      -- Of a user who is softly deleted the id stays, and with it the emptied rows of login, the profile, and who made a row.
      and not (
        (s.table_name ~ '^auth\.|^public\.profiles$' or (s.by_foreign_key and s.erasure = 'clear')) and private.privacy_is_emptied(request.user_id)
      )
  ) as c
  where c.rows > 0
$$;
comment on function private.privacy_left(private.privacy_requests, text[], boolean) is 'How many rows are still tied to a person, by column: kept ones, or those that an erasure should have taken.';

create function private.privacy_pass_on(request private.privacy_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from public.memberships as m where m.org_id = request.organization and m.user_id = request.user_id and m.role = 'owner'
  ) then
    return;
  end if;
  perform 1 from public.organizations as o where o.id = request.organization for no key update;
  if not exists (
    select from public.memberships as m
    where m.org_id = request.organization and m.user_id <> request.user_id and private.tenancy_is_active_member(m)
  ) then
    perform kijko.fail('conflict', 'the person is the only member of the organization');
  end if;
  perform private.tenancy_promote_successor(request.organization, request.user_id);
end
$$;
comment on function private.privacy_pass_on(private.privacy_requests) is 'Sees that the organization of an erasure has another owner. Fails with conflict if nobody else is a member.';

create function private.privacy_erase(request_id uuid, is_replay boolean default false) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  request private.privacy_requests;
  is_account boolean;
  addresses text[];
  customer record;
  effects uuid[] := '{}'::uuid[];
  identities bigint;
  storage_counts jsonb;
  counts jsonb;
  rest jsonb;
begin
  select r.* into request from private.privacy_requests as r where r.id = request_id and r.status = 'journaled' for update skip locked;
  if request.id is null then
    return false;
  end if;
  is_account := request.organization is null;
  request.email := private.privacy_address(request);
  addresses := private.privacy_addresses(request);
  select count(*) into identities from auth.identities as i where i.user_id = request.user_id;
  for customer in select c.* from private.privacy_customers(request, addresses) as c loop
    effects := effects || private.privacy_erase_customer(customer.id, customer.livemode, customer.organization, customer.is_sole);
  end loop;
  storage_counts := private.privacy_erase_storage(request);
  if not is_account then
    perform private.privacy_pass_on(request), private.privacy_end_invitations(request.user_id, request.organization);
  end if;
  counts := private.privacy_erase_rows(request, addresses);
  if is_account then
    delete from auth.sessions as s where s.user_id = request.user_id;
    delete from auth.users as u where u.id = request.user_id and u.deleted_at is null;
    -- Rows that were written by the deletion itself.
    counts := private.privacy_erase_rows(request, addresses) || counts;
  else
    perform private.audit_record(request.organization, 'privacy.erased', 'user', request.user_id::text, after => jsonb_build_object('request', request.id));
  end if;
  rest := private.privacy_left(request, addresses, kept => false);
  if rest <> '{}' then
    perform kijko.fail('internal', format('erasure %s: left over: %s', request.id, rest));
  end if;
  perform private.privacy_prove_erased(request, addresses, counts, storage_counts, identities, effects);
  -- The address stays until it was looked for once more (privacy_look_again).
  update private.privacy_requests as r
  set status = 'done', finished_at = kijko.now(), email = request.email, code_hash = null, code_expires_at = null, requested_by = null, session_id = null,
    error_code = null
  where r.id = request.id;
  if is_account then
    perform private.privacy_end_others(request);
  end if;
  if is_replay then
    -- Nobody else is in the database yet.
    perform private.privacy_forget_addresses(request);
  end if;
  return true;
end
$$;
comment on function private.privacy_erase(uuid, boolean) is 'Erases a person whose erasure is in the journal, and records what was done where; false if there is nothing to do. Fails, and changes nothing, if rows are left that should be gone. is_replay: after a restore, when the person is not told again.';

create function private.privacy_end_others(erased private.privacy_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := erased.user_id;
begin
  update private.privacy_requests as r set status = 'cancelled', finished_at = kijko.now()
  where r.user_id = person and r.kind = 'erasure' and r.status in ('unconfirmed', 'confirmed', 'journaling', 'journaled');
  -- Exports about them, and those that only they could open. What is stored goes with the next privacy_purge().
  delete from private.privacy_requests as r where r.kind = 'export' and person in (r.user_id, r.requested_by);
  update private.privacy_requests as r set requested_by = null, session_id = null where r.requested_by = person;
  update private.privacy_requests as r
  set email = null, code_hash = null, code_expires_at = null, requested_by = null, session_id = null
  where r.user_id = person and r.kind = 'erasure' and r.id <> erased.id;
end
$$;
comment on function private.privacy_end_others(private.privacy_requests) is 'Ends the other requests of a person whose account is erased, and empties what ended ones and those for others have of them.';

-- ----------------------------------------------------------------------------
-- Accounts that are deleted otherwise: by delete_account(), or by an operator. They must not come back either.
-- ----------------------------------------------------------------------------

create function private.privacy_on_user_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Made by a trigger whose name sorts before.
  update private.audit_erasures as a
  set former_emails = array(
    select f.email from private.privacy_former_addresses as f
    where f.user_id = old.id and not private.privacy_is_others(old.id, f.email) and f.email is distinct from lower(old.email collate "C")
    group by f.email order by max(f.replaced_at) desc limit 1000
  )
  where a.user_id = old.id;
  -- What is made from now on under the address is not theirs, such as the mails of who signs up with it again before they are erased.
  -- What is under way in this moment still is.
  if old.email_confirmed_at is not null then
    perform private.privacy_end_address(old.id, old.email, kijko.now() + (clock_timestamp() - now()) + interval '10 seconds');
  end if;
  return null;
end
$$;
comment on function private.privacy_on_user_deleted() is 'Trigger: has the audit log look for former addresses, and keeps until when a deleted account had its last one. Definer: the login role may write auth only.';
create trigger kijko_user_privacy_deleted after delete on auth.users
  for each row execute function private.privacy_on_user_deleted();
create trigger kijko_user_privacy_soft_deleted after update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.privacy_on_user_deleted();

create function private.privacy_before_user_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made uuid;
  effects uuid[];
begin
  update private.privacy_requests as r set status = 'cancelled', email = null, code_hash = null, finished_at = kijko.now()
  where r.user_id = old.id and r.organization is null and r.kind = 'erasure' and r.status in ('unconfirmed', 'confirmed');
  -- One that has begun goes by the last address.
  update private.privacy_requests as r set email = case when old.email_confirmed_at is not null then "left"(old.email, 320) end
  where r.user_id = old.id and r.organization is null and r.kind = 'erasure' and r.status in ('journaling', 'journaled');
  insert into private.privacy_requests as r (kind, user_id, status, email) values ('erasure', old.id, 'journaling', case when old.email_confirmed_at is not null then "left"(old.email, 320) end)
  on conflict do nothing
  returning r.id into made;
  if made is not null then
    perform private.privacy_enqueue_journal(made);
  end if;
  -- Nobody could say later whose customers these were.
  effects := private.privacy_erase_own_customers(old.id);
  if effects <> '{}' then
    perform private.privacy_prove_stripe(r.id, effects) from private.privacy_requests as r
    where r.user_id = old.id and r.organization is null and r.kind = 'erasure' and r.status in ('journaling', 'journaled');
  end if;
  perform private.privacy_end_invitations(old.id);
  update public.organizations as o set name = 'Organization', slug = 'organization-' || "left"(gen_random_uuid()::text, 8)
  from private.sign_up_organizations as s
  where s.user_id = old.id and o.id = s.id and o.name = s.name;
  -- The log has the former name, of a row that is about nobody any more.
  update public.audit_log as e set personal_salt = null
  from private.sign_up_organizations as s
  where s.user_id = old.id and e.org_id = s.id and e.target_type = 'organization' and e.personal is not null
    and jsonb_path_query_array(e.personal, '$.*.*') ? s.name;
  return case tg_op when 'DELETE' then old else new end;
end
$$;
comment on function private.privacy_before_user_deleted() is 'Trigger: an account that is deleted without request_erasure() is written into the journal and erased as one with it. While their organizations are there, their customers at Stripe are erased, their open invitations end, and what sign-up named after them gets another name. Definer: the login role may write auth only.';
create trigger kijko_user_privacy_rename before delete on auth.users
  for each row execute function private.privacy_before_user_deleted();
create trigger kijko_user_privacy_soft_rename before update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.privacy_before_user_deleted();
