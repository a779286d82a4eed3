-- A function of this extension that runs as its owner, a superuser, calls others by their qualified names. A role that
-- may create objects in the schema could add an overload that fits better and have it run as superuser. So the schema must
-- be empty, belongs to the superuser (a trusted extension's schema would belong to the role that installs it), and stays closed.
do $$
begin
    if exists (select from pg_catalog.pg_proc where pronamespace = 'kijko'::pg_catalog.regnamespace)
        or exists (select from pg_catalog.pg_class where relnamespace = 'kijko'::pg_catalog.regnamespace)
        or exists (select from pg_catalog.pg_type where typnamespace = 'kijko'::pg_catalog.regnamespace)
        or exists (select from pg_catalog.pg_operator where oprnamespace = 'kijko'::pg_catalog.regnamespace)
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'schema kijko is not empty',
            hint = 'The extension needs the schema for itself: drop what is in it first.';
    end if;
    execute pg_catalog.format('alter schema kijko owner to %I', current_user);
end
$$;
revoke all on schema kijko from public;
grant usage on schema kijko to public;
comment on schema kijko is 'Kijko''s extension: the caller of a request, limits, cron, signed tokens and sealed secrets. Nothing else may live here.';
