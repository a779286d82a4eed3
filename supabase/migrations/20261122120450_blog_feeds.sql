-- ============================================================================
-- Blog: feeds and the sitemap.
--
-- They have neither what search engines shall leave out, nor what is read first elsewhere (canonical_url).
-- Everyone may call blog_feed(), as a link: /rest/v1/rpc/blog_feed?org_slug=acme&format=atom
-- ============================================================================

-- What takes this name answers every Accept header, and says its media type by the header Content-Type.
create domain public."*/*" as bytea;
comment on domain public."*/*" is 'What a function returns that sets its own Content-Type: PostgREST sends it as it is.';

create function private.blog_xml_text(value text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
-- Control characters cannot be written in XML at all. Null for null.
return replace(replace(replace(replace(
  regexp_replace(value, E'[\u0001-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]', '', 'g'),
  '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;');
comment on function private.blog_xml_text(text) is 'A text as it stands in XML, also in an attribute.';

create function private.blog_iso_time(value timestamptz) returns text
language sql stable set search_path = pg_catalog, pg_temp
return to_char(value at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
comment on function private.blog_iso_time(timestamptz) is 'A time in UTC as feeds and sitemaps have it.';

create type private.blog_site_facts as (org uuid, url text, title text, description text);
comment on type private.blog_site_facts is 'A blog, as its feeds name it.';

create function private.blog_site(org_slug text) returns private.blog_site_facts
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  found constant public.organizations := private.blog_public_org(org_slug);
  site private.blog_site_facts;
begin
  select s.org_id, s.site_url, coalesce(nullif(s.site_title, ''), found.name), s.site_description into site
  from public.blog_settings as s where s.org_id = found.id;
  if site.url is null then
    perform kijko.fail('not_found', 'there is no such blog, or it has no site_url');
  end if;
  return site;
end
$$;
comment on function private.blog_site(text) is 'The blog of an organization; fails with not_found without a site_url.';

create function private.blog_feed_html(post private.blog_listing) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when octet_length(r.content_html) <= 200000 then r.content_html end
  from public.blog_post_revisions as r where r.org_id = post.org_id and r.post_id = post.id and r.revision = post.revision
$$;
comment on function private.blog_feed_html(private.blog_listing) is 'The HTML of a post for a feed; null for a long one, of which a feed has the summary. Nullable: result.';

create function private.blog_feed_image(post private.blog_listing) returns public.images
language sql stable set search_path = pg_catalog, pg_temp
as $$ select i from public.images as i where i.org_id = post.org_id and i.id = post.hero_image_id $$;
comment on function private.blog_feed_image(private.blog_listing) is 'The hero image of a post; null for none. Nullable: result.';

create function private.blog_enclosure(image public.images, element text, address text) returns text
language sql stable set search_path = pg_catalog, pg_temp
return case
  when image.id is null then ''
  else format('<%s %s="%s" length="%s" type="%s"/>', element, address, private.blog_xml_text(private.blog_image_url(image)), image.bytes, image.content_type)
end;
comment on function private.blog_enclosure(public.images, text, text) is 'An image as an enclosure of a feed: an element and the attribute that has its address. Empty for none.';

create function private.blog_rss(site private.blog_site_facts, post_locale text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return '<?xml version="1.0" encoding="UTF-8"?>' || E'\n<rss version="2.0"><channel><title>' || private.blog_xml_text(site.title)
    || '</title><link>' || private.blog_xml_text(site.url) || '</link><description>' || coalesce(private.blog_xml_text(site.description), '') || '</description>'
    || coalesce((
      select string_agg(
        '<item><title>' || private.blog_xml_text(p.title) || '</title><link>' || private.blog_xml_text(site.url || '/' || p.slug)
        || '</link><guid isPermaLink="false">' || p.id || '</guid><pubDate>'
        || to_char(p.published_at at time zone 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS "+0000"') || '</pubDate><description>'
        || private.blog_xml_text(p.summary) || '</description>' || private.blog_enclosure(private.blog_feed_image(p), 'enclosure', 'url')
        || coalesce((select string_agg('<category>' || private.blog_xml_text(t.tag) || '</category>', '') from unnest(p.tags) as t (tag)), '') || '</item>',
        '' order by p.published_at desc, p.id desc
      )
      from private.blog_published(site.org, post_locale, null, null, 50, is_indexed => true) as p
    ), '') || E'</channel></rss>\n';
end
$$;
comment on function private.blog_rss(private.blog_site_facts, text) is 'The newest 50 posts as RSS 2.0.';

create function private.blog_atom(site private.blog_site_facts, post_locale text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return '<?xml version="1.0" encoding="UTF-8"?>' || E'\n<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:uuid:' || site.org || '</id><title>'
    || private.blog_xml_text(site.title) || '</title><link href="' || private.blog_xml_text(site.url) || '"/>'
    || coalesce((
      select '<updated>' || private.blog_iso_time(max(p.updated_at)) || '</updated>' || string_agg(
        '<entry><id>urn:uuid:' || p.id || '</id><title>' || private.blog_xml_text(p.title) || '</title><link href="'
        || private.blog_xml_text(site.url || '/' || p.slug) || '"/>' || private.blog_enclosure(private.blog_feed_image(p), 'link rel="enclosure"', 'href')
        || '<published>' || private.blog_iso_time(p.published_at) || '</published><updated>'
        || private.blog_iso_time(p.updated_at) || '</updated><author><name>' || private.blog_xml_text(coalesce(p.author_name, site.title))
        || '</name></author><summary>' || private.blog_xml_text(p.summary) || '</summary>'
        || coalesce('<content type="html">' || private.blog_xml_text(private.blog_feed_html(p)) || '</content>', '') || '</entry>',
        '' order by p.published_at desc, p.id desc
      )
      from private.blog_published(site.org, post_locale, null, null, 20, is_indexed => true) as p
    ), '<updated>1970-01-01T00:00:00Z</updated>') || E'</feed>\n';
end
$$;
comment on function private.blog_atom(private.blog_site_facts, text) is 'The newest 20 posts as Atom, with their HTML.';

create function private.blog_json_feed(site private.blog_site_facts, post_locale text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'version', 'https://jsonfeed.org/version/1.1', 'title', site.title, 'home_page_url', site.url, 'description', site.description,
    'items', coalesce((
      select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
        'id', p.id, 'url', site.url || '/' || p.slug, 'title', p.title, 'summary', p.summary, 'content_html', private.blog_feed_html(p), 'language', p.locale,
        'image', private.blog_image_url(private.blog_feed_image(p)),
        'date_published', private.blog_iso_time(p.published_at), 'date_modified', private.blog_iso_time(p.updated_at), 'tags', to_jsonb(p.tags),
        'authors', case when p.author_name is not null then jsonb_build_array(jsonb_build_object('name', p.author_name)) end
      )) order by p.published_at desc, p.id desc)
      from private.blog_published(site.org, post_locale, null, null, 20, is_indexed => true) as p
    ), '[]')
  )::text;
end
$$;
comment on function private.blog_json_feed(private.blog_site_facts, text) is 'The newest 20 posts as JSON Feed 1.1, with their HTML.';

create function private.blog_sitemap(site private.blog_site_facts) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return '<?xml version="1.0" encoding="UTF-8"?>' || E'\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">' || coalesce((
    select string_agg(
      '<url><loc>' || private.blog_xml_text(site.url || '/' || p.slug) || '</loc><lastmod>' || private.blog_iso_time(p.updated_at) || '</lastmod></url>',
      '' order by p.published_at desc, p.id desc
    )
    from private.blog_published(site.org, null, null, null, 10000, is_indexed => true) as p
  ), '') || E'</urlset>\n';
end
$$;
comment on function private.blog_sitemap(private.blog_site_facts) is 'The sitemap: all posts, of which an organization has 10,000 at most.';

create function public.blog_feed(org_slug text, format text default 'rss', post_locale text default null) returns public."*/*"
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  site constant private.blog_site_facts := private.blog_site(org_slug);
  content text;
begin
  content := case format
    when 'rss' then private.blog_rss(site, post_locale)
    when 'atom' then private.blog_atom(site, post_locale)
    when 'json' then private.blog_json_feed(site, post_locale)
    when 'sitemap' then private.blog_sitemap(site)
  end;
  if content is null then
    perform kijko.fail('invalid_input', 'format: rss, atom, json or sitemap');
  end if;
  perform kijko.add_header('Content-Type', case format
    when 'rss' then 'application/rss+xml' when 'atom' then 'application/atom+xml' when 'json' then 'application/feed+json' else 'application/xml'
  end || '; charset=utf-8');
  return convert_to(content, 'UTF8');
end
$$;
comment on function public.blog_feed(text, text, text) is 'The published posts of an organization by its slug, for feed readers and search engines: rss (the newest 50), atom or json (the newest 20, with their HTML), or sitemap (all). Posts with noindex, or with a canonical_url of their own, are left out. Fails with not_found without a site_url. Everyone may call it. Definer: strangers have no rights on the tables.';
grant execute on function public.blog_feed(text, text, text) to anon, authenticated, service_role;
