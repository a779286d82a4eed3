-- Which ids usage shows to whom, and what an explanation leaves out.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,mem,bob}'::text[]) as u;
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('mem', tests.org('ada'), 'member');
create function tests.named(name text) returns uuid language sql immutable return pg_catalog.md5(name)::uuid;
insert into public.projects (id, org_id, name, slug, visibility)
select tests.named(n), tests.org(who), n, n, v from (values ('open', 'ada', 'organization'), ('hidden', 'ada', 'private'), ('theirs', 'bob', 'organization')) as p (n, who, v);
insert into public.repositories (id, org_id, project_id, provider, full_name)
select tests.named('repository ' || n), tests.org(who), tests.named(n), 'github', 'acme/' || n from (values ('open', 'ada'), ('hidden', 'ada'), ('theirs', 'bob')) as r (n, who);
insert into public.skills (id, org_id, project_id, name, prompt_template)
select tests.named('skill ' || n), tests.org(who), tests.named(n), n, 'x' from (values ('open', 'ada'), ('hidden', 'ada'), ('theirs', 'bob')) as s (n, who);
insert into public.habits (id, org_id, skill_id, name, cron)
select tests.named('habit ' || n), tests.org(who), tests.named('skill ' || n), n, '@daily' from (values ('open', 'ada'), ('hidden', 'ada'), ('theirs', 'bob')) as h (n, who);
select tests.act_as('ada', tests.org('ada'));
insert into public.api_keys (id, name, permissions) values (tests.named('key service'), 'service', '["skills:read"]');
select tests.act_as('mem', tests.org('ada'));
insert into public.api_keys (id, name, permissions, kind) values (tests.named('key own'), 'own', '["skills:read"]', 'personal');
select tests.act_as('mem', tests.org('mem'));
insert into public.api_keys (id, name, permissions, kind) values (tests.named('key at home'), 'at home', '["skills:read"]', 'personal');
select tests.act_as_superuser();

create function tests.visible(dimension text) returns uuid[] language sql security definer as $$
  select array_agg(v::uuid order by v) from unnest(private.usage_visible_ids(tests.org('ada'), visible.dimension)) as v
$$;
create function tests.everything(dimension text) returns boolean language sql security definer as $$ select private.usage_visible_ids(tests.org('ada'), everything.dimension) is null $$;
select tests.act_as('mem', tests.org('ada'));
select is(tests.visible(d), array[tests.named(n)], 'of each ' || d || ' a member sees what is visible')
from (values ('project', 'open'), ('repository', 'repository open'), ('skill', 'skill open'), ('habit', 'habit open'), ('key', 'key own')) as v (d, n);
select is(tests.everything(d), true, 'and every ' || d) from unnest('{day,member,subject}'::text[]) as d;
select tests.act_as('ada', tests.org('ada'));
select is(tests.everything(d), true, 'an owner sees every ' || d) from unnest('{project,repository,skill,habit,key}'::text[]) as d;
select tests.act_as_service();
select is(tests.everything('key'), true, 'and so does the back office');
select tests.act_as_superuser();
insert into public.custom_roles (org_id, id, name, permissions) values (tests.org('ada'), tests.named('role'), 'keys', '{usage:read,skills:read,projects:read,api_keys:read}');
update public.memberships set role = 'viewer', custom_role_id = tests.named('role') where user_id = tests.id('mem') and org_id = tests.org('ada');
select tests.act_as('mem', tests.org('ada'));
select is(array[tests.everything('key'), tests.everything('project')], '{t,f}', 'who lists keys sees every key, and no more projects');
select tests.act_as_superuser();
update public.memberships set role = 'member', custom_role_id = null where user_id = tests.id('mem') and org_id = tests.org('ada');

-- ---- an explanation shows the attributes of what is visible
create function tests.shown(attributes jsonb) returns text language sql security definer as $$
  select private.usage_hide_attributes(tests.org('ada'), jsonb_build_object('rows', jsonb_build_object('latest', jsonb_build_array(jsonb_build_object('amount', 1, 'attributes', attributes))))) #>> '{rows,latest,0,attributes}'
$$;
create function tests.plain(explained jsonb) returns jsonb language sql security definer as $$ select private.usage_hide_attributes(tests.org('ada'), explained) $$;
create function tests.shows(variadic of text[]) returns jsonb language sql as $$
  select coalesce(jsonb_object_agg(split_part(n, ' ', 1), tests.named(case when n ~ '^project ' then split_part(n, ' ', 2) else n end)), '{}') from unnest(of) as n
$$;
select tests.act_as('mem', tests.org('ada'));
select is(tests.shown(tests.shows(variadic a)), tests.shows(variadic a)::text, 'shown: ' || a::text)
from (values ('{project open,repository open}'::text[]), ('{project open,skill open,habit open,key own}')) as v (a);
select is(tests.shown(tests.shows(variadic a)), null, 'not shown: ' || a::text)
from (values ('{project hidden}'::text[]), ('{repository hidden}'), ('{skill hidden}'), ('{habit hidden}'), ('{project open,repository open,skill open,habit hidden}')) as v (a);
select is(tests.shown(tests.shows('project open', 'key service')), tests.shows('project open')::text, 'of a key of others the rest is shown');
select is(tests.plain(e), e, 'without rows: ' || e::text) from unnest(array['{"used": 1}', '{"rows": {"latest": null}}', '{"rows": {"latest": []}}']::jsonb[]) as e;

-- ---- the requests of a key are its own, and nothing of another dimension or meter
select tests.act_as_superuser();
select kijko.record_usage(kijko.subject('api_key', tests.named('key service')), 'api_requests', 3, kijko.now());
select tests.act_as('ada', tests.org('ada'));
select is((select sum(u.used) from public.usage_by(d, m) as u where u.value = tests.named('key service')::text), wanted, format('by %s of %s', d, m))
from (values ('key', 'api_requests', 3::numeric), ('key', null, 3), ('key', 'executions', null), ('project', null, null), ('member', 'api_requests', null)) as v (d, m, wanted);

select * from finish();
rollback;
