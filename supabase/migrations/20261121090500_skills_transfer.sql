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
  if octet_length(items::text) > 8388608 then
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
        where k.name <> all (array['name', 'description', 'project', 'prompt_template', 'input_schema', 'model', 'parameters', 'tags', 'enabled'])
        union all
        select format('%s: must be %s', w.name, w.type)
        from (
          values
            ('name', 'string', true), ('description', 'string', false), ('project', 'string', false), ('prompt_template', 'string', true),
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
language plpgsql immutable set search_path = pg_catalog, pg_temp
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
  if jsonb_array_length(document -> 'skills') > 1000 or octet_length(document::text) > 8388608 then
    perform kijko.fail('invalid_input', 'a document has at most 1,000 skills and 8 MiB');
  end if;
  return document -> 'skills';
end
$$;
comment on function private.skills_require_document(jsonb) is 'The skills of a document; fails when it is none.';

create function private.skills_free_name(org uuid, project uuid, name text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  candidate text := name;
  n integer := 1;
begin
  while exists (
    select 1 from public.skills as s where s.org_id = org and s.project_id is not distinct from project and s.name = candidate
  ) loop
    n := n + 1;
    candidate := left(name, 90) || format(' (%s)', n);
  end loop;
  return candidate;
end
$$;
comment on function private.skills_free_name(uuid, uuid, text) is 'The name, with a number if a skill of the project has it.';

create function private.skills_write_item(org uuid, project uuid, item jsonb, target uuid, new_name text, place integer) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  wanted public.skills;
begin
  wanted := jsonb_populate_record(wanted, jsonb_strip_nulls(item - '{project,input_schema,parameters}'::text[]));
  -- Nulls inside these two are values.
  wanted.input_schema := coalesce(nullif(item -> 'input_schema', 'null'), '{"type": "object"}');
  wanted.parameters := coalesce(nullif(item -> 'parameters', 'null'), '{}');
  wanted.model := coalesce(wanted.model, 'echo/echo');
  wanted.tags := coalesce(wanted.tags, '{}');
  wanted.enabled := coalesce(wanted.enabled, true);
  if target is null then
    insert into public.skills as s (
      org_id, project_id, name, description, prompt_template, input_schema, model, parameters, tags, enabled, created_at
    )
    values (
      org, project, new_name, wanted.description, wanted.prompt_template, wanted.input_schema, wanted.model, wanted.parameters,
      -- The next export has the order of this document.
      wanted.tags, wanted.enabled, kijko.now() + make_interval(secs => place / 1000000.0)
    )
    returning s.id into target;
  else
    update public.skills as s
    set description = wanted.description, prompt_template = wanted.prompt_template, input_schema = wanted.input_schema,
      model = wanted.model, parameters = wanted.parameters, tags = wanted.tags, enabled = wanted.enabled
    where s.id = target;
  end if;
  return target;
end
$$;
comment on function private.skills_write_item(uuid, uuid, jsonb, uuid, text, integer) is 'Inserts a skill of a document, or makes an existing one like it, and returns its id.';

create function public.import_skills(document jsonb, on_conflict text default 'fail')
returns table (place integer, name text, status text, skill_id uuid, code text, message text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  items constant jsonb := private.skills_require_document(document);
  org uuid;
  project uuid;
  item jsonb;
  same uuid[];
  -- Skills of this document: two of one name in it do not conflict with each other.
  used uuid[] := array[]::uuid[];
begin
  perform private.tenancy_require_caller();
  org := public.org_id();
  if org is null or not public.can(org, 'skills:write') then
    perform kijko.fail('permission_denied', 'requires the permission skills:write');
  end if;
  if import_skills.on_conflict is null or import_skills.on_conflict not in ('fail', 'skip', 'rename', 'replace') then
    perform kijko.fail('invalid_input', 'on_conflict: fail, skip, rename or replace');
  end if;
  -- Imports of one organization take turns, so that two of the same document do not both create its skills.
  perform pg_advisory_xact_lock(hashtextextended('kijko-skills-import:' || org, 20261121));
  for place, item in select (e.n - 1)::integer, e.item from jsonb_array_elements(items) with ordinality as e (item, n) loop
    name := left(item ->> 'name', 100);
    skill_id := null;
    project := null;
    status := 'failed';
    code := 'invalid_input';
    message := private.skills_item_fault(item);
    if message is null and item ->> 'project' is not null then
      select p.id into project from public.projects as p
      where p.org_id = org and p.slug = item ->> 'project' and private.projects_is_visible(p.id);
      if project is null then
        code := 'not_found';
        message := format('no project has the slug %s', left(item ->> 'project', 63));
      elsif private.projects_write_refusal(project) is not null then
        code := private.projects_write_refusal(project);
        message := format('nothing can be written into the project %s', left(item ->> 'project', 63));
      end if;
    end if;
    if message is null then
      select coalesce(array_agg(s.id order by s.created_at, s.id), '{}') into same from public.skills as s
      where s.org_id = org and s.project_id is not distinct from project and s.name = item ->> 'name' and s.id <> all (used);
      begin
        if same = '{}' then
          skill_id := private.skills_write_item(org, project, item, null, item ->> 'name', place);
          status := 'created';
        elsif import_skills.on_conflict = 'skip' then
          skill_id := same[1];
          status := 'skipped';
        elsif import_skills.on_conflict = 'rename' then
          name := private.skills_free_name(org, project, item ->> 'name');
          skill_id := private.skills_write_item(org, project, item, null, name, place);
          status := 'renamed';
        elsif import_skills.on_conflict = 'replace' and cardinality(same) = 1 then
          skill_id := private.skills_write_item(org, project, item, same[1], null, place);
          status := 'replaced';
        else
          code := 'conflict';
          message := format('%s skills have this name', cardinality(same));
        end if;
        used := used || skill_id;
      exception when check_violation or not_null_violation or data_exception then
        message := sqlerrm;
      end;
    end if;
    if message is null then
      code := null;
    elsif import_skills.on_conflict = 'fail' then
      if code = 'conflict' then
        perform kijko.fail('conflict', format('skills[%s] %s: %s', place, name, message), 'Nothing was imported. on_conflict says what to do.');
      elsif code in ('project_archived', 'permission_denied') then
        perform private.projects_require_open(project);
      elsif code = 'not_found' then
        perform kijko.fail('not_found', format('skills[%s] %s: %s', place, name, message), 'Nothing was imported.');
      end if;
      perform kijko.fail('invalid_input', format('skills[%s] %s: %s', place, name, message), 'Nothing was imported.');
    end if;
    return next;
  end loop;
end
$$;
comment on function public.import_skills(jsonb, text) is 'Imports a document of export_skills() into the organization of the request. A skill conflicts with those that have its name in its project. on_conflict: fail imports nothing if any skill conflicts or is wrong; skip, rename and replace decide item by item and report what is wrong. One row for each skill: its status is created, skipped, renamed, replaced or failed. Nullable: name, skill_id, code, message. Definer: it checks the permission itself.';
grant execute on function public.import_skills(jsonb, text) to authenticated;
