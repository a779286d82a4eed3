-- Lint of the schemas public and private: what every table, policy, index and grant here must be like.
-- Fails with the names of the offenders. The second half makes an offender for each rule and expects to see it, so that
-- a rule which finds nothing is known to look.
--   pg_prove -h … -U <superuser> -d postgres tests/lint/*.test.sql
begin;
\set ON_ERROR_STOP on
\set QUIET on
set client_min_messages = warning;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;

create view pg_temp.tables as
  select c.oid, c.relname, n.nspname, n.nspname || '.' || c.relname as name, c.relrowsecurity
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  where n.nspname in ('public', 'private') and c.relkind in ('r', 'p');

create view pg_temp.policies as
  select t.name, p.polname, p.polcmd, p.polroles,
    concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) as body,
    t.oid as relid
  from pg_policy as p
  join pg_temp.tables as t on t.oid = p.polrelid;

-- Operation, as a policy names it, that authenticated was granted on a table or on any of its columns.
create view pg_temp.granted as
  select t.oid, t.name, o.cmd, o.privilege
  from pg_temp.tables as t
  cross join (values ('r'::"char", 'select'), ('a', 'insert'), ('w', 'update'), ('d', 'delete')) as o (cmd, privilege)
  where has_table_privilege('authenticated', t.oid, o.privilege)
    or (o.privilege <> 'delete' and has_any_column_privilege('authenticated', t.oid, o.privilege));

create view pg_temp.gauges as
  select g.*, convert_from(trim(trailing '\x00'::bytea from g.tgargs), 'UTF8') as meter
  from pg_trigger as g
  where g.tgfoid = 'private.plans_sync_gauge()'::regprocedure and g.tgenabled = 'O';

create view pg_temp.functions as
  select p.*, n.nspname, p.oid::regprocedure::text as name
  from pg_proc as p
  join pg_namespace as n on n.oid = p.pronamespace
  where n.nspname in ('public', 'private');

-- What a page of prices shows to visitors; no tenant's rows are in them.
create function pg_temp.public_catalogues() returns text[] language sql immutable
return array['public.plans', 'public.plan_limits', 'public.llm_models'];

-- What belongs to one organization, and the organizations themselves.
create function pg_temp.is_tenant_table(relid oid) returns boolean language sql stable as $$
  select relid = 'public.organizations'::regclass
    or exists (select 1 from pg_attribute as a where a.attrelid = relid and a.attname = 'org_id' and not a.attisdropped)
$$;

-- An empty path was the form before; it finds temporary types first; the last test sees to it that nobody can make any.
create function pg_temp.has_fixed_path(config text[]) returns boolean language sql immutable as $$
  select coalesce(config && array['search_path=""', 'search_path=pg_catalog, pg_temp'], false)
$$;

create function pg_temp.leading_index(relid oid, columns smallint[]) returns boolean language sql stable as $$
  -- A partial index will do when it only leaves out nulls: a look-up by value never wants those.
  select exists (
    select 1 from pg_index as i
    where i.indrelid = relid
      and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ '^\(\w+ IS NOT NULL\)$')
      and (i.indkey::smallint[])[0:cardinality(columns) - 1] @> columns
  )
$$;

create view pg_temp.offences as
  -- tables
  select 'row level security is off' as rule, t.name as object from pg_temp.tables as t where not t.relrowsecurity
  union all
  select 'table without comment', t.name from pg_temp.tables as t where obj_description(t.oid, 'pg_class') is null
  union all
  select 'column without comment', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where col_description(t.oid, a.attnum) is null
  union all
  select 'tenant table without id uuid, org_id uuid not null, created_by and created_at', t.name
  from pg_temp.tables as t
  where exists (select 1 from pg_attribute as a where a.attrelid = t.oid and a.attname = 'org_id' and not a.attisdropped)
    -- Mirrors of Stripe's objects: the ids are Stripe's, and whose an object is may be known only later.
    and t.relname !~ '^stripe_'
    and (
      select count(*) from pg_attribute as a
      where a.attrelid = t.oid
        and (
          (a.attname in ('id', 'org_id') and a.atttypid = 'uuid'::regtype and a.attnotnull)
          or (a.attname = 'created_by' and a.atttypid = 'uuid'::regtype)
          or (a.attname = 'created_at' and a.atttypid = 'timestamptz'::regtype and a.attnotnull)
        )
    ) <> 4
  union all
  select 'org_id leads no index', t.name
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname = 'org_id' and not a.attisdropped
  where not pg_temp.leading_index(t.oid, array[a.attnum])
  union all
  select 'text column without a length check', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  where (select coalesce(nullif(y.typbasetype, 0), y.oid) from pg_type as y where y.oid = a.atttypid) = 'text'::regtype
    and not exists (
      select 1 from pg_constraint as c
      where c.conrelid = t.oid and a.attnum = any (c.conkey) and c.contype in ('c', 'f')
    )
  union all
  -- Matching '^[a-z]{1,250}$' takes 145 µs, '^[a-z]+$' beside a check of the length 2 µs, at each write of a row.
  select 'regular expression with a large bounded repeat', coalesce(c.conrelid::regclass::text, '') || ' ' || c.conname
  from pg_constraint as c
  where c.connamespace in ('public'::regnamespace, 'private'::regnamespace, 'kijko'::regnamespace)
    and c.contype = 'c' and pg_get_constraintdef(c.oid) ~ '\{\d*,\d\d+\}'
  union all
  select 'regular expression with a large bounded repeat', f.name
  from pg_temp.functions as f
  where f.prosrc ~ '\{\d*,\d\d+\}'
  union all
  select 'foreign key without index', t.name || ' ' || c.conname
  from pg_constraint as c
  join pg_temp.tables as t on t.oid = c.conrelid
  where c.contype = 'f' and not pg_temp.leading_index(c.conrelid, c.conkey)
  union all
  select 'foreign key between tenant tables without org_id', t.name || ' ' || c.conname
  from pg_constraint as c
  join pg_temp.tables as t on t.oid = c.conrelid
  join pg_attribute as mine on mine.attrelid = c.conrelid and mine.attname = 'org_id' and not mine.attisdropped
  join pg_attribute as theirs on theirs.attrelid = c.confrelid and theirs.attname = 'org_id' and not theirs.attisdropped
  where c.contype = 'f' and not (mine.attnum = any (c.conkey) and theirs.attnum = any (c.confkey))
  union all
  select 'updated_at is kept by no trigger', t.name
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname = 'updated_at' and not a.attisdropped
  -- The job engine keeps its own, by the real clock.
  where t.name <> 'public.jobs'
    and not exists (select 1 from pg_trigger as g where g.tgrelid = t.oid and g.tgfoid = 'private.touch_updated_at()'::regprocedure)
  union all
  -- bounds: docs/reference/bounds.md says what bounds each table, and a journey that none is missing there
  select 'table that users fill without a gauge', t.name || ' ' || o.operation
  from pg_temp.tables as t
  cross join (values (4, 'insert'), (8, 'delete')) as o (bit, operation)
  where has_any_column_privilege('authenticated', t.oid, 'insert')
    -- One for each user: what they may insert is the one that they have.
    and t.name <> 'public.profiles'
    and not exists (
      select 1 from pg_temp.gauges as g
      where g.tgrelid = t.oid and g.tgtype & o.bit <> 0 and g.tgtype & 1 = 0 and coalesce(g.tgnewtable, g.tgoldtable) is not null
    )
  union all
  select 'gauge that a plan does not limit', g.meter || ' ' || p.code
  from pg_temp.gauges as g
  cross join public.plans as p
  where not exists (
    select 1 from public.plan_limits as l where l.plan = p.code and l.meter = g.meter and l.period = 'lifetime' and l.over = 'refuse'
  )
  union all
  select 'gauge that usage_recount_gauges() leaves out', t.name || ' ' || g.meter
  from pg_temp.gauges as g
  join pg_temp.tables as t on t.oid = g.tgrelid
  join pg_proc as r on r.oid = 'private.usage_recount_gauges(uuid)'::regprocedure
  where r.prosrc !~ format('\(''%s'', \(select count\(\*\) from %s as', g.meter, t.name)
    or r.prosrc !~ format('lock table [^;]*\m%s\M', t.name)
  union all
  -- policies
  select 'granted to authenticated, but no policy', g.name || ' ' || g.privilege
  from pg_temp.granted as g
  where not exists (select 1 from pg_temp.policies as p where p.relid = g.oid and p.polcmd = g.cmd)
  union all
  select 'policy for an operation that nobody was granted', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where not exists (select 1 from pg_temp.granted as g where g.oid = p.relid and g.cmd = p.polcmd)
  union all
  select 'more than one policy for an operation', p.name || ' ' || p.polcmd::text
  from pg_temp.policies as p group by p.name, p.polcmd having count(*) > 1
  union all
  select 'policy for all operations at once', p.name || ' ' || p.polname from pg_temp.policies as p where p.polcmd = '*'
  union all
  select 'policy not to authenticated alone', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where p.polroles <> array[to_regrole('authenticated')::oid] and not (p.polcmd = 'r' and p.name = any (pg_temp.public_catalogues()))
  union all
  select 'policy with "in (select", which cannot use the index', p.name || ' ' || p.polname
  from pg_temp.policies as p where p.body ~* '\mIN \( ?SELECT'
  union all
  select 'policy that calls a function for every row', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where regexp_replace(p.body, 'SELECT [a-z_.]+\([^()]*\)', '', 'g') ~ '\m(org_ids|org_ids_with|tenancy_org_ids_as|tenancy_colleague_ids|org_id|user_id|uid|can|has_role|claims)\('
  union all
  -- To read is a permission as well: a role, and later a key, that lacks "resource:read" sees no row.
  select 'select policy of a tenant table that asks no permission', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where p.polcmd = 'r' and pg_temp.is_tenant_table(p.relid)
    and (p.body !~ '\m(org_id|id) = ANY \(ARRAY\( SELECT private\.org_ids_with\(''[a-z_]+:read''::text\)' or p.body ~ '\morg_ids\(\)|\mtenancy_org_ids_as\(')
  union all
  select 'permission that no role holds', a.name || ' ' || m.permission[1]
  from (
    select p.name || ' ' || p.polname as name, p.body from pg_temp.policies as p
    union all
    select f.name, f.prosrc from pg_temp.functions as f
  ) as a (name, body)
  cross join lateral regexp_matches(a.body, '(?:org_ids_with|tenancy_require_org_with|\mcan)\([^()'']*''([^'']*)''', 'g') as m (permission)
  where not exists (select 1 from private.role_permissions as r where r.permission = m.permission[1])
  union all
  -- Whom one belongs to, not what one may read there, is what these are about.
  select 'function that reads by membership and asks no permission', f.name
  from pg_temp.functions as f
  where (f.prosrc ~ '\morg_ids\(\)' and f.proname not in ('set_active_organization', 'explain_limit'))
    or (f.prosrc ~ '\mtenancy_require_org\(\)' and f.prosrc !~ '\m(can|tenancy_may_grant_role)\(')
  union all
  select 'policy column leads no index', p.name || '.' || m.col[1]
  from pg_temp.policies as p
  cross join lateral regexp_matches(p.body, '\(?(\w+) = (?:ANY \(ARRAY\(|\( SELECT)', 'g') as m (col)
  join pg_attribute as a on a.attrelid = p.relid and a.attname = m.col[1]
  where not pg_temp.leading_index(p.relid, array[a.attnum])
  union all
  -- grants
  select 'anon or everybody has a right on the table', t.name || ' ' || x.privilege_type
  from pg_temp.tables as t
  join pg_class as c on c.oid = t.oid
  cross join lateral aclexplode(c.relacl) as x
  where x.grantee in (0, to_regrole('anon'), to_regrole('kijko_sidecar'))
    and not (x.grantee = to_regrole('anon') and x.privilege_type = 'SELECT' and t.name = any (pg_temp.public_catalogues()))
  union all
  select 'users have a right on a private table', t.name || ' ' || x.privilege_type
  from pg_temp.tables as t
  join pg_class as c on c.oid = t.oid
  cross join lateral aclexplode(c.relacl) as x
  where t.nspname = 'private' and x.grantee = to_regrole('authenticated')
  union all
  select 'users have a right beyond reading and writing rows', t.name || ' ' || x.privilege_type
  from pg_temp.tables as t
  join pg_class as c on c.oid = t.oid
  cross join lateral aclexplode(c.relacl) as x
  where x.grantee = to_regrole('authenticated') and x.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  union all
  select 'users may write created_by or created_at of an existing row', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname in ('created_by', 'created_at') and not a.attisdropped
  where has_column_privilege('authenticated', t.oid, a.attnum, 'update')
  union all
  -- An upsert sets every column that it was given, also its key: users may write these, and a trigger refuses another value.
  select 'users may write id or org_id of an existing row, and no trigger refuses it', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname in ('id', 'org_id') and not a.attisdropped
  where has_column_privilege('authenticated', t.oid, a.attnum, 'update')
    and not exists (
      select 1 from pg_trigger as g
      where g.tgrelid = t.oid and g.tgfoid = 'private.refuse_identity_change()'::regprocedure and g.tgenabled = 'O' and a.attnum = any (g.tgattr)
        and pg_get_triggerdef(g.oid) ~ format('old\.%1$s IS DISTINCT FROM new\.%1$s', a.attname)
    )
  union all
  select 'users insert rows that they cannot upsert', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where has_column_privilege('authenticated', t.oid, a.attnum, 'insert') and not has_column_privilege('authenticated', t.oid, a.attnum, 'update')
  union all
  select 'default privileges give a request''s role a right', format('%s %s', d.defaclobjtype, x.privilege_type)
  from pg_default_acl as d
  cross join lateral aclexplode(d.defaclacl) as x
  where d.defaclrole = to_regrole('postgres')
    and x.grantee in (0, to_regrole('anon'), to_regrole('authenticated'), to_regrole('service_role'))
  union all
  select 'sequence with a right for a request''s role', c.oid::regclass || ' ' || x.privilege_type
  from pg_class as c
  cross join lateral aclexplode(c.relacl) as x
  where c.relkind = 'S' and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
    and x.grantee in (0, to_regrole('anon'), to_regrole('authenticated'))
  union all
  select 'view: a view reads as its owner, past row level security', c.oid::regclass::text
  from pg_class as c
  where c.relkind in ('v', 'm') and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
    and not coalesce('security_invoker=true' = any (c.reloptions), false)
  union all
  -- functions
  select 'function without comment', f.name from pg_temp.functions as f where obj_description(f.oid, 'pg_proc') is null
  union all
  select 'function executable by everybody', f.name
  from pg_temp.functions as f
  where f.proacl is null or exists (select 1 from aclexplode(f.proacl) as x where x.grantee = 0)
  union all
  select 'definer function whose names a search_path can capture', f.name
  from pg_temp.functions as f
  where f.prosecdef and f.prosqlbody is null and not pg_temp.has_fixed_path(f.proconfig)
  union all
  -- A procedure that commits may not have a "set" clause; it qualifies every name instead.
  select 'function whose names a search_path can capture', f.name
  from pg_temp.functions as f
  where f.prokind <> 'p' and f.prosqlbody is null and not pg_temp.has_fixed_path(f.proconfig)
  union all
  select 'definer function without its reason in the comment', f.name
  from pg_temp.functions as f
  where f.prosecdef and coalesce(obj_description(f.oid, 'pg_proc'), '') not like '%Definer:%'
  union all
  select 'definer function of a superuser', f.name
  from pg_temp.functions as f
  join pg_roles as r on r.oid = f.proowner
  where f.prosecdef and r.rolsuper
  union all
  -- errors
  select 'code of kijko.fail that is not in kijko.error_codes', f.name || ' ' || m.code[1]
  from pg_temp.functions as f
  cross join lateral regexp_matches(f.prosrc, 'kijko\.fail\(\s*''([^'']*)''', 'g') as m (code)
  where not exists (select 1 from kijko.error_codes as c where c.code = m.code[1])
  union all
  select 'raises an exception past kijko.fail', f.name
  from pg_temp.functions as f
  where f.prosrc ~* '\mraise\s+(exception|sqlstate|''|using)';

select plan(8);

select is_empty('select rule, object from pg_temp.offences order by 1, 2', 'no offences');

-- ---- who may call what: a new grant is a decision, made here as well
create function pg_temp.callable(role text) returns setof text language sql stable as $$
  select f.name from pg_temp.functions as f where has_function_privilege(role, f.oid, 'execute') order by 1
$$;
select results_eq(
  $$select pg_temp.callable('anon')$$,
  array['before_request()', 'private.as_uuid(text)', 'private.requests_admit()'],
  'what anon may call'
);
select results_eq(
  $$select pg_temp.callable('authenticated')$$,
  array[
    'accept_invitation(text)',
    'active_org_id(profiles)',
    'before_request()',
    'can(uuid,text)',
    'cancel_execution(uuid)',
    'create_organization(text)',
    'decline_invitation(text)',
    'execute_skill(uuid,jsonb,text)',
    'explain_limit(uuid,text)',
    'has_role(uuid,text)',
    'ingest_usage(jsonb)',
    'invite_member(text,text)',
    'leave_organization(uuid)',
    'org_id()',
    'org_ids()',
    'preview_cron(text,text,integer)',
    'private.as_uuid(text)',
    'private.org_ids_with(text)',
    'private.requests_admit()',
    'private.skills_is_token_limit(jsonb)',
    'private.slugify(text)',
    'private.tenancy_colleague_ids()',
    'private.tenancy_org_ids_as(text)',
    'problems(skills)',
    'retried_execution(executions)',
    'retries(executions)',
    'retry_execution(uuid)',
    'revoke_invitation(uuid)',
    'run_habit(uuid)',
    'set_active_organization(uuid)',
    'transfer_ownership(uuid,uuid)',
    'usage_alerts(timestamp with time zone)',
    'usage_by(text,text,date,date)',
    'usage_forecast()',
    'usage_summary()'
  ],
  'what a user may call'
);
select results_eq(
  $$select pg_temp.callable('kijko_sidecar')$$,
  array[
    'private.executions_fail(text,uuid,text,text,boolean,interval,integer,jsonb,boolean)',
    'private.executions_finish(text,uuid,jsonb,integer)',
    'private.executions_record_call(text,uuid,integer,jsonb)',
    'private.executions_reserve_call(text,uuid,integer,jsonb)',
    'private.executions_start(text,uuid,integer)',
    'private.jobs_add_event(text,uuid,text,jsonb)',
    'private.jobs_claim(text,interval,integer,text[])',
    'private.jobs_complete(text,jsonb)',
    'private.jobs_fail(text,uuid,text,text,boolean,interval,integer,boolean)',
    'private.jobs_heartbeat(text,uuid[],interval)',
    'private.jobs_release(text,uuid[])',
    'private.jobs_requeue_expired()',
    'private.jobs_stats()',
    'private.requests_admit_external(text,text,text)',
    'private.stripe_backlog()',
    'private.stripe_ingest_event(jsonb)'
  ],
  'what the sidecar may call'
);
select is_empty(
  $$select g.roleid::regrole from pg_auth_members as g where g.member = to_regrole('kijko_sidecar')$$, 'the sidecar is a member of nothing'
);

-- ---- every rule finds its offender
select is(
  (select count(*) from pg_temp.functions as f where f.prosrc ~ 'kijko\.fail\(\s*[^''\s]'), 0::bigint,
  'codes are literals, so that they can be looked up'
);

create table public.offender (id int, org_id uuid, other uuid, words text, created_at timestamptz, updated_at timestamptz);
create table public.child (org_id uuid, job_id uuid references public.jobs (id));
grant all on public.offender to anon, authenticated;
revoke all on public.child from authenticated;
grant insert (job_id) on public.child to authenticated;
create sequence public.offending_sequence;
grant usage on sequence public.offending_sequence to anon;
alter default privileges for role postgres in schema public grant usage on sequences to service_role;
create policy one on public.child for select using (org_id in (select public.org_ids()));
create policy two on public.child for select to authenticated using (public.can(org_id, 'x:y'));
create policy three on public.child to authenticated using (job_id = (select kijko.user_id()));
create trigger offender_gauge after insert on public.offender
  referencing new table as changed for each statement execute function private.plans_sync_gauge('offenders');
create table private.offender (id int, word text check (word ~ '^[a-z]{1,40}$'));
grant select on private.offender to authenticated;
create view public.offending_view as select 1;
create function public.offender() returns void security definer language plpgsql as $$
begin
  perform 1 from public.org_ids();
  perform kijko.fail('no_such_code');
  raise exception 'by hand';
end
$$;
select is_empty(
  $$select rule from (values
      ('row level security is off'), ('table without comment'), ('column without comment'),
      ('tenant table without id uuid, org_id uuid not null, created_by and created_at'), ('org_id leads no index'),
      ('text column without a length check'), ('regular expression with a large bounded repeat'), ('foreign key without index'), ('foreign key between tenant tables without org_id'),
      ('updated_at is kept by no trigger'), ('granted to authenticated, but no policy'), ('policy for an operation that nobody was granted'),
      ('more than one policy for an operation'), ('policy for all operations at once'), ('policy not to authenticated alone'),
      ('policy with "in (select", which cannot use the index'), ('policy that calls a function for every row'), ('policy column leads no index'),
      ('select policy of a tenant table that asks no permission'), ('permission that no role holds'),
      ('function that reads by membership and asks no permission'),
      ('anon or everybody has a right on the table'), ('users have a right on a private table'), ('users have a right beyond reading and writing rows'),
      ('table that users fill without a gauge'), ('gauge that a plan does not limit'), ('gauge that usage_recount_gauges() leaves out'),
      ('users may write created_by or created_at of an existing row'),
      ('users may write id or org_id of an existing row, and no trigger refuses it'), ('users insert rows that they cannot upsert'), ('sequence with a right for a request''s role'),
      ('default privileges give a request''s role a right'),
      ('view: a view reads as its owner, past row level security'), ('function without comment'), ('function executable by everybody'),
      ('definer function whose names a search_path can capture'), ('function whose names a search_path can capture'),
      ('definer function without its reason in the comment'), ('definer function of a superuser'),
      ('code of kijko.fail that is not in kijko.error_codes'), ('raises an exception past kijko.fail')
    ) as expected (rule)
    except select rule from pg_temp.offences$$,
  'each rule finds an offender'
);

-- An empty search_path finds temporary types before those of Postgres.
select is_empty(
  $$select r.rolname from pg_roles as r
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'kijko_sidecar')
      and has_database_privilege(r.oid, current_database(), 'temporary')$$,
  'who may only call functions makes no temporary types'
);

select * from finish();
rollback;
