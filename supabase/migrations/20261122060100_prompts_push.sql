-- ============================================================================
-- Prompts: push, read and delete.
-- ============================================================================

create function private.prompts_content_fault(type text, content jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when type = 'text' and jsonb_typeof(content) is distinct from 'string' then 'content: a string'
    when type = 'text' and not private.has_visible_text(content #>> '{}') then 'content: empty'
    when type = 'text' and char_length(content #>> '{}') > 100000 then 'content: at most 100,000 characters'
    when type = 'text' then null
    when jsonb_typeof(content) is distinct from 'array' then 'content: a list of messages'
    when jsonb_array_length(content) not between 1 and 100 then 'content: 1 to 100 messages'
    when not private.json_fits(content, 409600) then 'content: at most 400 KiB'
    else (
      select string_agg(format('content[%s]: %s', m.place - 1, m.fault), '; ' order by m.place)
      from (
        select e.place, case
          when jsonb_typeof(e.message) <> 'object' then 'an object'
          when e.message ->> 'type' = 'placeholder' then case
            when (e.message ->> 'name' ~ '^[A-Za-z_][A-Za-z0-9_]*$' and char_length(e.message ->> 'name') <= 63 and jsonb_typeof(e.message -> 'name') = 'string') is not true
              or e.message - '{type,name}'::text[] <> '{}'
            then 'a placeholder has type and name, a name of letters, digits and _'
          end
          when (e.message ->> 'role' in ('system', 'developer', 'user', 'assistant') and jsonb_typeof(e.message -> 'role') = 'string') is not true
            then 'role: system, developer, user or assistant'
          when jsonb_typeof(e.message -> 'content') is distinct from 'string' then 'content: a string'
          when char_length(e.message ->> 'content') > 100000 then 'content: at most 100,000 characters'
          when e.message - '{role,content}'::text[] <> '{}' then 'a message has role and content'
        end as fault
        from jsonb_array_elements(content) with ordinality as e (message, place)
      ) as m
      where m.fault is not null
    )
  end
$$;
comment on function private.prompts_content_fault(text, jsonb) is 'What is wrong with the form of a prompt''s content, or null. Nullable: result.';

create function private.prompts_changed_fields(one public.prompt_versions, other public.prompt_versions) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- As text: 1.0 and 1 are equal as JSON, and not the same to a template or a vendor.
  select coalesce(array_agg(f.field order by f.place), '{}')
  from (
    values
      (1, 'content', one.content::text, other.content::text),
      (2, 'engine', one.engine, other.engine),
      (3, 'input_schema', one.input_schema::text, other.input_schema::text),
      (4, 'model', one.model, other.model),
      (5, 'parameters', one.parameters::text, other.parameters::text)
  ) as f (place, field, before, after)
  where f.before is distinct from f.after
$$;
comment on function private.prompts_changed_fields(public.prompt_versions, public.prompt_versions) is 'The fields in which two versions differ.';

create function private.prompts_require(path text, permission text, for_change boolean default false) returns public.prompts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  prompt public.prompts;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('prompts:read');
  if public.can(org, prompts_require.permission) is not true then
    perform kijko.fail('permission_denied', format('requires the permission %s', prompts_require.permission));
  end if;
  select p.* into prompt from public.prompts as p where p.org_id = org and p.path = prompts_require.path;
  if for_change then
    select p.* into prompt from public.prompts as p where p.id = prompt.id for no key update;
  end if;
  if prompt.id is null then
    perform kijko.fail('not_found', 'no such prompt');
  end if;
  return prompt;
end
$$;
comment on function private.prompts_require(text, text, boolean) is 'The prompt of the organization of the request; locked for a change. Fails with permission_denied and not_found.';

create function private.prompts_find(prompt public.prompts, label text, version integer) returns public.prompt_versions
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select v.*
  from public.prompt_versions as v
  where v.org_id = prompt.org_id and v.prompt_id = prompt.id and v.version = coalesce(
    prompts_find.version,
    case
      when prompts_find.label = 'latest' then prompt.latest_version
      else (
        select l.version from public.prompt_labels as l
        where l.org_id = prompt.org_id and l.prompt_id = prompt.id and l.label = coalesce(prompts_find.label, 'production')
      )
    end
  )
$$;
comment on function private.prompts_find(public.prompts, text, integer) is 'The version of that number, else the one of the label, by default production. Nullable: result.';

create function private.prompts_labels(prompt public.prompts, version integer) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(l.label order by l.label), '{}')
    || case when prompts_labels.version = prompt.latest_version then '{latest}'::text[] else '{}' end
  from public.prompt_labels as l
  where l.org_id = prompt.org_id and l.prompt_id = prompt.id and l.version = prompts_labels.version
$$;
comment on function private.prompts_labels(public.prompts, integer) is 'Labels that point to a version, and latest for the newest one.';

create function private.prompts_as_json(prompt public.prompts, v public.prompt_versions) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'prompt_id', prompt.id, 'version_id', v.id, 'path', prompt.path, 'type', prompt.type, 'version', v.version,
  'latest_version', prompt.latest_version, 'labels', private.prompts_labels(prompt, v.version), 'description', prompt.description,
  'tags', prompt.tags, 'content', v.content, 'engine', v.engine, 'input_schema', v.input_schema, 'model', v.model, 'parameters', v.parameters,
  'message', v.message, 'problems', v.problems, 'checked_at', v.checked_at, 'created_at', v.created_at
);
comment on function private.prompts_as_json(public.prompts, public.prompt_versions) is 'A version of a prompt as get_prompt() answers it.';

create function public.get_prompt(path text, label text default null, version integer default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  prompt public.prompts;
  found_version public.prompt_versions;
begin
  if get_prompt.label is not null and get_prompt.version is not null then
    perform kijko.fail('invalid_input', 'label and version exclude each other');
  end if;
  prompt := private.prompts_require(get_prompt.path, 'prompts:read');
  found_version := private.prompts_find(prompt, get_prompt.label, get_prompt.version);
  if found_version.id is null then
    perform kijko.fail('not_found', case
      when get_prompt.version is not null then format('the prompt has no version %s', get_prompt.version)
      else format('the prompt has no label %s', coalesce(get_prompt.label, 'production'))
    end);
  end if;
  return private.prompts_as_json(prompt, found_version);
end
$$;
comment on function public.get_prompt(text, text, integer) is 'A version of a prompt of the organization of the request: by its number, else by a label (latest is the newest version), by default production. Requires prompts:read. Definer: it checks the permission itself.';
grant execute on function public.get_prompt(text, text, integer) to authenticated;

create function public.list_prompts(
  path text default null, prefix text default null, label text default null, tag text default null, after text default null,
  n integer default 50, skip integer default 0, changed_since timestamptz default null, changed_until timestamptz default null,
  with_content boolean default true
) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  total bigint;
  page jsonb;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('prompts:read');
  if (list_prompts.n between 1 and 100) is not true or (list_prompts.skip between 0 and 100000) is not true then
    perform kijko.fail('invalid_input', 'n: 1 to 100; skip: 0 to 100,000');
  elsif char_length(list_prompts.path) > 200 or char_length(list_prompts.prefix) > 200 or char_length(list_prompts.after) > 200
    or char_length(list_prompts.tag) > 50 or char_length(list_prompts.label) > 63
  then
    perform kijko.fail('invalid_input', 'path, prefix, after, tag or label is too long');
  end if;
  with found as materialized (
    select p.id, p.path as name
    from public.prompts as p
    where p.org_id = org
      and (list_prompts.path is null or p.path = list_prompts.path)
      and (list_prompts.prefix is null or starts_with(p.path, rtrim(list_prompts.prefix, '/') || '/'))
      and (list_prompts.tag is null or list_prompts.tag = any (p.tags))
      and (
        list_prompts.label is null or list_prompts.label = 'latest'
        or exists (select 1 from public.prompt_labels as l where l.org_id = org and l.prompt_id = p.id and l.label = list_prompts.label)
      )
      and (list_prompts.changed_since is null or p.updated_at >= list_prompts.changed_since)
      and (list_prompts.changed_until is null or p.updated_at < list_prompts.changed_until)
  ), shown as (
    select f.id from found as f
    where list_prompts.after is null or f.name collate "C" > list_prompts.after collate "C"
    order by f.name collate "C" limit list_prompts.n offset list_prompts.skip
  )
  select (select count(*) from found), coalesce(jsonb_agg(
    private.prompts_as_json(p, v) - case when list_prompts.with_content then '{}' else '{content,input_schema}' end::text[] || jsonb_build_object(
      'updated_at', p.updated_at,
      -- The newest thousand.
      'versions', (
        select jsonb_agg(w.version order by w.version) from (
          select w.version from public.prompt_versions as w where w.org_id = org and w.prompt_id = p.id order by w.version desc limit 1000
        ) as w
      ),
      'all_labels', (select coalesce(jsonb_agg(l.label order by l.label), '[]') from public.prompt_labels as l where l.org_id = org and l.prompt_id = p.id)
    ) order by p.path collate "C"
  ), '[]') into total, page
  from shown as s
  join public.prompts as p on p.id = s.id
  join public.prompt_versions as v on v.org_id = org and v.prompt_id = p.id and v.version = p.latest_version;
  return jsonb_build_object('total', total, 'prompts', page);
end
$$;
comment on function public.list_prompts(text, text, text, text, text, integer, integer, timestamptz, timestamptz, boolean) is 'Prompts of the organization of the request in the order of their paths: total, and prompts, each as get_prompt() gives its newest version, with versions, all_labels and updated_at. Only the one at a path, those in a folder (prefix), with a label or tag, after a path, or changed in a time. At most n, up to 100. Requires prompts:read. Definer: it names the organization and checks the permission itself.';
grant execute on function public.list_prompts(text, text, text, text, text, integer, integer, timestamptz, timestamptz, boolean) to authenticated;

create function public.push_prompt(
  path text, content jsonb, type text default 'text', engine text default 'minijinja', input_schema jsonb default '{"type": "object"}',
  model text default null, parameters jsonb default '{}', description text default null, tags text[] default '{}', message text default null,
  base_version integer default null
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  prompt public.prompts;
  latest public.prompt_versions;
  pushed public.prompt_versions;
  fault text;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('prompts:write');
  if push_prompt.type is null or push_prompt.type not in ('text', 'chat') then
    perform kijko.fail('invalid_input', 'type: text or chat');
  -- Before they are compared with the newest version, as text.
  elsif not private.json_fits(push_prompt.input_schema, 65536) or not private.json_fits(push_prompt.parameters, 16384) then
    perform kijko.fail('invalid_input', 'input_schema: at most 64 KiB; parameters: at most 16 KiB');
  end if;
  fault := private.prompts_content_fault(push_prompt.type, push_prompt.content);
  if fault is not null then
    perform kijko.fail('invalid_input', left(fault, 1000));
  end if;
  -- Two pushes take turns here, and the second one sees what the first has written.
  loop
    insert into public.prompts (org_id, path, type, description, tags)
    values (org, push_prompt.path, push_prompt.type, push_prompt.description, coalesce(push_prompt.tags, '{}'))
    on conflict (org_id, path) do nothing;
    select p.* into prompt from public.prompts as p where p.org_id = org and p.path = push_prompt.path for no key update;
    -- It is not there if it was deleted between the two.
    exit when found;
  end loop;
  if prompt.type <> push_prompt.type then
    perform kijko.fail('conflict', format('the prompt is of type %s, which never changes', prompt.type));
  end if;
  select v.* into latest from public.prompt_versions as v
  where v.org_id = org and v.prompt_id = prompt.id and v.version = prompt.latest_version;
  pushed.content := push_prompt.content;
  pushed.engine := push_prompt.engine;
  pushed.input_schema := push_prompt.input_schema;
  pushed.model := push_prompt.model;
  pushed.parameters := push_prompt.parameters;
  if latest.id is not null and private.prompts_changed_fields(latest, pushed) = '{}' then
    pushed := latest;
  elsif push_prompt.base_version is not null and push_prompt.base_version <> prompt.latest_version then
    perform private.prompts_refuse_stale(prompt, latest, pushed, push_prompt.base_version);
  elsif prompt.latest_version >= 2000 then
    perform kijko.fail('conflict', 'a prompt has at most 2,000 versions', 'Push it under another path.');
  elsif (select sum(v.size_bytes) > 268435456 from public.prompt_versions as v where v.org_id = org) then
    perform kijko.fail('conflict', 'the prompts of an organization take at most 256 MiB', 'Delete prompts: delete_prompt().');
  else
    insert into public.prompt_versions as v (org_id, prompt_id, version, content, engine, input_schema, model, parameters, message)
    values (
      org, prompt.id, prompt.latest_version + 1, pushed.content, pushed.engine, pushed.input_schema, pushed.model, pushed.parameters,
      push_prompt.message
    )
    returning v.* into pushed;
  end if;
  update public.prompts as p
  set latest_version = pushed.version, description = push_prompt.description, tags = coalesce(push_prompt.tags, '{}')
  where p.id = prompt.id and (
    p.latest_version <> pushed.version or p.description is distinct from push_prompt.description or p.tags <> coalesce(push_prompt.tags, '{}')
  );
  select p.* into prompt from public.prompts as p where p.id = prompt.id;
  return private.prompts_as_json(prompt, pushed) || jsonb_build_object('created', pushed.id is distinct from latest.id);
end
$$;
comment on function public.push_prompt(text, jsonb, text, text, jsonb, text, jsonb, text, text[], text, integer) is 'Stores a new version of a prompt, and the prompt if the path is new. If content, engine, schema, model and parameters are those of the newest version, no version is made (created is false). With base_version it fails with conflict when the newest version is another one; 0 says that there is none yet. Description and tags are the prompt''s and have no versions. Requires prompts:write. Definer: it checks the permission itself.';
grant execute on function public.push_prompt(text, jsonb, text, text, jsonb, text, jsonb, text, text[], text, integer) to authenticated;

create function private.prompts_refuse_stale(prompt public.prompts, latest public.prompt_versions, pushed public.prompt_versions, base_version integer)
returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base public.prompt_versions;
begin
  select v.* into base from public.prompt_versions as v
  where v.org_id = prompt.org_id and v.prompt_id = prompt.id and v.version = prompts_refuse_stale.base_version;
  perform kijko.fail(
    'conflict',
    case
      when base_version = 0 then format('the prompt is there already, in version %s', prompt.latest_version)
      when base.id is null then format('there is no version %s; the newest is %s', base_version, prompt.latest_version)
      else format(
        'version %s was pushed after version %s and differs from it in: %s; from this push in: %s', prompt.latest_version, base_version,
        array_to_string(private.prompts_changed_fields(base, latest), ', '), array_to_string(private.prompts_changed_fields(latest, pushed), ', ')
      )
    end,
    'Pull the newest version, merge, and push again.'
  );
end
$$;
comment on function private.prompts_refuse_stale(public.prompts, public.prompt_versions, public.prompt_versions, integer) is 'Fails with conflict, and says what differs between the base, the newest version and the push.';

create function public.delete_prompt(path text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  prompt public.prompts := private.prompts_require(delete_prompt.path, 'prompts:write', for_change => true);
begin
  if exists (
    select 1 from public.prompt_labels as l
    join public.prompt_settings as s on s.org_id = l.org_id and l.label = any (s.protected_labels)
    where l.org_id = prompt.org_id and l.prompt_id = prompt.id
  ) then
    perform kijko.fail('conflict', 'a protected label points to the prompt', 'Remove the label first, by an approved change: set_prompt_label().');
  end if;
  -- Labels first: skills that name them are checked again by the path, which is gone after the prompt.
  delete from public.prompt_labels as l where l.org_id = prompt.org_id and l.prompt_id = prompt.id;
  delete from public.prompts as p where p.id = prompt.id;
end
$$;
comment on function public.delete_prompt(text) is 'Deletes a prompt with its versions, labels and history. Calls and executions keep its number. Fails with conflict while a protected label points to it. Requires prompts:write. Definer: it checks the permission itself.';
grant execute on function public.delete_prompt(text) to authenticated;
