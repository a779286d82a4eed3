-- ============================================================================
-- Skills: export and import, in one documented JSON format (docs/reference/skills.schema.json).
--
-- A document holds what defines a skill and how members find it, not its history: no ids, versions or times. What is exported
-- from one organization and imported into an empty one exports as the same document.
-- ============================================================================

create function private.skills_as_item(skill public.skills) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'name', skill.name,
    'description', skill.description,
    'project', (select p.slug from public.projects as p where p.org_id = skill.org_id and p.id = skill.project_id),
    'prompt_template', skill.prompt_template,
    'prompt_path', skill.prompt_path,
    'prompt_label', skill.prompt_label,
    'input_schema', skill.input_schema,
    'model', skill.model,
    'parameters', skill.parameters,
    'tags', to_jsonb(skill.tags),
    'enabled', skill.enabled
  )
$$;
comment on function private.skills_as_item(public.skills) is 'A skill as documents have it. Its project is named by its slug.';

create function public.export_skills(ids uuid[] default null) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant uuid[] := case when export_skills.ids is not null then private.skills_require_ids(export_skills.ids) end;
  org uuid;
  items jsonb;
begin
  perform private.tenancy_require_caller();
  org := public.org_id();
  if org is null or not public.can(org, 'skills:read') then
    perform kijko.fail('permission_denied', 'requires the permission skills:read');
  end if;
  -- Before the document is made: it could be of many megabytes.
  if (
    select count(*) > 1000 or sum(octet_length(s.prompt_template) + octet_length(s.input_schema::text)) > 8388608
    from public.skills as s
    where s.org_id = org and (wanted is null or s.id = any (wanted))
      and (s.project_id = any (array(select private.projects_hidden_ids()))) is not true
  ) then
    perform kijko.fail('invalid_input', 'a document has at most 1,000 skills and 8 MiB', 'Export them in parts: name ids.');
  end if;
  select jsonb_agg(private.skills_as_item(s) order by s.created_at, s.id) into items
  from (
    select s.* from public.skills as s
    where s.org_id = org and (wanted is null or s.id = any (wanted))
      and (s.project_id = any (array(select private.projects_hidden_ids()))) is not true
  ) as s;
  items := coalesce(items, '[]');
  if wanted is not null and jsonb_array_length(items) < cardinality(wanted) then
    perform kijko.fail('not_found', 'some of the ids name no skill of the organization');
  end if;
  if not private.json_fits(items, 8388608) then
    perform kijko.fail('invalid_input', 'a document has at most 1,000 skills and 8 MiB', 'Export them in parts: name ids.');
  end if;
  return jsonb_build_object('format', 'kijko.skills', 'version', 1, 'skills', items);
end
$$;
comment on function public.export_skills(uuid[]) is 'A document with these skills, or with all that the caller sees in the organization of the request, oldest first. Definer: it checks the permission itself.';
grant execute on function public.export_skills(uuid[]) to authenticated;

create function private.skills_item_fault(item jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(item) is distinct from 'object' then 'not an object'
    else (
      select string_agg(f.fault, '; ' order by f.fault)
      from (
        select format('%s: unknown', substring(k.name for 60)) as fault
        from jsonb_object_keys(item) as k (name)
        where k.name <> all (array['name', 'description', 'project', 'prompt_template', 'prompt_path', 'prompt_label', 'input_schema', 'model', 'parameters', 'tags', 'enabled'])
        union all
        select format('%s: must be %s', w.name, w.type)
        from (
          values
            ('name', 'string', true), ('description', 'string', false), ('project', 'string', false), ('prompt_template', 'string', item -> 'prompt_path' is null),
            ('prompt_path', 'string', false), ('prompt_label', 'string', false),
            ('input_schema', 'object', false), ('model', 'string', false), ('parameters', 'object', false), ('tags', 'array', false),
            ('enabled', 'boolean', false)
        ) as w (name, type, required)
        where case
          when w.required then jsonb_typeof(item -> w.name) is distinct from w.type
          else coalesce(jsonb_typeof(item -> w.name), 'null') not in ('null', w.type)
        end
        union all
        select 'tags: must be strings'
        where jsonb_typeof(item -> 'tags') = 'array' and jsonb_path_exists(item -> 'tags', 'strict $[*] ? (@.type() != "string")')
      ) as f
    )
  end
$$;
comment on function private.skills_item_fault(jsonb) is 'What is wrong with the form of a skill in a document, or null. The table checks the values.';

create function private.skills_require_document(document jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(document) is distinct from 'object' or document ->> 'format' is distinct from 'kijko.skills' then
    perform kijko.fail('invalid_input', 'document: its format must be kijko.skills');
  end if;
  if document -> 'version' is distinct from '1' then
    perform kijko.fail('invalid_input', 'document: its version must be 1');
  end if;
  if jsonb_typeof(document -> 'skills') is distinct from 'array' then
    perform kijko.fail('invalid_input', 'document: its skills must be an array');
  end if;
  if jsonb_array_length(document -> 'skills') > 1000 or not private.json_fits(document, 8388608) then
    perform kijko.fail('invalid_input', 'a document has at most 1,000 skills and 8 MiB');
  end if;
  return document -> 'skills';
end
$$;
comment on function private.skills_require_document(jsonb) is 'The skills of a document; fails when it is none.';
