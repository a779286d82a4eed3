-- Ingestion of a project's files: who starts it, what becomes a document, and what goes with its file.
begin;
\ir 000_helpers.sql
select plan(30);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member');
insert into public.projects (id, org_id, name) values (tests.id('open'), tests.org('ada'), 'Open');
create function tests.add(path text, bytes bigint default 10, type text default 'text/plain') returns void language sql as $$
  insert into storage.objects (bucket_id, name, owner, version, metadata)
  values ('project-files', concat_ws('/', tests.org('ada'), tests.id('open'), path, gen_random_uuid()), tests.id('ada'), gen_random_uuid()::text, jsonb_build_object('size', bytes, 'mimetype', type))
$$;
create function tests.claims() returns uuid language plpgsql as $$
declare
  held uuid := (select i.queue_job_id from private.document_ingestions as i where i.organization = tests.org('ada'));
begin
  update public.jobs set run_at = run_at - interval '1 year' where id = held;
  perform from private.jobs_claim('w', '1 minute', 100, '{document_ingestion}');
  return held;
end
$$;
create function tests.docs() returns text[] language sql security definer as $$
  select array_agg(d.path || '=' || d.content order by d.path) from public.documents as d where d.org_id = tests.org('ada')
$$;
-- The texts of a page: its paths, except that what is called binary is none.
create function tests.stores(job uuid, page jsonb) returns boolean language sql as $$
  select private.documents_store_files('w', job, 1, page, (
    select coalesce(jsonb_agg(jsonb_build_object('file_id', f.value -> 'file_id', 'version', f.value -> 'version', 'content', case when f.value ->> 'path' not like '%binary%' then (f.value ->> 'path') || (f.value ->> 'version') end)), '[]')
    from jsonb_array_elements(page -> 'files') as f
  ))
$$;

select tests.add('notes/a.md'), tests.add('binary'), tests.add('photo.png', 10, 'image/png'), tests.add('large.txt', 300000);
insert into public.documents (org_id, project_id, path, content) values (tests.org('ada'), tests.id('open'), 'files/taken.md', 'mine');
select tests.add('taken.md');

-- ---- unauthenticated callers, non-members and colleagues first
select tests.act_as_anon();
select throws_ok(format('select public.start_ingestion(%L)', tests.id('open')), '42501', null, 'anon starts nothing');
select tests.act_as('bob');
select tests.refuses(format('select public.start_ingestion(%L)', tests.id('open')), 'not_found', 'a non-member starts nothing');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.start_ingestion(%L)', tests.id('open')), 'permission_denied', 'nor does a member');
select throws_ok($$update public.documents set file_version = 1$$, '42501', null, 'nobody says that a document is a file');
select throws_ok($$select private.documents_next_files('w', gen_random_uuid(), 1)$$, '42501', null, 'the functions of the sidecar are nobody else''s');
select tests.act_as_superuser();
select is_empty(format('select 1 from private.document_ingestions where organization = %L', tests.org('ada')), 'so nothing is queued');

-- ---- an ingestion
select tests.act_as('ada');
select is((public.start_ingestion(tests.id('open'))).status, 'running', 'an owner starts it');
select is((public.start_ingestion(tests.id('open'))).files_total, 5, 'a second call joins it');
select tests.act_as_superuser();
select is((select count(*) from public.jobs as j where j.kind = 'document_ingestion' and j.org_id = tests.org('ada')), 1::bigint, 'of which there is one job');
select is(private.documents_next_files('w', gen_random_uuid(), 1), null, 'who holds no job learns nothing');
select is(private.documents_store_files('w', gen_random_uuid(), 1, '{}', '[]'), false, 'and stores nothing');
select tests.claims() as job \gset
select private.documents_next_files('w', :'job', 1) as page \gset
select is((select array_agg(f.value ->> 'path' order by f.value ->> 'path') from jsonb_array_elements(:'page'::jsonb -> 'files') as f), '{binary,notes/a.md,taken.md}', 'what can be no text is not read');
select is(private.files_redeem((:'page'::jsonb #>> '{files,0,ticket}')) like tests.org('ada') || '/' || tests.id('open') || '/%', true, 'a ticket opens the object');
select is(tests.stores(:'job', :'page'), true, 'a page is stored');
select is(tests.stores(:'job', :'page'), true, 'and may be told twice');
select is(tests.docs(), '{files/notes/a.md=notes/a.md1,files/taken.md=mine}', 'texts are documents; that of a member stays');
select is(private.documents_next_files('w', :'job', 1) ->> 'looked', '0', 'then all are done');
select private.jobs_finish(j, 'succeeded', '{}', null, null) from public.jobs as j where j.id = :'job';
select tests.act_as('ada');
select is((select row(s.status, s.files_done, s.files_total, s.files_skipped)::text from public.ingestion_status(tests.id('open')) as s), '(succeeded,5,5,4)', 'which the status says');
select tests.act_as('mem', tests.org('ada'));
select is((select array_agg(d.path) from public.search_documents('notes/a.md1') as d), '{files/notes/a.md}', 'members find the text');

-- ---- a new version, a deleted file, a removed one
select tests.act_as('ada');
select is((public.start_ingestion(tests.id('open'))).status, 'running', 'again');
select tests.act_as_superuser();
select tests.claims() as job \gset
select is((select array_agg(f.value ->> 'path' order by f.value ->> 'path') from jsonb_array_elements(private.documents_next_files('w', :'job', 1) -> 'files') as f), '{binary,taken.md}', 'what is stored is not read again');
select tests.add('notes/a.md');
select private.documents_next_files('w', :'job', 1) as page \gset
select tests.stores(:'job', :'page');
select is(tests.docs(), '{files/notes/a.md=notes/a.md2,files/taken.md=mine}', 'a new version is');
update public.project_files set deleted_at = kijko.now() where path = 'notes/a.md' and org_id = tests.org('ada');
select private.documents_next_files('w', :'job', 1);
select is(tests.docs(), '{files/taken.md=mine}', 'the document of a deleted file goes');

-- ---- cancelled, replaced, and beyond the number of documents
select tests.act_as('ada');
select is((public.cancel_ingestion(tests.id('open'))).status, 'running', 'one that runs stops soon');
select tests.act_as_superuser();
select is(private.documents_next_files('w', :'job', 1), null, 'by its next call');
select private.jobs_finish(j, 'cancelled', null, 'cancelled', null) from public.jobs as j where j.id = :'job';
update public.project_files set deleted_at = null where path = 'notes/a.md' and org_id = tests.org('ada');
insert into public.documents (org_id, path) select tests.org('ada'), 'd' || n from generate_series(1, 1999) as n;
select tests.act_as('ada');
select is((public.ingestion_status(tests.id('open'))).status, 'cancelled', 'which the status says');
select is((public.start_ingestion(tests.id('open'))).status, 'running', 'and may begin again');
select tests.act_as_superuser();
select tests.claims() as job \gset
select private.documents_next_files('w', :'job', 1) as page \gset
select is(tests.stores(:'job', :'page'), true, 'an organization that has all its documents');
select is((select count(*) from public.documents as d where d.org_id = tests.org('ada')), 2000::bigint, 'gets no more');
update private.document_ingestions set queue_job_id = gen_random_uuid() where organization = tests.org('ada');
select is(private.documents_next_files('w', :'job', 1), null, 'a job that a newer one replaced does nothing');

select * from finish();
rollback;
