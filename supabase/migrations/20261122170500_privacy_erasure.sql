-- ============================================================================
-- Privacy: erasures. First the journal, then the rows, then the proofs. Each step can be repeated.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- The journal, which the sidecar writes
-- ----------------------------------------------------------------------------

create function private.privacy_enqueue_journal(request_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.jobs_enqueue(
    kijko.platform_org_id(), 'privacy_erasure', jsonb_build_object('request_id', privacy_enqueue_journal.request_id),
    priority => 5::smallint, max_attempts => 100, timeout_seconds => 60, unique_key => privacy_enqueue_journal.request_id::text
  );
end
$$;
comment on function private.privacy_enqueue_journal(uuid) is 'Queues the job that writes an erasure into the journal.';

create function private.privacy_start_journal(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  if request.status is distinct from 'journaling' then
    return null;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('id', request.id, 'user_id', request.user_id, 'org_id', request.organization, 'at', kijko.now()));
end
$$;
comment on function private.privacy_start_journal(text, uuid, integer) is 'The entry of the journal for an erasure that is due: {id, user_id, org_id, at}. Null when the lease was lost or it is there already. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_start_journal(text, uuid, integer) to kijko_sidecar;

create function private.privacy_finish_journal(worker text, job_id uuid, attempt integer, entry_sha256 text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  update private.privacy_requests as r set status = 'journaled', journaled_at = clock_timestamp() where r.id = request.id and r.status = 'journaling';
  if not found then
    return false;
  end if;
  perform private.privacy_prove(request.id, 'journal', 'done', jsonb_build_object('sha256', entry_sha256));
  return true;
end
$$;
comment on function private.privacy_finish_journal(text, uuid, integer, text) is 'Says that an erasure is in the journal, on the disk; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_finish_journal(text, uuid, integer, text) to kijko_sidecar;

create function private.privacy_prove(request_id uuid, target text, state text, details jsonb, due_at timestamptz default null) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into private.privacy_proofs as p (request_id, target, state, details, due_at, proved_at)
  values (
    privacy_prove.request_id, privacy_prove.target, privacy_prove.state, privacy_prove.details, privacy_prove.due_at,
    case when privacy_prove.state <> 'pending' then kijko.now() end
  )
  on conflict on constraint privacy_proofs_pkey do update set
    -- A repetition finds fewer rows than the first time.
    state = excluded.state, details = excluded.details || p.details, due_at = excluded.due_at, proved_at = excluded.proved_at
$$;
comment on function private.privacy_prove(uuid, text, text, jsonb, timestamptz) is 'Records what an erasure did at a place.';

-- ----------------------------------------------------------------------------
-- Stripe: the address goes, invoices stay
-- ----------------------------------------------------------------------------

create function private.privacy_redact_event(payload jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  personal constant text[] := array[
    'email', 'name', 'phone', 'address', 'shipping', 'billing_details', 'receipt_email', 'customer_email', 'customer_name', 'customer_phone',
    'customer_address', 'customer_shipping', 'customer_details', 'description'
  ];
  place text;
begin
  foreach place in array array['object', 'previous_attributes'] loop
    if jsonb_typeof(payload #> array['data', place]) = 'object' then
      payload := jsonb_set(payload, array['data', place], (payload #> array['data', place]) - personal);
    end if;
  end loop;
  return payload;
end
$$;
comment on function private.privacy_redact_event(jsonb) is 'An event of Stripe without what it says about a person.';

create function private.privacy_customers(request private.privacy_requests) returns table (id text, livemode boolean, organization uuid, is_sole boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.id, c.livemode, coalesce(c.org_id, kijko.platform_org_id()), coalesce(c.org_id = any (private.privacy_sole_organizations(request.user_id)), false)
  from public.stripe_customers as c
  where request.organization is null and (
    lower(c.email collate "C") = lower(request.email collate "C") or c.org_id = any (private.privacy_sole_organizations(request.user_id))
  )
$$;
comment on function private.privacy_customers(private.privacy_requests) is 'Customers at Stripe with the person''s address, and those of organizations that go with them.';

create function private.privacy_erase_customer(customer text, is_live boolean, org uuid, is_sole boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.billing_send(
    'customer_erasure', customer, org, 'POST', '/v1/customers/' || customer,
    case when is_sole then '{"email": "", "name": "", "phone": "", "address": "", "shipping": ""}'::jsonb else '{"email": ""}'::jsonb end
  );
  update public.stripe_customers as c set email = null, name = case when is_sole then null else c.name end
  where c.id = customer and c.livemode = is_live;
  update private.stripe_events as e set payload = private.privacy_redact_event(e.payload)
  where e.livemode = is_live and (e.object_id = customer or e.payload #>> '{data,object,customer}' = customer)
    and private.privacy_redact_event(e.payload) <> e.payload;
  -- What Stripe was told of the name and address.
  update private.billing_effects as e set details = '{}' where e.kind = 'customer' and e.subject = customer and is_sole;
end
$$;
comment on function private.privacy_erase_customer(text, boolean, uuid, boolean) is 'Takes the person''s address from a customer at Stripe and from what is mirrored here; of an organization that goes with the person name, telephone and postal address, too. Invoices stay.';

-- ----------------------------------------------------------------------------
-- Rows
-- ----------------------------------------------------------------------------

create function private.privacy_erase_column(tie private.data_subject_columns, person uuid, address text, org uuid) returns bigint
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
    when 'email' then format('lower(t.%I collate "C") = lower($2 collate "C")', tie.column_name) else format('t.%I = $1', tie.column_name)
  end || case when org is null then '' else format(' and t.%I = $3', org_column) end;
  if tie.erasure = 'delete' then
    execute format('delete from %s as t where %s', tie.table_name, condition) using person, address, org;
  else
    execute format(
      'update %s as t set %s where %s', tie.table_name,
      (select string_agg(format('%I = null', c.name), ', ') from unnest(tie.columns || tie.column_name::text) as c (name)), condition
    ) using person, address, org;
  end if;
  get diagnostics erased = row_count;
  return erased;
end
$$;
comment on function private.privacy_erase_column(private.data_subject_columns, uuid, text, uuid) is 'Deletes or empties the rows that a column ties to a person, in an organization or everywhere; returns how many. Null for a table without organizations while one is meant. Nullable: result.';

create function private.privacy_count_column(tie private.data_subject_columns, person uuid, address text, org uuid) returns bigint
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
    when tie.matches = 'email' then format('lower(t.%I collate "C") = lower($2 collate "C")', tie.column_name)
    when is_text then format('t.%I = $1::text', tie.column_name)
    else format('t.%I = $1', tie.column_name)
  end || case when org is null then '' else format(' and t.%I = $3', org_column) end)
  into rows using person, address, org;
  return rows;
end
$$;
comment on function private.privacy_count_column(private.data_subject_columns, uuid, text, uuid) is 'How many rows a column ties to a person.';

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
  if to_regclass('storage.objects') is null or request.organization is not null then
    return '{"deleted": 0}'::jsonb;
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
comment on function private.privacy_erase_storage(private.privacy_requests) is 'Deletes the objects of a person outside organizations, and clears who wrote those of organizations; says how many. Those of organizations that go with the person go with them.';

create function private.privacy_erase_rows(request private.privacy_requests) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  tie private.data_subject_columns;
  rows bigint;
  counts jsonb := '{}'::jsonb;
begin
  for tie in
    select s.* from private.data_subject_columns as s
    where s.erasure <> 'keep' and s.table_name not in ('auth.users', 'public.profiles', 'private.privacy_requests') and s.relation is not null
      -- The user's deletion does what foreign keys say. In one organization they are followed here.
      and (not s.by_foreign_key or (request.organization is not null and s.table_name ~ '^(public|private)\.'))
    -- What foreign keys to the membership do must happen before their columns are emptied.
    order by s.table_name = 'public.memberships' desc, s.is_about desc, s.table_name, s.column_name
  loop
    rows := private.privacy_erase_column(tie, request.user_id, request.email, request.organization);
    if rows > 0 then
      counts := counts || jsonb_build_object(tie.table_name || '.' || tie.column_name, rows);
    end if;
  end loop;
  return counts;
end
$$;
comment on function private.privacy_erase_rows(private.privacy_requests) is 'Deletes and empties what private.data_subject_columns ties to the person; says how many rows of which column.';

create function private.privacy_left(request private.privacy_requests, kept boolean) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(c.table_name || '.' || c.column_name, c.rows), '{}')
  from (
    select s.table_name, s.column_name, private.privacy_count_column(s, request.user_id, request.email, request.organization) as rows
    from private.data_subject_columns as s
    where (s.erasure = 'keep') = kept and s.relation is not null
      -- Login's own tables go by their foreign keys.
      and s.table_name !~ '^auth_api\.' and has_table_privilege(s.relation, 'select')
      and not (request.organization is not null and s.table_name = 'public.profiles')
      -- Of a user who is softly deleted the id stays, and with it what foreign keys tie to it.
      and not (
        (s.by_foreign_key or s.table_name in ('auth.users', 'public.profiles'))
        and exists (select from auth.users as u where u.id = request.user_id and u.deleted_at is not null)
      )
  ) as c
  where c.rows > 0
$$;
comment on function private.privacy_left(private.privacy_requests, boolean) is 'How many rows are still tied to a person, by column: kept ones, or those that an erasure should have taken.';

create function private.privacy_erase(request_id uuid, is_replay boolean default false) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  request private.privacy_requests;
  customer record;
  customers integer := 0;
  identities bigint;
  storage_counts jsonb;
  counts jsonb;
  rest jsonb;
begin
  select r.* into request from private.privacy_requests as r where r.id = request_id and r.status = 'journaled' for update skip locked;
  if request.id is null then
    return false;
  end if;
  select count(*) into identities from auth.identities as i where i.user_id = request.user_id;
  for customer in select c.* from private.privacy_customers(request) as c loop
    perform private.privacy_erase_customer(customer.id, customer.livemode, customer.organization, customer.is_sole);
    customers := customers + 1;
  end loop;
  storage_counts := private.privacy_erase_storage(request);
  counts := private.privacy_erase_rows(request);
  if request.organization is null then
    delete from auth.sessions as s where s.user_id = request.user_id;
    delete from auth.users as u where u.id = request.user_id and u.deleted_at is null;
    -- Rows that were written by the deletion itself.
    counts := private.privacy_erase_rows(request) || counts;
  else
    perform private.audit_record(request.organization, 'privacy.erased', 'user', request.user_id::text, after => jsonb_build_object('request', request.id));
  end if;
  rest := private.privacy_left(request, kept => false);
  if rest <> '{}' then
    perform kijko.fail('internal', format('erasure %s: left over: %s', request.id, rest));
  end if;
  perform private.privacy_prove(request.id, 'database', 'done', counts);
  perform private.privacy_prove(request.id, 'events', 'kept', private.privacy_left(request, kept => true) || jsonb_build_object('reason', 'evidence and billing, by private.data_subjects and private.data_retention'));
  perform private.privacy_prove(request.id, 'mail', 'done', jsonb_build_object('messages', coalesce(counts -> 'private.mail_messages.recipient', '0')));
  perform private.privacy_prove(request.id, 'model_calls', 'done', jsonb_build_object('contents', coalesce(counts -> 'public.llm_call_contents.created_by', '0')));
  perform private.privacy_prove(request.id, 'storage', 'pending', storage_counts, kijko.now() + interval '30 days');
  perform private.privacy_prove(request.id, 'stripe', case when customers > 0 then 'pending' else 'done' end, jsonb_build_object('customers', customers));
  perform private.privacy_prove(request.id, 'identities', 'pending', jsonb_build_object('identities', identities), kijko.now() + interval '1 day');
  perform private.privacy_prove(request.id, 'audit', 'pending', '{}', kijko.now() + interval '1 day');
  perform private.privacy_prove(request.id, 'backups', 'pending', '{}', kijko.now() + (select s.backup_lifetime from private.privacy_settings as s));
  if not is_replay then
    perform private.privacy_confirm_done(request);
  end if;
  update private.privacy_requests as r
  set status = 'done', finished_at = kijko.now(), email = null, code_hash = null, code_expires_at = null, requested_by = null, session_id = null
  where r.id = request.id;
  delete from private.privacy_requests as r
  where r.user_id = request.user_id and r.kind = 'export' and request.organization is null;
  update private.privacy_requests as r set requested_by = null, session_id = null, email = null, code_hash = null, code_expires_at = null, object_name = null
  where r.kind = 'erasure' and request.organization is null and (r.user_id = request.user_id or r.requested_by = request.user_id) and r.status in ('done', 'cancelled', 'expired', 'failed');
  return true;
end
$$;
comment on function private.privacy_erase(uuid, boolean) is 'Erases a person whose erasure is in the journal, and records what was done where; false if there is nothing to do. Fails, and changes nothing, if rows are left that should be gone. is_replay: after a restore, when the person is not told again.';

create function private.privacy_confirm_done(request private.privacy_requests) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if private.mail_is_address(request.email) then
    perform private.mail_store(
      kijko.platform_org_id(), request.email, 'erasure_done', null, jsonb_build_object('subject', private.privacy_subject_text(request)),
      dedupe_key => 'erasure_done:' || request.id
    );
  end if;
end
$$;
comment on function private.privacy_confirm_done(private.privacy_requests) is 'Mails that an erasure is done. The mail is deleted an hour after it was sent.';

-- ----------------------------------------------------------------------------
-- Accounts that are deleted otherwise: by delete_account(), or by an operator. They must not come back either.
-- ----------------------------------------------------------------------------

create function private.privacy_on_user_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made uuid;
begin
  if old.is_anonymous then
    return null;
  end if;
  update private.privacy_requests as r set status = 'cancelled', email = null, code_hash = null, finished_at = kijko.now()
  where r.user_id = old.id and r.organization is null and r.kind = 'erasure' and r.status in ('unconfirmed', 'confirmed');
  insert into private.privacy_requests as r (kind, user_id, status, email) values ('erasure', old.id, 'journaling', "left"(old.email, 320))
  on conflict do nothing
  returning r.id into made;
  if made is not null then
    perform private.privacy_enqueue_journal(made);
  end if;
  return null;
end
$$;
comment on function private.privacy_on_user_deleted() is 'Trigger: an account that was deleted without request_erasure() is written into the journal and erased as one with it. Definer: the login role may write auth only.';
create trigger kijko_user_privacy_deleted after delete on auth.users
  for each row execute function private.privacy_on_user_deleted();
create trigger kijko_user_privacy_soft_deleted after update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.privacy_on_user_deleted();
