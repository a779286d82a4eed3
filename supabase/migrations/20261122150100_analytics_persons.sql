-- ============================================================================
-- Analytics: persons, their ids, and merges.
--
-- A visitor is a person by its anonymous id, a signed-in user by its user id. When a message names both, the visitor's person
-- becomes the user's. Events keep the person that they arrived with; queries follow analytics_merges, so that a merge counts for
-- the past, too. A merge points at the last person always, so that one look-up is enough.
-- ============================================================================

create table public.persons (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  user_id text check (char_length(user_id) between 1 and 256),
  traits jsonb not null default '{}' check (jsonb_typeof(traits) = 'object' and private.json_fits(traits, 65536)),
  last_seen_at timestamptz not null default kijko.now(),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now()
);
create unique index persons_user_id_idx on public.persons (org_id, user_id) where user_id is not null;
create index persons_list_idx on public.persons (org_id, last_seen_at desc, id desc);
create index persons_last_seen_at_idx on public.persons using brin (last_seen_at);
comment on table public.persons is 'Users and visitors of the organization''s product, as product events name them. Written by track() only.';
comment on column public.persons.id is 'Identity of the person.';
comment on column public.persons.org_id is 'Organization whose product they use.';
comment on column public.persons.user_id is 'The organization''s own id of the user; null for a visitor who has not signed in.';
comment on column public.persons.traits is 'What identify messages said about them; a later value replaces an earlier one.';
comment on column public.persons.last_seen_at is 'When an event of theirs arrived last, to the day.';
comment on column public.persons.created_by is 'Member who sent their first event; null for a service or publishable key.';
comment on column public.persons.created_at is 'When their first event arrived.';
select private.describe_data('public.persons', '{
  "user_id, traits": {"subject": "person", "purpose": "who the organization''s users are", "export": "organization", "erasure": "retention"},
  "last_seen_at": "when they were there"
}');
select private.set_retention('public.persons', '402 days', 'as long as events name them');
select private.tie_to_person('public.persons', 'created_by', 'clear', 'intake does not wait for the user');
alter table public.persons enable row level security;
grant select on public.persons to authenticated, service_role;
create policy persons_select on public.persons for select to authenticated
  using (org_id = any (array(select private.org_ids_with('analytics:read'))));

create table private.analytics_identities (
  organization uuid not null references public.organizations (id) on delete cascade,
  kind text not null check (kind in ('user', 'anonymous')),
  external_id text not null check (char_length(external_id) between 1 and 256),
  person_id uuid not null,
  primary key (organization, kind, external_id)
);
create index analytics_identities_person_id_idx on private.analytics_identities (person_id);
comment on table private.analytics_identities is 'The person that each id of a user or visitor means now.';
comment on column private.analytics_identities.organization is 'Organization whose product they use.';
comment on column private.analytics_identities.kind is 'user for the organization''s own id, anonymous for one that a client made.';
comment on column private.analytics_identities.external_id is 'The id.';
comment on column private.analytics_identities.person_id is 'The person.';
select private.describe_data('private.analytics_identities', '{
  "organization, kind": {"purpose": "finds the person of an event", "export": "none"},
  "external_id, person_id": {"subject": "person", "purpose": "finds the person of an event", "export": "none", "erasure": "retention"}
}');
select private.set_retention('private.analytics_identities', null, 'finds the person of an event', kept_by => 'the person: deleted with them');
alter table private.analytics_identities enable row level security;

create table private.analytics_merges (
  organization uuid not null references public.organizations (id) on delete cascade,
  person_id uuid not null,
  into_person_id uuid not null,
  merged_at timestamptz not null default kijko.now(),
  primary key (organization, person_id)
);
create index analytics_merges_into_person_id_idx on private.analytics_merges (organization, into_person_id);
comment on table private.analytics_merges is 'Persons that became another one, which is never merged itself.';
comment on column private.analytics_merges.organization is 'Organization whose product they use.';
comment on column private.analytics_merges.person_id is 'The person that is no more. Events name it.';
comment on column private.analytics_merges.into_person_id is 'The person that it is now.';
comment on column private.analytics_merges.merged_at is 'When they were merged.';
select private.describe_data('private.analytics_merges', '{
  "organization, person_id, into_person_id, merged_at": {"purpose": "counts the events of a merged person for the other one", "export": "none"}
}');
alter table private.analytics_merges enable row level security;

create table private.analytics_changes (
  id bigint generated always as identity primary key,
  organization uuid not null references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 200),
  hour timestamptz not null
);
create index analytics_changes_organization_idx on private.analytics_changes (organization, name, hour);
comment on table private.analytics_changes is 'Hours of events that must be summed up anew. Several rows may say the same: a unique key would make senders wait for each other.';
comment on column private.analytics_changes.id is 'Order of arrival.';
comment on column private.analytics_changes.organization is 'Organization of the events.';
comment on column private.analytics_changes.name is 'Name of the events.';
comment on column private.analytics_changes.hour is 'Beginning of the hour.';
select private.describe_data('private.analytics_changes', '{
  "id": {"subject": "platform", "purpose": "order of arrival"},
  "organization, name, hour": {"purpose": "says which hours must be summed up", "export": "none"}
}');
alter table private.analytics_changes enable row level security;
