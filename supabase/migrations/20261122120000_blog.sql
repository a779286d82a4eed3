-- ============================================================================
-- Blog: posts from the first draft to the page that everyone reads.
--
--   1. create_post() and save_post() write a post; each change is a revision, and an edit of an older one is a conflict.
--   2. The sidecar renders the Markdown of a revision to HTML (kind blog_render); nobody else writes content_html.
--   3. submit_post() says that it is ready, and asks for an approval where the organization requires one. An edit takes it back.
--   4. schedule_post() and publish_post() say which revision is public, and when. Later edits stay unseen until they are published.
--
-- Lock order: an approval, the post, its revisions. A function that holds a post does not wait for an approval.
-- ============================================================================

create table public.blog_settings (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null unique default public.org_id() references public.organizations (id) on delete cascade,
  site_url text check (site_url is null or (private.topics_is_url(site_url) and site_url !~ '[?#]')),
  site_title text not null default '' check (char_length(site_title) <= 200),
  site_description text not null default '' check (char_length(site_description) <= 500),
  require_approval boolean not null default false,
  approval_days integer not null default 7 check (approval_days between 1 and 90),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.blog_settings is 'What an organization has decided about its blog; without a row nothing needs an approval. Written by set_blog_settings().';
comment on column public.blog_settings.id is 'Identity of the row.';
comment on column public.blog_settings.org_id is 'Organization; it has one row at most.';
comment on column public.blog_settings.site_url is 'Address under which the posts are read: a post is at this, a slash and its slug. Null: no sitemap, no feeds.';
comment on column public.blog_settings.site_title is 'Title of the feeds; empty: the organization''s name.';
comment on column public.blog_settings.site_description is 'Description of the feeds.';
comment on column public.blog_settings.require_approval is 'Whether a post is published only after another member has approved it.';
comment on column public.blog_settings.approval_days is 'Days until a request for an approval expires.';
comment on column public.blog_settings.created_by is 'User who created it; null after that user is deleted.';
comment on column public.blog_settings.created_by_key is 'API key that created it; null for a user.';
comment on column public.blog_settings.created_at is 'When it was created.';
comment on column public.blog_settings.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.blog_settings', resource => 'content', writable => '{}', catalogue => '{
  "site_url, site_title, site_description": "says where the posts are read",
  "require_approval, approval_days": "says whether posts need a second person"
}');

-- ----------------------------------------------------------------------------
-- blog_posts
-- ----------------------------------------------------------------------------

create table public.blog_posts (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  topic_id uuid,
  content_group_id uuid not null,
  locale text not null default 'en' check (private.topics_is_language(locale)),
  title text not null check (char_length(title) between 1 and 300 and title ~ '[^[:space:]]'),
  slug text not null check (char_length(slug) <= 200 and slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  summary text not null default '' check (char_length(summary) <= 1000),
  content_markdown text not null default '' check (octet_length(content_markdown) <= 262144),
  content_hash text not null generated always as (private.topics_hash(content_markdown)) stored,
  content_html text check (octet_length(content_html) <= 4194304),
  content_html_hash text,
  word_count integer not null default 0 check (word_count >= 0),
  reading_minutes integer not null generated always as (greatest(1, ceil(word_count / 220.0)::integer)) stored,
  meta_title text check (char_length(meta_title) <= 300),
  meta_description text check (char_length(meta_description) <= 500),
  canonical_url text check (canonical_url is null or private.topics_is_url(canonical_url)),
  og_title text check (char_length(og_title) <= 300),
  og_description text check (char_length(og_description) <= 500),
  noindex boolean not null default false,
  tags text[] not null default '{}' check (private.topics_is_word_list(tags)),
  author_name text check (char_length(author_name) between 1 and 200),
  hero_image_id uuid,
  status text not null default 'draft' check (status in ('draft', 'ready', 'scheduled', 'published')),
  approval_status text not null default 'none' check (approval_status in ('none', 'submitted', 'approved', 'rejected')),
  revision integer not null default 1 check (revision > 0),
  published_revision integer,
  scheduled_at timestamptz,
  published_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, content_group_id, locale),
  foreign key (org_id, topic_id) references public.topics (org_id, id) on delete set null (topic_id),
  check ((status = 'scheduled') = (scheduled_at is not null)),
  check (status <> 'published' or published_revision is not null),
  -- Only HTML that was made from what is there.
  check (content_html is null or content_html_hash = content_hash)
);
create index blog_posts_topic_id_idx on public.blog_posts (org_id, topic_id);
create index blog_posts_status_idx on public.blog_posts (org_id, status, created_at desc, id desc);
create index blog_posts_scheduled_at_idx on public.blog_posts (scheduled_at) where status = 'scheduled';
create index blog_posts_published_idx on public.blog_posts (org_id, published_at desc, id desc) where published_revision is not null;
comment on table public.blog_posts is 'Blog posts. One post in several languages is a content group. Written by functions only.';
comment on column public.blog_posts.id is 'Identity of the post.';
comment on column public.blog_posts.org_id is 'Organization that owns it.';
comment on column public.blog_posts.topic_id is 'Topic that it was made from; null for none, and after that is deleted.';
comment on column public.blog_posts.content_group_id is 'The same for a post and its translations, which have one row for each locale.';
comment on column public.blog_posts.locale is 'Language, such as en; never changes.';
comment on column public.blog_posts.title is 'Title.';
comment on column public.blog_posts.slug is 'Last part of its address. Former ones of a published post lead here: blog_post_slugs.';
comment on column public.blog_posts.summary is 'What lists and feeds say of it.';
comment on column public.blog_posts.content_markdown is 'The text, in CommonMark with tables, strikethrough, task lists and footnotes.';
comment on column public.blog_posts.content_hash is 'SHA-256 of the text.';
comment on column public.blog_posts.content_html is 'The text as HTML that is safe to show; null until it is rendered. Written by the renderer only.';
comment on column public.blog_posts.content_html_hash is 'Hash of the text that the HTML was made from.';
comment on column public.blog_posts.word_count is 'Words of the rendered text.';
comment on column public.blog_posts.reading_minutes is 'Minutes that it takes to read, at 220 words a minute.';
comment on column public.blog_posts.meta_title is 'Title for search engines; null: the title.';
comment on column public.blog_posts.meta_description is 'Description for search engines; null: the summary.';
comment on column public.blog_posts.canonical_url is 'Where the post is read first, if that is elsewhere; null: below site_url.';
comment on column public.blog_posts.og_title is 'Title for social networks; null: meta_title.';
comment on column public.blog_posts.og_description is 'Description for social networks; null: meta_description.';
comment on column public.blog_posts.noindex is 'Whether search engines are asked to leave it out.';
comment on column public.blog_posts.tags is 'At most 20 words.';
comment on column public.blog_posts.author_name is 'Name that readers see; null for none.';
comment on column public.blog_posts.hero_image_id is 'Image at its top, which social networks show; one of its images, null for none.';
comment on column public.blog_posts.status is 'draft, ready, scheduled, published. A published post stays published while it is edited.';
comment on column public.blog_posts.approval_status is 'none, submitted, approved or rejected, of this revision.';
comment on column public.blog_posts.revision is 'Number of the newest revision; an edit names the one that it was made from.';
comment on column public.blog_posts.published_revision is 'Revision that everyone reads; null for none.';
comment on column public.blog_posts.scheduled_at is 'When the newest revision will be published; null unless scheduled.';
comment on column public.blog_posts.published_at is 'When it was first published; kept when it is withdrawn.';
comment on column public.blog_posts.created_by is 'User who made it; null after that user is deleted.';
comment on column public.blog_posts.created_by_key is 'API key that made it; null when a user did.';
comment on column public.blog_posts.created_at is 'When it was made.';
comment on column public.blog_posts.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.blog_posts', resource => 'content', writable => '{}', max_rows => 10000, catalogue => '{
  "topic_id, content_group_id, locale, slug": "says which post it is",
  "title, summary, content_markdown, content_hash, content_html, content_html_hash, word_count, reading_minutes, tags, author_name, hero_image_id": "what readers are shown",
  "meta_title, meta_description, canonical_url, og_title, og_description, noindex": "what search engines and social networks are told",
  "status, approval_status, revision, published_revision, scheduled_at, published_at": "how far it is"
}');

create table public.blog_post_revisions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  post_id uuid not null,
  revision integer not null check (revision > 0),
  fields jsonb not null check (jsonb_typeof(fields) = 'object'),
  content_markdown text not null check (octet_length(content_markdown) <= 262144),
  content_hash text not null generated always as (private.topics_hash(content_markdown)) stored,
  content_html text check (octet_length(content_html) <= 4194304),
  word_count integer not null default 0 check (word_count >= 0),
  message text check (char_length(message) <= 500),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, post_id, revision),
  foreign key (org_id, post_id) references public.blog_posts (org_id, id) on delete cascade
);
create index blog_post_revisions_hash_idx on public.blog_post_revisions (org_id, post_id, content_hash);
comment on table public.blog_post_revisions is 'Revisions of posts: the newest 100 of each, and the one that is published. They never change; only their HTML is added. Written by functions only.';
comment on column public.blog_post_revisions.id is 'Identity of the row.';
comment on column public.blog_post_revisions.org_id is 'Organization of the post.';
comment on column public.blog_post_revisions.post_id is 'The post; its revisions are deleted with it.';
comment on column public.blog_post_revisions.revision is 'Number of the revision: 1, and one more with each change.';
comment on column public.blog_post_revisions.fields is 'The other columns of the post that an editor writes, by name.';
comment on column public.blog_post_revisions.content_markdown is 'The text.';
comment on column public.blog_post_revisions.content_hash is 'SHA-256 of the text.';
comment on column public.blog_post_revisions.content_html is 'The text as HTML; null until it is rendered.';
comment on column public.blog_post_revisions.word_count is 'Words of the rendered text.';
comment on column public.blog_post_revisions.message is 'What was changed, and why.';
comment on column public.blog_post_revisions.created_by is 'User who wrote it; null after that user is deleted.';
comment on column public.blog_post_revisions.created_by_key is 'API key that wrote it; null when a user did.';
comment on column public.blog_post_revisions.created_at is 'When it was written.';
comment on column public.blog_post_revisions.updated_at is 'When it was rendered; set by trigger.';
select private.make_tenant_table('public.blog_post_revisions', resource => 'content', writable => '{}', catalogue => '{
  "post_id, revision, message": "names the revision and says what changed",
  "fields, content_markdown, content_hash, content_html, word_count": "the post as it was"
}');

create table public.blog_post_slugs (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  post_id uuid not null,
  locale text not null check (private.topics_is_language(locale)),
  slug text not null check (char_length(slug) <= 200),
  is_current boolean not null default true,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, locale, slug),
  foreign key (org_id, post_id) references public.blog_posts (org_id, id) on delete cascade
);
create index blog_post_slugs_post_id_idx on public.blog_post_slugs (org_id, post_id);
comment on table public.blog_post_slugs is 'Slugs of posts: the current one, and former ones of posts that were published, which lead to it. Written by functions only.';
comment on column public.blog_post_slugs.id is 'Identity of the row.';
comment on column public.blog_post_slugs.org_id is 'Organization of the post.';
comment on column public.blog_post_slugs.post_id is 'The post.';
comment on column public.blog_post_slugs.locale is 'Language of the post.';
comment on column public.blog_post_slugs.slug is 'The slug; one post has it in a language.';
comment on column public.blog_post_slugs.is_current is 'Whether it is the post''s slug now.';
comment on column public.blog_post_slugs.created_by is 'User who chose it; null after that user is deleted.';
comment on column public.blog_post_slugs.created_by_key is 'API key that chose it; null when a user did.';
comment on column public.blog_post_slugs.created_at is 'When it was chosen.';
comment on column public.blog_post_slugs.updated_at is 'When another one took its place; set by trigger.';
select private.make_tenant_table('public.blog_post_slugs', resource => 'content', writable => '{}', catalogue => '{
  "post_id, locale, slug, is_current": "says which post an address leads to"
}');

select private.audit_table('public.blog_posts', 'blog_post', '{title,locale,slug,status,approval_status,published_revision,scheduled_at}');
select private.audit_table('public.blog_settings', 'blog_settings', '{site_url,require_approval,approval_days}');
