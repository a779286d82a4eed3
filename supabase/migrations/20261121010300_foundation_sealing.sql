-- ============================================================================
-- Foundation: columns of sealed text.
--
-- A secret that the product must read again (a token of a provider, a webhook's secret) is stored sealed: encrypted by a key
-- that is in no table and no dump (kijko.seal(), docs/internals/sealing.md). A migration gives the column the type
-- kijko.sealed and calls private.seal_column(), so that a change of the key reaches it.
-- ============================================================================

create table private.sealed_columns (
  table_name text not null check (char_length(table_name) <= 127),
  column_name text not null check (char_length(column_name) <= 63),
  context text not null check (char_length(context) <= 255),
  primary key (table_name, column_name)
);
comment on table private.sealed_columns is 'The columns of sealed text, written by private.seal_column(). The schema lint fails for a column of type kijko.sealed that is not here.';
comment on column private.sealed_columns.table_name is 'Schema and table.';
comment on column private.sealed_columns.column_name is 'Column of type kijko.sealed; of type text in a table of another role.';
comment on column private.sealed_columns.context is 'Function of the row, with its argument''s type: the context in which the value is sealed.';

alter table private.sealed_columns enable row level security;
select private.describe_data('private.sealed_columns', '{
  "table_name, column_name, context": "finds every sealed value when the key changes"
}', 'platform');

create function private.seal_column(sealed_table regclass, column_name text, context regprocedure) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  short_name constant text := (select c.relname from pg_class as c where c.oid = sealed_table);
  is_own constant boolean := (select pg_has_role(c.relowner, 'usage') from pg_class as c where c.oid = sealed_table);
begin
  if not exists (
    select 1 from pg_attribute as a
    where a.attrelid = sealed_table and a.attname = seal_column.column_name and not a.attisdropped
      and (a.atttypid = 'kijko.sealed'::regtype or (not is_own and a.atttypid = 'text'::regtype))
  ) then
    perform kijko.fail('invalid_input', format('%s.%s: needs the type kijko.sealed', sealed_table, seal_column.column_name));
  end if;
  if not exists (
    select 1 from pg_proc as p
    where p.oid = seal_column.context and p.prorettype = 'text'::regtype
      and p.proargtypes = (select array[c.reltype]::oidvector from pg_class as c where c.oid = sealed_table)
  ) then
    perform kijko.fail('invalid_input', format('%s: needs a row of %s as its one argument, and returns text', seal_column.context, sealed_table));
  end if;
  if is_own then
    -- Counts the rows of a key, and finds those that are left.
    execute format(
      'create index %I on %s (kijko.seal_key_id(%I))',
      format('%s_%s_key_idx', short_name, seal_column.column_name), sealed_table, seal_column.column_name
    );
  elsif not has_column_privilege(sealed_table, seal_column.column_name, 'select')
    or not has_column_privilege(sealed_table, seal_column.column_name, 'update')
  then
    perform kijko.fail('invalid_input', format('%s.%s: a change of the key needs to read and update it', sealed_table, seal_column.column_name));
  end if;
  insert into private.sealed_columns (table_name, column_name, context)
  values (sealed_table::text, seal_column.column_name, seal_column.context::text);
end
$$;
comment on function private.seal_column(regclass, text, regprocedure) is 'Registers a column of type kijko.sealed and indexes it by key. A column of another role''s table, such as login''s, is of type text and gets no index. context is the function that gives the context of a row, as kijko.seal() took it. It must name the table and whatever makes the row somebody''s, so that a value that is copied elsewhere cannot be unsealed.';

create type private.sealed_count as (table_name text, column_name text, key_id text, row_count bigint);
comment on type private.sealed_count is 'How many values of a column of sealed text a key has sealed.';

create function private.count_sealed_rows() returns setof private.sealed_count
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  sealed_table regclass;
  sealed_column text;
begin
  for sealed_table, sealed_column in
    select s.table_name, s.column_name from private.sealed_columns as s order by s.table_name, s.column_name
  loop
    return query execute format(
      'select $1, $2, kijko.seal_key_id(r.sealed), count(*) from (select t.%I as sealed from %s as t) as r
       where kijko.seal_key_id(r.sealed) is not null group by 3 order by 3',
      sealed_column, sealed_table
    ) using sealed_table::text, sealed_column;
  end loop;
end
$$;
comment on function private.count_sealed_rows() is 'How many values each key seals, by column. The keys need not be in kijko.seal_key_file.';

create function private.count_unsealable_rows() returns setof private.sealed_count
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  sealed_table regclass;
  sealed_column text;
  context regproc;
begin
  for sealed_table, sealed_column, context in
    select s.table_name, s.column_name, s.context::regprocedure::oid from private.sealed_columns as s order by s.table_name, s.column_name
  loop
    return query execute format(
      'select $1, $2, kijko.seal_key_id(r.sealed), count(*) from (select t.%I as sealed, %s(t) as context from %s as t) as r
       where kijko.seal_key_id(r.sealed) is not null and not kijko.can_unseal(r.sealed, r.context) group by 3 order by 3',
      sealed_column, context, sealed_table
    ) using sealed_table::text, sealed_column;
  end loop;
end
$$;
comment on function private.count_unsealable_rows() is 'How many values cannot be unsealed, by column and by the key that they name: the key is missing, or they were changed or copied. Tries every value.';

-- Each call is a transaction of its own, so an interrupted run loses nothing and goes on where it was. A row that another
-- transaction holds, and a value that cannot be unsealed, are passed over. Readers are not locked out: they see the former
-- value until the call ends, and its key is still in the file.
create function private.reseal_rows(max_rows integer default 500) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  former_keys constant text[] := (kijko.seal_key_ids())[2:];
  sealed_table regclass;
  sealed_column text;
  context regproc;
  changed bigint;
  resealed bigint := 0;
begin
  for sealed_table, sealed_column, context in
    select s.table_name, s.column_name, s.context::regprocedure::oid from private.sealed_columns as s order by s.table_name, s.column_name
  loop
    execute format(
      'update %s as r set %I = kijko.reseal(r.%I, %s(r))
       where r.ctid = any (array(
         select r.ctid from %s as r
         where kijko.seal_key_id(r.%I) = any ($1) and kijko.can_unseal(r.%I, %s(r))
         limit $2 for no key update skip locked
       ))',
      sealed_table, sealed_column, sealed_column, context, sealed_table, sealed_column, sealed_column, context
    ) using former_keys, max_rows;
    get diagnostics changed = row_count;
    resealed := resealed + changed;
  end loop;
  return resealed;
end
$$;
comment on function private.reseal_rows(integer) is 'Seals up to max_rows values of each column anew, by the first key of kijko.seal_key_file, and returns how many. Call it until private.count_sealed_rows() has no former key: ./kijko secrets reseal does.';

-- ----------------------------------------------------------------------------
-- Secrets that are shown once
-- ----------------------------------------------------------------------------

-- A trigger before the insert makes the secret, one after it stores it: a row that is not inserted ("on conflict do nothing") stores
-- no secret. In between it is in a setting of the transaction, where the computed column that shows it finds it.
create function private.issue_secret(owner_id uuid, secret text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select set_config(
    'issued.secrets',
    (coalesce(nullif(current_setting('issued.secrets', true), ''), '{}')::jsonb || jsonb_build_object(owner_id::text, secret))::text,
    true
  )
$$;
comment on function private.issue_secret(uuid, text) is 'Keeps the new secret of a row until the end of the transaction, which shows it.';

create function private.issued_secret(owner_id uuid) returns text
language sql volatile set search_path = pg_catalog, pg_temp
return nullif(current_setting('issued.secrets', true), '')::jsonb ->> owner_id::text;
comment on function private.issued_secret(uuid) is 'The secret that this transaction has made for a row; null if none.';
