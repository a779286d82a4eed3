-- API keys: who makes, sees, changes and revokes which, and what is refused when it is stored.
begin;
\ir 000_helpers.sql
select plan(198);

select tests.sign_up(u) from unnest(array['ada', 'bob', 'adm', 'mem', 'pat', 'vic']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'),
  tests.join_org('pat', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create function tests.key(name text) returns public.api_keys language sql stable security definer as $$
  select k.* from public.api_keys as k where k.name = key.name and k.org_id = tests.org('ada')
$$;
create function tests.stored(id uuid) returns kijko.api_keys language sql stable security definer as $$
  select k.* from kijko.api_keys as k where k.id = stored.id
$$;
create function tests.secrets(id uuid) returns bigint language sql stable security definer as $$
  select count(*) from kijko.api_key_secrets as s where s.api_key_id = secrets.id
$$;
-- Whether a text is the key of that id, as a request would be checked.
create function tests.opens(id uuid, secret text) returns boolean language sql stable security definer as $$
  select exists (
    select 1 from kijko.api_key_secrets as s
    where s.api_key_id = opens.id and s.hash = sha256(convert_to(secret, 'UTF8')) and (s.valid_until is null or s.valid_until > kijko.now())
  )
$$;
create function tests.inserted() returns text language sql as $$
  insert into public.api_keys as k (name, permissions) values ('inserted', '{"read": true, "write": false}') returning k.secret
$$;
create function tests.upsert(id uuid, name text) returns text language sql as $$
  insert into public.api_keys as k (id, name, permissions) values (upsert.id, upsert.name, '["skills:read"]')
  on conflict (id) do update set id = excluded.id, name = excluded.name, permissions = excluded.permissions
  returning coalesce(k.secret, 'none')
$$;
create function tests.names() returns text language sql stable as $$ select string_agg(k.name, ' ' order by k.name) from public.api_keys as k $$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.api_keys', '42501', null, 'anon reads no keys');
select throws_ok($$insert into public.api_keys (name, permissions) values ('x', '["skills:read"]')$$, '42501', null, 'anon makes no key');
select throws_ok($$select public.create_api_key('x', '["skills:read"]')$$, '42501', null, 'anon cannot call create_api_key');
select throws_ok($$select public.rotate_api_key(gen_random_uuid())$$, '42501', null, 'anon cannot call rotate_api_key');
select throws_ok($$select public.revoke_api_key(gen_random_uuid())$$, '42501', null, 'anon cannot call revoke_api_key');

select tests.act_as('ada', tests.org('ada'));
select (public.create_api_key('service', '["skills:read", "skills:execute"]')).secret as secret \gset
select (tests.key('service')).id as service \gset
select tests.act_as_superuser();
insert into kijko.api_key_uses (api_key_id, last_used_at) values (:'service', kijko.now());

select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.create_api_key('x', '["skills:read"]')$$, 'not_a_member', 'a non-member cannot make a key');
select tests.act_as('bob');
select is_empty('select 1 from public.api_keys', 'a non-member sees no keys');
select throws_ok($$insert into public.api_keys (org_id, name, permissions) values (tests.org('ada'), 'x', '["skills:read"]')$$, '42501', null, 'a non-member inserts no key');
select tests.refuses(format('select public.rotate_api_key(%L)', :'service'), 'not_found', 'a non-member cannot rotate');
select tests.refuses(format('select public.revoke_api_key(%L)', :'service'), 'not_found', 'a non-member cannot revoke');
select tests.refuses('select public.revoke_api_key(gen_random_uuid())', 'not_found', 'a key that does not exist gives the same refusal');
select tests.refuses('select public.revoke_api_key(null)', 'not_found', 'null is no key');
select is(tests.changed(format('update public.api_keys set name = %L where id = %L', 'mine', :'service')), 0::bigint, 'a non-member renames nothing');
select is(tests.changed(format('delete from public.api_keys where id = %L', :'service')), 0::bigint, 'a non-member deletes nothing');
select throws_ok(
  format($$insert into public.api_keys (id, org_id, name, permissions) values (%L, tests.org('bob'), 'x', '["skills:read"]')$$, :'service'), '23505', null,
  'an id is unique over all tenants'
);
select is(public.last_used_at(jsonb_populate_record(null::public.api_keys, jsonb_build_object('id', :'service'))), null, 'a non-member learns no last use from a forged row');

-- ---- what the maker gets
select tests.act_as('ada', tests.org('ada'));
select is((select k.last_used_at from public.api_keys as k), kijko.now(), 'who lists keys sees their last use');
select matches(:'secret'::text, '^kjk_live_[0-9A-Za-z]{38}$', 'a key has the documented form');
select ok(starts_with(:'secret', (tests.key('service')).prefix) and char_length((tests.key('service')).prefix) = 15, 'its prefix is the beginning');
select ok(tests.opens(:'service', :'secret'), 'its hash is stored');
select results_eq(
  $$select k.org_id, k.kind, k.permissions, k.user_id, k.rate_limit, k.monthly_quota, k.daily_quota, k.origins, k.created_by, k.created_by_key from public.api_keys as k$$,
  $$values (tests.org('ada'), 'service', '["skills:read", "skills:execute"]'::jsonb, tests.id('ada'), 60, 1000000::bigint, null::bigint, '{}'::text[], tests.id('ada'), null::uuid)$$,
  'a key has the defaults'
);
select results_eq(
  $$select k.org_id, k.user_id, k.kind::text collate "default", k.permissions, k.rate_limit from tests.stored((tests.key('service')).id) as k$$,
  $$values (tests.org('ada'), null::uuid, 'service', '{skills:read,skills:execute}'::text[], 60::bigint)$$, 'the extension has a copy'
);
select is((select k.secret from public.api_keys as k), :'secret'::text, 'the computed column has the key in the transaction that made it');
select throws_ok('select * from kijko.api_key_secrets', '42501', null, 'an owner reads no hashes');
select throws_ok('select * from kijko.api_keys', '42501', null, 'an owner does not read the extension''s table');
select throws_ok(format('select kijko.issued_api_key(%L)', :'service'), '42501', null, 'an owner does not call the extension''s functions');
select throws_ok(format('select kijko.generate_api_key(%L)', :'service'), '42501', null, 'an owner generates no key past the table');
select throws_ok(format('select kijko.assume_api_key(%L)', :'service'), '42501', null, 'an owner becomes no key without its secret');

select tests.inserted() as inserted \gset
select ok(tests.opens((tests.key('inserted')).id, :'inserted'), 'an insert returns the key in the computed column');
select is((tests.key('inserted')).permissions, '["*:read"]', '{"read": true, "write": false} means *:read');
select is((public.create_api_key('both', '{"write": true, "read": true}')).permissions, '["*:read", "*:write"]', '{"read": true, "write": true} means both');
select is((public.create_api_key('twice', '["skills:read", "habits:read", "skills:read"]')).permissions, '["skills:read", "habits:read"]', 'a repeated permission is stored once');

-- ---- who makes which
select tests.act_as('vic', tests.org('ada'));
select is_empty('select 1 from public.api_keys', 'a viewer sees no keys');
select tests.refuses($$select public.create_api_key('x', '["skills:read"]')$$, 'permission_denied', 'a viewer makes no service key');
select tests.refuses($$select public.create_api_key('x', '["skills:read"]', 'personal')$$, 'permission_denied', 'a viewer makes no personal key');
select throws_ok($$insert into public.api_keys (name, permissions, kind) values ('x', '["skills:read"]', 'personal')$$, '42501', null, 'a viewer inserts no key');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.create_api_key('x', '["skills:read"]')$$, 'permission_denied', 'a member makes no service key');
select tests.refuses($$select public.create_api_key('x', '["events:ingest"]', 'publishable', origins => '{https://a.example}')$$, 'permission_denied', 'a member makes no publishable key');
select throws_ok($$insert into public.api_keys (name, permissions) values ('x', '["skills:read"]')$$, '42501', null, 'a member inserts no service key');
select lives_ok($$select public.create_api_key('mem personal', '["skills:read", "api_keys:write_own"]', 'personal')$$, 'a member makes a personal key');
select is((tests.key('mem personal')).user_id, tests.id('mem'), 'a personal key is its maker''s own');
select throws_ok($$insert into public.api_keys (name, permissions, kind, user_id) values ('x', '["skills:read"]', 'personal', tests.id('ada'))$$, '42501', null, 'nobody chooses the owner');
select is(tests.names(), 'mem personal', 'a member sees their personal keys only');
select tests.act_as('pat', tests.org('ada'));
select is_empty('select 1 from public.api_keys', 'another member does not see them');
select tests.refuses(format('select public.revoke_api_key(%L)', (tests.key('mem personal')).id), 'not_found', 'another member cannot revoke them');
select tests.refuses(format('select public.rotate_api_key(%L)', (tests.key('mem personal')).id), 'not_found', 'another member cannot rotate them');
select is(tests.changed($$update public.api_keys set name = 'pat''s'$$), 0::bigint, 'another member cannot rename them');
select is(tests.changed('delete from public.api_keys'), 0::bigint, 'another member cannot delete them');
select tests.act_as('adm', tests.org('ada'));
select is(tests.names(), 'both inserted mem personal service twice', 'an admin sees all keys');
select lives_ok($$select public.create_api_key('adm service', '["skills:read", "api_keys:write", "api_keys:read"]')$$, 'an admin makes a service key');
select lives_ok($$select public.create_api_key('adm personal', '["skills:read"]', 'personal')$$, 'an admin makes a personal key');
select is((tests.key('adm personal')).user_id, tests.id('adm'), 'which is the admin''s own');
select tests.refuses(format('select public.rotate_api_key(%L)', (tests.key('mem personal')).id), 'permission_denied', 'an admin cannot rotate a personal key of another');
select is((public.revoke_api_key((tests.key('mem personal')).id)).name, 'mem personal', 'an admin revokes a personal key of another');
select isnt((tests.stored((tests.key('mem personal')).id)).revoked_at, null, 'which the extension knows at once');
select tests.act_as_service();
select lives_ok($$insert into public.api_keys (org_id, name, permissions) values (tests.org('bob'), 'office', '["skills:read"]')$$, 'the back office makes keys');
select tests.refuses($$insert into public.api_keys (org_id, name, permissions, kind) values (tests.org('bob'), 'x', '["skills:read"]', 'personal')$$, 'permission_denied', 'but no personal ones');

-- ---- never more than the maker
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.create_api_key(%L, %L)', 'x', jsonb_build_array(p)), 'permission_denied', format('an admin grants no %s', p))
from unnest(array['billing:write', 'organization:delete', 'repositories:write']) as p;
select tests.refuses($$insert into public.api_keys (name, permissions) values ('x', '["skills:read", "billing:write"]')$$, 'permission_denied', 'nor by insert');
select lives_ok($$select public.create_api_key('adm wild', '["*:read", "*:write"]')$$, 'a wildcard means those that the maker holds');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.create_api_key(%L, %L, %L)', 'x', jsonb_build_array(p), 'personal'), 'permission_denied', format('a member grants no %s', p))
from unnest(array['members:write', 'api_keys:read', 'api_keys:write', 'projects:manage']) as p;
select tests.refuses(format('select public.rotate_api_key(%L)', :'service'), 'not_found', 'a member rotates no service key');

-- ---- bad input is refused when it is stored, and changes nothing
select tests.act_as('ada', tests.org('ada'));
select count(*) as keys from public.api_keys \gset
select tests.refuses(format('select public.create_api_key(%s)', bad.arguments), 'invalid_input', bad.fault)
from (
  values
    ($$null, '["skills:read"]'$$, 'no name'),
    ($$'  ', '["skills:read"]'$$, 'a blank name'),
    ($$repeat('x', 101), '["skills:read"]'$$, 'a long name'),
    ($$E'a\nb', '["skills:read"]'$$, 'a name of two lines'),
    ($$'x', null$$, 'no permissions'),
    ($$'x', 'null'$$, 'null permissions'),
    ($$'x', '[]'$$, 'empty permissions'),
    ($$'x', '{}'$$, 'an object without a permission'),
    ($$'x', '{"read": false, "write": false}'$$, 'an object that grants nothing'),
    ($$'x', '{"read": "yes"}'$$, 'an object with a text'),
    ($$'x', '{"read": true, "admin": true}'$$, 'an object with another action'),
    ($$'x', '"skills:read"'$$, 'a text'),
    ($$'x', '7'$$, 'a number'),
    ($$'x', '[7]'$$, 'an array of numbers'),
    ($$'x', '[null]'$$, 'an array of nulls'),
    ($$'x', '[["skills:read"]]'$$, 'nested arrays'),
    ($$'x', '["skills:fly"]'$$, 'an unknown permission'),
    ($$'x', '["Skills:read"]'$$, 'another case'),
    ($$'x', '["skills"]'$$, 'a resource'),
    ($$'x', '["*"]'$$, 'a bare asterisk'),
    ($$'x', '["*:*"]'$$, 'two asterisks'),
    ($$'x', '["skills:*"]'$$, 'an asterisk for the action'),
    ($$'x', '["*:execute"]'$$, 'an asterisk with another action'),
    ($$'x', '["skills:read", "*:manage"]'$$, 'one bad entry of two'),
    ($$'x', (select jsonb_agg('a' || n || ':read') from generate_series(1, 101) as n)$$, 'too many permissions'),
    ($$'x', '["skills:read"]', 'magic'$$, 'an unknown kind'),
    ($$'x', '["skills:read"]', null$$, 'no kind'),
    ($$'x', '["skills:read"]', rate_limit => 0$$, 'a rate of 0'),
    ($$'x', '["skills:read"]', rate_limit => -1$$, 'a negative rate'),
    ($$'x', '["skills:read"]', rate_limit => 60001$$, 'an absurd rate'),
    ($$'x', '["skills:read"]', monthly_quota => 0$$, 'a quota of 0'),
    ($$'x', '["skills:read"]', monthly_quota => -5$$, 'a negative quota'),
    ($$'x', '["skills:read"]', monthly_quota => 9223372036854775807$$, 'an absurd quota'),
    ($$'x', '["skills:read"]', daily_quota => 10$$, 'a daily quota of a service key'),
    ($$'x', '["skills:read"]', origins => '{https://a.example}'$$, 'origins of a service key'),
    ($$'x', '["skills:read"]', expires_at => kijko.now()$$, 'an expiry now'),
    ($$'x', '["skills:read"]', expires_at => kijko.now() - interval '1 day'$$, 'an expiry in the past'),
    ($$'x', '["skills:read"]', expires_at => 'infinity'$$, 'an infinite expiry'),
    ($$'x', '["skills:read"]', expires_at => '-infinity'$$, 'an expiry before all time'),
    ($$'x', '["skills:read"]', 'publishable', origins => '{https://a.example}'$$, 'a publishable key that reads'),
    ($$'x', '["events:ingest", "skills:read"]', 'publishable', origins => '{https://a.example}'$$, 'a publishable key with more'),
    ($$'x', '["*:read"]', 'publishable', origins => '{https://a.example}'$$, 'a publishable key with a wildcard'),
    ($$'x', '["events:ingest"]', 'publishable'$$, 'a publishable key without origins'),
    ($$'x', '["events:ingest"]', 'publishable', origins => '{}'$$, 'a publishable key with no origin'),
    ($$'x', '["events:ingest"]', 'publishable', origins => array(select 'https://' || n || '.example' from generate_series(1, 21) as n)$$, 'too many origins'),
    ($$'x', '["events:ingest"]', 'publishable', daily_quota => 0, origins => '{https://a.example}'$$, 'a daily quota of 0')
) as bad (arguments, fault);
select tests.refuses(
  format($$select public.create_api_key('x', '["events:ingest"]', 'publishable', origins => array['https://good.example', %L])$$, origin), 'invalid_input',
  format('the origin %s', coalesce(to_json(origin)::text, 'null'))
)
from unnest(array[
  null, '', '*', 'null', 'a.example', 'https://', 'https://*.example', 'https://a.example/', 'https://a.example/x', 'https://A.example', 'ftp://a.example',
  'https://a.example:443', 'http://a.example:80', 'https://a.example:0', 'https://a.example:65536', 'https://u@a.example', 'https://a .example', 'https://-a.example',
  E'https://a.example\n', 'https://a..example', 'https://' || repeat('a', 300) || '.example'
]) as origin;
select is((select count(*) from public.api_keys), :keys::bigint, 'nothing was stored');
select tests.refuses($$insert into public.api_keys (name, permissions) values ('x', '["skills:fly"]')$$, 'invalid_input', 'an insert is refused in the same way');
select tests.refuses($$insert into public.api_keys (name, permissions, expires_at) values ('x', '["skills:read"]', '2020-01-01')$$, 'invalid_input', 'also for the past');
select lives_ok(
  $$select public.create_api_key('browser', '["events:ingest", "flags:evaluate"]', 'publishable', origins => '{https://a.example,http://localhost:3000}')$$,
  'a publishable key with origins is made'
);
select is(((tests.key('browser')).daily_quota, (tests.key('browser')).monthly_quota)::text, '(10000,)', 'it has a daily quota and no monthly one');

-- ---- what may change is checked again
select lives_ok($$update public.api_keys set name = 'renamed', rate_limit = 5, monthly_quota = 7, expires_at = kijko.now() + interval '1 day' where name = 'twice'$$, 'name, limits and expiry change');
select is(
  (select row(k.rate_limit, k.monthly_quota, k.expires_at)::text from tests.stored((tests.key('renamed')).id) as k),
  row(5, 7, (tests.key('renamed')).expires_at)::text, 'and the extension follows'
);
select tests.refuses(format('update public.api_keys set %s where name = %L', bad.change, 'renamed'), bad.code, bad.change)
from (
  values
    ($$name = ' '$$, 'invalid_input'), ('rate_limit = 0', 'invalid_input'), ('rate_limit = null', 'invalid_input'), ('monthly_quota = -1', 'invalid_input'),
    ('monthly_quota = null', 'invalid_input'), ($$expires_at = '2020-01-01'$$, 'invalid_input'), ($$permissions = '[]'$$, 'invalid_input'),
    ($$permissions = '["skills:fly"]'$$, 'invalid_input'), ($$permissions = '["skills:read", "habits:read", "jobs:read"]'$$, 'permission_denied'),
    ($$permissions = '["*:read"]'$$, 'permission_denied'), ($$kind = 'personal'$$, 'permission_denied')
) as bad (change, code);
select throws_ok($$update public.api_keys set prefix = 'kjk_live_x' where name = 'renamed'$$, '42501', null, 'nobody writes the prefix');
select throws_ok($$update public.api_keys set revoked_at = null where name = 'renamed'$$, '42501', null, 'nobody writes revoked_at');
select throws_ok($$update public.api_keys set user_id = tests.id('mem') where name = 'renamed'$$, '42501', null, 'nobody writes user_id');
select tests.refuses($$update public.api_keys set id = gen_random_uuid() where name = 'renamed'$$, 'permission_denied', 'the id never changes');
select tests.refuses($$update public.api_keys set org_id = tests.org('bob') where name = 'renamed'$$, 'permission_denied', 'the organization never changes');
select lives_ok($$update public.api_keys set permissions = '["habits:read"]' where name = 'renamed'$$, 'permissions are narrowed');
select is((tests.stored((tests.key('renamed')).id)).permissions, '{habits:read}', 'and the extension follows');
select lives_ok($$update public.api_keys set permissions = '["skills:read"]' where name = 'inserted'$$, 'a wildcard is narrowed to one of its permissions');
select tests.travel('2 days');
select lives_ok($$update public.api_keys set name = 'expired' where name = 'renamed'$$, 'an expired key is renamed');
select tests.refuses(format('select public.rotate_api_key(%L)', (tests.key('expired')).id), 'conflict', 'and not rotated');
select ok(not tests.act_as_key((tests.key('expired')).id), 'an expired key is no caller');
select tests.act_as('ada', tests.org('ada'));
select tests.travel('0');

-- ---- upserts
select matches(tests.upsert('00000000-0000-4000-8000-00000000aaaa', 'upserted'), '^kjk_live_', 'an upsert that inserts returns the key');
select (tests.key('upserted')).prefix as prefix \gset
select is(tests.upsert('00000000-0000-4000-8000-00000000aaaa', 'upserted again'), 'none', 'an upsert that updates returns no key');
select is(((tests.key('upserted again')).prefix, tests.secrets('00000000-0000-4000-8000-00000000aaaa'))::text, format('(%s,1)', :'prefix'), 'and changes no key');
select lives_ok(
  $$insert into public.api_keys (org_id, id, name, permissions) values (tests.org('ada'), '00000000-0000-4000-8000-00000000aaaa', 'third', '["skills:read"]')
    on conflict (org_id, id) do update set name = excluded.name$$, 'an upsert by the other unique key works'
);

-- ---- rotate and revoke
select (public.rotate_api_key(:'service', '1 hour')).secret as rotated \gset
select isnt(:'rotated'::text, :'secret', 'rotation makes another key');
select ok(starts_with(:'rotated', (tests.key('service')).prefix), 'the prefix is that of the new key');
select ok(tests.opens(:'service', :'rotated') and tests.opens(:'service', :'secret'), 'both work during the overlap');
select tests.travel('61 minutes');
select ok(tests.opens(:'service', :'rotated') and not tests.opens(:'service', :'secret'), 'afterwards only the new one');
select tests.travel('0');
select (public.rotate_api_key(:'service')).secret as third \gset
select ok(tests.opens(:'service', :'third') and not tests.opens(:'service', :'rotated') and not tests.opens(:'service', :'secret'), 'without overlap former keys end at once');
select tests.refuses(format('select public.rotate_api_key(%L, %L)', :'service', bad), 'invalid_input', format('an overlap of %s is refused', bad))
from unnest(array['-1 second', '31 days', '1 year']) as bad;
select tests.refuses(format('select public.rotate_api_key(%L, null)', :'service'), 'invalid_input', 'an overlap of null is refused');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.rotate_api_key(%L)', (tests.key('both')).id), 'permission_denied', 'an admin does not get the key of an owner that may do more');
select lives_ok(format('select public.rotate_api_key(%L)', :'service'), 'an admin rotates an owner''s key that may do less');
select is((tests.key('service')).user_id, tests.id('adm'), 'which is bounded by the admin from then on');
select revoked_at is not null as revoked, revoked_at as at from public.revoke_api_key(:'service') \gset
select is(:'revoked'::text, 't', 'an admin revokes it');
select is((public.revoke_api_key(:'service')).revoked_at, :'at'::timestamptz, 'again, it is the same row');
select tests.refuses(format('select public.rotate_api_key(%L, %L)', :'service', '1 hour'), 'conflict', 'a revoked key is not rotated');
select ok(not tests.act_as_key(:'service'), 'a revoked key is no caller');
select tests.act_as_service();
select tests.refuses(format('update public.api_keys set revoked_at = null where id = %L', :'service'), 'conflict', 'the back office does not bring it back');
select tests.refuses(format('update public.api_keys set prefix = %L where id = %L', 'kjk_live_zzzzzz', :'service'), 'permission_denied', 'nor change its prefix');

-- ---- deletion and the gauge
select tests.act_as('ada', tests.org('ada'));
select is(tests.used(tests.org('ada'), 'api_keys'), (select count(*) from public.api_keys), 'the gauge counts the keys');
select is(tests.changed($$delete from public.api_keys where name = 'third'$$), 1::bigint, 'an owner deletes a key');
select is((tests.stored('00000000-0000-4000-8000-00000000aaaa')).id, null, 'the extension forgets it');
select is(tests.secrets('00000000-0000-4000-8000-00000000aaaa'), 0::bigint, 'with its hash');
select ok(not tests.act_as_key('00000000-0000-4000-8000-00000000aaaa'), 'a deleted key is no caller');
select tests.act_as_superuser();
select is(tests.used(tests.org('ada'), 'api_keys'), (select count(*) from public.api_keys as k where k.org_id = tests.org('ada')), 'the gauge follows');
select results_eq(
  $$select l.plan, l.amount from public.plan_limits as l where l.meter = 'api_keys' order by l.amount nulls last$$,
  $$values ('FREE', 3::bigint), ('PRO', 50), ('TEAMS', 500), ('ENTERPRISE', null)$$, 'each plan has its number'
);
update public.subscriptions set plan = 'FREE' where org_id = tests.org('bob');
select tests.act_as('bob');
select lives_ok($$select public.create_api_key(n, '["skills:read"]') from unnest(array['one', 'two']) as n$$, 'FREE has three keys');
select tests.refuses($$select public.create_api_key('four', '["skills:read"]')$$, 'quota_exceeded', 'and no fourth');
select tests.act_as_superuser();
select is(private.api_keys_origin_fault('{https://a.example:65535,http://a.example:1}'), null, 'the highest and the lowest port are ports');
select isnt(private.api_keys_origin_fault(array[o]), null, 'no port: ' || o) from unnest('{https://a.example:65536,http://a.example:0}'::text[]) as o;
insert into public.api_keys (org_id, name, permissions) values (tests.org('ada'), 'office', '["skills:read"]');
delete from public.organizations where id = tests.org('ada');
select is((select count(*) from kijko.api_keys as k where k.org_id = tests.id('ada') or k.id = :'service'), 0::bigint, 'with an organization the extension forgets its keys');

select * from finish();
rollback;
