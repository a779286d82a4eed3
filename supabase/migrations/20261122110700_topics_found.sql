-- ============================================================================
-- Topics: what discoveries found becomes topics and sources, each once.
--
--   the same page     by its canonical URL: its source is completed
--   the same text     at another address, by its SHA-256, or by a fingerprint (simhash) that differs in at most 6 of 64 bits, as that of
--                     a text in which one word of twenty differs: left out,
--                     since a copy is no second voice
--   the same title    another source of that topic
-- ============================================================================

create index research_sources_canonical_url_idx on public.research_sources (org_id, canonical_url);

create table private.source_fingerprints (
  organization uuid not null,
  source_id uuid not null,
  simhash bigint not null,
  -- If at most 3 bits of 64 differ, one of 4 bands is equal; if 6 do, most often.
  band_1 integer not null generated always as ((simhash & 65535)::integer) stored,
  band_2 integer not null generated always as ((simhash >> 16 & 65535)::integer) stored,
  band_3 integer not null generated always as ((simhash >> 32 & 65535)::integer) stored,
  band_4 integer not null generated always as ((simhash >> 48 & 65535)::integer) stored,
  primary key (organization, source_id),
  foreign key (organization, source_id) references public.research_sources (org_id, id) on delete cascade
);
create index source_fingerprints_band_1_idx on private.source_fingerprints (organization, band_1);
create index source_fingerprints_band_2_idx on private.source_fingerprints (organization, band_2);
create index source_fingerprints_band_3_idx on private.source_fingerprints (organization, band_3);
create index source_fingerprints_band_4_idx on private.source_fingerprints (organization, band_4);
comment on table private.source_fingerprints is 'Fingerprints of the texts of sources, in four bands that can be looked up.';
comment on column private.source_fingerprints.organization is 'Organization of the source.';
comment on column private.source_fingerprints.source_id is 'The source.';
comment on column private.source_fingerprints.simhash is 'Similar texts have fingerprints that differ in few bits.';
comment on column private.source_fingerprints.band_1 is 'Bits 0 to 15.';
comment on column private.source_fingerprints.band_2 is 'Bits 16 to 31.';
comment on column private.source_fingerprints.band_3 is 'Bits 32 to 47.';
comment on column private.source_fingerprints.band_4 is 'Bits 48 to 63.';
select private.describe_data('private.source_fingerprints', '{
  "organization, source_id, simhash, band_1, band_2, band_3, band_4": {"purpose": "finds texts that say the same", "export": "none"}
}');
alter table private.source_fingerprints enable row level security;

create function private.topics_find_copy(org uuid, topic_id uuid, hash text, simhash bigint) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.id from (
    select s.id, s.topic_id from public.research_sources as s where s.org_id = org and s.content_hash = topics_find_copy.hash
    union all
    select s.id, s.topic_id
    from private.source_fingerprints as f join public.research_sources as s on s.org_id = f.organization and s.id = f.source_id
    where f.organization = org
      and (
        f.band_1 = (topics_find_copy.simhash & 65535)::integer or f.band_2 = (topics_find_copy.simhash >> 16 & 65535)::integer
        or f.band_3 = (topics_find_copy.simhash >> 32 & 65535)::integer or f.band_4 = (topics_find_copy.simhash >> 48 & 65535)::integer
      )
      and bit_count((f.simhash # topics_find_copy.simhash)::bit(64)) <= 6
  ) as c
  where topics_find_copy.topic_id is null or c.topic_id = topics_find_copy.topic_id
  limit 1
$$;
comment on function private.topics_find_copy(uuid, uuid, text, bigint) is 'A source that says the same, in a topic, or with null in any of the organization. Nullable: result.';

create function private.topics_take_item(discovery public.discoveries, item jsonb, out outcome text, out topic uuid, out is_new boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  org constant uuid := discovery.org_id;
  url constant text := item ->> 'url';
  title constant text := left(btrim(coalesce(item ->> 'title', '')), 300);
  excerpt text := left(btrim(coalesce(item ->> 'text', '')), 10000);
  language constant text := case when private.topics_is_language(item ->> 'language') then item ->> 'language' end;
  simhash bigint := (item ->> 'simhash')::bigint;
  known uuid;
  known_excerpt text;
  added record;
begin
  is_new := false;
  if private.topics_is_url(url) is not true or (title !~ '[^[:space:]]' and excerpt !~ '[^[:space:]]') then
    outcome := 'unreadable';
    return;
  end if;
  select s.topic_id, s.excerpt into known, known_excerpt from public.research_sources as s
  where s.org_id = org and s.canonical_url = private.topics_canonical_url(url) and (discovery.topic_id is null or s.topic_id = discovery.topic_id)
  order by s.created_at limit 1;
  if known is null and private.topics_find_copy(
    org, discovery.topic_id, case when excerpt <> '' then private.topics_hash(private.topics_title_key(excerpt)) end, simhash
  ) is not null then
    outcome := 'duplicate';
    return;
  end if;
  topic := coalesce(discovery.topic_id, known);
  if topic is null then
    insert into public.topics as t (org_id, title, language, origin)
    values (org, coalesce(nullif(title, ''), left(excerpt, 120)), coalesce(language, discovery.language), discovery.collector)
    on conflict (org_id, title_key) do nothing
    returning t.id into topic;
    is_new := topic is not null;
    if topic is null then
      select t.id into topic from public.topics as t
      where t.org_id = org and t.title_key = private.topics_title_key(coalesce(nullif(title, ''), left(excerpt, 120)));
    end if;
  end if;
  if known_excerpt <> '' then
    -- What is known of the page is kept, and so is the fingerprint of that.
    excerpt := '';
    simhash := null;
  end if;
  added := private.topics_add_source(
    org, topic, url, title, excerpt, language, private.topics_parse_time(item ->> 'published_at'), discovery.collector
  );
  outcome := added.outcome;
  if simhash is not null then
    insert into private.source_fingerprints as f (organization, source_id, simhash) values (org, added.source_id, simhash)
    on conflict (organization, source_id) do update set simhash = excluded.simhash where f.simhash <> excluded.simhash;
  end if;
end
$$;
comment on function private.topics_take_item(public.discoveries, jsonb) is 'Stores an item that a discovery found: outcome is added, changed, same, duplicate or unreadable, and is_new whether its topic is. Nullable: topic.';

create function private.topics_take_items(discovery public.discoveries, items jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  item jsonb;
  taken record;
  touched uuid[] := '{}'::uuid[];
  topic public.topics;
  new_topics integer := 0;
  added integer := 0;
  duplicates integer := 0;
  refusal text;
begin
  for item in select i.value from jsonb_array_elements(items) with ordinality as i (value, place) order by i.place limit discovery.max_items loop
    begin
      taken := private.topics_take_item(discovery, item);
    exception when sqlstate 'KJ429' then
      -- The topic or the organization is full: what was taken stays.
      get stacked diagnostics refusal = pg_exception_detail;
      exit;
    end;
    new_topics := new_topics + taken.is_new::integer;
    added := added + (taken.outcome = 'added')::integer;
    duplicates := duplicates + (taken.outcome = 'duplicate')::integer;
    if taken.outcome in ('added', 'changed') and taken.topic <> all (touched) then
      touched := touched || taken.topic;
    end if;
  end loop;
  for topic in select t.* from public.topics as t where t.org_id = discovery.org_id and t.id = any (touched) order by t.id loop
    perform private.topics_score(topic);
  end loop;
  return jsonb_build_object(
    'found', least(jsonb_array_length(items), discovery.max_items), 'added_topics', new_topics, 'added_sources', added, 'duplicates', duplicates,
    'refusal', refusal
  );
end
$$;
comment on function private.topics_take_items(public.discoveries, jsonb) is 'Stores what a discovery found, at most its max_items, scores the topics that changed, and returns counts; refusal says why not all of them were taken.';

create function private.topics_finish_run(worker text, job_id uuid, attempt integer, outcome jsonb) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  discovery public.discoveries := private.topics_lock_discovery(job_id);
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  run public.discovery_runs;
  counts jsonb := '{}'::jsonb;
  code text := outcome #>> '{failed,code}';
  message text := outcome #>> '{failed,message}';
begin
  if job.id is null then
    return false;
  end if;
  select r.* into run from public.discovery_runs as r
  where r.org_id = job.org_id and r.id = private.topics_run_of(job) and r.status in ('queued', 'running')
  for no key update;
  if run.id is null then
    null; -- It has ended, or was deleted with its discovery.
  else
    -- A member may have changed how it looks since it started.
    discovery.collector := coalesce(run.collector, discovery.collector);
    if job.cancel_requested then
      code := 'cancelled';
    elsif code is null and jsonb_typeof(outcome -> 'items') = 'array' then
      counts := private.topics_take_items(discovery, outcome -> 'items');
      if counts ->> 'refusal' is not null then
        code := 'quota_exceeded';
        message := counts ->> 'refusal';
      end if;
    end if;
    -- A member may have changed what is watched since it was fetched.
    if code is null and discovery.collector = 'feed' and outcome ->> 'asked' = discovery.url then
      if private.topics_is_url(outcome ->> 'moved_to') then
        update public.discoveries as d set url = outcome ->> 'moved_to' where d.org_id = discovery.org_id and d.id = discovery.id;
      end if;
      if outcome ? 'etag' then
        update public.discoveries as d
        set etag = case when octet_length(outcome ->> 'etag') <= 1000 then outcome ->> 'etag' end,
          last_modified = case when octet_length(outcome ->> 'last_modified') <= 100 then outcome ->> 'last_modified' end
        where d.org_id = discovery.org_id and d.id = discovery.id;
      end if;
    end if;
    perform private.topics_end_run(run, discovery, outcome -> 'spent', counts, code, message);
  end if;
  perform private.jobs_finish(
    job, case when job.cancel_requested then 'cancelled' else 'succeeded' end, counts, case when job.cancel_requested then 'cancelled' end, null
  );
  return true;
end
$$;
comment on function private.topics_finish_run(text, uuid, integer, jsonb) is 'Ends a held job with what was collected: {items, asked, etag, last_modified, moved_to, spent} or {failed: {code, message}, spent}. Items become topics and sources in the same transaction. False when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.topics_finish_run(text, uuid, integer, jsonb) to kijko_sidecar;
