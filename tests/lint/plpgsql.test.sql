-- plpgsql_check over every plpgsql function, procedure and trigger function of the domain: names, types, dead code,
-- missing returns. Fails with function, line and message. Of the platform's and the extension's functions it says what would fail when they run.
begin;
\set ON_ERROR_STOP on
\set QUIET on
set client_min_messages = warning;
create extension if not exists pgtap with schema extensions;
create extension if not exists plpgsql_check with schema extensions;
set local search_path = public, extensions;

create view pg_temp.checked as
  -- A trigger function is checked once for each table it serves.
  select distinct p.oid, n.nspname in ('public', 'private') as is_domain, p.oid::regprocedure::text as name, coalesce(t.tgrelid, 0) as relid, t.tgoldtable, t.tgnewtable
  from pg_proc as p
  join pg_namespace as n on n.oid = p.pronamespace
  join pg_language as l on l.oid = p.prolang
  left join pg_trigger as t on t.tgfoid = p.oid and p.prorettype = 'trigger'::regtype
  where l.lanname = 'plpgsql' and p.prorettype <> 'event_trigger'::regtype
    and n.nspname in ('public', 'private', 'kijko', 'auth', 'auth_api', 'realtime', 'realtime_service', 'storage', 'storage_service');

create view pg_temp.problems as
  select c.name, c.relid::regclass::text as on_table, r.lineno, r.level, r.message
  from pg_temp.checked as c
  cross join lateral plpgsql_check_function_tb(
    c.oid, c.relid, oldtable => c.tgoldtable, newtable => c.tgnewtable, other_warnings => true, extra_warnings => true, security_warnings => true, performance_warnings => false
  ) as r
  where (c.is_domain or r.level = 'error')
    -- The column "limit" of usage_summary() is a name that clients depend on. Since 2.10 plpgsql_check minds "full", too.
    and r.message not in ('name of parameter "limit" is reserved keyword', 'name of parameter "full" is reserved keyword')
    -- Since 2.10 it minds volatile functions in a stable one. schema_functions.test.sql asks the same by their names, on every version, and
    -- lists those that may be called.
    and r.message <> 'routine is marked as STABLE, but expression is VOLATILE'
    -- And stable ones in an immutable one. These print texts, whole numbers, uuids and JSON, which look the same in every session.
    and not (r.message = 'routine is marked as IMMUTABLE, but expression is STABLE' and c.name = any (array[
      'private.api_keys_normalize(jsonb)', 'private.billing_form(jsonb,text)', 'private.blog_diff_lines(text,text)',
      'private.executions_usage_attributes(uuid,uuid,uuid,uuid,uuid)', 'private.habits_day_words(text,text,text)', 'private.habits_item_words(text,text)',
      'private.habits_time_words(text,text)', 'private.llm_sum(jsonb,jsonb)', 'private.privacy_redact(jsonb,text[])',
      'private.privacy_redact_event(jsonb)', 'private.social_size_problems(text,integer,text,integer,integer,integer)',
      'private.stripe_add_fields(jsonb,jsonb)', 'private.stripe_deep_merge(jsonb,jsonb)', 'private.vat_read_answer(text,integer,text)'
    ]))
    -- plpgsql_check of Debian 13 and newer takes the list of a foreach for the name in one round. No name begins with a brace.
    and r.message !~ '^function (private|kijko)\.\{.*\(\) does not exist$'
    -- Its callers pass expressions of pg_policy, which migrations wrote.
    and not (c.name = 'private.support_holds(regclass,text,uuid)' and r.message = 'text type variable is not sanitized')
    -- It evaluates expressions of pg_constraint, which migrations wrote.
    and not (c.name = 'private.skills_check_items(private.skill_import[])' and r.message = 'text type variable is not sanitized')
    -- Names and conditions come from the catalog and from private.data_subjects, which migrations wrote; values are parameters.
    and not (c.name ~ '^private\.privacy_(collect|count_column|erase_column)\(' and r.message = 'text type variable is not sanitized');

select plan(4);
select cmp_ok((select count(*) from pg_temp.checked), '>', 40::bigint, 'there are functions to check');
select is_empty(
  $$select name from pg_temp.checked as c where is_domain and relid = 0 and exists (select 1 from pg_proc as p where p.oid = c.oid and p.prorettype = 'trigger'::regtype)$$,
  'no trigger function without a trigger'
);
select is_empty('select * from pg_temp.problems order by 1, 2, 3', 'no problems');

create function public.offender() returns integer language plpgsql as $$
declare
  never_used integer;
begin
  perform missing_column from public.plans;
  return 1;
end
$$;
select isnt_empty($$select 1 from pg_temp.problems where name = 'offender()' and level = 'error'$$, 'the checker finds an offender');

select * from finish();
rollback;
