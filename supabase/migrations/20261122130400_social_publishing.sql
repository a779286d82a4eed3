-- ============================================================================
-- Social posts: publishing.
--
--   1. private.social_tick() queues posts that are due, each minute.
--   2. social_begin() gives a worker the post and the account's token. A post that is too late is missed.
--   3. The worker prepares media and containers, as often as needed, and keeps what the platform holds by social_prepared().
--   4. social_start_create() commits the intent. The call starts within five seconds of it, or never.
--   5. social_published(), social_refused() or social_lost() says how the call ended. They name the call and need no lease: what the
--      platform has done is kept, also if another worker holds the job by now.
--   6. A worker that finds an intent knows nothing of its outcome. It asks the platform whether the post is there, and never repeats
--      the call.
-- ============================================================================

create function private.social_enqueue(post public.social_posts) returns uuid
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select private.jobs_enqueue(
    post.org_id, 'social_publish', jsonb_build_object('post_id', post.id), max_attempts => 20, timeout_seconds => 300, unique_key => post.id::text
  )
$$;
comment on function private.social_enqueue(public.social_posts) is 'Queues the next step of publishing a post; null if it is queued. Called by definer functions only.';

-- (No search_path of its own, to be inlined.)
create function private.social_is_queued(post public.social_posts) returns boolean
language sql stable
return exists (
  select 1 from public.jobs as j
  where j.org_id = post.org_id and j.kind = 'social_publish' and j.unique_key = post.id::text and j.status in ('queued', 'running')
);
comment on function private.social_is_queued(public.social_posts) is 'Whether a job publishes the post, now or soon.';

create index social_posts_publishing_idx on public.social_posts (id) where status = 'publishing';

create function private.social_tick(max_posts integer default 1000) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  post public.social_posts;
  queued integer := 0;
begin
  -- Organizations take turns: thousands of posts of one do not keep another's waiting.
  for post in
    with recursive orgs as (
      (select p.org_id from public.social_posts as p where p.status = 'scheduled' order by p.org_id limit 1)
      union all
      select (select p.org_id from public.social_posts as p where p.status = 'scheduled' and p.org_id > o.org_id order by p.org_id limit 1)
      from orgs as o where o.org_id is not null
    ), due as (
      select d.* from orgs as o
      cross join lateral (
        select make_interval(mins => (private.social_settings_of(o.org_id)).missed_after_minutes) as missed_after offset 0
      ) as settings
      cross join lateral (
        select p.id, coalesce(p.publish_after, p.scheduled_at) as due_at, row_number() over (order by coalesce(p.publish_after, p.scheduled_at)) as turn
        from public.social_posts as p
        where p.org_id = o.org_id and p.status = 'scheduled' and coalesce(p.publish_after, p.scheduled_at) <= kijko.now()
          and not private.social_is_queued(p)
          -- One that waits for a consent is looked at again when its connection is active, and when it is too late.
          and not (p.error_code = 'connection_paused' and p.scheduled_at + settings.missed_after >= kijko.now() and exists (
            select 1 from public.connections as c where c.org_id = p.org_id and c.id = p.connection_id and c.status = 'paused'
          ))
        order by due_at limit max_posts
      ) as d
      where o.org_id is not null
    )
    select p.* from due as d join public.social_posts as p on p.id = d.id order by d.turn, d.due_at limit max_posts
  loop
    continue when post.org_id = any (private.passed_over());
    -- One that fails stops no other.
    begin
      queued := queued + (private.social_enqueue(post) is not null)::integer;
    exception when others then
      raise warning 'social post %: %', post.id, sqlerrm;
      perform private.pass_over(post.org_id, sqlstate);
    end;
  end loop;
  -- Also those whose job is gone: its workers died too often.
  for post in
    select p.* from public.social_posts as p
    left join private.social_publications as b on b.post_id = p.id
    where p.status = 'publishing' and not private.social_is_queued(p) and coalesce(b.check_after, b.create_deadline, '-infinity') <= clock_timestamp()
    order by p.id limit max_posts
  loop
    continue when post.org_id = any (private.passed_over());
    -- One that fails stops no other.
    begin
      queued := queued + (private.social_enqueue(post) is not null)::integer;
    exception when others then
      raise warning 'social post %: %', post.id, sqlerrm;
      perform private.pass_over(post.org_id, sqlstate);
    end;
  end loop;
  return queued;
end
$$;
comment on function private.social_tick(integer) is 'Queues the posts that are due and those whose outcome is to be looked up, and returns how many. Runs every minute.';

create function private.social_set(post public.social_posts, status text, code text, message text, wait interval) returns public.social_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  changed public.social_posts;
begin
  update public.social_posts as p
  set status = social_set.status, error_code = "left"(code, 100), error = "left"(message, 2000), publish_after = kijko.now() + wait
  where p.id = post.id
  returning p.* into changed;
  return changed;
end
$$;
comment on function private.social_set(public.social_posts, text, text, text, interval) is 'Changes the state of a locked post.';

-- ----------------------------------------------------------------------------
-- How an attempt fails. The class of a platform's error is the sidecar's to say.
-- ----------------------------------------------------------------------------

create function private.social_fail(post public.social_posts, class text, code text, message text, http_status integer, wait_seconds double precision)
returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  max_attempts constant integer := 5;
  changed public.social_posts := post;
  wait interval := make_interval(secs => least(greatest(coalesce(wait_seconds, 0), 0), 172800));
begin
  if class = 'permanent' or (class = 'transient' and post.attempts >= max_attempts) then
    perform private.social_log(post, 'refused', code, message, http_status);
    perform private.social_set(post, 'failed', code, message, null);
    return;
  elsif class = 'transient' then
    wait := greatest(wait, interval '30 seconds' * power(2, post.attempts - 1));
  else
    -- Neither a quota nor a consent that is missing is a fault of the post.
    update public.social_posts as p set attempts = greatest(p.attempts - 1, 0) where p.id = post.id returning p.* into changed;
    if class = 'quota' then
      wait := greatest(wait, interval '1 minute');
      update private.social_publications as b set deferred_until = kijko.now() + wait where b.post_id = post.id;
    else
      -- A new token may be refused, too, each minute for hours: the platform, too, is spared that.
      select greatest(wait, interval '1 minute' * (power(2, least(count(*), 3)) - 1)) into wait
      from public.publish_logs as l
      where l.org_id = post.org_id and l.social_post_id = post.id and l.event = 'connection_paused' and l.created_at > kijko.now() - interval '3 hours';
    end if;
  end if;
  perform private.social_log(changed, case class when 'reauthorize' then 'connection_paused' else 'rescheduled' end, code, message, http_status);
  perform private.social_set(changed, 'scheduled', code, message, wait);
end
$$;
comment on function private.social_fail(public.social_posts, text, text, text, integer, double precision) is 'Records that an attempt failed and nothing was created. class: permanent (failed), transient (again with back-off, five attempts), quota (again after wait_seconds, not counted) or reauthorize (again once the connection is active, soon and then after seven minutes, not counted).';

create function private.social_lock(worker text, job_id uuid, attempt integer) returns public.social_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
  post public.social_posts;
begin
  -- A deletion locks the organization before the job, and the log refers to it.
  perform 1 from public.organizations as o where o.id = (select j.org_id from public.jobs as j where j.id = job_id) for key share;
  job := private.jobs_lock_leased(worker, job_id, attempt);
  if job.kind = 'social_publish' then
    select p.* into post from public.social_posts as p
    where p.org_id = job.org_id and p.id = private.as_uuid(job.payload ->> 'post_id') for no key update;
  end if;
  return post;
end
$$;
comment on function private.social_lock(text, uuid, integer) is 'Locks the organization against its deletion, a held job and its post; null when the lease was lost or the post is gone.';

create function private.social_is_missed(post public.social_posts) returns boolean
language sql volatile set search_path = pg_catalog, pg_temp
return kijko.now() > make_interval(mins => (private.social_settings_of(post.org_id)).missed_after_minutes)
  -- The platform may have asked to wait, also before an attempt that failed since.
  + greatest(post.scheduled_at, (select b.deferred_until from private.social_publications as b where b.post_id = post.id));
comment on function private.social_is_missed(public.social_posts) is 'Whether it is too late to publish a post.';

create function private.social_add_cost(post public.social_posts, source_id uuid, cost bigint, detail text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select private.topics_add_cost(
    post.org_id, 'social_post', source_id, cost,
    (select b.topic_id from public.blog_posts as b where b.org_id = post.org_id and b.id = post.blog_post_id), post.blog_post_id, post.id, detail, null
  )
$$;
comment on function private.social_add_cost(public.social_posts, uuid, bigint, text) is 'Records what a platform has charged for a post, once by source_id: also as a cost of its blog post, and of the topic of that.';

create function private.social_spent(post public.social_posts) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((select sum(c.cost_microusd) from public.content_costs as c where c.org_id = post.org_id and c.social_post_id = post.id), 0)::bigint;
comment on function private.social_spent(public.social_posts) is 'What a post has cost so far: all its calls, also those of former revisions.';

create function private.social_begin(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.social_posts := private.social_lock(worker, job_id, attempt);
  publication private.social_publications;
  token jsonb;
  is_own boolean;
  alt_texts bigint := 0;
begin
  select b.* into publication from private.social_publications as b where b.post_id = post.id for update;
  if post.id is null or post.status not in ('scheduled', 'publishing') then
    return '{}'::jsonb;
  end if;
  token := private.connections_use(post.org_id, post.connection_id);
  if publication.create_id is not null then
    -- Its worker may only be slow: what it does is over by then.
    if publication.create_deadline > clock_timestamp() and not publication.outcome_unknown then
      return jsonb_build_object('wait', ceil(extract(epoch from publication.create_deadline - clock_timestamp()))::integer + 1);
    elsif not publication.outcome_unknown then
      perform private.social_lost(publication.create_id, 'worker_lost', 'the worker was lost while the platform was asked', null);
    end if;
    return private.social_describe(post, token, publication) || '{"action": "check"}';
  elsif coalesce(post.publish_after, post.scheduled_at) > kijko.now() then
    return '{}'::jsonb;
  elsif private.social_is_missed(post) then
    post := private.social_set(post, 'missed', coalesce(post.error_code, 'too_late'), post.error, null);
    perform private.social_log(post, 'missed', post.error_code, post.error);
    return '{}'::jsonb;
  elsif (private.social_settings_of(post.org_id)).require_approval and post.approval_status <> 'approved' then
    perform private.social_fail(post, 'permanent', 'approval_missing', 'the organization publishes approved posts only', null, null);
    return '{}'::jsonb;
  elsif token is null then
    perform private.social_fail(post, 'permanent', 'connection_missing', 'the connection was removed', null, null);
    return '{}'::jsonb;
  elsif token ->> 'status' = 'paused' then
    -- Once for each pause.
    if post.error_code is distinct from 'connection_paused' then
      perform private.social_log(post, 'connection_paused', 'connection_paused', token ->> 'reason');
    end if;
    perform private.social_set(post, 'scheduled', 'connection_paused', 'the connection waits to be authorized again', interval '1 minute');
    return '{}'::jsonb;
  elsif token ->> 'status' = 'refreshing' then
    return '{"wait": 5}'::jsonb;
  elsif post.attempts >= 10 then
    perform private.social_fail(post, 'permanent', 'too_many_attempts', 'the workers were lost too often', null, null);
    return '{}'::jsonb;
  end if;
  is_own := coalesce((token ->> 'own_application')::boolean, false);
  -- The platform charges alternative texts as they are sent, whatever becomes of the post; an organization's own application, not us.
  if not is_own and coalesce(publication.alt_texts_microusd, 0) = 0 then
    alt_texts := private.social_alt_text_cost(post);
    if alt_texts > 0 then
      begin
        perform kijko.settle(
          kijko.reserve(post.org_id, 'publish_cost_microusd', alt_texts, interval '1 day'), alt_texts, post.org_id, 'publish_cost_microusd'
        );
      exception when sqlstate 'KJ429' then
        perform private.social_fail(post, 'permanent', 'quota_exceeded', 'the plan holds no more costs of publishing this month', null, null);
        return '{}'::jsonb;
      end;
      perform private.social_add_cost(post, gen_random_uuid(), alt_texts, post.platform || ', alternative texts');
    end if;
  end if;
  update public.social_posts as p set status = 'publishing', attempts = p.attempts + 1, error_code = null, error = null, publish_after = null,
    cost_microusd = private.social_spent(post)
  where p.id = post.id returning p.* into post;
  insert into private.social_publications as b (post_id, organization, alt_texts_microusd, own_application)
  values (post.id, post.org_id, alt_texts, is_own)
  on conflict on constraint social_publications_pkey do update set
    check_after = null, alt_texts_microusd = b.alt_texts_microusd + excluded.alt_texts_microusd, own_application = excluded.own_application
  returning b.* into publication;
  perform private.social_log(post, 'started', cost => alt_texts);
  return private.social_describe(post, token, publication) || '{"action": "publish"}';
end
$$;
comment on function private.social_begin(text, uuid, integer) is 'What a held job is to do: {action: publish | check, …}, {wait: seconds}, or an empty object for nothing (also when the lease was lost). Definer: the sidecar holds no table rights.';
grant execute on function private.social_begin(text, uuid, integer) to kijko_sidecar;

create function private.social_describe(post public.social_posts, token jsonb, publication private.social_publications) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'post_id', post.id, 'org_id', post.org_id, 'platform', post.platform, 'text', private.social_full_text(post.text, post.hashtags),
  'media', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'path', m.path, 'alt_text', coalesce(btrim(m.alt_text), ''), 'content_type', coalesce(m.content_type, ''),
      'url', regexp_replace(private.connections_login_url(), '/auth/v1$', '') || '/storage/v1/object/public/social-media/' || m.path
    ) order by m.n), '[]')
    from private.social_media(post) as m
  ),
  'connection_id', post.connection_id, 'account_id', token ->> 'account_id', 'generation', (token ->> 'generation')::integer,
  'access_token', token ->> 'access_token', 'prepared', publication.prepared, 'create_id', publication.create_id,
  'create_started_at', floor(extract(epoch from publication.create_started_at))::bigint,
  -- Another post of ours with the same text is not this one.
  'known_ids', to_jsonb(array(
    select o.platform_post_id from public.social_posts as o
    where o.org_id = post.org_id and o.connection_id = post.connection_id and o.platform_post_id is not null
      and o.published_at > kijko.now() - interval '3 days'
  ))
);
comment on function private.social_describe(public.social_posts, jsonb, private.social_publications) is 'A post for the worker, with the token of its account.';

create function private.social_prepared(worker text, job_id uuid, attempt integer, prepared jsonb) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_lock(worker, job_id, attempt);
begin
  update private.social_publications as b set prepared = social_prepared.prepared
  where b.post_id = post.id and b.create_id is null and post.status = 'publishing';
  return found;
end
$$;
comment on function private.social_prepared(text, uuid, integer, jsonb) is 'Keeps what the platform holds for a post; false when there is nothing more to do: the lease was lost, or the post was cancelled. Definer: the sidecar holds no table rights.';
grant execute on function private.social_prepared(text, uuid, integer, jsonb) to kijko_sidecar;

create function private.social_failed(
  worker text, job_id uuid, attempt integer, class text, code text, message text, http_status integer, wait_seconds double precision
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.social_posts := private.social_lock(worker, job_id, attempt);
begin
  perform 1 from private.social_publications as b where b.post_id = post.id and b.create_id is null for update;
  if not found or post.status is distinct from 'publishing' then
    return false;
  end if;
  perform private.social_fail(post, class, code, message, http_status, wait_seconds);
  return true;
end
$$;
comment on function private.social_failed(text, uuid, integer, text, text, text, integer, double precision) is 'Records that an attempt failed before the create call; false when there is nothing more to do. Definer: the sidecar holds no table rights.';
grant execute on function private.social_failed(text, uuid, integer, text, text, text, integer, double precision) to kijko_sidecar;
