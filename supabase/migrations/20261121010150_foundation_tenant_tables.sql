-- ============================================================================
-- Foundation: private.make_tenant_table(), the standard shape of a tenant table, and its steps.
-- ============================================================================

create function private.tenant_table_faults(tenant_table regclass) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('%s %s%s%s', w.name, w.type, case when w.required then ' not null' end, ' default ' || w.expression)
  from (
    values
      ('id', 'uuid', true, null),
      ('org_id', 'uuid', true, 'public.org_id()'),
      ('created_by', 'uuid', false, 'kijko.user_id()'),
      ('created_by_key', 'uuid', false, 'kijko.api_key_id()'),
      ('created_at', 'timestamp with time zone', true, 'kijko.now()'),
      ('updated_at', 'timestamp with time zone', true, 'kijko.now()')
  ) as w (name, type, required, expression)
  where not exists (
    select 1
    from pg_attribute as a
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = tenant_table and a.attname = w.name and not a.attisdropped
      and format_type(a.atttypid, null) = w.type and a.attnotnull >= w.required
      and (w.expression is null or pg_get_expr(d.adbin, d.adrelid) = w.expression)
  )
  union all
  select k.wanted
  from (
    values
      ('primary key (id)', 'PRIMARY KEY \(id\)'),
      ('org_id references public.organizations (id) on delete cascade', 'FOREIGN KEY \(org_id\) REFERENCES public\.organizations\(id\) ON DELETE CASCADE')
  ) as k (wanted, definition)
  where not exists (
    select 1 from pg_constraint as c where c.conrelid = tenant_table and pg_get_constraintdef(c.oid) ~ ('^' || k.definition || '$')
  )
  union all
  select 'foreign key (org_id, project_id) references public.projects (org_id, id)'
  where exists (select 1 from pg_attribute as a where a.attrelid = tenant_table and a.attname = 'project_id' and not a.attisdropped)
    and not exists (
      select 1 from pg_constraint as c
      where c.conrelid = tenant_table and pg_get_constraintdef(c.oid) ~ '^FOREIGN KEY \(org_id, project_id\) REFERENCES public\.projects\(org_id, id\)'
    )
$$;
comment on function private.tenant_table_faults(regclass) is 'What a table lacks to be a tenant table, each as the SQL that it needs.';

create function private.add_tenant_policies(tenant_table regclass, read_permission text, write_permission text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = tenant_table);
  columns constant text[] := array(select a.attname from pg_attribute as a where a.attrelid = tenant_table and a.attnum > 0 and not a.attisdropped);
  may_read constant text := format('org_id = any (array(select private.org_ids_with(%L)))', read_permission);
  may_write constant text := format('org_id = any (array(select private.org_ids_with(%L)))', write_permission);
  -- A row that points at a private project, or at a skill of one, is hidden with it, and read-only for the project's viewers.
  -- What a statement reads is compared with the hidden ids, which are few; what it changes, with the unwritable ones. What it
  -- writes must be writable: the answer is the same if the id does not exist.
  -- A row that points at an execution, a habit, a reflex or a job is hidden unless the policy of that table shows the other row.
  unhidden text := '';
  writable text := '';
  written text := '';
  shown text;
  pointer record;
begin
  if 'project_id' = any (columns) then
    unhidden := ' and (project_id = any (array(select private.projects_hidden_ids()))) is not true';
    writable := ' and (project_id = any (array(select private.projects_unwritable_ids()))) is not true';
    written := ' and (project_id is null or private.projects_is_writable(project_id))';
  end if;
  if 'skill_id' = any (columns) then
    unhidden := unhidden || ' and (skill_id = any (array(select private.skills_hidden_ids()))) is not true';
    writable := writable || ' and (skill_id = any (array(select private.skills_unwritable_ids()))) is not true';
    written := written || ' and (skill_id is null or private.skills_is_writable(skill_id))';
  end if;
  for pointer in
    select * from (values ('execution_id', 'executions'), ('habit_id', 'habits'), ('reflex_id', 'reflexes'), ('job_id', 'jobs')) as p (name, target) where p.name = any (columns)
  loop
    shown := format(
      ' and (%1$I is null or exists (select 1 from public.%2$I as pointed where pointed.org_id = %3$I.org_id and pointed.id = %3$I.%1$I))',
      pointer.name, pointer.target, short_name
    );
    unhidden := unhidden || shown;
    writable := writable || shown;
    written := written || shown;
  end loop;
  execute format('alter table %s enable row level security', tenant_table);
  execute format('create policy %I on %s for select to authenticated using (%s%s)', short_name || '_select', tenant_table, may_read, unhidden);
  if write_permission is null then
    return;
  end if;
  execute format('create policy %I on %s for insert to authenticated with check (%s%s)', short_name || '_insert', tenant_table, may_write, written);
  execute format(
    'create policy %I on %s for update to authenticated using (%s%s) with check (%s%s)',
    short_name || '_update', tenant_table, may_write, writable, may_write, written
  );
  execute format('create policy %I on %s for delete to authenticated using (%s%s)', short_name || '_delete', tenant_table, may_write, writable);
end
$$;
comment on function private.add_tenant_policies(regclass, text, text) is 'Row level security by permission: one policy for each operation. Without a write permission users only read. Rows with a project_id or skill_id are hidden with their project, and read-only for its viewers; rows with an execution_id, habit_id, reflex_id or job_id with the row that they point at; when that is gone, such a column must be null.';

create function private.grant_tenant_rights(tenant_table regclass, writable text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  column_name text;
begin
  execute format('grant select on %s to authenticated, service_role', tenant_table);
  if cardinality(writable) = 0 then
    return;
  end if;
  -- The keys too: an upsert sets every column that it was given. A trigger refuses other values.
  foreach column_name in array array['id', 'org_id'] || writable loop
    execute format('grant insert (%I), update (%1$I) on %s to authenticated', column_name, tenant_table);
  end loop;
  execute format('grant delete on %s to authenticated', tenant_table);
  execute format('grant insert, update, delete on %s to service_role', tenant_table);
end
$$;
comment on function private.grant_tenant_rights(regclass, text[]) is 'Users may write the named columns, id and org_id. Without columns, users and service_role only read.';

-- Only for statements of clients and functions. What a foreign key or another trigger does in consequence of one (deletes the
-- rows of a deleted project, empties a column) must not be refused.
create function private.add_tenant_guards(tenant_table regclass, writable text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = tenant_table);
  guard record;
begin
  for guard in
    select g.*
    from (values ('project_id', 'projects'), ('skill_id', 'skills')) as g (pointer, domain)
    join pg_attribute as a on a.attrelid = tenant_table and a.attname = g.pointer and not a.attisdropped
    where cardinality(writable) > 0
  loop
    execute format(
      'create trigger %I before insert or delete or update of %s on %s for each row when (pg_trigger_depth() = 0) execute function private.%I()',
      format('%s_%s_guard', short_name, guard.domain),
      (select string_agg(format('%I', w.name), ', ') from unnest(writable) as w (name)), tenant_table, guard.domain || '_guard_row'
    );
  end loop;
end
$$;
comment on function private.add_tenant_guards(regclass, text[]) is 'Triggers that refuse writes of rows whose project is archived or read-only for the caller, also by definer functions. Updates of columns that the database keeps are not guarded.';

create function private.add_tenant_triggers(tenant_table regclass, gauge text, max_rows integer, writable text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = tenant_table);
  counter constant text := case
    when gauge is not null then format('private.sync_gauge(%L)', gauge)
    when max_rows is not null then format('private.limit_tenant_rows(%L)', max_rows)
  end;
  suffix constant text := case when gauge is not null then 'gauge' else 'rows' end;
begin
  execute format('create trigger %I before update on %s for each row execute function private.touch_updated_at()', short_name || '_touch', tenant_table);
  -- Columns that say who made the row may only become null, when that user is deleted.
  execute format(
    'create trigger %I before update of id, org_id, created_by, created_by_key on %s for each row when (
       old.id is distinct from new.id
       or old.org_id is distinct from new.org_id
       or (new.created_by is not null and old.created_by is distinct from new.created_by)
       or (new.created_by_key is not null and old.created_by_key is distinct from new.created_by_key)
     ) execute function private.refuse_identity_change()', short_name || '_identity', tenant_table
  );
  perform private.add_tenant_guards(tenant_table, writable);
  if counter is null then
    return;
  end if;
  execute format(
    'create trigger %I after insert on %s referencing new table as changed for each statement execute function %s',
    format('%s_%s_insert', short_name, suffix), tenant_table, counter
  );
  execute format(
    'create trigger %I after delete on %s referencing old table as changed for each statement execute function %s',
    format('%s_%s_delete', short_name, suffix), tenant_table, counter
  );
  if gauge is null then
    execute format(
      'create trigger %I after truncate on %s for each statement execute function private.reset_tenant_row_counts()',
      short_name || '_rows_truncate', tenant_table
    );
    -- A dropped table of the same name leaves its counts behind.
    delete from private.tenant_row_counts as t where t.table_name = tenant_table::text;
    execute format(
      'insert into private.tenant_row_counts (table_name, organization, row_count) select %L, t.org_id, count(*) from %s as t group by t.org_id',
      tenant_table::text, tenant_table
    );
  end if;
end
$$;
comment on function private.add_tenant_triggers(regclass, text, integer, text[]) is 'Triggers of a tenant table: updated_at, identity, the state of the project, and a gauge or a limit of rows.';

create function private.add_tenant_indexes(tenant_table regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = tenant_table);
begin
  -- A list of one organization, newest first: the order comes from the index when the request names the organization.
  execute format('create index %I on %s (org_id, created_at desc, id desc)', short_name || '_list_idx', tenant_table);
  -- For the deletion of a user, and erasures. Keys and the product make rows of nobody.
  execute format('create index %I on %s (created_by) where created_by is not null', short_name || '_created_by_idx', tenant_table);
end
$$;
comment on function private.add_tenant_indexes(regclass) is 'Indexes of a tenant table: for lists, and for the deletion of a user.';

create function private.make_tenant_table(
  tenant_table regclass, resource text, catalogue jsonb, max_rows integer default null,
  gauge text default null, writable text[] default null, write_permission text default null
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  written constant text[] := coalesce(writable, array(
    select a.attname
    from pg_attribute as a
    where a.attrelid = tenant_table and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      and a.attname not in ('id', 'org_id', 'created_by', 'created_by_key', 'created_at', 'updated_at')
    order by a.attnum
  ));
  may_read constant text := resource || ':read';
  may_write constant text := case when cardinality(written) > 0 then coalesce(write_permission, resource || ':write') end;
  faults text;
begin
  select string_agg(f.fault, '; ') into faults
  from (
    select 'needs ' || t.fault from private.tenant_table_faults(tenant_table) as t (fault)
    union all
    select format('no role holds %s', p.permission)
    from unnest(array[may_read, may_write]) as p (permission)
    where p.permission is not null and not exists (select 1 from private.role_permissions as r where r.permission = p.permission)
    union all
    select 'users fill it: needs a gauge or max_rows, and not both' where may_write is not null and num_nonnulls(gauge, max_rows) <> 1
    union all
    select 'max_rows: 1 or more' where max_rows < 1
    union all
    -- Policies, triggers and indexes are named after the table, and Postgres cuts names to 63 bytes.
    select 'name: 48 bytes at most' from pg_class as c where c.oid = tenant_table and octet_length(c.relname) > 48
    union all
    select format('%s: the database keeps it, users cannot write it', w.name)
    from unnest(written) as w (name) where w.name in ('created_by', 'created_by_key', 'created_at', 'updated_at')
    union all
    select format('%s: a secret, and users read this table', l.column_name)
    from private.catalogue_lines(catalogue, 'organization') as l where l.subject = 'secret'
  ) as f (fault);
  if faults is not null then
    perform kijko.fail('invalid_input', format('%s: %s', tenant_table, faults));
  end if;
  perform private.add_tenant_policies(tenant_table, may_read, may_write);
  perform private.grant_tenant_rights(tenant_table, written);
  perform private.add_tenant_triggers(tenant_table, gauge, max_rows, written);
  perform private.add_tenant_indexes(tenant_table);
  perform private.describe_data(tenant_table, catalogue);
end
$$;
comment on function private.make_tenant_table(regclass, text, jsonb, integer, text, text[], text) is 'Gives a new table the standard shape of a tenant table, once: policies by the permissions <resource>:read and <resource>:write (or write_permission) and by the project''s visibility, grants, triggers for updated_at, identity, archived projects and the number of rows (a plan''s gauge, or max_rows for each organization), indexes, and its lines of the data catalogue. writable: the columns that users write, by default all that the database does not keep; an empty array for a table that users only read. Fails and says what the table lacks.';
