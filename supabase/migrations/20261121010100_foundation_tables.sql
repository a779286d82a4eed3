-- ============================================================================
-- Foundation: the data catalogue, and limits of rows for each organization.
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
comment on table private.data_catalogue is 'Describes each column of public and private, and of realtime.messages: whose data it holds, why the product keeps it, and how it is exported and erased. The schema lint fails for a column without a line.';
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
-- How rows are tied to people
-- ----------------------------------------------------------------------------

create table private.data_subjects (
  table_name text not null check (char_length(table_name) <= 127),
  column_name text not null check (char_length(column_name) <= 63),
  matches text not null default 'user' check (matches in ('user', 'email')),
  is_about boolean not null,
  erasure text not null check (erasure in ('delete', 'clear', 'keep')),
  columns text[] not null default '{}' check (cardinality(columns) <= 50),
  reason text not null check (char_length(reason) between 1 and 500),
  primary key (table_name, column_name)
);
comment on table private.data_subjects is 'Columns that say whose a row is and that no foreign key to a user declares. private.data_subject_columns has those of foreign keys, too.';
comment on column private.data_subjects.table_name is 'Schema and table.';
comment on column private.data_subjects.column_name is 'The column.';
comment on column private.data_subjects.matches is 'user: it is the person''s id. email: it is their address.';
comment on column private.data_subjects.is_about is 'Whether the row is about the person, so that an export has all of it. Otherwise they made it, and an export has its keys.';
comment on column private.data_subjects.erasure is 'What an erasure does: deletes the row, empties the column (and columns), or keeps both.';
comment on column private.data_subjects.columns is 'Further columns that are that person''s: an export for another person leaves them out.';
comment on column private.data_subjects.reason is 'Why it has no foreign key, and why it is kept if it is.';
alter table private.data_subjects enable row level security;

create function private.tie_to_person(
  described regclass, column_name text, erasure text, reason text, is_about boolean default false, matches text default 'user', columns text[] default '{}'
) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into private.data_subjects as s (table_name, column_name, matches, is_about, erasure, columns, reason)
  select described::text, tie_to_person.column_name, tie_to_person.matches, tie_to_person.is_about, tie_to_person.erasure, tie_to_person.columns, tie_to_person.reason
  where described is not null
  on conflict on constraint data_subjects_pkey do update set
    matches = excluded.matches, is_about = excluded.is_about, erasure = excluded.erasure, columns = excluded.columns, reason = excluded.reason
$$;
comment on function private.tie_to_person(regclass, text, text, text, boolean, text, text[]) is 'Says that a column has a person''s id or address, what an erasure does with it (delete the row, clear the column, keep), and why no foreign key says so. A migration calls it for each such column.';

-- ----------------------------------------------------------------------------
-- How long rows are kept
-- ----------------------------------------------------------------------------

create table private.data_retention (
  table_name text primary key check (char_length(table_name) <= 127),
  keeps interval check (keeps between interval '1 minute' and interval '100 years'),
  kept_by text check (char_length(kept_by) between 1 and 500),
  reason text not null check (char_length(reason) between 1 and 500),
  check (num_nonnulls(keeps, kept_by) = 1),
  -- The law asks for it.
  check (table_name <> 'public.stripe_invoices' or keeps >= interval '7 years')
);
comment on table private.data_retention is 'How long the rows of a table are kept, and why: a row for each table of which the data catalogue says that a retention time erases it. The job that deletes the rows reads it, so a change holds from its next run on. Operators change it.';
comment on column private.data_retention.table_name is 'Schema and table.';
comment on column private.data_retention.keeps is 'How long; null where something else decides.';
comment on column private.data_retention.kept_by is 'What decides instead, such as the plan of the organization; null where keeps does.';
comment on column private.data_retention.reason is 'Why for so long.';
alter table private.data_retention enable row level security;

create function private.set_retention(described regclass, keeps interval, reason text, kept_by text default null) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into private.data_retention as r (table_name, keeps, kept_by, reason)
  values (described::text, set_retention.keeps, set_retention.kept_by, set_retention.reason)
  on conflict (table_name) do nothing
$$;
comment on function private.set_retention(regclass, interval, text, text) is 'Says how long a table''s rows are kept, or what decides it (kept_by). A migration calls it beside the function that deletes the rows. What an operator has changed stays.';

create function private.retention_of(table_name text) returns interval
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  found_keeps constant interval := (select r.keeps from private.data_retention as r where r.table_name = retention_of.table_name);
begin
  if found_keeps is null then
    perform kijko.fail('internal', format('no retention of %s', retention_of.table_name));
  end if;
  return found_keeps;
end
$$;
comment on function private.retention_of(text) is 'How long the rows of a table are kept, by private.data_retention. Fails without a row: nothing is deleted by mistake. Definer: operators call functions that delete, and read no table.';
grant execute on function private.retention_of(text) to service_role;

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
select private.describe_data('private.data_subjects', '{"table_name, column_name, matches, is_about, erasure, columns, reason": "says how rows are tied to people"}', 'platform');
select private.describe_data('private.data_retention', '{"table_name, keeps, kept_by, reason": "says how long rows are kept, and why"}', 'platform');
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
-- Partitions by time. Those of public.t are private.t_YYYY_MM, a month each, or private.t_YYYY_MM_DD, a day each.
-- ----------------------------------------------------------------------------

-- Who waits for this lock keeps everybody waiting behind it, readers and writers of all organizations. A backup or a forgotten
-- transaction may use the table for hours. So each attempt is short, and between two of them everybody passes.
create function private.lock_briefly(names regclass[], against_writers regclass[] default '{}') returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
declare
  name regclass;
begin
  for attempt in 1 .. 20 loop
    begin
      foreach name in array names loop
        execute format('lock table only %s in access exclusive mode', name);
      end loop;
      foreach name in array against_writers loop
        execute format('lock table only %s in share row exclusive mode', name);
      end loop;
      return true;
    exception when lock_not_available or deadlock_detected then
      perform pg_sleep(0.05 + 0.05 * random());
    end;
  end loop;
  raise warning 'in use, left for the next run: %', names || against_writers;
  return false;
end
$$;
comment on function private.lock_briefly(regclass[], regclass[]) is 'Locks tables against everybody until the transaction ends, and others against writers, all without their partitions; false after about two seconds, when somebody uses one of them for long. Nobody waits longer than a moment behind an attempt.';

create function private.make_partitions(parent regclass, unit text, ahead integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
-- Of the locks that attaching takes beyond those below.
set lock_timeout = '2s'
as $$
declare
  name constant text := (select c.relname from pg_class as c where c.oid = parent);
  first constant timestamp := date_trunc(unit, kijko.now() at time zone 'UTC');
  starts timestamptz;
  ends timestamptz;
  partition text;
  has_rows boolean;
  names regclass[];
  referenced constant regclass[] := array(
    select distinct k.confrelid::regclass from pg_constraint as k where k.conrelid = parent and k.contype = 'f'
  );
  made integer := 0;
begin
  if (ahead between 0 and 400) is not true then
    perform kijko.fail('invalid_input', 'partitions ahead: 0 to 400');
  end if;
  for number in 0 .. ahead loop
    starts := (first + number * ('1 ' || unit)::interval) at time zone 'UTC';
    ends := (first + (number + 1) * ('1 ' || unit)::interval) at time zone 'UTC';
    partition := name || to_char(starts at time zone 'UTC', case unit when 'month' then '_YYYY_MM' else '_YYYY_MM_DD' end);
    continue when to_regclass('private.' || quote_ident(partition)) is not null;
    execute format('create table private.%I (like %s including all)', partition, parent);
    execute format('select exists (select from private.%I where created_at >= %L and created_at < %L)', name || '_default', starts, ends) into has_rows;
    -- Attaching locks the default partition, and the tables that foreign keys refer to. And nobody writes while its rows move.
    names := array[format('private.%I', name || '_default')::regclass] || case when has_rows then parent end;
    if not private.lock_briefly(array_remove(names, null), referenced) then
      execute format('drop table private.%I', partition);
      exit;
    end if;
    if has_rows then
      execute format(
        'with moved as (delete from private.%I where created_at >= %L and created_at < %L returning *) insert into private.%I select * from moved',
        name || '_default', starts, ends, partition
      );
    end if;
    execute format('alter table %s attach partition private.%I for values from (%L) to (%L)', parent, partition, starts, ends);
    made := made + 1;
  end loop;
  return made;
end
$$;
comment on function private.make_partitions(regclass, text, integer) is 'Makes the partitions of a table for this month or day (the unit) and the next ones, and returns how many. Rows that the default partition has for them move. While somebody uses the default partition for long, the rest is left for the next run.';

create function private.drop_partitions(parent regclass, ended_before timestamptz) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
  prefix constant text := (select c.relname || '_' from pg_class as c where c.oid = parent);
  partition text;
  dropped integer := 0;
begin
  for partition in
    select c.relname
    from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid and c.relnamespace = 'private'::regnamespace
    cross join lateral (select substr(c.relname::text, char_length(prefix) + 1) as period) as p
    where i.inhparent = parent and starts_with(c.relname::text, prefix) and p.period ~ '^\d{4}_\d\d(_\d\d)?$'
      and case
        when char_length(p.period) = 7 then to_date(p.period, 'YYYY_MM') + interval '1 month'
        else to_date(p.period, 'YYYY_MM_DD') + interval '1 day'
      end <= ended_before at time zone 'UTC'
    order by c.relname
  loop
    -- Dropping a partition locks its parent and the default partition, too.
    exit when not private.lock_briefly(array[format('private.%I', partition)::regclass, format('private.%I', prefix || 'default')::regclass, parent]);
    execute format('drop table private.%I', partition);
    dropped := dropped + 1;
  end loop;
  -- Of days for which no partition was made in time.
  execute format('delete from private.%I where created_at < %L', prefix || 'default', ended_before);
  return dropped;
end
$$;
comment on function private.drop_partitions(regclass, timestamptz) is 'Drops the partitions of a table whose month or day was over at a time, and returns how many. The default partition stays, without its rows of before. While somebody uses the table for long, the rest is left for the next run.';
