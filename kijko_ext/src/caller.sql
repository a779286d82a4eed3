create type kijko.caller as (
    kind text,
    user_id uuid,
    api_key_id uuid,
    org_id uuid
);
comment on type kijko.caller is 'The caller of a request (kijko.actor).';
comment on column kijko.caller.kind is 'user, personal_key, service_key, publishable_key, service (the service key of the installation), anonymous, or none (no claims that count).';
comment on column kijko.caller.user_id is 'The user; of a personal key its owner. Null for any other caller.';
comment on column kijko.caller.api_key_id is 'The API key. Null for any other caller.';
comment on column kijko.caller.org_id is 'The organization of the API key. Null for any other caller.';

create function kijko.actor() returns kijko.caller
    language c stable parallel safe as 'MODULE_PATHNAME', 'kijko_actor';
comment on function kijko.actor() is 'The caller of this request. Functions that decide by the caller use it instead of kijko.user_id(), which is null for a service key. After its session was revoked, and in a login that is not trusted (kijko.trusted_session_users), a token names no caller: kind none. Write (select kijko.actor()) in a policy, so that it runs once.';
