-- ============================================================================
-- Skills: search.
--
-- A condition on text or tags cannot use an index under row level security. So this is a definer function. It names one
-- organization and reads its skills only, so neither its time nor its plan depends on other organizations.
-- ============================================================================

create function public.search_skills(
  q text default null,
  tags text[] default null,
  project_id uuid default null,
  enabled boolean default null,
  n integer default 50,
  skip integer default 0
) returns setof public.skills
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  -- Each word must be found.
  words constant text[] := array(select distinct w from regexp_split_to_table(lower(coalesce(q, '')), '\s+') as w where w <> '');
begin
  perform private.tenancy_require_caller();
  org := public.org_id();
  if org is null or not public.can(org, 'skills:read') then
    perform kijko.fail('permission_denied', 'requires the permission skills:read');
  end if;
  if char_length(q) > 200 or cardinality(words) > 10 then
    perform kijko.fail('invalid_input', 'q: at most 200 characters and 10 words');
  end if;
  if cardinality(search_skills.tags) > 20 then
    perform kijko.fail('invalid_input', 'tags: at most 20');
  end if;
  if n is null or n not between 1 and 200 or skip is null or skip not between 0 and 100000 then
    perform kijko.fail('invalid_input', 'n: 1 to 200; skip: 0 to 100,000');
  end if;
  return query
  select s.*
  from public.skills as s
  cross join lateral (select lower(s.name) as name, lower(concat_ws(' ', s.name, s.description, array_to_string(s.tags, ' '))) as text) as t
  where s.org_id = org
    and (s.project_id = any (array(select private.projects_hidden_ids()))) is not true
    and (search_skills.project_id is null or s.project_id = search_skills.project_id)
    and (search_skills.enabled is null or s.enabled = search_skills.enabled)
    and (search_skills.tags is null or s.tags @> search_skills.tags)
    and not exists (select 1 from unnest(words) as w (word) where strpos(t.text, w.word) = 0)
  -- Those with all words in their names first.
  order by exists (select 1 from unnest(words) as w (word) where strpos(t.name, w.word) = 0), s.updated_at desc, s.id
  limit n offset skip;
end
$$;
comment on function public.search_skills(text, text[], uuid, boolean, integer, integer) is 'Skills of the organization of the request whose name, description or tags contain each word of q, in any case, and that have all of these tags; best first. Definer: it names the organization and checks the permission itself, so that the search reads that organization only.';
grant execute on function public.search_skills(text, text[], uuid, boolean, integer, integer) to authenticated;
