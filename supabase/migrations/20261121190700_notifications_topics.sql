-- ============================================================================
-- Notifications: topics of realtime, and who may join them.
--
--   org:{org_id}        members; events of the organization, with ids and status only. Nothing of a private project
--   user:{user_id}      the user in person
--   project:{id}        who sees the project; events of what is in it, with ids and status only
--   execution:{id}      who sees the execution; its status, and its text as it is written
--   room:{org_id}:{name}   members with rooms:read join and are seen; those with rooms:write send
-- Only functions of postgres send to the first four: they have no INSERT policy. On self-hosted Supabase schema realtime is Supabase's;
-- a database without it has no topics.
-- ============================================================================

create function private.notifications_topic_is_readable(topic text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  kind constant text := split_part(topic, ':', 1);
  named constant uuid := private.as_uuid(split_part(topic, ':', 2));
begin
  -- Each topic has one spelling: another one is another topic, to which nobody sends.
  if kind = 'room' then
    return named is not null and starts_with(topic, 'room:' || named || ':') and char_length(topic) between 43 and 142
      and substr(topic, 43) !~ '[:[:cntrl:]]' and exists (select 1 from private.org_ids_with('rooms:read') as o (org) where o.org = named);
  elsif named is null or topic is distinct from kind || ':' || named then
    return false;
  end if;
  return coalesce(case kind
    when 'org' then exists (select 1 from private.org_ids_with('organization:read') as o (org) where o.org = named)
      or (named = kijko.platform_org_id() and private.tenancy_person_id() is not null)
    when 'user' then named = private.tenancy_person_id()
    when 'project' then exists (
      select 1 from public.projects as p
      where p.id = named and p.org_id = any (array(select private.org_ids_with('projects:read')))
        and p.id <> all (array(select private.projects_hidden_ids()))
    )
    -- As the policy of executions.
    when 'execution' then exists (
      select 1 from public.executions as e
      where e.id = named and e.org_id = any (array(select private.org_ids_with('executions:read')))
        and (e.project_id = any (array(select private.projects_hidden_ids()))) is not true
        and (not e.managers_only or e.org_id = any (array(select private.org_ids_with('projects:manage'))))
    )
  end, false);
end
$$;
comment on function private.notifications_topic_is_readable(text) is 'Whether the caller may join a topic. False for null and for topics of other forms. Definer: reads projects and executions as their policies do.';
grant execute on function private.notifications_topic_is_readable(text) to authenticated;

create function private.notifications_topic_is_writable(topic text, extension text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    split_part(topic, ':', 1) = 'room' and private.notifications_topic_is_readable(topic)
    and (
      extension = 'presence'
      or extension = 'broadcast' and private.as_uuid(split_part(topic, ':', 2)) = any (array(select private.org_ids_with('rooms:write')))
    ), false
  );
end
$$;
comment on function private.notifications_topic_is_writable(text, text) is 'Whether the caller may send messages (broadcast) to a topic, or be seen in it (presence): in rooms only. False for null. Definer: as notifications_topic_is_readable().';
grant execute on function private.notifications_topic_is_writable(text, text) to authenticated;

-- Which columns there are depends on the version of Supabase's service.
create function private.notifications_describe_messages() returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  select private.describe_data(to_regclass('realtime.messages'), jsonb_object_agg(a.attname, jsonb_build_object(
    'purpose', coalesce(w.purpose, 'order and age of messages'), 'export', 'none', 'erasure', 'retention'
  )))
  from pg_attribute as a
  left join (values
    ('id', 'lets clients recognize a message'),
    ('topic', 'says who gets it: an organization, a user, a project, an execution, or a room that a product has'),
    ('payload', 'what clients get; of the product''s own events ids and a status, and the text of a running execution'),
    ('binary_payload', 'what clients get, as bytes'),
    ('event', 'what clients listen to'),
    ('private', 'whether policies decide who gets it'),
    ('extension', 'what policies are asked about')
  ) as w (name, purpose) on w.name = a.attname
  where a.attrelid = to_regclass('realtime.messages') and a.attnum > 0 and not a.attisdropped
$$;
comment on function private.notifications_describe_messages() is 'Writes the lines of the data catalogue for realtime.messages, whose rows are dropped after three days. No export contains them: what they are about is in the tables of the product.';

-- Supabase's service makes its tables when it first starts, which may be after the migrations: then an operator calls this.
create function private.notifications_create_policies() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
begin
  if to_regclass('realtime.messages') is null then
    return false;
  end if;
  -- By the topic that the service evaluates and by that of the row. The subselect is evaluated once for each statement.
  drop policy if exists kijko_topics_select on realtime.messages;
  create policy kijko_topics_select on realtime.messages for select to authenticated
    using (topic = (select realtime.topic()) and (select private.notifications_topic_is_readable(realtime.topic())));
  drop policy if exists kijko_topics_insert on realtime.messages;
  create policy kijko_topics_insert on realtime.messages for insert to authenticated
    with check (topic = (select realtime.topic()) and private.notifications_topic_is_writable(topic, extension));
  perform private.notifications_describe_messages();
  return true;
end
$$;
comment on function private.notifications_create_policies() is 'Creates the policies of the topics on realtime.messages and describes it in the data catalogue, again if they are there. False without that table. For operators, and for this migration.';
select private.notifications_create_policies();
