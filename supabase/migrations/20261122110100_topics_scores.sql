-- ============================================================================
-- Topics: scores of sources, and why.
--
-- A source's score is the weighted sum of four parts, each from 0 to 1:
--   relevance   BM25 of its text for the topic's title and keywords, relative to the best source of the topic
--   freshness   halves each 30 days since it was published
--   authority   of its host: private.source_authorities
--   agreement   how many of the topic's other sites use the words of the source; with embeddings, the mean of that and of how nearly
--               the other sites' sources mean the same. A site is a domain with all hosts below it.
-- ============================================================================

create function private.topics_text_config(language text) returns regconfig
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (case split_part(language, '-', 1)
  when 'en' then 'english' when 'nl' then 'dutch' when 'de' then 'german' when 'fr' then 'french' when 'es' then 'spanish'
  when 'it' then 'italian' when 'pt' then 'portuguese' when 'sv' then 'swedish' when 'da' then 'danish' when 'fi' then 'finnish'
  else 'simple' end)::regconfig;
comment on function private.topics_text_config(text) is 'The text search configuration of a language; simple for those without one.';

create function private.topics_freshness(published_at timestamptz) returns numeric
language sql stable set search_path = pg_catalog, pg_temp
-- A page without a date counts as one of two months ago, and so does one that says it is from the future.
return round(coalesce(case
  when published_at <= kijko.now() + interval '2 days'
    then power(0.5, least(greatest(extract(epoch from kijko.now() - published_at), 0) / (30 * 86400), 100))
end, 0.25), 4);
comment on function private.topics_freshness(timestamptz) is 'How fresh a page is, from 0 to 1.';

create function private.topics_authority(host text) returns numeric
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select a.authority from private.source_authorities as a
    where host = a.host_suffix or right(host, length(a.host_suffix) + 1) = '.' || a.host_suffix
    order by length(a.host_suffix) desc limit 1
  ), 0.5)
$$;
comment on function private.topics_authority(text) is 'How much a host counts as a source, from 0 to 1: by its longest listed suffix, 0.5 without one.';

create function private.topics_rate_sources(topic public.topics)
returns table (source_id uuid, relevance numeric, agreement numeric, found_terms integer)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with documents as materialized (
    -- A position list has at most 255 entries, so that a word that is repeated without end counts no more.
    select s.id, s.site, l.lexeme, cardinality(l.positions) as frequency
    from (
      -- A copy of a text is no second voice.
      select o.id, min(private.topics_site(o.host)) over (partition by coalesce(o.content_hash, o.id::text)) as site, o.title || ' ' || o.excerpt as text, private.topics_text_config(coalesce(o.language, topic.language)) as config
      from public.research_sources as o where o.org_id = topic.org_id and o.topic_id = topic.id
      offset 0 -- Its site is looked up once for a source, and not for each word.
    ) as s
    cross join lateral unnest(to_tsvector(s.config, s.text)) as l (lexeme, positions, weights)
  ),
  lengths as materialized (select d.id, sum(d.frequency)::numeric as length from documents as d group by d.id),
  totals as (select count(*)::numeric as n, avg(l.length) as average from lengths as l),
  wanted as (
    select distinct l.lexeme
    from unnest(to_tsvector(private.topics_text_config(topic.language), topic.title || ' ' || array_to_string(topic.keywords, ' '))) as l
  ),
  frequencies as (
    select d.lexeme, count(*)::numeric as documents from documents as d join wanted as w on w.lexeme = d.lexeme group by d.lexeme
  ),
  bm25 as (
    -- Okapi BM25 with k1 = 1.2 and b = 0.75.
    select d.id, count(*)::integer as terms,
      sum(ln(1 + (t.n - f.documents + 0.5) / (f.documents + 0.5)) * d.frequency * 2.2 / (d.frequency + 1.2 * (0.25 + 0.75 * l.length / t.average))) as score
    from documents as d
    join frequencies as f on f.lexeme = d.lexeme
    join lengths as l on l.id = d.id
    cross join totals as t
    group by d.id
  ),
  sites as (select d.lexeme, count(distinct d.site)::numeric as sites from documents as d group by d.lexeme),
  agreements as (
    select d.id, avg((h.sites - 1) / nullif(c.sites - 1, 0)) as agreement
    from documents as d
    join sites as h on h.lexeme = d.lexeme
    cross join (select count(distinct o.site)::numeric as sites from documents as o) as c
    group by d.id
  )
  select s.id, round(coalesce(b.score / nullif(max(b.score) over (), 0), 0), 4), round(coalesce(a.agreement, 0), 4), coalesce(b.terms, 0)
  from public.research_sources as s
  left join bm25 as b on b.id = s.id
  left join agreements as a on a.id = s.id
  where s.org_id = topic.org_id and s.topic_id = topic.id
$$;
comment on function private.topics_rate_sources(public.topics) is 'Relevance and agreement of the sources of a topic, from 0 to 1, and how many of the topic''s words each has.';

create function private.topics_meaning(topic public.topics) returns table (source_id uuid, agreement numeric)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  newest_model text;
  dimensions integer;
begin
  select e.model, cardinality(e.embedding) into newest_model, dimensions from public.source_embeddings as e
  join public.research_sources as o on o.org_id = e.org_id and o.id = e.source_id
  where e.org_id = topic.org_id and o.topic_id = topic.id order by e.updated_at desc, e.id limit 1;
  return query
  with vectors as materialized (
    select s.id, private.topics_site(s.host) as site, e.embedding
    from public.research_sources as s
    join public.source_embeddings as e on e.org_id = s.org_id and e.source_id = s.id
    where s.org_id = topic.org_id and s.topic_id = topic.id
      -- Of one model: the newest one. And no more than compare in a moment, each with each.
      and e.model = newest_model and cardinality(e.embedding) = dimensions
    order by s.created_at desc, s.id
    limit least(200, floor(sqrt(2.0 * private.topics_comparable_numbers() / dimensions)))
  ),
  pairs as materialized (
    select v.id, v.site, o.id as other_id, o.site as other_site, private.topics_similarity(v.embedding, o.embedding) as similarity
    from vectors as v join vectors as o on o.id > v.id and o.site <> v.site
  ),
  nearest as (
    select b.id, max(b.similarity) as similarity
    from (
      select p.id, p.other_site as site, p.similarity from pairs as p union all select p.other_id, p.site, p.similarity from pairs as p
    ) as b
    group by b.id, b.site
  )
  select n.id, round(least(greatest(avg(n.similarity), 0), 1)::numeric, 4) from nearest as n group by n.id;
end
$$;
comment on function private.topics_meaning(public.topics) is 'How nearly the other sites of a topic have sources that mean the same as each of its sources, from 0 to 1: of those that are embedded.';

create function private.topics_score(topic public.topics) returns public.topics
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  scored public.topics;
begin
  update public.research_sources as s
  set score = round(0.35 * p.relevance + 0.25 * p.freshness + 0.2 * p.authority + 0.2 * p.agreement, 4),
    score_parts = jsonb_build_object(
      'relevance', jsonb_build_object('value', p.relevance, 'weight', 0.35, 'detail', format('%s words of the topic', p.found_terms)),
      'freshness', jsonb_build_object('value', p.freshness, 'weight', 0.25, 'detail', case
        when s.published_at is null then 'no date'
        when s.published_at > kijko.now() + interval '2 days' then 'a date in the future counts as none'
        else format('published %s days ago', greatest(extract(day from kijko.now() - s.published_at), 0))
      end),
      'authority', jsonb_build_object('value', p.authority, 'weight', 0.2, 'detail', s.host),
      'agreement', jsonb_build_object('value', p.agreement, 'weight', 0.2, 'detail', 'share of the other sites that use its words' || case
        when p.meaning is null then '' else format('; their nearest sources mean the same by %s', p.meaning)
      end)
    ),
    scored_at = kijko.now()
  from (
    select r.source_id, r.relevance, r.found_terms, m.agreement as meaning, round((r.agreement + coalesce(m.agreement, r.agreement)) / 2, 4) as agreement,
      private.topics_freshness(o.published_at) as freshness, private.topics_authority(o.host) as authority
    from private.topics_rate_sources(topic) as r
    join public.research_sources as o on o.org_id = topic.org_id and o.id = r.source_id
    left join private.topics_meaning(topic) as m on m.source_id = r.source_id
  ) as p
  where s.org_id = topic.org_id and s.id = p.source_id;

  update public.topics as t
  set score = round(c.best * (0.5 + 0.25 * c.coverage + 0.25 * c.variety), 4),
    score_parts = jsonb_build_object(
      'sources', jsonb_build_object('value', round(c.best, 4), 'weight', 0.5, 'detail', 'mean score of the five best sources'),
      'coverage', jsonb_build_object('value', round(c.coverage, 4), 'weight', 0.25, 'detail', format('%s sources; five are enough', c.sources)),
      'variety', jsonb_build_object('value', round(c.variety, 4), 'weight', 0.25, 'detail', format('%s sites; three are enough', c.sites))
    ),
    scored_at = kijko.now(),
    status = case when t.status = 'discovered' and c.sources > 0 then 'researched' else t.status end,
    researched_at = case when c.sources > 0 then coalesce(t.researched_at, kijko.now()) else t.researched_at end
  from (
    select count(*) as sources, count(distinct o.site) as sites, least(count(*) / 5.0, 1) as coverage, least(count(distinct o.site) / 3.0, 1) as variety,
      coalesce(avg(o.score) filter (where o.place <= 5), 0) as best
    from (
      select private.topics_site(s.host) as site, s.score, row_number() over (order by s.score desc, s.id) as place
      from public.research_sources as s where s.org_id = topic.org_id and s.topic_id = topic.id
    ) as o
  ) as c
  where t.org_id = topic.org_id and t.id = topic.id
  returning t.* into scored;
  return scored;
end
$$;
comment on function private.topics_score(public.topics) is 'Scores a topic and its sources. With a source the topic is researched.';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function private.topics_require(topic_id uuid, permission text, for_change boolean default false) returns public.topics
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  topic public.topics;
begin
  perform private.tenancy_require_caller();
  select t.* into topic from public.topics as t
  where t.id = topics_require.topic_id and t.org_id = any (array(select private.org_ids_with('content:read')));
  if topic.id is null then
    perform kijko.fail('not_found', 'no such topic');
  elsif public.can(topic.org_id, topics_require.permission) is not true then
    perform kijko.fail('permission_denied', format('requires the permission %s', topics_require.permission));
  end if;
  if for_change then
    -- As the count of rows locks it when a source is added, but before the topic: a run of a discovery locks both, too.
    perform 1 from public.organizations as o where o.id = topic.org_id for no key update;
    select t.* into topic from public.topics as t where t.id = topics_require.topic_id for update;
    if topic.id is null then
      perform kijko.fail('not_found', 'no such topic');
    end if;
  end if;
  return topic;
end
$$;
comment on function private.topics_require(uuid, text, boolean) is 'A topic that the caller sees, locked for a change; fails with not_found or permission_denied.';

create function public.score_topic(topic_id uuid) returns public.topics
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  topic constant public.topics := private.topics_require(score_topic.topic_id, 'content:write', for_change => true);
begin
  perform private.limit_rate('topics_score:' || topic.org_id, 120, interval '1 minute', 'an organization scores at most %s topics a minute');
  return private.topics_score(topic);
end
$$;
comment on function public.score_topic(uuid) is 'Scores the sources of a topic and the topic itself, and stores the parts of each score. A topic with a source is researched. Requires content:write. Definer: users do not write scores.';
grant execute on function public.score_topic(uuid) to authenticated;

create function public.list_topics(status text default null, query text default null, n integer default 50, skip integer default 0) returns setof public.topics
language plpgsql stable security definer rows 50 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('content:read');
  if list_topics.status not in ('discovered', 'researched', 'written') then
    perform kijko.fail('invalid_input', 'status: discovered, researched or written');
  elsif (list_topics.n between 1 and 200) is not true or (list_topics.skip between 0 and 10000) is not true or char_length(list_topics.query) > 200 then
    perform kijko.fail('invalid_input', 'n: 1 to 200; skip: 0 to 10,000; query: at most 200 characters');
  end if;
  return query
  select t.* from public.topics as t
  where t.org_id = org and (list_topics.status is null or t.status = list_topics.status)
    and (
      coalesce(list_topics.query, '') = ''
      or to_tsvector('simple', t.title || ' ' || t.description || ' ' || array_to_string(t.keywords, ' ')) @@ websearch_to_tsquery('simple', list_topics.query)
    )
  order by t.score desc nulls last, t.id
  limit list_topics.n offset list_topics.skip;
end
$$;
comment on function public.list_topics(text, text, integer, integer) is 'Topics of the organization, the best score first: of a status, and with the words of a query. Requires content:read. Definer: row level security keeps a search from its index.';
grant execute on function public.list_topics(text, text, integer, integer) to authenticated;
