-- ============================================================================
-- Webhooks: the product's events.
--
-- Each trigger asks first whether an endpoint wants the event: most organizations have none. Every function is definer: who makes
-- the event has no right on endpoints, and only postgres may use the outbox.
-- ============================================================================

create function private.webhooks_after_execution() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  type constant text := 'execution.' || new.status;
begin
  -- An execution of a deleted private project stays hidden: no event.
  if not new.managers_only and private.webhooks_listens(new.org_id, type) then
    perform private.webhooks_emit(new.org_id, type, new.id::text, private.reflexes_execution_data(new), new.project_id);
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_execution() is 'Trigger: emits execution.succeeded, execution.failed or execution.cancelled. Definer: whoever ends an execution holds no right on endpoints.';
create trigger executions_webhooks after update of status on public.executions
  for each row when (old.status <> new.status and new.status in ('succeeded', 'failed', 'cancelled'))
  execute function private.webhooks_after_execution();

-- A notification is sent once for each meter, period and threshold, so this is, too.
create function private.webhooks_after_threshold() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.webhooks_listens(new.org_id, 'usage.threshold') then
    perform private.webhooks_emit(new.org_id, 'usage.threshold', coalesce(new.data ->> 'meter', 'usage'), new.data);
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_threshold() is 'Trigger: emits usage.threshold when the organization is notified of it. Definer: only postgres may use the outbox.';
create trigger notifications_webhooks after insert on public.notifications
  for each row when (new.type = 'usage.threshold' and new.audience = 'organization')
  execute function private.webhooks_after_threshold();

create function private.webhooks_after_subscription() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.webhooks_listens(new.org_id, 'subscription.changed') then
    perform private.webhooks_emit(
      new.org_id, 'subscription.changed', new.id::text,
      jsonb_build_object(
        'plan', new.plan, 'status', new.status, 'former_plan', old.plan, 'former_status', old.status, 'current_period_end', new.current_period_end
      )
    );
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_subscription() is 'Trigger: emits subscription.changed. Definer: whoever writes subscriptions holds no right on endpoints.';
create trigger subscriptions_webhooks after update of plan, plan_override, status on public.subscriptions
  for each row when (old.plan <> new.plan or old.status <> new.status)
  execute function private.webhooks_after_subscription();

create function private.webhooks_after_membership() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  membership constant public.memberships := case tg_op when 'DELETE' then old else new end;
  type constant text := case tg_op when 'DELETE' then 'member.removed' else 'member.joined' end;
begin
  if private.webhooks_listens(membership.org_id, type) then
    perform private.webhooks_emit(
      membership.org_id, type, membership.user_id::text,
      jsonb_build_object('user_id', membership.user_id, 'role', membership.role)
        || case tg_op when 'DELETE' then '{}' else jsonb_build_object('joined_at', membership.created_at) end
    );
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_membership() is 'Trigger: emits member.joined or member.removed. Definer: who accepts an invitation or leaves holds no right on endpoints.';
create trigger memberships_webhooks after insert or delete on public.memberships
  for each row execute function private.webhooks_after_membership();

create function private.webhooks_after_invitation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  type constant text := case new.status when 'accepted' then 'invitation.accepted' else 'invitation.sent' end;
begin
  if private.webhooks_listens(new.org_id, type) then
    perform private.webhooks_emit(
      new.org_id, type, new.id::text,
      jsonb_build_object('id', new.id, 'email', new.email, 'role', new.role) || case new.status
        when 'accepted' then jsonb_build_object('user_id', new.accepted_by) else jsonb_build_object('expires_at', new.expires_at)
      end
    );
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_invitation() is 'Trigger: emits invitation.sent, also when it is sent again, or invitation.accepted. Definer: the invitee holds no right on endpoints.';
create trigger invitations_webhooks_insert after insert on public.invitations
  for each row when (new.status = 'pending') execute function private.webhooks_after_invitation();
create trigger invitations_webhooks_update after update of status, sent_at on public.invitations
  for each row when (
    (old.status <> new.status and new.status = 'accepted') or (new.status = 'pending' and old.sent_at <> new.sent_at)
  ) execute function private.webhooks_after_invitation();

create function private.webhooks_after_project() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  type constant text := case tg_op when 'INSERT' then 'project.created' else 'project.archived' end;
begin
  if private.webhooks_listens(new.org_id, type) then
    perform private.webhooks_emit(
      new.org_id, type, new.id::text,
      jsonb_build_object('id', new.id, 'name', new.name, 'slug', new.slug, 'visibility', new.visibility), new.id
    );
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_project() is 'Trigger: emits project.created or project.archived. Definer: who writes projects may hold no right on endpoints.';
create trigger projects_webhooks_insert after insert on public.projects
  for each row execute function private.webhooks_after_project();
create trigger projects_webhooks_update after update of archived_at on public.projects
  for each row when (old.archived_at is null and new.archived_at is not null) execute function private.webhooks_after_project();

create function private.webhooks_after_repository() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.webhooks_listens(new.org_id, 'repository.added') then
    perform private.webhooks_emit(
      new.org_id, 'repository.added', new.id::text,
      jsonb_build_object(
        'id', new.id, 'project_id', new.project_id, 'provider', new.provider, 'full_name', new.full_name, 'default_branch', new.default_branch
      ),
      new.project_id
    );
  end if;
  return null;
end
$$;
comment on function private.webhooks_after_repository() is 'Trigger: emits repository.added. Definer: who adds repositories may hold no right on endpoints.';
create trigger repositories_webhooks after insert on public.repositories
  for each row execute function private.webhooks_after_repository();
