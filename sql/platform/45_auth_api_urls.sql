-- The login API on a plain Postgres: where a link may lead. A client names the target of a redirect, and whoever knows somebody's address
-- can make the server mail them a link: a target that the operator did not allow would receive that person's session.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.url_encode(value text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select coalesce(string_agg(
        case when byte between 48 and 57 or byte between 65 and 90 or byte between 97 and 122 or byte in (45, 46, 95, 126)
            then chr(byte)
            else '%' || lpad(upper(to_hex(byte)), 2, '0') end,
        '' order by n), '')
    from (select n, get_byte(bytes, n) as byte from convert_to(value, 'UTF8') as bytes, generate_series(0, length(bytes) - 1) as n) as split
$$;
comment on function auth_api.url_encode(text) is 'Percent-encodes everything but unreserved characters.';

create or replace function auth_api.form_encode(fields jsonb) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select coalesce(string_agg(auth_api.url_encode(key) || '=' || auth_api.url_encode(value), '&' order by key), '') from jsonb_each_text(fields)
$$;
comment on function auth_api.form_encode(jsonb) is 'An object as the query or fragment of a URL, sorted by name as Go''s url.Values.';

-- gobwas/glob with the separators "." and "/", which is what GoTrue compiles its allow-list with: * stops at a separator, ** does not, ? is
-- one character that is no separator, [a-z] and [!a-z] are classes, {a,b} are alternatives, \ quotes the next character.
create or replace function auth_api.glob_to_regexp(glob text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
    pattern text := '^';
    place integer := 1;
    depth integer := 0;
    sign text;
    class text;
begin
    while place <= length(glob) loop
        sign := substr(glob, place, 1);
        class := substring(substr(glob, place) from '^\[!?[^]]+\]');
        if substr(glob, place, 2) = '**' then
            pattern := pattern || '.*';
            place := place + 1;
        elsif sign = '*' then
            pattern := pattern || '[^./]*';
        elsif sign = '?' then
            pattern := pattern || '[^./]';
        elsif sign = '[' and class is not null then
            -- Only the first "!" and a "-" between characters have a meaning in a class of the glob.
            pattern := pattern || case when class like '[!%' then '[^' else '[' end
                || regexp_replace(substr(class, case when class like '[!%' then 3 else 2 end), '([\\^\[])', '\\\1', 'g');
            place := place + length(class) - 1;
        elsif sign = '{' then
            pattern := pattern || '(?:';
            depth := depth + 1;
        elsif sign = '}' and depth > 0 then
            pattern := pattern || ')';
            depth := depth - 1;
        elsif sign = ',' and depth > 0 then
            pattern := pattern || '|';
        else
            if sign = '\' and place < length(glob) then
                place := place + 1;
                sign := substr(glob, place, 1);
            end if;
            pattern := pattern || regexp_replace(sign, '([^A-Za-z0-9_/:])', '\\\1');
        end if;
        place := place + 1;
    end loop;
    return pattern || repeat(')', depth) || '$';
end
$$;
comment on function auth_api.glob_to_regexp(text) is 'A glob of the allow-list as a regular expression.';

-- The characters come first: everything after it may rely on a URL without blanks, controls, backslashes and user names, in which browsers
-- and this pattern would see different hosts.
create or replace function auth_api.url_parts(url text) returns table (scheme text, host text, port text)
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select lower(part[1]), lower(part[2]), coalesce(part[3], case lower(part[1]) when 'http' then '80' when 'https' then '443' else '' end)
    from regexp_match(url, '^([A-Za-z][A-Za-z0-9+.-]*)://([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:[/?#].*)?$') as part
    where url ~ '^[!#-;=?-\[\]_a-z{|}~]+$'
$$;
comment on function auth_api.url_parts(text) is 'Scheme, host and port of an absolute URL; no row for anything else.';

create or replace function auth_api.is_allowed_redirect(url text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    s auth_api.settings;
    target record;
    site record;
begin
    select * into s from auth_api.settings;
    select * into target from auth_api.url_parts(url);
    select * into site from auth_api.url_parts(s.site_url);
    if target.scheme is null or target.scheme in ('javascript', 'data', 'vbscript', 'file', 'blob', 'about') then
        return false;
    elsif target.scheme = site.scheme and target.host = site.host and target.host <> '' and (target.port = site.port or target.host in ('127.0.0.1', '[::1]')) then
        return true;
    elsif target.host in ('127.0.0.1', '[::1]') then
        return target.scheme in ('http', 'https');
    elsif target.host ~ '^[0-9.]+$' or target.host ~ '^\[' or target.host ~ '^0x' then
        return false; -- an address instead of a name, in any spelling that a browser understands
    end if;
    return exists (
        select 1 from unnest(s.redirect_urls) as allowed (glob)
        where split_part(url, '#', 1) ~ auth_api.glob_to_regexp(allowed.glob));
end
$$;
comment on function auth_api.is_allowed_redirect(text) is 'Whether a link may lead to this URL: the site, this machine, or one that matches the allow-list.';

create or replace function auth_api.redirect_target(query jsonb) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    wanted text := coalesce(nullif(auth_api.header('redirect_to'), ''), nullif(query ->> 'redirect_to', ''));
    referer text := nullif(auth_api.header('referer'), '');
    site text := (select s.site_url from auth_api.settings s);
begin
    if auth_api.is_allowed_redirect(wanted) then
        return wanted;
    elsif wanted is not null then
        -- Silent in GoTrue, and the commonest riddle of those who run it. The header is for whoever develops the client.
        perform kijko.add_header('X-Kijko-Warning', 'redirect_to is not allowed: see redirect_urls in the settings of login');
        raise log 'auth_api: redirect_to % is neither the site nor on redirect_urls; % is used', quote_literal(left(wanted, 200)), site;
    elsif auth_api.is_allowed_redirect(referer) then
        return referer;
    end if;
    return site;
end
$$;
comment on function auth_api.redirect_target(jsonb) is 'Where a link of this request leads: the target that the client named, if it is allowed, else the site.';

-- A fragment never reaches a server's log; a code is worth nothing without its verifier and goes into the query, where the client looks.
create or replace function auth_api.redirect(target text, fragment jsonb default '{}', query jsonb default '{}') returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    base text := split_part(target, '#', 1);
begin
    if query <> '{}' then
        base := base || case when base like '%?%' then '&' else '?' end || auth_api.form_encode(query);
    end if;
    perform set_config('response.status', '303', true);
    perform kijko.add_header('Location', base || case when fragment <> '{}' then '#' || auth_api.form_encode(fragment) else '' end);
    perform kijko.add_header('Referrer-Policy', 'no-referrer');
    return null;
end
$$;
comment on function auth_api.redirect(text, jsonb, jsonb) is 'Answers with 303 See Other to a target that was checked.';

reset role;

-- Connections of organizations lead to the same targets (supabase/migrations/20261121220100_connections_authorize.sql).
grant execute on function
    auth_api.url_parts(text),
    auth_api.glob_to_regexp(text),
    auth_api.is_allowed_redirect(text),
    auth_api.url_encode(text),
    auth_api.form_encode(jsonb)
to :"owner";
