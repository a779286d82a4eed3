begin;
\ir 000_helpers.sql
select plan(15);

-- Nothing of this commits, so the worker sees nothing of it.
delete from kijko.http_requests;
select is((select row(b.waiting, b.pending, b.dead, b.oldest_due_seconds, b.hosts)::text from private.webhooks_outbox_backlog() as b), '(0,0,0,0,[])', 'an idle outbox is 0');
select ok((select bool_and(b.figures ? f.name) from private.webhooks_outbox_backlog() as b,
  unnest(array['in_flight', 'succeeded', 'dead', 'errors', 'failed_status', 'failed_timed_out', 'failed_unreachable', 'failed_broken', 'failed_expired', 'failed_address_refused',
    'failed_secret_unavailable']) as f (name)), 'the figures of kijko.stats() come along');

insert into kijko.http_requests (origin, method, url, state, key, run_at, ended_at, attempts, org_id, priority) values
  ('https://a.example:443', 'GET', 'https://a.example/', 'pending', 'k', clock_timestamp() - interval '60 seconds', null, 2, tests.id('org-1'), 0),
  ('https://a.example:443', 'GET', 'https://a.example/', 'waiting', 'k', clock_timestamp() - interval '50 seconds', null, 0, tests.id('org-1'), 0),
  ('https://a.example:443', 'GET', 'https://a.example/', 'pending', null, clock_timestamp() - interval '10 seconds', null, 0, tests.id('org-2'), 0),
  ('https://b.example:443', 'GET', 'https://b.example/', 'pending', null, clock_timestamp() - interval '500 seconds', null, 1, tests.id('org-2'), -3),
  ('https://c.example:443', 'GET', 'https://c.example/', 'pending', null, clock_timestamp() + interval '1 hour', null, 1, tests.id('org-2'), 0),
  ('https://d.example:443', 'GET', 'https://d.example/', 'dead', null, clock_timestamp(), clock_timestamp(), 10, tests.id('org-2'), 0),
  ('https://d.example:443', 'GET', 'https://d.example/', 'succeeded', null, clock_timestamp(), clock_timestamp(), 1, tests.id('org-2'), 0),
  ('https://d.example:443', 'GET', 'https://d.example/', 'cancelled', 'k', clock_timestamp(), clock_timestamp(), 0, tests.id('org-2'), 0);
select is((select row(b.waiting, b.pending, b.dead)::text from private.webhooks_outbox_backlog() as b), '(1,4,1)', 'requests are counted by state');
select is((select round(b.oldest_due_seconds::numeric / 100) from private.webhooks_outbox_backlog() as b), 5::numeric, 'the oldest is the oldest that is due');
select is(
  (select string_agg(h ->> 'origin', ' ') from private.webhooks_outbox_backlog() as b, jsonb_array_elements(b.hosts) as h),
  'https://b.example:443 https://a.example:443', 'origins with something due, the longest first; not what waits for its next attempt'
);
select results_eq(
  $$select h.due, h.retrying from private.webhooks_outbox_hosts() as h$$, $$values (1::bigint, 1::bigint), (2, 1)$$, 'what is due, and what of it has failed before'
);

-- ---- how attempts ended, by origin
select is((select b.attempts from private.webhooks_outbox_backlog() as b), '[]'::jsonb, 'nothing was tried');
insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, error_code)
select r.id, a.n, clock_timestamp() - a.n * interval '2 minutes', 1, case when r.origin < 'https://d' then 'status' end
from kijko.http_requests as r cross join generate_series(1, 3) as a (n) where r.key is null;
select results_eq(
  $$select a.origin, a.succeeded, a.failed from private.webhooks_outbox_attempts() as a$$,
  $$values ('https://a.example:443', 0::bigint, 2::bigint), ('https://b.example:443', 0, 2), ('https://c.example:443', 0, 2), ('https://d.example:443', 4, 0)$$,
  'those of five minutes, origins with most failures first'
);
select is((select sum(a.succeeded + a.failed) from private.webhooks_outbox_attempts(max_attempts => 5) as a), 5::numeric, 'attempts up to a bound');
select is((select count(*) from private.webhooks_outbox_attempts(max_hosts => 2)), 2::bigint, 'and origins');

-- ---- nothing is counted without a bound
insert into kijko.http_requests (origin, method, url, run_at, org_id)
select 'https://many.example:443', 'GET', 'https://many.example/', clock_timestamp() - interval '1 second', tests.id('org-1') from generate_series(1, 1005);
select is((select h.due from private.webhooks_outbox_hosts() as h where h.origin = 'https://many.example:443'), 1000::bigint, 'requests of an origin are counted up to a bound');
insert into kijko.http_requests (origin, method, url, run_at)
select format('https://%s.example:443', n), 'GET', 'https://x.example/', clock_timestamp() - n * interval '1 hour' from generate_series(1, 30) as n;
select is((select count(*) from private.webhooks_outbox_hosts()), 20::bigint, 'and so are origins');
select is((select max(h.oldest_seconds)::bigint / 3600 from private.webhooks_outbox_hosts() as h), 30::bigint, 'those that wait longest');
select is((select count(*) from private.webhooks_outbox_hosts(max_lanes => 3)), 3::bigint, 'and lanes');

set local role kijko_sidecar;
select lives_ok('select * from private.webhooks_outbox_backlog()', 'the sidecar may ask');

select * from finish();
rollback;
