-- ============================================================================
-- Approvals: who is notified, and what expires.
-- ============================================================================

create function private.approvals_notify() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- A notification holds 8 KiB, which 2,000 characters can exceed. The request has all of the reason.
  data constant jsonb := jsonb_build_object(
    'approval_id', new.id, 'kind', new.kind, 'title', new.title, 'status', new.status,
    'reason', left(coalesce(new.decision_reason, new.reason, ''), 1000)
  );
begin
  if new.status = 'pending' then
    -- The 100 members who have been there longest: more need not be asked for one decision.
    perform private.notifications_send(new.org_id, m.user_id, 'approval.requested', data, format('approval.requested:%s:%s', new.id, m.user_id))
    from (
      select m.user_id
      from public.memberships as m
      join private.approval_kinds as k on k.kind = new.kind
      join private.role_permissions as p on p.holder = coalesce(m.custom_role_id::text, m.role) and p.permission = k.permission
      where m.org_id = new.org_id and m.user_id is distinct from new.requested_by
      order by m.created_at, m.user_id
      limit 100
    ) as m;
  elsif new.status <> 'withdrawn' and new.requested_by is not null and exists (
    select 1 from public.memberships as m where m.org_id = new.org_id and m.user_id = new.requested_by
  ) then
    perform private.notifications_send(new.org_id, new.requested_by, 'approval.decided', data, format('approval.decided:%s', new.id));
  end if;
  return null;
end
$$;
comment on function private.approvals_notify() is 'Trigger: tells those who may approve a change that it was requested, and who has requested it what became of it. Definer: whoever asks or decides may not write notifications.';
create trigger approvals_requested after insert on public.approvals
  for each row execute function private.approvals_notify();
create trigger approvals_decided after update of status on public.approvals
  for each row when (old.status = 'pending' and new.status <> 'pending') execute function private.approvals_notify();

create function private.approvals_maintain() returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  due record;
  changed integer := 0;
begin
  for due in
    select a.id, a.org_id from public.approvals as a
    where a.status = 'pending' and a.expires_at <= kijko.now()
    order by a.expires_at limit 1000
    -- One that is being decided is not waited for.
    for update skip locked
  loop
    continue when due.org_id = any (private.passed_over());
    -- One that fails stops no other.
    begin
      update public.approvals as a set status = 'expired', decided_at = kijko.now() where a.id = due.id;
      changed := changed + 1;
    exception when others then
      raise warning 'approval %: %', due.id, sqlerrm;
      perform private.pass_over(due.org_id, sqlstate);
    end;
  end loop;
  delete from public.approvals as a
  where a.id = any (array(
    select d.id from public.approvals as d
    where d.status <> 'pending' and d.decided_at < kijko.now() - interval '400 days'
    order by d.decided_at limit 1000 for update skip locked
  ));
  return changed;
end
$$;
comment on function private.approvals_maintain() is 'Ends requests that have expired, deletes those that were decided 400 days ago, and returns how many expired. Called by pg_cron each minute.';
select private.schedule('kijko-approvals-maintain', '* * * * *', 'perform private.approvals_maintain()');
