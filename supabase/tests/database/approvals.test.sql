begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('cas'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('cas', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create function tests.pending() returns uuid language sql security definer as $$ select a.id from public.approvals as a where a.org_id = tests.org('ada') and a.status = 'pending' order by a.created_at desc, a.id limit 1 $$;
create function tests.label(wanted text default 'production') returns integer language sql security definer as $$ select l.version from public.prompt_labels as l where l.org_id = tests.org('ada') and l.label = wanted $$;
create function tests.notified(who text, type text) returns bigint language sql security definer as $$ select count(*) from public.notifications as n where n.user_id = tests.id(who) and n.type = notified.type $$;
create function tests.ask(version integer, reason text default 'better') returns jsonb language sql as $$ select public.set_prompt_label('a', 'production', ask.version, ask.reason) $$;

select tests.act_as('ada', tests.org('ada'));
select public.set_prompt_settings(require_approval => true) is not null as protected \gset
select tests.act_as('mem', tests.org('ada'));
select public.push_prompt('a', '"one"') is not null, public.push_prompt('a', '"two"') is not null, public.push_prompt('a', '"three"') is not null;
select is(tests.ask(1) - 'approval_id', '{"path": "a", "label": "production", "applied": false, "version": null}', 'a member asks');
select is(tests.label(), null, 'and nothing moves');
select tests.pending() as first \gset

-- ---- non-member and anon first
select tests.act_as_anon();
select throws_ok('select * from public.approvals', '42501', null, 'an unauthenticated caller sees no approval');
select throws_ok(format('select public.approve_change(%L)', :'first'), '42501', null, 'and decides nothing');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.approvals), 0::bigint, 'a non-member sees none');
select tests.refuses(format('select public.%I(%L)', f, :'first'), 'not_found', 'a non-member does not ' || f) from unnest('{approve_change,reject_change,withdraw_change}'::text[]) as f;

-- ---- who decides
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.approvals), 1::bigint, 'a viewer sees it');
select throws_ok($$update public.approvals set status = 'approved'$$, '42501', null, 'and writes nothing');
select tests.refuses(format('select public.%I(%L)', f, :'first'), 'permission_denied', 'a viewer does not ' || f) from unnest('{approve_change,reject_change,withdraw_change}'::text[]) as f;
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', :'first'), 'permission_denied', 'nor does who has asked');
select tests.refuses($$select tests.ask(2)$$, 'conflict', 'one request at a time');
select tests.act_as('ada', tests.org('ada'));
select tests.make_key(tests.org('ada'), '["prompts:read", "prompts:write", "prompts:approve", "approvals:read"]') as key \gset
select is(tests.by_key(:'key', format('select public.approve_change(%L)', :'first')), '42501', 'nor an API key that holds the permission');
select is(tests.by_key(:'key', 'select public.set_prompt_settings(false)'), '42501', 'which protects and unprotects nothing either');
select throws_ok('select * from private.approval_kinds', '42501', null, 'kinds are private');
select is((select status from public.approve_change(:'first', 'fine')), 'approved', 'an owner approves');
select is(tests.label(), 1, 'and the label moves');
select is((select (c.from_version, c.to_version, c.approval_id = :'first', c.created_by)::text from public.prompt_label_changes as c), format('(,1,t,%s)', tests.id('ada')), 'the history has the approval, and who made the change');
select is((select (a.requested_by, a.decided_by, a.decision_reason)::text from public.approvals as a), format('(%s,%s,fine)', tests.id('mem'), tests.id('ada')), 'so does the request');
select tests.refuses(format('select public.%I(%L)', f, :'first'), 'conflict', 'once decided, nobody may ' || f) from unnest('{approve_change,reject_change}'::text[]) as f;
select is(tests.notified('cas', 'approval.requested'), 1::bigint, 'those who may approve were told');
select is(tests.notified('mem', 'approval.requested') + tests.notified('vic', 'approval.requested'), 0::bigint, 'and nobody else');
select is(tests.notified('mem', 'approval.decided'), 1::bigint, 'and who had asked');

-- ---- who holds the permission does not approve their own request
select tests.ask(2) ->> 'applied' as applied \gset
select tests.refuses(format('select public.approve_change(%L)', tests.pending()), 'permission_denied', 'an owner does not approve what they have asked for');
select is((select status from public.withdraw_change(tests.pending())), 'withdrawn', 'but withdraws it');
-- A key's request is its maker's.
select tests.act_as_key(:'key', tests.org('ada')) as assumed \gset
select is(tests.ask(2) ->> 'applied', 'false', 'a key asks');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', tests.pending()), 'permission_denied', 'its maker does not approve that');
select tests.act_as('cas', tests.org('ada'));
select is((select (status, decision_reason)::text from public.reject_change(tests.pending(), 'worse')), '(rejected,worse)', 'another admin rejects it');
select is(tests.label(), 1, 'and nothing moves');

select tests.ask(2, repeat(E'\x01', 2000)) ->> 'applied' as applied \gset
select tests.act_as('ada', tests.org('ada'));
select cmp_ok((select count(*) from public.notifications as n where n.user_id = tests.id('ada') and n.data ->> 'approval_id' = tests.pending()::text), '=', 1::bigint, 'a long reason keeps no approver from being told');
select tests.act_as('cas', tests.org('ada'));
select public.withdraw_change(tests.pending()) is not null as withdrawn \gset

-- ---- stale
select tests.ask(2) ->> 'applied' as applied \gset
select tests.act_as('ada', tests.org('ada'));
select public.set_prompt_settings(protected_labels => '{staging}') is not null as unprotected \gset
select is(public.set_prompt_label('a', 'production', 3) ->> 'applied', 'true', 'a label that is not protected moves at once');
select tests.refuses(format('select public.approve_change(%L)', tests.pending()), 'conflict', 'a label that has moved since is a conflict');
select is((select status from public.approvals where id = tests.pending()), 'pending', 'and the request stays');
select is(tests.label(), 3, 'as does the label');
select is((select status from public.reject_change(tests.pending())), 'rejected', 'until it is rejected');

-- ---- removal, deletion
select public.set_prompt_settings(require_approval => true) is not null as protected \gset
select tests.refuses($$select public.delete_prompt('a')$$, 'conflict', 'a prompt in production is not deleted');
select tests.ask(null) ->> 'applied' as applied \gset
select tests.act_as('cas', tests.org('ada'));
select is((select status from public.approve_change(tests.pending())), 'approved', 'a label is removed by an approval, too');
select is(tests.label(), null, 'and gone');
select tests.ask(1) ->> 'applied' as applied \gset
select lives_ok($$select public.delete_prompt('a')$$, 'without a protected label a prompt is deleted');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', tests.pending()), 'conflict', 'what is gone is not changed');

-- ---- expiry
select tests.travel(interval '8 days');
select tests.refuses(format('select public.reject_change(%L)', tests.pending()), 'conflict', 'a request expires');
select tests.act_as_superuser();
select cmp_ok(private.approvals_maintain(), '>=', 1, 'and maintenance says so');
select is((select count(*) from public.approvals where org_id = tests.org('ada') and status = 'expired' and decided_by is null), 1::bigint, 'with nobody as its judge');
select is(tests.notified('cas', 'approval.decided'), 2::bigint, 'and who had asked is told');
select tests.travel(interval '420 days');
select private.approvals_maintain() as expired \gset
select is((select count(*) from public.approvals where org_id = tests.org('ada')), 0::bigint, 'old ones are deleted');

-- ---- a kind of another domain needs a row, and no change here
create function private.test_apply(approval public.approvals) returns void language plpgsql as $$ begin perform set_config('tests.applied', approval.change ->> 'n', true); end $$;
insert into private.approval_kinds (kind, permission, apply_function, description) values ('test', 'skills:write', 'test_apply', 'A test');
select (private.approvals_request(tests.org('ada'), 'test', gen_random_uuid(), '', 'A test', '{"n": 7}', null, interval '1 day')).id as other \gset
select tests.act_as('mem', tests.org('ada'));
select is((select status from public.approve_change(:'other')), 'approved', 'its permission decides');
select is(current_setting('tests.applied'), '7', 'and its function makes the change');
select * from finish();
rollback;
