begin;
\ir 000_helpers.sql
select plan(65);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
insert into public.projects (id, org_id, name, visibility) values
  (tests.id('open'), tests.org('ada'), 'Open', 'organization'),
  (tests.id('closed'), tests.org('ada'), 'Closed', 'private'),
  (tests.id('bobs'), tests.org('bob'), 'Bobs', 'organization');

create function tests.object(org uuid, project text, path text, version text default gen_random_uuid()::text) returns text language sql as $$
  select concat_ws('/', org, tests.id(project), path, version)
$$;
-- As the service writes it, after it has tried as the caller.
create function tests.upload(name text, bytes bigint default 10, type text default 'text/plain', owner uuid default null) returns void language sql as $$
  insert into storage.objects (bucket_id, name, owner, version, metadata)
  values ('project-files', upload.name, upload.owner, gen_random_uuid()::text, jsonb_build_object('size', bytes, 'mimetype', type))
$$;
create function tests.remove(name text) returns bigint language plpgsql as $$
declare
  n bigint;
begin
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.objects as o where o.bucket_id = 'project-files' and o.name = remove.name;
  get diagnostics n = row_count;
  return n;
end
$$;
create function tests.keep(name text, bytes bigint default 10) returns void language sql security definer as $$ select tests.upload(keep.name, keep.bytes, owner => tests.id('ada')) $$;
create function tests.seen() returns bigint language sql as $$ select count(*) from storage.objects as o where o.bucket_id = 'project-files' $$;

select tests.object(tests.org('ada'), 'open', 'notes/plan.md') as first \gset
select tests.object(tests.org('ada'), 'closed', 'secret.txt') as hidden \gset
select tests.keep(:'first'), tests.keep(:'hidden');

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select is(tests.seen(), 0::bigint, 'anon sees no object');
select throws_ok('select * from public.project_files', '42501', null, 'anon sees no files');
select throws_ok(format('select tests.upload(%L)', tests.object(tests.org('ada'), 'open', 'a.txt')), '42501', null, 'anon uploads nothing');
select tests.act_as('bob');
select is(tests.seen(), 0::bigint, 'a non-member sees no object');
select is_empty('select 1 from public.project_files', 'a non-member sees no files');
select is_empty('select 1 from public.project_file_versions', 'a non-member sees no versions');
select is(tests.remove(:'first'), 0::bigint, 'a non-member removes nothing');
select throws_ok(format('select tests.upload(%L)', name), '42501', null, 'a non-member uploads nothing: ' || what)
from (values
  (tests.object(tests.org('ada'), 'open', 'a.txt'), 'into the other organization'),
  (tests.object(tests.org('bob'), 'open', 'a.txt'), 'into its project under their own organization'),
  (tests.object(tests.org('ada'), 'bobs', 'a.txt'), 'into their own project under the other organization'),
  (tests.org('bob') || '/../' || tests.object(tests.org('ada'), 'open', 'a.txt'), 'around a corner'),
  (upper(tests.object(tests.org('ada'), 'open', 'a.txt')), 'in capital letters')
) as bad (name, what);
select tests.act_as_superuser();
select id as file from public.project_files where project_id = tests.id('open') \gset
select id as hidden_file from public.project_files where project_id = tests.id('closed') \gset
select tests.act_as('bob');
select tests.refuses(format('select public.delete_project_file(%L)', :'file'), 'not_found', 'a non-member deletes no file');
select tests.refuses(format('select public.restore_project_file(%L)', :'file'), 'not_found', 'a non-member restores none');

-- ---- a viewer reads, a member writes, and a private project is hidden
select tests.act_as('vic', tests.org('ada'));
select is(tests.seen(), 1::bigint, 'a viewer sees the open project');
select throws_ok(format('select tests.upload(%L)', tests.object(tests.org('ada'), 'open', 'a.txt')), '42501', null, 'a viewer uploads nothing');
select is(tests.remove(:'first'), 0::bigint, 'a viewer removes nothing');
select tests.refuses(format('select public.delete_project_file(%L)', :'file'), 'permission_denied', 'a viewer deletes nothing');
select tests.act_as('mem', tests.org('ada'));
select is(tests.seen(), 1::bigint, 'a member does not see the private project');
select results_eq('select path, version, bytes, content_type, created_by from public.project_files', $$values ('notes/plan.md', 1, 10::bigint, 'text/plain', tests.id('ada'))$$, 'a member sees the file');
select is(tests.remove(:'hidden'), 0::bigint, 'nor removes what is in it');
select throws_ok(format('select tests.upload(%L)', tests.object(tests.org('ada'), 'closed', 'a.txt')), '42501', null, 'nor uploads into it');
select tests.refuses(format('select public.delete_project_file(%L)', :'hidden_file'), 'not_found', 'nor deletes its files');
select tests.object(tests.org('ada'), 'open', 'notes/plan.md') as second \gset
select lives_ok(format('select tests.upload(%L, 20, owner => tests.id(''mem''))', :'second'), 'a member uploads a version');
select results_eq('select version, last_version, bytes, object_name from public.project_files', format('values (2, 2, 20::bigint, %L)', :'second'), 'which becomes the current one');
select results_eq('select version, created_by from public.project_file_versions order by 1', $$values (1, tests.id('ada')), (2, tests.id('mem'))$$, 'both are there');
select throws_ok(format($$insert into storage.objects (bucket_id, name) values ('project-files', %L) on conflict (bucket_id, name) do update set version = 'x'$$, :'second'), '42501', null, 'nothing is overwritten');
select is(tests.changed(format($$update storage.objects set name = %L where name = %L$$, tests.object(tests.org('ada'), 'open', 'other.md'), :'second')), 0::bigint, 'nothing is moved');
select throws_ok($$insert into public.project_files (project_id, path, version, last_version, object_name, bytes) values (tests.id('open'), 'x', 1, 1, 'x', 1)$$, '42501', null, 'nobody writes the tables');

-- ---- names
select tests.refuses(format('select tests.upload(%L)', name), 'bad_request', 'not a name: ' || what)
from (values
  (concat_ws('/', tests.org('ada'), tests.id('open'), 'a.txt'), 'without a version'),
  (concat_ws('/', tests.org('ada'), tests.id('open'), gen_random_uuid()), 'without a path'),
  (tests.object(tests.org('ada'), 'open', 'a/../b'), 'two dots'),
  (tests.object(tests.org('ada'), 'open', 'a//b'), 'an empty segment')
) as bad (name, what);

-- ---- restore, delete, remove
select is((public.restore_project_file(:'file', 1)).bytes, 10::bigint, 'an old version is current again');
select tests.refuses(format('select public.restore_project_file(%L, 9)', :'file'), 'not_found', 'no such version');
select isnt((public.delete_project_file(:'file')).deleted_at, null, 'a file is deleted');
select is((public.restore_project_file(:'file')).deleted_at, null, 'and comes back as it was');
select is((public.delete_project_file(:'file')).version, 1, 'deleted again');
select tests.object(tests.org('ada'), 'open', 'notes/plan.md') as third \gset
select lives_ok(format('select tests.upload(%L, 30)', :'third'), 'an upload brings it back');
select results_eq('select version, deleted_at from public.project_files', $$values (3, null::timestamptz)$$, 'as a new version');
select is(tests.used(tests.org('ada'), 'storage_bytes'), 70::bigint, 'all versions count');
select is(tests.remove(:'third'), 1::bigint, 'a member removes a version');
select results_eq('select version, last_version from public.project_files', 'values (2, 3)', 'the newest that remains is current; no number comes again');
select is(tests.remove(:'first') + tests.remove(:'second'), 2::bigint, 'all are removed');
select is_empty('select 1 from public.project_files', 'and the file is gone');
select is(tests.used(tests.org('ada'), 'storage_bytes'), 10::bigint, 'its bytes are free');

-- ---- bounds
select tests.act_as_superuser();
select tests.keep(tests.object(tests.org('ada'), 'open', 'many.txt')) from generate_series(1, 100);
select tests.refuses(format('select tests.keep(%L)', tests.object(tests.org('ada'), 'open', 'many.txt')), 'conflict', 'a file has 100 versions at most');

-- ---- nothing is overwritten past the policies: as the service writes an upload to a signed URL
create function tests.overwrite(name text) returns void language sql as $$
  insert into storage.objects (bucket_id, name, version, metadata)
  values ('project-files', overwrite.name, gen_random_uuid()::text, '{"size": 1}')
  on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata
$$;
select tests.object(tests.org('ada'), 'open', 'signed.txt') as signed \gset
select lives_ok(format('select tests.overwrite(%L)', :'signed'), 'an upsert of a new name is a version');
select tests.refuses(format('select tests.overwrite(%L)', :'signed'), 'conflict', 'which the next one does not overwrite');
select lives_ok(format($$update storage.objects set metadata = '{"size": 2}' where name = %L$$, :'signed'), 'what is said about the bytes may change');

-- ---- an upload fires the reflexes that listen: those of its private project only, and none of others
select tests.skill(tests.org('ada')) as skill, tests.skill(tests.org('bob')) as bobs_skill \gset
insert into public.skills (org_id, project_id, name, prompt_template) values (tests.org('ada'), tests.id('closed'), 'Hidden', 'x') returning id as hidden_skill \gset
create function tests.listen(skill uuid) returns uuid language sql as $$
  insert into public.reflexes (skill_id, name, source, event) values (listen.skill, 'Files', 'event', 'file.uploaded') returning id
$$;
create function tests.heard(reflex uuid) returns text language sql as $$
  select string_agg(concat_ws(' ', d.payload ->> 'path', d.payload ->> 'version', d.payload ->> 'bytes'), ', ' order by d.payload ->> 'path', d.payload ->> 'version')
  from public.reflex_deliveries as d where d.reflex_id = heard.reflex
$$;
select tests.act_as('bob');
select tests.listen(:'bobs_skill') as bobs_reflex \gset
select tests.act_as('ada');
select tests.listen(:'skill') as reflex, tests.listen(:'hidden_skill') as hidden_reflex \gset
select tests.act_as_superuser();
select tests.keep(tests.object(tests.org('ada'), project, path), 7) from (values ('open', 'fired.txt'), ('open', 'fired.txt'), ('closed', 'hush.txt')) as u (project, path);
select is(array[tests.heard(:'reflex'), tests.heard(:'hidden_reflex'), tests.heard(:'bobs_reflex')],
  array['fired.txt 1 7, fired.txt 2 7', 'fired.txt 1 7, fired.txt 2 7, hush.txt 1 7', null], 'each upload is told, within its private project');
select tests.act_as('mem', tests.org('ada'));
select is(tests.heard(:'reflex') is not null, true, 'who reads files reads the deliveries');
select tests.act_as_superuser();
delete from private.role_permissions as r where r.role = 'member' and r.permission = 'files:read';
select tests.act_as('mem', tests.org('ada'));
select is(tests.heard(:'reflex'), null, 'and nobody else does');
select tests.refuses(format('select tests.listen(%L)', :'skill'), 'permission_denied', 'nor listens');
select tests.act_as_superuser();
insert into private.role_permissions (role, permission) values ('member', 'files:read');
select tests.remove(o.name) from storage.objects as o where o.name like '%/hush.txt/%';

-- ---- archived and deleted projects
select tests.object(tests.org('ada'), 'open', 'late.txt') as late \gset
select tests.keep(:'late');
update public.projects set archived_at = kijko.now() where id = tests.id('open');
select tests.refuses(format('select tests.overwrite(%L)', :'signed'), 'conflict', 'nothing is overwritten in an archived project');
select tests.refuses(format($$update storage.objects set metadata = '{"size": 3}' where name = %L$$, :'signed'), 'project_archived', 'nor changed in another way');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select tests.upload(%L)', tests.object(tests.org('ada'), 'open', 'a.txt')), 'project_archived', 'nothing is uploaded into an archived project');
select tests.refuses(format('select tests.remove(%L)', :'late'), 'project_archived', 'nor removed');
select tests.refuses($$select public.delete_project_file(f.id) from public.project_files as f where f.path = 'late.txt'$$, 'project_archived', 'nor deleted');
select lives_ok($$delete from public.projects where id = tests.id('open')$$, 'its deletion takes the files along');
select is(tests.used(tests.org('ada'), 'storage_bytes'), 10::bigint, 'and their bytes');

-- ---- each policy holds by itself: a DELETE without a filter reads nothing, so that no policy for select hides a row from it
select tests.act_as_superuser();
insert into public.projects (id, org_id, name, visibility) values (tests.id('again'), tests.org('ada'), 'Again', 'organization');
select tests.object(tests.org('ada'), 'again', 'alone.md') as shared \gset
select tests.object(tests.org('ada'), 'closed', 'alone.md') as closed \gset
select tests.keep(:'shared'), tests.keep(:'closed');
insert into storage.buckets (id, name) values ('elsewhere', 'elsewhere');
insert into storage.objects (bucket_id, name, version) values ('elsewhere', :'shared', 'v');
create function tests.wipe(who text) returns text language plpgsql as $$
begin
  perform tests.act_as(who, tests.org('ada'));
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.objects;
  perform tests.act_as_superuser();
  return (select string_agg(o.place, ', ' order by o.place) from (
    select o.bucket_id || case split_part(o.name, '/', 2) when tests.id('closed')::text then ' closed' else ' open' end as place
    from storage.objects as o where o.name like '%/alone.md/%'
  ) as o);
end
$$;
select tests.act_as('mem', tests.org('ada'));
select is_empty($$select 1 from storage.objects as o where o.bucket_id = 'elsewhere'$$, 'the policy for select is about its bucket only');
select tests.act_as_superuser();
select is(tests.wipe(who), rest, 'what ' || who || ' leaves')
from (values
  (1, 'bob', 'elsewhere open, project-files closed, project-files open'),
  (2, 'vic', 'elsewhere open, project-files closed, project-files open'),
  (3, 'mem', 'elsewhere open, project-files closed')
) as v (n, who, rest)
order by n;

select * from finish();
rollback;
