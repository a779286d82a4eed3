-- ============================================================================
-- Support: explain_access().
-- ============================================================================

create function private.support_rights(relation regclass, operation text) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'role', 'authenticated',
    'held', g.whole or cardinality(g.columns) > 0,
    'columns', case when not g.whole then to_jsonb(g.columns) end
  )
  from (
    select has_table_privilege('authenticated', relation, operation) as whole,
      array(
        select a.attname from pg_attribute as a
        where operation <> 'delete' and a.attrelid = relation and a.attnum > 0 and not a.attisdropped
          and has_column_privilege('authenticated', relation, a.attnum, operation)
        order by a.attnum
      ) as columns
  ) as g
$$;
comment on function private.support_rights(regclass, text) is 'The right of users and keys on the table. Its columns are listed if it is not the whole table''s.';

create function private.support_missing(policy jsonb) returns setof text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select p.permission ->> 'permission'
  from jsonb_array_elements(policy -> 'permissions') as p (permission)
  where not (p.permission ->> 'held')::boolean
    and (
      (p.permission ->> 'required')::boolean
      or not exists (
        select 1 from jsonb_array_elements(policy -> 'permissions') as o (permission)
        where (o.permission ->> 'required')::boolean or (o.permission ->> 'held')::boolean
      )
    )
$$;
comment on function private.support_missing(jsonb) is 'The permissions that the subject lacks for a policy: those that it requires, or all of its alternatives.';

create function private.support_policy_verdict(policy jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(policy -> 'holds') = 'boolean' then (policy ->> 'holds')::boolean
    when not exists (select 1 from private.support_missing(policy)) then true
    when exists (select 1 from jsonb_array_elements(policy -> 'permissions') as p (permission) where (p.permission ->> 'required')::boolean) then false
  end
$$;
comment on function private.support_policy_verdict(jsonb) is 'Whether a policy lets the subject through. Without a row its permissions say so; null if it has other alternatives than permissions. Nullable: result.';

create function private.support_steps(policies jsonb) returns table (step text, allows boolean)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select p.policy ->> 'step',
    -- Of the permissive policies one must hold, of the restrictive ones all. A step without policies allows nothing.
    coalesce(bool_or(v.verdict) filter (where (p.policy ->> 'permissive')::boolean), case when bool_or(v.verdict is null) then null else false end)
      and coalesce(bool_and(v.verdict) filter (where not (p.policy ->> 'permissive')::boolean), true)
  from jsonb_array_elements(policies) as p (policy)
  cross join lateral (select private.support_policy_verdict(p.policy)) as v (verdict)
  group by p.policy ->> 'step', p.policy ->> 'clause'
$$;
comment on function private.support_steps(jsonb) is 'What the policies of each step and clause say together. Nullable: allows.';

create function private.support_reasons(answer jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    jsonb_agg(
      jsonb_strip_nulls(jsonb_build_object('code', r.code, 'policy', r.policy, 'permission', r.permission)) order by r.place, r.policy, r.permission
    ), '[]'
  )
  from (
    select 1, b.code, null, null from jsonb_array_elements_text(answer #> '{subject,blocked}') as b (code)
    union
    select 2, 'not_a_member', null, null
    where answer ->> 'org_id' is not null
      and case
        when answer #>> '{subject,kind}' = 'user' then answer #>> '{subject,role}' is null
        else answer #>> '{subject,org_id}' <> answer ->> 'org_id'
      end
    union
    select 3, 'no_right', null, null where not (answer #>> '{rights,held}')::boolean
    union
    select 4, 'read_only_key', null, null where (answer #>> '{subject,read_only}')::boolean and answer ->> 'operation' <> 'select'
    union
    select 5, 'private_project', null, null where (answer ->> 'private_project')::boolean
    union
    select 6, 'permission_missing', p.policy ->> 'policy', n.permission
    from jsonb_array_elements(answer -> 'policies') as p (policy)
    cross join lateral private.support_missing(p.policy) as n (permission)
    where private.support_policy_verdict(p.policy) is not true
    union
    select 7, 'policy_refuses', p.policy ->> 'policy', null
    from jsonb_array_elements(answer -> 'policies') as p (policy)
    where private.support_policy_verdict(p.policy) is false
      and not (answer ->> 'private_project')::boolean
      and not exists (select 1 from private.support_missing(p.policy))
  ) as r (place, code, policy, permission)
$$;
comment on function private.support_reasons(jsonb) is 'What stands against the operation, as {code, policy, permission}; the guide of support lists the codes.';

create function private.support_verdict(answer jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (
      select 1 from jsonb_array_elements(answer -> 'reasons') as r (reason)
      where r.reason ->> 'code' not in ('not_a_member', 'permission_missing', 'policy_refuses', 'private_project')
    ) then false
    when not exists (select 1 from private.support_steps(answer -> 'policies') as s where s.step = answer ->> 'operation') then false
    when (select bool_or(s.allows is false) from private.support_steps(answer -> 'policies') as s) then false
    when (select bool_or(s.allows is null) from private.support_steps(answer -> 'policies') as s) then null
    else true
  end
$$;
comment on function private.support_verdict(jsonb) is 'Whether the subject may do the operation: its rights and its state, and then the policies. Null if that depends on the row. Nullable: result.';

create function private.support_subject(subject uuid, org uuid, back_office boolean) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  about jsonb := coalesce(private.support_user(subject, org), private.support_key(subject));
begin
  -- The same answer if the subject does not exist and if it is somebody else's.
  if about is null or not back_office and (case about ->> 'kind'
    when 'user' then about ->> 'role' is null or not public.can(org, 'members:read')
    else about ->> 'org_id' <> org::text or not public.can(org, 'api_keys:read')
  end) then
    perform kijko.fail('not_found', 'subject: no member and no API key of the organization');
  end if;
  -- The rest of what the caller may not see of it.
  if not back_office and not public.can(org, 'members:read') then
    about := about || '{"role": null, "custom_role": null, "bounded_by": null}';
  end if;
  if not back_office and not public.can(org, 'roles:read') then
    about := about || case about ->> 'kind' when 'user' then '{"custom_role": null, "entries": null}'::jsonb else '{"custom_role": null}' end;
  end if;
  return about;
end
$$;
comment on function private.support_subject(uuid, uuid, boolean) is 'The user or API key that is asked about. Fails with not_found unless it is a member or key of the organization and the caller may see members or keys; for the back office, unless it exists. Without members:read and roles:read it leaves out roles.';

create function public.explain_access(subject uuid, table_name text, operation text, row_id uuid default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- The setting is the role of the request. Neither a definer function nor a user can change it.
  back_office constant boolean := current_setting('role') = 'service_role';
  org uuid := case when back_office then kijko.requested_org_id() else private.tenancy_require_org_with('audit:read') end;
  relation regclass;
  place record;
  about jsonb;
  answer jsonb;
begin
  if (explain_access.operation in ('select', 'insert', 'update', 'delete')) is not true then
    perform kijko.fail('invalid_input', 'operation: select, insert, update or delete');
  end if;
  relation := private.support_relation(explain_access.table_name);
  if explain_access.row_id is not null then
    select r.is_there, r.org_id into place from private.support_row_org(relation, explain_access.row_id) as r;
    -- Who does not see the row does not learn that it exists.
    if not place.is_there or not back_office and (
      -- What a member sees elsewhere is not the organization's: of the rows of no organization only its members' profiles count.
      place.org_id is distinct from org
      and not (relation = 'public.profiles'::regclass and exists (
        select 1 from public.memberships as m where m.org_id = org and m.user_id = explain_access.row_id
      ))
      or not private.support_is_visible(relation, explain_access.row_id)
    ) then
      perform kijko.fail('not_found', 'row_id: no such row');
    end if;
    org := coalesce(place.org_id, org);
  end if;
  about := private.support_subject(explain_access.subject, org, back_office);
  if org is null then
    org := coalesce((about ->> 'org_id')::uuid, (
      select a.active_org_id from private.active_organizations as a where a.user_id = explain_access.subject
    ));
    about := private.support_subject(explain_access.subject, org, back_office);
  end if;
  answer := jsonb_build_object(
    'table', explain_access.table_name, 'operation', explain_access.operation, 'row_id', explain_access.row_id, 'org_id', org,
    'subject', about, 'rights', private.support_rights(relation, explain_access.operation)
  ) || case
    -- Nobody can act by such a key, and so no policy is asked.
    when about ->> 'kind' <> 'user' and about -> 'blocked' <> '[]' then '{"policies": [], "private_project": false}'
    else private.support_examine(relation, explain_access.operation, explain_access.row_id, about, org)
  end;
  answer := answer || jsonb_build_object('reasons', private.support_reasons(answer));
  return jsonb_build_object('allowed', private.support_verdict(answer)) || answer;
end
$$;
comment on function public.explain_access(uuid, text, text, uuid) is 'Why a user or API key may or may not select, insert, update or delete: the rights on the table, each policy with the permissions that it asks, where the subject holds them from, and what stands against the operation. With row_id the policies are asked about that row, an insert as if it were added; without it their permissions are. For who holds audit:read in the organization of the request, about its members, keys and rows; for service_role about all. Definer: it evaluates policies as somebody else, and reads tables that no client reads.';
grant execute on function public.explain_access(uuid, text, text, uuid) to authenticated, service_role;
