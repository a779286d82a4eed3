-- What operators do with jobs: who may, what is refused, and that the refusal of one leaves the others.
begin;
\ir 000_helpers.sql
select plan(19);

select tests.sign_up('ada'), tests.sign_up('bob');

-- ---- nobody but the owner
select is(
  (
    select count(*)::integer
    from pg_proc as p
    cross join unnest(array['anon', 'authenticated', 'service_role', 'kijko_sidecar']) as r (role)
    where p.oid in ('private.jobs_operate(text,uuid[])'::regprocedure, 'private.jobs_operate_one(text,public.jobs)'::regprocedure,
        'private.jobs_retry_dead(public.jobs)'::regprocedure, 'private.executions_retry_job(public.jobs)'::regprocedure,
        'private.reflexes_retry_job(public.jobs)'::regprocedure)
      and has_function_privilege(r.role, p.oid, 'execute')
  ),
  0, 'no role may call these functions'
);

-- ---- bad arguments
select throws_ok($$select * from private.jobs_operate('destroy', '{}')$$, '22023', null, 'an unknown action is refused');
select throws_ok($$select * from private.jobs_operate(null, '{}')$$, '22023', null, 'so is none');
select is_empty($$select * from private.jobs_operate('retry', null)$$, 'no ids are no jobs');
select results_eq(
  $$select outcome, code from private.jobs_operate('retry', array[gen_random_uuid()])$$,
  $$values ('refused', 'conflict')$$, 'a job that does not exist is refused'
);

-- ---- retry in place
create function tests.dead(who text, kind text, unique_key text default null, payload jsonb default '{}') returns uuid language sql security definer as $$
  insert into public.jobs (org_id, kind, status, attempt, error_code, error, finished_at, cancel_requested, unique_key, payload)
  values (tests.org(who), dead.kind, 'dead', 5, 'internal', 'it failed', clock_timestamp(), true, dead.unique_key, dead.payload) returning id
$$;
select tests.dead('ada', 'repair') as plain, tests.dead('bob', 'repair', 'k') as keyed, tests.dead('bob', 'repair', 'k') as twin \gset
select results_eq(
  format('select outcome, code from private.jobs_operate(''retry'', %L)', array[:'plain', :'keyed', :'twin']),
  format($$values (%L, null), (%L, null), ('refused', 'conflict')$$, 'queued as ' || :'plain', 'queued as ' || :'keyed'),
  'each is retried by itself; of two with the same unique key the second is refused'
);
select results_eq(
  format('select status, attempt, uncounted_attempts, error_code, finished_at, cancel_requested from public.jobs where id = %L', :'plain'),
  $$values ('queued', 5, 5, null::varchar, null::timestamptz, false)$$, 'it has all of its attempts again'
);
select is((select count(*)::integer from private.job_lanes where kind = 'repair'), 2, 'its lane is open');
select is(
  (select array_agg(event order by event) from public.job_event_log where job_id = :'plain'), array['operator_retry'], 'its history says who did it'
);
select is((select status from public.jobs where id = :'twin'), 'dead', 'the refused one is as it was');

-- ---- cancel and delete
select results_eq(
  format('select outcome from private.jobs_operate(''cancel'', %L)', array[:'plain', :'twin']), $$values ('cancelled'), ('refused')$$,
  'a queued job is cancelled, a dead one is not'
);
select results_eq(
  format('select outcome from private.jobs_operate(''delete'', %L)', array[:'keyed', :'twin']), $$values ('refused'), ('deleted')$$,
  'a dead job is deleted, a queued one is not'
);

-- ---- kinds with rows of other domains
select results_eq(
  format('select outcome, code from private.jobs_operate(''retry'', %L)', array[tests.dead('ada', 'mail')]),
  $$values ('refused', 'conflict')$$, 'a mail is not repeated'
);
select results_eq(
  format('select outcome, code from private.jobs_operate(''retry'', %L)', array[tests.dead('ada', 'execution.echo')]),
  $$values ('refused', 'conflict')$$, 'nor an execution that is gone'
);
select results_eq(
  format('select outcome, code from private.jobs_operate(''retry'', %L)',
    array[tests.dead('ada', 'reflex_delivery', payload => jsonb_build_object('delivery_id', gen_random_uuid()))]),
  $$values ('refused', 'conflict')$$, 'nor a delivery that is gone'
);

-- ---- the queue's depth says which leases have ended
update public.jobs set status = 'running', attempt = 6, locked_by = 'w', locked_until = clock_timestamp() - interval '1 hour', finished_at = null
where id = :'keyed';
select is((select overdue from private.jobs_stats() where kind = 'repair'), 1::bigint, 'jobs_stats counts ended leases');

-- ---- what an operator cannot mend
select is((select array_agg(c.code order by c.code) from unnest('{internal,timeout,vendor_auth,vendor_unavailable,smtp_auth,model_not_priced,invalid_payload,
  invalid_input,template_error,quota_exceeded,file_deleted,fetch_timeout}'::text[]) as c (code) where private.jobs_is_refusal('skill_run', c.code)),
  '{file_deleted,invalid_input,quota_exceeded,template_error}', 'what its organization got wrong, or has used up, is no dead job of the operator');
select is((select array_agg(c.code order by c.code) from unnest('{internal,timeout,fetch_failed,branch_not_found,host_not_allowed,invalid_input,parse_failed,cancelled}'::text[]) as c (code)
  where private.jobs_is_refusal('code.index', c.code)), '{branch_not_found,host_not_allowed,invalid_input,parse_failed}', 'nor is a fault of a repository');
select is((private.jobs_is_refusal('code.index', null), private.jobs_is_refusal(null, 'parse_failed'), private.jobs_is_refusal(null, 'invalid_input'))::text,
  '(f,f,t)', 'no code is none, and without a kind only what every kind has');

select * from finish();
rollback;
