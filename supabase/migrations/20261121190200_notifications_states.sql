-- ============================================================================
-- Notifications: what readers have done with them, and how many are unread.
--
-- A counter for each reader, so that nobody scans. Who sends and who reads only inserts a difference, so nobody waits for an open
-- transaction, and no row is hot for a whole organization. Each minute the differences are added to the counter.
-- What else changes the set that a reader sees (roles, members, projects, deletions) makes the counter invalid for ten minutes, by a
-- row among the differences: a transaction that was sending meanwhile has not seen that change. Meanwhile unread_count() counts; then
-- the counter counts anew. That, too, only inserts: two deletions of organizations with the same members lock nothing in common.
-- Announcements to everyone are few and have no counter: their unread ones are counted.
-- ============================================================================

create table private.notification_states (
  user_id uuid not null references public.profiles (id) on delete cascade,
  notification_id uuid not null references public.notifications (id) on delete cascade,
  is_hidden boolean not null default false,
  is_counted boolean not null,
  seen_at timestamptz,
  read_at timestamptz,
  archived_at timestamptz,
  primary key (user_id, notification_id)
);
create index notification_states_notification_id_idx on private.notification_states (notification_id);
comment on table private.notification_states is 'What each reader has done with a notification; no row: nothing.';
comment on column private.notification_states.user_id is 'Reader.';
comment on column private.notification_states.notification_id is 'The notification.';
comment on column private.notification_states.is_hidden is 'Whether the reader''s preferences kept it out of the product when it was sent.';
comment on column private.notification_states.is_counted is 'Whether the reader''s counter has it; false for announcements to everyone.';
comment on column private.notification_states.seen_at is 'When the reader''s list showed it.';
comment on column private.notification_states.read_at is 'When the reader read it; null: unread.';
comment on column private.notification_states.archived_at is 'When the reader archived it; null: in the list.';
select private.describe_data('private.notification_states', '{
  "user_id, notification_id, is_hidden, is_counted, seen_at, read_at, archived_at": "what the reader has done with a notification"
}', 'person');
alter table private.notification_states enable row level security;

-- Both have no foreign key: a deletion of an organization, whose members they are about, would wait for that of a member.
create table private.notification_counters (
  user_id uuid primary key,
  unread integer not null default 0,
  counted_at timestamptz
);
comment on table private.notification_counters is 'How many notifications each reader has not read, without the differences that are not added yet. No row: none.';
comment on column private.notification_counters.user_id is 'Reader.';
comment on column private.notification_counters.unread is 'Unread notifications to the reader and to the reader''s organizations.';
comment on column private.notification_counters.counted_at is 'When they were last counted; null: never, all were added.';
select private.describe_data('private.notification_counters', '{"user_id, unread, counted_at": "number of unread notifications"}', 'person');
alter table private.notification_counters enable row level security;

create table private.notification_differences (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  difference integer not null,
  recount_until timestamptz
);
create index notification_differences_user_id_idx on private.notification_differences (user_id);
comment on table private.notification_differences is 'What is to be added to the counters of unread notifications.';
comment on column private.notification_differences.id is 'Order of the rows.';
comment on column private.notification_differences.user_id is 'Reader.';
comment on column private.notification_differences.difference is '1 for a notification that was sent, -1 for one that was read.';
comment on column private.notification_differences.recount_until is 'Not null: the counter does not hold. It is counted anew after this time.';
select private.describe_data('private.notification_differences', '{"id, user_id, difference, recount_until": "number of unread notifications"}', 'person');
alter table private.notification_differences enable row level security;

create function private.notifications_forget_reader() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.notification_differences as d where d.user_id = old.id;
  delete from private.notification_counters as c where c.user_id = old.id;
  return null;
end
$$;
comment on function private.notifications_forget_reader() is 'Trigger: the counter of a deleted user goes. Definer: counters are private.';
create trigger profiles_notifications after delete on public.profiles
  for each row execute function private.notifications_forget_reader();

-- ----------------------------------------------------------------------------
-- What a reader sees. As the policy of notifications, for any user; without a set clause, so that Postgres inlines it.
-- ----------------------------------------------------------------------------

create function private.notifications_is_hidden_project(reader uuid, project uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select 1
    from public.projects as p
    where p.id = project and p.visibility = 'private'
      and not exists (
        select 1 from public.project_members as m where m.org_id = p.org_id and m.project_id = p.id and m.user_id = reader
      )
      and 'projects:manage' <> all (private.tenancy_member_permissions(reader, p.org_id))
  )
$$;
comment on function private.notifications_is_hidden_project(uuid, uuid) is 'Whether a project is private and the user neither its member nor one who manages all projects.';

create function private.notifications_inbox(reader uuid) returns setof public.notifications
language sql stable
begin atomic
  select n.*
  from public.notifications as n
  where n.user_id = reader
    and (n.org_id = kijko.platform_org_id() or exists (
      select 1
      from public.memberships as m
      join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role) and rp.permission = 'notifications:read'
      where m.user_id = reader and m.org_id = n.org_id and not m.sso_required
    ))
    and (n.project_id is null or not private.notifications_is_hidden_project(reader, n.project_id))
  union all
  select n.*
  from public.memberships as m
  join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role) and rp.permission = 'notifications:read'
  -- Not what was sent before the reader came.
  join public.notifications as n on n.org_id = m.org_id and n.audience = 'organization' and n.created_at >= m.created_at
  where m.user_id = reader and not m.sso_required
    and (n.permission is null or exists (
      select 1 from private.role_permissions as g where g.holder = rp.holder and g.permission = n.permission
    ))
    and (n.project_id is null or not private.notifications_is_hidden_project(reader, n.project_id))
  union all
  select n.*
  from public.profiles as p
  join public.notifications as n on n.audience = 'everyone' and n.created_at >= p.created_at
  where p.id = reader;
end;
comment on function private.notifications_inbox(uuid) is 'Notifications that a user may see now. Called by definer functions only.';

create function private.notifications_readers(notification public.notifications) returns setof uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select notification.user_id
  where notification.audience = 'user'
    and (
      notification.org_id = kijko.platform_org_id()
      or 'notifications:read' = any (private.tenancy_member_permissions(notification.user_id, notification.org_id))
      and not exists (select 1 from public.memberships as c where c.user_id = notification.user_id and c.org_id = notification.org_id and c.sso_required)
    )
    and (notification.project_id is null or not private.notifications_is_hidden_project(notification.user_id, notification.project_id))
  union all
  select m.user_id
  from public.memberships as m
  join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role) and rp.permission = 'notifications:read'
  where notification.audience = 'organization' and m.org_id = notification.org_id and m.created_at <= notification.created_at
    and not m.sso_required
    and (notification.permission is null or exists (
      select 1 from private.role_permissions as g where g.holder = rp.holder and g.permission = notification.permission
    ))
    and (notification.project_id is null or not private.notifications_is_hidden_project(m.user_id, notification.project_id));
end
$$;
comment on function private.notifications_readers(public.notifications) is 'Who sees a notification of this moment; nobody for one to everyone, whose readers are not listed.';

-- ----------------------------------------------------------------------------
-- The counter
-- ----------------------------------------------------------------------------

create function private.notifications_unread(reader uuid, announcements_only boolean) returns integer
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select count(*)::integer
  from private.notifications_inbox(reader) as n
  left join private.notification_states as s on s.user_id = reader and s.notification_id = n.id
  where s.read_at is null and s.archived_at is null and s.is_hidden is not true
    and (n.audience = 'everyone' or not announcements_only)
$$;
comment on function private.notifications_unread(uuid, boolean) is 'Counts the unread notifications of a user: all, or only those to everyone, which are few and which no counter has.';

create function private.notifications_unread_count(reader uuid) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  waiting record;
begin
  select coalesce(sum(d.difference), 0) as difference, count(d.recount_until) > 0 as is_invalid into waiting
  from private.notification_differences as d where d.user_id = reader;
  if waiting.is_invalid then
    return private.notifications_unread(reader, false);
  end if;
  return greatest(coalesce((select c.unread from private.notification_counters as c where c.user_id = reader), 0) + waiting.difference, 0)
    + private.notifications_unread(reader, true);
end
$$;
comment on function private.notifications_unread_count(uuid) is 'How many notifications a user has not read: by the counter, or counted while that does not hold.';

create function private.notifications_recount(readers uuid[]) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into private.notification_differences (user_id, difference, recount_until)
  select distinct u.id, 0, clock_timestamp() + interval '10 minutes' from unnest(readers) as u (id)
$$;
comment on function private.notifications_recount(uuid[]) is 'Makes the counters of these users invalid, until they have counted anew.';

create function private.notifications_fold_reader(reader uuid, expired timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  newest timestamptz;
begin
  insert into private.notification_counters (user_id) values (reader) on conflict (user_id) do nothing;
  perform 1 from private.notification_counters as c where c.user_id = reader for update skip locked;
  if not found then
    return; -- another fold is at it
  end if;
  select max(d.recount_until) into newest from private.notification_differences as d where d.user_id = reader;
  if newest >= expired then
    return; -- not yet
  end if;
  -- One statement, one snapshot: a notification that it counts is one whose difference it takes. A row that makes the counter
  -- invalid for longer, which has come since, stays.
  with taken as (
    delete from private.notification_differences as d
    where d.user_id = reader and (d.recount_until is null or d.recount_until < expired)
    returning d.difference
  )
  update private.notification_counters as c
  set unread = case
      when newest is null then c.unread + (select coalesce(sum(t.difference), 0) from taken as t)
      else (
        select count(*)
        from private.notifications_inbox(reader) as n
        left join private.notification_states as s on s.user_id = reader and s.notification_id = n.id
        where n.audience <> 'everyone' and s.read_at is null and s.archived_at is null and s.is_hidden is not true
      )
    end,
    counted_at = case when newest is null then c.counted_at else clock_timestamp() end
  where c.user_id = reader;
end
$$;
comment on function private.notifications_fold_reader(uuid, timestamptz) is 'Adds the differences of a reader to the counter, or counts anew if the counter was invalid until before this time.';

create function private.notifications_fold(max_readers integer default 10000, expired timestamptz default clock_timestamp()) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  reader uuid;
  folded integer := 0;
begin
  -- Of users who were deleted meanwhile.
  delete from private.notification_differences as d where not exists (select 1 from public.profiles as p where p.id = d.user_id);
  for reader in
    select d.user_id from private.notification_differences as d
    group by d.user_id having max(d.recount_until) is null or max(d.recount_until) < notifications_fold.expired
    order by min(d.id) limit max_readers
  loop
    perform private.notifications_fold_reader(reader, notifications_fold.expired);
    folded := folded + 1;
  end loop;
  return folded;
end
$$;
comment on function private.notifications_fold(integer, timestamptz) is 'Adds the differences to the counters, those that wait longest first, and counts anew those that were invalid until before this time; returns how many. Two at once take turns by reader.';
select private.schedule('kijko-notifications-fold', '* * * * *', 'perform private.notifications_fold()');

create function private.notifications_count_state() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  was constant boolean := case tg_op when 'UPDATE' then old.read_at is null and old.archived_at is null and not old.is_hidden else not new.is_hidden end;
  is_now constant boolean := new.read_at is null and new.archived_at is null and not new.is_hidden;
begin
  if is_now <> was then
    insert into private.notification_differences (user_id, difference) values (new.user_id, is_now::integer - was::integer);
  end if;
  return null;
end
$$;
comment on function private.notifications_count_state() is 'Trigger: a notification that is read or archived is not unread any more. Definer: counters are private.';
create trigger notification_states_count after insert or update on private.notification_states
  for each row when (new.is_counted) execute function private.notifications_count_state();

create function private.notifications_after_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_recount(array(
    select g.user_id from gone as g where g.user_id is not null
    union
    select m.user_id from (select distinct g.org_id from gone as g where g.audience = 'organization') as o join public.memberships as m on m.org_id = o.org_id
  ));
  return null;
end
$$;
comment on function private.notifications_after_delete() is 'Trigger: what is deleted is not unread any more. Definer: counters are private.';
create trigger notifications_count_delete after delete on public.notifications
  referencing old table as gone for each statement execute function private.notifications_after_delete();

-- ----------------------------------------------------------------------------
-- What changes the set that a reader sees
-- ----------------------------------------------------------------------------

create function private.notifications_after_membership() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_recount(array[case tg_op when 'DELETE' then old.user_id else new.user_id end]);
  return null;
end
$$;
comment on function private.notifications_after_membership() is 'Trigger: a member who comes, goes, gets another role, or whose membership is closed or opened sees other notifications. Definer: counters are private.';
create trigger memberships_notifications after insert or delete or update of role, custom_role_id, sso_required, is_break_glass on public.memberships
  for each row execute function private.notifications_after_membership();

create function private.notifications_after_role() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_recount(array(select m.user_id from public.memberships as m where m.org_id = new.org_id and m.custom_role_id = new.id));
  return null;
end
$$;
comment on function private.notifications_after_role() is 'Trigger: members of a changed role see other notifications. Definer: counters are private.';
create trigger custom_roles_notifications after update of permissions on public.custom_roles
  for each row when (old.permissions is distinct from new.permissions) execute function private.notifications_after_role();

create function private.notifications_after_project() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := case tg_op when 'DELETE' then old.org_id else new.org_id end;
  project constant uuid := case
    when tg_table_name = 'projects' then (to_jsonb(new) ->> 'id')::uuid
    when tg_op = 'DELETE' then (to_jsonb(old) ->> 'project_id')::uuid else (to_jsonb(new) ->> 'project_id')::uuid
  end;
begin
  perform private.notifications_recount(array(
    select n.user_id from public.notifications as n where n.org_id = org and n.project_id = project and n.user_id is not null
    union
    select m.user_id from public.memberships as m
    where m.org_id = org and exists (
      select 1 from public.notifications as n where n.org_id = org and n.project_id = project and n.audience = 'organization'
    )
  ));
  return null;
end
$$;
comment on function private.notifications_after_project() is 'Trigger: who sees a project sees its notifications. Definer: counters are private.';
create trigger projects_notifications after update of visibility on public.projects
  for each row when (old.visibility is distinct from new.visibility) execute function private.notifications_after_project();
create trigger project_members_notifications after insert or delete or update of project_id, user_id on public.project_members
  for each row execute function private.notifications_after_project();
