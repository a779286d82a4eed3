comment on function kijko.issuer_document(bytea) is 'Internal: a JSON object with each member once, as issuers publish their discovery document; null for anything else.';
comment on function kijko.issuer_keys(bytea) is 'Internal: the keys of a JSON Web Key Set that verify signatures, without secrets and private keys; null for what is no such set.';

create table kijko.issuers (
    id uuid primary key default pg_catalog.gen_random_uuid(),
    org_id uuid not null,
    url text collate "C" not null check (
        pg_catalog.octet_length(url) <= 500 and url !~ '[?#[:space:][:cntrl:]]'
        and (url like 'https://%' or url ~ '^http://(127\.0\.0\.1|localhost)(:[0-9]+)?(/|$)')
    ),
    audiences text[] not null check (
        pg_catalog.cardinality(audiences) between 1 and 20 and pg_catalog.array_position(audiences, null) is null
        and '' <> all (audiences) and pg_catalog.octet_length(audiences::text) <= 10000
    ),
    role_claims text[] not null default '{}' check (
        pg_catalog.cardinality(role_claims) <= 10 and pg_catalog.array_position(role_claims, null) is null
        and pg_catalog.octet_length(role_claims::text) <= 5000
    ),
    role_map jsonb not null default '{}' check (
        pg_catalog.jsonb_typeof(role_map) = 'object' and pg_catalog.octet_length(role_map::text) <= 20000
        and not pg_catalog.jsonb_path_exists(role_map, 'strict $.* ? (@.type() != "string" || !(@ == "viewer" || @ == "member" || @ == "admin"))')
    ),
    default_role text check (default_role in ('viewer', 'member', 'admin')),
    org_claim text check (pg_catalog.octet_length(org_claim) between 1 and 200),
    org_value text check (pg_catalog.octet_length(org_value) between 1 and 500),
    email_domains text[] check (
        pg_catalog.cardinality(email_domains) between 1 and 50 and pg_catalog.array_position(email_domains, null) is null
        and pg_catalog.octet_length(email_domains::text) <= 10000
    ),
    owns_roles boolean not null default true,
    enabled boolean not null default true,
    jwks_uri text,
    jwks jsonb,
    verified_at timestamptz,
    keys_at timestamptz,
    checked_at timestamptz,
    next_at timestamptz not null default pg_catalog.clock_timestamp(),
    step text not null default 'discovery' check (step in ('discovery', 'keys')),
    request_id uuid,
    failures integer not null default 0,
    error text check (error in (
        'address_refused', 'issuer_mismatch', 'malformed', 'no_keys', 'status', 'too_large', 'unreachable', 'url_refused'
    )),
    created_at timestamptz not null default pg_catalog.now(),
    updated_at timestamptz not null default pg_catalog.now(),
    unique (org_id, url),
    check ((org_claim is null) = (org_value is null))
);
comment on table kijko.issuers is 'Login servers of others that organizations have enrolled. A token of one is a user of its organization, never more than authenticated. The keys are fetched by the outbox''s worker.';
comment on column kijko.issuers.id is 'The enrolment. Subjects are identities within it: two organizations with the same issuer have no user in common.';
comment on column kijko.issuers.org_id is 'The organization for which the issuer speaks, and no other.';
comment on column kijko.issuers.url is 'The issuer identifier, exactly as tokens have it in iss. Never changes.';
comment on column kijko.issuers.audiences is 'A token must name one of them in aud.';
comment on column kijko.issuers.role_claims is 'Claims with the values that role_map maps, each a name, or a path as realm_access.roles.';
comment on column kijko.issuers.role_map is 'Which role a value of those claims stands for: {"kijko-admins": "admin"}. The highest counts.';
comment on column kijko.issuers.default_role is 'The role of a token that nothing maps; null: it gives no access.';
comment on column kijko.issuers.org_claim is 'A claim that must have org_value, for an issuer that several organizations share; null without.';
comment on column kijko.issuers.org_value is 'What org_claim must have.';
comment on column kijko.issuers.email_domains is 'Domains of which the address in a token must be; null for any, and none.';
comment on column kijko.issuers.owns_roles is 'Whether each token sets the member''s role, or only the first one.';
comment on column kijko.issuers.enabled is 'Whether its tokens are accepted.';
comment on column kijko.issuers.jwks_uri is 'Where the discovery document says that the keys are.';
comment on column kijko.issuers.jwks is 'The last good keys; null before there were any.';
comment on column kijko.issuers.verified_at is 'When discovery first led to keys.';
comment on column kijko.issuers.keys_at is 'When the keys were last fetched.';
comment on column kijko.issuers.checked_at is 'When it was last asked.';
comment on column kijko.issuers.next_at is 'When it is asked again.';
comment on column kijko.issuers.step is 'What it is asked for: the discovery document, or the keys.';
comment on column kijko.issuers.request_id is 'The request in kijko.http_requests that is under way.';
comment on column kijko.issuers.failures is 'Attempts that failed in a row.';
comment on column kijko.issuers.error is 'Why the last one failed; null after success.';
comment on column kijko.issuers.created_at is 'When it was enrolled.';
comment on column kijko.issuers.updated_at is 'When the organization last changed it.';
create index issuers_url on kijko.issuers (url) where enabled;
comment on index kijko.issuers_url is 'The enrolments that a token may belong to.';
create index issuers_next on kijko.issuers (next_at) where enabled and request_id is null;
comment on index kijko.issuers_next is 'Whose time has come.';
create index issuers_under_way on kijko.issuers (request_id) where request_id is not null;
comment on index kijko.issuers_under_way is 'Issuers with a request under way.';
select pg_catalog.pg_extension_config_dump('kijko.issuers', '');

-- What only the worker writes (when it is asked again, errors) is not cached.
create trigger invalidate_cache after insert or delete or update of org_id, url, audiences, role_claims, role_map, default_role, org_claim,
    org_value, email_domains, enabled, jwks on kijko.issuers
    for each row execute function kijko.invalidate_cache('issuers');
create trigger invalidate_cache_truncated after truncate on kijko.issuers
    for each statement execute function kijko.invalidate_cache('issuers');
alter table kijko.issuers enable always trigger invalidate_cache;
alter table kijko.issuers enable always trigger invalidate_cache_truncated;

create function kijko.notify_issuer_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('kijko_issuers', json_build_object('issuer_id', old.id)::text);
    return null;
end
$$;
comment on function kijko.notify_issuer_changed() is 'Trigger: notifies kijko_issuers that tokens of an issuer may no longer count, so that who keeps a connection open for one asks again.';
-- What only gives its tokens more is left out: it counts from the next request on.
create trigger notify_changed after delete or update of audiences, role_claims, role_map, default_role, org_claim, org_value, email_domains,
    owns_roles, enabled, jwks on kijko.issuers
    for each row execute function kijko.notify_issuer_changed();

create table kijko.issuer_identities (
    issuer_id uuid not null references kijko.issuers on delete cascade,
    subject text collate "C" not null check (pg_catalog.octet_length(subject) between 1 and 255),
    user_id uuid not null unique,
    created_at timestamptz not null default pg_catalog.now(),
    primary key (issuer_id, subject)
);
comment on table kijko.issuer_identities is 'The user of each subject of an issuer. An identity is the issuer and its subject, never an address.';
comment on column kijko.issuer_identities.issuer_id is 'The issuer.';
comment on column kijko.issuer_identities.subject is 'sub of its tokens.';
comment on column kijko.issuer_identities.user_id is 'The user, who has no other identity.';
comment on column kijko.issuer_identities.created_at is 'When the user was provisioned.';
select pg_catalog.pg_extension_config_dump('kijko.issuer_identities', '');

create type kijko.issuer_identity as (issuer_id uuid, org_id uuid, subject text, user_id uuid, role text, name text);
comment on type kijko.issuer_identity is 'The subject of a verified token.';
comment on column kijko.issuer_identity.issuer_id is 'The enrolment, kijko.issuers.id.';
comment on column kijko.issuer_identity.org_id is 'The organization that the issuer speaks for.';
comment on column kijko.issuer_identity.subject is 'sub of the token.';
comment on column kijko.issuer_identity.user_id is 'The user; null before the subject is provisioned.';
comment on column kijko.issuer_identity.role is 'The role that the token gives: viewer, member or admin.';
comment on column kijko.issuer_identity.name is 'What the issuer calls the user, unchecked; null without.';

create function kijko.authenticate_issuer_token() returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_authenticate_issuer_token';
comment on function kijko.authenticate_issuer_token() is 'Verifies the token of an enrolled issuer in the header X-Kijko-Token, which only the proxy may set. False without the header, and in a session whose claims do not count. True: kijko.issuer_caller() says whom it names, and the caller is nobody until kijko.assume_issuer_user(). Otherwise fails with not_identified, permission_denied, not_a_member or bad_request, or with rate_limited.';

create function kijko.issuer_caller() returns kijko.issuer_identity
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_issuer_caller';
comment on function kijko.issuer_caller() is 'Whom the token that kijko.authenticate_issuer_token() verified in this transaction names; null without one.';

create function kijko.assume_issuer_user() returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_assume_issuer_user';
comment on function kijko.assume_issuer_user() is 'Makes the user of kijko.issuer_caller() the caller until the transaction ends, as authenticated whatever the token says. For the domain, once it has looked whether the user may go on.';

create function kijko.issuer_tag(id uuid) returns bigint
    language sql immutable parallel safe
return ('x' || pg_catalog.left(pg_catalog.replace(id::text, '-', ''), 16))::pg_catalog.bit(64)::bigint;
comment on function kijko.issuer_tag(uuid) is 'Internal: the first eight bytes, by which requests tell the worker of an issuer.';

create function kijko.put_issuer(
    org_id uuid, url text, audiences text[], role_claims text[] default '{}', role_map jsonb default '{}', default_role text default null,
    org_claim text default null, org_value text default null, email_domains text[] default null, owns_roles boolean default true,
    enabled boolean default true
)
    returns uuid
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
declare
    problem constant text := kijko.http_request_problem('GET', url || '/.well-known/openid-configuration', '{}', null, null);
    made uuid;
begin
    if problem is not null then
        perform kijko.fail('invalid_input', 'url: ' || problem);
    end if;
    insert into kijko.issuers as i (
        org_id, url, audiences, role_claims, role_map, default_role, org_claim, org_value, email_domains, owns_roles, enabled
    )
    values (
        put_issuer.org_id, put_issuer.url, put_issuer.audiences, put_issuer.role_claims, put_issuer.role_map, put_issuer.default_role,
        put_issuer.org_claim, put_issuer.org_value, put_issuer.email_domains, put_issuer.owns_roles, put_issuer.enabled
    )
    on conflict on constraint issuers_org_id_url_key do update set
        audiences = excluded.audiences, role_claims = excluded.role_claims, role_map = excluded.role_map, default_role = excluded.default_role,
        org_claim = excluded.org_claim, org_value = excluded.org_value, email_domains = excluded.email_domains,
        owns_roles = excluded.owns_roles, enabled = excluded.enabled, updated_at = now()
    returning i.id into made;
    perform kijko.ask_issuer(made, 'discovery');
    return made;
exception
    when check_violation or not_null_violation then
        perform kijko.fail('invalid_input', case when sqlstate = '23502' then 'a value is missing' else 'not allowed here: ' || sqlerrm end);
end
$$;
comment on function kijko.put_issuer(uuid, text, text[], text[], jsonb, text, text, text, text[], boolean, boolean) is 'Enrols an issuer for an organization, or changes what its enrolment says, and has the worker fetch its keys. Tokens are accepted once there are keys.';

create function kijko.ask_issuer(id uuid, step text, url text default null) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    i kijko.issuers;
    target text := url;
begin
    select * into i from kijko.issuers as s where s.id = ask_issuer.id for update;
    if not found or not i.enabled or (step = 'discovery' and i.request_id is not null) then
        return;
    end if;
    -- As OpenID Connect Discovery, section 4.1: without a slash at the end.
    target := coalesce(target, rtrim(i.url, '/') || '/.well-known/openid-configuration');
    update kijko.issuers as s
    set step = ask_issuer.step, checked_at = clock_timestamp(),
        request_id = kijko.http_enqueue(
            'GET', target, '{"accept": "application/json"}', timeout => interval '10 seconds', max_attempts => 1, org_id => i.org_id
        )
    where s.id = i.id;
end
$$;
comment on function kijko.ask_issuer(uuid, text, text) is 'Internal: has the outbox fetch an issuer''s discovery document or, from a URL, its keys.';

create function kijko.delete_issuer(id uuid) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from kijko.issuers as i where i.id = delete_issuer.id;
    return found;
end
$$;
comment on function kijko.delete_issuer(uuid) is 'Deletes an enrolment and its identities; false when there was none. Its tokens are refused from the commit on.';

create function kijko.put_issuer_identity(issuer_id uuid, subject text, user_id uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into kijko.issuer_identities (issuer_id, subject, user_id)
    values (put_issuer_identity.issuer_id, put_issuer_identity.subject, put_issuer_identity.user_id);
end
$$;
comment on function kijko.put_issuer_identity(uuid, text, uuid) is 'Makes a user the one of a subject of an issuer. Fails with 23505 when the subject or the user has an identity already.';

create function kijko.delete_issuer_identity(user_id uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from kijko.issuer_identities as i where i.user_id = delete_issuer_identity.user_id;
end
$$;
comment on function kijko.delete_issuer_identity(uuid) is 'Deletes the identity of a user who is being deleted.';

create function kijko.issuer_failed(id uuid, error text) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Half a minute, doubled up to half an hour. Keys stay.
    update kijko.issuers as i
    set request_id = null, failures = i.failures + 1, error = issuer_failed.error,
        next_at = clock_timestamp() + least(interval '30 seconds' * power(2, least(i.failures, 6)), interval '30 minutes') * (0.75 + random() / 2)
    where i.id = issuer_failed.id;
end
$$;
comment on function kijko.issuer_failed(uuid, text) is 'Internal: an issuer did not give what it was asked for.';

create function kijko.issuer_answered(id uuid) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    i kijko.issuers;
    r kijko.http_requests;
    a kijko.http_attempts;
    document jsonb;
    age interval;
begin
    select * into i from kijko.issuers as s where s.id = issuer_answered.id;
    select * into r from kijko.http_requests as q where q.id = i.request_id;
    select * into a from kijko.http_attempts as t where t.request_id = r.id and t.attempt = r.attempts;
    if not i.enabled then
        update kijko.issuers as s set request_id = null where s.id = i.id;
        return;
    end if;
    if r.state is distinct from 'succeeded' then
        perform kijko.issuer_failed(
            id, case when a.status is not null then 'status' when a.error_code = 'address_refused' then 'address_refused' else 'unreachable' end
        );
        return;
    elsif a.truncated then
        perform kijko.issuer_failed(id, 'too_large');
        return;
    end if;
    if i.step = 'discovery' then
        document := kijko.issuer_document(a.body);
        if document is null or jsonb_typeof(document -> 'jwks_uri') is distinct from 'string' then
            perform kijko.issuer_failed(id, 'malformed');
        elsif document ->> 'issuer' is distinct from i.url then
            perform kijko.issuer_failed(id, 'issuer_mismatch');
        elsif not (document ->> 'jwks_uri' like 'https://%' or document ->> 'jwks_uri' ~ '^http://(127\.0\.0\.1|localhost)(:[0-9]+)?/')
            or kijko.http_request_problem('GET', document ->> 'jwks_uri', '{}', null, null) is not null
        then
            perform kijko.issuer_failed(id, 'url_refused');
        else
            perform kijko.ask_issuer(id, 'keys', document ->> 'jwks_uri');
            update kijko.issuers as s set jwks_uri = document ->> 'jwks_uri' where s.id = i.id;
        end if;
        return;
    end if;
    document := kijko.issuer_keys(a.body);
    if document is null or document -> 'keys' = '[]' then
        perform kijko.issuer_failed(id, case when document is null then 'malformed' else 'no_keys' end);
        return;
    end if;
    age := make_interval(secs => coalesce(substring(a.headers ->> 'cache-control' from '(?:^|[ ,])max-age="?(\d{1,7})(?:\D|$)')::integer, 3600));
    if i.jwks is distinct from document then
        update kijko.issuers as s set jwks = document where s.id = i.id;
    end if;
    update kijko.issuers as s
    set request_id = null, failures = 0, error = null, keys_at = clock_timestamp(), verified_at = coalesce(s.verified_at, clock_timestamp()),
        next_at = clock_timestamp() + greatest(least(age, interval '1 day'), interval '5 minutes')
    where s.id = i.id;
end
$$;
comment on function kijko.issuer_answered(uuid) is 'Internal: takes over what an issuer answered: asks for the keys that its discovery document names, or keeps the keys. They are fetched again after the max-age of their answer, within 5 minutes and a day, or after an hour.';

create function kijko.advance_issuers(wanted bigint[]) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    found_id uuid;
begin
    for found_id in
        select i.id from kijko.issuers as i
        where i.request_id is not null
            and not exists (select from kijko.http_requests as r where r.id = i.request_id and r.ended_at is null)
        for update skip locked
    loop
        -- What a stranger's answer breaks must not stop the others.
        begin
            perform kijko.issuer_answered(found_id);
        exception when others then
            raise log 'kijko: an answer of issuer % could not be read: %', found_id, sqlerrm;
            perform kijko.issuer_failed(found_id, 'malformed');
        end;
    end loop;
    -- Who has just been asked is not asked again because of a token: tokens with unknown keys cost nothing to make.
    for found_id in
        select i.id from kijko.issuers as i
        where i.enabled and i.request_id is null and (
            i.next_at <= clock_timestamp()
            or kijko.issuer_tag(i.id) = any (wanted) and coalesce(i.checked_at < clock_timestamp() - interval '10 seconds', true)
        )
        limit 50
        for update skip locked
    loop
        begin
            perform kijko.ask_issuer(found_id, 'discovery');
        exception when others then
            raise log 'kijko: issuer % could not be asked: %', found_id, sqlerrm;
            perform kijko.issuer_failed(found_id, 'url_refused');
        end;
    end loop;
end
$$;
comment on function kijko.advance_issuers(bigint[]) is 'Internal, for the worker: takes over what issuers have answered, asks those whose time has come, and of those that a token wanted the ones that were not asked in the last ten seconds.';

create function kijko.list_issuers(org_id uuid) returns table (
    id uuid, url text, audiences text[], role_claims text[], role_map jsonb, default_role text, org_claim text, org_value text,
    email_domains text[], owns_roles boolean, enabled boolean, status text, error text, verified_at timestamptz, keys_at timestamptz,
    created_at timestamptz, updated_at timestamptz
)
    language plpgsql stable parallel safe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select i.id, i.url, i.audiences, i.role_claims, i.role_map, i.default_role, i.org_claim, i.org_value, i.email_domains, i.owns_roles,
            i.enabled,
            case when not i.enabled then 'disabled' when i.error is not null then 'failing' when i.jwks is null then 'pending' else 'active' end,
            i.error, i.verified_at, i.keys_at, i.created_at, i.updated_at
        from kijko.issuers as i
        where i.org_id = list_issuers.org_id
        order by i.url;
end
$$;
comment on function kijko.list_issuers(uuid) is 'The issuers of an organization and how they do: pending before the first keys, active, failing while the last attempt to fetch the keys failed (known keys stay in use), or disabled.';
