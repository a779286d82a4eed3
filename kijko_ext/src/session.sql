comment on function kijko.claims() is 'The claims of the request''s token as PostgREST verified them; null when there are none, when they are malformed, and in every session whose login is not in kijko.trusted_session_users.';
comment on function kijko.user_id() is 'The user who makes the request: the claim sub of a token whose role is authenticated. Null for any other caller, and when the token''s session was revoked.';
comment on function kijko.session_id() is 'The session of the request''s token; null when there is none or it was revoked.';
comment on function kijko.now() is 'now() plus the superuser''s setting kijko.clock_offset. All product time goes through it.';

create table kijko.revoked_sessions (
    session_id uuid primary key,
    revoked_at timestamptz not null default pg_catalog.now(),
    expires_at timestamptz not null
);
comment on table kijko.revoked_sessions is 'Sessions that ended before their tokens expire. A row here makes kijko.user_id() null for every token of that session.';
comment on column kijko.revoked_sessions.session_id is 'The claim session_id of the tokens.';
comment on column kijko.revoked_sessions.revoked_at is 'When the session was revoked.';
comment on column kijko.revoked_sessions.expires_at is 'End of the revocation; after it the row may be deleted.';
create index revoked_sessions_expires_at on kijko.revoked_sessions (expires_at);
comment on index kijko.revoked_sessions_expires_at is 'Finds the rows that may be deleted.';
select pg_catalog.pg_extension_config_dump('kijko.revoked_sessions', '');

-- Enabled always, also for replicated rows, because shared memory must have every row.
create function kijko.session_changed() returns trigger
    language c as 'MODULE_PATHNAME', 'kijko_session_changed';
comment on function kijko.session_changed() is 'Trigger on kijko.revoked_sessions: passes what a transaction revokes to shared memory after its commit.';
create trigger session_changed after insert or update or delete on kijko.revoked_sessions
    for each row execute function kijko.session_changed();
create trigger session_truncated after truncate on kijko.revoked_sessions
    for each statement execute function kijko.session_changed();
alter table kijko.revoked_sessions enable always trigger session_changed;
alter table kijko.revoked_sessions enable always trigger session_truncated;

create function kijko.revoke_session(session_id uuid, until timestamptz default pg_catalog.now() + interval '1 day')
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if session_id is null or until is null then
        perform kijko.fail('invalid_input', 'the session and the time must not be null');
    end if;
    insert into kijko.revoked_sessions as r (session_id, expires_at)
    values (revoke_session.session_id, until)
    on conflict on constraint revoked_sessions_pkey do update set expires_at = greatest(r.expires_at, excluded.expires_at);
    -- Deletes a few expired rows each time, so that no job is needed. Rows that another transaction deletes are skipped.
    delete from kijko.revoked_sessions as r
    where r.session_id in (
        select e.session_id from kijko.revoked_sessions as e
        where e.expires_at < pg_catalog.now()
        order by e.expires_at
        limit 100
        for update skip locked
    );
end
$$;
comment on function kijko.revoke_session(uuid, timestamptz) is 'Revokes a session from the next statement on until the given time: its tokens identify no user. The default of one day outlasts the last token of a session that has ended. A later call can only extend the revocation.';

create function kijko.restore_session(session_id uuid) returns void
    language sql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
    delete from kijko.revoked_sessions as r where r.session_id = restore_session.session_id
$$;
comment on function kijko.restore_session(uuid) is 'Ends a revocation: unexpired tokens of the session identify their user again, from the commit on.';
