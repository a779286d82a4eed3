-- ============================================================================
-- Topics: discoveries, the feeds and queries that an organization watches.
--
--   1. private.topics_run_due() makes a run of each discovery that is due, with a job of the kind topic_discovery.
--   2. The sidecar collects: it fetches the feed, or asks the search. What a vendor charges is held first.
--   3. private.topics_finish_run() stores what was found, what it cost, and ends the job, in one transaction.
--
-- A discovery has a schedule of its own and is no habit: a habit runs a skill, and each of its slots is an execution with a model's
-- prompt, tokens and a place in the plan. A discovery has none of these.
-- ============================================================================

create table public.discoveries (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  collector text not null check (collector in ('feed', 'searxng', 'tavily', 'gemini')),
  url text check (url is null or private.topics_is_url(url)),
  query text check (char_length(query) <= 400 and query ~ '[^[:space:]]'),
  category text not null default 'general' check (category in ('general', 'news')),
  topic_id uuid,
  language text not null default 'en' check (private.topics_is_language(language)),
  read_pages boolean not null default true,
  max_items integer not null default 20 check (max_items between 1 and 50),
  schedule text not null default 'daily' check (schedule in ('daily', 'weekly', 'custom')),
  -- A trigger fills it.
  cron kijko.cron not null default '0 2 * * *' check (char_length(cron) <= 255),
  timezone text not null default 'UTC' check (char_length(timezone) between 1 and 64),
  enabled boolean not null default true,
  next_run_at timestamptz,
  last_run_at timestamptz,
  failures integer not null default 0 check (failures >= 0),
  last_error_code text check (char_length(last_error_code) <= 100),
  last_error text check (char_length(last_error) <= 1000),
  etag text check (octet_length(etag) <= 1000),
  last_modified text check (octet_length(last_modified) <= 100),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  check (case when collector = 'feed' then url is not null and query is null else query is not null and url is null end),
  foreign key (org_id, topic_id) references public.topics (org_id, id) on delete cascade
);
create index discoveries_due_idx on public.discoveries (next_run_at, id) where enabled;
create index discoveries_topic_id_idx on public.discoveries (org_id, topic_id) where topic_id is not null;
comment on table public.discoveries is 'Feeds and queries that an organization watches. Members write what is watched and when; the database keeps the rest.';
comment on column public.discoveries.id is 'Identity of the discovery.';
comment on column public.discoveries.org_id is 'Organization that owns it and pays for its searches.';
comment on column public.discoveries.name is 'Shown to members.';
comment on column public.discoveries.collector is 'How it looks: feed (RSS, Atom or a JSON feed), searxng, tavily, or gemini (an answer of Gemini grounded in Google Search).';
comment on column public.discoveries.url is 'Address of the feed; follows a permanent redirect. Null for searches.';
comment on column public.discoveries.query is 'What is searched for; null for a feed.';
comment on column public.discoveries.category is 'What a search looks through: general or news.';
comment on column public.discoveries.topic_id is 'Topic that gets what is found as sources; the discovery is deleted with it. Null: each new story becomes a topic.';
comment on column public.discoveries.language is 'Language in which it searches, and of topics whose language cannot be told.';
comment on column public.discoveries.read_pages is 'Whether the page of an item that says little is read, at most 10 in a run.';
comment on column public.discoveries.max_items is 'At most so many items of a run are taken, the latest of a feed and the best of a search.';
comment on column public.discoveries.schedule is 'daily: at two in the morning. weekly: on Monday at two in the morning. custom: by cron.';
comment on column public.discoveries.cron is 'Five-field cron expression of the schedule; written by members for custom only.';
comment on column public.discoveries.timezone is 'IANA zone in which the expression is read.';
comment on column public.discoveries.enabled is 'Whether it runs by its schedule. It is disabled after 10 failures in a row, and when its feed is gone for good.';
comment on column public.discoveries.next_run_at is 'Next slot; null while disabled.';
comment on column public.discoveries.last_run_at is 'When it last ran by its schedule.';
comment on column public.discoveries.failures is 'Runs that failed in a row.';
comment on column public.discoveries.last_error_code is 'Short name of why the last run failed; null if it succeeded.';
comment on column public.discoveries.last_error is 'The same in words.';
comment on column public.discoveries.etag is 'The feed''s ETag, by which an unchanged feed is not sent again.';
comment on column public.discoveries.last_modified is 'The feed''s Last-Modified, for the same.';
comment on column public.discoveries.created_by is 'User who made it; null after that user is deleted.';
comment on column public.discoveries.created_by_key is 'API key that made it; null when a user did.';
comment on column public.discoveries.created_at is 'When it was made.';
comment on column public.discoveries.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.discoveries', resource => 'content', max_rows => 100,
  writable => '{name,collector,url,query,category,topic_id,language,read_pages,max_items,schedule,cron,timezone,enabled}', catalogue => '{
    "name, collector, url, query, category, topic_id, language, read_pages, max_items": "what the organization watches",
    "schedule, cron, timezone, enabled, next_run_at, last_run_at": "when it looks",
    "failures, last_error_code, last_error": "shows members how it went",
    "etag, last_modified": "keeps an unchanged feed from being sent again"
  }'
);

create function private.topics_schedule_discovery() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  next_slot timestamptz;
begin
  if new.schedule <> 'custom' then
    new.cron := case new.schedule when 'daily' then '0 2 * * *' else '0 2 * * 1' end;
  end if;
  if tg_op = 'UPDATE' then
    -- What is known of the old document says nothing about the new one.
    if (new.url, new.collector, new.topic_id, new.read_pages, new.max_items)
      is distinct from (old.url, old.collector, old.topic_id, old.read_pages, old.max_items)
    then
      new.etag := null;
      new.last_modified := null;
    end if;
    if (new.cron, new.timezone, new.enabled) is not distinct from (old.cron, old.timezone, old.enabled) then
      return new;
    end if;
    if new.enabled and not old.enabled then
      new.failures := 0;
    end if;
  end if;
  -- Also for a disabled one: this checks the zone and the expression.
  next_slot := kijko.cron_next(new.cron, new.timezone, kijko.now());
  new.next_run_at := case when new.enabled then next_slot end;
  return new;
end
$$;
comment on function private.topics_schedule_discovery() is 'Trigger: sets cron by the schedule and next_run_at by cron, and refuses a schedule without slots. Definer: members do not write next_run_at.';
create trigger discoveries_schedule before insert or update of url, collector, topic_id, read_pages, max_items, schedule, cron, timezone, enabled
  on public.discoveries for each row execute function private.topics_schedule_discovery();

-- ----------------------------------------------------------------------------
-- discovery_runs
-- ----------------------------------------------------------------------------

create table public.discovery_runs (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  discovery_id uuid not null,
  trigger text not null check (trigger in ('schedule', 'manual')),
  scheduled_for timestamptz,
  status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed')),
  job_id uuid,
  collector text check (octet_length(collector) <= 40),
  found integer not null default 0 check (found >= 0),
  added_topics integer not null default 0 check (added_topics >= 0),
  added_sources integer not null default 0 check (added_sources >= 0),
  duplicates integer not null default 0 check (duplicates >= 0),
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  cost_usd numeric(16, 6) not null generated always as (cost_microusd / 1000000.0) stored,
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 1000),
  started_at timestamptz,
  finished_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, discovery_id, scheduled_for),
  foreign key (org_id, discovery_id) references public.discoveries (org_id, id) on delete cascade
);
create unique index discovery_runs_live_idx on public.discovery_runs (org_id, discovery_id) where status in ('queued', 'running');
create index discovery_runs_discovery_id_idx on public.discovery_runs (org_id, discovery_id, created_at desc, id desc);
comment on table public.discovery_runs is 'Runs of discoveries: what was found and what it cost. The latest 100 of each are kept. Written by functions only.';
comment on column public.discovery_runs.id is 'Identity of the run.';
comment on column public.discovery_runs.org_id is 'Organization of the discovery.';
comment on column public.discovery_runs.discovery_id is 'The discovery; its runs are deleted with it.';
comment on column public.discovery_runs.trigger is 'schedule or manual.';
comment on column public.discovery_runs.scheduled_for is 'Slot of the schedule; null for a run by hand.';
comment on column public.discovery_runs.status is 'queued, running, succeeded or failed. One run of a discovery is queued or running at a time.';
comment on column public.discovery_runs.job_id is 'Job that collects.';
comment on column public.discovery_runs.collector is 'How it looked: collector of the discovery when the run started; null until then.';
comment on column public.discovery_runs.found is 'Items that the feed or the search had, at most max_items of the discovery.';
comment on column public.discovery_runs.added_topics is 'How many of them became topics.';
comment on column public.discovery_runs.added_sources is 'How many of them became sources.';
comment on column public.discovery_runs.duplicates is 'How many said what a known source says, at another address.';
comment on column public.discovery_runs.cost_microusd is 'What the vendor charged, in millionths of a US dollar.';
comment on column public.discovery_runs.cost_usd is 'The same in US dollars.';
comment on column public.discovery_runs.error_code is 'Short name of why it failed; null otherwise.';
comment on column public.discovery_runs.error is 'The same in words.';
comment on column public.discovery_runs.started_at is 'When it began to collect.';
comment on column public.discovery_runs.finished_at is 'When it ended.';
comment on column public.discovery_runs.created_by is 'User who ran it by hand; null after that user is deleted, and for the schedule.';
comment on column public.discovery_runs.created_by_key is 'API key that ran it; null for a user.';
comment on column public.discovery_runs.created_at is 'When it was queued.';
comment on column public.discovery_runs.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.discovery_runs', resource => 'content', writable => '{}', catalogue => '{
  "discovery_id, trigger, scheduled_for, status, job_id, collector, started_at, finished_at": "when and how a discovery looked",
  "found, added_topics, added_sources, duplicates, error_code, error": "shows members how it went",
  "cost_microusd, cost_usd": "what it cost"
}');

-- ----------------------------------------------------------------------------
-- What searches cost: the platform's
-- ----------------------------------------------------------------------------

create table private.collector_prices (
  collector text primary key check (octet_length(collector) <= 40),
  search_microusd bigint not null check (search_microusd >= 0),
  model text check (char_length(model) <= 200),
  max_input_tokens bigint not null default 0 check (max_input_tokens >= 0),
  max_output_tokens bigint not null default 0 check (max_output_tokens >= 0)
);
comment on table private.collector_prices is 'What vendors charge for a search. A collector without a row charges nothing. The platform''s: operators may change it.';
comment on column private.collector_prices.collector is 'The collector.';
comment on column private.collector_prices.search_microusd is 'Price of a search, in millionths of a US dollar: of a credit at Tavily, of a grounded answer at Google.';
comment on column private.collector_prices.model is 'Model that answers, whose tokens are charged, too; null for none.';
comment on column private.collector_prices.max_input_tokens is 'Tokens of the question that are held for.';
comment on column private.collector_prices.max_output_tokens is 'Tokens of the answer that are held for; it is cut there.';
select private.describe_data(
  'private.collector_prices', '{"collector, search_microusd, model, max_input_tokens, max_output_tokens": "what vendors charge for a search"}', 'platform'
);
alter table private.collector_prices enable row level security;
insert into private.collector_prices (collector, search_microusd, model, max_input_tokens, max_output_tokens) values
  ('tavily', 8000, null, 0, 0),
  ('gemini', 35000, 'gemini/gemini-2.5-flash', 2000, 4096);

create table private.discovery_holds (
  organization uuid not null,
  run_id uuid not null,
  attempt integer not null,
  worker text not null check (char_length(worker) <= 200),
  search_microusd bigint not null check (search_microusd >= 0),
  call_id uuid,
  holds jsonb not null,
  held jsonb not null,
  attributes jsonb not null,
  primary key (organization, run_id),
  foreign key (organization, run_id) references public.discovery_runs (org_id, id) on delete cascade
);
comment on table private.discovery_holds is 'What running searches hold against meters and budgets. A row goes when its search is settled.';
comment on column private.discovery_holds.organization is 'Organization of the run.';
comment on column private.discovery_holds.run_id is 'The run.';
comment on column private.discovery_holds.attempt is 'Attempt of the job that asks; a later one ends the run.';
comment on column private.discovery_holds.worker is 'Worker that asks; another one ends the run.';
comment on column private.discovery_holds.search_microusd is 'Price of a search when it was held: what it is settled by. 0 with a key of the organization, which pays the vendor itself.';
comment on column private.discovery_holds.call_id is 'Call of the model that answers, llm_calls.id: it has holds of its own. Null without a model.';
comment on column private.discovery_holds.holds is 'Entries as those of calls of models, for the price of the search.';
comment on column private.discovery_holds.held is 'The most that the search can use.';
comment on column private.discovery_holds.attributes is 'Whose use it is, for the ledger.';
select private.describe_data('private.discovery_holds', '{
  "organization, run_id, attempt, worker, search_microusd, call_id, holds, held, attributes": {"purpose": "holds what a search can cost until it is settled", "export": "none"}
}');
alter table private.discovery_holds enable row level security;

-- A vendor's search is paid by the budget of calls of models, and answered by a model.
create function private.topics_may_search(org uuid, collector text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select public.can(org, 'llm:call') is true
    or not exists (select from private.collector_prices as p where p.collector = topics_may_search.collector)
$$;
comment on function private.topics_may_search(uuid, text) is 'Whether the caller may have a collector search: one that charges needs llm:call.';

create function private.topics_check_collector() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (kijko.actor()).kind in ('none', 'service') or private.topics_may_search(new.org_id, new.collector) then
    return new;
  end if;
  perform kijko.fail('permission_denied', format('%s charges for searches: requires the permission llm:call', new.collector));
  return null;
end
$$;
comment on function private.topics_check_collector() is 'Trigger: who may not call models has no search run that a vendor charges for, but may stop one. Definer: users do not read prices.';
create trigger discoveries_collector before insert on public.discoveries for each row execute function private.topics_check_collector();
create trigger discoveries_collector_changed before update on public.discoveries
  for each row when (
    (new.collector, new.query, new.category, new.topic_id, new.language, new.read_pages, new.max_items, new.cron, new.timezone)
      is distinct from (old.collector, old.query, old.category, old.topic_id, old.language, old.read_pages, old.max_items, old.cron, old.timezone)
    or new.enabled and not old.enabled
  ) execute function private.topics_check_collector();
