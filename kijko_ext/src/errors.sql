create table kijko.error_codes (
    code text primary key check (code ~ '^[a-z_]+$'),
    http_status integer not null check (http_status between 400 and 599),
    sqlstate text not null unique check (sqlstate ~ '^[0-9A-Z]{5}$'),
    meaning text not null
);
comment on table kijko.error_codes is 'Every error that Kijko raises by name, with what it is to HTTP and to SQL. Class KJ is Kijko''s own, used where no standard SQLSTATE fits.';
comment on column kijko.error_codes.code is 'The name that clients compare with: the field code of the HTTP body.';
comment on column kijko.error_codes.http_status is 'The HTTP status inside PostgREST.';
comment on column kijko.error_codes.sqlstate is 'The SQLSTATE outside PostgREST.';
comment on column kijko.error_codes.meaning is 'The message, a plain sentence for a person.';

insert into kijko.error_codes (code, http_status, sqlstate, meaning) values
    ('bad_request', 400, '22023', 'The request is malformed.'),
    ('organization_required', 400, 'KJ400', 'Name the organization in the header x-org-id.'),
    ('not_identified', 401, '28000', 'Sign in first.'),
    ('invalid_api_key', 401, 'KJ401', 'This API key is unknown, revoked or expired.'),
    ('plan_required', 402, 'KJ402', 'This needs a higher plan.'),
    ('not_a_member', 403, 'KJ403', 'You are not a member of this organization.'),
    ('permission_denied', 403, '42501', 'Your role does not permit this.'),
    ('provision_required', 403, 'KJ406', 'This identity has no user yet, or another role now.'),
    ('insufficient_aal', 403, 'KJ405', 'This needs a session with the second factor.'),
    ('sso_required', 403, 'KJ407', 'This organization requires its own login server.'),
    ('model_not_allowed', 403, 'KJ408', 'You may not call this model.'),
    ('not_found', 404, 'P0002', 'There is no such thing, or it is not yours to see.'),
    ('file_not_found', 404, 'KJ404', 'There is no such file in the project of the skill.'),
    ('model_not_found', 404, 'KJ414', 'There is no such model.'),
    ('conflict', 409, 'KJ409', 'This conflicts with what is there already.'),
    ('idempotency_conflict', 409, 'KJ410', 'This idempotency key was used with other arguments.'),
    ('project_archived', 409, 'KJ411', 'This project is archived.'),
    ('file_deleted', 409, 'KJ412', 'This file is deleted.'),
    ('file_too_large', 413, 'KJ413', 'The files of the input are too large.'),
    ('file_not_text', 422, 'KJ424', 'This file is no text.'),
    ('invalid_cron', 422, 'KJ421', 'This is not a usable cron expression.'),
    ('invalid_input', 422, '22000', 'The input does not have the required form.'),
    ('invalid_timezone', 422, 'KJ422', 'This is not the name of a time zone.'),
    ('model_not_priced', 422, 'KJ425', 'No price is known for this model.'),
    ('skill_not_runnable', 422, 'KJ423', 'The skill has problems that would stop it.'),
    ('quota_exceeded', 429, 'KJ429', 'The limit is reached.'),
    ('budget_exceeded', 429, 'KJ431', 'The budget is spent.'),
    ('rate_limited', 429, 'KJ430', 'Too many requests; try again later.'),
    ('internal', 500, 'XX000', 'Something went wrong on our side.'),
    ('cannot_unseal', 500, 'KJ500', 'A sealed value cannot be opened.'),
    ('unavailable', 503, 'KJ503', 'This is not available right now; try again later.');
grant select on kijko.error_codes to public;

comment on function kijko.is_request() is 'True inside PostgREST: session_user is trusted and request.method is set.';

create function kijko.response_headers() returns jsonb
    language plpgsql stable parallel unsafe -- the exception block starts a subtransaction
    set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(nullif(pg_catalog.current_setting('response.headers', true), '')::pg_catalog.jsonb, '[]');
exception
    when data_exception then return '[]'; -- set by hand and malformed: nothing worth failing for
end
$$;
comment on function kijko.response_headers() is 'The response headers set so far in this transaction, as PostgREST wants them: an array of one-key objects.';

comment on function kijko.request_header(text) is 'A header of the request; null outside PostgREST and when it was not sent.';

create function kijko.add_header(name text, value text) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_add_header';
comment on function kijko.add_header(text, text) is 'Adds a header to the response. The only setter of response.headers: a header set again replaces its former value (Set-Cookie repeats), null removes it, and kijko.fail sends what is set along (of several cookies the last: a refusal has room for one header of a name).';

create function kijko.fail(code text, details text default null, hint text default null) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    e kijko.error_codes;
    headers jsonb;
begin
    select c.* into e from kijko.error_codes as c where c.code = fail.code;
    if not found then
        select c.* into e from kijko.error_codes as c where c.code = 'internal';
        details := pg_catalog.format('kijko.fail was called with the unknown code %L', code);
        hint := null;
    end if;
    if not kijko.is_request() then
        -- An option of raise must not be null, and an empty one would be shown.
        if details is null and hint is null then
            raise exception using errcode = e.sqlstate, message = e.code || ': ' || e.meaning;
        elsif hint is null then
            raise exception using errcode = e.sqlstate, message = e.code || ': ' || e.meaning, detail = details;
        elsif details is null then
            raise exception using errcode = e.sqlstate, message = e.code || ': ' || e.meaning, hint = hint;
        end if;
        raise exception using
            errcode = e.sqlstate, message = e.code || ': ' || e.meaning, detail = details, hint = hint;
    end if;
    -- PostgREST reads the body from the message and status and headers from the detail of SQLSTATE PGRST.
    if e.http_status >= 500 then
        -- Our fault: the cause is for the log, the client gets what finds it there.
        raise log 'kijko.fail: %: % (%)', e.code, coalesce(details, 'no details'), coalesce(hint, 'no hint');
        details := 'request ' || kijko.request_header('x-request-id');
        hint := null;
    end if;
    select coalesce(pg_catalog.jsonb_object_agg(k.key, k.value order by h.place), '{}') into headers
    from pg_catalog.jsonb_array_elements(kijko.response_headers()) with ordinality as h(header, place),
        pg_catalog.jsonb_each(h.header) as k;
    raise sqlstate 'PGRST' using
        message = pg_catalog.jsonb_build_object(
            'code', e.code, 'message', e.meaning, 'details', details, 'hint', hint
        )::text,
        detail = pg_catalog.jsonb_build_object('status', e.http_status, 'headers', headers)::text;
end
$$;
comment on function kijko.fail(text, text, text) is 'The one way to refuse: never returns. Inside PostgREST an HTTP answer {code, message, details, hint} with the status of kijko.error_codes and the headers added so far; elsewhere an error with its SQLSTATE and the message "code: meaning".';
