\set SHOW_CONTEXT never
\pset null '<null>'
-- The key file of the tests has one key, of bytes 0 to 31.
select kijko.seal_key_ids();
-- A text that another implementation sealed.
\set foreign kjs1.41428f809d93edc8.ZGVmZ2hpamtsbW5vYUCQe5t9q99kXDQ297-uW3Z6YSHzqu4_cCrHxU7cAtcmm9rmM9u1nTcgaAG_RfniMV4JpKkM74WY5iQ0qatDNLpJROD8IxBBmjyAfzYc_ss
select kijko.unseal(:'foreign', 'secrets/x'), kijko.can_unseal(:'foreign', 'secrets/x'), kijko.seal_key_id(:'foreign');
-- What is sealed comes back; no text comes twice; the length tells a step only; the plaintext is not in it.
create table sealed as select n, kijko.seal(repeat('é', n), 'context ' || n) as value from generate_series(0, 700) as n;
select count(*), count(distinct value), count(distinct length(value)) as lengths, min(length(value)), max(length(value)) from sealed;
select count(*) from sealed where kijko.unseal(value, 'context ' || n) <> repeat('é', n) or kijko.seal_key_id(value) <> '41428f809d93edc8';
select kijko.unseal(kijko.seal('', 'x'), 'x') = '' as empty, length(kijko.unseal(kijko.seal(repeat('x', 65536), 'x'), 'x')) as longest;
-- Anything else is one error.
\set VERBOSITY default
select kijko.unseal(:'foreign', 'secrets/y');
\set VERBOSITY terse
select kijko.unseal(value, 'context 8') from sealed where n = 7;
select kijko.unseal(:'foreign' || 'A', 'secrets/x');
select kijko.unseal(left(:'foreign', -4), 'secrets/x');
select kijko.unseal(replace(:'foreign', 'ZGVm', 'ZGVn'), 'secrets/x');
select kijko.unseal(replace(:'foreign', '41428f809d93edc8', '41428f809d93edc9'), 'secrets/x');
select kijko.unseal('plaintext', 'secrets/x');
select kijko.unseal('', 'secrets/x');
select kijko.reseal(:'foreign', 'secrets/y');
select kijko.can_unseal(:'foreign', 'secrets/y'), kijko.can_unseal('plaintext', 'x'), kijko.can_unseal(null, 'x'), kijko.can_unseal(:'foreign', null),
    kijko.can_unseal(:'foreign', '');
-- Arguments.
select kijko.seal(null, 'x');
select kijko.seal('x', null);
select kijko.seal('x', '');
select kijko.seal('x', repeat('x', 1025));
select kijko.seal(repeat('x', 65537), 'x');
select kijko.unseal(null, 'x');
select kijko.unseal(:'foreign', null);
select kijko.reseal(null, 'x');
select kijko.seal_key_id(null), kijko.seal_key_id('plaintext'), kijko.seal_key_id('kjs1.41428f809d93edc8.AAAA');
-- A column of sealed text takes no plaintext.
create table stored (value kijko.sealed);
insert into stored select kijko.seal('secret', 'x');
insert into stored values (null);
insert into stored values ('plaintext');
insert into stored values ('');
select kijko.unseal(value, 'x') from stored where value is not null;
-- Only superusers see the file's path, only the configuration file sets it, and nobody may seal without a grant.
create role reader;
set role reader;
\set VERBOSITY sqlstate
show kijko.seal_key_file;
\set VERBOSITY terse
select kijko.seal('x', 'x');
select kijko.unseal('x', 'x');
select kijko.reseal('x', 'x');
select kijko.can_unseal('x', 'x');
select kijko.seal_key_ids();
-- The form of a text is no secret.
select kijko.seal_key_id(:'foreign');
reset role;
set kijko.seal_key_file = '/etc/passwd';
drop role reader;
-- A second key in front: noticed at the next call. The server computes a key's id in the same way.
create function line(key bytea) returns text language sql immutable
return left(encode(sha256('\x6b696a6b6f207365616c206b6579203100' || key), 'hex'), 16) || ' ' || encode(key, 'base64');
create table keys (n integer, line text);
insert into keys select 1, line(decode(string_agg(lpad(to_hex(b), 2, '0'), '' order by b), 'hex')) from generate_series(0, 31) as b;
insert into keys select 2, line(decode(string_agg(lpad(to_hex(b), 2, '0'), '' order by b), 'hex')) from generate_series(32, 63) as b;
select format('umask 077; cat > %1$s.new; mv %1$s.new %1$s', quote_literal(current_setting('kijko.seal_key_file'))) as replace \gset
copy (select line from keys order by n desc) to program :'replace';
select kijko.seal_key_ids() = array(select split_part(line, ' ', 1) from keys order by n desc) as both;
select kijko.unseal(:'foreign', 'secrets/x');
update sealed set value = kijko.reseal(value, 'context ' || n) where n < 100;
select split_part(k.line, ' ', 1) = (kijko.seal_key_ids())[1] as current, count(*)
from sealed as s join keys as k on split_part(k.line, ' ', 1) = kijko.seal_key_id(s.value) group by 1 order by 1;
select kijko.reseal(value, 'context ' || n) = value as unchanged from sealed where n = 99;
select count(*) from sealed where kijko.unseal(value, 'context ' || n) <> repeat('é', n);
-- Without the former key its texts are closed; with it they open again.
copy (select line from keys where n = 2) to program :'replace';
select count(*) filter (where kijko.can_unseal(value, 'context ' || n)) as opens, count(*) from sealed;
select kijko.unseal(:'foreign', 'secrets/x');
-- A file that cannot be used: no call works, and no message has anything of it.
\set VERBOSITY default
copy (select 'a secret by mistake') to program :'replace';
select kijko.seal('x', 'x');
select kijko.can_unseal('x', 'x');
copy (select line from keys union all select line from keys where n = 1) to program :'replace';
select kijko.seal_key_ids();
copy (select '# nothing') to program :'replace';
select kijko.unseal(:'foreign', 'secrets/x');
select format('cat > /dev/null; chmod 0644 %s', quote_literal(current_setting('kijko.seal_key_file'))) as expose,
    format('cat > /dev/null; rm %s', quote_literal(current_setting('kijko.seal_key_file'))) as remove \gset
copy (select line from keys where n = 1) to program :'replace';
copy (select) to program :'expose';
select kijko.seal('x', 'x');
copy (select) to program :'remove';
select kijko.seal('x', 'x');
-- Back to the first key.
copy (select line from keys where n = 1) to program :'replace';
select kijko.unseal(:'foreign', 'secrets/x');
drop table sealed, stored, keys;
drop function line(bytea);
