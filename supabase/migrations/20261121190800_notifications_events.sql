-- ============================================================================
-- Notifications: the product's own events, sent by triggers.
--
-- Every function is definer: realtime.send() is an invoker, and users have no INSERT policy on these topics. An error becomes a
-- warning (notifications_broadcast). Payloads of org: and project: have ids and status only, because members who lack the permission
-- to read the row may join these topics, too: a client reads the row again, and the policies of its table decide.
-- What belongs to a private project is sent to project: and execution: only.
-- ============================================================================

-- plpgsql keeps its plan: it runs at each change of each execution.
create function private.notifications_topics_of(org uuid, project uuid) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return array_remove(array[
    'project:' || project,
    case when not exists (select 1 from public.projects as p where p.id = project and p.visibility = 'private') then 'org:' || org end
  ], null);
end
$$;
comment on function private.notifications_topics_of(uuid, uuid) is 'Topics for what happens in a project, or outside of all projects: of the project, and of the organization unless the project is private.';

-- ----------------------------------------------------------------------------
-- Executions: every status, and the text of a running one. Workers write the text about twice a second, so each piece is an event.
-- ----------------------------------------------------------------------------

create function private.notifications_broadcast_execution() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  short constant jsonb := jsonb_build_object('execution_id', new.id, 'status', new.status);
  own constant text[] := array_remove(array[case tg_op when 'UPDATE' then 'execution:' || new.id end], null);
  shared constant text[] := case when not new.managers_only then private.notifications_topics_of(new.org_id, new.project_id) end;
begin
  perform private.notifications_broadcast(own || shared, 'execution', short);
  return null;
end
$$;
comment on function private.notifications_broadcast_execution() is 'Trigger: sends the status of an execution. Nobody can have joined the topic of one that is not committed yet. Definer: users may not send to these topics.';
create trigger executions_broadcast_insert after insert on public.executions
  for each row execute function private.notifications_broadcast_execution();
create trigger executions_broadcast_update after update of status on public.executions
  for each row when (old.status <> new.status) execute function private.notifications_broadcast_execution();

create function private.notifications_broadcast_text() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_broadcast(
    array['execution:' || new.execution_id], 'execution_text',
    jsonb_build_object('execution_id', new.execution_id, 'attempt', new.attempt, 'seq', new.seq, 'text', new.text)
  );
  return null;
end
$$;
comment on function private.notifications_broadcast_text() is 'Trigger: sends a piece of the text of a running execution. Definer: users may not send to these topics.';
create trigger execution_text_chunks_broadcast after insert on public.execution_text_chunks
  for each row execute function private.notifications_broadcast_text();

-- ----------------------------------------------------------------------------
-- Jobs. Those of executions and mails are left out: an execution sends its own events, a mail has none.
-- ----------------------------------------------------------------------------

create function private.notifications_broadcast_job() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_broadcast(
    private.notifications_topics_of(new.org_id, new.project_id), 'job', jsonb_build_object('job_id', new.id, 'status', new.status)
  );
  return null;
end
$$;
comment on function private.notifications_broadcast_job() is 'Trigger: sends the status of a job. Definer: users may not send to these topics.';
create trigger jobs_broadcast_insert after insert on public.jobs
  for each row when (split_part(new.kind, '.', 1) <> 'execution' and split_part(new.kind, '.', 1) <> 'mail' and not new.managers_only)
  execute function private.notifications_broadcast_job();
create trigger jobs_broadcast_update after update of status on public.jobs
  for each row when (
    old.status <> new.status and split_part(new.kind, '.', 1) <> 'execution' and split_part(new.kind, '.', 1) <> 'mail' and not new.managers_only
  ) execute function private.notifications_broadcast_job();

-- ----------------------------------------------------------------------------
-- Members and invitations
-- ----------------------------------------------------------------------------

create function private.notifications_broadcast_member() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := case tg_op when 'DELETE' then old.org_id else new.org_id end;
  member constant uuid := case tg_op when 'DELETE' then old.user_id else new.user_id end;
  change constant text := case tg_op when 'INSERT' then 'joined' when 'DELETE' then 'left' else 'changed' end;
begin
  perform private.notifications_broadcast(array['org:' || org], 'member', jsonb_build_object('user_id', member, 'status', change));
  perform private.notifications_broadcast(array['user:' || member], 'membership', jsonb_build_object('org_id', org, 'status', change));
  return null;
end
$$;
comment on function private.notifications_broadcast_member() is 'Trigger: sends that a member joined, left or got another role, to the organization and to the member. Definer: users may not send to these topics.';
create trigger memberships_broadcast after insert or delete or update of role, custom_role_id on public.memberships
  for each row execute function private.notifications_broadcast_member();

create function private.notifications_broadcast_invitation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_broadcast(array['org:' || new.org_id], 'invitation', jsonb_build_object('invitation_id', new.id, 'status', new.status));
  return null;
end
$$;
comment on function private.notifications_broadcast_invitation() is 'Trigger: sends the status of an invitation. Definer: users may not send to these topics.';
create trigger invitations_broadcast after insert or update of status, sent_at on public.invitations
  for each row execute function private.notifications_broadcast_invitation();
