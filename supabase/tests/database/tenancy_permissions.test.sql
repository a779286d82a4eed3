-- Reading needs a permission: without "resource:read" a member sees none of it, in tables and through functions.
begin;
\ir 000_helpers.sql
select plan(176);

select tests.sign_up('ada'), tests.sign_up('mem');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset

-- A row of everything.
select tests.act_as('ada');
insert into public.projects (name) values ('one');
insert into public.project_members (project_id, user_id) select p.id, tests.id('mem') from public.projects as p;
insert into public.repositories (clone_url) values ('https://github.com/acme/app');
insert into public.habits (skill_id, name, cron) values (:'skill', 'daily', '@daily') returning id as habit \gset
insert into public.reflexes (skill_id, name) values (:'skill', 'hook') returning id as reflex \gset
select id as delivery from public.test_reflex(:'reflex', '{}') \gset
insert into public.custom_roles (name) values ('Editor');
insert into public.webhook_endpoints (url) values ('https://hooks.example.com/');
insert into public.projects (name) values ('told');
select tests.act_as_superuser();
insert into public.project_files (org_id, project_id, path, version, last_version, object_name, bytes)
select p.org_id, p.id, 'a.txt', 1, 1, 'a', 0 from public.projects as p where p.org_id = tests.org('ada') and p.name = 'one';
insert into public.project_file_versions (org_id, project_id, file_id, version, object_name, bytes)
select f.org_id, f.project_id, f.id, 1, 'a', 0 from public.project_files as f where f.org_id = tests.org('ada');
insert into public.webhook_deliveries (org_id, repository_id, event) select r.org_id, r.id, 'push' from public.repositories as r where r.org_id = tests.org('ada');
insert into public.documents (org_id, path) select r.org_id, 'x' from public.repositories as r where r.org_id = tests.org('ada');
insert into public.repository_branches (org_id, repository_id, name, commit_sha, indexing_seq) select r.org_id, r.id, 'main', repeat('1', 40), 0 from public.repositories as r where r.org_id = tests.org('ada');
insert into public.indexing_jobs (org_id, repository_id, branch, trigger) select r.org_id, r.id, 'main', 'manual' from public.repositories as r where r.org_id = tests.org('ada');
select tests.act_as('ada');
select public.set_secret('token', 'value');
select tests.act_as_superuser();
insert into public.connections (org_id, provider, account_id) values (tests.org('ada'), 'github', '1');
insert into public.connection_applications (org_id, provider, client_id) values (tests.org('ada'), 'github', '1');
insert into public.social_settings (org_id) values (tests.org('ada'));
insert into public.social_media_files (org_id, path, version) values (tests.org('ada'), 'a', '1');
insert into public.social_posts (org_id, platform) values (tests.org('ada'), 'twitter');
insert into public.api_usage (id, org_id, method, route, status, duration_ms, member_id) values (gen_random_uuid(), tests.org('ada'), 'GET', '/mcp', 200, 1, tests.id('mem'));
insert into public.publish_logs (org_id, social_post_id, platform, attempt, event) select p.org_id, p.id, 'twitter', 1, 'started' from public.social_posts as p where p.org_id = tests.org('ada');
select tests.act_as('ada');
select public.invite_member('eve@example.test');
insert into public.api_keys (name, permissions) values ('key', '["skills:read"]');
insert into public.usage_meters (event_type, meter) values ('build.done', 'own.builds');
insert into public.notification_types (name) values ('custom.deploy');
select (public.notify('custom.deploy', 'Deployed')).id;
insert into public.llm_providers (name, kind) values ('own', 'openai');
insert into public.llm_routes (name, targets) values ('fast', '{echo/a}');
select public.set_llm_settings(record_content => true);
select public.push_prompt('a', '"x"') is not null as pushed \gset
select public.set_prompt_label('a', 'staging', 1) is not null as labelled \gset
select public.set_prompt_settings(require_approval => true) is not null as protected \gset
select public.set_prompt_label('a', 'production', 1) is not null as requested \gset
select public.track('[{"type": "track", "event": "a", "userId": "u"}, {"type": "none"}]') is not null as tracked \gset
insert into public.event_properties (event_name, property, kind) values ('a', 'b', 'dimension');
insert into public.dashboards (name) values ('a');
insert into public.analytics_queries (name, kind, query) values ('a', 'series', '{"event": "a", "from": {"days": 1}}');
insert into public.topics (title) values ('a') returning id as topic \gset
insert into public.research_sources (topic_id, url) values (:'topic', 'https://example.com/');
insert into public.discoveries (name, collector, url) values ('a', 'feed', 'https://news.example/feed.xml') returning id as discovery \gset
select public.run_discovery(:'discovery') is not null as run \gset
select id as post from public.create_post('a') \gset
insert into public.blog_comments (post_id, body) values (:'post', 'a');
select public.set_blog_settings(site_title => 'a') is not null as titled \gset
insert into public.llm_budgets (name, scope, period, unit, amount) values ('all', 'organization', 'day', 'tokens', 100000);
select public.authorize_llm_call('fast') ->> 'ticket' as ticket \gset
select id as execution from public.execute_skill(:'skill', '{}', 'once') \gset
select tests.act_as_superuser();
select private.jobs_add_event('w', j.id, 'progress') from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo']) as j \gset
select private.llm_settle((private.llm_open(:'ticket') ->> 'call_id')::uuid, '{"status": "failed", "prompt": "secret"}') is not null as settled \gset
insert into public.blog_drafts (org_id, post_id, kind, model, base_revision) values (tests.org('ada'), :'post', 'draft', 'echo/a', 1);
insert into public.source_embeddings (org_id, source_id, model, text_hash, embedding) select s.org_id, s.id, 'echo/a', repeat('a', 64), '{1}' from public.research_sources as s where s.org_id = tests.org('ada') limit 1;
insert into public.images (org_id, blog_post_id, kind, prompt, model, size, base_revision) values (tests.org('ada'), :'post', 'hero', 'a cat', 'echo/a', '1024x1024', 1);
select private.topics_add_cost(tests.org('ada'), 'draft', :'topic', 1, :'topic', null, null, 'a', null) as spent \gset
update public.executions set status = 'failed', finished_at = kijko.now(), output = '"secret"', error = 'secret' where id = :'execution';
insert into public.feature_flags (org_id, name) values (tests.org('ada'), 'a'), (tests.org('ada'), 'b');
insert into public.flag_segments (org_id, name) values (tests.org('ada'), 'a');
insert into public.flag_strategies (org_id, flag_id, name) select f.org_id, f.id, 'default' from public.feature_flags as f where f.name = 'a';
insert into public.flag_constraints (org_id, strategy_id, context_name, operator, "values") select s.org_id, s.id, 'a', 'IN', '{a}' from public.flag_strategies as s;
insert into public.flag_variants (org_id, flag_id, name, weight) select f.org_id, f.id, 'a', 1 from public.feature_flags as f where f.name = 'a';
insert into public.flag_applications (org_id, environment, app_name, instance_id) values (tests.org('ada'), 'production', 'a', 'a');
insert into public.flag_dependencies (org_id, flag_id, parent_id)
select f.org_id, f.id, p.id from public.feature_flags as f join public.feature_flags as p on p.org_id = f.org_id and p.name = 'b' where f.name = 'a';
insert into public.flag_evaluations (org_id, flag_id, environment, hour) select f.org_id, f.id, 'production', now() from public.feature_flags as f where f.name = 'a';
insert into public.flag_changes (org_id, flag_id, environment, change, apply_at)
select f.org_id, f.id, 'production', '{"enabled": true}', now() from public.feature_flags as f where f.name = 'a';
insert into public.execution_text_chunks (org_id, execution_id, attempt, seq, text) values (tests.org('ada'), :'execution', 1, 1, 'secret');

create function tests.set_permission(permission text, held boolean) returns void language plpgsql security definer as $$
begin
  if held then
    insert into private.role_permissions (role, permission) values ('member', set_permission.permission) on conflict do nothing;
  else
    delete from private.role_permissions as r where r.role = 'member' and r.permission = set_permission.permission;
  end if;
end
$$;

create function tests.rows_of(relation text) returns bigint language plpgsql as $$
declare
  n bigint;
begin
  execute format('select count(*) from public.%I', relation) into n;
  return n;
end
$$;

-- ---- tables: what is there is seen with the permission and not without, by the same member
create view tests.read_permissions (relation, permission) as values
  ('organizations', 'organization:read'), ('memberships', 'members:read'), ('custom_roles', 'roles:read'), ('secrets', 'secrets:read'), ('connections', 'connections:read'), ('connection_applications', 'connections:read'), ('invitations', 'members:read'), ('projects', 'projects:read'), ('project_members', 'projects:read'), ('skills', 'skills:read'), ('repositories', 'repositories:read'),
  ('skill_versions', 'skills:read'),
  ('topics', 'content:read'), ('discoveries', 'content:read'), ('discovery_runs', 'content:read'), ('research_sources', 'content:read'), ('source_embeddings', 'content:read'), ('content_costs', 'content:read'), ('blog_settings', 'content:read'), ('blog_posts', 'content:read'), ('blog_post_revisions', 'content:read'), ('blog_post_slugs', 'content:read'), ('blog_comments', 'content:read'), ('blog_drafts', 'content:read'), ('images', 'content:read'),
  ('prompts', 'prompts:read'), ('prompt_versions', 'prompts:read'), ('prompt_labels', 'prompts:read'), ('prompt_label_changes', 'prompts:read'), ('prompt_settings', 'prompts:read'), ('approvals', 'approvals:read'),
  ('feature_flags', 'flags:read'), ('flag_environments', 'flags:read'), ('flag_segments', 'flags:read'), ('flag_strategies', 'flags:read'), ('flag_constraints', 'flags:read'), ('flag_variants', 'flags:read'), ('flag_applications', 'flags:read'), ('flag_dependencies', 'flags:read'), ('flag_evaluations', 'flags:read'), ('flag_changes', 'flags:read'),
  ('social_settings', 'content:read'), ('social_media_files', 'content:read'), ('social_posts', 'content:read'), ('publish_logs', 'content:read'),
  ('events', 'analytics:read'), ('event_intake', 'analytics:read'), ('quarantined_events', 'analytics:read'), ('persons', 'analytics:read'), ('event_properties', 'analytics:read'), ('dashboards', 'analytics:read'), ('analytics_queries', 'analytics:read'),
  ('habits', 'habits:read'), ('reflexes', 'reflexes:read'), ('reflex_deliveries', 'reflexes:read'), ('webhook_deliveries', 'repositories:read'), ('documents', 'files:read'), ('repository_branches', 'repositories:read'), ('indexing_jobs', 'repositories:read'), ('indexing_job_events', 'repositories:read'), ('executions', 'executions:read'), ('execution_text_chunks', 'executions:read'), ('jobs', 'jobs:read'), ('job_event_log', 'jobs:read'), ('job_events', 'jobs:read'),
  ('usage_meters', 'usage:read'), ('api_usage', 'audit:read'), ('api_keys', 'api_keys:read'),
  ('notification_types', 'notifications:read'), ('notifications', 'notifications:read'),
  ('webhook_endpoints', 'webhooks:read'), ('webhook_messages', 'webhooks:read'), ('audit_log', 'audit:read'),
  ('llm_providers', 'llm:read'), ('llm_routes', 'llm:read'), ('llm_settings', 'llm:read'), ('llm_budgets', 'llm:read'), ('llm_calls', 'llm:read'), ('llm_call_contents', 'llm_contents:read'), ('project_files', 'files:read'), ('project_file_versions', 'files:read');
grant select on tests.read_permissions to public;

create function tests.reads(relation text, permission text) returns setof text language plpgsql as $$
declare
  own bigint;
begin
  perform tests.act_as_superuser();
  perform tests.set_permission(reads.permission, false);
  perform tests.act_as('mem', tests.org('ada'));
  own := tests.rows_of(relation);
  return next is(own, 0::bigint, format('%s without %s: nothing', relation, reads.permission));
  perform tests.act_as_superuser();
  perform tests.set_permission(reads.permission, true);
  perform tests.act_as('mem', tests.org('ada'));
  return next cmp_ok(tests.rows_of(relation), '>', 0::bigint, format('%s with it: what is there', relation));
end
$$;

-- The member has an organization of their own, in which they may read everything; here only the other one counts.
delete from public.organizations where id = tests.org('mem');
select tests.reads(r.relation, r.permission) from tests.read_permissions as r;

-- Every tenant table that users read is in the list above, or asks billing:read, which a member never holds.
select tests.act_as_superuser();
select is_empty(
  $$select c.oid::regclass from pg_class as c
    join pg_policy as p on p.polrelid = c.oid and p.polcmd = 'r'
    where c.relnamespace = 'public'::regnamespace and c.relname not in (select relation from tests.read_permissions)
      and (c.relname = 'organizations' or exists (select 1 from pg_attribute as a where a.attrelid = c.oid and a.attname = 'org_id'))
      and pg_get_expr(p.polqual, p.polrelid) !~ 'billing:read'$$,
  'the list has every tenant table'
);

-- ---- people
select tests.set_permission('members:read', false);
select tests.act_as('mem', tests.org('ada'));
select results_eq('select id from public.profiles', $$select tests.id('mem')$$, 'without members:read a member sees their own profile');
select tests.act_as_superuser();
select tests.set_permission('members:read', true);
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.profiles), 2::bigint, 'with members:read a member sees the other profiles');

-- ---- functions
select tests.act_as_superuser();
select tests.set_permission(p, false) from unnest(array['skills:read', 'habits:read', 'executions:read', 'usage:read']) as p;
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'not_found', 'without skills:read a skill is not_found');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'not_found', 'without habits:read a habit is not_found');
select tests.refuses(format('select public.cancel_execution(%L)', :'execution'), 'not_found', 'without executions:read an execution cannot be cancelled');
select tests.refuses(format('select public.retry_execution(%L)', :'execution'), 'not_found', 'without executions:read an execution cannot be retried');
select tests.refuses('select * from public.usage_summary()', 'permission_denied', 'without usage:read there is no usage_summary()');
select tests.refuses($$select * from public.usage_by('day')$$, 'permission_denied', 'without usage:read there is no usage_by()');
select tests.refuses('select * from public.usage_forecast()', 'permission_denied', 'without usage:read there is no usage_forecast()');
select tests.refuses('select * from public.usage_alerts()', 'permission_denied', 'without usage:read there are no usage_alerts()');
select tests.refuses($$select public.explain_limit(tests.org('ada'), 'projects')$$, 'permission_denied', 'without usage:read there is no explain_limit()');
select tests.act_as_superuser();
select tests.set_permission('skills:read', true);
select tests.act_as('mem', tests.org('ada'));
select is(
  (select row(e.id, e.output, e.error) from public.execute_skill(:'skill', '{}', 'once') as e), row(:'execution'::uuid, null::jsonb, null::text),
  'without executions:read a repeated call does not return output and error'
);
select tests.act_as_superuser();
select tests.set_permission('executions:read', true);
select tests.act_as('mem', tests.org('ada'));
select is((select e.error from public.execute_skill(:'skill', '{}', 'once') as e), 'secret', 'with executions:read a repeated call returns them');

select * from finish();
rollback;
