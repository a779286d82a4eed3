-- Views of the catalog that the lints of the schemas public and private share, and the exceptions that they allow.
-- Each lint fails with the names of the offenders. At its end it makes an offender for each rule and expects to find it.
--   pg_prove -h … -U <superuser> -d postgres tests/lint/*.test.sql
\set ON_ERROR_STOP on
\set QUIET on
set client_min_messages = warning;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;

create view pg_temp.tables as
  select c.oid, c.relname, n.nspname, n.nspname || '.' || c.relname as name, c.relrowsecurity
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  -- A partition has the policies, comments and the catalogue of its table, by which alone it is reached.
  where n.nspname in ('public', 'private') and c.relkind in ('r', 'p') and not c.relispartition;

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
  where g.tgfoid = 'private.sync_gauge()'::regprocedure and g.tgenabled = 'O';

create view pg_temp.functions as
  select p.*, n.nspname, p.oid::regprocedure::text as name
  from pg_proc as p
  join pg_namespace as n on n.oid = p.pronamespace
  where n.nspname in ('public', 'private');

-- What a page of prices shows to visitors; no tenant's rows are in them.
create function pg_temp.public_catalogues() returns text[] language sql immutable
return array['public.plans', 'public.plan_limits', 'public.prices', 'public.features', 'public.plan_features', 'public.llm_models', 'public.webhook_event_types'];

-- Keys that are unique over all tenants: a habit belongs to one organization, and Stripe's ids name one object of its account.
create function pg_temp.unique_without_org() returns text[] language sql immutable
return array[
  'executions_habit_id_scheduled_for_key', 'stripe_checkouts_pkey', 'stripe_credit_notes_pkey', 'stripe_mandates_pkey', 'stripe_customers_pkey', 'stripe_invoices_pkey', 'stripe_subscriptions_pkey'
];

-- Functions that may measure the text of a value: those of values that were measured when they were stored, and those of lists of
-- texts, which have no numbers.
create function pg_temp.measuring_text() returns text[] language sql immutable
return array[
  'private.audit_value(jsonb,text)', 'export_skills(uuid[])', 'private.llm_is_target_list(text[])',
  'private.topics_is_word_list(text[])'
];

-- What belongs to one organization, and the organizations themselves.
create function pg_temp.is_tenant_table(relid oid) returns boolean language sql stable as $$
  select relid = 'public.organizations'::regclass
    or exists (select 1 from pg_attribute as a where a.attrelid = relid and a.attname = 'org_id' and not a.attisdropped)
$$;

-- An empty path, the older form, finds temporary types first. schema_functions.test.sql checks that no role can make any.
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
