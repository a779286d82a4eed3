begin;
\ir 000_helpers.sql
select plan(28);

select tests.sign_up('ada'), tests.sign_up('eve'), tests.sign_up('mem'), tests.sign_up('adm');
select tests.act_as('ada');
select (public.create_organization('The Lab')).name \gset
select tests.act_as_superuser();
-- Three people are what FREE has room for.
update public.subscriptions set plan = 'PRO' where org_id = tests.lab();
select tests.join_org('mem', tests.lab(), 'viewer'), tests.join_org('adm', tests.lab(), 'admin');

-- ---- the last owner
select tests.act_as('ada');
select tests.refuses($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$, 'conflict', 'the last owner cannot leave');
select tests.refuses($$update public.memberships set role = 'admin' where org_id = tests.lab() and user_id = tests.id('ada')$$, 'conflict', 'the last owner cannot change their own role');
select is(tests.changed($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('adm')$$), 1::bigint, 'an owner can make another member an owner');
select is((public.set_active_organization(tests.lab())).active_org_id, tests.lab(), 'set_active_organization() returns the chosen organization');
select is((select p.active_org_id from public.profiles as p where p.id = tests.id('ada')), tests.lab(), 'the profile shows the chosen organization');
select is(public.org_id(), tests.lab(), 'org_id() is the chosen organization');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$), 1::bigint, 'one of two owners can leave');
select is(public.org_id(), tests.org('ada'), 'after leaving the active organization, the personal one is active');
select is_empty($$select 1 from public.organizations where id = tests.lab()$$, 'a former member does not see the organization');

-- ---- handing over and leaving
select tests.act_as_anon();
select throws_ok($$select public.transfer_ownership(tests.lab(), tests.id('mem'))$$, '42501', null, 'anon cannot transfer ownership');
select throws_ok($$select public.leave_organization(tests.lab())$$, '42501', null, 'anon cannot leave an organization');
select tests.act_as('eve');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('eve'))$$, 'not_a_member', 'a non-member cannot transfer ownership');
select tests.refuses($$select public.transfer_ownership(gen_random_uuid(), tests.id('eve'))$$, 'not_a_member', 'an organization that does not exist gives the same refusal');
select tests.refuses($$select public.leave_organization(tests.lab())$$, 'not_a_member', 'a non-member cannot leave');
select tests.refuses($$select public.leave_organization(null)$$, 'not_a_member', 'leaving no organization is refused');
select tests.act_as('mem');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('mem'))$$, 'permission_denied', 'a member cannot make themselves the owner');
select tests.act_as('adm');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('adm'))$$, 'conflict', 'an owner cannot transfer ownership to themselves');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('eve'))$$, 'not_found', 'ownership cannot be transferred to a non-member');
select tests.refuses($$select public.transfer_ownership(tests.lab(), null)$$, 'not_found', 'ownership cannot be transferred to null');
select tests.refuses($$select public.leave_organization(tests.lab())$$, 'conflict', 'the last owner cannot leave');
select is((public.transfer_ownership(tests.lab(), tests.id('mem'))).role, 'owner', 'the owner can transfer ownership to a member');
select is(public.has_role(tests.lab(), 'admin') and not public.has_role(tests.lab(), 'owner'), true, 'the former owner is an admin');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('adm'))$$, 'permission_denied', 'an admin cannot take ownership back');
select lives_ok($$select public.leave_organization(tests.lab())$$, 'the former owner can leave');
select is(public.has_role(tests.lab(), 'viewer'), false, 'after leaving, the user has no role');
select tests.refuses($$select public.leave_organization(tests.lab())$$, 'not_a_member', 'a user cannot leave twice');
select tests.act_as_superuser();
select tests.join_org('adm', tests.lab(), 'owner');
select tests.act_as('mem');
select is((public.transfer_ownership(tests.lab(), tests.id('adm'))).role, 'owner', 'one of two owners can transfer ownership to the other');
select tests.act_as('adm');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab() and user_id = tests.id('mem')$$), 1::bigint, 'the former owners role can be lowered');

select * from finish();
rollback;
