-- Where bytes lie: uploads that are under way, and bytes to delete (78_storage_deletions.sql has the functions of these). A row of storage.objects never lacks its bytes, and no bytes
-- stay without a row, whatever is killed: an upload is known here before its first byte is stored, and bytes are in the queue of
-- deletions in the same transaction in which the last row gives them up.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

create table if not exists storage_service.uploads (
    version uuid primary key,
    bucket_id text not null,
    name text not null,
    owner uuid,
    owner_id text,
    upsert boolean not null,
    may_replace jsonb,
    metadata jsonb not null,
    user_metadata jsonb,
    started_by text not null,
    lease_until timestamptz not null,
    multipart_id text,
    payer uuid,
    held_bytes bigint not null default 0,
    replaced_bytes bigint not null default 0
);
comment on table storage_service.uploads is 'Uploads and copies under way. The row is committed before bytes are stored, and goes when the object has its row, or when its bytes are in the queue of deletions.';
comment on column storage_service.uploads.version is 'Where the bytes are stored.';
comment on column storage_service.uploads.bucket_id is 'Bucket of the object.';
comment on column storage_service.uploads.name is 'Path of the object.';
comment on column storage_service.uploads.owner is 'Owner, if it is a UUID.';
comment on column storage_service.uploads.owner_id is 'Owner.';
comment on column storage_service.uploads.upsert is 'Whether an object of this name is replaced.';
comment on column storage_service.uploads.may_replace is 'With upsert, what it may replace: the object {id} for which policies were asked, and of an upload to a signed URL one of the signer, {owner_id}. Null: any.';
comment on column storage_service.uploads.metadata is 'Metadata that the uploader chose.';
comment on column storage_service.uploads.user_metadata is 'What the uploader wrote about the object.';
comment on column storage_service.uploads.started_by is 'Whose uploads are counted together: a user, an API key or a network.';
comment on column storage_service.uploads.lease_until is 'The service extends it while bytes come. Afterwards the upload is given up.';
comment on column storage_service.uploads.multipart_id is 'The multipart upload by which an S3 store gets the bytes; null before the first part, and in a folder.';
comment on column storage_service.uploads.payer is 'The organization in whose plan the bytes count; null in a bucket that is not metered.';
comment on column storage_service.uploads.held_bytes is 'Bytes that the plan holds for this upload until it ends, besides replaced_bytes.';
comment on column storage_service.uploads.replaced_bytes is 'Bytes of the object that it replaces. Of several uploads of one name only the first one has them.';
create index if not exists uploads_lease_idx on storage_service.uploads (lease_until);
create index if not exists uploads_started_by_idx on storage_service.uploads (started_by);
create index if not exists uploads_payer_idx on storage_service.uploads (payer) where payer is not null;

create table if not exists storage_service.deletions (
    version uuid primary key,
    due_at timestamptz not null default now(),
    again boolean not null default false,
    multipart_id text,
    deleted_at timestamptz,
    keep_until timestamptz
);
comment on table storage_service.deletions is 'Bytes to delete. Of an upload that was given up they are deleted twice, a day apart: a service that was halted may have stored them after the first time.';
comment on column storage_service.deletions.version is 'Where the bytes lie.';
comment on column storage_service.deletions.due_at is 'When they are deleted; later, while a service does it.';
comment on column storage_service.deletions.again is 'Whether they are deleted once more after a day.';
comment on column storage_service.deletions.multipart_id is 'The multipart upload of an S3 store that is aborted with them.';
comment on column storage_service.deletions.deleted_at is 'When the object was deleted or replaced. Its bytes are kept for some days, so that a restore to an earlier moment finds them. Null when they are not kept, or no longer.';
comment on column storage_service.deletions.keep_until is 'How long they are kept at the most, whatever the days: ten times as long as the object lived, but at least twice as long as the archive of WAL takes, and two minutes. So kept bytes are bounded by those of living objects, and who replaces one again and again fills no disk. Null: the days alone decide.';
create index if not exists deletions_due_idx on storage_service.deletions (due_at) where deleted_at is null;
create index if not exists deletions_kept_idx on storage_service.deletions (deleted_at) where deleted_at is not null;
create index if not exists deletions_keep_until_idx on storage_service.deletions (keep_until) where deleted_at is not null;
alter table storage_service.uploads enable row level security;
alter table storage_service.deletions enable row level security;
alter table storage_service.uploads owner to kijko_storage_admin;
alter table storage_service.deletions owner to kijko_storage_admin;

create or replace function storage_service.may_replace(present storage.objects, rule jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return rule is null or coalesce(present.id::text = rule ->> 'id', false) or coalesce(present.owner_id = rule ->> 'owner_id', false);
comment on function storage_service.may_replace(storage.objects, jsonb) is 'Whether an upload may replace this object: see storage_service.uploads.may_replace.';

-- Tried and undone: what is stored at last counts once.
create or replace function storage_service.bytes_problem(bucket text, object_name text, bytes bigint) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    state text;
    message text;
    detail text;
begin
    perform set_config('request.method', 'POST', true), set_config('request.path', '/storage/v1/object', true);
    execute 'select private.storage_admit_bytes($1, $2, $3)' using bucket, object_name, bytes;
    raise exception using errcode = 'KJSTB';
exception
    when sqlstate 'KJSTB' then
        return null;
    when query_canceled then
        raise;
    when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail;
        return storage_service.problem(state, message, detail, null);
end
$$;
comment on function storage_service.bytes_problem(text, text, bigint) is 'Why the plan does not hold so many bytes more under this name; null if it does. Called by definer functions.';

create or replace function storage_service.payer(bucket text, object_name text) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    org uuid;
begin
    if to_regprocedure('private.storage_payer(text,text)') is not null then
        execute 'select private.storage_payer($1, $2)' into org using bucket, object_name;
    end if;
    return org;
end
$$;
comment on function storage_service.payer(text, text) is 'The organization in whose plan an object of this name counts; null for none. Called by definer functions.';

-- What is stored and what is held for uploads stays within the plan: each hold is made under one lock, beside all others of the payer.
create or replace function storage_service.hold_bytes(upload uuid, bytes bigint) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    wanted storage_service.uploads;
    others bigint;
    missing bigint;
    problem jsonb;
begin
    select u.* into wanted from storage_service.uploads as u where u.version = upload;
    if wanted.payer is null then
        return null;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('storage payer ' || wanted.payer, 0));
    select coalesce(sum(u.held_bytes), 0) into others from storage_service.uploads as u where u.payer = wanted.payer and u.version <> upload;
    missing := bytes + coalesce(octet_length(wanted.user_metadata::text), 0) - wanted.replaced_bytes;
    if missing > 0 then
        problem := storage_service.bytes_problem(wanted.bucket_id, wanted.name, missing + others);
    end if;
    if problem is null then
        update storage_service.uploads as u set held_bytes = greatest(missing, 0) where u.version = upload;
    end if;
    return problem;
end
$$;
comment on function storage_service.hold_bytes(uuid, bigint) is 'Holds so many bytes of the plan for an upload, in place of those that are held: null, or why the plan does not have them. Called by definer functions.';

create or replace function storage_service.object_bytes(object storage.objects) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
return case when object.metadata ->> 'size' ~ '^[0-9]{1,18}$' then (object.metadata ->> 'size')::bigint else 0 end
    + coalesce(octet_length(object.user_metadata::text), 0);
comment on function storage_service.object_bytes(storage.objects) is 'Bytes of an object and of what its uploader wrote about it, as the domain counts them.';

create or replace function storage_service.begin_upload(
    upload uuid, bucket text, object_name text, owner uuid, owner_id text, upsert boolean, metadata jsonb, user_metadata jsonb, started_by text, bytes bigint, lease interval, most integer,
    may_replace jsonb default null
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    found_bucket storage.buckets;
    present storage.objects;
    problem jsonb;
begin
    select b.* into found_bucket from storage.buckets as b where b.id = bucket;
    if found_bucket.id is null then
        return jsonb_build_object('refused', 'NoSuchBucket');
    end if;
    select o.* into present from storage.objects as o where o.bucket_id = bucket and o.name = object_name;
    if found and not (upsert and storage_service.may_replace(present, begin_upload.may_replace)) then
        return jsonb_build_object('refused', 'ResourceAlreadyExists');
    end if;
    -- Those that come at once are counted one after the other.
    perform pg_advisory_xact_lock(hashtextextended('storage upload ' || started_by, 0));
    if (select count(*) from storage_service.uploads as u where u.started_by = begin_upload.started_by) >= most then
        return jsonb_build_object('refused', 'SlowDown');
    end if;
    insert into storage_service.uploads (
        version, bucket_id, name, owner, owner_id, upsert, may_replace, metadata, user_metadata, started_by, lease_until, payer
    )
    values (
        upload, bucket, object_name, begin_upload.owner, begin_upload.owner_id, begin_upload.upsert, begin_upload.may_replace, begin_upload.metadata,
        begin_upload.user_metadata, begin_upload.started_by, clock_timestamp() + lease, storage_service.payer(bucket, object_name)
    );
    -- Bytes beyond what the organization may store are refused before they are read.
    update storage_service.uploads as u set replaced_bytes = storage_service.object_bytes(present)
    where u.version = upload and present.id is not null and not exists (
        select from storage_service.uploads as o where o.version <> upload and o.bucket_id = bucket and o.name = object_name and o.replaced_bytes > 0
    );
    problem := storage_service.hold_bytes(upload, coalesce(bytes, 0));
    if problem is not null then
        delete from storage_service.uploads as u where u.version = upload;
        return jsonb_build_object('problem', problem);
    end if;
    return jsonb_build_object(
        'file_size_limit', found_bucket.file_size_limit, 'allowed_mime_types', to_jsonb(found_bucket.allowed_mime_types)
    );
end
$$;
comment on function storage_service.begin_upload(uuid, text, text, uuid, text, boolean, jsonb, jsonb, text, bigint, interval, integer, jsonb) is 'Makes an upload known before its first byte: the limits of the bucket, or {refused} or {problem}. Definer: the service checked the policies before, and buckets are read past them.';

create or replace function storage_service.admit_bytes(upload uuid, bytes bigint, ahead bigint) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    problem jsonb := storage_service.hold_bytes(upload, bytes + ahead);
begin
    if problem is null then
        return jsonb_build_object('admitted', bytes + ahead);
    end if;
    -- The last bytes that the plan holds are admitted one by one.
    problem := storage_service.hold_bytes(upload, bytes);
    return case when problem is null then jsonb_build_object('admitted', bytes) else jsonb_build_object('problem', problem) end;
end
$$;
comment on function storage_service.admit_bytes(uuid, bigint, bigint) is 'Holds what has come of an upload whose length is not known, and some bytes ahead if the plan has them: {admitted}, how many; or {problem}. Definer: as storage_service.begin_upload().';

create or replace function storage_service.extend_upload(upload uuid, lease interval) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update storage_service.uploads as u set lease_until = clock_timestamp() + lease where u.version = upload;
    return found;
end
$$;
comment on function storage_service.extend_upload(uuid, interval) is 'Extends the lease of an upload; false when it was given up. Definer: as storage_service.begin_upload().';

create or replace function storage_service.note_multipart(upload uuid, multipart_id text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update storage_service.uploads as u set multipart_id = note_multipart.multipart_id where u.version = upload;
    return found;
end
$$;
comment on function storage_service.note_multipart(uuid, text) is 'Makes a multipart upload known before its first part, so that whoever gives the upload up aborts it; false when it was given up. Definer: as storage_service.begin_upload().';

-- The deletion of the upload's row decides: after it nobody gives the upload up, and after that there is nothing to finish.
create or replace function storage_service.finish_upload(upload uuid, facts jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    wanted storage_service.uploads;
    written storage.objects;
    state text;
    message text;
    detail text;
    violated text;
    complete constant jsonb := facts || jsonb_build_object('lastModified', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
begin
    -- With its row the hold becomes a part of the gauge. Others that hold bytes see one of the two.
    perform pg_advisory_xact_lock(hashtextextended('storage payer ' || u.payer, 0)) from storage_service.uploads as u where u.version = upload and u.payer is not null;
    select u.* into wanted from storage_service.uploads as u where u.version = upload for update;
    -- Another object has come since policies were asked. They are asked about it, and then this is called again.
    if wanted.upsert and exists (
        select from storage.objects as o
        where o.bucket_id = wanted.bucket_id and o.name = wanted.name and not storage_service.may_replace(o, wanted.may_replace)
    ) then
        return jsonb_build_object('refused', 'replaced');
    end if;
    delete from storage_service.uploads as u where u.version = upload;
    if wanted.version is null then
        return jsonb_build_object('refused', 'given up');
    end if;
    begin
        -- For kijko.fail(): its refusals are answered as to a request.
        perform set_config('request.method', 'POST', true), set_config('request.path', '/storage/v1/object', true);
        if wanted.upsert then
            insert into storage.objects as o (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
            values (wanted.bucket_id, wanted.name, wanted.owner, wanted.owner_id, wanted.version::text, wanted.metadata || complete, wanted.user_metadata)
            on conflict (bucket_id, name) do update
            set owner = excluded.owner, owner_id = excluded.owner_id, version = excluded.version, metadata = excluded.metadata,
                user_metadata = excluded.user_metadata, last_accessed_at = now()
            where storage_service.may_replace(o, wanted.may_replace)
            returning o.* into written;
            if written.id is null then
                raise exception using errcode = '23505';
            end if;
        else
            insert into storage.objects as o (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
            values (wanted.bucket_id, wanted.name, wanted.owner, wanted.owner_id, wanted.version::text, wanted.metadata || complete, wanted.user_metadata)
            returning o.* into written;
        end if;
    exception
        when query_canceled then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail, violated = constraint_name;
            insert into storage_service.deletions (version) values (upload) on conflict do nothing;
            return jsonb_build_object('problem', storage_service.problem(state, message, detail, violated));
    end;
    return jsonb_build_object('row', to_jsonb(written) - 'path_tokens');
end
$$;
comment on function storage_service.finish_upload(uuid, jsonb) is 'Gives stored bytes their row: {row}; {refused: replaced} while another object is there than the upload may replace. If the row is refused, the bytes are queued for deletion: {problem}. Definer: as storage_service.begin_upload().';

create or replace function storage_service.allow_replacing(upload uuid, object_id uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    update storage_service.uploads as u set may_replace = jsonb_build_object('id', object_id) where u.version = upload;
end;
comment on function storage_service.allow_replacing(uuid, uuid) is 'The object that an upload may replace, after policies were asked about it. Definer: as storage_service.begin_upload().';

create or replace function storage_service.give_up_upload(upload uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    with gone as (delete from storage_service.uploads as u where u.version = upload returning u.version, u.multipart_id)
    insert into storage_service.deletions (version, again, multipart_id) select g.version, true, g.multipart_id from gone as g on conflict do nothing;
end;
comment on function storage_service.give_up_upload(uuid) is 'Ends an upload without an object; its bytes are queued for deletion. Definer: as storage_service.begin_upload().';

create or replace function storage_service.sweep_uploads(max_uploads integer) returns integer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    with expired as (
        select u.version from storage_service.uploads as u where u.lease_until < clock_timestamp() order by u.lease_until limit max_uploads for update skip locked
    ), gone as (
        delete from storage_service.uploads as u using expired as e where u.version = e.version returning u.version, u.multipart_id
    ), queued as (
        insert into storage_service.deletions (version, again, multipart_id) select g.version, true, g.multipart_id from gone as g on conflict do nothing returning 1
    )
    select count(*)::integer from queued as q;
end;
comment on function storage_service.sweep_uploads(integer) is 'Gives up uploads whose lease has ended, because their service has; how many. Definer: as storage_service.begin_upload().';

create or replace function storage_service.move_object(bucket text, object_name text, to_bucket text, to_name text, owner uuid, owner_id text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    moved storage.objects;
    state text;
    message text;
    detail text;
    violated text;
begin
    begin
        perform set_config('request.method', 'POST', true), set_config('request.path', '/storage/v1/object/move', true);
        update storage.objects as o
        set bucket_id = to_bucket, name = to_name, owner = move_object.owner, owner_id = move_object.owner_id
        where o.bucket_id = bucket and o.name = object_name
        returning o.* into moved;
    exception
        when query_canceled then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail, violated = constraint_name;
            return jsonb_build_object('problem', storage_service.problem(state, message, detail, violated));
    end;
    return jsonb_build_object('row', to_jsonb(moved) - 'path_tokens');
end
$$;
comment on function storage_service.move_object(text, text, text, text, uuid, text) is 'Gives an object another name or bucket. Its bytes stay where they are. Definer: as storage_service.begin_upload().';

create or replace function storage_service.backlog() returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select jsonb_build_object(
        'uploads', (select count(*) from storage_service.uploads as u),
        'deletions', (select count(*) from storage_service.deletions as d where d.deleted_at is null and d.due_at <= now())
    );
end;
comment on function storage_service.backlog() is 'Uploads under way, and bytes that are due to be deleted. Definer: for the metrics of the service.';

select format('alter function %s owner to kijko_storage_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
\gexec
revoke all on function
    storage_service.may_replace(storage.objects, jsonb), storage_service.bytes_problem(text, text, bigint), storage_service.payer(text, text), storage_service.hold_bytes(uuid, bigint), storage_service.object_bytes(storage.objects),
    storage_service.admit_bytes(uuid, bigint, bigint),
    storage_service.begin_upload(uuid, text, text, uuid, text, boolean, jsonb, jsonb, text, bigint, interval, integer, jsonb),
    storage_service.extend_upload(uuid, interval), storage_service.note_multipart(uuid, text), storage_service.finish_upload(uuid, jsonb), storage_service.give_up_upload(uuid),
    storage_service.allow_replacing(uuid, uuid),
    storage_service.sweep_uploads(integer), storage_service.move_object(text, text, text, text, uuid, text), storage_service.backlog()
from public;
grant execute on function
    storage_service.begin_upload(uuid, text, text, uuid, text, boolean, jsonb, jsonb, text, bigint, interval, integer, jsonb),
    storage_service.extend_upload(uuid, interval), storage_service.note_multipart(uuid, text), storage_service.finish_upload(uuid, jsonb), storage_service.give_up_upload(uuid),
    storage_service.sweep_uploads(integer), storage_service.move_object(text, text, text, text, uuid, text), storage_service.backlog()
to kijko_storage;
grant execute on function storage_service.admit_bytes(uuid, bigint, bigint), storage_service.allow_replacing(uuid, uuid) to kijko_storage;
grant execute on function storage_service.may_replace(storage.objects, jsonb), storage_service.bytes_problem(text, text, bigint), storage_service.payer(text, text),
    storage_service.hold_bytes(uuid, bigint), storage_service.object_bytes(storage.objects)
to kijko_storage_admin;
commit;
