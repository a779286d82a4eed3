-- ============================================================================
-- Analytics: an organization erases one of its own users.
-- ============================================================================

create type private.analytics_subject as (person_id uuid, person_ids uuid[], user_ids text[], anonymous_ids text[]);
comment on type private.analytics_subject is 'A person with the persons that were merged into it, and all of its ids. person_id is null for ids that mean nobody.';

create function private.analytics_find_subject(org uuid, person_id uuid, user_id text, anonymous_id text) returns private.analytics_subject
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  subject private.analytics_subject;
begin
  subject.person_id := coalesce(
    (select m.into_person_id from private.analytics_merges as m where m.organization = org and m.person_id = analytics_find_subject.person_id),
    analytics_find_subject.person_id,
    (
      select i.person_id from private.analytics_identities as i
      where i.organization = org and i.kind = case when analytics_find_subject.user_id is null then 'anonymous' else 'user' end
        and i.external_id = coalesce(analytics_find_subject.user_id, analytics_find_subject.anonymous_id)
    )
  );
  subject.person_ids := array(select m.person_id from private.analytics_merges as m where m.organization = org and m.into_person_id = subject.person_id)
    || subject.person_id;
  subject.user_ids := array(
    select i.external_id from private.analytics_identities as i where i.organization = org and i.person_id = subject.person_id and i.kind = 'user'
    union select analytics_find_subject.user_id where analytics_find_subject.user_id is not null
  );
  subject.anonymous_ids := array(
    select i.external_id from private.analytics_identities as i where i.organization = org and i.person_id = subject.person_id and i.kind = 'anonymous'
    union select analytics_find_subject.anonymous_id where analytics_find_subject.anonymous_id is not null
  );
  return subject;
end
$$;
comment on function private.analytics_find_subject(uuid, uuid, text, text) is 'The person that an id means, with all that is known of whom it is.';

-- Not more at once than a statement has time for. Events of one call have one time, so a few more may go.
create function private.analytics_delete_events(org uuid, person_ids uuid[], max_events integer) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  until timestamptz;
  deleted bigint;
begin
  select max(o.created_at) into until
  from (
    select e.created_at from public.events as e where e.org_id = org and e.person_id = any (analytics_delete_events.person_ids)
    order by e.created_at limit max_events
  ) as o;
  with gone as (
    delete from public.events as e
    where e.org_id = org and e.person_id = any (analytics_delete_events.person_ids) and e.created_at <= until
    returning e.name, e."timestamp"
  ), changed as (
    insert into private.analytics_changes (organization, name, hour)
    select distinct org, g.name, date_trunc('hour', g."timestamp", 'UTC') from gone as g
  )
  select count(*) into deleted from gone;
  return deleted;
end
$$;
comment on function private.analytics_delete_events(uuid, uuid[], integer) is 'Deletes events of persons, the oldest first, and has their hours summed up anew; returns how many.';

create function private.analytics_delete_quarantined(org uuid, subject private.analytics_subject) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  deleted bigint;
begin
  delete from public.quarantined_events as q
  where q.org_id = org and (
    q.message ->> 'userId' = any (subject.user_ids) or q.message ->> 'anonymousId' = any (subject.anonymous_ids)
    or q.message ->> 'previousId' = any (subject.user_ids || subject.anonymous_ids)
  );
  get diagnostics deleted = row_count;
  return deleted;
end
$$;
comment on function private.analytics_delete_quarantined(uuid, private.analytics_subject) is 'Deletes quarantined messages that name a person; returns how many.';

create function private.analytics_delete_person(org uuid, subject private.analytics_subject, max_events integer default 20000) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  events constant bigint := private.analytics_delete_events(org, subject.person_ids, max_events);
  complete constant boolean := not exists (select from public.events as e where e.org_id = org and e.person_id = any (subject.person_ids));
  persons bigint := 0;
  quarantined bigint;
  answer jsonb;
begin
  if complete then
    -- Last, because a call that goes on finds the person by their ids.
    delete from public.persons as p where p.org_id = org and p.id = any (subject.person_ids);
    get diagnostics persons = row_count;
    delete from private.analytics_identities as i where i.organization = org and i.person_id = any (subject.person_ids);
    delete from private.analytics_merges as m where m.organization = org and m.into_person_id = subject.person_id;
  end if;
  quarantined := private.analytics_delete_quarantined(org, subject);
  answer := jsonb_build_object('persons', persons, 'events', events, 'quarantined', quarantined);
  if events > 0 or persons > 0 then
    delete from private.analytics_answers as a where a.organization = org;
    -- Answers that others are making at the moment are of before.
    insert into private.analytics_revisions as r (organization) values (org) on conflict (organization) do update set revision = r.revision + 1;
  end if;
  if events > 0 or persons > 0 or quarantined > 0 then
    perform private.audit_record(org, 'analytics.person_deleted', 'person', subject.person_id::text, after => answer);
  end if;
  return answer || jsonb_build_object('complete', complete);
end
$$;
comment on function private.analytics_delete_person(uuid, private.analytics_subject, integer) is 'Deletes what an organization''s events say about a person. The caller has checked the permission and holds the lock.';

create function public.delete_analytics_person(user_id text default null, anonymous_id text default null, person_id uuid default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('analytics:write');
begin
  if num_nonnulls(delete_analytics_person.user_id, delete_analytics_person.anonymous_id, delete_analytics_person.person_id) <> 1 then
    perform kijko.fail('invalid_input', 'user_id, anonymous_id or person_id: one of them');
  end if;
  perform private.analytics_lock_erasure(org, is_shared => false);
  return private.analytics_delete_person(
    org, private.analytics_find_subject(org, delete_analytics_person.person_id, delete_analytics_person.user_id, delete_analytics_person.anonymous_id)
  );
end
$$;
comment on function public.delete_analytics_person(text, text, uuid) is 'Erases one of the users of the organization''s own product: the person that the id means, with all ids, traits, events and quarantined messages of theirs. Returns {persons, events, quarantined, complete}: a call deletes about 20,000 events, and complete is false if there are more; then call it again. A call about nobody deletes nothing. Sums by hour follow within about a minute. Requires analytics:write. Recorded in the audit log as analytics.person_deleted. Definer: nobody but the domain deletes events.';
grant execute on function public.delete_analytics_person(text, text, uuid) to authenticated;
