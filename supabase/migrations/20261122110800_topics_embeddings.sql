-- ============================================================================
-- Topics: embeddings of sources, by a model, through the gateway. Which sources mean the same is then known beyond their words:
-- similar_sources() finds them, and scores count them as agreement.
--
--   1. embed_topic() queues a job of the kind topic_embedding for a topic and a model.
--   2. The sidecar starts it: topics_start_embedding() says which texts, and holds what the call can cost.
--   3. topics_finish_embedding() keeps the vectors, at length 1, and notes that the topic is to be scored. If texts are left, it queues
--      the next job.
--   4. topics_score_embedded() scores it, in a transaction of its own: vectors that were paid for stay, whatever becomes of the scores. The
--      sidecar calls it at once, pg_cron each minute what was left.
--
-- The search is exact: over the vectors of one organization and one model. It is done by pgvector where that is installed, else in SQL.
-- ============================================================================

create table public.source_embeddings (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  source_id uuid not null,
  model text not null check (char_length(model) between 1 and 200),
  text_hash text not null check (char_length(text_hash) = 64),
  embedding real[] not null check (cardinality(embedding) between 1 and 4096 and array_position(embedding, null) is null),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, source_id, model),
  foreign key (org_id, source_id) references public.research_sources (org_id, id) on delete cascade
);
create index source_embeddings_model_idx on public.source_embeddings (org_id, model, created_at desc);
comment on table public.source_embeddings is 'Vectors of sources, one for each model. Written by functions only.';
comment on column public.source_embeddings.id is 'Identity of the row.';
comment on column public.source_embeddings.org_id is 'Organization of the source.';
comment on column public.source_embeddings.source_id is 'The source; its vectors are deleted with it.';
comment on column public.source_embeddings.model is 'Model or route that made it; vectors of two models are not compared.';
comment on column public.source_embeddings.text_hash is 'Hash of the text that it was made of: title and excerpt.';
comment on column public.source_embeddings.embedding is 'The vector, at length 1.';
comment on column public.source_embeddings.created_by is 'User who asked for it; null after that user is deleted.';
comment on column public.source_embeddings.created_by_key is 'Personal API key that asked for it; null for a user.';
comment on column public.source_embeddings.created_at is 'When it was made first.';
comment on column public.source_embeddings.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.source_embeddings', resource => 'content', writable => '{}', catalogue => '{
  "source_id, model, text_hash, embedding": "says which sources mean the same"
}');

create table private.topic_embedding_calls (
  call_id uuid primary key,
  organization uuid not null,
  topic_id uuid not null,
  member uuid,
  created_at timestamptz not null default now()
);
comment on table private.topic_embedding_calls is 'Calls for embeddings whose cost is not recorded yet.';
comment on column private.topic_embedding_calls.call_id is 'The call: llm_calls.id.';
comment on column private.topic_embedding_calls.organization is 'Organization that pays. No foreign key: the cost outlives what it paid for.';
comment on column private.topic_embedding_calls.topic_id is 'Topic that it is for.';
comment on column private.topic_embedding_calls.member is 'Member who asked for it.';
comment on column private.topic_embedding_calls.created_at is 'When it began, by the real clock.';
select private.describe_data('private.topic_embedding_calls', '{
  "call_id, organization, topic_id, created_at": {"purpose": "records what embeddings cost", "export": "none", "erasure": "retention"},
  "member": {"subject": "person", "purpose": "who asked for embeddings", "export": "none"}
}');
select private.set_retention('private.topic_embedding_calls', '7 days', 'records what a call cost once that is known');
select private.tie_to_person('private.topic_embedding_calls', 'member', 'clear', 'the record does not wait for the user');
alter table private.topic_embedding_calls enable row level security;

create table private.topic_rescores (
  organization uuid not null,
  topic_id uuid not null,
  retry_at timestamptz not null default now(),
  failures integer not null default 0 check (failures >= 0),
  primary key (organization, topic_id),
  foreign key (organization, topic_id) references public.topics (org_id, id) on delete cascade
);
create index topic_rescores_retry_at_idx on private.topic_rescores (retry_at);
comment on table private.topic_rescores is 'Topics that got vectors and are not scored with them yet.';
comment on column private.topic_rescores.organization is 'Organization of the topic.';
comment on column private.topic_rescores.topic_id is 'The topic; deleted with it.';
comment on column private.topic_rescores.retry_at is 'When it is tried next, by the real clock.';
comment on column private.topic_rescores.failures is 'How often it has failed.';
select private.describe_data('private.topic_rescores', '{
  "organization, topic_id, retry_at, failures": {"purpose": "scores a topic by what its sources mean", "export": "none"}
}');
alter table private.topic_rescores enable row level security;

create function private.topics_attach_vector() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  place constant text := (
    select n.nspname from pg_type as t join pg_namespace as n on n.oid = t.typnamespace where t.typname = 'vector' and t.typtype = 'b'
  );
begin
  execute 'create or replace function private.topics_similarity(a real[], b real[]) returns double precision
    language sql immutable parallel safe strict set search_path = pg_catalog, pg_temp return ' || case
    when place is null then '(select sum(t.x * t.y) from unnest(a, b) as t (x, y))'
    else format('1 - (a::%1$I.vector operator(%1$I.<=>) b::%1$I.vector)', place)
  end;
  execute 'create or replace function private.topics_comparable_numbers() returns bigint
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp return ' || case when place is null then 2000000 else 1000000000 end;
  return place is not null;
end
$$;
comment on function private.topics_attach_vector() is 'Has pgvector compare embeddings, if it is installed; false when it is not, and SQL does. Called again after its installation. Only for postgres and the superuser.';
select private.topics_attach_vector();
comment on function private.topics_similarity(real[], real[]) is 'How much two vectors of length 1 point the same way: their cosine. Null for null. Nullable: result.';
comment on function private.topics_comparable_numbers() is 'How many numbers of vectors are compared for one answer, so that it comes within a second.';

create function private.topics_embedding_text(source public.research_sources) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return left(btrim(source.title || E'\n' || source.excerpt), 4000);
comment on function private.topics_embedding_text(public.research_sources) is 'The text of a source that is embedded.';

create function private.topics_unembedded(org uuid, topic_id uuid, model text) returns setof public.research_sources
language sql stable rows 64 set search_path = pg_catalog, pg_temp
as $$
  select s.* from public.research_sources as s
  where s.org_id = org and s.topic_id = topics_unembedded.topic_id and private.topics_embedding_text(s) <> '' and not exists (
    select from public.source_embeddings as e
    where e.org_id = org and e.source_id = s.id and e.model = topics_unembedded.model
      and e.text_hash = private.topics_hash(private.topics_embedding_text(s))
  )
  order by s.id
$$;
comment on function private.topics_unembedded(uuid, uuid, text) is 'The sources of a topic that have no vector of a model, or one of a former text.';

create function private.topics_enqueue_embedding(org uuid, topic_id uuid, model text, member uuid, key uuid) returns uuid
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select private.jobs_enqueue(
    org, 'topic_embedding', jsonb_build_object('topic_id', topic_id, 'model', model, 'member', member, 'key', key), max_attempts => 3,
    timeout_seconds => 300, unique_key => topic_id || ':' || model, concurrency_key => 'topic_embedding'
  )
$$;
comment on function private.topics_enqueue_embedding(uuid, uuid, text, uuid, uuid) is 'Queues the embedding of a topic''s sources, once. Nullable: result.';

create function public.embed_topic(topic_id uuid, model text) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  topic constant public.topics := private.topics_require(embed_topic.topic_id, 'content:write', for_change => true);
  missing bigint;
begin
  perform private.llm_require_member(topic.org_id, embed_topic.model);
  perform private.limit_rate('topics_embed:' || topic.org_id, 120, interval '1 hour', 'an organization embeds at most %s topics an hour');
  select count(*) into missing from private.topics_unembedded(topic.org_id, topic.id, embed_topic.model) as s;
  if missing > 0 then
    perform private.topics_enqueue_embedding(topic.org_id, topic.id, embed_topic.model, kijko.user_id(), kijko.api_key_id());
  end if;
  return missing;
end
$$;
comment on function public.embed_topic(uuid, text) is 'Has a model embed the sources of a topic that it has not embedded as they are now, and returns how many those are. Then the topic is scored. The calls count against the budgets and limits of the member. Requires content:write and llm:call. Definer: users do not write jobs.';
grant execute on function public.embed_topic(uuid, text) to authenticated;

create function public.similar_sources(source_id uuid, n integer default 10) returns table (
  id uuid, topic_id uuid, title text, url text, similarity double precision
)
language plpgsql stable security definer rows 10 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  source public.research_sources;
  own public.source_embeddings;
begin
  perform private.tenancy_require_caller();
  select s.* into source from public.research_sources as s
  where s.id = similar_sources.source_id and s.org_id = any (array(select private.org_ids_with('content:read')));
  if source.id is null then
    perform kijko.fail('not_found', 'no such source');
  elsif (similar_sources.n between 1 and 100) is not true then
    perform kijko.fail('invalid_input', 'n: 1 to 100');
  end if;
  select e.* into own from public.source_embeddings as e
  where e.org_id = source.org_id and e.source_id = source.id order by e.updated_at desc, e.id limit 1;
  return query
  select s.id, s.topic_id, s.title, s.url, f.similarity
  from (
    select e.source_id, private.topics_similarity(e.embedding, own.embedding) as similarity
    from (
      select o.source_id, o.embedding from public.source_embeddings as o
      where o.org_id = own.org_id and o.model = own.model and o.source_id <> own.source_id
        and cardinality(o.embedding) = cardinality(own.embedding)
      order by o.created_at desc limit least(20000, private.topics_comparable_numbers() / cardinality(own.embedding))
    ) as e
    order by 2 desc, 1 limit similar_sources.n
  ) as f
  join public.research_sources as s on s.org_id = source.org_id and s.id = f.source_id
  order by f.similarity desc, s.id;
end
$$;
comment on function public.similar_sources(uuid, integer) is 'The sources of the organization that mean most nearly the same as this one, of all its topics, by the vectors of one model: the newest 20,000 are compared, without pgvector those of 2,000,000 numbers. None before embed_topic(). Requires content:read. Definer: row level security would check each vector.';
grant execute on function public.similar_sources(uuid, integer) to authenticated;

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.topics_record_embedding_costs(org uuid default null) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  entry record;
  recorded integer := 0;
begin
  for entry in
    select k.call_id, k.organization, k.topic_id, k.member, c.cost_microusd, c.model
    from private.topic_embedding_calls as k
    join public.llm_calls as c on c.org_id = k.organization and c.id = k.call_id and c.created_at > kijko.now() - interval '7 days'
    where (topics_record_embedding_costs.org is null or k.organization = topics_record_embedding_costs.org) and c.finished_at is not null
    order by k.call_id limit 500 for update of k skip locked
  loop
    -- One that fails stops no other.
    begin
      perform private.topics_add_cost(
        entry.organization, 'embedding', entry.call_id, entry.cost_microusd, entry.topic_id, null, null, entry.model, entry.member
      );
      delete from private.topic_embedding_calls as k where k.call_id = entry.call_id;
      recorded := recorded + 1;
    exception when others then
      raise warning 'cost of call %: %', entry.call_id, sqlerrm;
    end;
  end loop;
  -- Of an organization that is gone.
  delete from private.topic_embedding_calls as k where k.created_at < now() - private.retention_of('private.topic_embedding_calls');
  return recorded;
end
$$;
comment on function private.topics_record_embedding_costs(uuid) is 'Records what settled calls for embeddings have cost, each once, and returns how many. Called by pg_cron each minute for all organizations.';
select private.schedule('kijko-topics-record-embedding-costs', '* * * * *', 'perform private.topics_record_embedding_costs()');

create function private.topics_start_embedding(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  job public.jobs;
  topic uuid;
  member uuid;
  sources jsonb;
  texts jsonb;
  reserved jsonb;
begin
  perform 1 from public.organizations as o where o.id = (select j.org_id from public.jobs as j where j.id = job_id) for key share;
  job := private.jobs_lock_leased(worker, job_id, attempt);
  if job.kind is distinct from 'topic_embedding' then
    return null;
  end if;
  topic := private.as_uuid(job.payload ->> 'topic_id');
  member := private.as_uuid(job.payload ->> 'member');
  if private.llm_may_call(job.org_id, member, 'content:write') is not true then
    return jsonb_build_object('refused', 'permission_denied', 'message', 'who asked for it may not any more');
  end if;
  select jsonb_agg(jsonb_build_object('id', s.id, 'text_hash', private.topics_hash(s.text)) order by s.id), jsonb_agg(s.text order by s.id) into sources, texts
  from (
    select u.id, private.topics_embedding_text(u) as text from private.topics_unembedded(job.org_id, topic, job.payload ->> 'model') as u limit 32
  ) as s;
  if sources is null then
    return null;
  end if;
  reserved := private.llm_try_reserve_call(job.org_id, member, private.as_uuid(job.payload ->> 'key'), jsonb_build_object(
    'kind', 'embeddings', 'model', job.payload ->> 'model', 'input_tokens', octet_length(texts::text), 'choices', 0, 'images', 0,
    'trace_id', replace(job.id::text, '-', '')
  ));
  if reserved ? 'refused' then
    return reserved;
  end if;
  insert into private.topic_embedding_calls (call_id, organization, topic_id, member)
  values ((reserved ->> 'call_id')::uuid, job.org_id, topic, member);
  return jsonb_build_object(
    'org_id', job.org_id, 'ticket', reserved -> 'ticket', 'sources', sources,
    'request', jsonb_build_object('model', job.payload -> 'model', 'input', texts, 'encoding_format', 'float')
  );
end
$$;
comment on function private.topics_start_embedding(text, uuid, integer) is 'What a job of the kind topic_embedding asks a model: {org_id, ticket, request, sources}, its cost held; {refused, message} if that cannot be; null when the lease was lost or nothing is left to do. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.topics_start_embedding(text, uuid, integer) to kijko_sidecar;

create function private.topics_finish_embedding(worker text, job_id uuid, attempt integer, result jsonb) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  topic public.topics;
  job public.jobs;
  kept integer;
begin
  -- The organization, the topic and then the job, as a run of a discovery does.
  perform 1 from public.organizations as o where o.id = (select j.org_id from public.jobs as j where j.id = job_id) for no key update;
  select t.* into topic from public.topics as t
  where (t.org_id, t.id) = (select j.org_id, private.as_uuid(j.payload ->> 'topic_id') from public.jobs as j where j.id = job_id) for update;
  job := private.jobs_lock_leased(worker, job_id, attempt);
  if job.kind is distinct from 'topic_embedding' then
    return false;
  end if;
  insert into public.source_embeddings as e (org_id, source_id, model, text_hash, embedding, created_by, created_by_key)
  select job.org_id, s.id, job.payload ->> 'model', v.source ->> 'text_hash', v.embedding,
    (select u.id from auth.users as u where u.id = private.as_uuid(job.payload ->> 'member')), private.as_uuid(job.payload ->> 'key')
  from (
    select i.source, private.topics_unit_vector(i.vector) as embedding
    from jsonb_array_elements(result -> 'embedded') as r (item)
    cross join lateral (select r.item -> 'source' as source, r.item -> 'vector' as vector) as i
  ) as v
  join public.research_sources as s on s.org_id = job.org_id and s.id = private.as_uuid(v.source ->> 'id')
  where v.embedding is not null
  on conflict (org_id, source_id, model) do update set text_hash = excluded.text_hash, embedding = excluded.embedding;
  get diagnostics kept = row_count;
  perform private.topics_record_embedding_costs(job.org_id);
  if not private.jobs_delete_leased(worker, job_id, attempt, 'topic_embedding') then
    return false;
  end if;
  if topic.id is not null then
    if kept > 0 then
      insert into private.topic_rescores as r (organization, topic_id) values (topic.org_id, topic.id)
      on conflict (organization, topic_id) do update set retry_at = excluded.retry_at, failures = 0;
    end if;
    -- A model that answers with no vector is not asked again and again.
    if kept > 0 and exists (select from private.topics_unembedded(topic.org_id, topic.id, job.payload ->> 'model')) then
      perform private.topics_enqueue_embedding(
        topic.org_id, topic.id, job.payload ->> 'model', private.as_uuid(job.payload ->> 'member'), private.as_uuid(job.payload ->> 'key')
      );
    end if;
  end if;
  return true;
end
$$;
comment on function private.topics_finish_embedding(text, uuid, integer, jsonb) is 'Keeps vectors (embedded: a list of {source, vector}), has the topic scored, deletes the job, and queues the next one if texts are left; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.topics_finish_embedding(text, uuid, integer, jsonb) to kijko_sidecar;

create function private.topics_score_embedded(topic_id uuid default null) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  due private.topic_rescores;
  topic public.topics;
begin
  select r.* into due from private.topic_rescores as r
  where r.retry_at <= now() and (topics_score_embedded.topic_id is null or r.topic_id = topics_score_embedded.topic_id)
  order by r.retry_at, r.topic_id limit 1;
  if due.topic_id is null then
    return false;
  end if;
  -- The organization and the topic, as everywhere.
  perform 1 from public.organizations as o where o.id = due.organization for no key update;
  select t.* into topic from public.topics as t where t.org_id = due.organization and t.id = due.topic_id for update;
  begin
    delete from private.topic_rescores as r where (r.organization, r.topic_id) = (due.organization, due.topic_id);
    if found and topic.id is not null then
      perform private.topics_score(topic);
    end if;
  -- A time-out, too: others do not wait behind a topic whose scores take too long.
  exception when query_canceled or others then
    raise warning 'topic % cannot be scored: % %', due.topic_id, sqlstate, sqlerrm;
    update private.topic_rescores as r
    set failures = r.failures + 1, retry_at = clock_timestamp() + least(interval '1 minute' * 2 ^ least(r.failures, 10), interval '1 day')
    where (r.organization, r.topic_id) = (due.organization, due.topic_id);
  end;
  return true;
end
$$;
comment on function private.topics_score_embedded(uuid) is 'Scores a topic that got vectors, or the one that waits longest; false if none is due. One that fails is tried again after a pause that grows to a day. Definer: the sidecar holds no table rights.';
grant execute on function private.topics_score_embedded(uuid) to kijko_sidecar;

-- A procedure, so that each topic commits. It can then have no "set" clause, so every name is qualified.
create procedure private.topics_score_all_embedded()
language plpgsql
as $$
declare
  started constant timestamptz := clock_timestamp();
begin
  while private.topics_score_embedded() and clock_timestamp() < started + interval '45 seconds' loop
    commit;
  end loop;
end
$$;
comment on procedure private.topics_score_all_embedded() is 'Called by pg_cron each minute: scores topics that got vectors and that no sidecar has scored.';
select private.schedule('kijko-topics-score-embedded', '* * * * *', 'call private.topics_score_all_embedded()');

create function private.topics_unit_vector(vector jsonb) returns real[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  numbers double precision[];
  length double precision;
begin
  if jsonb_typeof(vector) is distinct from 'array' or jsonb_array_length(vector) not between 1 and 4096
    or exists (select from jsonb_array_elements(vector) as e (item) where jsonb_typeof(e.item) <> 'number' or abs(e.item::numeric) > 1e18)
  then
    return null;
  end if;
  select array_agg(e.item::double precision order by e.place), sqrt(sum(e.item::double precision * e.item::double precision)) into numbers, length
  from jsonb_array_elements(vector) with ordinality as e (item, place);
  if length is null or length < 1e-30 then
    return null;
  end if;
  return array(select (u.number / length)::real from unnest(numbers) with ordinality as u (number, place) order by u.place);
end
$$;
comment on function private.topics_unit_vector(jsonb) is 'A vector of a model at length 1; null for what is none, or has no direction. Nullable: result.';
