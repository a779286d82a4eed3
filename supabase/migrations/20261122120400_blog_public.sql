-- ============================================================================
-- Blog: what everyone reads, and what search engines are told.
--
-- Definer functions by the slug of an organization: strangers have no rights on the tables, and see what is published only.
-- ============================================================================

create function private.blog_public_org(org_slug text) returns public.organizations
language sql stable set search_path = pg_catalog, pg_temp
as $$ select o from public.organizations as o where o.slug = org_slug and o.id <> kijko.platform_org_id() $$;
comment on function private.blog_public_org(text) is 'The organization of a blog; null for none. Nullable: result.';

create function private.blog_url(settings public.blog_settings, slug text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return settings.site_url || '/' || slug;
comment on function private.blog_url(public.blog_settings, text) is 'Where a post is read; null without a site_url. Nullable: result.';

create function private.blog_script_json(value jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return replace(replace(replace(value::text, '<', '\u003c'), '>', '\u003e'), '&', '\u0026');
comment on function private.blog_script_json(jsonb) is 'JSON that can stand in a script element: nothing in it ends the element.';

create function private.blog_seo(post public.blog_posts, settings public.blog_settings, site_name text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  title constant text := coalesce(nullif(post.meta_title, ''), post.title);
  description constant text := coalesce(nullif(post.meta_description, ''), post.summary);
  url constant text := coalesce(post.canonical_url, private.blog_url(settings, post.slug));
  alternates jsonb;
  hero public.images;
begin
  select i.* into hero from public.images as i where i.org_id = post.org_id and i.id = post.hero_image_id;
  select coalesce(jsonb_agg(jsonb_build_object('hreflang', o.locale, 'href', private.blog_url(settings, o.slug)) order by o.locale), '[]') into alternates
  from public.blog_posts as o
  where o.org_id = post.org_id and o.content_group_id = post.content_group_id and o.published_revision is not null and settings.site_url is not null;
  return jsonb_build_object(
    'title', title, 'description', description, 'canonical', url, 'robots', case when post.noindex then 'noindex' else 'index, follow' end,
    'alternates', alternates,
    'open_graph', jsonb_strip_nulls(jsonb_build_object(
      'og:type', 'article', 'og:title', coalesce(nullif(post.og_title, ''), title), 'og:description', coalesce(nullif(post.og_description, ''), description),
      'og:url', url, 'og:site_name', site_name, 'og:locale', replace(post.locale, '-', '_'), 'article:published_time', post.published_at,
      'article:modified_time', post.updated_at, 'og:image', private.blog_image_url(hero), 'og:image:type', hero.content_type,
      'og:image:width', hero.width, 'og:image:height', hero.height, 'og:image:alt', hero.alt_text,
      'twitter:card', case when hero.id is null then 'summary' else 'summary_large_image' end
    )),
    'json_ld', private.blog_script_json(jsonb_strip_nulls(jsonb_build_object(
      '@context', 'https://schema.org', '@type', 'BlogPosting', 'headline', left(post.title, 110), 'description', description, 'url', url,
      'mainEntityOfPage', url, 'inLanguage', post.locale, 'datePublished', post.published_at, 'dateModified', post.updated_at,
      'wordCount', post.word_count, 'keywords', to_jsonb(post.tags), 'image', private.blog_image_url(hero),
      'author', case when post.author_name is not null then jsonb_build_object('@type', 'Person', 'name', post.author_name) end,
      'publisher', jsonb_build_object('@type', 'Organization', 'name', site_name)
    )))
  );
end
$$;
comment on function private.blog_seo(public.blog_posts, public.blog_settings, text) is 'What a post says to search engines and social networks.';

create function private.blog_as_published(post public.blog_posts) returns public.blog_posts
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  kept public.blog_post_revisions;
begin
  select r.* into kept from public.blog_post_revisions as r
  where r.org_id = post.org_id and r.post_id = post.id and r.revision = post.published_revision;
  post := jsonb_populate_record(post, kept.fields);
  post.content_markdown := kept.content_markdown;
  post.content_html := kept.content_html;
  post.word_count := kept.word_count;
  post.reading_minutes := greatest(1, ceil(kept.word_count / 220.0))::integer;
  -- An edit that nobody reads is no modification.
  post.updated_at := greatest(kept.created_at, post.published_at);
  return post;
end
$$;
comment on function private.blog_as_published(public.blog_posts) is 'A published post as its readers see it: by the revision that is published.';

create type private.blog_listing as (
  id uuid, org_id uuid, revision integer, slug text, locale text, title text, summary text, tags text[], author_name text, canonical_url text,
  noindex boolean, hero_image_id uuid, reading_minutes integer, published_at timestamptz, updated_at timestamptz
);
comment on type private.blog_listing is 'A published post as lists show it: without its text, which may be megabytes.';

create function private.blog_published(org uuid, locale text, tag text, before timestamptz, n integer, is_indexed boolean default null)
returns setof private.blog_listing
language sql stable rows 20 set search_path = pg_catalog, pg_temp
-- Column by column: a whole row would be read with its text and HTML, also one that is left out.
as $$
  select p.id, p.org_id, r.revision, p.slug, p.locale, f.title, f.summary, f.tags, f.author_name, f.canonical_url, f.noindex, f.hero_image_id,
    greatest(1, ceil(r.word_count / 220.0))::integer, p.published_at, greatest(r.created_at, p.published_at)
  from public.blog_posts as p
  join public.blog_post_revisions as r on r.org_id = p.org_id and r.post_id = p.id and r.revision = p.published_revision
  cross join lateral jsonb_to_record(r.fields)
    as f (title text, summary text, tags text[], author_name text, canonical_url text, noindex boolean, hero_image_id uuid)
  where p.org_id = blog_published.org and p.published_revision is not null
    and (blog_published.locale is null or p.locale = blog_published.locale)
    and (blog_published.before is null or p.published_at < blog_published.before)
    and (blog_published.tag is null or blog_published.tag = any (f.tags))
    and (blog_published.is_indexed is null or (f.canonical_url is null and not f.noindex) = blog_published.is_indexed)
  order by p.published_at desc, p.id desc
  limit blog_published.n
$$;
comment on function private.blog_published(uuid, text, text, timestamptz, integer, boolean) is 'The published posts of an organization as their readers see them, the newest first. is_indexed: only those that search engines shall list, or only the others; null for all.';

create function public.published_posts(org_slug text, post_locale text default null, tag text default null, before timestamptz default null, n integer default 20)
returns table (
  slug text, locale text, title text, summary text, tags text[], author_name text, reading_minutes integer, url text,
  image_url text, image_alt_text text, published_at timestamptz, modified_at timestamptz
)
language plpgsql stable security definer rows 20 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant public.organizations := private.blog_public_org(published_posts.org_slug);
begin
  if (published_posts.n between 1 and 100) is not true then
    perform kijko.fail('invalid_input', 'n: 1 to 100');
  end if;
  return query
  select p.slug, p.locale, p.title, p.summary, p.tags, p.author_name, p.reading_minutes,
    coalesce(p.canonical_url, private.blog_url(s, p.slug)), private.blog_image_url(i), i.alt_text, p.published_at, p.updated_at
  from private.blog_published(org.id, published_posts.post_locale, published_posts.tag, published_posts.before, published_posts.n) as p
  left join public.blog_settings as s on s.org_id = p.org_id
  left join public.images as i on i.org_id = p.org_id and i.id = p.hero_image_id
  order by p.published_at desc, p.id desc;
end
$$;
comment on function public.published_posts(text, text, text, timestamptz, integer) is 'The published posts of an organization by its slug, the newest first; none for an organization that does not exist. before: published_at of the last one, for the next page; no two posts have the same. Everyone may call it. Nullable: author_name, url, image_url, image_alt_text. Definer: strangers have no rights on the tables.';
grant execute on function public.published_posts(text, text, text, timestamptz, integer) to anon, authenticated, service_role;

create function public.published_post(org_slug text, slug text, locale text default null) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant public.organizations := private.blog_public_org(published_post.org_slug);
  settings public.blog_settings;
  post public.blog_posts;
  hero public.images;
begin
  select p.* into post
  from public.blog_post_slugs as s
  join public.blog_posts as p on p.org_id = s.org_id and p.id = s.post_id
  where s.org_id = org.id and s.slug = published_post.slug and (published_post.locale is null or s.locale = published_post.locale)
    and p.published_revision is not null
  -- The same slug in two languages: the current one, then the first that was chosen.
  order by s.is_current desc, s.created_at, s.id limit 1;
  if post.id is null then
    perform kijko.fail('not_found', 'there is no such post');
  end if;
  select s.* into settings from public.blog_settings as s where s.org_id = post.org_id;
  post := private.blog_as_published(post);
  if post.slug <> published_post.slug then
    return jsonb_build_object('redirect_to', post.slug, 'locale', post.locale, 'url', private.blog_url(settings, post.slug));
  end if;
  select i.* into hero from public.images as i where i.org_id = post.org_id and i.id = post.hero_image_id;
  return jsonb_build_object(
    'slug', post.slug, 'locale', post.locale, 'title', post.title, 'summary', post.summary, 'content_html', post.content_html, 'tags', post.tags,
    'author_name', post.author_name, 'image_url', private.blog_image_url(hero), 'image_alt_text', hero.alt_text, 'word_count', post.word_count, 'reading_minutes', post.reading_minutes,
    'published_at', post.published_at, 'modified_at', post.updated_at,
    'seo', private.blog_seo(post, settings, coalesce(nullif(settings.site_title, ''), org.name))
  );
end
$$;
comment on function public.published_post(text, text, text) is 'A published post by the slugs of its organization and its own: its HTML, and what its page tells search engines (seo). By a former slug {redirect_to, locale, url}: answer 301. Fails with not_found. Everyone may call it. Definer: strangers have no rights on the tables.';
grant execute on function public.published_post(text, text, text) to anon, authenticated, service_role;

create function public.post_seo(post_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post constant public.blog_posts := private.blog_require(post_seo.post_id, 'content:read');
  settings public.blog_settings;
  seo jsonb;
begin
  select s.* into settings from public.blog_settings as s where s.org_id = post.org_id;
  seo := private.blog_seo(
    post, settings, coalesce(nullif(settings.site_title, ''), (select o.name from public.organizations as o where o.id = post.org_id))
  );
  return seo || jsonb_build_object('warnings', (
    select coalesce(jsonb_agg(jsonb_build_object('code', w.code, 'message', w.message)), '[]')
    from (
      values
        ('title_too_long', 'title: search engines show about 60 characters', char_length(seo ->> 'title') > 60),
        ('description_missing', 'description: write meta_description or summary', seo ->> 'description' = ''),
        ('description_too_long', 'description: search engines show about 160 characters', char_length(seo ->> 'description') > 160),
        ('canonical_missing', 'canonical: set site_url in the settings, or canonical_url', seo ->> 'canonical' is null),
        ('image_missing', 'image: social networks show a hero image; generate_image() makes one', seo #> '{open_graph,og:image}' is null),
        ('text_short', 'text: fewer than 300 words', post.word_count < 300)
    ) as w (code, message, holds)
    where w.holds
  ));
end
$$;
comment on function public.post_seo(uuid) is 'What the newest revision of a post would tell search engines and social networks, with warnings as a list of {code, message}. Requires content:read. Definer: it checks the permission itself.';
grant execute on function public.post_seo(uuid) to authenticated;
