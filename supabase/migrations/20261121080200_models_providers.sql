-- ============================================================================
-- Models: the providers that are on.
--
-- A provider is on while a sidecar that runs jobs has its key. Sidecars report theirs when they start and every minute. A report
-- counts for an hour, so that a restart, or a database that was away, switches nothing off. Times are of the real clock.
-- ============================================================================

create table private.model_providers (
  provider text primary key check (char_length(provider) <= 63 and provider ~ '^[a-z0-9][a-z0-9_.-]*$'),
  reported_at timestamptz not null default clock_timestamp()
);
comment on table private.model_providers is 'Providers of models that sidecars have reported.';
comment on column private.model_providers.provider is 'The part of a model''s name before the slash.';
comment on column private.model_providers.reported_at is 'When a sidecar last reported it.';
select private.describe_data('private.model_providers', '{"provider, reported_at": "says which models can be called"}', 'platform');
alter table private.model_providers enable row level security;

create function private.models_report_providers(providers text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- In one order, so that two sidecars do not deadlock.
  insert into private.model_providers as p (provider)
  select distinct r.provider from unnest(providers) as r (provider) order by r.provider
  on conflict (provider) do update set reported_at = clock_timestamp()
  -- Many sidecars report the same ones.
  where p.reported_at < clock_timestamp() - interval '30 seconds';
end
$$;
comment on function private.models_report_providers(text[]) is 'Records the providers that a sidecar has keys for. Definer: the sidecar holds no table rights.';
grant execute on function private.models_report_providers(text[]) to kijko_sidecar;

-- In plpgsql for its cached plan.
create function private.models_unavailable_reason(model text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  needed constant text := private.models_provider(model);
begin
  return (
    select format('no worker has a key for %s', needed)
    where exists (select 1 from private.model_providers as r where r.reported_at > clock_timestamp() - interval '1 hour')
      and not exists (
        select 1 from private.model_providers as r where r.provider = needed and r.reported_at > clock_timestamp() - interval '1 hour'
      )
  );
end
$$;
comment on function private.models_unavailable_reason(text) is 'Why no worker can call this model, or null when one can. While no sidecar has reported anything, every model counts as available.';
