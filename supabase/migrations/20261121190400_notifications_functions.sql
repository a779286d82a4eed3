-- ============================================================================
-- Notifications: the functions that readers call.
--
-- A cursor is a snapshot of the database, as in realtime.messages: what committed after it is new, whatever its time. While a
-- reader pages through what is new, the cursor also has the snapshot of its first page and the last row that was returned.
-- Its form: 1;<what was read>;<what is being read, or nothing>;<xid>;<id>. Clients do not look into it.
-- ============================================================================

create type private.notification_cursor as (base pg_snapshot, upto pg_snapshot, last_xid xid8, last_id uuid);
comment on type private.notification_cursor is 'A cursor of list_notifications(): all that base shows was read; of what upto shows besides, what is not after the last row.';

create function private.notifications_read_cursor(value text) returns private.notification_cursor
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  parts constant text[] := string_to_array(value, ';');
  now_at constant pg_snapshot := pg_current_snapshot();
  result private.notification_cursor;
begin
  if value is null then
    return null;
  end if;
  if octet_length(value) > 100000 or cardinality(parts) <> 5 or parts[1] <> '1' then
    perform kijko.fail('invalid_input', 'after_cursor: not a cursor of this function');
  end if;
  begin
    result := (parts[2]::pg_snapshot, coalesce(nullif(parts[3], ''), parts[2])::pg_snapshot, nullif(parts[4], '')::xid8, nullif(parts[5], '')::uuid);
  exception when data_exception then
    perform kijko.fail('invalid_input', 'after_cursor: not a cursor of this function');
  end;
  -- Of another cluster, into which the database was not yet restored: its numbers say nothing here.
  if pg_snapshot_xmax(result.base) > pg_snapshot_xmax(now_at) or pg_snapshot_xmax(result.upto) > pg_snapshot_xmax(now_at) then
    return null;
  end if;
  return result;
end
$$;
comment on function private.notifications_read_cursor(text) is 'The cursor that a text spells; null for null, and for one of another cluster. Refuses any other text with invalid_input.';

create function public.list_notifications(
  after_cursor text default null, "limit" integer default 50, before_id uuid default null, include_archived boolean default false
) returns table (
  id uuid, org_id uuid, audience text, type text, title text, body text, data jsonb, link text, project_id uuid,
  created_at timestamptz, seen_at timestamptz, read_at timestamptz, archived_at timestamptz, cursor text
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  me constant uuid := private.tenancy_require_user();
  place constant private.notification_cursor := private.notifications_read_cursor(after_cursor);
  now_at constant text := pg_current_snapshot()::text;
  -- Not those of an organization that requires a second factor of this session. The inbox is also counted where there is no session.
  open_orgs constant uuid[] := array(select public.org_ids()) || kijko.platform_org_id();
  before public.notifications;
begin
  if "limit" is null or "limit" not between 1 and 200 then
    perform kijko.fail('invalid_input', 'limit: 1 to 200');
  end if;
  if place.base is null then
    select n.* into before from private.notifications_inbox(me) as n where n.id = before_id;
    if before.id is null and before_id is not null then
      perform kijko.fail('not_found', 'before_id: no notification of the caller');
    end if;
    return query
    select n.id, n.org_id, n.audience, n.type, n.title, n.body, n.data, n.link, n.project_id, n.created_at, s.seen_at, s.read_at, s.archived_at,
      '1;' || now_at || ';;;'
    from private.notifications_inbox(me) as n
    left join private.notification_states as s on s.user_id = me and s.notification_id = n.id
    where n.org_id = any (open_orgs) and s.is_hidden is not true and (include_archived or s.archived_at is null)
      and (before.id is null or (n.created_at, n.id) < (before.created_at, before.id))
    order by n.created_at desc, n.id desc
    limit "limit";
    return;
  end if;
  return query
  with page as materialized (
    select n.*, s.seen_at, s.read_at, s.archived_at, not pg_visible_in_snapshot(n.xid, place.upto) as is_later
    from private.notifications_inbox(me) as n
    left join private.notification_states as s on s.user_id = me and s.notification_id = n.id
    where n.xid >= pg_snapshot_xmin(place.base) and n.org_id = any (open_orgs)
      and not pg_visible_in_snapshot(n.xid, place.base) and pg_visible_in_snapshot(n.xid, now_at::pg_snapshot)
      -- Of what was being read, the rest; then what was sent since.
      and (place.last_xid is null or not pg_visible_in_snapshot(n.xid, place.upto) or (n.xid, n.id) > (place.last_xid, place.last_id))
      and s.is_hidden is not true and (include_archived or s.archived_at is null)
    order by is_later, n.xid, n.id
    limit "limit"
  )
  select p.id, p.org_id, p.audience, p.type, p.title, p.body, p.data, p.link, p.project_id, p.created_at, p.seen_at, p.read_at, p.archived_at,
    case
      -- A page that is not full has all there is.
      when count(*) over () < "limit" and row_number() over (order by p.is_later desc, p.xid desc, p.id desc) = 1 then concat('1;', now_at, ';;;')
      when p.is_later then concat_ws(';', '1', place.upto, now_at, p.xid, p.id)
      else concat_ws(';', '1', place.base, place.upto, p.xid, p.id)
    end
  from page as p
  order by p.is_later, p.xid, p.id;
end
$$;
comment on function public.list_notifications(text, integer, uuid, boolean) is 'The caller''s notifications. Without a cursor: the newest, or those older than before_id, newest first. With after_cursor, the cursor of the last row that the caller has: what was sent since, oldest first, none twice and none left out, also what committed late. Empty: keep the cursor. A cursor is opaque. Definer: states are private. Nullable: body, link, project_id, seen_at, read_at, archived_at.';
grant execute on function public.list_notifications(text, integer, uuid, boolean) to authenticated;

-- ----------------------------------------------------------------------------
-- Seen, read, archived
-- ----------------------------------------------------------------------------

create function public.unread_count() returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.notifications_unread_count(private.tenancy_require_user());
end
$$;
comment on function public.unread_count() is 'How many notifications the caller has not read. Definer: counters are private.';
grant execute on function public.unread_count() to authenticated;

create function private.notifications_mark(ids uuid[], seen boolean, read boolean, archived boolean) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  max_ids constant integer := 1000;
  me constant uuid := private.tenancy_require_user();
  moment constant timestamptz := kijko.now();
  changed uuid[];
begin
  if cardinality(ids) > max_ids or array_position(ids, null) is not null then
    perform kijko.fail('invalid_input', format('ids: at most %s, none null', max_ids));
  end if;
  with mine as materialized (
    select n.id, n.audience
    from private.notifications_inbox(me) as n
    left join private.notification_states as s on s.user_id = me and s.notification_id = n.id
    where (n.id = any (ids) or ids is null) and s.is_hidden is not true
  ), kept as (
    -- What is being deleted is left out.
    select n.id from public.notifications as n where n.id = any (array(select m.id from mine as m)) order by n.id for key share skip locked
  ), marked as (
    insert into private.notification_states as s (user_id, notification_id, is_counted, seen_at, read_at, archived_at)
    select me, m.id, m.audience <> 'everyone', moment, case when read then moment end, case when archived then moment end
    from mine as m join kept as k on k.id = m.id
    -- In one order: two calls of one user wait for each other, and do not deadlock.
    order by m.id
    on conflict (user_id, notification_id) do update
    set seen_at = coalesce(s.seen_at, excluded.seen_at),
      read_at = case when read is null then s.read_at when read then coalesce(s.read_at, moment) end,
      archived_at = case when archived is null then s.archived_at when archived then coalesce(s.archived_at, moment) end
    where s.seen_at is null
      or (read is not null and read <> (s.read_at is not null))
      or (archived is not null and archived <> (s.archived_at is not null))
    returning s.notification_id
  )
  select array_agg(m.notification_id) into changed from marked as m;
  if changed is not null then
    -- The caller's other windows.
    perform private.notifications_broadcast(array['user:' || me], 'notification_state', jsonb_strip_nulls(jsonb_build_object(
      'notification_ids', case when cardinality(changed) <= 100 then to_jsonb(changed) end, 'seen', seen, 'read', read, 'archived', archived
    )));
  end if;
  return private.notifications_unread_count(me);
end
$$;
comment on function private.notifications_mark(uuid[], boolean, boolean, boolean) is 'Marks notifications of the caller as seen, and as read or archived or not, where that is not null; all for null ids. Ids that the caller does not see are left out. Returns how many are unread now.';

create function public.mark_seen(ids uuid[] default null) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.notifications_mark(mark_seen.ids, true, null, null);
end
$$;
comment on function public.mark_seen(uuid[]) is 'Marks the caller''s notifications as seen, all of them for null. Returns how many are unread. Definer: states are private.';
grant execute on function public.mark_seen(uuid[]) to authenticated;

create function public.mark_read(ids uuid[] default null, read boolean default true) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.notifications_mark(mark_read.ids, true, coalesce(mark_read.read, true), null);
end
$$;
comment on function public.mark_read(uuid[], boolean) is 'Marks the caller''s notifications as read, or as unread again; all of them for null. Returns how many are unread. Definer: states are private.';
grant execute on function public.mark_read(uuid[], boolean) to authenticated;

create function public.archive_notifications(ids uuid[], archived boolean default true) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if archive_notifications.ids is null then
    perform kijko.fail('invalid_input', 'ids: must be given');
  end if;
  return private.notifications_mark(archive_notifications.ids, true, null, coalesce(archive_notifications.archived, true));
end
$$;
comment on function public.archive_notifications(uuid[], boolean) is 'Takes the caller''s notifications out of the list, or puts them back. Returns how many are unread: an archived one is not. Definer: states are private.';
grant execute on function public.archive_notifications(uuid[], boolean) to authenticated;
