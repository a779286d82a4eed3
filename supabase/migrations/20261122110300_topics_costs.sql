-- ============================================================================
-- Topics: what content costs.
--
-- A row of content_costs is one cost: a call of a model, a search, a post on a platform that charges. Each is recorded once, by its
-- source and the source's id, in the transaction that ends what it paid for.
-- ============================================================================

create table public.content_costs (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  source text not null check (octet_length(source) <= 40 and source ~ '^[a-z][a-z0-9_]*$'),
  source_id uuid not null,
  topic_id uuid,
  blog_post_id uuid,
  social_post_id uuid,
  cost_microusd bigint not null check (cost_microusd >= 0),
  cost_usd numeric(16, 6) not null generated always as (cost_microusd / 1000000.0) stored,
  detail text check (char_length(detail) <= 200),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, source, source_id)
);
create index content_costs_topic_id_idx on public.content_costs (org_id, topic_id) where topic_id is not null;
create index content_costs_blog_post_id_idx on public.content_costs (org_id, blog_post_id) where blog_post_id is not null;
create index content_costs_social_post_id_idx on public.content_costs (org_id, social_post_id) where social_post_id is not null;
comment on table public.content_costs is 'What content has cost, one row for each call, search or post that was charged. Kept when what it paid for is deleted. Written by functions only.';
comment on column public.content_costs.id is 'Identity of the row.';
comment on column public.content_costs.org_id is 'Organization that pays.';
comment on column public.content_costs.source is 'What was paid: draft, embedding, image, search or social_post.';
comment on column public.content_costs.source_id is 'Which one of these; each is recorded once.';
comment on column public.content_costs.topic_id is 'Topic that it was for; null for none. No foreign key: the cost outlives it.';
comment on column public.content_costs.blog_post_id is 'Blog post that it was for; null for none. No foreign key.';
comment on column public.content_costs.social_post_id is 'Social post that it was for; null for none. No foreign key.';
comment on column public.content_costs.cost_microusd is 'Cost in millionths of a US dollar.';
comment on column public.content_costs.cost_usd is 'The same in US dollars.';
comment on column public.content_costs.detail is 'Model or platform.';
comment on column public.content_costs.created_by is 'User whose request it was; null after that user is deleted.';
comment on column public.content_costs.created_by_key is 'API key whose request it was; null for a user.';
comment on column public.content_costs.created_at is 'When it was recorded.';
comment on column public.content_costs.updated_at is 'The same: a cost never changes.';
select private.make_tenant_table('public.content_costs', resource => 'content', writable => '{}', catalogue => '{
  "source, source_id, topic_id, blog_post_id, social_post_id, detail": "what was paid for",
  "cost_microusd, cost_usd": "what it cost"
}');

create function private.topics_add_cost(
  org uuid, source text, source_id uuid, cost_microusd bigint, topic_id uuid, blog_post_id uuid, social_post_id uuid, detail text, member uuid
) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  insert into public.content_costs (org_id, source, source_id, topic_id, blog_post_id, social_post_id, cost_microusd, detail, created_by)
  select org, source, source_id, topic_id, blog_post_id, social_post_id, cost_microusd, left(detail, 200), (select u.id from auth.users as u where u.id = member)
  on conflict do nothing;
  return found;
end
$$;
comment on function private.topics_add_cost(uuid, text, uuid, bigint, uuid, uuid, uuid, text, uuid) is 'Records a cost once by its source and the source''s id; false if it was recorded before.';
