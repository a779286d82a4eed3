-- Bounds of one request: no plans, a bounded number of embedded resources, no casts that read the catalogs, a statement
-- timeout by tier, and a memory limit. The statements have the form of PostgREST's.
\c postgres
\set VERBOSITY terse
create extension kijko;
create table t (id integer, name text, data jsonb);
insert into t select i, 'postgres', '{"role": "postgres", "oid": "10"}' from generate_series(1, 300) as i;
create function names(t) returns regtype[] language sql as 'select array[''int4'']::regtype[]';
create function inside(name text) returns text language plpgsql as 'begin return name::regrole; end';
create domain nickname as text check (value <> '');

-- Outside a request nothing is refused.
explain (costs off) select 1;
select name::regrole from t limit 1;

set request.method = 'GET';
explain select * from t;
explain (analyze, format json) select * from t where id = 1;

-- Casts in every spelling of PostgREST's grammar. Postgres itself refuses what is no type name.
select cast(name as regrole) from t limit 1;
select cast(name as REGROLE) from t limit 1;
select cast(name as _regrole) from t limit 1;
select cast(name as regclass) from t limit 1;
select cast(name as regproc) from t limit 1;
select cast(name as regprocedure) from t limit 1;
select cast(name as regoper) from t limit 1;
select cast(name as regoperator) from t limit 1;
select cast(name as regtype) from t limit 1;
select cast(name as regnamespace) from t limit 1;
select cast(name as regcollation) from t limit 1;
select cast(name as regconfig) from t limit 1;
select cast(name as regdictionary) from t limit 1;
select cast(name as aclitem) from t limit 1;
select cast(name as pg_authid) from t limit 1;
select cast(name as oidvector) from t limit 1;
select cast(id as regclass) from t limit 1;
select cast(id as oid) from t limit 1;
select cast(data ->> 'role' as regrole) from t limit 1;
select cast(max(name) as regrole) from t;
select 1 from t where cast(name as regrole) is not null;
select 1 from t order by cast(name as regrole);
insert into t (id) select 1 from t where false returning cast(name as regrole);
with a as (select cast(name as regrole) from t) select * from a;
select (select cast(name as regrole) from t limit 1);
select * from (select 1) as x, lateral (select cast(name as regrole) from t limit 1) as y;
-- A function called by column notation, and an operand of such a type.
select t.names from t limit 1;
prepare operand as select 1 from t where t.names[1] = $1;
-- System columns, which reveal the size of the table and the activity of the cluster.
select id, ctid from t limit 1;
select 1 from t where xmin is not null;
select 1 from t as pgrst_t order by pgrst_t.tableoid;
select x.c from (select 1) as one, lateral (select t.cmax as c from t limit 1) as x;
insert into t (id) select 1 from t where false returning xmax;
select t.* from t where false;
-- PostgREST's own queries of the catalogs, which describe the API, pass.
set request.path = '/t';
select 'int4'::regtype, tableoid = 'pg_class'::regclass from pg_class limit 1;
set request.path = '/';
select 'int4'::regtype, tableoid = 'pg_class'::regclass from pg_class limit 1;
explain select 1;
reset request.path;
-- Casts to other types pass, and so do casts inside functions.
select cast(id as text), cast(id as double precision), cast(data ->> 'oid' as int), cast(name as _text) is null,
    cast(name as varchar), cast(now() as timestamp with time zone) is null, cast(name as nickname), inside(name),
    to_tsvector('english', name) @@ to_tsquery('english', 'postgres') as found
from t where false;
select inside(name) from t limit 1;

-- Embedded resources: at most three levels and twelve in all. Subqueries that unpack a body or call a function do not count.
create function embeds(levels integer, width integer default 1) returns text language plpgsql as $$
declare
    inner_query text := 'select 1';
begin
    for i in 1..levels loop
        inner_query := format('select x.* from (select 1) as x %s',
            (select string_agg(format('left join lateral (%s) as e%s on true', inner_query, j), ' ') from generate_series(1, width) as j));
    end loop;
    return inner_query;
end
$$;
select embeds(3) as three, embeds(4) as four, embeds(1, 12) as twelve, embeds(1, 13) as thirteen, embeds(2, 4) as wide \gset
:three;
:four;
:twelve;
:thirteen;
:wide;
with source as (:four) select * from source;
select * from (:four) as a where exists (:four);
select * from (select '[]'::json as json_data) as pgrst_payload,
    lateral (select json_data as val) as pgrst_uniform_json, lateral (select 1 as a) as pgrst_body, lateral (select 2 as b) as pgrst_call;

-- Memory.
set kijko.request_memory = '1MB';
select length(json_agg(a.*)::text) > 0 as answered from t as a;
select length(json_agg(x.*)::text) > 0 as answered from t as a, t as b, lateral (select a.*, b.*) as x;
create function much() returns integer language plpgsql as $$
declare
    n integer;
begin
    select length(json_agg(a.*)::text) into n from t as a, t as b;
    return n;
end
$$;
select much();
set request.method = '';
select much() > 0 as answered;
set request.method = 'GET';
reset kijko.request_memory;

-- The statement timeout, by tier.
select kijko.set_statement_timeout(null, '1 s');
select kijko.set_statement_timeout('FREE', '0 s');
select kijko.set_statement_timeout('FREE', '2 h');
select kijko.set_statement_timeout('PRO', '5 s');
\set org '00000000-0000-4000-8000-00000000000a'
create function time_of(organization uuid, member uuid default null) returns text language plpgsql as $$
begin
    perform set_config('statement_timeout', '8s', true);
    perform kijko.admit_request(organization, member);
    return current_setting('statement_timeout');
end
$$;
select time_of(:'org') as the_roles;
select kijko.set_statement_timeout('*', '3 s');
select kijko.set_statement_timeout('user', '2 s');
select kijko.set_statement_timeout('anonymous', '1 s');
select time_of(:'org') as any, time_of(null, :'org') as user, time_of(null) as anonymous;
select kijko.set_tier(:'org', 'PRO');
select time_of(:'org') as pro;
-- It applies to the next statement of the transaction, and to no other transaction.
select kijko.set_statement_timeout('PRO', '20 ms');
begin;
select kijko.admit_request(:'org');
select pg_sleep(10);
rollback;
show statement_timeout;
select kijko.set_statement_timeout('PRO', null);
select time_of(:'org') as any;
-- Without its table the role's timeout applies.
alter table kijko.statement_timeouts rename to away;
\c
set request.method = 'GET';
select time_of(null) as the_roles;
alter table kijko.away rename to statement_timeouts;

-- Headers.
set request.headers = '{"prefer": "return=minimal"}';
select kijko.check_request();
set request.headers = '{"prefer": "return=minimal, COUNT = \"Planned\""}';
select kijko.check_request();
select kijko.admit_request(:'org');
set request.headers = '{"prefer": "count=estimated"}';
select kijko.check_request();
set request.headers = '{"prefer": "tx=rollback"}';
select kijko.check_request();
set request.headers = '{"x-anything": "a�b"}';
select kijko.check_request();
set request.headers = '';
select kijko.check_request();
reset request.method;
drop table t cascade;
drop domain nickname;
drop function inside(text), embeds(integer, integer), much(), time_of(uuid, uuid);
drop extension kijko cascade;
