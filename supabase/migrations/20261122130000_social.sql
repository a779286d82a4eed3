-- ============================================================================
-- Social posts: what an organization publishes on LinkedIn, Facebook, Instagram and X.
--
--   1. A member writes a post. Checks say what the platform would refuse.
--   2. Where the settings ask for it, another member approves it. An edit takes the approval back.
--   3. A member with content:publish schedules it, in the organization's time zone.
--   4. When it is due, a job prepares it (media, containers) and then makes the one call that creates it. The intent is committed
--      before that call, so that no worker ever repeats it.
--   5. publish_logs has each step.
-- The platform X is called twitter, as in the interface of the earlier system.
-- ============================================================================

create table public.social_settings (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null unique default public.org_id() references public.organizations (id) on delete cascade,
  time_zone text not null default 'UTC' check (char_length(time_zone) between 1 and 64),
  require_approval boolean not null default false,
  missed_after_minutes integer not null default 120 check (missed_after_minutes between 5 and 1440),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.social_settings is 'What an organization has decided about its social posts; without a row the defaults hold. Written by set_social_settings().';
comment on column public.social_settings.id is 'Identity of the row.';
comment on column public.social_settings.org_id is 'Organization; it has one row at most.';
comment on column public.social_settings.time_zone is 'Time zone of the calendar, by its name in the IANA database.';
comment on column public.social_settings.require_approval is 'Whether only approved posts can be scheduled.';
comment on column public.social_settings.missed_after_minutes is 'A post that is later than this is not published any more, but missed.';
comment on column public.social_settings.created_by is 'User who created it; null after that user is deleted.';
comment on column public.social_settings.created_by_key is 'Always null: keys do not change it.';
comment on column public.social_settings.created_at is 'When it was created.';
comment on column public.social_settings.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.social_settings', resource => 'content', writable => '{}', catalogue => '{
  "time_zone, require_approval, missed_after_minutes": "says when and how posts are published"
}');
select private.audit_table('public.social_settings', 'social_settings', '{time_zone,require_approval,missed_after_minutes}');

-- ----------------------------------------------------------------------------
-- social_posts
-- ----------------------------------------------------------------------------

create table public.social_posts (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  platform text not null check (platform in ('linkedin', 'facebook', 'instagram', 'twitter')),
  connection_id uuid,
  blog_post_id uuid,
  text text not null default '' check (char_length(text) <= 65000),
  hashtags text[] not null default '{}' check (
    cardinality(hashtags) <= 60 and coalesce(array_ndims(hashtags), 1) = 1 and array_position(hashtags, null) is null
    and octet_length(hashtags::text) <= 8192
  ),
  media jsonb not null default '[]' check (jsonb_typeof(media) = 'array' and jsonb_array_length(media) <= 20 and private.json_fits(media, 32768)),
  revision integer not null default 1,
  status text not null default 'draft' check (
    status in ('draft', 'scheduled', 'publishing', 'published', 'failed', 'missed', 'unconfirmed', 'cancelled')
  ),
  approval_status text not null default 'none' check (approval_status in ('none', 'submitted', 'approved', 'rejected')),
  time_zone text check (char_length(time_zone) <= 64),
  -- squawk-ignore prefer-timestamp-tz
  scheduled_local timestamp,
  scheduled_at timestamptz,
  publish_after timestamptz,
  attempts integer not null default 0,
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 2000),
  platform_post_id text check (char_length(platform_post_id) <= 255),
  platform_url text check (char_length(platform_url) <= 2048),
  published_at timestamptz,
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  cost_usd numeric generated always as (cost_microusd::numeric / 1000000) stored,
  -- For duplicates: the words, whatever their case and blanks.
  text_hash text generated always as (md5(lower(btrim(regexp_replace(text, '\s+', ' ', 'g'))))) stored,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, connection_id) references public.connections (org_id, id) on delete set null (connection_id),
  foreign key (org_id, blog_post_id) references public.blog_posts (org_id, id) on delete set null (blog_post_id),
  check (status not in ('scheduled', 'publishing', 'published', 'missed', 'unconfirmed') or scheduled_at is not null),
  check ((status = 'published') = (published_at is not null))
);
create index social_posts_connection_idx on public.social_posts (org_id, connection_id);
create index social_posts_blog_post_idx on public.social_posts (org_id, blog_post_id);
create index social_posts_calendar_idx on public.social_posts (org_id, scheduled_at);
create index social_posts_text_idx on public.social_posts (org_id, platform, text_hash);
create index social_posts_due_idx on public.social_posts (org_id, coalesce(publish_after, scheduled_at)) where status = 'scheduled';
-- Two posts with the same text are two posts at the platform: what shows that one is there says nothing of the other.
create unique index social_posts_platform_post_id_idx on public.social_posts (org_id, platform, platform_post_id) where platform_post_id is not null;
create index social_posts_media_idx on public.social_posts using gin (media jsonb_path_ops) where media <> '[]';
comment on table public.social_posts is 'Posts for LinkedIn, Facebook, Instagram and X. Members write text, hashtags, media, platform and connection; functions change the rest.';
comment on column public.social_posts.id is 'Identity of the post.';
comment on column public.social_posts.org_id is 'Organization that it belongs to.';
comment on column public.social_posts.platform is 'Where it is published: linkedin, facebook, instagram or twitter (X).';
comment on column public.social_posts.connection_id is 'Account that publishes it; null until one is chosen, and after the connection is removed.';
comment on column public.social_posts.blog_post_id is 'Blog post that it is about, for the report of costs; null for none, and after that is deleted.';
comment on column public.social_posts.text is 'What it says, without the hashtags.';
comment on column public.social_posts.hashtags is 'Hashtags without #. They follow the text.';
comment on column public.social_posts.media is 'Images in order: objects with path (in the bucket social-media, beginning with the id of the organization) and alt_text.';
comment on column public.social_posts.revision is 'Number of the edit: text, hashtags, media, platform or connection have changed. Set by trigger; compare it to notice the edit of somebody else.';
comment on column public.social_posts.status is 'draft, scheduled, publishing, then published, failed (the platform refused it), missed (it would have been too late), unconfirmed (nobody knows whether it was created) or cancelled.';
comment on column public.social_posts.approval_status is 'none, submitted, approved or rejected, of this revision.';
comment on column public.social_posts.time_zone is 'Time zone in which it was scheduled.';
comment on column public.social_posts.scheduled_local is 'Time on the wall in that zone.';
comment on column public.social_posts.scheduled_at is 'The same moment, in UTC.';
comment on column public.social_posts.publish_after is 'Not before this: the platform asked to wait, or an attempt failed for a reason that may pass. Null otherwise.';
comment on column public.social_posts.attempts is 'Attempts to publish it. Waiting for a quota or for a new consent does not count.';
comment on column public.social_posts.error_code is 'Why it is not published, or waits.';
comment on column public.social_posts.error is 'The same in words, the platform''s where it has said something.';
comment on column public.social_posts.platform_post_id is 'Identity of the post at the platform.';
comment on column public.social_posts.platform_url is 'Address of the post at the platform, if it is known.';
comment on column public.social_posts.published_at is 'When the platform had created it.';
comment on column public.social_posts.cost_microusd is 'What the platform charges for it, in millionths of a US dollar.';
comment on column public.social_posts.cost_usd is 'The same in US dollars.';
comment on column public.social_posts.text_hash is 'Hash of the text without differences of case and blanks, for duplicates.';
comment on column public.social_posts.created_by is 'User who wrote it first; null after that user is deleted.';
comment on column public.social_posts.created_by_key is 'API key that wrote it first; null when a user did.';
comment on column public.social_posts.created_at is 'When it was written first.';
comment on column public.social_posts.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.social_posts', resource => 'content', max_rows => 100000, writable => '{platform,connection_id,blog_post_id,text,hashtags,media}', catalogue => '{
    "platform, connection_id, blog_post_id, text, hashtags, media, text_hash": "what members publish, and where",
    "revision, status, approval_status, attempts, error_code, error, platform_post_id, platform_url, published_at": "what became of it",
    "time_zone, scheduled_local, scheduled_at, publish_after": "when it is published",
    "cost_microusd, cost_usd": "what it costs"
  }'
);
select private.audit_table('public.social_posts', 'social_post', '{platform,status,approval_status,scheduled_at,platform_post_id}');

-- ----------------------------------------------------------------------------
-- publish_logs
-- ----------------------------------------------------------------------------

create table public.publish_logs (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  social_post_id uuid not null,
  platform text not null check (char_length(platform) <= 32),
  attempt integer not null,
  event text not null check (event in (
    'started', 'prepared', 'create_started', 'published', 'refused', 'rescheduled', 'connection_paused', 'outcome_unknown', 'not_found',
    'unconfirmed', 'missed', 'confirmed', 'resent'
  )),
  http_status integer,
  error_code text check (char_length(error_code) <= 100),
  message text check (char_length(message) <= 2000),
  platform_post_id text check (char_length(platform_post_id) <= 255),
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  cost_usd numeric generated always as (cost_microusd::numeric / 1000000) stored,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  foreign key (org_id, social_post_id) references public.social_posts (org_id, id) on delete cascade
);
create index publish_logs_post_idx on public.publish_logs (org_id, social_post_id, created_at, id);
comment on table public.publish_logs is 'Each step of publishing a post, in order. Rows are added and never changed.';
comment on column public.publish_logs.id is 'Identity of the row.';
comment on column public.publish_logs.org_id is 'Organization of the post.';
comment on column public.publish_logs.social_post_id is 'The post.';
comment on column public.publish_logs.platform is 'Where it was to be published.';
comment on column public.publish_logs.attempt is 'Which attempt it was.';
comment on column public.publish_logs.event is 'started, prepared (media and containers are at the platform), create_started (committed before the platform is asked to create it), published, refused, rescheduled, connection_paused, outcome_unknown (the answer was lost), not_found (the platform does not show the post), unconfirmed, missed, confirmed and resent (by a member).';
comment on column public.publish_logs.http_status is 'HTTP status of the platform''s answer; null without one.';
comment on column public.publish_logs.error_code is 'Why the step failed.';
comment on column public.publish_logs.message is 'The same in words, the platform''s where it has said something.';
comment on column public.publish_logs.platform_post_id is 'Identity of the post at the platform.';
comment on column public.publish_logs.cost_microusd is 'What the platform charges, in millionths of a US dollar.';
comment on column public.publish_logs.cost_usd is 'The same in US dollars.';
comment on column public.publish_logs.created_by is 'Member who confirmed or resent it; null for the worker.';
comment on column public.publish_logs.created_by_key is 'API key that did so; null for the worker.';
comment on column public.publish_logs.created_at is 'When it happened.';
comment on column public.publish_logs.updated_at is 'The same; rows never change.';
select private.make_tenant_table('public.publish_logs', resource => 'content', writable => '{}', catalogue => '{
  "social_post_id, platform, attempt, event, http_status, error_code, message, platform_post_id": "shows what was tried, and what the platform said",
  "cost_microusd, cost_usd": "what it cost"
}');

-- ----------------------------------------------------------------------------
-- private: what a worker needs between two attempts, and prices
-- ----------------------------------------------------------------------------

create table private.social_publications (
  post_id uuid primary key,
  organization uuid not null,
  prepared jsonb not null default '{}' check (private.json_fits(prepared, 65536)),
  create_id uuid unique,
  create_started_at timestamptz,
  create_deadline timestamptz,
  outcome_unknown boolean not null default false,
  checks integer not null default 0,
  check_after timestamptz,
  hold_id uuid,
  reads_hold_id uuid,
  cost_microusd bigint not null default 0,
  alt_texts_microusd bigint not null default 0,
  own_application boolean not null default false,
  deferred_until timestamptz,
  foreign key (organization, post_id) references public.social_posts (org_id, id) on delete cascade
);
create index social_publications_organization_idx on private.social_publications (organization, post_id);
comment on table private.social_publications is 'State of posts that are being published: what is prepared, and the create call whose intent is committed.';
comment on column private.social_publications.post_id is 'The post.';
comment on column private.social_publications.organization is 'Its organization.';
comment on column private.social_publications.prepared is 'What the platform holds already: media, containers. Empty at first.';
comment on column private.social_publications.create_id is 'Identity of the create call; null while none has begun. A call is made once: only a refusal by the platform, or a member who resends, clears it.';
comment on column private.social_publications.create_started_at is 'When its intent was committed, by the real clock.';
comment on column private.social_publications.create_deadline is 'When it has certainly ended: it starts within five seconds and has a time limit.';
comment on column private.social_publications.outcome_unknown is 'Whether its worker is gone, or got no answer that says what happened.';
comment on column private.social_publications.checks is 'How often the platform was asked whether the post is there.';
comment on column private.social_publications.check_after is 'When it is asked next.';
comment on column private.social_publications.hold_id is 'Hold of what the platform charges.';
comment on column private.social_publications.reads_hold_id is 'Hold of what a look at the platform may cost; null while nobody looks.';
comment on column private.social_publications.cost_microusd is 'The amount of the hold of the create call.';
comment on column private.social_publications.alt_texts_microusd is 'What the platform charges for its alternative texts. Charged when publishing begins: they are sent before the create call.';
comment on column private.social_publications.own_application is 'Whether the token of this attempt is of an application of the organization: the platform then charges the organization itself.';
comment on column private.social_publications.deferred_until is 'Until when the platform has asked to wait: the post is late from then on. Null if it has not.';
select private.describe_data('private.social_publications', '{
  "post_id, organization, prepared, create_id, create_started_at, create_deadline, outcome_unknown, checks, check_after, hold_id, reads_hold_id, cost_microusd, alt_texts_microusd, own_application, deferred_until": {"purpose": "keeps a post from being created twice", "export": "none"}
}');
alter table private.social_publications enable row level security;

create table private.social_prices (
  platform text not null check (char_length(platform) <= 32),
  item text not null check (item in ('post', 'post_with_link', 'alt_text', 'read')),
  cost_microusd bigint not null check (cost_microusd >= 0),
  primary key (platform, item)
);
comment on table private.social_prices is 'What platforms charge the operator for a post. Operators may change it; a price of 0 is free.';
comment on column private.social_prices.platform is 'The platform.';
comment on column private.social_prices.item is 'What is charged: a post, a post with a link instead, and the alternative text of an image.';
comment on column private.social_prices.cost_microusd is 'Price in millionths of a US dollar.';
select private.describe_data('private.social_prices', '{"platform, item, cost_microusd": "what a post costs"}', 'platform');
alter table private.social_prices enable row level security;
-- https://docs.x.com/x-api/getting-started/pricing
insert into private.social_prices (platform, item, cost_microusd) values ('twitter', 'post_with_link', 200000), ('twitter', 'post', 15000), ('twitter', 'alt_text', 5000),
  ('twitter', 'read', 1000);
