-- ============================================================================
-- Skills: prompted AI tasks, and the catalogue of models that run them.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- llm_models: prices
-- ----------------------------------------------------------------------------

create table public.llm_models (
  id text primary key check (char_length(id) <= 200 and id ~ '^[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9*][A-Za-z0-9_.:/@*-]*$'),
  provider text not null generated always as (split_part(id, '/', 1)) stored,
  input_microusd_per_mtok bigint not null check (input_microusd_per_mtok >= 0),
  output_microusd_per_mtok bigint not null check (output_microusd_per_mtok >= 0),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.llm_models is 'Prices by model; the same for every tenant. A model without a row may run; its cost is 0 and its job says unpriced_model.';
comment on column public.llm_models.id is 'provider/model as skills name it, or provider/* for every model of a provider that has no row of its own.';
comment on column public.llm_models.provider is 'The part before the slash.';
comment on column public.llm_models.input_microusd_per_mtok is 'Price of a million input tokens in millionths of a US dollar.';
comment on column public.llm_models.output_microusd_per_mtok is 'Price of a million output tokens in millionths of a US dollar.';
comment on column public.llm_models.created_at is 'When the price was added.';
comment on column public.llm_models.updated_at is 'Last change; set by trigger.';

alter table public.llm_models enable row level security;
revoke all on public.llm_models from public, anon, authenticated, service_role;
grant select on public.llm_models to authenticated;
grant select, insert, update, delete on public.llm_models to service_role;
create policy llm_models_select on public.llm_models for select to authenticated using (true);
create trigger llm_models_touch before update on public.llm_models
  for each row execute function private.touch_updated_at();

-- The echo provider is for development; it has a price so that accounting can be seen without a vendor.
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values
  ('echo/*', 150000, 600000);

-- ----------------------------------------------------------------------------
-- skills
-- ----------------------------------------------------------------------------

create table public.skills (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  name text not null check (char_length(name) <= 100 and name ~ '\S'),
  description text check (char_length(description) <= 10000),
  prompt_template text not null check (char_length(prompt_template) <= 100000 and prompt_template ~ '\S'),
  input_schema jsonb not null default '{"type": "object"}'
    check (jsonb_typeof(input_schema) = 'object' and octet_length(input_schema::text) <= 65536),
  model text not null default 'echo/echo'
    check (char_length(model) <= 200 and model ~ '^[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.:/@-]*$'),
  parameters jsonb not null default '{}'
    check (jsonb_typeof(parameters) = 'object' and octet_length(parameters::text) <= 16384),
  enabled boolean not null default true,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade
);
create index skills_project_id_idx on public.skills (org_id, project_id);
create index skills_created_by_idx on public.skills (created_by);

comment on table public.skills is 'Prompted AI tasks, run by execute_skill() or by habits.';
comment on column public.skills.id is 'Identity of the skill.';
comment on column public.skills.org_id is 'Organization that owns it and pays for its executions; never changes.';
comment on column public.skills.project_id is 'Project it belongs to, and goes with; null for the whole organization.';
comment on column public.skills.name is 'Shown to members.';
comment on column public.skills.description is 'Free text.';
comment on column public.skills.prompt_template is 'Template of the prompt; the worker renders it with the input.';
comment on column public.skills.input_schema is 'JSON schema of the input. The database checks that an input is an object; the worker checks the rest before it calls a model.';
comment on column public.skills.model is 'provider/model.';
comment on column public.skills.parameters is 'Passed to the model: temperature, max_tokens and the like.';
comment on column public.skills.enabled is 'A disabled skill refuses new executions; queued ones still run.';
comment on column public.skills.created_by is 'User who made it; null once that user is gone.';
comment on column public.skills.created_at is 'When it was made.';
comment on column public.skills.updated_at is 'Last change; set by trigger.';

alter table public.skills enable row level security;
revoke all on public.skills from public, anon, authenticated, service_role;
grant select, delete,
  insert (id, org_id, project_id, name, description, prompt_template, input_schema, model, parameters, enabled),
  update (project_id, name, description, prompt_template, input_schema, model, parameters, enabled)
on public.skills to authenticated;
grant select, insert, update, delete on public.skills to service_role;

create policy skills_select on public.skills for select to authenticated
  using (org_id = any (array(select public.org_ids())));
create policy skills_insert on public.skills for insert to authenticated
  with check (org_id = any (array(select private.org_ids_with('skills:write'))));
create policy skills_update on public.skills for update to authenticated
  using (org_id = any (array(select private.org_ids_with('skills:write'))))
  with check (org_id = any (array(select private.org_ids_with('skills:write'))));
create policy skills_delete on public.skills for delete to authenticated
  using (org_id = any (array(select private.org_ids_with('skills:write'))));

create trigger skills_touch before update on public.skills
  for each row execute function private.touch_updated_at();
create trigger skills_identity before update of id, org_id, created_by on public.skills
  for each row when (
    old.id is distinct from new.id
    or old.org_id is distinct from new.org_id
    or (new.created_by is not null and old.created_by is distinct from new.created_by)
  ) execute function private.refuse_identity_change();
