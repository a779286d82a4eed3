-- ============================================================================
-- Prompts: prompts as code.
--
-- A prompt has a path and versions that never change. Labels (production, staging) point to versions. Who runs a prompt names its
-- path and a label, so a label that moves changes what runs. A label that the organization protects moves by an approved change.
-- Templates are evaluated in the sidecar's sandbox only.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- prompts
-- ----------------------------------------------------------------------------

create table public.prompts (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  path text not null check (char_length(path) <= 200 and path ~ '^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$'),
  type text not null check (type in ('text', 'chat')),
  description text check (char_length(description) <= 2000),
  tags text[] not null default '{}' check (private.skills_is_tag_list(tags)),
  latest_version integer not null default 0 check (latest_version >= 0),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, path)
);
comment on table public.prompts is 'Prompts by path; their texts are in prompt_versions. Written by functions only.';
comment on column public.prompts.id is 'Identity of the prompt.';
comment on column public.prompts.org_id is 'Organization that owns it.';
comment on column public.prompts.path is 'Name with folders, such as support/summarise; never changes, because a label would else move with it.';
comment on column public.prompts.type is 'text: one template; chat: a list of messages. Never changes.';
comment on column public.prompts.description is 'Free text.';
comment on column public.prompts.tags is 'At most 20 words by which members group and find prompts.';
comment on column public.prompts.latest_version is 'Number of the newest version.';
comment on column public.prompts.created_by is 'User who made it; null after that user is deleted.';
comment on column public.prompts.created_by_key is 'API key that made it; null when a user did.';
comment on column public.prompts.created_at is 'When it was made.';
comment on column public.prompts.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.prompts', resource => 'prompts', writable => '{}', max_rows => 2000, catalogue => '{
  "path, description, tags": "what members find the prompt by",
  "type, latest_version": "says what its versions are"
}');

-- ----------------------------------------------------------------------------
-- prompt_versions
-- ----------------------------------------------------------------------------

create table public.prompt_versions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  prompt_id uuid not null,
  version integer not null check (version > 0),
  content jsonb not null check (jsonb_typeof(content) in ('string', 'array') and private.json_fits(content, 409600)),
  engine text not null default 'minijinja' check (engine in ('minijinja', 'plain')),
  input_schema jsonb not null default '{"type": "object"}'
    check (jsonb_typeof(input_schema) = 'object' and private.json_fits(input_schema, 65536)),
  model text check (char_length(model) between 1 and 200),
  parameters jsonb not null default '{}' check (jsonb_typeof(parameters) = 'object' and private.json_fits(parameters, 16384)),
  message text check (char_length(message) <= 2000),
  problems jsonb not null default '[]' check (jsonb_typeof(problems) = 'array' and private.json_fits(problems, 65536)),
  checked_at timestamptz,
  size_bytes integer not null
    generated always as (octet_length(content::text) + octet_length(input_schema::text) + octet_length(parameters::text)) stored,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, prompt_id, version),
  foreign key (org_id, prompt_id) references public.prompts (org_id, id) on delete cascade
);
comment on table public.prompt_versions is 'Versions of prompts, which never change; only what their check found is added. Written by functions only.';
comment on column public.prompt_versions.id is 'Identity of the version.';
comment on column public.prompt_versions.org_id is 'Organization of the prompt.';
comment on column public.prompt_versions.prompt_id is 'The prompt; its versions are deleted with it.';
comment on column public.prompt_versions.version is 'Number of the version: 1, and one more with each push that changes something.';
comment on column public.prompt_versions.content is 'The template of a text prompt, as a string; of a chat prompt a list of {role, content} and {type: placeholder, name}.';
comment on column public.prompt_versions.engine is 'minijinja: Jinja''s syntax; plain: {{variable}} is replaced and nothing else.';
comment on column public.prompt_versions.input_schema is 'JSON schema of the variables.';
comment on column public.prompt_versions.model is 'Model that a call uses unless it names another; null for none.';
comment on column public.prompt_versions.parameters is 'Parameters of the model that a call uses unless it names others.';
comment on column public.prompt_versions.message is 'What was changed, and why, as in a commit.';
comment on column public.prompt_versions.problems is 'What the check of template, schema and model found, as a list of {code, severity, message}.';
comment on column public.prompt_versions.checked_at is 'When it was checked; null until then.';
comment on column public.prompt_versions.size_bytes is 'Bytes of content, schema and parameters.';
comment on column public.prompt_versions.created_by is 'User who pushed it; null after that user is deleted.';
comment on column public.prompt_versions.created_by_key is 'API key that pushed it; null when a user did.';
comment on column public.prompt_versions.created_at is 'When it was pushed.';
comment on column public.prompt_versions.updated_at is 'When its check was recorded; set by trigger.';
select private.make_tenant_table('public.prompt_versions', resource => 'prompts', writable => '{}', max_rows => 20000, catalogue => '{
  "prompt_id, version, message": "names the version and says what changed",
  "content, engine, input_schema, model, parameters, size_bytes": "defines the prompt",
  "problems, checked_at": "tells members why the prompt cannot be rendered"
}');

-- ----------------------------------------------------------------------------
-- prompt_labels and their history
-- ----------------------------------------------------------------------------

create function private.prompts_is_label(label text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
-- latest is the newest version without anybody setting it.
return coalesce(char_length(label) <= 63 and label ~ '^[a-z0-9][a-z0-9._-]*$' and label <> 'latest', false);
comment on function private.prompts_is_label(text) is 'Whether this can be the label of a prompt.';

create table public.prompt_labels (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  prompt_id uuid not null,
  label text not null check (private.prompts_is_label(label)),
  version integer not null,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, prompt_id, label),
  foreign key (org_id, prompt_id, version) references public.prompt_versions (org_id, prompt_id, version) on delete cascade
);
comment on table public.prompt_labels is 'Labels of prompts: each points to one version. Written by functions only.';
comment on column public.prompt_labels.id is 'Identity of the row.';
comment on column public.prompt_labels.org_id is 'Organization of the prompt.';
comment on column public.prompt_labels.prompt_id is 'The prompt.';
comment on column public.prompt_labels.label is 'Its name: production, staging. The name latest is reserved for the newest version.';
comment on column public.prompt_labels.version is 'The version that it points to.';
comment on column public.prompt_labels.created_by is 'User who set it first; null after that user is deleted. prompt_label_changes says who moved it.';
comment on column public.prompt_labels.created_by_key is 'API key that set it first; null when a user did.';
comment on column public.prompt_labels.created_at is 'When it was set first.';
comment on column public.prompt_labels.updated_at is 'When it last moved; set by trigger.';
select private.make_tenant_table('public.prompt_labels', resource => 'prompts', writable => '{}', catalogue => '{
  "prompt_id, label, version": "says which version runs"
}');
create index prompt_labels_version_idx on public.prompt_labels (org_id, prompt_id, version);

create table public.prompt_label_changes (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  prompt_id uuid not null,
  label text not null check (char_length(label) <= 63),
  from_version integer,
  to_version integer,
  approval_id uuid,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  foreign key (org_id, prompt_id) references public.prompts (org_id, id) on delete cascade
);
create index prompt_label_changes_prompt_id_idx on public.prompt_label_changes (org_id, prompt_id, created_at desc, id desc);
comment on table public.prompt_label_changes is 'How labels of prompts moved; the newest 1,000 of a prompt. Written by functions only.';
comment on column public.prompt_label_changes.id is 'Identity of the row.';
comment on column public.prompt_label_changes.org_id is 'Organization of the prompt.';
comment on column public.prompt_label_changes.prompt_id is 'The prompt.';
comment on column public.prompt_label_changes.label is 'The label.';
comment on column public.prompt_label_changes.from_version is 'Version that it pointed to; null for a new label.';
comment on column public.prompt_label_changes.to_version is 'Version that it points to since; null when it was removed.';
comment on column public.prompt_label_changes.approval_id is 'The request that was approved, if the label is protected. No foreign key: the history outlives it.';
comment on column public.prompt_label_changes.created_by is 'User who moved it, or who approved that; null after that user is deleted.';
comment on column public.prompt_label_changes.created_by_key is 'API key that moved it; null when a user did.';
comment on column public.prompt_label_changes.created_at is 'When it moved.';
comment on column public.prompt_label_changes.updated_at is 'The same: a change never changes.';
select private.make_tenant_table('public.prompt_label_changes', resource => 'prompts', writable => '{}', catalogue => '{
  "prompt_id, label, from_version, to_version, approval_id": "says which version ran when"
}');

-- ----------------------------------------------------------------------------
-- Settings
-- ----------------------------------------------------------------------------

create table public.prompt_settings (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null unique default public.org_id() references public.organizations (id) on delete cascade,
  protected_labels text[] not null default '{}' check (
    cardinality(protected_labels) <= 20 and coalesce(array_ndims(protected_labels), 1) = 1 and array_position(protected_labels, null) is null
    and octet_length(array_to_string(protected_labels, ',')) <= 1300
  ),
  approval_days integer not null default 7 check (approval_days between 1 and 90),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.prompt_settings is 'What an organization has decided about its prompts; without a row no label is protected. Written by set_prompt_settings().';
comment on column public.prompt_settings.id is 'Identity of the row.';
comment on column public.prompt_settings.org_id is 'Organization; it has one row at most.';
comment on column public.prompt_settings.protected_labels is 'Labels that only an approved change moves.';
comment on column public.prompt_settings.approval_days is 'Days until a request for an approval expires.';
comment on column public.prompt_settings.created_by is 'User who created it; null after that user is deleted.';
comment on column public.prompt_settings.created_by_key is 'API key that created it; null for a user.';
comment on column public.prompt_settings.created_at is 'When it was created.';
comment on column public.prompt_settings.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.prompt_settings', resource => 'prompts', writable => '{}', catalogue => '{
  "protected_labels, approval_days": "says which labels need a second person"
}');

create function public.set_prompt_settings(require_approval boolean default null, protected_labels text[] default null, approval_days integer default null)
returns public.prompt_settings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  settings public.prompt_settings;
  -- Approval of what? Of production, unless the call says more.
  labels constant text[] := coalesce(
    set_prompt_settings.protected_labels, case set_prompt_settings.require_approval when true then '{production}' when false then '{}' end::text[]
  );
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('prompts:approve');
  -- A key that cannot approve must not be able to switch approvals off either.
  if private.tenancy_person_id() is null then
    perform kijko.fail('permission_denied', 'a member changes this in person, not by an API key');
  elsif set_prompt_settings.require_approval is false and cardinality(set_prompt_settings.protected_labels) > 0
    or set_prompt_settings.require_approval and cardinality(set_prompt_settings.protected_labels) = 0
  then
    perform kijko.fail('invalid_input', 'require_approval and protected_labels contradict each other');
  elsif exists (select 1 from unnest(labels) as l (label) where private.prompts_is_label(l.label) is not true)
    or cardinality(labels) > 20
  then
    perform kijko.fail('invalid_input', 'protected_labels: at most 20 labels');
  elsif (set_prompt_settings.approval_days between 1 and 90) is false then
    perform kijko.fail('invalid_input', 'approval_days: 1 to 90');
  end if;
  insert into public.prompt_settings as s (org_id, protected_labels, approval_days)
  values (org, coalesce(labels, '{}'), coalesce(set_prompt_settings.approval_days, 7))
  on conflict (org_id) do update set
    protected_labels = coalesce(labels, s.protected_labels),
    approval_days = coalesce(set_prompt_settings.approval_days, s.approval_days)
  returning s.* into settings;
  return settings;
end
$$;
comment on function public.set_prompt_settings(boolean, text[], integer) is 'Changes which labels of prompts need an approval: require_approval protects production, or nothing; protected_labels names the labels. Null leaves a setting as it is. Requires prompts:approve, of a signed-in member. Definer: users do not write the table.';
grant execute on function public.set_prompt_settings(boolean, text[], integer) to authenticated;

select private.audit_table('public.prompts', 'prompt', '{path,type,description,tags}');
select private.audit_table('public.prompt_versions', 'prompt_version', '{prompt_id,version,model,message}', events => 'insert');
select private.audit_table('public.prompt_labels', 'prompt_label', '{prompt_id,label,version}');
select private.audit_table('public.prompt_settings', 'prompt_settings', '{protected_labels,approval_days}');
