-- Repositories: who connects them, how they are named, and the secrets of their webhooks.
begin;
\ir 000_helpers.sql
select plan(66);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem'), tests.sign_up('out');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
create function tests.adds(given jsonb) returns jsonb language plpgsql as $$
declare
  made public.repositories;
begin
  insert into public.repositories (provider, full_name, clone_url, default_branch)
  values (coalesce(given ->> 'provider', ''), coalesce(given ->> 'full_name', ''), coalesce(given ->> 'clone_url', ''), coalesce(given ->> 'default_branch', 'main'))
  returning * into made;
  delete from public.repositories as r where r.id = made.id;
  return jsonb_build_array(made.provider, made.full_name, made.clone_url);
exception when check_violation then
  return '"refused"';
end
$$;
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.repositories (clone_url) values ('https://github.com/acme/app') returning id as app \gset
insert into public.repositories (clone_url, project_id) values ('https://github.com/acme/merger', :'secret') returning id as merger \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.repositories', '42501', null, 'anon reads nothing');
select throws_ok(format('select public.rotate_repository_secret(%L)', :'app'), '42501', null, 'anon makes no secret');
select tests.act_as('bob');
select is_empty('select 1 from public.repositories', 'a non-member sees nothing');
select throws_ok($$insert into public.repositories (org_id, clone_url) values (tests.org('ada'), 'https://github.com/acme/x')$$, '42501', null, 'a non-member adds nothing');
select is(tests.changed($$update public.repositories set default_branch = 'x'$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.repositories'), 0::bigint, 'a non-member removes nothing');
select tests.refuses(format('select public.rotate_repository_secret(%L)', :'app'), 'not_found', 'for a non-member it is not_found');
select tests.refuses(format('select public.rotate_repository_secret(%L)', gen_random_uuid()), 'not_found', 'as one that does not exist');
select throws_ok(
  format('insert into public.repositories (clone_url, project_id) values (%L, %L)', 'https://github.com/b/b', :'secret'), '42501', null,
  'a project of another organization is refused'
);

-- ---- viewers and members read, owners write
select tests.act_as('vic', tests.org('ada'));
select results_eq('select full_name from public.repositories', array['acme/app'], 'a viewer reads, without what a private project hides');
select throws_ok($$insert into public.repositories (clone_url) values ('https://github.com/acme/x')$$, '42501', null, 'a viewer adds nothing');
select tests.refuses(format('select public.rotate_repository_secret(%L)', :'app'), 'permission_denied', 'a viewer makes no secret');
select tests.refuses(format('select public.rotate_repository_secret(%L)', :'merger'), 'not_found', 'a hidden repository is not_found');
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$insert into public.repositories (clone_url) values ('https://github.com/acme/x')$$, '42501', null, 'a member adds nothing: repositories:write is the owner''s');
select is(tests.changed('delete from public.repositories'), 0::bigint, 'a member removes nothing');
select tests.act_as('ada');
select is((select count(*) from public.repositories), 2::bigint, 'the owner sees both');
select is(tests.used(tests.org('ada'), 'repositories'), 2::bigint, 'the gauge counts them');
select results_eq(
  format('select requested_by, api_key_id, created_by, status from public.repositories where id = %L', :'app'),
  $$select tests.id('ada'), null::uuid, tests.id('ada'), 'pending'$$, 'who asked for it'
);
select throws_ok($$update public.repositories set status = 'ready'$$, '42501', null, 'users do not write the status');
select throws_ok($$insert into public.repositories (clone_url, requested_by) values ('https://github.com/acme/x', tests.id('vic'))$$, '42501', null, 'nor who asked');

-- ---- what is derived
select is(tests.adds(g.given), g.expected, g.given::text)
from (
  values
    ('{"clone_url": "https://github.com/o/r"}'::jsonb, '["github", "o/r", "https://github.com/o/r.git"]'::jsonb),
    ('{"clone_url": "https://GitHub.com/o/r.git/"}', '["github", "o/r", "https://github.com/o/r.git"]'),
    ('{"provider": "github", "full_name": "o/r"}', '["github", "o/r", "https://github.com/o/r.git"]'),
    ('{"provider": "gitlab", "full_name": "g/sub/r"}', '["gitlab", "g/sub/r", "https://gitlab.com/g/sub/r.git"]'),
    ('{"clone_url": "git@github.com:o/r"}', '["github", "o/r", "git@github.com:o/r.git"]'),
    ('{"clone_url": "ssh://git@git.example.com:2222/a/b.git"}', '["git", "a/b", "ssh://git@git.example.com:2222/a/b.git"]'),
    ('{"clone_url": "https://git.example.com/a", "provider": "gitlab", "full_name": "team/a"}', '["gitlab", "team/a", "https://git.example.com/a"]'),
    ('{}', '"refused"'),
    ('{"provider": "git", "full_name": "o/r"}', '"refused"'),
    ('{"provider": "svn", "clone_url": "https://example.com/o/r"}', '"refused"'),
    ('{"clone_url": "https://github.com/o"}', '"refused"'),
    ('{"clone_url": "https://user:token@github.com/o/r"}', '"refused"'),
    ('{"clone_url": "https://token@github.com/o/r"}', '"refused"'),
    ('{"clone_url": "http://github.com/o/r"}', '"refused"'),
    ('{"clone_url": "file:///etc/passwd"}', '"refused"'),
    ('{"clone_url": "ext::sh -c id"}', '"refused"'),
    ('{"clone_url": "https://127.0.0.1/o/r"}', '"refused"'),
    ('{"clone_url": "https://[::1]/o/r"}', '"refused"'),
    ('{"clone_url": "https://localhost/o/r"}', '"refused"'),
    ('{"clone_url": "https://github.com/o/../r"}', '"refused"'),
    ('{"clone_url": "https://github.com/o/r?x=1"}', '"refused"'),
    ('{"clone_url": "https://github.com/o/r", "default_branch": "release/1.2"}', '["github", "o/r", "https://github.com/o/r.git"]'),
    ('{"clone_url": "https://github.com/o/r", "default_branch": "--upload-pack=x"}', '"refused"'),
    ('{"clone_url": "https://github.com/o/r", "default_branch": "a..b"}', '"refused"'),
    ('{"clone_url": "https://github.com/o/r", "default_branch": "a b"}', '"refused"')
) as g (given, expected);
select throws_ok($$insert into public.repositories (clone_url) values ('https://GITHUB.com/acme/app.git')$$, '23505', null, 'the same repository cannot be added twice');
update public.repositories set full_name = 'acme/renamed' where id = :'app';
select is((select clone_url from public.repositories where id = :'app'), 'https://github.com/acme/renamed.git', 'a renamed repository has another URL');
update public.repositories set clone_url = 'https://gitlab.com/acme/app' where id = :'app';
select results_eq(format('select provider, full_name from public.repositories where id = %L', :'app'), $$values ('gitlab', 'acme/app')$$, 'a moved one another provider');

-- ---- secrets
select tests.act_as_superuser();
select is_empty(format('select private.projects_repository_secrets(%L)', :'app'), 'there is no secret at first');
select tests.act_as('ada');
select secret as first from public.rotate_repository_secret(:'app') \gset
select matches(:'first'::text, '^kjw_[0-9a-f]{64}$', 'the first call makes one');
select ok((select webhook_secret_issued_at is not null from public.repositories where id = :'app'), 'the row says when');
select throws_ok(format('select private.projects_repository_secrets(%L)', :'app'), '42501', null, 'users cannot read it again');
select secret as second, former_expires_at - kijko.now() as rest from public.rotate_repository_secret(:'app', '1 hour') \gset
select is(:'rest'::interval, interval '1 hour', 'a rotation says until when the former one is accepted');
select tests.act_as_superuser();
select results_eq(format('select private.projects_repository_secrets(%L)', :'app'), array[:'second', :'first']::text[], 'both are accepted, the current one first');
select is_empty(format('select 1 from private.repository_secrets where sealed::text like %L', '%' || :'second' || '%'), 'they are sealed');
select is_empty($$select * from private.count_unsealable_rows() where table_name = 'private.repository_secrets'$$, 'and can be opened in their row');
select tests.travel('2 hours');
select results_eq(format('select private.projects_repository_secrets(%L)', :'app'), array[:'second']::text[], 'after the overlap only the current one');
select tests.act_as('ada');
select secret as third from public.rotate_repository_secret(:'app', '1 hour') \gset
select secret as fourth from public.rotate_repository_secret(:'app', '1 hour') \gset
select tests.act_as_superuser();
select results_eq(format('select private.projects_repository_secrets(%L)', :'app'), array[:'fourth', :'third']::text[], 'no more than one former secret');
select tests.act_as('ada');
select secret as fifth from public.rotate_repository_secret(:'app') \gset
select tests.act_as_superuser();
select results_eq(format('select private.projects_repository_secrets(%L)', :'app'), array[:'fifth']::text[], 'without an overlap the former one ends at once');
select tests.act_as('ada');
select tests.refuses(format('select public.rotate_repository_secret(%L, %L)', :'app', '31 days'), 'invalid_input', 'an overlap of more than 30 days is refused');
select tests.refuses(format('select public.rotate_repository_secret(%L, null)', :'app'), 'invalid_input', 'and none');

-- ---- keys, and what ends
select tests.make_key(tests.org('ada'), '["repositories:read", "repositories:write"]') as key \gset
select tests.act_as_key(:'key');
insert into public.repositories (clone_url) values ('https://github.com/acme/by-key') returning id as by_key \gset
select results_eq(format('select api_key_id, requested_by from public.repositories where id = %L', :'by_key'), format('select %L::uuid, null::uuid', :'key'), 'a service key asked for it');
select is_empty(format('select 1 from public.repositories where id = %L', :'merger'), 'a key without projects:manage does not see a private project''s');
select tests.act_as('ada');
delete from public.api_keys where id = :'key';
select results_eq(format('select api_key_id, created_by_key from public.repositories where id = %L', :'by_key'), format('select null::uuid, %L::uuid', :'key'), 'the repository outlives the key');
delete from public.projects where id = :'secret';
select tests.act_as_superuser();
select is_empty(format('select 1 from public.repositories where id = %L', :'merger'), 'a repository goes with its project');
delete from public.repositories where id = :'app';
select is_empty(format('select 1 from private.repository_secrets where repository_id = %L', :'app'), 'and the secrets with their repository');

select * from finish();
rollback;
