-- ============================================================================
-- Approvals: changes that need a second person.
--
--   1. A function of a domain wants to make a protected change. It calls private.approvals_request() instead, and changes nothing.
--   2. Another member who holds the kind's permission calls approve_change(). In the same transaction the kind's function makes
--      the change, or fails because what it would change has changed since.
--   3. Or it is rejected, withdrawn, or expires.
--
-- A domain takes part by one row of private.approval_kinds. Nothing here knows what the changes are.
-- ============================================================================

create table private.approval_kinds (
  kind text primary key check (octet_length(kind) <= 63 and kind ~ '^[a-z][a-z0-9_]*$'),
  permission text not null references private.permissions (permission),
  apply_function text not null check (apply_function ~ '^[a-z][a-z0-9_]*$'),
  description text not null check (char_length(description) between 1 and 200)
);
comment on table private.approval_kinds is 'The kinds of changes that can need a second person; each domain adds its own.';
comment on column private.approval_kinds.kind is 'Name of the kind: approvals.kind.';
comment on column private.approval_kinds.permission is 'What who decides must hold.';
comment on column private.approval_kinds.apply_function is 'Function of schema private that takes the approval and makes the change, or fails with conflict if what it would change has changed since.';
comment on column private.approval_kinds.description is 'What the change is.';
select private.describe_data('private.approval_kinds', '{"kind, permission, apply_function, description": "which changes can need a second person"}', 'platform');
alter table private.approval_kinds enable row level security;
create index approval_kinds_permission_idx on private.approval_kinds (permission);

create table public.approvals (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  kind text not null check (octet_length(kind) <= 63),
  subject_id uuid not null,
  subject_part text not null default '' check (char_length(subject_part) <= 200),
  title text not null check (char_length(title) between 1 and 300),
  change jsonb not null check (jsonb_typeof(change) = 'object' and private.json_fits(change, 16384)),
  reason text check (char_length(reason) <= 2000),
  status text not null default 'pending' check (status in ('pending', 'approved', 'rejected', 'expired', 'withdrawn')),
  requested_by uuid,
  decided_by uuid,
  decision_reason text check (char_length(decision_reason) <= 2000),
  decided_at timestamptz,
  expires_at timestamptz not null,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  check ((status = 'pending') = (decided_at is null))
);
-- One open request for one thing: two would each be stale once the other is approved.
create unique index approvals_pending_idx on public.approvals (org_id, kind, subject_id, subject_part) where status = 'pending';
create index approvals_status_idx on public.approvals (org_id, status, created_at desc, id desc);
create index approvals_expires_at_idx on public.approvals (expires_at) where status = 'pending';
create index approvals_decided_at_idx on public.approvals (decided_at) where status <> 'pending';
comment on table public.approvals is 'Changes that need a second person: requested, then approved or rejected by another member, withdrawn or expired. Written by functions only.';
comment on column public.approvals.id is 'Identity of the request.';
comment on column public.approvals.org_id is 'Organization that it belongs to.';
comment on column public.approvals.kind is 'What would change: prompt_label.';
comment on column public.approvals.subject_id is 'The row that would change, such as the prompt.';
comment on column public.approvals.subject_part is 'Which part of it, such as the label; empty for all of it.';
comment on column public.approvals.title is 'The change in words.';
comment on column public.approvals.change is 'The change: what it is now and what it would be, as the kind defines it.';
comment on column public.approvals.reason is 'Why it is wanted.';
comment on column public.approvals.status is 'pending, then approved (and made), rejected, expired or withdrawn.';
comment on column public.approvals.requested_by is 'Member who asked for it; of a request by an API key, the maker of the key. No foreign key: the record outlives the user.';
comment on column public.approvals.decided_by is 'Member who approved, rejected or withdrew it; null while it is pending, and for one that expired or that an API key withdrew.';
comment on column public.approvals.decision_reason is 'Why it was approved or rejected.';
comment on column public.approvals.decided_at is 'When it stopped being pending.';
comment on column public.approvals.expires_at is 'When it expires, unless it is decided before.';
comment on column public.approvals.created_by is 'User who asked; null for a service key and after that user is deleted.';
comment on column public.approvals.created_by_key is 'API key that asked; null when a user did.';
comment on column public.approvals.created_at is 'When it was requested.';
comment on column public.approvals.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.approvals', resource => 'approvals', writable => '{}', catalogue => '{
  "kind, subject_id, subject_part, title, change, reason": "which change is wanted, and why",
  "status, decision_reason, decided_at, expires_at": "what became of it",
  "requested_by, decided_by": "who asked and who decided"
}');
select private.audit_table(
  'public.approvals', 'approval', '{kind,subject_id,subject_part,title,change,status}', personal => '{requested_by,decided_by}', events => 'insert,update'
);

-- ----------------------------------------------------------------------------
-- For domains
-- ----------------------------------------------------------------------------

create function private.approvals_request(
  org uuid, kind text, subject_id uuid, subject_part text, title text, change jsonb, reason text, expires_in interval
) returns public.approvals
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  approval public.approvals;
begin
  if char_length(approvals_request.reason) > 2000 then
    perform kijko.fail('invalid_input', 'reason: at most 2,000 characters');
  end if;
  perform private.limit_rate('approvals_request:' || org, 120, interval '1 hour', 'an organization requests at most %s approvals an hour');
  -- An approval holds its request and waits for what it changes, which the caller has locked. So this must not wait for it:
  -- the insert would.
  if not exists (
    select from public.approvals as a
    where a.org_id = org and a.kind = approvals_request.kind and a.subject_id = approvals_request.subject_id
      and a.subject_part = approvals_request.subject_part and a.status = 'pending'
  ) then
    insert into public.approvals as a (org_id, kind, subject_id, subject_part, title, change, reason, requested_by, expires_at)
    values (
      org, approvals_request.kind, approvals_request.subject_id, approvals_request.subject_part, approvals_request.title,
      approvals_request.change, approvals_request.reason,
      -- Whoever made the key could else approve what the key has asked for.
      coalesce(kijko.user_id(), (select k.user_id from public.api_keys as k where k.org_id = org and k.id = kijko.api_key_id())),
      kijko.now() + expires_in
    )
    on conflict (org_id, kind, subject_id, subject_part) where status = 'pending' do nothing
    returning a.* into approval;
  end if;
  if approval.id is null then
    perform kijko.fail('conflict', 'another change of this is waiting for its approval', 'Withdraw it, or have it decided: the table approvals.');
  end if;
  return approval;
end
$$;
comment on function private.approvals_request(uuid, text, uuid, text, text, jsonb, text, interval) is 'Asks for a second person; fails with conflict while another request for the same is pending. The caller has checked that the requester may make the change.';

create function private.approvals_withdraw(org uuid, kind text, subject_id uuid) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  -- Whoever decides at this moment holds the request and waits for its subject: they will find that it has changed.
  update public.approvals as a
  set status = 'withdrawn', decided_by = kijko.user_id(), decided_at = kijko.now()
  where a.id in (
    select o.id from public.approvals as o
    where o.org_id = org and o.kind = approvals_withdraw.kind and o.subject_id = approvals_withdraw.subject_id and o.status = 'pending'
    for update skip locked
  )
$$;
comment on function private.approvals_withdraw(uuid, text, uuid) is 'Withdraws the request for a subject that its domain has locked, and that has changed since.';

-- ----------------------------------------------------------------------------
-- RPC. Definer: users only read approvals.
-- ----------------------------------------------------------------------------

create function private.approvals_require(approval_id uuid) returns public.approvals
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  approval public.approvals;
begin
  perform private.tenancy_require_caller();
  select a.* into approval from public.approvals as a
  where a.id = approvals_require.approval_id and a.org_id = any (array(select private.org_ids_with('approvals:read')));
  if approval.id is null then
    perform kijko.fail('not_found', 'no such request');
  end if;
  return approval;
end
$$;
comment on function private.approvals_require(uuid) is 'A request that the caller sees; fails with not_found.';

create function private.approvals_lock_pending(approval_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  approval public.approvals;
begin
  select a.* into approval from public.approvals as a where a.id = approvals_lock_pending.approval_id for update;
  if approval.status is distinct from 'pending' then
    perform kijko.fail('conflict', format('the request is %s already', coalesce(approval.status, 'deleted')));
  elsif approval.expires_at <= kijko.now() then
    perform kijko.fail('conflict', 'the request has expired', 'Ask for it again.');
  end if;
end
$$;
comment on function private.approvals_lock_pending(uuid) is 'Locks a request; fails with conflict if it was decided or has expired.';

create function private.approvals_decide(approval_id uuid, verdict text, reason text) returns public.approvals
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  approval public.approvals := private.approvals_require(approvals_decide.approval_id);
  person constant uuid := private.tenancy_person_id();
  kind private.approval_kinds;
begin
  select k.* into kind from private.approval_kinds as k where k.kind = approval.kind;
  -- A key in a pipeline would make the second person a program of the first.
  if person is null then
    perform kijko.fail('permission_denied', 'a member decides in person, not by an API key');
  elsif public.can(approval.org_id, kind.permission) is not true then
    perform kijko.fail('permission_denied', format('requires the permission %s', kind.permission));
  elsif approval.requested_by = person then
    perform kijko.fail('permission_denied', 'somebody else must decide about what you have requested', 'You may withdraw it: withdraw_change().');
  elsif char_length(approvals_decide.reason) > 2000 then
    perform kijko.fail('invalid_input', 'reason: at most 2,000 characters');
  end if;
  perform private.approvals_lock_pending(approval.id);
  update public.approvals as a
  set status = verdict, decided_by = person, decision_reason = approvals_decide.reason, decided_at = kijko.now()
  where a.id = approval.id
  returning a.* into approval;
  if verdict = 'approved' then
    execute format('select private.%I($1)', kind.apply_function) using approval;
  end if;
  return approval;
end
$$;
comment on function private.approvals_decide(uuid, text, text) is 'Decides about a request, and makes an approved change.';

create function public.approve_change(approval_id uuid, reason text default null) returns public.approvals
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.approvals_decide(approve_change.approval_id, 'approved', approve_change.reason);
end
$$;
comment on function public.approve_change(uuid, text) is 'Approves a change that another member has requested, and makes it. Requires the permission of its kind (prompts:approve for prompt_label), of a signed-in member. Fails with conflict if it was decided or has expired, or if what it would change has changed since. Definer: users only read approvals.';
grant execute on function public.approve_change(uuid, text) to authenticated;

create function public.reject_change(approval_id uuid, reason text default null) returns public.approvals
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.approvals_decide(reject_change.approval_id, 'rejected', reject_change.reason);
end
$$;
comment on function public.reject_change(uuid, text) is 'Rejects a change that another member has requested. Requires what approve_change() requires. Definer: users only read approvals.';
grant execute on function public.reject_change(uuid, text) to authenticated;

create function public.withdraw_change(approval_id uuid) returns public.approvals
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  approval public.approvals := private.approvals_require(withdraw_change.approval_id);
  caller constant kijko.caller := kijko.actor();
begin
  if (approval.requested_by = caller.user_id or approval.created_by_key = caller.api_key_id) is not true then
    perform kijko.fail('permission_denied', 'only who has requested a change withdraws it', 'An approver may reject it: reject_change().');
  end if;
  perform private.approvals_lock_pending(approval.id);
  update public.approvals as a
  set status = 'withdrawn', decided_by = caller.user_id, decided_at = kijko.now()
  where a.id = approval.id
  returning a.* into approval;
  return approval;
end
$$;
comment on function public.withdraw_change(uuid) is 'Withdraws a change that the caller has requested, in person or by an API key. Fails with conflict if it was decided or has expired. Definer: users only read approvals.';
grant execute on function public.withdraw_change(uuid) to authenticated;
