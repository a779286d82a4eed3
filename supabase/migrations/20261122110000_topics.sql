-- ============================================================================
-- Topics: what could be written about, and the sources that say something about it.
--
--   1. A topic is discovered: a member adds it, an import or a collector does.
--   2. Sources are added to it, each once by its canonical URL. score_topic() rates them, and the topic is researched.
--   3. A blog post is made from it, and the topic is written (domain blog).
--
-- What models and publishing cost is a row of content_costs. Scores keep their parts, so that a reader can see why.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Forms
-- ----------------------------------------------------------------------------

create function private.topics_is_language(value text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return coalesce(char_length(value) <= 35 and value ~ '^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$', false);
comment on function private.topics_is_language(text) is 'Whether a text is a language tag, such as en or nl-BE.';

create function private.topics_is_url(value text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
-- No user name, no spaces, no control characters, nothing that ends an attribute of HTML.
return coalesce(octet_length(value) <= 2048 and value ~ '^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?#][^[:space:][:cntrl:]"<>\\^`{|}]*)?$', false);
comment on function private.topics_is_url(text) is 'Whether a text is an http or https address without a user name, of at most 2,048 bytes.';

create function private.topics_is_word_list(words text[]) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return coalesce(
  cardinality(words) <= 20 and coalesce(array_ndims(words), 1) = 1 and array_position(words, null) is null
  and array_position(words, '') is null and octet_length(array_to_string(words, ',')) <= 1300, false
);
comment on function private.topics_is_word_list(text[]) is 'Whether a list has at most 20 words, of 1,300 bytes together.';

create function private.topics_title_key(title text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return lower(btrim(regexp_replace(title, '[[:space:]]+', ' ', 'g')));
comment on function private.topics_title_key(text) is 'A title without the differences of letter case and spaces.';

create function private.topics_host(url text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return lower(regexp_replace(substring(url from '^https?://([^/?#:]+)'), '^www\.', ''));
comment on function private.topics_host(text) is 'The host of an address, without www.';

create function private.topics_site(host text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
-- Whoever has a domain has all hosts below it. Of co.uk and the like the name below is the domain; an address of numbers is one.
return case
  when host ~ '^[0-9.]+$' then host
  else coalesce(substring(host from '[^.]+\.(?:(?:com?|org|net|gov|edu|mil|ac|or|ne|go|gob|nom|sch|ltd|plc)\.[a-z]{2}|[^.]+)$'), host)
end;
comment on function private.topics_site(text) is 'The domain of a host, such as example.com of news.example.com: hosts of one domain are one voice.';

create function private.topics_canonical_url(url text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- The same page by http and https, with and without a fragment, a trailing slash or the marks of campaigns.
  select 'https://' || private.topics_host(u.url)
    || coalesce(':' || nullif(nullif(substring(u.url from '^https?://[^/?#:]+:([0-9]+)'), '80'), '443'), '')
    || coalesce(rtrim(substring(u.url from '^https?://[^/?#]+(/[^?#]*)'), '/'), '')
    || coalesce('?' || (
      select string_agg(p.pair, '&' order by p.pair collate "C")
      from regexp_split_to_table(substring(u.url from '^[^?#]*\?([^#]*)'), '&') as p (pair)
      where p.pair <> ''
        and lower(split_part(p.pair, '=', 1)) !~ '^(utm_.*|gclid|dclid|fbclid|msclkid|igshid|mc_cid|mc_eid|yclid|_hsenc|_hsmi)$'
    ), '')
  from (select topics_canonical_url.url) as u (url)
$$;
comment on function private.topics_canonical_url(text) is 'An address without what does not change the page: scheme, www, default port, fragment, trailing slash, parameters of campaigns, and the order of the others.';

create function private.topics_hash(value text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
-- Of the bytes in UTF-8, which is the encoding of each database of the product.
return encode(sha256(convert_to(value, 'UTF8')), 'hex');
comment on function private.topics_hash(text) is 'SHA-256 of a text, in hex.';

-- Checks and generated columns are evaluated as whoever writes the row.
grant execute on function private.topics_is_language(text), private.topics_is_url(text), private.topics_is_word_list(text[]),
  private.topics_title_key(text), private.topics_host(text), private.topics_canonical_url(text), private.topics_hash(text)
to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- topics
-- ----------------------------------------------------------------------------

create table public.topics (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  title text not null check (char_length(title) between 1 and 300 and title ~ '[^[:space:]]'),
  title_key text not null generated always as (private.topics_title_key(title)) stored,
  description text not null default '' check (char_length(description) <= 5000),
  keywords text[] not null default '{}' check (private.topics_is_word_list(keywords)),
  language text not null default 'en' check (private.topics_is_language(language)),
  status text not null default 'discovered' check (status in ('discovered', 'researched', 'written')),
  origin text not null default 'manual' check (octet_length(origin) <= 40 and origin ~ '^[a-z][a-z0-9_]*$'),
  source_count integer not null default 0 check (source_count >= 0),
  score numeric(5, 4) check (score between 0 and 1),
  score_parts jsonb check (jsonb_typeof(score_parts) = 'object'),
  scored_at timestamptz,
  researched_at timestamptz,
  written_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, title_key)
);
create index topics_status_idx on public.topics (org_id, status, created_at desc, id desc);
create index topics_score_idx on public.topics (org_id, score desc nulls last, id);
comment on table public.topics is 'What could be written about: discovered, researched, written.';
comment on column public.topics.id is 'Identity of the topic.';
comment on column public.topics.org_id is 'Organization that owns it.';
comment on column public.topics.title is 'The topic in a line; unique in the organization but for letter case and spaces.';
comment on column public.topics.title_key is 'The title as it is compared.';
comment on column public.topics.description is 'What an article should say.';
comment on column public.topics.keywords is 'At most 20 words by which sources are rated, beside the title.';
comment on column public.topics.language is 'Language in which it is researched, such as en.';
comment on column public.topics.status is 'discovered until its sources are scored, then researched, and written once a blog post is made from it.';
comment on column public.topics.origin is 'How it was discovered: manual, import, or a collector''s name.';
comment on column public.topics.source_count is 'How many sources it has.';
comment on column public.topics.score is 'How well its sources carry an article, from 0 to 1; null until it is scored.';
comment on column public.topics.score_parts is 'What the score is made of: {part: {value, weight, detail}}.';
comment on column public.topics.scored_at is 'When it was scored last.';
comment on column public.topics.researched_at is 'When it was first researched.';
comment on column public.topics.written_at is 'When a blog post was first made from it.';
comment on column public.topics.created_by is 'User who added it; null after that user is deleted, and for collectors.';
comment on column public.topics.created_by_key is 'API key that added it; null for a user.';
comment on column public.topics.created_at is 'When it was discovered.';
comment on column public.topics.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.topics', resource => 'content', max_rows => 10000, writable => '{title,description,keywords,language}', catalogue => '{
    "title, title_key, description, keywords, language": "what could be written about",
    "status, origin, source_count, researched_at, written_at": "how far it is",
    "score, score_parts, scored_at": "tells members how well its sources carry an article"
  }'
);

-- ----------------------------------------------------------------------------
-- research_sources
-- ----------------------------------------------------------------------------

create table public.research_sources (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  topic_id uuid not null,
  url text not null check (private.topics_is_url(url)),
  canonical_url text not null generated always as (private.topics_canonical_url(url)) stored,
  host text not null generated always as (private.topics_host(url)) stored,
  title text not null default '' check (char_length(title) <= 500),
  excerpt text not null default '' check (char_length(excerpt) <= 10000),
  content_hash text generated always as (case when excerpt <> '' then private.topics_hash(private.topics_title_key(excerpt)) end) stored,
  language text check (language is null or private.topics_is_language(language)),
  published_at timestamptz check (isfinite(published_at)),
  collector text not null default 'manual' check (octet_length(collector) <= 40 and collector ~ '^[a-z][a-z0-9_]*$'),
  score numeric(5, 4) check (score between 0 and 1),
  score_parts jsonb check (jsonb_typeof(score_parts) = 'object'),
  scored_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, topic_id, canonical_url),
  foreign key (org_id, topic_id) references public.topics (org_id, id) on delete cascade
);
create index research_sources_score_idx on public.research_sources (org_id, topic_id, score desc nulls last, id);
create index research_sources_content_hash_idx on public.research_sources (org_id, content_hash);
comment on table public.research_sources is 'Sources of topics: pages that say something about one, each once by its canonical URL.';
comment on column public.research_sources.id is 'Identity of the source.';
comment on column public.research_sources.org_id is 'Organization of the topic.';
comment on column public.research_sources.topic_id is 'The topic; its sources are deleted with it.';
comment on column public.research_sources.url is 'Address of the page.';
comment on column public.research_sources.canonical_url is 'The address by which the same page is recognized: without scheme, www, fragment and the parameters of campaigns.';
comment on column public.research_sources.host is 'Host of the page, without www.';
comment on column public.research_sources.title is 'Title of the page.';
comment on column public.research_sources.excerpt is 'What it says, as text.';
comment on column public.research_sources.content_hash is 'SHA-256 of the excerpt without differences of letter case and spaces: the same text at another address has the same. Null without an excerpt.';
comment on column public.research_sources.language is 'Language of the page, such as en; null if it is unknown.';
comment on column public.research_sources.published_at is 'When the page says that it was published; null if it does not.';
comment on column public.research_sources.collector is 'What found it: manual, import, or a collector''s name.';
comment on column public.research_sources.score is 'How much it counts for its topic, from 0 to 1; null until it is scored.';
comment on column public.research_sources.score_parts is 'What the score is made of: {freshness, authority, agreement, relevance}, each {value, weight, detail}.';
comment on column public.research_sources.scored_at is 'When it was scored last.';
comment on column public.research_sources.created_by is 'User who added it; null after that user is deleted, and for collectors.';
comment on column public.research_sources.created_by_key is 'API key that added it; null for a user.';
comment on column public.research_sources.created_at is 'When it was found.';
comment on column public.research_sources.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.research_sources', resource => 'content', max_rows => 50000,
  writable => '{topic_id,url,title,excerpt,language,published_at}', catalogue => '{
    "topic_id, url, canonical_url, host, title, excerpt, content_hash, language, published_at, collector": "what is known about a topic, and from where",
    "score, score_parts, scored_at": "tells members how much it counts"
  }'
);

create function private.topics_keep_topic() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.fail('invalid_input', 'topic_id: a source stays with its topic');
  return null;
end
$$;
comment on function private.topics_keep_topic() is 'Trigger: refuses to move a source to another topic.';
create trigger research_sources_keep_topic before update of topic_id on public.research_sources
  for each row when (old.topic_id <> new.topic_id) execute function private.topics_keep_topic();

create function private.topics_count_sources() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  changed record;
  counted integer;
begin
  -- In one order, so that two statements do not deadlock.
  for changed in select r.org_id, r.topic_id, count(*)::integer as n from changed_rows as r group by r.org_id, r.topic_id order by r.topic_id loop
    update public.topics as t
    set source_count = greatest(t.source_count + case tg_op when 'INSERT' then changed.n else - changed.n end, 0)
    where t.org_id = changed.org_id and t.id = changed.topic_id
    returning t.source_count into counted;
    if tg_op = 'INSERT' and counted > 200 then
      perform kijko.fail('quota_exceeded', 'a topic has at most 200 sources');
    end if;
  end loop;
  return null;
end
$$;
comment on function private.topics_count_sources() is 'Trigger: counts the sources of topics, at most 200 each. Definer: users do not write the count.';
create trigger research_sources_count_insert after insert on public.research_sources
  referencing new table as changed_rows for each statement execute function private.topics_count_sources();
create trigger research_sources_count_delete after delete on public.research_sources
  referencing old table as changed_rows for each statement execute function private.topics_count_sources();

-- ----------------------------------------------------------------------------
-- source_authorities: the platform's
-- ----------------------------------------------------------------------------

create table private.source_authorities (
  host_suffix text primary key check (octet_length(host_suffix) <= 253 and host_suffix ~ '^[a-z0-9.-]+$'),
  authority numeric(3, 2) not null check (authority between 0 and 1)
);
comment on table private.source_authorities is 'How much a host counts as a source; hosts that are not listed count 0.5. The platform''s: operators may change it.';
comment on column private.source_authorities.host_suffix is 'A host, or the end of one: gov is every host that ends in .gov.';
comment on column private.source_authorities.authority is 'From 0 to 1.';
select private.describe_data('private.source_authorities', '{"host_suffix, authority": "how much a host counts as a source"}', 'platform');
alter table private.source_authorities enable row level security;
insert into private.source_authorities (host_suffix, authority) values
  ('gov', 0.95), ('edu', 0.9), ('ac.uk', 0.9), ('europa.eu', 0.95), ('ietf.org', 0.95), ('w3.org', 0.95), ('iso.org', 0.9),
  ('arxiv.org', 0.9), ('acm.org', 0.9), ('ieee.org', 0.9), ('nature.com', 0.9), ('wikipedia.org', 0.75), ('github.com', 0.7),
  ('stackoverflow.com', 0.65), ('medium.com', 0.35), ('reddit.com', 0.3), ('x.com', 0.2), ('facebook.com', 0.2);
