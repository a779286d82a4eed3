-- ============================================================================
-- Skills: prompted AI tasks.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- skills
-- ----------------------------------------------------------------------------

create function private.skills_is_token_limit(value jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return case jsonb_typeof(value)
  when 'number' then (value #>> '{}')::numeric between 1 and 10000000 and scale(trim_scale((value #>> '{}')::numeric)) = 0
  else coalesce(jsonb_typeof(value) = 'null', true)
end;
comment on function private.skills_is_token_limit(jsonb) is 'Whether a parameter that bounds tokens is a whole number from 1 to 10,000,000, or not given.';
-- A check is evaluated as the role that writes the row.
grant execute on function private.skills_is_token_limit(jsonb) to authenticated, service_role;

create function private.skills_is_tag_list(tags text[]) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_ndims(tags), 1) = 1 and cardinality(tags) <= 20
    -- An unknown member makes it null, and a null check would pass.
    and coalesce((
      select bool_and(char_length(t.tag) between 1 and 50 and t.tag ~ '^[a-z0-9]([a-z0-9 ._:/-]*[a-z0-9])?$') from unnest(tags) as t (tag)
    ), cardinality(tags) = 0)
    and array_position(tags, null) is null
    and cardinality(tags) = (select count(distinct t.tag) from unnest(tags) as t (tag))
$$;
comment on function private.skills_is_tag_list(text[]) is 'Whether these are at most 20 different tags of 1 to 50 small letters, digits, blanks and . _ : / -, each with a letter or digit at both ends.';
grant execute on function private.skills_is_tag_list(text[]) to authenticated, service_role;

create table public.skills (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  description text check (char_length(description) <= 10000),
  prompt_template text not null default '' check (char_length(prompt_template) <= 100000),
  prompt_path text check (char_length(prompt_path) between 1 and 200),
  prompt_label text check (char_length(prompt_label) <= 63 and prompt_label ~ '^[a-z0-9][a-z0-9._-]*$'),
  input_schema jsonb not null default '{"type": "object"}'
    check (jsonb_typeof(input_schema) = 'object' and private.json_fits(input_schema, 65536)),
  model text not null default 'echo/echo'
    check (
      char_length(model) <= 200
      and model ~ '^([a-z0-9][a-z0-9_.-]*/[A-Za-z0-9]|(gpt-|chatgpt-|o[0-9]|claude-|gemini-))[A-Za-z0-9_.:/@-]*$'
    ),
  parameters jsonb not null default '{}'
    check (jsonb_typeof(parameters) = 'object' and private.json_fits(parameters, 16384))
    -- The cost of the answer is reserved before the call, so its length must be a number, or absent for the default.
    check (private.skills_is_token_limit(parameters -> 'max_tokens') and private.skills_is_token_limit(parameters -> 'max_completion_tokens')),
  tags text[] not null default '{}' check (private.skills_is_tag_list(tags)),
  enabled boolean not null default true,
  version integer not null default 1 check (version > 0),
  problems jsonb not null default '[]' check (jsonb_typeof(problems) = 'array' and private.json_fits(problems, 65536)),
  checked_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  constraint skills_prompt_check check (
    case when prompt_path is null then prompt_label is null and private.has_visible_text(prompt_template) else prompt_template = '' end
  )
);
create index skills_project_id_idx on public.skills (org_id, project_id);
create index skills_prompt_path_idx on public.skills (org_id, prompt_path) where prompt_path is not null;

comment on table public.skills is 'Prompted AI tasks, run by execute_skill() or by habits.';
comment on column public.skills.id is 'Identity of the skill.';
comment on column public.skills.org_id is 'Organization that owns it and pays for its executions; never changes.';
comment on column public.skills.project_id is 'Project it belongs to and is deleted with; null for the whole organization.';
comment on column public.skills.name is 'Shown to members.';
comment on column public.skills.description is 'Free text.';
comment on column public.skills.prompt_template is 'Template of the prompt; the worker renders it with the input. Empty if prompt_path names a prompt instead.';
comment on column public.skills.prompt_path is 'Path of a text prompt whose content is the template; null for a template of its own. Model, parameters and schema are the skill''s all the same.';
comment on column public.skills.prompt_label is 'Label of that prompt, whose version runs; null for production.';
comment on column public.skills.input_schema is 'JSON schema of the input. The database checks that an input is an object; the worker checks the rest before it calls a model.';
comment on column public.skills.model is 'provider/model; a well-known name such as gpt-4o, claude-sonnet-4-5 or gemini-2.5-pro may go without its provider.';
comment on column public.skills.parameters is 'Passed to the model: temperature, max_tokens and the like.';
comment on column public.skills.tags is 'At most 20 words by which members group and find skills.';
comment on column public.skills.version is 'Number of the current version: 1, and one more with each save that changes the template, the prompt, input_schema, model or parameters.';
comment on column public.skills.problems is 'What is wrong with the current version, as a list of {code, severity, message}; an error stops the skill, a warning does not. Empty when nothing is known. Set by the database: model problems at once, those of the template and the schema by the check of the version.';
comment on column public.skills.checked_at is 'When the template and the schema of the current version were checked; null until then.';
comment on column public.skills.enabled is 'A disabled skill refuses new executions; queued ones still run.';
comment on column public.skills.created_by is 'User who made it; null after that user is deleted.';
comment on column public.skills.created_by_key is 'API key that made it; null when a user did.';
comment on column public.skills.created_at is 'When it was made.';
comment on column public.skills.updated_at is 'Last change; set by trigger.';

create function private.skills_hidden_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select s.id
  from public.projects as p
  join public.skills as s on s.org_id = p.org_id and s.project_id = p.id
  where p.id = any (array(select private.projects_hidden_ids()));
end
$$;
comment on function private.skills_hidden_ids() is 'Skills of the projects that the caller does not see; usually none. For policies of tables that point at skills. Definer: policies of skills hide these rows.';
grant execute on function private.skills_hidden_ids() to authenticated, service_role;

create function private.skills_is_visible(skill_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select 1
    from public.skills as s
    where s.id = skills_is_visible.skill_id
      and s.org_id = any (array(select public.org_ids()))
      and (s.project_id is null or private.projects_is_visible(s.project_id))
  );
end
$$;
comment on function private.skills_is_visible(uuid) is 'Whether a skill exists, in an organization of the caller, and no project hides it from the caller; false for null. Volatile as projects_is_visible(). Definer: reads skills for policies and definer functions.';
grant execute on function private.skills_is_visible(uuid) to authenticated, service_role;

create function private.skills_unwritable_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select s.id
  from public.projects as p
  join public.skills as s on s.org_id = p.org_id and s.project_id = p.id
  where p.id = any (array(select private.projects_unwritable_ids()));
end
$$;
comment on function private.skills_unwritable_ids() is 'Skills of the projects in which the caller changes nothing; usually none. For policies of tables that point at skills. Definer: as skills_hidden_ids().';
grant execute on function private.skills_unwritable_ids() to authenticated, service_role;

create function private.skills_is_writable(skill_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.skills_is_visible(skills_is_writable.skill_id)
    and skills_is_writable.skill_id <> all (array(select private.skills_unwritable_ids()));
end
$$;
comment on function private.skills_is_writable(uuid) is 'Whether the caller sees a skill and is more than a viewer of its project; false for null. Definer: as skills_is_visible().';
grant execute on function private.skills_is_writable(uuid) to authenticated, service_role;

create function private.skills_guard_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' and old.skill_id is not null then
    perform private.projects_require_open((select s.project_id from public.skills as s where s.id = old.skill_id));
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  if new.skill_id is not null and (tg_op = 'INSERT' or new.skill_id is distinct from old.skill_id) then
    perform private.projects_require_open((select s.project_id from public.skills as s where s.id = new.skill_id));
  end if;
  return new;
end
$$;
comment on function private.skills_guard_row() is 'Trigger of tables with a skill_id: as projects_guard_row(), by the project of the skill. Definer: locks the project.';

select private.make_tenant_table(
  'public.skills', resource => 'skills', gauge => 'skills',
  writable => array['project_id', 'name', 'description', 'prompt_template', 'prompt_path', 'prompt_label', 'input_schema', 'model', 'parameters', 'tags', 'enabled'],
  catalogue => '{
    "project_id": "project that the skill belongs to",
    "name, description, tags": "what members find the skill by",
    "prompt_template, prompt_path, prompt_label, input_schema, model, parameters": "defines the task",
    "version": "numbers the states of the task",
    "problems, checked_at": "tells members why the skill cannot run",
    "enabled": "switches the skill off"
  }'
);
-- A check and a change of prices are no changes of the skill.
drop trigger skills_touch on public.skills;
create trigger skills_touch
  before update of id, org_id, project_id, name, description, prompt_template, prompt_path, prompt_label, input_schema, model, parameters, tags, enabled on public.skills
  for each row execute function private.touch_updated_at();
