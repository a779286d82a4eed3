-- ============================================================================
-- Social posts: settings, approval, scheduling, the calendar.
-- Definer functions: users write neither states nor times.
-- ============================================================================

create function public.set_social_settings(time_zone text default null, require_approval boolean default null, missed_after_minutes integer default null)
returns public.social_settings
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant uuid := private.tenancy_require_org_with('content:approve');
  settings public.social_settings;
begin
  perform private.tenancy_require_user();
  if set_social_settings.time_zone is not null and not exists (select 1 from pg_timezone_names as z where z.name = set_social_settings.time_zone) then
    perform kijko.fail('invalid_timezone', 'time_zone: a name of the IANA database');
  elsif (set_social_settings.missed_after_minutes between 5 and 1440) is false then
    perform kijko.fail('invalid_input', 'missed_after_minutes: 5 to 1440');
  end if;
  insert into public.social_settings as s (org_id, time_zone, require_approval, missed_after_minutes)
  values (
    org, coalesce(set_social_settings.time_zone, 'UTC'), coalesce(set_social_settings.require_approval, false),
    coalesce(set_social_settings.missed_after_minutes, 120)
  )
  on conflict (org_id) do update set
    time_zone = coalesce(set_social_settings.time_zone, s.time_zone),
    require_approval = coalesce(set_social_settings.require_approval, s.require_approval),
    missed_after_minutes = coalesce(set_social_settings.missed_after_minutes, s.missed_after_minutes)
  returning s.* into settings;
  return settings;
end
$$;
comment on function public.set_social_settings(text, boolean, integer) is 'Changes the time zone of the calendar, whether posts need an approval, and after how many minutes a late post is missed. Null leaves a setting as it is. Requires content:approve, of a signed-in member. Definer: users do not write the table.';
grant execute on function public.set_social_settings(text, boolean, integer) to authenticated;

create function private.social_settings_of(org uuid) returns public.social_settings
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  settings public.social_settings;
begin
  select s.* into settings from public.social_settings as s where s.org_id = org;
  settings.time_zone := coalesce(settings.time_zone, 'UTC');
  settings.require_approval := coalesce(settings.require_approval, false);
  settings.missed_after_minutes := coalesce(settings.missed_after_minutes, 120);
  return settings;
end
$$;
comment on function private.social_settings_of(uuid) is 'What an organization has decided, with the defaults.';

create function private.social_require(post_id uuid, permission text) returns public.social_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts;
begin
  perform private.tenancy_require_caller();
  select p.* into post from public.social_posts as p
  where p.id = social_require.post_id and p.org_id = any (array(select private.org_ids_with('content:read')));
  if post.id is null then
    perform kijko.fail('not_found', 'no such post');
  elsif public.can(post.org_id, social_require.permission) is not true then
    perform kijko.fail('permission_denied', format('requires the permission %s', social_require.permission));
  end if;
  -- A deletion locks the organization before the post.
  perform 1 from public.organizations as o where o.id = post.org_id for key share;
  select p.* into post from public.social_posts as p where p.id = social_require.post_id for no key update;
  if post.id is null then
    perform kijko.fail('not_found', 'no such post');
  end if;
  return post;
end
$$;
comment on function private.social_require(uuid, text) is 'Locks a post that the caller sees. Fails with not_found, and with permission_denied if the caller does not hold the permission.';

create function private.social_log(
  post public.social_posts, event text, code text default null, message text default null, http_status integer default null, cost bigint default 0
) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  insert into public.publish_logs (org_id, social_post_id, platform, attempt, event, error_code, message, http_status, platform_post_id, cost_microusd, created_at)
  values (
    post.org_id, post.id, post.platform, post.attempts, event, "left"(code, 100), "left"(message, 2000), http_status, post.platform_post_id, cost,
    kijko.now() + (clock_timestamp() - now())
  )
$$;
comment on function private.social_log(public.social_posts, text, text, text, integer, bigint) is 'Adds a row to publish_logs.';

-- A time that a change of the clock skips is refused; of two the earlier one is meant.
create function private.social_moment(local_time timestamp, time_zone text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  moment constant timestamptz := local_time at time zone time_zone;
begin
  if moment at time zone time_zone <> local_time then
    perform kijko.fail('invalid_input', format('local_time: the clocks in %s skip this time', time_zone));
  end if;
  -- Clocks are set back by an hour, on Lord Howe Island by half of one, at Troll by two.
  return (
    select min(moment - s.step) from unnest('{0,30 minutes,1 hour,2 hours}'::interval[]) as s (step)
    where (moment - s.step) at time zone time_zone = local_time
  );
end
$$;
comment on function private.social_moment(timestamp, text) is 'The moment of a time on the wall in a zone. Fails with invalid_input for a time that does not exist.';

create function public.schedule_social_post(post_id uuid, local_time timestamp default null, time_zone text default null) returns public.social_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post public.social_posts := private.social_require(schedule_social_post.post_id, 'content:publish');
  settings constant public.social_settings := private.social_settings_of(post.org_id);
  zone constant text := coalesce(schedule_social_post.time_zone, settings.time_zone);
  problems jsonb;
  errors text;
  is_waiting boolean;
  moment timestamptz := kijko.now();
begin
  if post.status in ('publishing', 'published', 'unconfirmed') then
    perform kijko.fail('conflict', format('the post is %s', post.status));
  elsif settings.require_approval and post.approval_status <> 'approved' then
    perform kijko.fail('conflict', 'the organization publishes approved posts only', 'submit_social_post() asks for an approval.');
  elsif not exists (select 1 from pg_timezone_names as z where z.name = zone) then
    perform kijko.fail('invalid_timezone', 'time_zone: a name of the IANA database');
  end if;
  if local_time is not null then
    if local_time not between kijko.now()::timestamp - interval '2 days' and kijko.now()::timestamp + interval '2 years' then
      perform kijko.fail('invalid_input', 'local_time: within two years from now');
    end if;
    moment := private.social_moment(local_time, zone);
  end if;
  if moment < kijko.now() - make_interval(mins => settings.missed_after_minutes) then
    perform kijko.fail('invalid_input', 'local_time: it is over');
  end if;
  perform private.social_lock_media(post);
  problems := private.social_problems(post);
  select string_agg(format('%s: %s', p.value ->> 'code', p.value ->> 'message'), '; '), bool_and(p.value ->> 'code' = 'media_not_measured')
  into errors, is_waiting
  from jsonb_array_elements(problems) as p where p.value ->> 'severity' = 'error';
  if is_waiting then
    perform kijko.fail('conflict', errors, 'Try again in a moment: an image is measured within seconds after its upload.');
  elsif errors is not null then
    perform kijko.fail('invalid_input', errors, 'preview_social_post() shows what the platform would refuse.');
  end if;
  update public.social_posts as p
  set status = 'scheduled', time_zone = zone, scheduled_local = moment at time zone zone, scheduled_at = moment, publish_after = null, attempts = 0,
    error_code = null, error = null
  where p.id = post.id
  returning p.* into post;
  -- A post for now does not wait for the tick of the next minute.
  if moment <= kijko.now() then
    perform private.social_enqueue(post);
  end if;
  return post;
end
$$;
comment on function public.schedule_social_post(uuid, timestamp, text) is 'Schedules a post for a time on the wall, by default in the time zone of the settings; without a time, for now. Fails with invalid_input for what the platform would refuse, a time that is over, or one that a change of the clock skips, and with conflict if it is under way or published, lacks an approval that the settings ask for, or has an image that is still being measured. Requires content:publish. Definer: users do not write states.';
grant execute on function public.schedule_social_post(uuid, timestamp, text) to authenticated;

create function public.cancel_social_post(post_id uuid) returns public.social_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post public.social_posts := private.social_require(cancel_social_post.post_id, 'content:write');
begin
  perform 1 from private.social_publications as p where p.post_id = post.id for update;
  if post.status not in ('scheduled', 'publishing') then
    perform kijko.fail('conflict', format('the post is %s', post.status));
  elsif exists (select 1 from private.social_publications as p where p.post_id = post.id and p.create_id is not null) then
    perform kijko.fail('conflict', 'the platform has been asked to create the post');
  end if;
  update public.social_posts as p set status = 'cancelled', publish_after = null where p.id = post.id returning p.* into post;
  return post;
end
$$;
comment on function public.cancel_social_post(uuid) is 'Cancels a post that is scheduled, or that is being prepared. Fails with conflict once the platform has been asked to create it. Requires content:write. Definer: users do not write states.';
grant execute on function public.cancel_social_post(uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- Approval
-- ----------------------------------------------------------------------------

create function public.submit_social_post(post_id uuid, reason text default null) returns public.approvals
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post public.social_posts := private.social_require(submit_social_post.post_id, 'content:write');
  approval public.approvals;
begin
  if post.status in ('publishing', 'published', 'unconfirmed') or post.approval_status = 'approved' then
    perform kijko.fail('conflict', format('the post is %s', case when post.approval_status = 'approved' then 'approved' else post.status end));
  end if;
  perform private.social_lock_media(post);
  if exists (select 1 from private.social_media(post) as m where m.content_type is null) then
    perform kijko.fail('invalid_input', 'media_not_found: an image is not in the bucket social-media', 'Upload it first. Nobody approves what is not there.');
  end if;
  approval := private.approvals_request(
    post.org_id, 'social_post', post.id, '',
    left(format('Publish on %s: %s', post.platform, regexp_replace(post.text, '\s+', ' ', 'g')), 300),
    -- The beginning, which fits whatever it says. Who decides reads the post.
    jsonb_build_object(
      'revision', post.revision, 'platform', post.platform, 'connection_id', post.connection_id,
      'text', left(private.social_full_text(post.text, post.hashtags), 2000), 'images', jsonb_array_length(post.media)
    ),
    submit_social_post.reason, interval '30 days'
  );
  update public.social_posts as p set approval_status = 'submitted' where p.id = post.id;
  return approval;
end
$$;
comment on function public.submit_social_post(uuid, text) is 'Asks for the approval of a post as it is now; approve_change() and reject_change() decide. Fails with conflict if it is approved, or waits for its approval already, and with invalid_input while an image is not there. Requires content:write. Definer: users only read approvals.';
grant execute on function public.submit_social_post(uuid, text) to authenticated;

create function private.social_apply_approval(approval public.approvals) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts;
begin
  select p.* into post from public.social_posts as p where p.org_id = approval.org_id and p.id = approval.subject_id for update;
  if post.id is null then
    perform kijko.fail('conflict', 'the post was deleted');
  elsif post.revision <> (approval.change ->> 'revision')::integer then
    perform kijko.fail('conflict', 'the post was edited since', 'Reject the request, and submit the post again.');
  end if;
  update public.social_posts as p set approval_status = 'approved' where p.id = post.id;
end
$$;
comment on function private.social_apply_approval(public.approvals) is 'Approves the revision that a request names; fails with conflict if the post was edited since. Named by private.approval_kinds.';
insert into private.approval_kinds (kind, permission, apply_function, description)
values ('social_post', 'content:approve', 'social_apply_approval', 'A social post may be published');

create function private.social_end_approval() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.social_posts as p set approval_status = case new.status when 'rejected' then 'rejected' else 'none' end
  where p.org_id = new.org_id and p.id = new.subject_id and p.approval_status = 'submitted' and p.revision = (new.change ->> 'revision')::integer;
  return null;
end
$$;
comment on function private.social_end_approval() is 'Trigger: a post whose request was rejected or withdrawn, or has expired, is not approved. Definer: who decides may not write posts.';
create trigger approvals_social_post after update of status on public.approvals
  for each row when (new.kind = 'social_post' and old.status = 'pending' and new.status in ('rejected', 'withdrawn', 'expired'))
  execute function private.social_end_approval();

-- ----------------------------------------------------------------------------
-- Preview and calendar
-- ----------------------------------------------------------------------------

create function public.preview_social_post(post_id uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts;
  full_text text;
begin
  perform private.tenancy_require_caller();
  select p.* into post from public.social_posts as p
  where p.id = preview_social_post.post_id and p.org_id = any (array(select private.org_ids_with('content:read')));
  if post.id is null then
    perform kijko.fail('not_found', 'no such post');
  end if;
  full_text := private.social_full_text(post.text, post.hashtags);
  return jsonb_build_object(
    'text', full_text, 'length', private.social_length(post.platform, full_text), 'max_length', private.social_max_length(post.platform),
    'links', to_jsonb(array(select private.social_links(full_text))),
    'cost_microusd', case when private.connections_has_application(post.org_id, post.connection_id) then 0 else private.social_cost(post) end,
    'media', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'path', m.path, 'alt_text', m.alt_text, 'content_type', m.content_type, 'bytes', m.bytes, 'status', m.status, 'width', m.width, 'height', m.height,
        'frames', m.frames
      ) order by m.n), '[]')
      from private.social_media(post) as m
    ),
    'problems', private.social_problems(post)
  );
end
$$;
comment on function public.preview_social_post(uuid) is 'A post as it would be published: text with hashtags, its length as the platform counts it, links, cost (0 by an application of your own), media, and problems as a list of {code, severity, message}. Requires content:read. Definer: it checks the permission itself.';
grant execute on function public.preview_social_post(uuid) to authenticated;

create type public.social_calendar_entry as (
  post_id uuid, platform text, status text, approval_status text, day date, local_time timestamp, scheduled_at timestamptz, title text,
  conflicts_with uuid[], duplicate_of uuid[]
);
comment on type public.social_calendar_entry is 'A post in the calendar. conflicts_with: posts of the same account less than an hour away. duplicate_of: posts of the same account with the same text, 90 days before or after.';

create function public.social_calendar(first_day date, last_day date) returns setof public.social_calendar_entry
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('content:read');
  zone constant text := (private.social_settings_of(org)).time_zone;
begin
  if first_day is null or last_day is null or last_day < first_day or last_day - first_day > 92 then
    perform kijko.fail('invalid_input', 'first_day and last_day: at most 92 days');
  end if;
  return query
  select p.id, p.platform, p.status, p.approval_status, (p.scheduled_at at time zone zone)::date, p.scheduled_at at time zone zone, p.scheduled_at,
    left(p.text, 100),
    array(
      select o.id from public.social_posts as o
      where o.org_id = org and o.scheduled_at > p.scheduled_at - interval '1 hour' and o.scheduled_at < p.scheduled_at + interval '1 hour'
        and o.id <> p.id and o.platform = p.platform and o.connection_id is not distinct from p.connection_id
        and o.status in ('scheduled', 'publishing', 'published', 'unconfirmed')
      order by o.scheduled_at, o.id limit 20
    ),
    array(
      select o.id from public.social_posts as o
      where o.org_id = org and o.platform = p.platform and o.text_hash = p.text_hash
        and o.scheduled_at > p.scheduled_at - interval '90 days' and o.scheduled_at < p.scheduled_at + interval '90 days'
        and o.id <> p.id and p.text <> '' and o.connection_id is not distinct from p.connection_id
        and o.status in ('scheduled', 'publishing', 'published', 'unconfirmed')
      order by o.scheduled_at, o.id limit 20
    )
  from public.social_posts as p
  where p.org_id = org and p.scheduled_at >= first_day::timestamp at time zone zone and p.scheduled_at < (last_day + 1)::timestamp at time zone zone
    and p.status not in ('draft', 'cancelled')
  order by p.scheduled_at, p.id
  limit 1000;
end
$$;
comment on function public.social_calendar(date, date) is 'The posts of some days (92 at most, 1,000 posts), in the time zone of the settings, with conflicts and duplicates. Requires content:read. Definer: it checks the permission itself.';
grant execute on function public.social_calendar(date, date) to authenticated;
