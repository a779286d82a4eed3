-- Lists of a bucket: Supabase's storage.search() and storage.search_v2(). They run as the caller, so policies decide what is listed.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_storage_admin;

-- The names that a list looks at. A metered bucket has the organizations as its first segments: a caller's own are looked at and
-- no others, so what other organizations keep there neither slows a list down nor shows in the time that it takes.
create or replace function storage.list_ranges(bucket_name text, prefix text) returns table (low text, high text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    roots text[];
begin
    if current_user in ('anon', 'authenticated') and to_regprocedure('private.storage_list_roots(text)') is not null then
        execute 'select private.storage_list_roots($1)' into roots using bucket_name;
    end if;
    if roots is null then
        return query select prefix, prefix || chr(1114111);
        return;
    end if;
    -- The character after the slash in C order is 0: with it begins what follows the folder.
    return query
    select greatest(r.root || '/', prefix collate "C"), case when starts_with(prefix, r.root || '/') then prefix || chr(1114111) else r.root || '0' end
    from unnest(roots) as r (root)
    where starts_with(prefix, r.root || '/') or starts_with(r.root || '/', prefix)
    order by r.root collate "C";
end
$$;
comment on function storage.list_ranges(text, text) is 'The ranges of names, from low, inclusive, to high, exclusive, in which a list looks for a prefix: in a metered bucket those of the caller''s organizations, in any other one range. Not on Supabase.';

-- One step down the index for each object and for each folder, however much a folder holds.
create or replace function storage.list_entries(
    bucket_name text, prefix text, delimited boolean, after_key text, descending boolean, max_entries integer
)
returns table (key text, is_folder boolean, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    found_row storage.objects;
    slash integer;
    missing integer := max_entries;
    low text collate "C";
    high text collate "C";
begin
    for low, high in
        select r.low, r.high from storage.list_ranges(bucket_name, prefix) with ordinality as r (low, high, place)
        order by case when descending then -r.place else r.place end
    loop
        if after_key <> '' and descending then
            high := least(high, after_key collate "C");
        elsif after_key <> '' then
            low := greatest(low, (case when after_key like '%/' then left(after_key, -1) || '0' else after_key || chr(1) end) collate "C");
        end if;
        while missing > 0 loop
            if descending then
                select o.* into found_row from storage.objects as o
                where o.bucket_id = bucket_name and o.name collate "C" >= low and o.name collate "C" < high
                order by o.name collate "C" desc limit 1;
            else
                select o.* into found_row from storage.objects as o
                where o.bucket_id = bucket_name and o.name collate "C" >= low and o.name collate "C" < high
                order by o.name collate "C" limit 1;
            end if;
            exit when found_row.id is null;
            slash := case when delimited then position('/' in substr(found_row.name, char_length(prefix) + 1)) else 0 end;
            is_folder := slash > 0;
            if is_folder then
                key := left(found_row.name, char_length(prefix) + slash);
                id := null; updated_at := null; created_at := null; last_accessed_at := null; metadata := null;
            else
                key := found_row.name;
                id := found_row.id; updated_at := found_row.updated_at; created_at := found_row.created_at;
                last_accessed_at := found_row.last_accessed_at; metadata := found_row.metadata;
            end if;
            return next;
            missing := missing - 1;
            if descending then
                high := key;
            else
                low := case when is_folder then left(key, -1) || '0' else key || chr(1) end;
            end if;
        end loop;
    end loop;
end
$$;
comment on function storage.list_entries(text, text, boolean, text, boolean, integer) is 'Objects and folders of a bucket whose path begins with a prefix, in the order of their bytes, after a key. A folder''s key ends with a slash. Not on Supabase.';

-- As upstream: a folder has the time of its first object, and times are compared in milliseconds, then keys by their bytes. No
-- index has this order, so everything below the prefix is read, twice with folders: kept between, it could fill the disk.
create or replace function storage.list_entries_by_time(
    bucket_name text, prefix text, delimited boolean, sort_column text, after_moment timestamptz, after_key text, descending boolean, max_entries integer
)
returns table (
    key text, is_folder boolean, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb, moment timestamptz
)
language sql stable set search_path = pg_catalog, pg_temp as $$
    with found_rows as not materialized (
        select o.*, case when delimited then position('/' in substr(o.name, char_length(prefix) + 1)) else 0 end as slash
        from storage.list_ranges(bucket_name, prefix) as r
        join storage.objects as o on o.bucket_id = bucket_name and o.name collate "C" >= r.low and o.name collate "C" < r.high
    ), entries as (
        select f.name as key, false as is_folder, f.id, f.updated_at, f.created_at, f.last_accessed_at, f.metadata from found_rows as f where f.slash = 0
        union all
        select left(f.name, char_length(prefix) + f.slash), true, null, min(f.created_at), min(f.created_at), null, null
        from found_rows as f where f.slash > 0 group by 1
    ), timed as (
        select e.*, coalesce(date_trunc('milliseconds', case sort_column when 'created_at' then e.created_at else e.updated_at end), 'epoch') as moment
        from entries as e
    )
    select t.* from timed as t
    where after_key = ''
        or case when descending then (t.moment, t.key collate "C") < (after_moment, after_key) else (t.moment, t.key collate "C") > (after_moment, after_key) end
    order by
        case when not descending then t.moment end, case when descending then t.moment end desc,
        case when not descending then t.key end collate "C", case when descending then t.key end collate "C" desc
    limit max_entries
$$;
comment on function storage.list_entries_by_time(text, text, boolean, text, timestamptz, text, boolean, integer) is 'As storage.list_entries(), in the order of created_at or updated_at and then of keys, after a time and a key. Not on Supabase.';

create or replace function storage.search(
    prefix text, bucketname text, limits integer default 100, levels integer default 1, offsets integer default 0,
    search text default '', sortcolumn text default 'name', sortorder text default 'asc'
)
returns table (name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    folder constant text := regexp_replace(prefix, '[^/]*$', '');
    wanted constant text := lower(substr(prefix, char_length(folder) + 1) || coalesce(search, ''));
    -- Filters and other orders look at everything of the folder, up to this many entries.
    whole constant integer := 100000;
    by_name constant boolean := coalesce(sortcolumn, 'name') = 'name';
    descending constant boolean := lower(coalesce(sortorder, 'asc')) = 'desc';
begin
    if coalesce(sortcolumn, 'name') not in ('name', 'updated_at', 'created_at', 'last_accessed_at') then
        raise exception 'sorting by % is not served', sortcolumn using errcode = '22023';
    end if;
    return query
    select rtrim(substr(e.key, char_length(folder) + 1), '/'), e.id, e.updated_at, e.created_at, e.last_accessed_at, e.metadata
    from storage.list_entries(bucketname, folder, true, '', descending and by_name,
        case when by_name and wanted = '' then limits + offsets else whole end) with ordinality as e (
            key, is_folder, id, updated_at, created_at, last_accessed_at, metadata, place)
    where starts_with(lower(substr(e.key, char_length(folder) + 1)), wanted)
    order by
        not by_name and not e.is_folder,
        case when by_name then null when descending then null
            when sortcolumn = 'updated_at' then e.updated_at when sortcolumn = 'created_at' then e.created_at else e.last_accessed_at end,
        case when by_name then null when not descending then null
            when sortcolumn = 'updated_at' then e.updated_at when sortcolumn = 'created_at' then e.created_at else e.last_accessed_at end desc,
        e.place
    limit limits offset offsets;
end
$$;
comment on function storage.search(text, text, integer, integer, integer, text, text, text) is 'A folder: its objects, and its folders, of which only the name is not null. Names are relative to the folder. By other columns than the name, folders come first.';

create or replace function storage.search_v2(
    prefix text, bucket_name text, limits integer default 100, levels integer default 1, start_after text default '',
    sort_order text default 'asc', sort_column text default 'name', sort_column_after text default ''
)
returns table (key text, name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    descending constant boolean := lower(coalesce(sort_order, 'asc')) = 'desc';
begin
    if coalesce(sort_column, 'name') not in ('name', 'created_at', 'updated_at') then
        raise exception 'sorting by % is not served', sort_column using errcode = '22023';
    end if;
    return query
    select split_part(rtrim(e.key, '/'), '/', -1), e.key, e.id, e.updated_at, e.created_at, e.last_accessed_at, e.metadata
    from (
        select n.key, n.id, n.updated_at, n.created_at, n.last_accessed_at, n.metadata
        from storage.list_entries(bucket_name, prefix, true, coalesce(start_after, ''), descending, limits) as n
        where coalesce(sort_column, 'name') = 'name'
        union all
        select t.key, t.id, t.updated_at, t.created_at, t.last_accessed_at, t.metadata
        from storage.list_entries_by_time(
            bucket_name, prefix, true, sort_column, coalesce(nullif(sort_column_after, ''), 'epoch')::timestamptz, coalesce(start_after, ''), descending, limits
        ) as t
        where sort_column <> 'name'
    ) as e;
end
$$;
comment on function storage.search_v2(text, text, integer, integer, text, text, text, text) is 'Objects and folders whose path begins with a prefix, after a key. The name is the whole path; that of a folder ends with a slash, and its id is null. Sorted by name, created_at or updated_at.';

reset role;
revoke all on all functions in schema storage from public;
grant execute on all functions in schema storage to :"owner", anon, authenticated, service_role;
