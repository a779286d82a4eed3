-- ============================================================================
-- Issuers: what operators see of them.
-- ============================================================================

create function private.issuers_backlog()
returns table (active bigint, pending bigint, failing bigint, unverified bigint, disabled bigint, oldest_failing_seconds double precision)
language sql stable security definer
begin atomic
  select
    count(*) filter (where s.state = 'active'), count(*) filter (where s.state = 'pending'), count(*) filter (where s.state = 'failing'),
    count(*) filter (where s.state = 'unverified'), count(*) filter (where s.state = 'disabled'),
    coalesce(extract(epoch from now() - min(s.keys_at) filter (where s.state = 'failing')), 0)::double precision
  from (
    select i.keys_at, case
      when not i.enabled then 'disabled'
      when i.error is not null then case when i.jwks is null then 'unverified' else 'failing' end
      when i.jwks is null then 'pending'
      else 'active'
    end as state
    from kijko.issuers as i
  ) as s;
end;
comment on function private.issuers_backlog() is 'How many issuers are active, pending before their first keys, failing (the last good keys stay in use), unverified (there never were any) or disabled, and the age of the oldest keys of those that fail. No names: the readiness page shows it. Definer: the sidecar has no rights on the tables.';
grant execute on function private.issuers_backlog() to kijko_sidecar;
