-- ============================================================================
-- Skills: versions. Each save that changes the task is one.
--
-- The task is the template or the prompt that it names, input_schema, model and parameters. Its versions are rows that never change. The newest ones
-- are kept: at most 100 of a skill, and at most 4 MiB of them. The current version is always kept.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- skill_versions
-- ----------------------------------------------------------------------------

create table public.skill_versions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  skill_id uuid not null,
  version integer not null check (version > 0),
  prompt_template text not null check (char_length(prompt_template) <= 100000),
  prompt_path text check (char_length(prompt_path) <= 200),
  prompt_label text check (char_length(prompt_label) <= 63),
  input_schema jsonb not null check (private.json_fits(input_schema, 65536)),
  model text not null check (char_length(model) <= 200),
  parameters jsonb not null check (private.json_fits(parameters, 16384)),
  size_bytes integer not null
    generated always as (octet_length(prompt_template) + octet_length(input_schema::text) + octet_length(parameters::text)) stored,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, skill_id, version),
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete cascade
);

comment on table public.skill_versions is 'The task of a skill as each save left it. Written by the database only; the newest ones of a skill are kept.';
comment on column public.skill_versions.id is 'Identity of the row.';
comment on column public.skill_versions.org_id is 'Organization of the skill.';
comment on column public.skill_versions.skill_id is 'The skill; its versions are deleted with it.';
comment on column public.skill_versions.version is 'Number of the version; executions name it as skill_version.';
comment on column public.skill_versions.prompt_template is 'Template of the prompt; empty with prompt_path.';
comment on column public.skill_versions.prompt_path is 'Path of the prompt that it named; null for a template of its own.';
comment on column public.skill_versions.prompt_label is 'Label of that prompt; null for production.';
comment on column public.skill_versions.input_schema is 'JSON schema of the input.';
comment on column public.skill_versions.model is 'provider/model, or a well-known name.';
comment on column public.skill_versions.parameters is 'Parameters of the model.';
comment on column public.skill_versions.size_bytes is 'Bytes of the template, the schema and the parameters.';
comment on column public.skill_versions.created_by is 'User who saved it; null after that user is deleted.';
comment on column public.skill_versions.created_by_key is 'API key that saved it; null when a user did.';
comment on column public.skill_versions.created_at is 'When it was saved.';
comment on column public.skill_versions.updated_at is 'The same: a version never changes.';

select private.make_tenant_table(
  'public.skill_versions', resource => 'skills', writable => '{}', catalogue => '{
    "skill_id, version": "names the version",
    "prompt_template, prompt_path, prompt_label, input_schema, model, parameters, size_bytes": "defines the task as it was"
  }'
);

create function private.skills_set_version() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.version := 1;
    new.checked_at := null;
    new.problems := private.skills_model_problems(new.model, new.parameters);
  -- As text: 1.0 and 1 are equal as JSON, and not the same to a template or a vendor.
  elsif (new.prompt_template, new.prompt_path, new.prompt_label, new.input_schema::text, new.model, new.parameters::text)
    is distinct from (old.prompt_template, old.prompt_path, old.prompt_label, old.input_schema::text, old.model, old.parameters::text)
  then
    new.version := old.version + 1;
    new.checked_at := null;
    new.problems := private.skills_model_problems(new.model, new.parameters);
  else
    new.version := old.version;
  end if;
  return new;
end
$$;
comment on function private.skills_set_version() is 'Trigger: numbers the versions of a skill. A new version is not checked yet; only the problems of its model are known. Runs as the role that writes.';

create function private.skills_keep_version() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.skill_versions (org_id, skill_id, version, prompt_template, prompt_path, prompt_label, input_schema, model, parameters)
  values (new.org_id, new.id, new.version, new.prompt_template, new.prompt_path, new.prompt_label, new.input_schema, new.model, new.parameters);
  if tg_op = 'INSERT' then
    return null;
  end if;
  delete from public.skill_versions as v
  where v.org_id = new.org_id and v.skill_id = new.id and v.version <> new.version and v.version in (
    select kept.version
    from (
      select k.version, row_number() over newest as place, sum(k.size_bytes) over newest as bytes
      from public.skill_versions as k
      where k.org_id = new.org_id and k.skill_id = new.id
      window newest as (order by k.version desc)
    ) as kept
    where kept.place > 100 or kept.bytes > 4194304
  );
  return null;
end
$$;
comment on function private.skills_keep_version() is 'Trigger: stores the new version of a skill, and deletes the oldest ones beyond 100 or 4 MiB. Definer: users do not write versions.';
