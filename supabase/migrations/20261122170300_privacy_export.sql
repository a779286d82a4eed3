-- ============================================================================
-- Privacy: exports. An export has what an erasure of the account would delete or empty, and what is about the person and kept:
--   about         rows about the person, wherever they are
--   organization  all rows of organizations of which nobody else is a member
--   made          of rows that they made in other organizations the keys, and when
-- ============================================================================

create function private.privacy_sole_organizations(person uuid) returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(m.org_id order by m.org_id), '{}')
  from public.memberships as m
  where m.user_id = person and m.role = 'owner'
    and not exists (
      select from public.memberships as o where o.org_id = m.org_id and o.user_id <> person and private.tenancy_is_active_member(o)
    )
$$;
comment on function private.privacy_sole_organizations(uuid) is 'Organizations that are deleted with a person: nobody else is a member.';

create function private.privacy_org_column(described text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when described = 'public.organizations' then 'id' else (
    select a.attname from pg_attribute as a
    where a.attrelid = to_regclass(described) and not a.attisdropped and a.atttypid = 'uuid'::regtype and a.attname in ('org_id', 'organization', 'organization_id', 'org')
    order by a.attname = 'org_id' desc limit 1
  ) end
$$;
comment on function private.privacy_org_column(text) is 'The column of a table that says which organization a row belongs to; null without one. Nullable: result.';

-- $1: the person, $2: their addresses, $3: organizations.
create function private.privacy_match(described text, about boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(case
    when s.matches = 'email' then private.privacy_address_condition(described, s.column_name)
    when a.atttypid = 'uuid'::regtype then format('t.%I = $1', s.column_name)
    else format('t.%I = $1::text', s.column_name)
  end, ' or ' order by s.column_name), 'false')
  from private.data_subject_columns as s
  join pg_attribute as a on a.attrelid = s.relation and a.attname = s.column_name
  where s.table_name = described and (about is null or s.is_about = about)
$$;
comment on function private.privacy_match(text, boolean) is 'The condition that a row is about a person, or made by them, as SQL about t with $1, their id, and $2, their addresses.';

-- Other people's ids and addresses, and what is theirs beside them, are no part of it.
create function private.privacy_export_row(described text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  row_text text;
  tie record;
  -- Columns about people whom no tie names, such as users of an organization's product.
  untied constant text[] := array(
    select d.column_name from private.data_catalogue as d
    where d.table_name = described and d.subject = 'person' and not exists (
      select from private.data_subject_columns as s where s.table_name = described and (s.column_name = d.column_name or d.column_name = any (s.columns))
    )
  );
begin
  row_text := format('to_jsonb(t) - %L::text[]', array(
    select a.attname from pg_attribute as a
    where a.attrelid = to_regclass(described) and a.attnum > 0 and not a.attisdropped and not exists (
      select from private.data_catalogue as d
      where d.table_name = described and d.column_name = a.attname and d.export <> 'none' and d.subject <> 'secret'
    )
  ));
  for tie in
    select s.column_name, s.matches, s.columns, a.atttypid = 'uuid'::regtype as is_uuid
    from private.data_subject_columns as s
    join pg_attribute as a on a.attrelid = s.relation and a.attname = s.column_name
    where s.table_name = described order by s.column_name
  loop
    row_text := row_text || format(
      ' - case when %s then ''{}''::text[] else %L::text[] end',
      case
        when tie.matches = 'email' then format('coalesce(%s, false)', private.privacy_address_condition(described, tie.column_name))
        when tie.is_uuid then format('t.%I is not distinct from $1', tie.column_name)
        else format('t.%I is not distinct from $1::text', tie.column_name)
      end,
      tie.columns || tie.column_name::text
    );
  end loop;
  if untied <> '{}' then
    row_text := row_text || format(' - case when (%s) then ''{}''::text[] else %L::text[] end', private.privacy_match(described, true), untied);
  end if;
  return row_text;
end
$$;
comment on function private.privacy_export_row(text) is 'What an export has of a row, as SQL about t with $1, the person''s id, and $2, their addresses.';

create function private.privacy_export_keys(described text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('jsonb_build_object(%s)', coalesce(string_agg(format('%L, t.%I', a.attname, a.attname), ', ' order by a.attnum), ''))
  from pg_attribute as a
  where a.attrelid = to_regclass(described) and a.attnum > 0 and not a.attisdropped and exists (
    select from private.data_catalogue as d
    where d.table_name = described and d.column_name = a.attname and d.export <> 'none' and d.subject <> 'secret'
  ) and (
    a.attname in ('org_id', 'created_at')
    or exists (select from pg_index as i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey))
  )
$$;
comment on function private.privacy_export_keys(text) is 'Keys of a row that a person made in an organization of others, as SQL about t.';

create function private.privacy_export_query(request private.privacy_requests, described text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org_column constant text := private.privacy_org_column(described);
  about constant text := private.privacy_match(described, true);
  made constant text := private.privacy_match(described, false);
  has_content constant boolean := exists (select from private.data_catalogue as d where d.table_name = described and d.export <> 'none' and d.subject <> 'secret');
  own constant text := case when org_column is null or request.organization is not null then 'false' else format('t.%I = any ($3)', org_column) end;
begin
  if not has_content or (org_column is null and (request.organization is not null or (about = 'false' and made = 'false'))) then
    return null;
  end if;
  return format(
    $q$select jsonb_build_object('relation', case when %1$s then 'about' when %2$s then 'organization' else 'made' end,
      'row', case when (%1$s) or (%2$s) then %4$s else %5$s end)::text as line
    from %6$s as t where (%1$s or %2$s or %3$s)%7$s$q$,
    format('(%s)', about), own, format('(%s)', made), private.privacy_export_row(described), private.privacy_export_keys(described), described,
    case when request.organization is null then '' else format(' and t.%I = any ($3)', org_column) end
  );
end
$$;
comment on function private.privacy_export_query(private.privacy_requests, text) is 'The query for an export''s lines of a table; null for one that has none. Nullable: result.';

-- Ties say in which columns ids of people are. Others may be anywhere, such as in the audit log of who was a member before.
create function private.privacy_hide_people(lines text, person uuid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  other uuid;
begin
  for other in
    select u.id from auth.users as u
    where u.id <> person and u.id in (
      select m.found[1]::uuid from regexp_matches(lines, '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'g') as m (found)
    )
  loop
    lines := replace(lines, other::text, '00000000-0000-0000-0000-000000000000');
  end loop;
  return lines;
end
$$;
comment on function private.privacy_hide_people(text, uuid) is 'Lines of an export with zeros in the place of the ids of other users.';

create function private.privacy_collect(request_id uuid) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  max_chunk constant integer := 524288;
  request private.privacy_requests;
  addresses text[];
  orgs uuid[];
  described text;
  query text;
  line text;
  lines text[];
  size integer;
  place integer := 0;
begin
  select r.* into request from private.privacy_requests as r where r.id = request_id and r.status = 'queued' for update skip locked;
  if request.id is null then
    return null;
  elsif not exists (select from auth.users as u where u.id = request.user_id and u.deleted_at is null) then
    update private.privacy_requests as r set status = 'failed', error_code = 'person_gone', email = null, finished_at = kijko.now() where r.id = request.id;
    return null;
  end if;
  addresses := private.privacy_addresses(request);
  orgs := case when request.organization is null then private.privacy_sole_organizations(request.user_id) else array[request.organization] end;
  delete from private.privacy_export_chunks as c where c.request_id = request.id;
  for described in
    select distinct d.table_name from private.data_catalogue as d
    where to_regclass(d.table_name) is not null and d.table_name not in ('private.privacy_export_chunks', 'private.data_catalogue') order by 1
  loop
    query := private.privacy_export_query(request, described);
    continue when query is null;
    lines := '{}';
    size := 0;
    for line in execute query using request.user_id, addresses, orgs loop
      lines := lines || line;
      size := size + octet_length(line);
      if size >= max_chunk then
        place := place + 1;
        insert into private.privacy_export_chunks (request_id, n, table_name, lines, row_count)
        values (request.id, place, described, private.privacy_hide_people(array_to_string(lines, E'\n') || E'\n', request.user_id), cardinality(lines));
        lines := '{}';
        size := 0;
      end if;
    end loop;
    if cardinality(lines) > 0 then
      place := place + 1;
      insert into private.privacy_export_chunks (request_id, n, table_name, lines, row_count)
      values (request.id, place, described, private.privacy_hide_people(array_to_string(lines, E'\n') || E'\n', request.user_id), cardinality(lines));
    end if;
  end loop;
  update private.privacy_requests as r set status = 'collected' where r.id = request.id;
  perform private.jobs_enqueue(
    kijko.platform_org_id(), 'privacy_export', jsonb_build_object('request_id', request.id), max_attempts => 10, timeout_seconds => 3600,
    unique_key => request.id::text
  );
  return place;
end
$$;
comment on function private.privacy_collect(uuid) is 'Collects the rows of a queued export and queues the job that makes its archive; returns how many pieces. Null if it is not queued, or the person is gone. Nullable: result.';

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.privacy_lock(worker text, job_id uuid, attempt integer) returns private.privacy_requests
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  request private.privacy_requests;
begin
  select r.* into request from private.privacy_requests as r where r.id = private.as_uuid(job.payload ->> 'request_id') for update;
  return request;
end
$$;
comment on function private.privacy_lock(text, uuid, integer) is 'The request of a job that this worker still holds, locked; null when the lease was lost. Nullable: result.';

create function private.privacy_export_objects(request private.privacy_requests) returns table (id uuid, bucket text, name text, version text, bytes bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  orgs constant uuid[] := private.privacy_sole_organizations(request.user_id);
begin
  if request.organization is not null or to_regclass('storage.objects') is null then
    return;
  end if;
  return query
  select o.id, o.bucket_id, o.name, o.version, private.storage_object_bytes(o.metadata, null)
  from storage.objects as o
  left join private.metered_buckets as m on m.bucket_id = o.bucket_id
  where o.bucket_id <> 'privacy-exports'
    and case when m.bucket_id is null then o.owner_id = request.user_id::text else private.storage_org_id(o.name) = any (orgs) end
  order by o.bucket_id, o.name;
end
$$;
comment on function private.privacy_export_objects(private.privacy_requests) is 'The files of an export: those of organizations of which nobody else is a member, and the person''s own outside organizations.';

create function private.privacy_start_export(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
  pieces integer;
begin
  if request.id is null or request.status <> 'collected' then
    return null;
  end if;
  select count(*) into pieces from private.privacy_export_chunks as c where c.request_id = request.id;
  if pieces = 0 then
    -- A crash has emptied the table.
    update private.privacy_requests as r set status = 'queued' where r.id = request.id;
    return null;
  end if;
  return jsonb_build_object(
    'request_id', request.id, 'user_id', request.user_id, 'org_id', request.organization, 'created_at', request.created_at, 'pieces', pieces,
    'object_name', request.user_id || '/' || request.id || '.zip',
    'schema', (
      select jsonb_object_agg(t.table_name, t.columns)
      from (
        select d.table_name, jsonb_agg(jsonb_build_object('name', d.column_name, 'type', format_type(a.atttypid, a.atttypmod), 'purpose', d.purpose) order by a.attnum) as columns
        from private.data_catalogue as d
        join pg_attribute as a on a.attrelid = to_regclass(d.table_name) and a.attname = d.column_name
        where d.export <> 'none' and d.subject <> 'secret'
          and d.table_name in (select c.table_name from private.privacy_export_chunks as c where c.request_id = request.id)
        group by d.table_name
      ) as t
    ),
    'objects', (
      select coalesce(jsonb_agg(jsonb_build_object('id', o.id, 'bucket', o.bucket, 'name', o.name, 'version', o.version, 'bytes', o.bytes)), '[]')
      from private.privacy_export_objects(request) as o
    )
  );
end
$$;
comment on function private.privacy_start_export(text, uuid, integer) is 'What the archive of an export is made of: {request_id, user_id, org_id, created_at, pieces, object_name, schema, objects}. Null when the lease was lost, and when the rows are collected again. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_start_export(text, uuid, integer) to kijko_sidecar;

create function private.privacy_export_piece(worker text, job_id uuid, attempt integer, place integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  return (
    select jsonb_build_object('table', c.table_name, 'lines', c.lines, 'rows', c.row_count)
    from private.privacy_export_chunks as c where c.request_id = request.id and c.n = place and request.status = 'collected'
  );
end
$$;
comment on function private.privacy_export_piece(text, uuid, integer, integer) is 'A piece of an export: {table, lines, rows}. Null when the lease was lost, or a crash has emptied the table. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_export_piece(text, uuid, integer, integer) to kijko_sidecar;

create function private.privacy_ticket(action text, bucket text, name text) returns text
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select kijko.seal(jsonb_build_object(
    'action', action, 'bucket_id', bucket, 'name', name, 'owner', '{}'::jsonb, 'expires_at', extract(epoch from clock_timestamp() + interval '5 minutes')
  )::text, 'privacy/ticket')
$$;
comment on function private.privacy_ticket(text, text, text) is 'A ticket with which the sidecar reads an object of the storage service, or writes one, within five minutes.';

create function private.privacy_redeem(ticket text, action text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened jsonb;
begin
  if kijko.can_unseal(ticket, 'privacy/ticket') then
    opened := kijko.unseal(ticket, 'privacy/ticket')::jsonb;
  end if;
  return case
    when opened ->> 'action' = privacy_redeem.action and (opened ->> 'expires_at')::numeric > extract(epoch from clock_timestamp())
    then opened - array['action', 'expires_at']
  end;
end
$$;
comment on function private.privacy_redeem(text, text) is 'The object that a ticket is for, {bucket_id, name, owner}, if it is for this action, read or write; null for any other text, and after five minutes. Nullable: result. Definer: only the domain opens what it has sealed.';
do $$
begin
  if to_regrole('kijko_storage_admin') is not null then
    grant execute on function private.privacy_redeem(text, text) to kijko_storage_admin;
  end if;
end
$$;

create function private.privacy_object_ticket(worker text, job_id uuid, attempt integer, object_id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  return (
    select private.privacy_ticket('read', o.bucket, o.name)
    from private.privacy_export_objects(request) as o where request.status = 'collected' and o.id = object_id
  );
end
$$;
comment on function private.privacy_object_ticket(text, uuid, integer, uuid) is 'A ticket for a file of an export; null when the lease was lost or the file is gone. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_object_ticket(text, uuid, integer, uuid) to kijko_sidecar;

create function private.privacy_store_ticket(worker text, job_id uuid, attempt integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  if request.status is distinct from 'collected' then
    return null;
  end if;
  update private.privacy_requests as r set object_name = r.user_id || '/' || r.id || '.zip' where r.id = request.id;
  return private.privacy_ticket('write', 'privacy-exports', request.user_id || '/' || request.id || '.zip');
end
$$;
comment on function private.privacy_store_ticket(text, uuid, integer) is 'A ticket with which the archive is stored; null when the lease was lost. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_store_ticket(text, uuid, integer) to kijko_sidecar;

create function private.privacy_finish_export(worker text, job_id uuid, attempt integer, bytes bigint, sha256 text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  update private.privacy_requests as r
  set status = 'ready', bytes = privacy_finish_export.bytes, sha256 = privacy_finish_export.sha256, email = null, finished_at = kijko.now(),
    expires_at = kijko.now() + (select s.export_lifetime from private.privacy_settings as s)
  where r.id = request.id and r.status = 'collected';
  if not found then
    return false;
  end if;
  delete from private.privacy_export_chunks as c where c.request_id = request.id;
  return true;
end
$$;
comment on function private.privacy_finish_export(text, uuid, integer, bigint, text) is 'Says that the archive of an export is stored; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_finish_export(text, uuid, integer, bigint, text) to kijko_sidecar;
