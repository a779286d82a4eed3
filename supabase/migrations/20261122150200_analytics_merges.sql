-- ============================================================================
-- Analytics: which messages belong to which person.
-- ============================================================================

create type private.analytics_message as (
  place bigint, code text, problem text, type text, name text, user_id text, anonymous_id text, previous_id text, group_id text,
  message_id text, message uuid, properties jsonb, context jsonb, original_timestamp timestamptz, sent_at timestamptz, happened_at timestamptz,
  user_person uuid, anonymous_person uuid
);
comment on type private.analytics_message is 'A message of track(), read and checked. code and problem say what is wrong. user_person and anonymous_person are the persons of its ids, once analytics_resolve() has looked them up.';

-- The caller holds the lock of the organization's persons: one transaction at a time changes several of them.
create function private.analytics_merge_persons(org uuid, merged uuid, into_person uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  gone public.persons;
begin
  delete from public.persons as p where p.org_id = org and p.id = merged returning p.* into gone;
  if gone.id is null then
    return;
  end if;
  update public.persons as p
  set created_at = least(p.created_at, gone.created_at), last_seen_at = greatest(p.last_seen_at, gone.last_seen_at),
    traits = case when private.json_fits(gone.traits || p.traits, 65536) then gone.traits || p.traits else p.traits end
  where p.org_id = org and p.id = into_person;
  update private.analytics_identities as i set person_id = into_person where i.organization = org and i.person_id = merged;
  update private.analytics_merges as m set into_person_id = into_person where m.organization = org and m.into_person_id = merged;
  insert into private.analytics_merges (organization, person_id, into_person_id) values (org, merged, into_person);
  insert into private.analytics_changes (organization, name, hour)
  select distinct org, e.name, date_trunc('hour', e."timestamp", 'UTC') from public.events as e where e.org_id = org and e.person_id = merged;
end
$$;
comment on function private.analytics_merge_persons(uuid, uuid, uuid) is 'Makes a person another one, for the past, too.';

create function private.analytics_person(org uuid, kind text, external_id text) returns public.persons
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select p.*
  from private.analytics_identities as i join public.persons as p on p.org_id = i.organization and p.id = i.person_id
  where i.organization = org and i.kind = analytics_person.kind and i.external_id = analytics_person.external_id
$$;
comment on function private.analytics_person(uuid, text, text) is 'The person that an id means now; null for none.';

create function private.analytics_link_previous(org uuid, user_id text, previous_id text, may_join boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  target constant public.persons := private.analytics_person(org, 'user', user_id);
  source public.persons := private.analytics_person(org, 'anonymous', previous_id);
begin
  if source.id is null then
    source := private.analytics_person(org, 'user', previous_id);
  end if;
  -- A visitor's id stays with the user who signed in first: another user of the same browser is another person.
  if target.id is null or source.id is null or target.id = source.id or (source.user_id is not null and not may_join) then
    return;
  end if;
  perform private.analytics_merge_persons(org, source.id, target.id);
end
$$;
comment on function private.analytics_link_previous(uuid, text, text, boolean) is 'Merges the person of an earlier id into that of a user. Two signed-in users are merged only with may_join.';

-- Each look-up is by the key: "limit 1" keeps the planner from reading all ids of an organization.
create function private.analytics_resolve(org uuid, messages private.analytics_message[]) returns private.analytics_message[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(
    row(
      m.place, m.code, m.problem, m.type, m.name, m.user_id, m.anonymous_id, m.previous_id, m.group_id, m.message_id, m.message, m.properties, m.context,
      m.original_timestamp, m.sent_at, m.happened_at, u.person_id, a.person_id
    )::private.analytics_message order by m.place
  ), '{}')
  from unnest(messages) as m
  left join lateral (
    select k.person_id from private.analytics_identities as k where k.organization = org and k.kind = 'user' and k.external_id = m.user_id limit 1
  ) as u on true
  left join lateral (
    select k.person_id from private.analytics_identities as k where k.organization = org and k.kind = 'anonymous' and k.external_id = m.anonymous_id limit 1
  ) as a on true
$$;
comment on function private.analytics_resolve(uuid, private.analytics_message[]) is 'The messages with the persons that their ids mean now.';

-- A visitor who is new together with a user needs no merge.
create function private.analytics_add_persons(org uuid, messages private.analytics_message[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  with made as (
    insert into private.analytics_identities (organization, kind, external_id, person_id)
    select org, 'user', n.user_id, gen_random_uuid()
    from (select distinct m.user_id from unnest(messages) as m where m.user_id is not null and m.user_person is null) as n
    order by n.user_id
    on conflict do nothing
    returning external_id, person_id
  )
  insert into public.persons (id, org_id, user_id) select m.person_id, org, m.external_id from made as m;

  with named as (
    select n.external_id, (array_agg(n.user_id order by n.place) filter (where n.user_id is not null))[1] as user_id
    from (
      select m.anonymous_id as external_id, m.user_id, m.place from unnest(messages) as m where m.anonymous_id is not null and m.anonymous_person is null
      union all
      select m.previous_id, null, m.place from unnest(messages) as m
      where m.previous_id is not null and (private.analytics_person(org, 'user', m.previous_id)).id is null
    ) as n
    group by n.external_id
  ), made as (
    insert into private.analytics_identities (organization, kind, external_id, person_id)
    select org, 'anonymous', n.external_id, coalesce(u.person_id, gen_random_uuid())
    from named as n
    left join lateral (
      select k.person_id from private.analytics_identities as k where k.organization = org and k.kind = 'anonymous' and k.external_id = n.external_id limit 1
    ) as k on true
    left join lateral (
      select k.person_id from private.analytics_identities as k where k.organization = org and k.kind = 'user' and k.external_id = n.user_id limit 1
    ) as u on true
    where k.person_id is null
    order by n.external_id
    on conflict do nothing
    returning external_id, person_id
  )
  insert into public.persons (id, org_id)
  select m.person_id, org from made as m join named as n on n.external_id = m.external_id where n.user_id is null;
end
$$;
comment on function private.analytics_add_persons(uuid, private.analytics_message[]) is 'Makes persons for the ids that mean nobody yet.';

-- Ids that are known cost look-ups only. Every statement sees what others committed while it waited for them.
create function private.analytics_identify(org uuid, messages private.analytics_message[], may_join boolean) returns private.analytics_message[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  resolved private.analytics_message[] := private.analytics_resolve(org, messages);
  pairs jsonb;
  pair jsonb;
begin
  if exists (
    select 1 from unnest(resolved) as m
    where (m.user_id is not null and m.user_person is null) or (m.anonymous_id is not null and m.anonymous_person is null) or m.previous_id is not null
  ) then
    perform private.analytics_add_persons(org, resolved);
    resolved := private.analytics_resolve(org, messages);
  end if;

  select jsonb_agg(jsonb_build_object('user', l.user_id, 'previous', l.previous_id, 'may_join', l.may_join) order by l.place) into pairs
  from (
    -- Of two users of one browser, whichever is first has the visitor: only an alias joins users.
    select b.user_id, b.anonymous_id as previous_id, b.place, false as may_join
    from (
      select m.user_id, m.anonymous_id, m.anonymous_person, min(m.place) as place from unnest(resolved) as m
      where m.user_person <> m.anonymous_person group by 1, 2, 3
    ) as b
    where exists (select 1 from public.persons as p where p.id = b.anonymous_person and p.user_id is null limit 1)
    union all
    select m.user_id, m.previous_id, m.place, analytics_identify.may_join from unnest(messages) as m where m.type = 'alias'
  ) as l;
  if pairs is null then
    return resolved;
  end if;
  perform private.analytics_lock_persons(org);
  for pair in select p.value from jsonb_array_elements(pairs) as p loop
    perform private.analytics_link_previous(org, pair ->> 'user', pair ->> 'previous', (pair -> 'may_join')::boolean);
  end loop;
  return private.analytics_resolve(org, messages);
end
$$;
comment on function private.analytics_identify(uuid, private.analytics_message[], boolean) is 'Makes persons for ids that are new, and merges those that messages show to be the same. Returns the messages with their persons.';

create function private.analytics_lock_persons(org uuid) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select pg_advisory_xact_lock(hashtextextended('analytics_persons:' || org::text, 0))
$$;
comment on function private.analytics_lock_persons(uuid) is 'One transaction at a time merges persons of an organization, or changes their traits.';

create function private.analytics_set_traits(org uuid, messages private.analytics_message[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select 1 from unnest(messages) as m where m.type = 'identify' and m.properties <> '{}') then
    return;
  end if;
  perform private.analytics_lock_persons(org);
  -- One update of a person, whatever the number of messages: each writes all of the traits.
  update public.persons as p set traits = p.traits || f.traits
  from (
    select l.person_id, jsonb_object_agg(l.key, l.value) as traits
    from (
      select distinct on (i.person_id, t.key) i.person_id, t.key, t.value
      from unnest(messages) as m
      cross join lateral (
        select k.person_id from private.analytics_identities as k
        where k.organization = org and k.kind = case when m.user_id is null then 'anonymous' else 'user' end
          and k.external_id = coalesce(m.user_id, m.anonymous_id)
        limit 1
      ) as i
      cross join lateral jsonb_each(m.properties) as t (key, value)
      where m.type = 'identify'
      order by i.person_id, t.key, m.happened_at desc, m.place desc
    ) as l
    group by l.person_id
  ) as f
  where p.org_id = org and p.id = f.person_id and p.traits || f.traits <> p.traits and private.json_fits(p.traits || f.traits, 65536);
end
$$;
comment on function private.analytics_set_traits(uuid, private.analytics_message[]) is 'Keeps what identify messages say about persons. What a call says about one person is left out if the traits would have more than 64 KiB.';
