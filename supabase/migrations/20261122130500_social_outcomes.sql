-- ============================================================================
-- Social posts: the create call, and what became of it.
-- ============================================================================

create function private.social_start_create(worker text, job_id uuid, attempt integer, create_id uuid, limit_seconds double precision) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts := private.social_lock(worker, job_id, attempt);
  publication private.social_publications;
  cost bigint;
  hold uuid;
begin
  select b.* into publication from private.social_publications as b where b.post_id = post.id for update;
  if publication.post_id is null or post.status is distinct from 'publishing' then
    return '{}'::jsonb;
  elsif publication.create_id is not null then
    -- Asked again, because the answer got lost. Whether there is still time is the worker's to know.
    return jsonb_build_object('started', publication.create_id = social_start_create.create_id);
  end if;
  -- The call starts once this has committed: an intent that a crash of the server could take back is none.
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  -- By the token that the worker was given.
  cost := case when publication.own_application then 0 else private.social_cost(post) - private.social_alt_text_cost(post) end;
  if cost > 0 then
    begin
      hold := kijko.reserve(post.org_id, 'publish_cost_microusd', cost, interval '1 day', social_start_create.create_id::text);
    exception when sqlstate 'KJ429' then
      perform private.social_log(post, 'prepared');
      perform private.social_fail(post, 'permanent', 'quota_exceeded', 'the plan holds no more costs of publishing this month', null, null);
      return '{}'::jsonb;
    end;
  end if;
  update private.social_publications as b
  set create_id = social_start_create.create_id, create_started_at = clock_timestamp(), outcome_unknown = false, checks = 0, check_after = null,
    create_deadline = clock_timestamp() + interval '5 seconds' + make_interval(secs => limit_seconds), hold_id = hold, cost_microusd = cost
  where b.post_id = post.id;
  perform private.social_log(post, 'prepared');
  perform private.social_log(post, 'create_started', cost => cost);
  return '{"started": true}'::jsonb;
end
$$;
comment on function private.social_start_create(text, uuid, integer, uuid, double precision) is 'Commits the intent to create a post at its platform, by a call that starts within five seconds and takes limit_seconds at most; reserves what it costs. {"started": true}, or anything else when the call must not be made. Definer: the sidecar holds no table rights.';
grant execute on function private.social_start_create(text, uuid, integer, uuid, double precision) to kijko_sidecar;

create function private.social_lock_create(create_id uuid) returns public.social_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts;
begin
  -- As in social_lock().
  perform 1 from public.organizations as o
  where o.id = (select b.organization from private.social_publications as b where b.create_id = social_lock_create.create_id) for key share;
  select p.* into post from public.social_posts as p
  where p.id = (select b.post_id from private.social_publications as b where b.create_id = social_lock_create.create_id) for no key update;
  perform 1 from private.social_publications as b where b.post_id = post.id and b.create_id = social_lock_create.create_id for update;
  if not found or post.status not in ('publishing', 'unconfirmed') then
    return null;
  end if;
  return post;
end
$$;
comment on function private.social_lock_create(uuid) is 'Locks the post of a create call; null if another one followed, or its outcome is known. Nullable: result.';

create function private.social_settle(post public.social_posts) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  publication private.social_publications;
begin
  select b.* into publication from private.social_publications as b where b.post_id = post.id;
  if publication.hold_id is not null then
    perform kijko.settle(publication.hold_id, publication.cost_microusd, post.org_id, 'publish_cost_microusd');
    perform private.social_add_cost(post, publication.create_id, publication.cost_microusd, post.platform);
  end if;
  return coalesce(publication.cost_microusd + publication.alt_texts_microusd, 0);
end
$$;
comment on function private.social_settle(public.social_posts) is 'Ends the hold of a create call that the platform may charge, and returns what this publication costs with its alternative texts. Once: a second settlement does nothing.';

create function private.social_show(post public.social_posts, found_id text, url text, event text, http_status integer) returns public.social_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  cost constant bigint := private.social_settle(post);
  changed public.social_posts;
begin
  update public.social_posts as p
  set status = 'published', published_at = kijko.now(), platform_post_id = "left"(found_id, 255), platform_url = "left"(url, 2048),
    cost_microusd = private.social_spent(post), error_code = null, error = null, publish_after = null
  where p.id = post.id
  returning p.* into changed;
  perform private.social_log(changed, event, http_status => http_status, cost => cost);
  return changed;
end
$$;
comment on function private.social_show(public.social_posts, text, text, text, integer) is 'A locked post is published.';

create function private.social_published(create_id uuid, platform_post_id text, url text, http_status integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_lock_create(create_id);
begin
  if post.id is null then
    return false;
  end if;
  perform private.social_show(post, social_published.platform_post_id, url, 'published', http_status);
  return true;
exception when unique_violation then
  -- What it shows is another post of ours, with the same text.
  return false;
end
$$;
comment on function private.social_published(uuid, text, text, integer) is 'The platform has created the post, by its answer or because it shows it; false if that is known, another call followed, or what it shows is another post of the organization. Definer: the sidecar holds no table rights.';
grant execute on function private.social_published(uuid, text, text, integer) to kijko_sidecar;

create function private.social_refused(create_id uuid, class text, code text, message text, http_status integer, wait_seconds double precision) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_lock_create(create_id);
  publication private.social_publications;
begin
  -- Not after the outcome was given up: a member may decide by what they saw.
  if post.id is null or post.status <> 'publishing' then
    return false;
  end if;
  select b.* into publication from private.social_publications as b where b.post_id = post.id;
  if publication.hold_id is not null then
    perform kijko.release(publication.hold_id);
  end if;
  update private.social_publications as b
  set create_id = null, create_started_at = null, create_deadline = null, outcome_unknown = false, hold_id = null, cost_microusd = 0
  where b.post_id = post.id;
  perform private.social_fail(post, class, code, message, http_status, wait_seconds);
  return true;
end
$$;
comment on function private.social_refused(uuid, text, text, text, integer, double precision) is 'The platform has certainly not created the post: it refused, or the request was never sent. Definer: the sidecar holds no table rights.';
grant execute on function private.social_refused(uuid, text, text, text, integer, double precision) to kijko_sidecar;

create function private.social_lost(create_id uuid, code text, message text, http_status integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts := private.social_lock_create(create_id);
begin
  if post.id is null or post.status <> 'publishing' then
    return false;
  end if;
  update private.social_publications as b set outcome_unknown = true, check_after = clock_timestamp() where b.post_id = post.id;
  perform private.social_log(post, 'outcome_unknown', code, message, http_status);
  perform private.social_set(post, 'publishing', code, message, null);
  return true;
end
$$;
comment on function private.social_lost(uuid, text, text, integer) is 'Nobody knows what the create call did: there was no answer, or none that says it. Definer: the sidecar holds no table rights.';
grant execute on function private.social_lost(uuid, text, text, integer) to kijko_sidecar;

-- After a minute, two, four and eight: a platform may show a post late. One that was not found is never created again by itself.
create function private.social_not_found(create_id uuid, can_tell boolean, failure text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_checks constant integer := 5;
  post public.social_posts := private.social_lock_create(create_id);
  publication private.social_publications;
  cost bigint;
begin
  if post.id is null or post.status <> 'publishing' then
    return false;
  end if;
  update private.social_publications as b
  set checks = b.checks + 1, check_after = clock_timestamp() + interval '1 minute' * power(2, b.checks)
  where b.post_id = post.id
  returning b.* into publication;
  if can_tell and publication.checks < max_checks then
    perform private.social_log(post, 'not_found', case when failure is not null then 'check_failed' end, failure);
    return true;
  end if;
  -- Who decides must not take a platform that did not answer for one that does not have the post.
  post := private.social_set(post, 'unconfirmed', 'outcome_unknown', case
    when not can_tell then 'the platform cannot be asked whether it has the post'
    when failure is not null then 'the platform could not be asked whether it has the post: ' || failure
    else 'the platform does not show the post'
  end, null);
  cost := private.social_settle(post);
  update public.social_posts as p set cost_microusd = private.social_spent(post) where p.id = post.id returning p.* into post;
  perform private.social_log(post, 'unconfirmed', post.error_code, post.error, cost => cost);
  return true;
end
$$;
comment on function private.social_not_found(uuid, boolean, text) is 'The platform does not show the post; or it did not answer (failure), or shows it to nobody (not can_tell). After five looks, in some quarter of an hour, or at once if it shows it to nobody, the post is unconfirmed, and members decide. Definer: the sidecar holds no table rights.';
grant execute on function private.social_not_found(uuid, boolean, text) to kijko_sidecar;

create function private.social_read_price(post public.social_posts) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return case when not exists (select from private.social_publications as b where b.post_id = post.id and b.own_application) then coalesce((
  select p.cost_microusd from private.social_prices as p where p.platform = post.platform and p.item = 'read'
), 0) else 0 end;
comment on function private.social_read_price(public.social_posts) is 'What the platform charges the operator for one post that it shows in a look for this one, in millionths of a US dollar; 0 on the organization''s own application.';

-- A worker that dies while it looks leaves a hold, which the next look ends.
create function private.social_reserve_reads(create_id uuid, most integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_lock_create(create_id);
  price constant bigint := private.social_read_price(post);
  held uuid;
begin
  if post.id is null or price = 0 then
    return post.id is not null;
  end if;
  select b.reads_hold_id into held from private.social_publications as b where b.post_id = post.id;
  if held is not null then
    perform kijko.release(held);
  end if;
  begin
    held := kijko.reserve(post.org_id, 'publish_cost_microusd', greatest(most, 1) * price, interval '1 hour');
  exception when sqlstate 'KJ429' then
    held := null;
  end;
  update private.social_publications as b set reads_hold_id = held where b.post_id = post.id;
  return held is not null;
end
$$;
comment on function private.social_reserve_reads(uuid, integer) is 'Reserves what a platform charges for at most so many posts that it shows in a look for this one; false, and the platform must not be asked, if the plan holds no more, or nobody needs to look any more. Definer: the sidecar holds no table rights.';
grant execute on function private.social_reserve_reads(uuid, integer) to kijko_sidecar;

create function private.social_charge_reads(create_id uuid, look uuid, reads integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_lock_create(create_id);
  cost constant bigint := greatest(reads, 0) * private.social_read_price(post);
  held uuid;
begin
  if post.id is null or exists (select from public.content_costs as c where c.org_id = post.org_id and c.source = 'social_post' and c.source_id = look) then
    return false;
  end if;
  select b.reads_hold_id into held from private.social_publications as b where b.post_id = post.id;
  update private.social_publications as b set reads_hold_id = null where b.post_id = post.id and b.reads_hold_id is not null;
  if cost = 0 then
    if held is not null then
      perform kijko.release(held);
    end if;
    return false;
  end if;
  -- Without a hold, which has ended or which another look has: it is charged already, whatever the plan holds.
  perform kijko.settle(coalesce(held, look), cost, post.org_id, 'publish_cost_microusd');
  perform private.social_add_cost(post, look, cost, post.platform || ', posts that were read');
  update public.social_posts as p set cost_microusd = private.social_spent(post) where p.id = post.id;
  return true;
end
$$;
comment on function private.social_charge_reads(uuid, uuid, integer) is 'Records what a platform charges for the posts that it has shown in a look for this one, once for each look, and ends the hold of social_reserve_reads(). Definer: the sidecar holds no table rights.';
grant execute on function private.social_charge_reads(uuid, uuid, integer) to kijko_sidecar;

create function private.social_end_job(worker text, job_id uuid, attempt integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_delete_leased(worker, job_id, attempt, 'social_publish');
end
$$;
comment on function private.social_end_job(text, uuid, integer) is 'Deletes a job that has ended; false when the lease was lost. What it did is in the post and its log. Definer: the sidecar holds no table rights.';
grant execute on function private.social_end_job(text, uuid, integer) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Members decide about what nobody knows
-- ----------------------------------------------------------------------------

create function private.social_require_unconfirmed(post_id uuid) returns public.social_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_require(post_id, 'content:publish');
begin
  if post.status <> 'unconfirmed' then
    perform kijko.fail('conflict', format('the post is %s', post.status));
  end if;
  perform 1 from private.social_publications as b where b.post_id = post.id and b.create_deadline > clock_timestamp() for update;
  if found then
    perform kijko.fail('conflict', 'the platform may still be creating the post', 'Try again in a minute.');
  end if;
  return post;
end
$$;
comment on function private.social_require_unconfirmed(uuid) is 'Locks a post whose outcome is unknown, after the time limit of its create call. Fails with not_found, permission_denied or conflict.';

create function public.confirm_social_post(post_id uuid, platform_post_id text default null) returns public.social_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_require_unconfirmed(confirm_social_post.post_id);
begin
  return private.social_show(post, nullif(btrim(confirm_social_post.platform_post_id), ''), null, 'confirmed', null);
exception when unique_violation then
  perform kijko.fail('conflict', 'platform_post_id: another post of the organization has it', 'Each post has an id of its own at the platform.');
  return null;
end
$$;
comment on function public.confirm_social_post(uuid, text) is 'Says that an unconfirmed post is at the platform: a member has looked. Requires content:publish. Fails with conflict if it is not unconfirmed, while the platform may still be creating it, or if another post has this id. Definer: users do not write states.';
grant execute on function public.confirm_social_post(uuid, text) to authenticated;

create function public.resend_social_post(post_id uuid) returns public.social_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post public.social_posts := private.social_require_unconfirmed(resend_social_post.post_id);
begin
  perform private.social_log(post, 'resent');
  -- What was prepared may be used up, such as a container of Instagram.
  delete from private.social_publications as b where b.post_id = post.id;
  update public.social_posts as p
  set status = 'scheduled', scheduled_at = kijko.now(), scheduled_local = kijko.now() at time zone p.time_zone, publish_after = null, attempts = 0,
    error_code = null, error = null
  where p.id = post.id
  returning p.* into post;
  perform private.social_enqueue(post);
  return post;
end
$$;
comment on function public.resend_social_post(uuid) is 'Publishes an unconfirmed post again: a member has looked, and it is not at the platform. Requires content:publish. Fails with conflict if it is not unconfirmed, or while the platform may still be creating it. Definer: users do not write states.';
grant execute on function public.resend_social_post(uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- After the restore of a backup
-- ----------------------------------------------------------------------------

create function private.social_doubt_restored() returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  paused constant timestamptz := (select p.paused_at from private.job_queue_pause as p);
  post public.social_posts;
  doubted integer := 0;
begin
  if paused is null then
    perform kijko.fail('conflict', 'the queue is not paused');
  end if;
  for post in
    select p.* from public.social_posts as p
    where p.status in ('scheduled', 'publishing') and coalesce(p.publish_after, p.scheduled_at) <= paused and not private.social_is_queued(p)
      -- Of a create call that is known the platform is asked.
      and not exists (select from private.social_publications as b where b.post_id = p.id and b.create_id is not null)
    order by p.id for no key update
  loop
    post := private.social_set(post, 'unconfirmed', 'outcome_unknown', 'a backup was restored; the post may have been published after it was made', null);
    perform private.social_log(post, 'unconfirmed', post.error_code, post.error);
    doubted := doubted + 1;
  end loop;
  return doubted;
end
$$;
comment on function private.social_doubt_restored() is 'After a restore, while the queue is paused: posts that were due by then and have no job are unconfirmed, because the lost database may have published them. Returns how many. Only for postgres.';

-- ----------------------------------------------------------------------------
-- Notices
-- ----------------------------------------------------------------------------

create function private.social_notify() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_send(
    new.org_id, null, 'social.attention',
    jsonb_build_object('post_id', new.id, 'platform', new.platform, 'status', new.status, 'error_code', coalesce(new.error_code, ''), 'text', left(new.text, 100)),
    format('social.attention:%s:%s:%s', new.id, new.status, extract(epoch from clock_timestamp()))
  );
  return null;
end
$$;
comment on function private.social_notify() is 'Trigger: tells members with content:publish that a post was not published, or that its outcome is unknown. Definer: the worker may not write notifications.';
create trigger social_posts_attention after update of status on public.social_posts
  for each row when (old.status <> new.status and new.status in ('failed', 'missed', 'unconfirmed')) execute function private.social_notify();

select private.schedule('kijko-social', '* * * * *', 'perform private.social_tick()');
