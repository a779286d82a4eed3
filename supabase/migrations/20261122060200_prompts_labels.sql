-- ============================================================================
-- Prompts: labels move, at once or by an approved change.
-- ============================================================================

create function private.prompts_move_label(prompt public.prompts, label text, version integer, approval_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  former constant integer := (
    select l.version from public.prompt_labels as l
    where l.org_id = prompt.org_id and l.prompt_id = prompt.id and l.label = prompts_move_label.label
  );
begin
  if prompts_move_label.version is not distinct from former then
    return;
  elsif prompts_move_label.version is null then
    delete from public.prompt_labels as l
    where l.org_id = prompt.org_id and l.prompt_id = prompt.id and l.label = prompts_move_label.label;
  else
    insert into public.prompt_labels (org_id, prompt_id, label, version)
    values (prompt.org_id, prompt.id, prompts_move_label.label, prompts_move_label.version)
    on conflict (org_id, prompt_id, label) do update set version = excluded.version;
  end if;
  insert into public.prompt_label_changes (org_id, prompt_id, label, from_version, to_version, approval_id)
  values (prompt.org_id, prompt.id, prompts_move_label.label, former, prompts_move_label.version, prompts_move_label.approval_id);
  delete from public.prompt_label_changes as c
  where c.id in (
    select o.id from public.prompt_label_changes as o
    where o.org_id = prompt.org_id and o.prompt_id = prompt.id
    order by o.created_at desc, o.id desc offset 1000
  );
end
$$;
comment on function private.prompts_move_label(public.prompts, text, integer, uuid) is 'Points a label of a locked prompt to a version, or removes it (null), and records that.';

create function public.set_prompt_label(path text, label text, version integer, reason text default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  prompt public.prompts := private.prompts_require(set_prompt_label.path, 'prompts:write', for_change => true);
  settings public.prompt_settings;
  former integer;
  approval public.approvals;
begin
  if not private.prompts_is_label(set_prompt_label.label) then
    perform kijko.fail('invalid_input', 'label: 1 to 63 small letters, digits and . _ -, and not latest');
  end if;
  if set_prompt_label.version is not null and (private.prompts_find(prompt, null, set_prompt_label.version)).id is null then
    perform kijko.fail('not_found', format('the prompt has no version %s', set_prompt_label.version));
  end if;
  select l.version into former from public.prompt_labels as l
  where l.org_id = prompt.org_id and l.prompt_id = prompt.id and l.label = set_prompt_label.label;
  if former is null and set_prompt_label.version is not null
    and (select count(*) >= 50 from public.prompt_labels as l where l.org_id = prompt.org_id and l.prompt_id = prompt.id)
  then
    perform kijko.fail('conflict', 'a prompt has at most 50 labels');
  end if;
  select s.* into settings from public.prompt_settings as s where s.org_id = prompt.org_id;
  if former is distinct from set_prompt_label.version and set_prompt_label.label = any (settings.protected_labels) then
    approval := private.approvals_request(
      prompt.org_id, 'prompt_label', prompt.id, set_prompt_label.label,
      case
        when set_prompt_label.version is null then format('Remove the label %s of %s', set_prompt_label.label, prompt.path)
        else format('Move the label %s of %s to version %s', set_prompt_label.label, prompt.path, set_prompt_label.version)
      end,
      jsonb_build_object('path', prompt.path, 'label', set_prompt_label.label, 'from_version', former, 'to_version', set_prompt_label.version),
      set_prompt_label.reason, make_interval(days => settings.approval_days)
    );
  else
    perform private.prompts_move_label(prompt, set_prompt_label.label, set_prompt_label.version, null);
  end if;
  return jsonb_build_object(
    'path', prompt.path, 'label', set_prompt_label.label, 'applied', approval.id is null,
    'version', case when approval.id is null then set_prompt_label.version else former end,
    'approval_id', approval.id
  );
end
$$;
comment on function public.set_prompt_label(text, text, integer, text) is 'Points a label of a prompt to a version, or removes it (version null). A label that prompt_settings protects does not move: the answer has applied false and the approval_id of the request, which a second person decides by approve_change(). Requires prompts:write. Definer: it checks the permission itself.';
grant execute on function public.set_prompt_label(text, text, integer, text) to authenticated;

create function private.prompts_apply_label(approval public.approvals) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  prompt public.prompts;
  former integer;
begin
  select p.* into prompt from public.prompts as p where p.org_id = approval.org_id and p.id = approval.subject_id for no key update;
  if prompt.id is null then
    perform kijko.fail('conflict', 'the prompt was deleted');
  end if;
  select l.version into former from public.prompt_labels as l
  where l.org_id = prompt.org_id and l.prompt_id = prompt.id and l.label = approval.subject_part;
  if former is distinct from (approval.change ->> 'from_version')::integer then
    perform kijko.fail(
      'conflict', format('the label has moved since: it is at version %s', coalesce(former::text, 'none')), 'Reject the request, and ask for it again.'
    );
  end if;
  perform private.prompts_move_label(prompt, approval.subject_part, (approval.change ->> 'to_version')::integer, approval.id);
end
$$;
comment on function private.prompts_apply_label(public.approvals) is 'Moves the label as an approved request says; fails with conflict if it has moved since the request. Named by private.approval_kinds.';
insert into private.approval_kinds (kind, permission, apply_function, description)
values ('prompt_label', 'prompts:approve', 'prompts_apply_label', 'A protected label of a prompt moves to another version');

-- ----------------------------------------------------------------------------
-- Skills that name a prompt
-- ----------------------------------------------------------------------------

create function private.prompts_of_skill(org uuid, path text, label text)
returns table (prompt_id uuid, version integer, template text, engine text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select v.prompt_id, v.version, v.content #>> '{}', v.engine
  from public.prompts as p
  cross join lateral private.prompts_find(p, prompts_of_skill.label, null) as v
  where p.org_id = org and p.path = prompts_of_skill.path and p.type = 'text' and v.id is not null
$$;
comment on function private.prompts_of_skill(uuid, text, text) is 'The version that a skill runs now: of a text prompt of its organization, by the label. No row if there is none.';

create function private.prompts_version_of_execution(org uuid, prompt_id uuid, version integer)
returns table (prompt_id uuid, version integer, template text, engine text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select v.prompt_id, v.version, v.content #>> '{}', v.engine
  from public.prompt_versions as v
  where v.org_id = prompts_version_of_execution.org and v.prompt_id = prompts_version_of_execution.prompt_id
    and v.version = prompts_version_of_execution.version
$$;
comment on function private.prompts_version_of_execution(uuid, uuid, integer) is 'The version that an execution has kept, for a further attempt. No row if the prompt was deleted.';

create function private.prompts_skill_problems(org uuid, path text, label text) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if path is null or exists (select 1 from private.prompts_of_skill(org, path, label)) then
    return '[]'::jsonb;
  end if;
  return jsonb_build_array(jsonb_build_object(
    'code', 'prompt_not_found', 'severity', 'error',
    'message', format('there is no text prompt %s with the label %s', path, coalesce(label, 'production'))
  ));
end
$$;
comment on function private.prompts_skill_problems(uuid, text, text) is 'Why the prompt that a skill names cannot be used, as a list of {code, severity, message}. Definer: a policy of prompts may hide them from who runs the skill.';

create function private.prompts_enqueue_skill_checks(prompt public.prompts, label text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.skills_queue_check(s)
  from public.skills as s
  where s.org_id = prompt.org_id and s.prompt_path = prompt.path and coalesce(s.prompt_label, 'production') = prompts_enqueue_skill_checks.label
  order by s.id;
end
$$;
comment on function private.prompts_enqueue_skill_checks(public.prompts, text) is 'Queues the checks of the skills that name a prompt and a label.';

create function private.prompts_check_skills() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  changed constant public.prompt_labels := case when tg_op = 'DELETE' then old else new end;
begin
  perform private.prompts_enqueue_skill_checks(p, changed.label)
  from public.prompts as p where p.org_id = changed.org_id and p.id = changed.prompt_id;
  return null;
end
$$;
comment on function private.prompts_check_skills() is 'Trigger: what a label of a prompt points to has changed, so the skills that name it are checked again. Definer: users do not write jobs.';
create trigger prompt_labels_check_skills after insert or delete or update of version on public.prompt_labels
  for each row execute function private.prompts_check_skills();

create function private.prompts_check_latest() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.prompts_enqueue_skill_checks(new, 'latest');
  return null;
end
$$;
comment on function private.prompts_check_latest() is 'Trigger: a push moves the label latest, so the skills that name it are checked again. Definer: users do not write jobs.';
create trigger prompts_check_latest after update of latest_version on public.prompts
  for each row when (old.latest_version <> new.latest_version)
  execute function private.prompts_check_latest();
