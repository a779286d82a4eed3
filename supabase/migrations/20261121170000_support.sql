-- ============================================================================
-- Support: why the API allows or refuses something.
--
-- explain_access() asks the policies themselves. It becomes the subject (a user or an API key) inside a subtransaction,
-- evaluates the expressions of pg_policy, and always rolls that subtransaction back. The claims and the calling key are settings,
-- which the rollback restores. So the rest of the request is the caller's, also after an error.
--
-- It evaluates policies and nothing else. They are expressions that migrations made; no code and no value of a tenant is run.
-- Its answer names policies, permissions and roles, and says of each whether it holds. It contains no column of a row.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- What is asked about
-- ----------------------------------------------------------------------------

create function private.support_relation(table_name text) returns regclass
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  relation pg_class;
begin
  select c.* into relation from pg_class as c
  where c.relnamespace = 'public'::regnamespace and c.relname = support_relation.table_name and c.relkind in ('r', 'p', 'v', 'm');
  if relation.oid is null then
    perform kijko.fail('invalid_input', 'table_name: no table of the API has this name');
  elsif relation.relkind in ('v', 'm') then
    perform kijko.fail('invalid_input', 'table_name: a view has no policies', format('Ask about its tables: %s.', (
      select string_agg(distinct t.relname, ', ')
      from pg_rewrite as r
      join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      join pg_class as t on t.oid = d.refobjid and t.relkind in ('r', 'p')
      where r.ev_class = relation.oid
    )));
  end if;
  return relation.oid;
end
$$;
comment on function private.support_relation(text) is 'The table of the API with this name; fails with invalid_input for any other name.';

create function private.support_row_org(relation regclass, row_id uuid) returns table (is_there boolean, org_id uuid)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  columns constant text[] := array(
    select a.attname from pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and (a.attname = 'org_id' or (a.attname = 'id' and a.atttypid = 'uuid'::regtype))
  );
begin
  if 'id' <> all (columns) then
    perform kijko.fail('invalid_input', 'row_id: the rows of this table have no uuid', 'Leave row_id out.');
  end if;
  execute format(
    'select true, %s from %s where id = $1',
    case when relation = 'public.organizations'::regclass then 'id' when 'org_id' = any (columns) then 'org_id' else 'null::uuid' end, relation
  ) into is_there, org_id using row_id;
  is_there := coalesce(is_there, false);
  return next;
end
$$;
comment on function private.support_row_org(regclass, uuid) is 'Whether the row exists, and its organization. Nullable: org_id.';

create function private.support_user(subject uuid, org uuid) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'kind', 'user',
    'id', u.id,
    'role', m.role,
    'custom_role', r.name,
    'entries', case when r.id is not null then to_jsonb(r.permissions) end,
    'blocked', to_jsonb(array_remove(array[
      case when u.deleted_at is not null then 'deleted' end,
      case when u.banned_until > kijko.now() then 'banned' end,
      case when m.sso_required then 'sso_required' end
    ], null))
  )
  from auth.users as u
  left join public.memberships as m on m.user_id = u.id and m.org_id = org
  left join public.custom_roles as r on r.id = m.custom_role_id
  where u.id = subject
$$;
comment on function private.support_user(uuid, uuid) is 'A user as the subject of explain_access(), with their role in the organization: null for a non-member. Nullable: result.';

create function private.support_key(subject uuid) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'kind', k.kind || '_key',
    'id', k.id,
    'org_id', k.org_id,
    'entries', k.permissions,
    'bounded_by', k.user_id,
    'role', m.role,
    'custom_role', r.name,
    'read_only', not exists (select 1 from jsonb_array_elements_text(k.permissions) as e (entry) where e.entry not like '%:read'),
    'blocked', to_jsonb(array_remove(array[
      case when k.revoked_at <= kijko.now() then 'revoked' end,
      case when k.expires_at <= kijko.now() then 'expired' end,
      case when u.banned_until > kijko.now() then 'suspended' end
    ], null))
  )
  from public.api_keys as k
  left join auth.users as u on u.id = k.user_id and k.kind = 'personal'
  left join public.memberships as m on m.org_id = k.org_id and m.user_id = k.user_id
  left join public.custom_roles as r on r.id = m.custom_role_id
  where k.id = subject
$$;
comment on function private.support_key(uuid) is 'An API key as the subject of explain_access(), with the role of the member who bounds it. Nullable: result.';

-- ----------------------------------------------------------------------------
-- The policies, as the subject
-- ----------------------------------------------------------------------------

create function private.support_policies(relation regclass, operation text)
returns table (step text, clause text, policy text, permissive boolean, expression text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select s.step, s.clause, p.polname, p.polpermissive, s.expression
  from pg_policy as p
  cross join lateral (
    values
      ('select', 'using', 'r', pg_get_expr(p.polqual, p.polrelid)),
      ('insert', 'check', 'a', coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid))),
      ('update', 'using', 'w', pg_get_expr(p.polqual, p.polrelid)),
      ('update', 'check', 'w', coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid))),
      ('delete', 'using', 'd', pg_get_expr(p.polqual, p.polrelid))
  ) as s (step, clause, command, expression)
  where p.polrelid = relation
    and p.polcmd in (s.command::"char", '*')
    -- A request that changes or deletes rows finds them by a filter, so they must be visible, too.
    and s.step in (operation, case when operation in ('update', 'delete') then 'select' end)
    and (0::oid = any (p.polroles) or to_regrole('authenticated')::oid = any (p.polroles))
  order by s.step = operation, s.clause desc, p.polname
$$;
comment on function private.support_policies(regclass, text) is 'The policies that decide about an operation of a signed-in user or key, with the expression of each. The step select is what makes a row visible to an update or delete; the clause check is about the row that is written.';

create function private.support_conjuncts(expression text) returns setof text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  depth integer := 0;
  start integer := 1;
  quoted boolean := false;
  letter text;
begin
  for place in 1 .. char_length(expression) loop
    letter := substr(expression, place, 1);
    if letter = '''' then
      quoted := not quoted;
    elsif not quoted then
      depth := depth + case letter when '(' then 1 when ')' then -1 else 0 end;
      -- A list of conditions is in parentheses: (A AND B).
      if depth = 1 and substr(expression, 1, 1) = '(' and substr(expression, place, 5) = ' AND ' then
        return next substr(expression, start, place - start);
        start := place + 5;
      end if;
    end if;
  end loop;
  return next substr(expression, start);
end
$$;
comment on function private.support_conjuncts(text) is 'The conditions of a policy that must all hold, as pg_get_expr() writes them; one condition if it is no list.';

create function private.support_permissions(expression text) returns table (permission text, required boolean)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  -- In a condition with alternatives, the row decides which of them counts.
  select m.named[1], bool_or(c.condition !~ '\m(OR|CASE)\M')
  from private.support_conjuncts(expression) as c (condition)
  cross join lateral regexp_matches(c.condition, 'org_ids_with\(''([a-z_]+:[a-z_]+)''', 'g') as m (named)
  group by m.named[1]
$$;
comment on function private.support_permissions(text) is 'The permissions that the expression of a policy asks. required: for every row; otherwise for some rows, or as an alternative.';

create function private.support_holds(relation regclass, expression text, row_id uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  holds boolean;
begin
  execute format('select (%s) from %s where id = $1', expression, relation) into holds using row_id;
  return coalesce(holds, false);
end
$$;
comment on function private.support_holds(regclass, text, uuid) is 'Whether the expression of a policy holds for a row and the caller of this moment; false if there is no such row. The expression comes from pg_policy.';

create function private.support_is_visible(relation regclass, row_id uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(bool_or(h.holds) filter (where h.permissive), false) and coalesce(bool_and(h.holds) filter (where not h.permissive), true)
    from (
      select p.permissive, private.support_holds(relation, p.expression, row_id) as holds
      from private.support_policies(relation, 'select') as p
    ) as h
  );
end
$$;
comment on function private.support_is_visible(regclass, uuid) is 'Whether the policies show the row to the caller of this moment.';

create function private.support_is_hidden_by_project(relation regclass, row_id uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  checks constant text[] := array(
    select format('%I = any (array(select private.%I()))', c.column_name, c.hidden_ids)
    from (
      values ('project_id', 'projects_hidden_ids'), ('skill_id', 'skills_hidden_ids')
    ) as c (column_name, hidden_ids)
    join pg_attribute as a on a.attrelid = relation and a.attname = c.column_name and not a.attisdropped
    union all
    select 'id = any (array(select private.projects_hidden_ids()))' where relation = 'public.projects'::regclass
  );
begin
  return checks <> '{}' and private.support_holds(relation, array_to_string(checks, ' or '), row_id);
end
$$;
comment on function private.support_is_hidden_by_project(regclass, uuid) is 'Whether a private project hides the row from the caller of this moment.';

create function private.support_permission(permission text, required boolean, subject jsonb, org uuid) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'permission', support_permission.permission,
    'required', support_permission.required,
    'held', coalesce(org = any (array(select private.org_ids_with(support_permission.permission))), false),
    -- Of a custom role or a key: the entries of its list that grant it.
    'entries', (
      select coalesce(jsonb_agg(e.entry order by e.entry), '[]')
      from jsonb_array_elements_text(case jsonb_typeof(subject -> 'entries') when 'array' then subject -> 'entries' else '[]' end) as e (entry)
      where e.entry = any (private.tenancy_granted_by(support_permission.permission))
    ),
    -- Of a key: whether the member who bounds it holds the permission. Null for a user, and for a key that nobody bounds.
    'member_holds', support_permission.permission = any (case when subject ->> 'bounded_by' is not null then private.tenancy_member_permissions((subject ->> 'bounded_by')::uuid, org) end),
    'lowest_role', (
      select r.role from private.role_permissions as p join private.roles as r on r.role = p.holder
      where p.permission = support_permission.permission order by r.rank limit 1
    )
  )
$$;
comment on function private.support_permission(text, boolean, jsonb, uuid) is 'A permission that a policy asks: whether the caller of this moment holds it in the organization, which entries of the subject''s list grant it, and the lowest role that holds it.';

create function private.support_findings(relation regclass, operation text, row_id uuid, subject jsonb, org uuid) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'policies', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'policy', p.policy,
        'step', p.step,
        'clause', p.clause,
        'permissive', p.permissive,
        'holds', case when row_id is not null then private.support_holds(relation, p.expression, row_id) end,
        'permissions', (
          select coalesce(jsonb_agg(private.support_permission(n.permission, n.required, subject, org) order by n.permission), '[]')
          from private.support_permissions(p.expression) as n
        )
      )), '[]')
      from private.support_policies(relation, operation) as p
    ),
    'private_project', row_id is not null and private.support_is_hidden_by_project(relation, row_id)
  );
end
$$;
comment on function private.support_findings(regclass, text, uuid, jsonb, uuid) is 'What the policies say to the caller of this moment.';

create function private.support_become(subject jsonb, org uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  id constant uuid := (subject ->> 'id')::uuid;
begin
  -- The header x-org-id is the caller's.
  perform set_config('request.headers', '{}', true);
  -- An organization does not learn whom its members meet in others. The back office may.
  perform set_config('kijko_support.org_id', case when current_setting('role') <> 'service_role' then org::text else '' end, true);
  if subject ->> 'kind' = 'user' then
    -- As with a second factor: what a session without one lacks is not a matter of policies.
    perform set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', id, 'aal', 'aal2')::text, true);
    -- The caller may be a key.
    perform kijko.assume_api_key(null);
  else
    perform set_config('request.jwt.claims', '{"role": "anon"}', true);
    perform kijko.assume_api_key(id); -- false, and no change, if it is blocked for a reason that support_key() does not know
  end if;
  -- In a session whose claims do not count, the policies would be asked by somebody else.
  if (case when subject ->> 'kind' = 'user' then (kijko.actor()).kind = 'user' and kijko.user_id() = id else kijko.api_key_id() = id end) is not true then
    perform kijko.fail('bad_request', 'explain_access() works only in requests through PostgREST');
  end if;
end
$$;
comment on function private.support_become(jsonb, uuid) is 'Makes the subject the caller until the end of the subtransaction; for an organization that asks, one who sees profiles by that organization only.';

create function private.support_examine(relation regclass, operation text, row_id uuid, subject jsonb, org uuid) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  findings jsonb;
begin
  begin
    perform private.support_become(subject, org);
    findings := private.support_findings(relation, operation, row_id, subject, org);
    -- Always fails: only the rollback ends the impersonation for certain.
    perform kijko.fail('internal', 'the examination is over');
  exception when others then
    if findings is null then
      raise;
    end if;
  end;
  return findings;
end
$$;
comment on function private.support_examine(regclass, text, uuid, jsonb, uuid) is 'What the policies say to the subject. The caller is the same afterwards, also after an error.';
