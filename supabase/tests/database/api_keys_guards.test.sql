-- API keys: what a stolen session of one factor and a read-only key must not do, and lists that are refused before they are read.
begin;
\ir 000_helpers.sql
select plan(34);

select tests.sign_up(u) from unnest(array['ada', 'eve', 'mem']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member');
insert into auth.sessions (id, user_id, created_at, updated_at, aal)
select tests.id(u), tests.id(u), kijko.now(), kijko.now(), 'aal1' from unnest(array['ada', 'eve', 'mem']) as u;
create function tests.act_with(who text, aal text) returns void language sql as $$
  select tests.act('authenticated', tests.token('authenticated') || jsonb_build_object(
    'aud', 'authenticated', 'sub', tests.id(who), 'session_id', tests.id(who), 'aal', aal
  ), tests.org('ada'))
$$;
create function tests.give_factor(who text, status auth.factor_status) returns void language sql security definer as $$
  insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at) values (tests.id('factor ' || who), tests.id(who), 'totp', status, now(), now())
  on conflict (id) do update set status = excluded.status
$$;
create function tests.long(n integer, entry text default 'skills:read') returns jsonb language sql immutable as $$
  select to_jsonb(array_fill(entry, array[n]))
$$;
create function tests.scans(statement text) returns bigint language plpgsql as $$
declare
  before constant bigint := pg_stat_get_xact_numscans('private.permissions'::regclass) + (
    select sum(pg_stat_get_xact_numscans(i.indexrelid)) from pg_index as i where i.indrelid = 'private.permissions'::regclass);
begin
  perform tests.refusal(statement);
  return pg_stat_get_xact_numscans('private.permissions'::regclass) + (
    select sum(pg_stat_get_xact_numscans(i.indexrelid)) from pg_index as i where i.indrelid = 'private.permissions'::regclass) - before;
end
$$;

-- ---- without a second factor nothing changes
select tests.act_with('ada', 'aal1');
select lives_ok($$select public.create_api_key('one', '["skills:read"]')$$, 'a user without a second factor makes a key');
select (public.create_api_key('two', '["skills:read"]')).id as two \gset
select tests.act_with('mem', 'aal1');
select (public.create_api_key('mine', '["skills:read"]', 'personal')).id as mine \gset

-- ---- a session of one factor of a user who has two
select tests.act_as_superuser();
select tests.give_factor('ada', 'unverified');
select tests.act_with('ada', 'aal1');
select lives_ok($$select public.create_api_key('three', '["skills:read"]')$$, 'a factor that was never shown to work does not count');
select tests.act_as_superuser();
select tests.give_factor('ada', 'verified'), tests.give_factor('mem', 'verified');
select tests.act_with('eve', 'aal1');
select tests.refuses(format('select public.rotate_api_key(%L)', :'two'), 'not_found', 'a non-member is refused as before');
select tests.act_with('ada', 'aal1');
select tests.refuses($$select public.create_api_key('four', '["skills:read"]')$$, 'insufficient_aal', 'makes no key');
select tests.refuses($$insert into public.api_keys (name, permissions) values ('four', '["skills:read"]')$$, 'insufficient_aal', 'nor by an insert');
select tests.refuses($$insert into public.api_keys (id, name, permissions) values (tests.id('up'), 'four', '["skills:read"]') on conflict (id) do nothing$$, 'insufficient_aal', 'nor by an upsert');
select tests.refuses(format('select public.rotate_api_key(%L)', :'two'), 'insufficient_aal', 'gets none by a rotation');
select tests.act_with('mem', 'aal1');
select tests.refuses($$select public.create_api_key('four', '["skills:read"]', 'personal')$$, 'insufficient_aal', 'makes no personal one');
select tests.refuses(format('select public.rotate_api_key(%L)', :'mine'), 'insufficient_aal', 'and gets no personal one by a rotation');
select tests.act_with('ada', 'aal2');
select tests.refuses($$select public.create_api_key('four', '["skills:read"]')$$, 'insufficient_aal', 'a token does not say more than its session');
select tests.act_as_superuser();
update auth.sessions set aal = 'aal2' where user_id = tests.id('ada');
select tests.act_with('ada', 'aal1');
select tests.refuses($$select public.create_api_key('four', '["skills:read"]')$$, 'insufficient_aal', 'nor a session more than the token');
select is(tests.changed(format('update public.api_keys set name = %L where id = %L', 'renamed', :'two')), 1::bigint, 'it may rename a key');
select lives_ok(format('select public.revoke_api_key(%L)', :'two'), 'and revoke one: that takes nothing');
select tests.act_with('ada', 'aal2');
select (public.create_api_key('four', '["api_keys:read", "api_keys:write", "skills:read"]')).id as four \gset
select ok(:'four' is not null, 'with the second factor a key is made');
select lives_ok(format('select public.rotate_api_key(%L)', :'four'), 'and rotated');
select isnt(tests.by_key(:'four', $$select (public.create_api_key('made', '["skills:read"]')).id$$), 'KJ405', 'a key has no factors: what it makes is bounded by what it holds');

-- ---- a key that only reads
select (public.create_api_key('reads keys', '["api_keys:read", "skills:read"]')).id as reads \gset
select is(tests.by_key(:'reads', format('select public.rotate_api_key(%L)', :'four')), '42501', 'a key that only reads rotates none');
select is(tests.by_key(:'reads', format('select public.revoke_api_key(%L)', :'four')), '42501', 'and revokes none');
select is(tests.by_key(:'reads', format('select public.revoke_api_key(%L)', gen_random_uuid())), 'P0002', 'an unknown id is not_found');
select is(tests.by_key(:'reads', $$select public.create_api_key('x', '["skills:read"]')$$), '42501', 'and makes none');

-- ---- lists that are too long are refused before they are read
select tests.act_with('ada', 'aal2');
select lives_ok($$select public.create_api_key('100', tests.long(100))$$, '100 entries are read');
select is((select k.permissions from public.api_keys as k where k.name = '100'), '["skills:read"]', 'and stored without repetitions');
select tests.refuses($$select public.create_api_key('101', tests.long(101))$$, 'invalid_input', '101 are not, repetitions or not');
select tests.refuses($$select public.create_api_key('large', to_jsonb(array[repeat('x', 40000)]))$$, 'invalid_input', 'nor 40,000 characters');
select tests.refuses($$select public.create_api_key('object', (select jsonb_object_agg('k' || n, true) from generate_series(1, 9000) as n))$$, 'invalid_input', 'nor an object with so many keys');
-- None of the entries of a long list is looked at: each would be a scan of the catalogue.
select ok(tests.scans($$select public.create_api_key('long', tests.long(20000, 'no:such'))$$) < 10, 'no entry of a long list is looked up');
select ok(tests.scans($$insert into public.custom_roles (name, permissions) values ('long', array_fill('skills:read'::text, array[20000]))$$) < 10, 'nor of a role');
select tests.refuses($$insert into public.custom_roles (name, permissions) values ('long', array_fill('skills:read'::text, array[201]))$$, 'invalid_input', 'a role holds 200 entries, repetitions or not');
select lives_ok($$insert into public.custom_roles (name, permissions) values ('short', array_fill('skills:read'::text, array[200]))$$, 'as many are read');

-- ---- what is just within a limit
select lives_ok($$select public.create_api_key(repeat('n', 100), '["skills:read"]')$$, 'a name of 100 characters');
select lives_ok(
  $$select public.create_api_key('twenty', '["events:ingest"]', 'publishable', origins => array(select 'https://' || n || '.example' from generate_series(1, 20) as n))$$, '20 origins'
);
select lives_ok($$select public.create_api_key('most', '["skills:read"]', rate_limit => 60000, monthly_quota => 1000000000000)$$, 'the highest limits');
select tests.act_as_superuser();
select is(private.api_keys_origin_fault(array['https://' || repeat('a', 247)]), null, 'an origin of 255 characters');
select isnt(private.api_keys_origin_fault(array['https://' || repeat('a', 248)]), null, 'and not one more');

select * from finish();
rollback;
