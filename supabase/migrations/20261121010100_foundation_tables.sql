-- ============================================================================
-- Foundation: the data catalogue, and the standard shape of a tenant table.
--
-- A migration creates a table with its comments and checks. Then it calls one of:
--   private.make_tenant_table(…)   for a table of tenants' rows: rights, policies, triggers, index, catalogue
--   private.describe_data(…)       for every other table: catalogue only
-- ============================================================================

-- ----------------------------------------------------------------------------
-- The data catalogue
-- ----------------------------------------------------------------------------

create table private.data_catalogue (
  table_name text not null check (char_length(table_name) <= 127),
  column_name text not null check (char_length(column_name) <= 63),
  subject text not null check (subject in ('organization', 'person', 'platform', 'secret')),
  purpose text not null check (char_length(purpose) between 1 and 500),
  export text not null check (export in ('organization', 'person', 'none')),
  erasure text not null check (erasure in ('organization', 'person', 'retention', 'none')),
  primary key (table_name, column_name)
);
comment on table private.data_catalogue is 'Describes each column of public and private: whose data it holds, why the product keeps it, and how it is to be exported and erased. No export and no erasure uses it yet. The schema lint fails for a column without a line.';
comment on column private.data_catalogue.table_name is 'Schema and table.';
comment on column private.data_catalogue.column_name is 'Column.';
comment on column private.data_catalogue.subject is 'Whose data: an organization''s, a person''s, the platform''s, or a secret that nobody may read back.';
comment on column private.data_catalogue.purpose is 'Why the product keeps it.';
comment on column private.data_catalogue.export is 'Which export contains it: the organization''s, the person''s, or none.';
comment on column private.data_catalogue.erasure is 'What erases it: the deletion of the organization, that of the person (the row goes, or the column becomes null), the end of a retention time, or nothing.';

alter table private.data_catalogue enable row level security;

-- The columns that every tenant table has. A catalogue may leave them out.
create function private.standard_catalogue() returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select '{
    "id": "identity of the row",
    "org_id": "organization that owns the row",
    "created_by": {"subject": "person", "purpose": "who made the row", "export": "organization"},
    "created_by_key": "API key that made the row",
    "created_at, updated_at": "age and order of rows"
  }'::jsonb
$$;
comment on function private.standard_catalogue() is 'Lines of the data catalogue for the standard columns of a tenant table.';

create function private.catalogue_lines(catalogue jsonb, subject text)
returns table (column_name text, subject text, purpose text, export text, erasure text)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select
    btrim(c.column_name), o.subject, o.purpose,
    coalesce(o.export, case when o.subject in ('organization', 'person') then o.subject else 'none' end),
    coalesce(o.erasure, case o.subject when 'platform' then 'none' when 'secret' then 'organization' else o.subject end)
  from jsonb_each(catalogue_lines.catalogue) as e (columns, line)
  cross join lateral (select case jsonb_typeof(e.line) when 'string' then jsonb_build_object('purpose', e.line) else e.line end) as l (line)
  cross join lateral (
    select coalesce(l.line ->> 'subject', catalogue_lines.subject), l.line ->> 'purpose', l.line ->> 'export', l.line ->> 'erasure'
  ) as o (subject, purpose, export, erasure)
  cross join lateral string_to_table(e.columns, ',') as c (column_name)
$$;
comment on function private.catalogue_lines(jsonb, text) is 'Reads a catalogue as private.describe_data() takes it: one row for each column. Nullable: purpose.';

create function private.describe_data(described regclass, catalogue jsonb, subject text default 'organization') returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  existing constant text[] := array(
    select a.attname from pg_attribute as a where a.attrelid = described and a.attnum > 0 and not a.attisdropped
  );
  faults text;
begin
  delete from private.data_catalogue as d where d.table_name = described::text;
  insert into private.data_catalogue as d (table_name, column_name, subject, purpose, export, erasure)
  select distinct on (l.column_name) described::text, l.column_name, l.subject, l.purpose, l.export, l.erasure
  from (
    select 1 as place, given.* from private.catalogue_lines(catalogue, describe_data.subject) as given
    union all
    select 2, standard.*
    from private.catalogue_lines(private.standard_catalogue(), describe_data.subject) as standard
    where standard.column_name = any (existing)
  ) as l
  order by l.column_name, l.place;

  select string_agg(format('%s: %s', f.column_name, f.fault), ', ' order by f.column_name) into faults
  from (
    select e.name, 'not described' from unnest(existing) as e (name)
    where not exists (select 1 from private.data_catalogue as d where d.table_name = described::text and d.column_name = e.name)
    union all
    select d.column_name, 'no such column' from private.data_catalogue as d
    where d.table_name = described::text and d.column_name <> all (existing)
  ) as f (column_name, fault);
  if faults is not null then
    perform kijko.fail('invalid_input', format('catalogue of %s: %s', described, faults));
  end if;
end
$$;
comment on function private.describe_data(regclass, jsonb, text) is 'Writes a table''s lines of the data catalogue. Keys of catalogue are columns, or several separated by commas. A value is the purpose, or an object with purpose and any of subject, export and erasure. Fails unless every column is described; id, org_id, created_by, created_by_key, created_at and updated_at may be left out.';

-- ----------------------------------------------------------------------------
-- A limit of rows for each organization
--
-- Each table and organization has one row with a count. Its lock serializes inserts of one organization, so the limit is
-- exact, and no insert counts the table. The row needs no foreign key: deleting an organization deletes its rows, the count
-- becomes 0, and the row is deleted.
-- Each statement writes the count once. 4,000 statements in one transaction took 2.3 s instead of 0.1 s, because each reads
-- past the versions of those before: insert many rows by one statement.
-- The organization's row is locked before its counts, so transactions that fill several of its tables do not deadlock.
-- ----------------------------------------------------------------------------

create table private.tenant_row_counts (
  table_name text not null check (char_length(table_name) <= 127),
  organization uuid not null,
  row_count bigint not null check (row_count >= 0),
  primary key (table_name, organization)
);
comment on table private.tenant_row_counts is 'How many rows each organization has in the tables that private.limit_tenant_rows() limits.';
comment on column private.tenant_row_counts.table_name is 'Schema and table.';
comment on column private.tenant_row_counts.organization is 'The organization.';
comment on column private.tenant_row_counts.row_count is 'Its rows.';

alter table private.tenant_row_counts enable row level security;

select private.describe_data('private.data_catalogue', '{
  "table_name, column_name": "names what a line describes", "subject, purpose, export, erasure": "records how data is to be exported and erased"
}', 'platform');
select private.describe_data('private.tenant_row_counts', '{
  "table_name, organization, row_count": {"purpose": "enforces limits of rows", "export": "none"}
}');

create function private.limit_tenant_rows() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_rows constant bigint := tg_argv[0]::bigint;
  counted constant text := format('%I.%I', tg_table_schema, tg_table_name);
  changes record;
  new_count bigint;
begin
  -- In one order, so that two statements about several organizations do not deadlock.
  for changes in select c.org_id, count(*) as rows from changed as c group by c.org_id order by c.org_id loop
    -- Does not conflict with foreign keys to the organization.
    perform 1 from public.organizations as o where o.id = changes.org_id for no key update;
    if tg_op = 'INSERT' then
      insert into private.tenant_row_counts as t (table_name, organization, row_count)
      values (counted, changes.org_id, changes.rows)
      on conflict (table_name, organization) do update set row_count = t.row_count + excluded.row_count
      returning t.row_count into new_count;
      if new_count > max_rows then
        perform kijko.fail(
          'quota_exceeded', format('%s: an organization has at most %s rows', tg_table_name, max_rows), 'Delete rows that you no longer need.'
        );
      end if;
    else
      update private.tenant_row_counts as t set row_count = greatest(t.row_count - changes.rows, 0)
      where t.table_name = counted and t.organization = changes.org_id;
      delete from private.tenant_row_counts as t
      where t.table_name = counted and t.organization = changes.org_id and t.row_count = 0;
    end if;
  end loop;
  return null;
end
$$;
comment on function private.limit_tenant_rows() is 'Trigger: refuses rows above the limit for each organization, its argument, with quota_exceeded. Exact also between concurrent transactions. Definer: the counts are private.';

create function private.reset_tenant_row_counts() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.tenant_row_counts as t where t.table_name = format('%I.%I', tg_table_schema, tg_table_name);
  return null;
end
$$;
comment on function private.reset_tenant_row_counts() is 'Trigger: an emptied table has no rows that count. Definer: the counts are private.';

-- ----------------------------------------------------------------------------
-- make_tenant_table and its steps
-- ----------------------------------------------------------------------------

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
  -- A row that points at a private project, or at a skill of one, is hidden with it. What a statement reads is compared with
  -- the hidden ids, which are few. What it writes must be visible: the answer is the same if the id does not exist.
  -- A row that points at an execution, a habit or a job is hidden unless the policy of that table shows the other row.
  unhidden text := '';
  visible text := '';
  shown text;
  pointer record;
begin
  if 'project_id' = any (columns) then
    unhidden := ' and (project_id = any (array(select private.projects_hidden_ids()))) is not true';
    visible := ' and (project_id is null or private.projects_is_visible(project_id))';
  end if;
  if 'skill_id' = any (columns) then
    unhidden := unhidden || ' and (skill_id = any (array(select private.skills_hidden_ids()))) is not true';
    visible := visible || ' and (skill_id is null or private.skills_is_visible(skill_id))';
  end if;
  for pointer in
    select * from (values ('execution_id', 'executions'), ('habit_id', 'habits'), ('job_id', 'jobs')) as p (name, target) where p.name = any (columns)
  loop
    shown := format(
      ' and (%1$I is null or exists (select 1 from public.%2$I as pointed where pointed.org_id = %3$I.org_id and pointed.id = %3$I.%1$I))',
      pointer.name, pointer.target, short_name
    );
    unhidden := unhidden || shown;
    visible := visible || shown;
  end loop;
  execute format('alter table %s enable row level security', tenant_table);
  execute format('create policy %I on %s for select to authenticated using (%s%s)', short_name || '_select', tenant_table, may_read, unhidden);
  if write_permission is null then
    return;
  end if;
  execute format('create policy %I on %s for insert to authenticated with check (%s%s)', short_name || '_insert', tenant_table, may_write, visible);
  execute format(
    'create policy %I on %s for update to authenticated using (%s%s) with check (%s%s)',
    short_name || '_update', tenant_table, may_write, unhidden, may_write, visible
  );
  execute format('create policy %I on %s for delete to authenticated using (%s%s)', short_name || '_delete', tenant_table, may_write, unhidden);
end
$$;
comment on function private.add_tenant_policies(regclass, text, text) is 'Row level security by permission: one policy for each operation. Without a write permission users only read. Rows with a project_id or skill_id are hidden with their project, rows with an execution_id, habit_id or job_id with the row that they point at; when that is gone, such a column must be null.';

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

create function private.add_tenant_triggers(tenant_table regclass, gauge text, max_rows integer) returns void
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
comment on function private.add_tenant_triggers(regclass, text, integer) is 'Triggers of a tenant table: updated_at, identity, and a gauge or a limit of rows.';

create function private.add_tenant_indexes(tenant_table regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = tenant_table);
begin
  -- A list of one organization, newest first: the order comes from the index when the request names the organization.
  execute format('create index %I on %s (org_id, created_at desc, id desc)', short_name || '_list_idx', tenant_table);
  -- For the deletion of a user.
  execute format('create index %I on %s (created_by)', short_name || '_created_by_idx', tenant_table);
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
    select 'name: 48 bytes at most' from pg_class as c where c.oid = tenant_table and octet_length(c.relname::text) > 48
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
  perform private.add_tenant_triggers(tenant_table, gauge, max_rows);
  perform private.add_tenant_indexes(tenant_table);
  perform private.describe_data(tenant_table, catalogue);
end
$$;
comment on function private.make_tenant_table(regclass, text, jsonb, integer, text, text[], text) is 'Gives a new table the standard shape of a tenant table, once: policies by the permissions <resource>:read and <resource>:write (or write_permission) and by the project''s visibility, grants, triggers for updated_at, identity and the number of rows (a plan''s gauge, or max_rows for each organization), indexes, and its lines of the data catalogue. writable: the columns that users write, by default all that the database does not keep; an empty array for a table that users only read. Fails and says what the table lacks.';
