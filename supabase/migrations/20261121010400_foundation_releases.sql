-- ============================================================================
-- Foundation: which releases of Kijko this database has had.
-- ============================================================================

create table private.releases (
  release text primary key check (char_length(release) <= 50 and release ~ '^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$'),
  applied_at timestamptz not null default clock_timestamp()
);
comment on table private.releases is 'Releases that were applied to this database, by ./kijko or the migrate container. One that is older than the newest refuses to start on it.';
comment on column private.releases.release is 'Semantic version.';
comment on column private.releases.applied_at is 'When it was first applied, by the real clock.';
select private.describe_data('private.releases', '{"release, applied_at": "tells which release the database is of"}', 'platform');
alter table private.releases enable row level security;

create function private.record_release(release text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.releases (release) values (record_release.release) on conflict do nothing;
  return found;
end
$$;
comment on function private.record_release(text) is 'Records that a release was applied; false when it was already. For ./kijko and the migrate container.';
