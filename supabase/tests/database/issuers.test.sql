-- Issuers: who may enrol them, and what their users may be.
begin;
\ir 000_helpers.sql
select plan(29);

select tests.sign_up('ada'), tests.sign_up('eve'), tests.sign_up('bob');
select tests.join_org('bob', tests.org('ada'), 'admin');

-- ---- who may do what: the unauthenticated and the non-member first
select tests.act_as_anon();
select throws_ok($$select public.list_issuers()$$, '42501', null, 'anon lists none');
select throws_ok($$select public.enroll_issuer('https://login.example.com', '{kijko}')$$, '42501', null, 'anon enrols none');
select throws_ok($$select public.provision()$$, '42501', null, 'anon provisions nobody');
select throws_ok($$select * from kijko.issuers$$, '42501', null, 'the table of the extension is not for callers');
select tests.act_as('ada');
select (public.enroll_issuer('https://login.example.com/realms/one', '{kijko}', '{realm_access.roles}', '{"a": "admin"}', 'viewer')).id as issuer \gset
select is((select count(*) from public.list_issuers()), 1::bigint, 'an owner enrols');
select is((select status from public.list_issuers()), 'pending', 'it is pending without keys');
select tests.act_as('eve');
select is((select count(*) from public.list_issuers()), 0::bigint, 'another organization does not see it');
select throws_ok(format('select public.update_issuer(%L, ''{}'')', :'issuer'), 'P0002', null, 'or change it');
select throws_ok(format('select public.remove_issuer(%L)', :'issuer'), 'P0002', null, 'or remove it');
select lives_ok($$select public.enroll_issuer('https://login.example.com/realms/one', '{kijko}')$$, 'or is stopped from enrolling the same one');
select tests.act_as('bob', tests.org('ada'));
select throws_ok(format('select public.update_issuer(%L, ''{}'')', :'issuer'), '42501', null, 'an admin changes none');
select is((select count(*) from public.list_issuers()), 1::bigint, 'an admin sees it');

-- ---- an own user is no subject
select tests.act_as('ada');
select throws_ok($$select public.provision()$$, '42501', null, 'a user of our login is not provisioned');
select throws_ok(format($q$select public.update_issuer(%L, '{"url": "https://other.example.com"}')$q$, :'issuer'), '22000', null, 'the URL stays');
select tests.refuses(format($q$select public.update_issuer(%L, '{"role_map": {"a": 1e131071}}')$q$, :'issuer'), 'invalid_input', 'no value is long as text');
select is(
  (public.update_issuer(:'issuer', '{"default_role": null, "email_domains": ["example.com"]}')).email_domains, '{example.com}'::text[], 'settings change'
);
select tests.act_as_superuser();
select is(
  (select e.settings ->> 'default_role' from private.issuer_enrolments as e where e.id = :'issuer'), null, 'the enrolment has the settings of now'
);
select ok((select i.request_id is not null from kijko.issuers as i where i.id = :'issuer'), 'the outbox was asked for the discovery document');

-- ---- members by an issuer
select tests.sign_up('sso');
delete from public.organizations where personal_for = tests.id('sso');
select kijko.put_issuer_identity(:'issuer', 'a-subject', tests.id('sso'));
select throws_ok(
  format('insert into public.memberships (org_id, user_id) values (%L, %L)', tests.org('eve'), tests.id('sso')), '42501', null, 'belong to no other organization'
);
insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('sso'), 'member');
select throws_ok(
  format('update public.memberships set role = ''viewer'' where user_id = %L', tests.id('sso')), 'KJ409', null, 'have the role that the issuer gives'
);
select private.issuers_set_role(tests.id('sso'), tests.org('ada'), 'admin');
select is((select role from public.memberships where user_id = tests.id('sso')), 'admin', 'which a token sets');
select throws_ok(
  format('update public.memberships set role = ''viewer'' where user_id = %L', tests.id('sso')), 'KJ409', null, 'and nobody else afterwards'
);
select throws_ok(
  format('select kijko.put_issuer_identity(%L, ''a-subject'', %L)', :'issuer', tests.id('bob')), '23505', null, 'a subject is one user'
);
select throws_ok(
  format('select kijko.put_issuer_identity(%L, ''another'', %L)', :'issuer', tests.id('sso')), '23505', null, 'and a user one subject'
);
delete from auth.users where id = tests.id('sso');
select is((select count(*) from kijko.issuer_identities where issuer_id = :'issuer'), 0::bigint, 'an identity ends with its user');

-- ---- the end
select tests.sign_up('sso2');
select kijko.put_issuer_identity(:'issuer', 'second', tests.id('sso2'));
select tests.act_as('ada');
select lives_ok(format('select public.remove_issuer(%L)', :'issuer'), 'an owner removes it');
select tests.act_as_superuser();
select is(
  (select count(*) from auth.users where id = tests.id('sso2')) + (select count(*) from kijko.issuers where id = :'issuer'), 0::bigint, 'with its users'
);
delete from public.organizations where id = tests.org('eve');
select is((select count(*) from kijko.issuers as i where i.url = 'https://login.example.com/realms/one'), 0::bigint, 'an organization is deleted with its issuers');

-- ---- open sockets are asked again when tokens of an issuer may no longer count
select is(
  (select string_agg(a.attname, ' ' order by a.attname) from pg_trigger as t join pg_attribute as a on a.attrelid = t.tgrelid and a.attnum = any (t.tgattr)
   where t.tgrelid = 'kijko.issuers'::regclass and t.tgname = 'notify_changed'),
  'audiences default_role email_domains enabled jwks org_claim org_value owns_roles role_claims role_map', 'every setting of an issuer and its keys are told'
);

select * from finish();
rollback;
