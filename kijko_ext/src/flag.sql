create sequence kijko.flag_revision;
comment on sequence kijko.flag_revision is 'Revisions of the definitions of flags. A sequence does not roll back, so no revision is given twice.';

create table kijko.flag_snapshots (
    environment text collate "C" primary key check (pg_catalog.octet_length(environment) between 1 and 63),
    revision bigint not null,
    definitions text not null check (pg_catalog.octet_length(definitions) <= 524288)
);
comment on table kijko.flag_snapshots is 'Definitions of the platform''s flags. The domain writes them by kijko.put_flag_snapshot().';
comment on column kijko.flag_snapshots.environment is 'The environment.';
comment on column kijko.flag_snapshots.revision is 'Changes with the definitions.';
comment on column kijko.flag_snapshots.definitions is 'Flags and segments as Unleash''s Client API has them: {version, features, segments}.';
select pg_catalog.pg_extension_config_dump('kijko.flag_revision', '');
select pg_catalog.pg_extension_config_dump('kijko.flag_snapshots', '');

create table kijko.flag_evaluations (
    environment text collate "C" not null check (pg_catalog.octet_length(environment) between 1 and 63),
    flag text collate "C" not null,
    variant text collate "C" not null,
    hour timestamptz not null,
    yes bigint not null,
    no bigint not null,
    primary key (hour, environment, flag, variant)
) with (fillfactor = 70);
comment on table kijko.flag_evaluations is 'How often the platform''s flags were evaluated, until kijko.take_flag_evaluations() takes it. The background worker adds to it each second; a crash loses what was evaluated since. Rows that nobody takes are deleted after 90 days.';
comment on column kijko.flag_evaluations.environment is 'The environment.';
comment on column kijko.flag_evaluations.flag is 'Name of the flag.';
comment on column kijko.flag_evaluations.variant is 'The variant that was given; empty for none.';
comment on column kijko.flag_evaluations.hour is 'Beginning of the hour, in product time.';
comment on column kijko.flag_evaluations.yes is 'How often it was on.';
comment on column kijko.flag_evaluations.no is 'How often it was off.';
select pg_catalog.pg_extension_config_dump('kijko.flag_evaluations', '');

create function kijko.take_flag_evaluations(max_rows integer default 1000) returns setof kijko.flag_evaluations
    language sql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
    delete from kijko.flag_evaluations as e
    where e.ctid = any (array(
        select t.ctid from kijko.flag_evaluations as t
        order by t.hour, t.environment, t.flag, t.variant limit greatest(max_rows, 0) for update skip locked
    ))
    returning e.*
$$;
comment on function kijko.take_flag_evaluations(integer) is 'Takes rows of kijko.flag_evaluations, the oldest first: a transaction that rolls back leaves them there. For the domain, which keeps them with the evaluations of organizations.';

create function kijko.put_flag_snapshot(environment text, definitions jsonb) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if put_flag_snapshot.environment is null or pg_catalog.octet_length(put_flag_snapshot.environment) not between 1 and 63 then
        perform kijko.fail('invalid_input', 'environment: 1 to 63 bytes');
    elsif put_flag_snapshot.definitions is null then
        delete from kijko.flag_snapshots as s where s.environment = put_flag_snapshot.environment;
        return;
    elsif pg_catalog.jsonb_typeof(put_flag_snapshot.definitions -> 'features') is distinct from 'array' then
        perform kijko.fail('invalid_input', 'definitions: {version, features, segments}');
    elsif pg_catalog.octet_length(put_flag_snapshot.definitions::text) > 524288 then
        perform kijko.fail('invalid_input', 'definitions: at most 512 KiB');
    end if;
    insert into kijko.flag_snapshots as s (environment, revision, definitions)
    values (put_flag_snapshot.environment, pg_catalog.nextval('kijko.flag_revision'), put_flag_snapshot.definitions::text)
    on conflict on constraint flag_snapshots_pkey do update set revision = excluded.revision, definitions = excluded.definitions;
end
$$;
comment on function kijko.put_flag_snapshot(text, jsonb) is 'Sets the definitions of the platform''s flags of an environment, from the next statement on; null deletes them. Fails with invalid_input.';

comment on function kijko.flag_enabled(text, jsonb, text) is 'Whether a flag of the platform is on, for a context of Unleash''s form (userId, sessionId, remoteAddress, properties …). False for null, and for a flag that does not exist. For policies and functions. Each evaluation is counted in shared memory.';
comment on function kijko.flag_variant(text, jsonb, text) is 'The variant of a flag of the platform: {name, enabled, feature_enabled, payload}. Null for a flag that does not exist.';
comment on function kijko.flags(jsonb, text) is 'All flags of the platform for a context: a list of {name, enabled, impressionData, variant}.';
comment on function kijko.flag_problem(text, jsonb) is 'Why a part of a flag (strategy, constraints or variants) cannot work; null if it can.';
