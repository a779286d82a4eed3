-- ============================================================================
-- Audit: how an entry is written.
--
-- private.audit_table() gives a table its triggers. Functions that change what no row shows call private.audit_record().
-- An entry that cannot be written fails what it is about: nothing happens without its trace.
-- ============================================================================

-- In plpgsql, as the functions below that read rows: an SQL function that is not inlined is planned in each call.
create function private.audit_actor_kind(caller kijko.caller) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when caller.kind <> 'none' then caller.kind
    when session_user = 'authenticator' then 'anonymous'
    when session_user in ('kijko_login', 'supabase_auth_admin') then 'login'
    when session_user like 'kijko\_%' then 'system'
    -- A schedule runs in a worker of pg_cron, which has no client.
    when (select a.backend_type from pg_stat_get_activity(pg_backend_pid()) as a) <> 'client backend' then 'system'
    else 'operator'
  end;
end
$$;
comment on function private.audit_actor_kind(kijko.caller) is 'What the caller is, as audit_log.actor_kind says it.';

create function private.audit_insert(
  orgs uuid[], action text, target_type text, target_id text, subject uuid default null,
  before jsonb default null, after jsonb default null, personal jsonb default null, actor uuid default null,
  address inet default null, user_agent text default null
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  -- Nothing that a client sends, and no length of it, can make the insert fail.
  insert into public.audit_log (
    org_id, action, actor_kind, created_by, created_by_key, target_type, target_id, subject_user_id, request_id,
    before, after, personal, address, user_agent
  )
  select
    o.org_id, audit_insert.action, case when actor is not null then 'user' else private.audit_actor_kind(caller) end,
    coalesce(actor, caller.user_id), caller.api_key_id, audit_insert.target_type, "left"(audit_insert.target_id, 200), subject,
    nullif("left"(kijko.request_header('x-request-id'), 200), ''),
    audit_insert.before, audit_insert.after, audit_insert.personal,
    coalesce(audit_insert.address, kijko.client_address(), inet_client_addr()),
    nullif("left"(coalesce(audit_insert.user_agent, kijko.request_header('user-agent')), 512), '')
  from unnest(orgs) as o (org_id);
end
$$;
comment on function private.audit_insert(uuid[], text, text, text, uuid, jsonb, jsonb, jsonb, uuid, inet, text) is 'Writes an entry for each of the organizations, by one insert. actor: a user who is no caller yet, and signs in. address and user_agent replace those of the request. Called by definer functions only.';

create function private.audit_record(org_id uuid, action text, target_type text, target_id text, before jsonb default null, after jsonb default null)
returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_insert(
    array[coalesce(audit_record.org_id, kijko.platform_org_id())], audit_record.action, audit_record.target_type, audit_record.target_id,
    before => audit_record.before, after => audit_record.after
  );
end
$$;
comment on function private.audit_record(uuid, text, text, text, jsonb, jsonb) is 'Writes an entry about what no trigger sees. Without an organization it is the platform''s. before and after hold neither secrets nor data of people. Called by definer functions only.';

-- ----------------------------------------------------------------------------
-- Rows of tables
-- ----------------------------------------------------------------------------

-- A value may be as long as its table allows, and an entry must not grow with it. Without a "set" clause, so that Postgres inlines it.
create function private.audit_value(value jsonb, form text) returns jsonb
language sql stable parallel safe
return case
  when value = 'null' then value
  -- Paths and queries of addresses are secrets of whom they belong to.
  when form = 'host' then to_jsonb(substring(value #>> '{}' from '^[a-z][a-z0-9+.-]*://[^/?#@]*'))
  when octet_length(value::text) > 4096 then to_jsonb('sha256:' || encode(sha256(convert_to(value::text, 'UTF8')), 'hex'))
  else value
end;
comment on function private.audit_value(jsonb, text) is 'A value as an entry has it: with the form host of an address only scheme and host, and of a value of more than 4 KiB its SHA-256. Nullable: result.';

create function private.audit_columns(changed jsonb, columns text) returns jsonb
language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select jsonb_object_agg(c.name, private.audit_value(changed -> c.name, c.form))
    from (select split_part(w.entry, ':', 1) as name, split_part(w.entry, ':', 2) as form from string_to_table(columns, ',') as w (entry)) as c
  );
end
$$;
comment on function private.audit_columns(jsonb, text) is 'The named columns of a row, as "name,url:host": of an address with :host only scheme and host, and of a value of more than 4 KiB its SHA-256. Nullable: result.';

-- As two calls of audit_columns(), by one query, which writes down only what differs.
create function private.audit_changes(former jsonb, latter jsonb, columns text, out before jsonb, out after jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  select jsonb_object_agg(c.name, c.former), jsonb_object_agg(c.name, c.latter) into before, after
  from (
    select n.name, private.audit_value(n.former, n.form) as former, private.audit_value(n.latter, n.form) as latter
    from (
      select w.name, w.form, audit_changes.former -> w.name as former, audit_changes.latter -> w.name as latter
      from (select split_part(e.entry, ':', 1) as name, split_part(e.entry, ':', 2) as form from string_to_table(columns, ',') as e (entry)) as w
    ) as n
    where n.former is distinct from n.latter
  ) as c
  where c.former is distinct from c.latter;
end
$$;
comment on function private.audit_changes(jsonb, jsonb, text) is 'The named columns that two states of a row do not have in common, as private.audit_columns() gives them. Null if there are none. Nullable: before, after.';

-- Arguments: type, columns, columns about a person, column of the user whom the row is about, column of the organization, of the id.
create function private.audit_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  former constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  latter constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  whole constant jsonb := coalesce(latter, former);
  org uuid := (whole ->> tg_argv[4])::uuid;
  before jsonb;
  after jsonb;
  personal jsonb;
begin
  if tg_op = 'DELETE' and not exists (select 1 from public.organizations as o where o.id = org) then
    if tg_argv[0] <> 'organization' then
      return null; -- it goes with its organization, whose log goes, too
    end if;
    org := kijko.platform_org_id();
  end if;
  if tg_argv[2] <> '' then
    personal := nullif(jsonb_strip_nulls(jsonb_build_object(
      'before', private.audit_columns(former, tg_argv[2]), 'after', private.audit_columns(latter, tg_argv[2])
    )), '{}');
  end if;
  if tg_op = 'UPDATE' then
    if (personal -> 'before') is not distinct from personal -> 'after' then
      personal := null;
    end if;
    select c.before, c.after into before, after from private.audit_changes(former, latter, tg_argv[1]) as c;
    if before is null and personal is null then
      return null;
    end if;
  else
    before := private.audit_columns(former, tg_argv[1]);
    after := private.audit_columns(latter, tg_argv[1]);
  end if;
  perform private.audit_insert(
    array[coalesce(org, kijko.platform_org_id())],
    tg_argv[0] || case tg_op when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end,
    tg_argv[0], whole ->> tg_argv[5], (whole ->> nullif(tg_argv[3], ''))::uuid, before, after, personal
  );
  return null;
end
$$;
comment on function private.audit_row() is 'Trigger: writes an entry about the row, with the columns that private.audit_table() was given. Definer: nobody else writes entries.';

create function private.audit_table(
  audited regclass, target_type text, columns text[], personal text[] default '{}', subject text default '', org_column text default 'org_id',
  id_column text default 'id', events text default 'insert,update,delete'
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = audited);
  arguments constant text := format(
    '%L, %L, %L, %L, %L, %L', target_type, array_to_string(columns, ','), array_to_string(personal, ','), subject, org_column, id_column
  );
  named constant text[] := array(select distinct split_part(c.entry, ':', 1) from unnest(columns || personal) as c (entry) order by 1);
  event text;
begin
  foreach event in array string_to_array(events, ',') loop
    execute format(
      'create trigger %I after %s on %s for each row %s execute function private.audit_row(%s)',
      short_name || '_audit_' || event, event, audited,
      case when event = 'update' then format(
        'when (row(%s) is distinct from row(%s))',
        (select string_agg(format('old.%I', n.name), ', ') from unnest(named) as n (name)),
        (select string_agg(format('new.%I', n.name), ', ') from unnest(named) as n (name))
      ) else '' end,
      arguments
    );
  end loop;
end
$$;
comment on function private.audit_table(regclass, text, text[], text[], text, text, text, text) is 'Has changes of a table written to the audit log. columns: those that entries keep, never a secret or a hash; name:host keeps scheme and host of an address. personal: those about a person, which can be erased. subject: the column of the user whom a row is about. An update that changes none of them costs nothing.';
