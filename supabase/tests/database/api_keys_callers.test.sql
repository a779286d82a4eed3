-- API keys as callers: which organization and permissions they have, what they make, and what belongs to persons only.
begin;
\ir 000_helpers.sql
select plan(92);

select tests.sign_up(u) from unnest(array['ada', 'bob', 'mem', 'vic']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('ada', tests.org('bob'), 'viewer');
create table tests.keys (name text primary key, id uuid not null default gen_random_uuid());
create function tests.key(name text) returns uuid language sql stable security definer as $$ select k.id from tests.keys as k where k.name = key.name $$;
create function tests.asked(name text, query text, org uuid default null) returns text language sql as $$ select tests.by_key(tests.key(asked.name), query, asked.org) $$;
create function tests.act_by(name text, org uuid default null) returns boolean language sql as $$ select tests.act_as_key(tests.key(act_by.name), org) $$;
insert into tests.keys (name) select n from unnest(array['reader', 'writer', 'all', 'mine', 'mem', 'manager', 'browser', 'office', 'keys', 'wild', 'of vic']) as n;
grant select on tests.keys to public;
-- What the caller is told about itself.
create function tests.self() returns text language sql as $$
  select concat_ws(' ', (kijko.actor()).kind, coalesce(kijko.user_id()::text, '-'), case public.org_id() when tests.org('ada') then 'ada' when tests.org('bob') then 'bob' else '-' end,
    (select string_agg(case o when tests.org('ada') then 'ada' when tests.org('bob') then 'bob' end, ',') from public.org_ids() as o))
$$;
create function tests.holds(variadic permissions text[]) returns text language sql as $$
  select coalesce(string_agg(p, ' '), '-') from unnest(permissions) as p where public.can(tests.org('ada'), p)
$$;
create function tests.roles() returns text language sql as $$
  select coalesce(string_agg(r, ' '), '-') from unnest(array['viewer', 'member', 'admin', 'owner']) as r where public.has_role(tests.org('ada'), r)
$$;
create function tests.by_key() returns text language sql as $$
  select string_agg(coalesce(k.name, '-') || ' ' || u.used, ', ' order by k.name)
  from public.usage_by('key', 'tests') as u left join tests.keys as k on k.id::text = u.value
$$;
select tests.skill(tests.org('ada'), 'of ada') as skill, tests.skill(tests.org('bob'), 'of bob') as other_skill \gset

insert into public.custom_roles (id, org_id, name, permissions) values ('00000000-0000-4000-8000-00000000c002', tests.org('ada'), 'Keeper', '{skills:read,api_keys:write,api_keys:read}');
select tests.act_as('ada', tests.org('ada'));
insert into public.api_keys (id, name, kind, permissions, origins) values
  (tests.key('reader'), 'reader', 'service', '["*:read"]', '{}'),
  (tests.key('writer'), 'writer', 'service', '["*:read", "*:write", "skills:execute"]', '{}'),
  (tests.key('all'), 'all', 'service', (select jsonb_agg(p.permission) from public.permissions() as p), '{}'),
  (tests.key('mine'), 'mine', 'personal', (select jsonb_agg(p.permission) from public.permissions() as p), '{}'),
  (tests.key('manager'), 'manager', 'service', '["*:read", "*:write", "projects:manage"]', '{}'),
  (tests.key('keys'), 'keys', 'service', '["api_keys:read", "api_keys:write", "skills:read", "jobs:read"]', '{}'),
  (tests.key('browser'), 'browser', 'publishable', '["events:ingest"]', '{https://a.example}');
insert into public.projects (name, visibility) values ('Secret', 'private'), ('Open', 'organization');
select tests.act_as('mem', tests.org('ada'));
insert into public.api_keys (id, name, kind, permissions) values (tests.key('mem'), 'mem', 'personal', '["*:read", "*:write", "skills:execute", "api_keys:write_own"]');
select tests.act_as_service();
insert into public.api_keys (id, org_id, name, permissions) values (tests.key('office'), tests.org('bob'), 'office', '["*:read", "billing:write"]');


-- ---- one organization
select is(tests.asked('reader', 'select tests.self()'), 'service_key - ada ada', 'a service key has no user and one organization');
select is(tests.asked('reader', 'select tests.self()', tests.org('ada')), 'service_key - ada ada', 'it may name its organization');
select is(tests.asked('reader', 'select tests.self()', tests.org('bob')), 'service_key - - ada', 'naming another one, it has none');
select tests.act_by('mine');
select is(tests.self(), format('personal_key %s ada ada', tests.id('ada')), 'a personal key has its owner, and not the owner''s other organizations');
select tests.act_by('mine', tests.org('bob'));
select is(tests.self(), format('personal_key %s - ada', tests.id('ada')), 'also when it names one of them');
select tests.act_by('office');
select is(tests.self(), 'service_key - bob bob', 'a key of another tenant has its own');
select is((select count(*) from public.skills as s where s.org_id = tests.org('ada')), 0::bigint, 'and sees nothing of the first');
select is(tests.holds('skills:read', 'usage:read'), '-', 'nor holds anything there');
select is(public.can(tests.org('bob'), 'billing:write'), true, 'a key of the back office holds what it names');

-- ---- within its permissions
select is(
  tests.asked('reader', $$select tests.holds('skills:read', 'usage:read', 'skills:write', 'skills:execute', 'members:read', 'organization:read', 'api_keys:read', 'billing:read', 'x:read', null)$$),
  'skills:read usage:read', '*:read grants reading, and nothing of members, billing and keys'
);
select is(tests.asked('reader', 'select tests.roles()'), '-', 'a key with part of a role''s permissions has no role');
select is(tests.asked('reader', 'select count(*) from public.skills'), '1', 'it reads skills');
select is(tests.asked('reader', format('select count(*) from public.%I', t)), '0', format('it reads nothing of %s', t))
from unnest(array['api_keys', 'memberships', 'profiles', 'organizations', 'custom_roles', 'invitations']) as t;
select is(tests.asked('reader', q), '42501', format('it is refused: %s', q))
from unnest(array[
  $$insert into public.skills (name, prompt_template) values ('x', 'x')$$, $$update public.skills set name = 'x'$$, 'delete from public.skills',
  format('select public.execute_skill(%L)', :'skill'), $$select public.ingest_usage('[]')$$, $$select public.create_api_key('x', '["skills:read"]')$$
]) as q;
select is(tests.asked('reader', 'select count(*) > 0 from public.usage_summary()'), 'true', 'it reads usage');
select tests.act_by('writer');
select is(tests.holds('skills:write', 'projects:write', 'repositories:write', 'api_keys:write', 'members:write', 'organization:write', 'secrets:write', 'roles:write'), 'skills:write projects:write repositories:write', '*:write grants no management');
select tests.act_by('browser');
select is(tests.holds('events:ingest', 'skills:read', 'flags:evaluate'), 'events:ingest', 'a publishable key holds one permission');
select is_empty('select 1 from public.skills', 'and reads nothing');
select tests.act_by('all');
select is(tests.roles(), 'viewer member admin owner', 'a key with every permission of a role has it');
select is((select count(*) from public.memberships), 3::bigint, 'and sees members');
select tests.act_by('mem');
select is(tests.holds('skills:write', 'repositories:write', 'api_keys:write_own', 'members:read'), 'skills:write api_keys:write_own', 'a personal key holds what both hold');
select is(tests.roles(), '-', 'and no role');

-- ---- what a key makes
select tests.act_by('writer');
insert into public.projects (name) values ('by key');
insert into public.skills (name, prompt_template) values ('by key', 'x');
insert into public.habits (skill_id, name, cron) select s.id, 'by key', '0 0 1 1 *' from public.skills as s where s.name = 'by key';
select results_eq(
  $$select p.org_id, p.created_by, p.created_by_key from public.projects as p where p.name = 'by key' union all
    select s.org_id, s.created_by, s.created_by_key from public.skills as s where s.name = 'by key' union all
    select h.org_id, h.created_by, h.created_by_key from public.habits as h where h.name = 'by key'$$,
  $$select tests.org('ada'), null::uuid, tests.key('writer') from generate_series(1, 3)$$,
  'its rows belong to its organization and name the key'
);
select throws_ok($$insert into public.projects (org_id, name) values (tests.org('bob'), 'x')$$, '42501', null, 'not to another one');
select is((public.execute_skill(:'skill', '{"text": "a"}')).created_by_key, tests.key('writer'), 'so does an execution');
select results_eq(
  $$select e.trigger, e.created_by, e.usage_attributes ->> 'key', e.usage_attributes ? 'member', j.created_by, j.created_by_key
    from public.executions as e join public.jobs as j on j.id = e.job_id where e.created_by_key is not null$$,
  $$values ('api', null::uuid, tests.key('writer')::text, false, null::uuid, tests.key('writer'))$$, 'its trigger is api, and its use and its job name the key'
);
select is((public.cancel_execution((select e.id from public.executions as e where e.trigger = 'api'))).status, 'cancelled', 'it cancels an execution');
select is((select v.created_by_key from public.job_events as v where v.event = 'cancelled'), tests.key('writer'), 'the event names it');
select is((select v.created_by_key from public.job_events as v join public.executions as e on e.job_id = v.job_id where v.event = 'queued'), tests.key('writer'), 'so does the job''s first event');
select is((public.retry_execution((select e.id from public.executions as e where e.trigger = 'api'))).created_by_key, tests.key('writer'), 'it repeats one');
select is((public.run_habit((select h.id from public.habits as h where h.name = 'by key'))).created_by_key, tests.key('writer'), 'it runs a habit');
select tests.refuses(format('select public.execute_skill(%L)', :'other_skill'), 'not_found', 'a skill of another tenant is not found');
select tests.act_by('mem');
select results_eq(
  format($$select e.trigger, e.created_by, e.created_by_key, e.usage_attributes ->> 'member', e.usage_attributes ->> 'key' from public.execute_skill(%L) as e$$, :'skill'),
  $$values ('api', tests.id('mem'), tests.key('mem'), tests.id('mem')::text, tests.key('mem')::text)$$, 'a personal key makes rows of its owner and of itself'
);
select tests.act_as('mem', tests.org('ada'));
select results_eq(
  format($$select e.trigger, e.created_by_key, e.usage_attributes ? 'key' from public.execute_skill(%L) as e$$, :'skill'),
  $$values ('manual', null::uuid, false)$$, 'its owner makes rows without a key'
);

-- ---- private projects
select is(
  tests.asked('reader', $$select string_agg(p.name, ' ' order by p.name) from public.projects as p where p.name <> 'by key'$$), 'Open', 'a service key sees no private project'
);
select tests.act_by('manager');
select is((select string_agg(p.name, ' ' order by p.name) from public.projects as p where p.name <> 'by key'), 'Open Secret', 'unless it holds projects:manage');
select lives_ok($$insert into public.projects (name, visibility) values ('of manager', 'private')$$, 'then it makes private ones');
select tests.act_by('writer');
select tests.refuses($$insert into public.projects (name, visibility) values ('x', 'private')$$, 'permission_denied', 'a service key makes no project that nobody sees');
select tests.act_by('mine');
select is((select string_agg(p.name, ' ' order by p.name) from public.projects as p where p.name in ('Open', 'Secret')), 'Open Secret', 'a personal key sees its owner''s');
select tests.act_by('mem');
select is((select string_agg(p.name, ' ' order by p.name) from public.projects as p where p.name in ('Open', 'Secret')), 'Open', 'and not those of others');
select lives_ok($$insert into public.projects (name, visibility) values ('of mem', 'private')$$, 'it makes private ones');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.projects as p where p.name = 'of mem'), 1::bigint, 'which its owner sees');

-- ---- what belongs to persons
select tests.act_by('mine');
select is(private.tenancy_person_id(), null, 'a personal key is not its owner as a person');
select tests.refuses($$select public.create_organization('x')$$, 'permission_denied', 'it creates no organization');
select tests.refuses($$select public.set_active_organization(tests.org('ada'))$$, 'permission_denied', 'it chooses no organization');
select tests.refuses($$select public.leave_organization(tests.org('ada'))$$, 'permission_denied', 'it leaves none');
select tests.refuses($$select public.transfer_ownership(tests.org('ada'), tests.id('mem'))$$, 'permission_denied', 'it hands none over');
select tests.refuses($$select public.accept_invitation('x')$$, 'permission_denied', 'it accepts no invitation');
select is(tests.changed($$update public.profiles set display_name = 'Key'$$), 0::bigint, 'it changes no profile');
select throws_ok($$insert into public.profiles (id, display_name) values (tests.id('ada'), 'x') on conflict (id) do update set display_name = excluded.display_name$$, '42501', null, 'nor by upsert');
select is((select count(public.active_org_id(p)) from public.profiles as p), 0::bigint, 'it reads no active organization');
select tests.act_by('mem');
select is_empty('select 1 from public.profiles', 'without members:read it does not read its owner''s profile');
select is(tests.changed('delete from public.memberships'), 0::bigint, 'it does not end its owner''s membership');
select tests.act_by('all');
select tests.refuses($$select public.create_organization('x')$$, 'permission_denied', 'a service key with every permission creates no organization either');

-- ---- keys that manage keys
select tests.act_by('mem');
select is((select string_agg(k.name, ' ') from public.api_keys as k), 'mem', 'a personal key with api_keys:write_own sees the owner''s personal keys');
select lives_ok($$select public.create_api_key('made by mem', '["*:read"]', 'personal')$$, 'and makes such keys');
select tests.refuses($$select public.create_api_key('x', '["members:read"]', 'personal')$$, 'permission_denied', 'with its own permissions only');
select tests.refuses($$select public.create_api_key('x', '["skills:read"]')$$, 'permission_denied', 'and no service keys');
select tests.act_by('keys');
select lives_ok($$select public.create_api_key('made by keys', '["skills:read", "jobs:read"]')$$, 'a service key with api_keys:write makes service keys');
select results_eq(
  $$select k.created_by, k.created_by_key, k.user_id from public.api_keys as k where k.name = 'made by keys'$$,
  $$values (null::uuid, tests.key('keys'), tests.id('ada'))$$, 'which name it, and which the same member bounds'
);
select tests.refuses($$select public.create_api_key('x', '["skills:read", "skills:write"]')$$, 'permission_denied', 'with its own permissions only');
select tests.refuses($$select public.create_api_key('x', '["*:read"]')$$, 'permission_denied', 'a wildcard that it lacks is more');
select tests.refuses($$select public.create_api_key('x', '["skills:read"]', 'personal')$$, 'permission_denied', 'and no personal keys');
select tests.refuses(format('select public.rotate_api_key(%L)', tests.key('all')), 'permission_denied', 'it does not get a key that may do more');
select tests.refuses(format('select public.rotate_api_key(%L)', tests.key('mem')), 'permission_denied', 'nor a personal one');
select tests.act_as_superuser();
update public.api_keys set user_id = null where id = tests.key('keys');
insert into public.api_keys (id, org_id, name, permissions) values (tests.key('wild'), tests.org('ada'), 'wild', '["*:read", "skills:write"]');
select tests.act_by('keys');
select tests.refuses(format('select public.rotate_api_key(%L)', tests.key('wild')), 'permission_denied', 'nor one with a wildcard that holds more');
select tests.act_as_superuser();
update public.memberships set role = null, custom_role_id = '00000000-0000-4000-8000-00000000c002' where user_id = tests.id('vic') and org_id = tests.org('ada');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select public.create_api_key('x', '["*:write"]')$$, 'permission_denied', 'who holds nothing of a wildcard does not give it');
insert into public.api_keys (id, name, permissions) values (tests.key('of vic'), 'of vic', '["*:read", "api_keys:write"]');
select tests.act_by('keys');
select is((public.rotate_api_key(tests.key('of vic'))).permissions, '["api_keys:write", "skills:read"]', 'a wildcard becomes what the key held, when a key without it rotates it');
select is((select k.user_id from public.api_keys as k where k.name = 'of vic'), null, 'which bounds it from then on');
select tests.act_as_superuser();
update public.custom_roles set permissions = '{api_keys:read}' where id = '00000000-0000-4000-8000-00000000c002';
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.%s(%L)', f, tests.key('all')), 'permission_denied', f || ' needs api_keys:write') from unnest(array['revoke_api_key', 'rotate_api_key']) as f;
select tests.act_as_superuser();
update public.memberships set role = 'viewer' where user_id = tests.id('vic') and org_id = tests.org('ada');
select tests.act_by('keys');
select is((public.revoke_api_key(tests.key('mem'))).id, tests.key('mem'), 'it revokes any key of the organization');
select ok(not tests.act_by('mem'), 'which is no caller any more');
select tests.act_by('writer');
select tests.refuses(format('select public.revoke_api_key(%L)', tests.key('all')), 'not_found', 'a key without api_keys:read finds none');

-- ---- usage by key
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'tests', 'lifetime', 100);
set local kijko.usage_attributes = '{}';
select set_config('kijko.usage_attributes', jsonb_build_object('key', tests.key('writer'))::text, true);
select kijko.consume(tests.org('ada'), 'tests', 3);
select set_config('kijko.usage_attributes', jsonb_build_object('key', tests.key('mem'))::text, true);
select kijko.consume(tests.org('ada'), 'tests', 2);
select set_config('kijko.usage_attributes', '', true);
select tests.act_as('ada', tests.org('ada'));
select is(tests.by_key(), 'mem 2, writer 3', 'who lists all keys sees the use of each');
select tests.act_as('mem', tests.org('ada'));
select is(tests.by_key(), 'mem 2, - 3', 'a member sees their own keys'' use');
select tests.act_as('vic', tests.org('ada'));
select is(tests.by_key(), '- 5', 'a viewer sees the sum');
select is((public.explain_limit(tests.org('ada'), 'tests'))::text ~ tests.key('writer')::text, false, 'also in explain_limit');
select tests.act_as('ada', tests.org('ada'));
select is((public.explain_limit(tests.org('ada'), 'tests'))::text ~ tests.key('writer')::text, true, 'which shows keys to who lists them');
select is(tests.asked('reader', 'select tests.by_key()'), '- 5', 'a key that lists no keys sees the sum');
select is(tests.asked('reader', $$select public.explain_limit(tests.org('ada'), 'tests') ->> 'used'$$), '5', 'it explains limits of its organization');
select is(
  tests.asked('reader', $$select public.explain_limit(tests.org('bob'), 'tests')$$), (select c.sqlstate from kijko.error_codes as c where c.code = 'not_a_member'), 'and of no other'
);

select * from finish();
rollback;
