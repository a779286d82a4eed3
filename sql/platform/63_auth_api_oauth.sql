-- The login API on a plain Postgres: sign-ins through outside providers that have begun. The sidecar speaks HTTP with the provider; the
-- database keeps what has begun, decides whose a provider's answer is, and makes the session. State, ticket and the browser's secret are
-- stored as SHA-256 alone: a reader of the table can finish nobody's sign-in.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create table if not exists auth_api.oauth_providers (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,31}$'),
    verifying boolean not null,
    registered_at timestamptz not null
);
alter table auth_api.oauth_providers enable row level security;
comment on table auth_api.oauth_providers is 'The providers that sidecars are configured with, as they say themselves. GET /settings shows them, and an identity of another provider is no way to sign in.';
comment on column auth_api.oauth_providers.name is 'The name that clients use.';
comment on column auth_api.oauth_providers.verifying is 'Whether the operator trusts its word that an address is verified.';
comment on column auth_api.oauth_providers.registered_at is 'When a sidecar last named it; each does so every minute.';

create table if not exists auth_api.oauth_flows (
    id uuid primary key default gen_random_uuid(),
    provider text not null,
    redirect_to text not null,
    code_challenge text,
    code_challenge_method auth.code_challenge_method,
    linking_session_id uuid references auth.sessions on delete cascade,
    ticket_hash bytea unique,
    state_hash bytea unique,
    browser_hash bytea,
    options jsonb not null default '{}',
    created_at timestamptz not null,
    used_at timestamptz,
    ended_at timestamptz
);
create index if not exists oauth_flows_created_at_idx on auth_api.oauth_flows (created_at);
create index if not exists oauth_flows_linking_session_id_idx on auth_api.oauth_flows (linking_session_id);
alter table auth_api.oauth_flows enable row level security;
comment on table auth_api.oauth_flows is 'Sign-ins at an outside provider that have begun. A row is good for one callback within ten minutes, from the browser that began.';
comment on column auth_api.oauth_flows.id is 'The flow.';
comment on column auth_api.oauth_flows.provider is 'Where the browser was sent: an answer of another provider is refused.';
comment on column auth_api.oauth_flows.redirect_to is 'Where the browser goes in the end; checked against the allow-list when the flow began.';
comment on column auth_api.oauth_flows.code_challenge is 'The PKCE challenge of the client; null for a client without PKCE.';
comment on column auth_api.oauth_flows.code_challenge_method is 'How the challenge was made from its verifier.';
comment on column auth_api.oauth_flows.linking_session_id is 'The session that asked to link an identity; null for a sign-in. The end of the session ends the flow.';
comment on column auth_api.oauth_flows.ticket_hash is 'SHA-256 of the ticket by which a browser takes over a flow that a client began by fetch; null once that happened.';
comment on column auth_api.oauth_flows.state_hash is 'SHA-256 of the state that the provider sends back.';
comment on column auth_api.oauth_flows.browser_hash is 'SHA-256 of the secret in the cookie of the browser that began.';
comment on column auth_api.oauth_flows.options is 'Scopes and further parameters for the provider.';
comment on column auth_api.oauth_flows.created_at is 'When it began.';
comment on column auth_api.oauth_flows.used_at is 'When its callback came. A second one is refused.';
comment on column auth_api.oauth_flows.ended_at is 'When the answer of the provider was handled.';

create or replace function auth_api.sha256_of(value text) returns bytea
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select sha256(convert_to(value, 'UTF8'))
$$;
comment on function auth_api.sha256_of(text) is 'What is stored of a state, a ticket or the secret of a browser.';

create or replace function auth_api.oauth_lifetime() returns interval
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select interval '10 minutes'
$$;
comment on function auth_api.oauth_lifetime() is 'How long a user has to sign in at the provider.';

-- A few of the old ones with each new one, so that the table does not grow. Codes of outside providers that no client exchanged go as well:
-- the provider's tokens that came with them are then revoked (auth_api.provider_tokens).
create or replace function auth_api.prune_oauth_flows() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth_api.oauth_flows f where f.id in (
        select o.id from auth_api.oauth_flows o where o.created_at < kijko.now() - 2 * auth_api.oauth_lifetime()
        order by o.created_at limit 20 for update skip locked);
    delete from auth.flow_state f where f.id in (
        select o.id from auth.flow_state o
        where o.provider_type <> 'email' and o.created_at < kijko.now() - auth_api.oauth_lifetime()
        order by o.created_at limit 20 for update skip locked);
end
$$;
comment on function auth_api.prune_oauth_flows() is 'Deletes some flows that have expired.';

-- By the real clock: a provider that no sidecar has named for five minutes is switched off. Several sidecars may have several lists.
create or replace function auth_api.register_oauth_providers(names text[], verifying text[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth_api.oauth_providers p where p.registered_at < now() - interval '1 day';
    insert into auth_api.oauth_providers as p (name, verifying, registered_at)
    select distinct n.name, n.name = any (register_oauth_providers.verifying), now() from unnest(names) as n (name)
    on conflict on constraint oauth_providers_pkey do update set verifying = excluded.verifying, registered_at = excluded.registered_at;
end
$$;
comment on function auth_api.register_oauth_providers(text[], text[]) is 'Notes the providers of a sidecar''s configuration. Definer, because the sidecar may touch nothing itself.';

create or replace function auth_api.provider_names() returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
    select array(select p.name from auth_api.oauth_providers p where p.registered_at > now() - interval '5 minutes' order by p.name)
$$;
comment on function auth_api.provider_names() is 'The outside providers by which users can sign in.';

create or replace function auth_api.callback_url() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select s.issuer || '/callback' from auth_api.settings s
$$;
comment on function auth_api.callback_url() is 'Where providers send browsers back: the public URL, never the Host header of a request.';

-- Beginning ------------------------------------------------------------------------------------------------------------------------

-- Challenge and target were chosen by the client, and are fixed here: the callback brings neither.
create or replace function auth_api.begin_oauth(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    query constant jsonb := input -> 'query';
begin
    perform auth_api.check_challenge(query);
    perform auth_api.charge_address('verify');
    perform auth_api.prune_oauth_flows();
    insert into auth_api.oauth_flows (provider, redirect_to, code_challenge, code_challenge_method, state_hash, browser_hash, created_at)
    values (input ->> 'provider', auth_api.redirect_target(query), nullif(query ->> 'code_challenge', ''),
        nullif(lower(query ->> 'code_challenge_method'), '')::auth.code_challenge_method,
        auth_api.sha256_of(input ->> 'state'), auth_api.sha256_of(input ->> 'browser'), kijko.now());
    return jsonb_build_object('callback', auth_api.callback_url());
end
$$;
comment on function auth_api.begin_oauth(jsonb) is 'GET /authorize: keeps what a browser begins before it is sent to the provider.';

-- The client gets the address of a ticket and not that of the provider: a page of another origin cannot set our cookie by fetch, and the
-- flow has to be bound to the browser that goes on. An identity is linked only when the client exchanges the code: otherwise an
-- attacker could lure a victim to such an address and get the victim's identity linked to their own account. Hence PKCE is required.
create or replace function auth_api.begin_oauth_link(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    query constant jsonb := input -> 'query';
    ticket constant text := encode(extensions.gen_random_bytes(32), 'hex');
    caller record;
    url text;
begin
    select * into caller from auth_api.caller();
    perform auth_api.require_second_factor(caller.u, caller.session);
    perform auth_api.check_challenge(query);
    if coalesce(query ->> 'code_challenge', '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'Linking an identity requires PKCE: make the client with flowType pkce');
    end if;
    perform auth_api.charge_address('verify');
    perform auth_api.prune_oauth_flows();
    insert into auth_api.oauth_flows (provider, redirect_to, code_challenge, code_challenge_method, linking_session_id, ticket_hash, options, created_at)
    values (input ->> 'provider', auth_api.redirect_target(query), query ->> 'code_challenge',
        lower(query ->> 'code_challenge_method')::auth.code_challenge_method, (caller.session).id, auth_api.sha256_of(ticket),
        query - array['code_challenge', 'code_challenge_method', 'redirect_to', 'provider', 'skip_http_redirect'], kijko.now());
    url := (select s.issuer from auth_api.settings s) || '/authorize?ticket=' || ticket;
    if query ->> 'skip_http_redirect' is distinct from 'true' then
        perform set_config('response.status', '302', true);
        perform kijko.add_header('Location', url);
    end if;
    return jsonb_build_object('url', url);
end
$$;
comment on function auth_api.begin_oauth_link(jsonb) is 'GET /user/identities/authorize: the address where the signed-in user links an identity.';

create or replace function auth_api.take_oauth_ticket(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow auth_api.oauth_flows;
begin
    perform auth_api.charge_address('verify');
    update auth_api.oauth_flows f
    set ticket_hash = null, state_hash = auth_api.sha256_of(input ->> 'state'), browser_hash = auth_api.sha256_of(input ->> 'browser')
    where f.ticket_hash = auth_api.sha256_of(input ->> 'ticket') and f.created_at + auth_api.oauth_lifetime() > kijko.now()
    returning * into flow;
    if flow.id is null then
        perform auth_api.reject(400, 'bad_oauth_state', 'OAuth ticket is unknown, used or expired');
    end if;
    return jsonb_build_object('provider', flow.provider, 'query', flow.options, 'callback', auth_api.callback_url());
end
$$;
comment on function auth_api.take_oauth_ticket(jsonb) is 'GET /authorize with a ticket: binds a flow that a client began to the browser that goes on.';

-- The callback ---------------------------------------------------------------------------------------------------------------------

-- Committed before the provider is asked: of two callbacks with one state the second is refused, whatever becomes of the first. A callback
-- from another browser uses nothing up, so that a caller who learns a state cannot end another user's sign-in.
create or replace function auth_api.take_oauth_state(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow auth_api.oauth_flows;
begin
    perform auth_api.charge_address('verify');
    select f.* into flow from auth_api.oauth_flows f where f.state_hash = auth_api.sha256_of(input ->> 'state') for update;
    if flow.id is null or flow.created_at + auth_api.oauth_lifetime() < kijko.now()
        or flow.browser_hash is distinct from auth_api.sha256_of(input ->> 'browser')
    then
        perform auth_api.reject(400, 'bad_oauth_state', 'OAuth state is unknown, expired or of another browser');
    elsif flow.used_at is not null then
        perform auth_api.reject(400, 'flow_state_already_used', 'OAuth state has been used');
    end if;
    update auth_api.oauth_flows f set used_at = kijko.now() where f.id = flow.id;
    return jsonb_build_object('flow', flow.id, 'provider', flow.provider, 'callback', auth_api.callback_url());
end
$$;
comment on function auth_api.take_oauth_state(jsonb) is 'GET /callback: takes the state of a provider''s answer, once and from the browser that began.';

create or replace function auth_api.end_oauth_flow(flow_id uuid) returns auth_api.oauth_flows
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow auth_api.oauth_flows;
begin
    update auth_api.oauth_flows f set ended_at = kijko.now()
    where f.id = flow_id and f.used_at is not null and f.ended_at is null
    returning * into flow;
    if flow.id is null then
        perform auth_api.reject(400, 'bad_oauth_state', 'OAuth state has ended');
    end if;
    return flow;
end
$$;
comment on function auth_api.end_oauth_flow(uuid) is 'The flow of a callback whose state was taken; once.';

create or replace function auth_api.redirect_found(target text, fragment jsonb default '{}', query jsonb default '{}') returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.redirect(target, fragment, query);
    perform set_config('response.status', '302', true);
    return null;
end
$$;
comment on function auth_api.redirect_found(text, jsonb, jsonb) is 'Answers with 302 Found, as GoTrue does at its callback.';

-- In query and fragment, for clients with PKCE and without. A provider's words are cut and lose what is not plain text.
create or replace function auth_api.fail_oauth(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow constant auth_api.oauth_flows := auth_api.end_oauth_flow((input ->> 'flow')::uuid);
    error text := coalesce(substring(input ->> 'error' from '^[a-z_]{1,50}$'), 'server_error');
    fields jsonb := jsonb_build_object('error', error, 'error_description',
        left(regexp_replace(coalesce(input ->> 'description', ''), '[^ -~]', '', 'g'), 200));
begin
    if input ->> 'error_code' is not null then
        fields := fields || jsonb_build_object('error_code', input ->> 'error_code');
    end if;
    return auth_api.redirect_found(flow.redirect_to, fields || '{"sb": ""}', fields);
end
$$;
comment on function auth_api.fail_oauth(jsonb) is 'GET /callback: says in a redirect that the provider refused or did not answer.';

reset role;
