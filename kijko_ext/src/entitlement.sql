create table kijko.entitlements (
    org_id uuid not null,
    feature text collate "C" not null check (pg_catalog.octet_length(feature) <= 63 and feature ~ '^[a-z][a-z0-9_]*$'),
    primary key (org_id, feature)
);
comment on table kijko.entitlements is 'Which features an organization may use. The domain decides and writes them by kijko.set_entitlements().';
comment on column kijko.entitlements.org_id is 'The organization.';
comment on column kijko.entitlements.feature is 'Name of the feature.';
select pg_catalog.pg_extension_config_dump('kijko.entitlements', '');

create function kijko.entitled(org_id uuid, feature text) returns boolean
    language plpgsql stable parallel safe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from kijko.entitlements as e where e.org_id = entitled.org_id and e.feature = entitled.feature);
end
$$;
comment on function kijko.entitled(uuid, text) is 'Whether an organization may use a feature, as the running statement sees it; false for null. For policies and checks.';

create function kijko.set_entitlements(org_id uuid, features text[]) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if org_id is null or features is null or pg_catalog.array_position(features, null) is not null then
        perform kijko.fail('invalid_input', 'the organization and the features must not be null');
    end if;
    delete from kijko.entitlements as e where e.org_id = set_entitlements.org_id and not e.feature = any (features);
    insert into kijko.entitlements as e (org_id, feature)
    select set_entitlements.org_id, f.feature from pg_catalog.unnest(features) as f (feature)
    on conflict on constraint entitlements_pkey do nothing;
end
$$;
comment on function kijko.set_entitlements(uuid, text[]) is 'Sets which features an organization may use, all at once, from the next statement on. An empty array takes all away. Fails with invalid_input.';
