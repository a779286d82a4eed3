-- Webhooks: the log, sending again, disabling, and events that cannot be made at once.
begin;
\ir 000_helpers.sql
select plan(40);

select tests.sign_up('ada'), tests.sign_up('bob');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');

-- What the worker of the outbox writes.
create function tests.end_requests(hook uuid, state text, error_code text default null, attempts integer default 1) returns bigint language sql security definer as $$
  with ended as (
    update kijko.http_requests as q
    set state = end_requests.state, error_code = end_requests.error_code, attempts = end_requests.attempts, ended_at = clock_timestamp()
    from private.webhook_requests as r where r.request_id = q.id and r.endpoint_id = hook and q.state in ('pending', 'waiting')
    returning q.id
  ), attempt as (
    insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, status, body, error_code)
    select e.id, end_requests.attempts, now(), 12, case when end_requests.state = 'succeeded' then 204 else 500 end, 'answer', end_requests.error_code from ended as e
  )
  select count(*) from ended
$$;
create function tests.sync() returns void language sql security definer as $$
  -- After that of pg_cron, beside which there is none.
  select 1 from private.webhook_cursor for update;
  select private.webhooks_sync(), private.webhooks_disable_failing();
$$;
create function tests.later(days integer) returns text language sql security definer as $$ select set_config('kijko.clock_offset', (days * 86400)::text, true) $$;

-- ---- a test, and the log
select tests.act_as('ada');
insert into public.webhook_endpoints (url) values ('https://hooks.example.com/in') returning id as hook \gset
select id as test_delivery, status as test_status from public.send_test_webhook(:'hook') \gset
select is(:'test_status'::text, 'pending', 'a test is a delivery');
select is((select created_by from public.webhook_messages where type = 'webhook.test'), tests.id('ada'), 'whose message says who made it');
select tests.end_requests(:'hook', 'succeeded');
select results_eq(format('select type, cause, status, attempts, response_status from public.list_webhook_deliveries(%L)', :'hook'),
  $$values ('webhook.test'::text, 'test'::text, 'succeeded'::text, 1, 204)$$, 'the log knows the end before a schedule does');
select results_eq(format('select attempt, duration_ms, response_status, response_body from public.list_webhook_attempts(%L)', :'test_delivery'),
  $$values (1, 12, 204, 'answer'::text)$$, 'and each attempt');
select tests.act_as('bob');
select tests.refuses(format('select * from public.list_webhook_attempts(%L)', :'test_delivery'), 'not_found', 'which a non-member does not see');
select tests.act_as('ada');
select tests.refuses(format('select * from public.list_webhook_deliveries(%L, ''lost'')', :'hook'), 'invalid_input', 'an unknown status is refused');
select tests.refuses(format('select * from public.list_webhook_deliveries(%L, before_id => gen_random_uuid())', :'hook'), 'not_found', 'and an unknown place');
select tests.refuses(format('select * from public.list_webhook_deliveries(%L, "limit" => 201)', :'hook'), 'invalid_input', 'and a page that is too long');

-- ---- failures, redelivery, recovery
insert into public.projects (name) values ('One'), ('Two');
select tests.end_requests(:'hook', 'dead', 'attempts_exhausted', 6);
select is((select count(*) from public.list_webhook_deliveries(:'hook', 'failed')), 2::bigint, 'two deliveries failed');
select is((select count(*) from public.list_webhook_deliveries(:'hook', 'failed', "limit" => 1)), 1::bigint, 'one on a page');
select is((select count(*) from public.list_webhook_deliveries(:'hook', 'failed', before_id => (
  select id from public.list_webhook_deliveries(:'hook', 'failed', "limit" => 1)
))), 1::bigint, 'and one on the next');
select tests.sync();
select results_eq(format('select failure_count, failing_since is not null, enabled from public.webhook_endpoints where id = %L', :'hook'), 'values (12, true, true)', 'the endpoint says so');
select id as message from public.webhook_messages where payload -> 'data' ->> 'name' = 'One' \gset
select is((select cause from public.redeliver_webhook(:'message', :'hook')), 'redelivery', 'a message is sent again');
select tests.refuses(format('select public.redeliver_webhook(%L, %L)', :'message', :'hook'), 'conflict', 'not twice at once');
select tests.refuses(format('select public.redeliver_webhook(gen_random_uuid(), %L)', :'hook'), 'not_found', 'an unknown one is not');
update public.webhook_endpoints set event_types = '{member.joined}' where id = :'hook';
select is(public.recover_webhooks(:'hook', now() - interval '1 hour'), 0, 'a recovery sends nothing that the endpoint does not want any more');
update public.webhook_endpoints set event_types = null where id = :'hook';
select is(public.recover_webhooks(:'hook', now() - interval '1 hour'), 1, 'a recovery sends what failed and is not on its way');
select is(public.recover_webhooks(:'hook', now() - interval '1 hour'), 0, 'once');
select is(public.recover_webhooks(:'hook', now() + interval '1 hour'), 0, 'and nothing from before');
select tests.end_requests(:'hook', 'succeeded');
select tests.sync();
select results_eq(format('select failure_count, failing_since is null, last_success_at is not null from public.webhook_endpoints where id = %L', :'hook'), 'values (0, true, true)', 'a success forgets failures');

-- ---- days of failure
insert into public.projects (name) values ('Three');
select tests.end_requests(:'hook', 'dead', 'attempts_exhausted', 10);
select tests.sync();
select tests.later(4);
select tests.sync();
select is((select enabled from public.webhook_endpoints where id = :'hook'), true, 'after four days it is enabled');
select tests.later(6);
insert into public.projects (name) values ('Four');
select tests.sync();
select results_eq(format('select enabled, disabled_reason from public.webhook_endpoints where id = %L', :'hook'), $$values (false, 'failing'::text)$$, 'after five it is disabled');
select is((select data ->> 'host' from public.notifications where type = 'webhook.disabled'), 'hooks.example.com', 'who sees endpoints is notified');
select is((select string_agg(status, ' ' order by created_at desc) from public.list_webhook_deliveries(:'hook', 'cancelled')), 'cancelled', 'and what was on its way is cancelled');
select tests.refuses(format('select public.recover_webhooks(%L, now())', :'hook'), 'conflict', 'nothing is recovered to a disabled one');
select lives_ok(format('select public.send_test_webhook(%L)', :'hook'), 'though a test is sent');
insert into public.projects (name) values ('Five');
select is((select count(*) from public.webhook_messages where payload -> 'data' ->> 'name' = 'Five'), 0::bigint, 'and no event');
update public.webhook_endpoints set enabled = true where id = :'hook';
select results_eq(format('select failure_count, failing_since is null from public.webhook_endpoints where id = %L', :'hook'), 'values (0, true)', 'enabling it forgets failures');
select is(public.recover_webhooks(:'hook', now() - interval '1 day'), 2, 'and what failed or was cancelled is sent');

-- ---- 410
select tests.end_requests(:'hook', 'dead', 'gone', 1);
select tests.sync();
select is((select disabled_reason from public.webhook_endpoints where id = :'hook'), 'gone', 'a receiver that is gone disables its endpoint');

-- ---- an event that cannot be made at once
select tests.act_as_superuser();
update public.webhook_endpoints set enabled = true where id = :'hook';
create function tests.break() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$;
create trigger break before insert on public.webhook_messages for each row execute function tests.break();
select tests.act_as('ada');
set local client_min_messages = error;
select lives_ok($$insert into public.projects (name) values ('Six')$$, 'an event that fails does not fail what it is about');
set local client_min_messages = warning;
select tests.act_as_superuser();
drop trigger break on public.webhook_messages;
select tests.act_as('ada');
select public.archive_project((select id from public.projects where name = 'Six'));
select tests.act_as_superuser();
select is((select string_agg(b.type, ' ' order by b.seq) from private.webhook_backlog as b), 'project.created project.archived', 'it is kept, and so are later ones of the same thing');
select is(private.webhooks_drain(), 2, 'a schedule makes them');
select is((select string_agg(q.body::jsonb ->> 'type', ' ' order by q.seq) from kijko.http_requests as q where q.body::jsonb -> 'data' ->> 'name' = 'Six'), 'project.created project.archived', 'in their order');
select is((select count(*) from private.webhook_backlog where organization = tests.org('ada')), 0::bigint, 'and forgets them');

-- ---- retention
select private.webhooks_purge();
insert into public.webhook_messages (org_id, type, version, permission, entity, payload, created_by)
select tests.org('ada'), 'project.created', 1, 'projects:read', 'large', jsonb_build_object('data', repeat('x', 1048576)), null from generate_series(1, 70);
select ok(private.webhooks_purge() between 6 and 8, 'beyond 64 MiB of an organization the oldest go');
select is(private.webhooks_purge(), 0, 'and no more');
select tests.later(40);
select ok(private.webhooks_purge() > 5, 'messages go after 30 days');
select is((select count(*) from private.webhook_requests where organization = tests.org('ada')), 0::bigint, 'with their deliveries');
select is((select count(*) from kijko.http_requests where org_id = tests.org('ada') and state in ('pending', 'waiting')), 0::bigint, 'and requests');

select * from finish();
rollback;
