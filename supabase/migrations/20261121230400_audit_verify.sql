-- ============================================================================
-- Audit: is the chain whole, and the log as lines of JSON.
-- ============================================================================

create function private.audit_entry_faults(org uuid, first_seal bigint, last_seal bigint)
returns table (fault text, seal bigint, place bigint, entry_id uuid, is_erased boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select
    case
      when e.id is null then 'entry_deleted'
      when private.audit_entry_digest(e) is distinct from s.digests[c.i] then 'entry_changed'
    end,
    s.seal, s.first_position + c.i - 1, s.entry_ids[c.i], e.origin_salt is null or e.personal_salt is null
  from private.audit_seals as s
  cross join lateral generate_subscripts(s.entry_ids, 1) as c (i)
  left join public.audit_log as e on e.id = s.entry_ids[c.i] and e.org_id = s.organization
  where s.organization = org and s.seal between first_seal and last_seal
$$;
comment on function private.audit_entry_faults(uuid, bigint, bigint) is 'Every entry of these seals: entry_deleted, entry_changed or null, and whether data of a person was erased. Nullable: fault, is_erased.';

create function private.audit_seal_faults(org uuid, first_seal bigint, last_seal bigint, before_hash bytea)
returns table (fault text, seal bigint, place bigint)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'seal_changed', s.seal, s.first_position
  from private.audit_seals as s
  where s.organization = org and s.seal between first_seal and last_seal
    and s.hash <> private.audit_seal_hash(s.previous_hash, s.organization, s.seal, s.first_position, s.entry_ids, s.digests)
  union all
  select case when l.former_seal is distinct from l.seal - 1 then 'seal_missing' else 'seal_changed' end, l.seal, l.first_position
  from (
    select s.seal, s.first_position, s.previous_hash,
      lag(s.seal, 1, first_seal - 1) over (order by s.seal) as former_seal, lag(s.hash, 1, before_hash) over (order by s.seal) as former_hash
    from private.audit_seals as s
    where s.organization = org and s.seal between first_seal and last_seal
  ) as l
  where l.former_seal is distinct from l.seal - 1 or l.former_hash is distinct from l.previous_hash
$$;
comment on function private.audit_seal_faults(uuid, bigint, bigint, bytea) is 'Seals whose own hash is wrong (seal_changed), that do not continue the one before (seal_changed), or before which one is missing (seal_missing).';

create function private.audit_end_faults(org uuid, known_seal bigint, known_hash text)
returns table (fault text, seal bigint, entry_id uuid)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'truncated', h.seal, null::uuid
  from private.audit_heads as h
  where h.organization = org and h.seal > h.checkpoint_seal
    and not exists (select 1 from private.audit_seals as s where s.organization = org and s.seal = h.seal and s.hash = h.hash)
  union all
  select 'truncated', s.seal, null
  from private.audit_heads as h
  join private.audit_seals as s on s.organization = h.organization and s.seal > h.seal
  where h.organization = org
  union all
  -- Every organization has a first entry. Without a head nothing was sealed yet, or the whole chain is gone.
  select 'truncated', 0, null
  where not exists (select 1 from private.audit_heads as h where h.organization = org)
    and (
      not exists (select 1 from public.audit_log as e where e.org_id = org)
      or exists (select 1 from private.audit_seals as s where s.organization = org)
    )
  union all
  -- What the caller has noted of the chain must still be in it.
  select 'truncated', known_seal, null
  where known_seal > coalesce((select h.checkpoint_seal from private.audit_heads as h where h.organization = org), 0) and not exists (
    select 1 from private.audit_seals as s where s.organization = org and s.seal = known_seal and encode(s.hash, 'hex') = lower(known_hash)
  )
  union all
  -- The entry that says what was deleted is itself in the chain.
  select 'checkpoint_unknown', h.checkpoint_seal, null
  from private.audit_heads as h
  where h.organization = org and h.checkpoint_seal > 0 and not exists (
    select 1 from public.audit_log as e
    where e.org_id = org and e.action = 'audit.purged' and e.after ->> 'hash' = encode(h.checkpoint_hash, 'hex')
      and e.after ->> 'seal' = h.checkpoint_seal::text
  )
  union all
  select 'entry_inserted', null, i.id
  from (
    select e.id
    from private.audit_heads as h
    join public.audit_log as e on e.org_id = h.organization and (e.xid < h.horizon or e.seq <= h.base_seq)
    where h.organization = org and h.cluster = (select c.system_identifier from pg_control_system() as c)
    except
    select unnest(s.entry_ids) from private.audit_seals as s where s.organization = org
  ) as i
$$;
comment on function private.audit_end_faults(uuid, bigint, text) is 'What is wrong with the ends of a chain: truncated, checkpoint_unknown, or entry_inserted behind a seal. Nullable: seal, entry_id.';

create function private.audit_verify(
  org uuid, after_seal bigint default 0, max_seals bigint default null, known_seal bigint default null, known_hash text default null
) returns jsonb
-- Stable: all its queries see one snapshot, whatever is sealed or purged meanwhile.
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  head private.audit_heads;
  first_seal bigint;
  last_seal bigint;
  before_hash bytea;
  faults jsonb;
  counted record;
begin
  select h.* into head from private.audit_heads as h where h.organization = org;
  first_seal := greatest(after_seal, head.checkpoint_seal, 0) + 1;
  last_seal := least(coalesce(head.seal, 0), first_seal - 1 + coalesce(max_seals, head.seal));
  before_hash := case
    when first_seal - 1 = coalesce(head.checkpoint_seal, 0) then coalesce(head.checkpoint_hash, decode(repeat('00', 32), 'hex'))
    else (select s.hash from private.audit_seals as s where s.organization = org and s.seal = first_seal - 1)
  end;
  select count(*) as entries, count(*) filter (where e.is_erased) as erased,
    coalesce(
      jsonb_agg(jsonb_build_object('fault', e.fault, 'seal', e.seal, 'position', e.place, 'entry_id', e.entry_id) order by e.place) filter (where e.fault is not null),
      '[]'
    ) as faults
  into counted
  from private.audit_entry_faults(org, first_seal, last_seal) as e;
  select counted.faults || coalesce(jsonb_agg(f.fault), '[]') into faults
  from (
    select jsonb_build_object('fault', s.fault, 'seal', s.seal, 'position', s.place) as fault
    from private.audit_seal_faults(org, first_seal, last_seal, before_hash) as s
    union all
    select jsonb_strip_nulls(jsonb_build_object('fault', e.fault, 'seal', e.seal, 'entry_id', e.entry_id))
    from private.audit_end_faults(org, known_seal, known_hash) as e
  ) as f;
  return jsonb_build_object(
    'ok', faults = '[]', 'faults', jsonb_path_query_array(faults, '$[0 to 99]'), 'fault_count', jsonb_array_length(faults),
    'entries', counted.entries, 'erased', counted.erased,
    'seals', greatest(last_seal - first_seal + 1, 0), 'last_seal', last_seal, 'is_complete', last_seal >= coalesce(head.seal, 0),
    'head', jsonb_build_object('seal', coalesce(head.seal, 0), 'position', coalesce(head.position, 0), 'hash', encode(head.hash, 'hex')),
    'checkpoint', jsonb_build_object('seal', coalesce(head.checkpoint_seal, 0), 'position', coalesce(head.checkpoint_position, 0))
  );
end
$$;
comment on function private.audit_verify(uuid, bigint, bigint, bigint, text) is 'Checks the chain of an organization, for operators: of all seals, or of max_seals after after_seal. known_seal and known_hash: a seal that was noted earlier and must still be in it. Answers as verify_audit_chain().';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function private.audit_require_org(org_id uuid) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid := audit_require_org.org_id;
begin
  if (kijko.actor()).kind = 'service' then
    if org is null then
      perform kijko.fail('invalid_input', 'org_id: which organization');
    end if;
    return org;
  end if;
  org := coalesce(org, private.tenancy_require_org());
  -- A stranger must not learn whether the organization exists.
  if not exists (select 1 from public.org_ids() as mine (id) where mine.id = org) then
    perform kijko.fail('not_a_member', 'org_id: not an organization of the caller');
  elsif not public.can(org, 'audit:read') then
    perform kijko.fail('permission_denied', 'requires the permission audit:read');
  end if;
  return org;
end
$$;
comment on function private.audit_require_org(uuid) is 'The organization whose log the caller may read: the given one, or that of the request. The back office names one. Fails with not_a_member or permission_denied.';

create function public.verify_audit_chain(
  org_id uuid default null, after_seal bigint default 0, max_seals bigint default null, known_seal bigint default null, known_hash text default null
) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.audit_require_org(verify_audit_chain.org_id);
begin
  if verify_audit_chain.after_seal < 0 or verify_audit_chain.max_seals < 1 or (verify_audit_chain.known_seal is null) <> (verify_audit_chain.known_hash is null) then
    perform kijko.fail('invalid_input', 'after_seal: 0 or more; max_seals: 1 or more; known_seal and known_hash: both or none');
  end if;
  return private.audit_verify(
    org, verify_audit_chain.after_seal, verify_audit_chain.max_seals, verify_audit_chain.known_seal, verify_audit_chain.known_hash
  );
end
$$;
comment on function public.verify_audit_chain(uuid, bigint, bigint, bigint, text) is 'Checks whether the audit log of an organization is as it was sealed: {ok, faults, entries, head, …}. Requires audit:read. max_seals and after_seal check a long chain in parts. known_seal and known_hash: a head that an earlier call returned, which must still be in the chain. Definer: seals are private.';
grant execute on function public.verify_audit_chain(uuid, bigint, bigint, bigint, text) to authenticated, service_role;

create function public.export_audit_log(org_id uuid default null, after_position bigint default 0, max_rows integer default 1000) returns setof jsonb
language plpgsql stable security definer rows 1000 set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.audit_require_org(export_audit_log.org_id);
begin
  if (kijko.actor()).kind <> 'service' then
    perform private.plans_require(org, 'audit_export');
  end if;
  if (export_audit_log.after_position >= 0 and export_audit_log.max_rows between 1 and 1000) is not true then
    perform kijko.fail('invalid_input', 'after_position: 0 or more; max_rows: 1 to 1000');
  end if;
  return query
  select jsonb_build_object('position', p.place, 'seal', p.seal, 'digest', encode(p.digest, 'hex'), 'seal_hash', encode(p.hash, 'hex'), 'entry', to_jsonb(e))
  from (
    select s.seal, s.hash, s.first_position + c.i - 1 as place, s.entry_ids[c.i] as id, s.digests[c.i] as digest
    from (
      select k.* from private.audit_seals as k
      -- The last that begins at or before the place, and those after it; each has one entry at least.
      where k.organization = org and k.first_position >= coalesce((
        select max(b.first_position) from private.audit_seals as b where b.organization = org and b.first_position <= export_audit_log.after_position + 1
      ), 0)
      order by k.first_position
      limit export_audit_log.max_rows + 1
    ) as s
    cross join lateral generate_subscripts(s.entry_ids, 1) as c (i)
    where s.first_position + c.i - 1 > export_audit_log.after_position
    order by place
    limit export_audit_log.max_rows
  ) as p
  left join public.audit_log as e on e.id = p.id and e.org_id = org
  order by p.place;
end
$$;
comment on function public.export_audit_log(uuid, bigint, integer) is 'The sealed entries of an organization in the order of the chain, after a place in it, at most max_rows (1,000): one JSON value for each, to be written as a line. Requires audit:read. entry is null if somebody deleted it. The position of the last line is after_position of the next call. Definer: seals are private.';
grant execute on function public.export_audit_log(uuid, bigint, integer) to authenticated, service_role;
