-- Lists of a bucket: Supabase's storage.search() and storage.search_v2(). They run as the caller, so policies decide what is listed.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_storage_admin;

-- One step down the index for each object and for each folder, however much a folder holds.
create or replace function storage.list_entries(
    bucket_name text, prefix text, delimited boolean, after_key text, descending boolean, max_entries integer
)
returns table (key text, is_folder boolean, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    found_row storage.objects;
    slash integer;
    -- The names that are left: from low, inclusive, to high, exclusive.
    low text collate "C" := prefix;
    high text collate "C" := prefix || chr(1114111);
begin
    if after_key <> '' and descending then
        high := least(high, after_key collate "C");
    elsif after_key <> '' then
        low := greatest(low, (case when after_key like '%/' then left(after_key, -1) || '0' else after_key || chr(1) end) collate "C");
    end if;
    for i in 1 .. max_entries loop
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
        -- The character after the slash in C order is 0: with it begins what follows the folder.
        if descending then
            high := key;
        else
            low := case when is_folder then left(key, -1) || '0' else key || chr(1) end;
        end if;
    end loop;
end
$$;
comment on function storage.list_entries(text, text, boolean, text, boolean, integer) is 'Objects and folders of a bucket whose path begins with a prefix, in the order of their bytes, after a key. A folder''s key ends with a slash. Not on Supabase.';

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
begin
    if coalesce(sort_column, 'name') <> 'name' then
        raise exception 'sorting by % is not served', sort_column using errcode = '22023';
    end if;
    return query
    select rtrim(split_part(rtrim(e.key, '/'), '/', -1), '/'), e.key, e.id, e.updated_at, e.created_at, e.last_accessed_at, e.metadata
    from storage.list_entries(bucket_name, prefix, true, coalesce(start_after, ''), lower(coalesce(sort_order, 'asc')) = 'desc', limits) as e;
end
$$;
comment on function storage.search_v2(text, text, integer, integer, text, text, text, text) is 'Objects and folders whose path begins with a prefix, after a key. The name is the whole path; that of a folder ends with a slash, and its id is null. Sorted by name only.';

reset role;
revoke all on all functions in schema storage from public;
grant execute on all functions in schema storage to postgres, anon, authenticated, service_role;
