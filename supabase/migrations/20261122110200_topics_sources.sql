-- ============================================================================
-- Topics: sources are added once, by members, imports and collectors.
-- ============================================================================

create function private.topics_lock_organization() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.organizations as o where o.id = new.org_id for no key update;
  return new;
end
$$;
comment on function private.topics_lock_organization() is 'Trigger: a source locks its organization, whose rows are counted, before its topic: whoever locked the topic first would wait for the other in a circle. Definer: members do not lock organizations.';
create trigger research_sources_lock before insert on public.research_sources
  for each row execute function private.topics_lock_organization();

-- Statements of members that change or delete many rows lock them in an order that nobody knows. One that waits for another at the
-- organization has no rows that the other waits for.
create function private.topics_lock_organizations() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.organizations as o where o.id = any (array(select private.org_ids_with('content:write'))) order by o.id for no key update;
  return null;
end
$$;
comment on function private.topics_lock_organizations() is 'Trigger: a statement that changes or deletes topics or sources locks the organizations of its caller first, so that two do not wait for each other in a circle. Definer: members do not lock organizations.';
-- Functions have locked one organization already; to lock others after it could make a circle.
create trigger topics_lock before update or delete on public.topics
  for each statement when (current_user = 'authenticated') execute function private.topics_lock_organizations();
create trigger research_sources_lock_many before update or delete on public.research_sources
  for each statement when (current_user = 'authenticated') execute function private.topics_lock_organizations();

create function private.topics_clean_title(title text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return left(btrim(regexp_replace(coalesce(title, ''), '[[:cntrl:][:space:]]+', ' ', 'g')), 500);
comment on function private.topics_clean_title(text) is 'A title in one line, of at most 500 characters.';

-- Collectors call this for what they have found, as often as they like.
create function private.topics_add_source(
  org uuid, topic_id uuid, url text, title text default '', excerpt text default '', language text default null,
  published_at timestamptz default null, collector text default 'manual', out source_id uuid, out outcome text
)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  source public.research_sources;
  found_title constant text := private.topics_clean_title(topics_add_source.title);
  found_excerpt constant text := left(btrim(coalesce(topics_add_source.excerpt, '')), 10000);
begin
  if private.topics_is_url(topics_add_source.url) is not true then
    perform kijko.fail('invalid_input', 'url: an http or https address of at most 2,048 bytes');
  elsif topics_add_source.language is not null and private.topics_is_language(topics_add_source.language) is not true then
    perform kijko.fail('invalid_input', 'language: a tag such as en');
  end if;
  insert into public.research_sources as s (org_id, topic_id, url, title, excerpt, language, published_at, collector)
  values (
    org, topics_add_source.topic_id, topics_add_source.url, found_title, found_excerpt, topics_add_source.language,
    topics_add_source.published_at, topics_add_source.collector
  )
  on conflict (org_id, topic_id, canonical_url) do nothing
  returning s.id into source_id;
  if source_id is not null then
    outcome := 'added';
    return;
  end if;
  select s.* into source from public.research_sources as s
  where s.org_id = org and s.topic_id = topics_add_source.topic_id and s.canonical_url = private.topics_canonical_url(topics_add_source.url)
  for update;
  source_id := source.id;
  -- What is known is kept: whoever names the page says something else, or less. Members change a source by its row.
  update public.research_sources as s
  set title = coalesce(nullif(s.title, ''), found_title), excerpt = coalesce(nullif(s.excerpt, ''), found_excerpt),
    language = coalesce(s.language, topics_add_source.language), published_at = coalesce(s.published_at, topics_add_source.published_at)
  where s.id = source.id and (s.title, s.excerpt, s.language, s.published_at) is distinct from (
    coalesce(nullif(s.title, ''), found_title), coalesce(nullif(s.excerpt, ''), found_excerpt),
    coalesce(s.language, topics_add_source.language), coalesce(s.published_at, topics_add_source.published_at)
  );
  outcome := case when found then 'changed' else 'same' end;
end
$$;
comment on function private.topics_add_source(uuid, uuid, text, text, text, text, timestamptz, text) is 'Adds a source to a topic of the organization, once by its canonical URL, and says whether it was added, changed or is the same. For collectors; the caller has checked the topic.';

create function public.add_research_source(
  topic_id uuid, url text, title text default '', excerpt text default '', language text default null, published_at timestamptz default null
) returns public.research_sources
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  topic constant public.topics := private.topics_require(topic_id, 'content:write', for_change => true);
  added uuid;
  source public.research_sources;
begin
  -- In a statement of its own: a plan may join an empty table first, and never call the function then.
  added := (private.topics_add_source(topic.org_id, topic.id, url, title, excerpt, language, published_at)).source_id;
  select s.* into source from public.research_sources as s where s.org_id = topic.org_id and s.id = added;
  return source;
end
$$;
comment on function public.add_research_source(uuid, text, text, text, text, timestamptz) is 'Adds a source to a topic, or completes the one with the same canonical URL. Requires content:write. Definer: it locks the topic.';
grant execute on function public.add_research_source(uuid, text, text, text, text, timestamptz) to authenticated;

-- ----------------------------------------------------------------------------
-- The disk cache of the earlier system
-- ----------------------------------------------------------------------------

create function private.topics_parse_time(value text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- Years from 1990 on: what is not a plausible time of publication says nothing.
  return (select t.at from (select value::timestamptz as at) as t where t.at between '1990-01-01' and kijko.now() + interval '2 days');
exception when data_exception then
  return null;
end
$$;
comment on function private.topics_parse_time(text) is 'A time as a cache writes it; null if it cannot be read. Nullable: result.';

create function private.topics_text(document jsonb, names text[], most integer) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select left(btrim(document ->> n.name), most)
  from unnest(names) with ordinality as n (name, place)
  where jsonb_typeof(document -> n.name) = 'string' and btrim(document ->> n.name) <> ''
  order by n.place limit 1
$$;
comment on function private.topics_text(jsonb, text[], integer) is 'The first of some members of an object that is a text. Nullable: result.';

create function private.topics_import(org uuid, document jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  topic public.topics;
  wanted constant text := coalesce(
    private.topics_text(document, '{topic,title,query}', 300), private.topics_text(document -> 'topic', '{title,name,topic}', 300)
  );
  sources constant jsonb := coalesce(nullif(document -> 'sources', 'null'), '[]');
  source jsonb;
  url text;
  file_title text;
  file_excerpt text;
  file_time timestamptz;
  taken record;
  outcome text;
  differing jsonb := '[]'::jsonb;
  counts jsonb := '{"added": 0, "changed": 0, "same": 0, "unreadable": 0}'::jsonb;
  seen text[] := array[]::text[];
  is_new boolean := false;
begin
  if wanted is null then
    perform kijko.fail('invalid_input', 'document: needs topic or title');
  elsif jsonb_typeof(sources) <> 'array' or jsonb_array_length(sources) > 200 then
    perform kijko.fail('invalid_input', 'sources: a list of at most 200');
  end if;
  select t.* into topic from public.topics as t where t.org_id = org and t.title_key = private.topics_title_key(wanted) for update;
  if topic.id is null then
    is_new := true;
    insert into public.topics as t (org_id, title, description, origin)
    values (org, wanted, coalesce(private.topics_text(document, '{description,summary}', 5000), ''), 'import')
    returning t.* into topic;
  end if;
  for source in select s.value from jsonb_array_elements(sources) as s loop
    url := private.topics_text(source, '{url,link,href}', 4096);
    if private.topics_is_url(url) is not true then
      outcome := 'unreadable';
    elsif private.topics_canonical_url(url) = any (seen) then
      continue; -- The same page twice in a file counts once.
    else
      seen := seen || private.topics_canonical_url(url);
      file_title := private.topics_clean_title(private.topics_text(source, '{title,name}', 500));
      file_excerpt := coalesce(private.topics_text(source, '{content,summary,excerpt,snippet,description}', 10000), '');
      file_time := private.topics_parse_time(private.topics_text(source, '{published,published_at,date,published_date}', 100));
      taken := private.topics_add_source(org, topic.id, url, file_title, file_excerpt, null, file_time, 'import');
      outcome := taken.outcome;
      -- What the database has is kept. Where the file says something else, somebody has to know.
      select differing || coalesce(jsonb_agg(jsonb_build_object('url', s.url, 'fields', d.fields)), '[]') into differing
      from public.research_sources as s
      cross join lateral (
        select array_remove(array[
          case when file_title <> '' and file_title <> s.title then 'title' end, case when file_excerpt <> '' and file_excerpt <> s.excerpt then 'excerpt' end,
          case when file_time <> s.published_at then 'published_at' end
        ], null) as fields
      ) as d
      where s.org_id = org and s.id = taken.source_id and d.fields <> '{}';
    end if;
    counts := jsonb_set(counts, array[outcome], to_jsonb((counts ->> outcome)::integer + 1));
  end loop;
  if (counts ->> 'added')::integer + (counts ->> 'changed')::integer > 0 then
    perform private.topics_score(topic);
  end if;
  return counts || jsonb_build_object(
    'topic', topic.title, 'topic_id', topic.id, 'created', is_new, 'differing', differing,
    'only_in_database', (
      select coalesce(jsonb_agg(s.url order by s.url), '[]')
      from public.research_sources as s where s.org_id = org and s.topic_id = topic.id and s.canonical_url <> all (seen)
    )
  );
end
$$;
comment on function private.topics_import(uuid, jsonb) is 'Takes over a file of research, and returns what it found: counts of sources, those that say something else in the database, and those that the file lacks.';

create function public.import_research(document jsonb, dry_run boolean default false) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  org uuid;
  report jsonb;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('content:write');
  if jsonb_typeof(document) is distinct from 'object' or not private.json_fits(document, 4194304) then
    perform kijko.fail('invalid_input', 'document: an object of at most 4 MiB');
  end if;
  perform private.limit_rate('topics_import:' || org, 600, interval '1 minute', 'an organization imports at most %s files a minute');
  -- Before its topic, as everywhere.
  perform 1 from public.organizations as o where o.id = org for no key update;
  begin
    report := private.topics_import(org, document);
    if dry_run then
      perform kijko.fail('conflict', 'a dry run writes nothing');
    end if;
  exception when others then
    if report is null then
      raise;
    end if;
    -- What the dry run wrote is rolled back; the variable stays.
    report := report || case when (report ->> 'created')::boolean then '{"topic_id": null}' else '{}' end::jsonb;
  end;
  return report;
end
$$;
comment on function public.import_research(jsonb, boolean) is 'Takes over a file of the earlier system''s cache, {topic, sources: [{url, title, content, published}]}: adds what is missing, completes what is there, and reports {topic, topic_id, created, added, changed, same, unreadable, differing: [{url, fields}], only_in_database}. What is there is never overwritten. The same file again changes nothing; dry_run only reports. Requires content:write. Definer: it scores the topic.';
grant execute on function public.import_research(jsonb, boolean) to authenticated;
