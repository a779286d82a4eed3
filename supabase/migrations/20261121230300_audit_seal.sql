-- ============================================================================
-- Audit: the chain.
--
-- A seal covers entries of one organization, in their order, and the seal before it: its hash is the SHA-256 of both. A job makes
-- seals after the commit. It takes entries of transactions that are older than all that still run, its horizon, so none can
-- appear behind a seal later, except by somebody who inserts it there: verify_audit_chain() finds it.
-- ============================================================================

create table private.audit_seals (
  organization uuid not null,
  seal bigint not null check (seal > 0),
  previous_hash bytea not null,
  hash bytea not null,
  first_position bigint not null check (first_position > 0),
  entry_ids uuid[] not null check (cardinality(entry_ids) between 1 and 1000),
  digests bytea[] not null check (cardinality(digests) = cardinality(entry_ids)),
  newest_at timestamptz not null,
  sealed_at timestamptz not null default now(),
  primary key (organization, seal)
);
create unique index audit_seals_first_position_key on private.audit_seals (organization, first_position);
comment on table private.audit_seals is 'The chain of each organization: which entries a seal covers, and the hash that binds them to all before. Append-only; deleted with its entries when their retention is over.';
comment on column private.audit_seals.organization is 'Whose chain it is.';
comment on column private.audit_seals.seal is 'Number in the chain, from 1 without gaps.';
comment on column private.audit_seals.previous_hash is 'Hash of the seal before; 32 zero bytes for the first.';
comment on column private.audit_seals.hash is 'SHA-256 of previous_hash, organization, number, first_position, the ids and the digests.';
comment on column private.audit_seals.first_position is 'Place of its first entry in the chain, from 1.';
comment on column private.audit_seals.entry_ids is 'Its entries in their order.';
comment on column private.audit_seals.digests is 'Their digests (private.audit_entry_digest).';
comment on column private.audit_seals.newest_at is 'Time of its newest entry.';
comment on column private.audit_seals.sealed_at is 'When it was made, by the clock of the server.';
select private.describe_data('private.audit_seals', '{
  "organization, seal, previous_hash, hash, first_position, entry_ids, digests, newest_at, sealed_at": {"purpose": "shows that no entry was changed", "export": "organization", "erasure": "retention"}
}');
alter table private.audit_seals enable row level security;

create table private.audit_heads (
  organization uuid primary key,
  seal bigint not null default 0 check (seal >= checkpoint_seal),
  position bigint not null default 0 check (position >= checkpoint_position),
  hash bytea not null default decode(repeat('00', 32), 'hex'),
  horizon xid8 not null default '0',
  base_seq bigint not null default 0,
  cluster bigint not null default 0,
  checkpoint_seal bigint not null default 0 check (checkpoint_seal >= 0),
  checkpoint_position bigint not null default 0 check (checkpoint_position >= 0),
  checkpoint_hash bytea not null default decode(repeat('00', 32), 'hex')
);
comment on table private.audit_heads is 'Both ends of each chain. A chain that ends earlier was truncated.';
comment on column private.audit_heads.organization is 'Whose chain it is.';
comment on column private.audit_heads.seal is 'Number of the last seal.';
comment on column private.audit_heads.position is 'Place of the last entry in the chain.';
comment on column private.audit_heads.hash is 'Hash of the last seal.';
comment on column private.audit_heads.horizon is 'Transactions before it had ended when the last seal was made. An entry of one that is in no seal was inserted.';
comment on column private.audit_heads.base_seq is 'Entries up to this number were written before the cluster''s first run of the job.';
comment on column private.audit_heads.cluster is 'Cluster to which the horizon belongs: a restored dump counts transactions anew.';
comment on column private.audit_heads.checkpoint_seal is 'Last seal that was deleted because its retention was over; 0 before.';
comment on column private.audit_heads.checkpoint_position is 'Place of its last entry.';
comment on column private.audit_heads.checkpoint_hash is 'Its hash, which the first seal that is kept continues.';
select private.describe_data('private.audit_heads', '{
  "organization, seal, position, hash, horizon, base_seq, cluster, checkpoint_seal, checkpoint_position, checkpoint_hash": {"purpose": "shows that the log was not truncated", "export": "none"}
}');
alter table private.audit_heads enable row level security;

create table private.audit_cursor (
  id boolean primary key default true check (id),
  horizon xid8 not null default '0',
  floor_seq bigint not null default 0,
  next_floor_seq bigint not null default 0,
  next_floor_xid xid8 not null default '0',
  base_seq bigint not null default 0,
  cluster bigint not null default 0
);
comment on table private.audit_cursor is 'Where the sealing job continues: one row, which its runs lock.';
comment on column private.audit_cursor.id is 'Always true: there is one row.';
comment on column private.audit_cursor.horizon is 'All entries of transactions before it are sealed.';
comment on column private.audit_cursor.floor_seq is 'All entries up to this number are sealed; a run reads those after it.';
comment on column private.audit_cursor.next_floor_seq is 'Becomes floor_seq once the horizon has reached next_floor_xid.';
comment on column private.audit_cursor.next_floor_xid is 'Entries up to next_floor_seq are of transactions before it.';
comment on column private.audit_cursor.base_seq is 'Entries up to this number were sealed by the cluster''s first run.';
comment on column private.audit_cursor.cluster is 'Cluster to which the numbers of transactions belong.';
select private.describe_data('private.audit_cursor', '{
  "id, horizon, floor_seq, next_floor_seq, next_floor_xid, base_seq, cluster": "continues where the last run ended"
}', 'platform');
alter table private.audit_cursor enable row level security;
insert into private.audit_cursor default values;

create function private.audit_guard_seal() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' or old.newest_at >= private.audit_keeps_since(old.organization) then
    perform kijko.fail('permission_denied', 'audit_seals: seals are kept as they are');
  end if;
  return old;
end
$$;
comment on function private.audit_guard_seal() is 'Trigger: seals never change, and are deleted only when their retention is over or their organization is gone. Definer: it reads plans and organizations.';
create trigger audit_seals_guard before update or delete on private.audit_seals
  for each row execute function private.audit_guard_seal();
create trigger audit_seals_truncate before truncate on private.audit_seals
  for each statement execute function private.refuse_change('audit_seals: seals are kept');
alter table private.audit_seals enable always trigger audit_seals_guard;
alter table private.audit_seals enable always trigger audit_seals_truncate;

-- ----------------------------------------------------------------------------
-- Digests. The text of an entry is that of a JSON array: no value can run into the next one.
-- ----------------------------------------------------------------------------

create function private.audit_entry_digest(entry public.audit_log) returns bytea
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return sha256(convert_to(jsonb_build_array(
  entry.id, entry.org_id, entry.xid::text, entry.seq, (extract(epoch from entry.created_at) * 1000000)::bigint,
  entry.action, entry.actor_kind, entry.database_role, entry.created_by, entry.created_by_key,
  entry.target_type, entry.target_id, entry.subject_user_id, entry.request_id, entry.before, entry.after,
  encode(private.audit_origin_digest(entry), 'hex'), encode(private.audit_personal_digest(entry), 'hex')
)::text, 'UTF8'));
comment on function private.audit_entry_digest(public.audit_log) is 'Digest of an entry: of all its columns, and of the salted digests in place of what is about a person. An erasure does not change it.';

create function private.audit_seal_hash(previous bytea, organization uuid, seal bigint, first_position bigint, entry_ids uuid[], digests bytea[]) returns bytea
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
-- By which digests are printed; a hash must not depend on the session.
set bytea_output = 'hex'
return sha256(previous || convert_to(jsonb_build_array(organization, seal, first_position, entry_ids, digests)::text, 'UTF8'));
comment on function private.audit_seal_hash(bytea, uuid, bigint, bigint, uuid[], bytea[]) is 'Hash of a seal.';

-- ----------------------------------------------------------------------------
-- Sealing
-- ----------------------------------------------------------------------------

create function private.audit_seal_entries(org uuid, entries uuid[], horizon xid8, base_seq bigint, cluster bigint) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  batch constant integer := 1000;
  head private.audit_heads;
  taken record;
  new_hash bytea;
  sealed integer := 0;
begin
  insert into private.audit_heads (organization) values (org) on conflict on constraint audit_heads_pkey do nothing;
  select h.* into head from private.audit_heads as h where h.organization = org for update;
  for taken in
    select array_agg(u.id order by u.place) as ids, array_agg(u.digest order by u.place) as digests, max(u.created_at) as newest_at
    from (
      select e.id, e.created_at, private.audit_entry_digest(e) as digest, row_number() over (order by e.seq) as place
      from public.audit_log as e
      where e.org_id = org and e.id = any (entries)
        -- An earlier run may have sealed some, and then failed for another organization.
        and case
          when head.cluster = audit_seal_entries.cluster then e.xid >= head.horizon and e.seq > head.base_seq
          else e.id not in (select unnest(k.entry_ids) from private.audit_seals as k where k.organization = org)
        end
    ) as u
    group by (u.place - 1) / batch
    order by min(u.place)
  loop
    new_hash := private.audit_seal_hash(head.hash, org, head.seal + 1, head.position + 1, taken.ids, taken.digests);
    insert into private.audit_seals (organization, seal, previous_hash, hash, first_position, entry_ids, digests, newest_at)
    values (org, head.seal + 1, head.hash, new_hash, head.position + 1, taken.ids, taken.digests, taken.newest_at);
    head.seal := head.seal + 1;
    head.position := head.position + cardinality(taken.ids);
    head.hash := new_hash;
    sealed := sealed + cardinality(taken.ids);
  end loop;
  update private.audit_heads as h
  set seal = head.seal, position = head.position, hash = head.hash,
    horizon = audit_seal_entries.horizon, base_seq = audit_seal_entries.base_seq, cluster = audit_seal_entries.cluster
  where h.organization = org;
  return sealed;
end
$$;
comment on function private.audit_seal_entries(uuid, uuid[], xid8, bigint, bigint) is 'Continues the chain of an organization by those of the entries that are in no seal, up to 1,000 in each, and returns how many.';

create function private.audit_seal() returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '10s'
as $$
declare
  here constant bigint := (select s.system_identifier from pg_control_system() as s);
  place private.audit_cursor;
  is_first boolean;
  drawn bigint;
  taken record;
  sealed integer := 0;
  failed boolean := false;
begin
  select c.* into place from private.audit_cursor as c for update skip locked;
  if not found then
    return 0; -- another run is at it
  end if;
  -- In a new cluster, such as that of a restored dump, numbers of transactions say nothing about older rows. Once, no writer is under way.
  is_first := place.cluster <> here;
  if is_first then
    lock table public.audit_log in share mode;
  end if;
  drawn := (select q.last_value from public.audit_log_seq_seq as q); -- before the snapshot of what follows
  place.base_seq := case when is_first then drawn else place.base_seq end;
  -- One statement, one snapshot: what it leaves out has a transaction at or after its horizon.
  for taken in
    select n.org_id, n.ids, pg_snapshot_xmin(pg_current_snapshot()) as horizon, pg_snapshot_xmax(pg_current_snapshot()) as ceiling
    from (select) as always
    left join (
      select e.org_id, array_agg(e.id) as ids
      from public.audit_log as e
      where e.seq > place.floor_seq
        and (is_first or e.seq > place.base_seq and e.xid >= place.horizon and e.xid < pg_snapshot_xmin(pg_current_snapshot()))
      group by e.org_id
    ) as n on true
  loop
    begin
      if taken.org_id is not null then
        sealed := sealed + private.audit_seal_entries(taken.org_id, taken.ids, taken.horizon, place.base_seq, here);
      end if;
    exception when others then
      failed := true;
      raise warning 'audit log of organization %: not sealed: %', taken.org_id, sqlerrm;
    end;
  end loop;
  if failed then
    return sealed;
  end if;
  update private.audit_cursor as c
  set horizon = taken.horizon, base_seq = place.base_seq, cluster = here,
    floor_seq = case when is_first then drawn when taken.horizon >= c.next_floor_xid then c.next_floor_seq else c.floor_seq end,
    next_floor_seq = case when is_first or taken.horizon >= c.next_floor_xid then drawn else c.next_floor_seq end,
    next_floor_xid = case when is_first or taken.horizon >= c.next_floor_xid then taken.ceiling else c.next_floor_xid end;
  return sealed;
end
$$;
comment on function private.audit_seal() is 'Called by pg_cron each minute: seals what was committed, for each organization, and returns how many entries. One organization that fails does not stop the others. A transaction that runs for long holds up the entries after it.';
-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-audit-seal', '* * * * *', 'perform private.audit_seal()');
