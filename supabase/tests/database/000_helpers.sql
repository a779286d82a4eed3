-- Shared by the tests, each of which includes it after its "begin": everything made here is rolled back with the test.
--
--   select tests.sign_up('ada');                 a user with profile and personal organization
--   select tests.act_as('ada');                  from here on: a request of hers, as PostgREST would make it
--   select tests.act_as('ada', tests.org('bob')) ... naming an organization by header x-org-id
--   select tests.act_as_key(id)                  from here on: a request by that API key, unless it only reads
--   select tests.by_key(id, 'select …')          one query by that API key, and nothing of it stays
--   select tests.act_as_anon(); tests.act_as_service(); tests.act_as_superuser();
--   select tests.refuses($$...$$, 'not_found', 'why')    the statement fails with that code of kijko.error_codes
--
-- Claims count only for trusted logins, so a role-play changes session_user, which needs the superuser's session.

\set ON_ERROR_STOP on
\set QUIET on
set client_min_messages = warning;

create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
-- A test sees within its transaction what otherwise follows at the end of it.
set constraints all immediate;
-- The stack's own workers and cron must not move the queue's watermarks past jobs that only this transaction sees: their
-- maintenance is left out while somebody holds its lock.
do $$
begin
  perform pg_advisory_xact_lock(hashtextextended('kijko-jobs-run-maintenance', 20261121));
  perform setval('private.jobs_due_watermark', 0);
end
$$;

-- Which providers the stack's own sidecar reports must not matter.
delete from private.model_providers;

-- The same addresses get mails in every test, and what a rate has counted is not rolled back: by default a mailbox is full after ten.
update private.mail_settings set
  mailbox_per_hour = 100000, mailbox_per_day = 100000, organizations_mailbox_per_hour = 100000, organizations_mailbox_per_day = 100000,
  network_per_hour = 1000000, free_organizations_per_hour = 9999998, organizations_per_hour = 9999999, total_per_hour = 10000000;

-- For every role that a test plays.
grant usage on schema extensions to public;

create schema tests;
grant usage on schema tests to public;

-- The same name is the same user in all of a test. Each run has users of its own: what a rate has counted of a user is not rolled back.
select set_config('tests.run', gen_random_uuid()::text, true) as run \gset tests_
create function tests.id(name text) returns uuid language sql stable
return pg_catalog.md5('user ' || name || pg_catalog.current_setting('tests.run'))::uuid;

-- The organization that each user got at sign-up: personal_for forgets when somebody else joins.
create table tests.first_organizations (user_id uuid primary key, org_id uuid not null);

create function tests.sign_up(name text, metadata jsonb default '{}') returns uuid
language plpgsql security definer as $$
begin
  insert into auth.users (id, aud, role, email, email_confirmed_at, raw_user_meta_data)
  values (tests.id(name), 'authenticated', 'authenticated', name || '@example.test', kijko.now(), metadata);
  insert into tests.first_organizations (user_id, org_id)
  select o.personal_for, o.id from public.organizations as o where o.personal_for = tests.id(sign_up.name);
  return tests.id(name);
end
$$;

-- The organization of a user's sign-up, while it is there.
create function tests.org(who text) returns uuid language sql stable security definer as $$
  select o.id
  from tests.first_organizations as f
  join public.organizations as o on o.id = f.org_id
  where f.user_id = tests.id(who)
$$;

-- The organization that a test calls "The Lab".
create function tests.lab() returns uuid language sql stable security definer as $$ select id from public.organizations where name = 'The Lab' $$;

create function tests.join_org(name text, org uuid, role text) returns void language sql security definer as $$
  insert into public.memberships (org_id, user_id, role) values (org, tests.id(name), join_org.role)
$$;

-- The caller of the former role-play. The superuser may clear the setting and nobody may set it.
create function tests.forget_key() returns void language sql security definer as $$
  select set_config('kijko.calling_api_key', '', true)
$$;

create function tests.act(role text, claims jsonb, org uuid) returns void language plpgsql as $$
begin
  perform tests.forget_key();
  perform set_config('session_authorization', 'authenticator', true);
  perform set_config('role', act.role, true);
  perform set_config('request.jwt.claims', claims::text, true);
  perform set_config('request.headers', case when org is null then '{}' else json_build_object('x-org-id', org)::text end, true);
end
$$;

-- What every access token says.
create function tests.token(role text) returns jsonb language sql as $$
  select jsonb_build_object('role', token.role, 'iss', 'tests', 'exp', 4102444800)
$$;

create function tests.act_as(name text, org uuid default null) returns void language sql as $$
  select tests.act('authenticated', tests.token('authenticated') || jsonb_build_object(
    'aud', 'authenticated', 'sub', tests.id(name), 'session_id', tests.id(name)
  ), org)
$$;

create function tests.act_as_anon() returns void language sql as $$
  select tests.act('anon', jsonb_build_object('role', 'anon'), null)
$$;

-- A key needs no secret here. False for a key that is refused at present.
create function tests.assume_key(id uuid) returns boolean language sql security definer as $$ select kijko.assume_api_key(id) $$;
create function tests.act_as_key(id uuid, org uuid default null) returns boolean language plpgsql as $$
begin
  perform tests.act('authenticated', '{"role": "anon"}', org);
  return tests.assume_key(id);
end
$$;

-- A key that only reads makes the transaction READ ONLY, and only a rollback ends that. So this returns the first value of the
-- query as text, the SQLSTATE of its failure, or "refused" for a key that is no caller.
create function tests.by_key(id uuid, query text, org uuid default null) returns text language plpgsql as $$
declare
  answer text;
begin
  if not tests.act_as_key(by_key.id, by_key.org) then
    answer := 'refused';
  else
    execute query into answer;
  end if;
  raise exception using errcode = 'TEST0', message = coalesce(answer, '-');
exception
  when sqlstate 'TEST0' then return sqlerrm;
  when others then return sqlstate;
end
$$;

create function tests.act_as_service() returns void language sql as $$
  select tests.act('service_role', tests.token('service_role'), null)
$$;

-- The sidecar has a login of its own and no claims.
create function tests.act_as_sidecar() returns void language plpgsql as $$
begin
  perform tests.forget_key();
  perform set_config('session_authorization', 'kijko_sidecar', true);
  perform set_config('request.jwt.claims', '', true);
  perform set_config('request.headers', '', true);
end
$$;

create function tests.act_as_indexer() returns void language plpgsql as $$
begin
  perform tests.act_as_sidecar();
  perform set_config('session_authorization', 'kijko_indexer', true);
end
$$;

select current_user as superuser \gset
select set_config('tests.superuser', :'superuser', true) as superuser \gset
create function tests.act_as_superuser() returns void language plpgsql as $$
begin
  perform tests.forget_key();
  perform set_config('session_authorization', current_setting('tests.superuser'), true);
  perform set_config('request.jwt.claims', '', true);
  perform set_config('request.headers', '', true);
end
$$;

create function tests.refuses(statement text, code text, description text) returns text language plpgsql as $$
begin
  return extensions.throws_ok(
    statement, (select c.sqlstate::char(5) from kijko.error_codes as c where c.code = refuses.code), null, description
  );
end
$$;

-- What PostgREST would answer to a refused statement: {code, message, details, hint, status, headers}; null when it succeeds.
create function tests.refusal(statement text) returns jsonb
language plpgsql as $$
declare
  body text;
  envelope text;
begin
  perform set_config('request.method', 'GET', true);
  perform set_config('response.headers', '', true);
  begin
    execute statement;
  exception when sqlstate 'PGRST' then
    get stacked diagnostics body = message_text, envelope = pg_exception_detail;
  end;
  perform set_config('request.method', '', true);
  return body::jsonb || envelope::jsonb;
end
$$;

-- The same, as {code, status, headers}.
create function tests.answer(statement text) returns jsonb language sql as $$
  select tests.refusal(statement) - array['message', 'details', 'hint']
$$;

-- How many rows a statement changes.
create function tests.changed(statement text) returns bigint language plpgsql as $$
declare
  n bigint;
begin
  execute statement;
  get diagnostics n = row_count;
  return n;
end
$$;

-- The plan of a statement, as the caller's rights and policies make it.
create function tests.explain(statement text) returns text language plpgsql as $$
declare
  line text;
  lines text := '';
begin
  for line in execute 'explain (costs off) ' || statement loop
    lines := lines || line || e'\n';
  end loop;
  return lines;
end
$$;

-- Product time moves on by this much, for the rest of the transaction.
create function tests.travel(step interval) returns void language plpgsql security definer as $$
begin
  perform set_config('kijko.clock_offset', step::text, true);
end
$$;

create function tests.used(org uuid, meter text) returns bigint language sql security definer as $$
  select coalesce(max(u.used), 0) from kijko.usage(org) as u where u.meter = used.meter
$$;

-- A skill of an organization, made without asking anyone.
create function tests.skill(org uuid, name text default 'summarize') returns uuid language plpgsql security definer as $$
declare
  made uuid := gen_random_uuid();
begin
  insert into public.skills (id, org_id, name, prompt_template) values (made, org, skill.name, 'Summarize: {{ text }}');
  return made;
end
$$;

-- A worker takes an execution's job up and is about to call the model.
create function tests.called(job uuid, call jsonb default '{"input_tokens": 1, "output_tokens": 1}') returns jsonb language plpgsql as $$
begin
  perform tests.act_as_superuser();
  update public.jobs as j set run_at = now() - interval '1 year' where j.id = called.job;
  perform tests.act_as_sidecar();
  perform private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo']);
  perform private.executions_start('w', called.job);
  return private.executions_reserve_call('w', called.job, null, jsonb_build_object('id', gen_random_uuid()) || call);
end
$$;

-- Whose turn it is among claims of these kinds is not known when another test has used the watermark, and is then left to chance:
-- who queued first is first.
create function tests.begin_round(variadic kinds text[]) returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  select setval(private.jobs_turn_sequence(kinds, 0::smallint), private.jobs_turn_tag(kinds, 0::smallint))
$$;
select tests.begin_round('execution', 'execution.echo');

-- Jobs of a user's organization.
create function tests.queue(who text, kind text, n bigint default 1, more jsonb default '{}') returns void language sql security definer as $$
  select count(*) from private.jobs_enqueue_many((
    select jsonb_agg(jsonb_build_object('org_id', tests.org(who), 'kind', queue.kind) || more) from generate_series(1, n)
  ))
$$;
-- Who is served, in order, by so many claims of so many jobs: the first letter of each user.
create function tests.served(kind text, claims integer, max_jobs integer default 1) returns text language plpgsql security definer as $$
declare
  names text := '';
begin
  for i in 1 .. claims loop
    select names || coalesce(string_agg(left(substring(u.email from '^[a-z]+'), 1), '' order by u.email), '') into names
    from private.jobs_claim('w', '1 minute', max_jobs, array[kind]) as c
    join public.organizations as o on o.id = c.org_id
    join auth.users as u on u.id = o.created_by;
  end loop;
  return names;
end
$$;

-- An API key of an organization, made by the caller of this function, who gets its id.
create function tests.make_key(org uuid, permissions jsonb, kind text default 'service', name text default 'key') returns uuid language plpgsql as $$
declare
  made uuid;
begin
  insert into public.api_keys (org_id, name, permissions, kind) values (org, make_key.name, make_key.permissions, make_key.kind) returning id into made;
  return made;
end
$$;
