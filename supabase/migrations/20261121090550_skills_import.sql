-- ============================================================================
-- Skills: import. A document is read, checked, compared with the skills that are there, and written, each in one statement: an
-- import takes time in proportion to its skills, also when many have one name.
-- ============================================================================

create type private.skill_import as (place integer, name text, skill public.skills, status text, code text, message text);
comment on type private.skill_import is 'A skill of a document on its way in: its place in the document, its name there, the row that it becomes or is (id), and what happened so far.';

create function private.skills_read_item(org uuid, project uuid, item jsonb, place integer) returns public.skills
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  skill public.skills := jsonb_populate_record(null::public.skills, jsonb_strip_nulls(item - '{project,input_schema,parameters}'::text[]));
begin
  skill.id := gen_random_uuid();
  skill.org_id := org;
  skill.project_id := project;
  -- Nulls inside these two are values.
  skill.input_schema := coalesce(nullif(item -> 'input_schema', 'null'), '{"type": "object"}');
  skill.parameters := coalesce(nullif(item -> 'parameters', 'null'), '{}');
  skill.prompt_template := coalesce(skill.prompt_template, '');
  skill.model := coalesce(skill.model, 'echo/echo');
  skill.tags := coalesce(skill.tags, '{}');
  skill.enabled := coalesce(skill.enabled, true);
  -- The next export has the order of this document.
  skill.created_at := kijko.now() + make_interval(secs => place / 1000000.0);
  return skill;
end
$$;
comment on function private.skills_read_item(uuid, uuid, jsonb, integer) is 'The row that a skill of a document becomes. Its form was checked.';

create function private.skills_read_items(org uuid, items jsonb) returns private.skill_import[]
language sql set search_path = pg_catalog, pg_temp
as $$
  with given as materialized (
    select (e.n - 1)::integer as place, e.item, private.skills_item_fault(e.item) as fault
    from jsonb_array_elements(items) with ordinality as e (item, n)
  ),
  projects as materialized (
    select p.id, p.slug, private.projects_write_refusal(p.id) as refusal
    from public.projects as p
    where p.org_id = org and p.slug in (select g.item ->> 'project' from given as g where g.fault is null) and private.projects_is_visible(p.id)
  ),
  judged as (
    select g.*, p.id as project, case
      when g.fault is not null then 'invalid_input'
      when g.item ->> 'project' is not null and p.id is null then 'not_found'
      else p.refusal
    end as code
    from given as g left join projects as p on g.fault is null and p.slug = g.item ->> 'project'
  )
  select coalesce(array_agg((
    j.place, left(j.item ->> 'name', 100), case when j.code is null then private.skills_read_item(org, j.project, j.item, j.place) end,
    case when j.code is not null then 'failed' end, j.code,
    case
      when j.fault is not null then j.fault
      when j.code = 'not_found' then format('no project has the slug %s', left(j.item ->> 'project', 63))
      when j.code is not null then format('nothing can be written into the project %s', left(j.item ->> 'project', 63))
    end
  )::private.skill_import order by j.place), '{}')
  from judged as j
$$;
comment on function private.skills_read_items(uuid, jsonb) is 'Reads the skills of a document; those whose form or project is wrong have failed.';

create function private.skills_check_items(items private.skill_import[]) returns private.skill_import[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- The constraints of the table itself, so that each item gets the refusal of an insert. They pass for null.
  violated constant text := (
    select string_agg(format('when (%s) is false then %L', pg_get_expr(c.conbin, c.conrelid), c.conname), ' ' order by c.conname)
    from pg_constraint as c where c.conrelid = 'public.skills'::regclass and c.contype = 'c' and c.conbin is not null
  );
  checked private.skill_import[];
begin
  execute format($query$
    select coalesce(array_agg(case when c.fault is null then c.item else (
      c.place, c.item_name, null, 'failed', 'invalid_input', format('violates %%s', c.fault)
    )::private.skill_import end order by c.place), '{}')
    from (
      select i.item, (i.item).place as place, (i.item).name as item_name, case when (i.item).status is null then case %s end end as fault
      from (select u::private.skill_import as item from unnest($1) as u) as i cross join lateral (select ((i.item).skill).*) as skills
    ) as c
  $query$, violated) into checked using items;
  return checked;
end
$$;
comment on function private.skills_check_items(private.skill_import[]) is 'Fails the items that a check of the table skills refuses, and names the check.';

create function private.skills_match_items(org uuid, items private.skill_import[], on_conflict text) returns private.skill_import[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with item as materialized (
    select u.*, coalesce((u.skill).project_id, org) as home, (u.skill).name as skill_name,
      -- Skills of this document do not conflict with each other: the first of one name meets the first that is there, and so on.
      case when u.status is null then row_number() over (partition by u.status, (u.skill).project_id, (u.skill).name order by u.place) end as turn
    from unnest(items) as u
  ),
  present as materialized (
    select s.id, coalesce(s.project_id, org) as home, s.name, row_number() over same as turn, count(*) over (partition by s.project_id, s.name) as n
    from public.skills as s
    where s.org_id = org and s.name in (select i.skill_name from item as i where i.status is null)
    window same as (partition by s.project_id, s.name order by s.created_at, s.id)
  ),
  judged as (
    select i.*, first.n, coalesce(other.id, first.id) as target, case
      when i.status is not null then i.status
      when first.n is null then 'created'
      when on_conflict = 'skip' then case when other.id is null then 'created' else 'skipped' end
      when on_conflict = 'rename' then 'renamed'
      when on_conflict = 'replace' and first.n = 1 then case when i.turn = 1 then 'replaced' else 'created' end
      else 'failed'
    end as verdict
    from item as i
    left join present as first on first.home = i.home and first.name = i.skill_name and first.turn = 1
    left join present as other on other.home = i.home and other.name = i.skill_name and other.turn = i.turn
  )
  select coalesce(array_agg((
    j.place, j.name,
    case when j.verdict in ('skipped', 'replaced') then jsonb_populate_record(j.skill, jsonb_build_object('id', j.target)) else j.skill end,
    j.verdict,
    case when j.verdict = 'failed' then coalesce(j.code, 'conflict') end,
    case when j.verdict = 'failed' then coalesce(j.message, format('%s skills have this name', j.n)) end
  )::private.skill_import order by j.place), '{}')
  from judged as j
$$;
comment on function private.skills_match_items(uuid, private.skill_import[], text) is 'Decides by on_conflict what becomes of each item that has not failed: created, skipped, renamed, replaced, or failed with conflict.';

create function private.skills_rename_items(org uuid, items private.skill_import[]) returns private.skill_import[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with item as materialized (
    select u as item, u.place, u.status, coalesce((u.skill).project_id, org) as home, (u.skill).name as name, left((u.skill).name, 90) as base
    from unnest(items) as u
  ),
  renamed as materialized (
    select i.*, row_number() over (partition by i.home, i.base order by i.place) as turn from item as i where i.status = 'renamed'
  ),
  -- Names with a number, of skills that are there and in the document.
  taken as materialized (
    select distinct t.home, t.name, substring(t.name from '^(.*) \([0-9]+\)$') as base
    from (
      select coalesce(s.project_id, org) as home, s.name from public.skills as s where s.org_id = org
      union all
      select i.home, i.name from item as i where i.status <> 'failed'
    ) as t
    where t.name ~ ' \([0-9]+\)$'
  ),
  free as (
    select f.home, f.base, f.name, row_number() over (partition by f.home, f.base order by f.number) as turn
    from (
      select b.home, b.base, g.number, b.base || format(' (%s)', g.number) as name
      from (select r.home, r.base, count(*) as n from renamed as r group by r.home, r.base) as b
      left join (select t.home, t.base, count(*) as n from taken as t group by t.home, t.base) as t on t.home = b.home and t.base = b.base
      cross join lateral generate_series(2, 1 + b.n + coalesce(t.n, 0)) as g (number)
    ) as f
    left join taken as t on t.home = f.home and t.name = f.name
    where t.name is null
  )
  select coalesce(array_agg(case when f.name is null then i.item else (
    i.place, f.name, jsonb_populate_record((i.item).skill, jsonb_build_object('name', f.name)), i.status, null, null
  )::private.skill_import end order by i.place), '{}')
  from item as i
  left join renamed as r on r.place = i.place
  left join free as f on f.home = r.home and f.base = r.base and f.turn = r.turn
$$;
comment on function private.skills_rename_items(uuid, private.skill_import[]) is 'Gives the renamed items the lowest free numbers after their names.';

create function private.skills_write_items(items private.skill_import[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.skills (
    id, org_id, project_id, name, description, prompt_template, prompt_path, prompt_label, input_schema, model, parameters, tags, enabled, created_at
  )
  select k.id, k.org_id, k.project_id, k.name, k.description, k.prompt_template, k.prompt_path, k.prompt_label, k.input_schema, k.model, k.parameters,
    k.tags, k.enabled, k.created_at
  from unnest(items) as u cross join lateral (select (u.skill).*) as k
  where u.status in ('created', 'renamed')
  order by u.place;
  -- In one order, so that this and update_skills() do not deadlock.
  perform 1 from public.skills as s
  where s.id = any (array(select (u.skill).id from unnest(items) as u where u.status = 'replaced'))
  order by s.id for no key update;
  update public.skills as s
  set description = k.description, prompt_template = k.prompt_template, prompt_path = k.prompt_path,
    prompt_label = k.prompt_label, input_schema = k.input_schema, model = k.model,
    parameters = k.parameters, tags = k.tags, enabled = k.enabled
  from unnest(items) as u cross join lateral (select (u.skill).*) as k
  where u.status = 'replaced' and s.id = k.id and s.org_id = k.org_id and s.project_id is not distinct from k.project_id;
end
$$;
comment on function private.skills_write_items(private.skill_import[]) is 'Inserts and updates the skills of a document.';

create function private.skills_require_imported(items private.skill_import[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  failed private.skill_import;
  details text;
begin
  select u.* into failed from unnest(items) as u where u.status = 'failed' order by u.place limit 1;
  details := format('skills[%s] %s: %s', failed.place, failed.name, failed.message);
  if failed.place is null then
    return;
  elsif failed.code = 'conflict' then
    perform kijko.fail('conflict', details, 'Nothing was imported. on_conflict says what to do.');
  elsif failed.code = 'not_found' then
    perform kijko.fail('not_found', details, 'Nothing was imported.');
  elsif failed.code = 'permission_denied' then
    perform kijko.fail('permission_denied', details, 'Nothing was imported.');
  elsif failed.code = 'project_archived' then
    perform kijko.fail('project_archived', details, 'Nothing was imported. Restore the project: restore_project().');
  end if;
  perform kijko.fail('invalid_input', details, 'Nothing was imported.');
end
$$;
comment on function private.skills_require_imported(private.skill_import[]) is 'Fails with the first item that has failed.';

create function public.import_skills(document jsonb, on_conflict text default 'fail')
returns table (place integer, name text, status text, skill_id uuid, code text, message text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skills constant jsonb := private.skills_require_document(document);
  org uuid;
  items private.skill_import[];
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
  items := private.skills_check_items(private.skills_read_items(org, skills));
  items := private.skills_match_items(org, items, import_skills.on_conflict);
  if import_skills.on_conflict = 'rename' then
    items := private.skills_rename_items(org, items);
  elsif import_skills.on_conflict = 'fail' then
    perform private.skills_require_imported(items);
  end if;
  perform private.skills_write_items(items);
  return query
  select u.place, u.name, u.status, case when u.status <> 'failed' then (u.skill).id end, u.code, u.message
  from unnest(items) as u
  order by u.place;
end
$$;
comment on function public.import_skills(jsonb, text) is 'Imports a document of export_skills() into the organization of the request. A skill conflicts with those that have its name in its project. on_conflict: fail imports nothing if any skill conflicts or is wrong; skip, rename and replace decide item by item and report what is wrong. One row for each skill: its status is created, skipped, renamed, replaced or failed. Nullable: name, skill_id, code, message. Definer: it checks the permission itself.';
grant execute on function public.import_skills(jsonb, text) to authenticated;
