-- Keys of an n-gram index, and the lines that have a literal.
\set one '''00000000-0000-4000-8000-000000000001'''
\set two '''00000000-0000-4000-8000-000000000002'''
-- A text has the keys of its parts, in any case and with marks, and no others.
select part, kijko.text_grams('fn Parse(x: &str) -> &Path { Über }', :one) @> kijko.text_grams(part, :one) as found
from (values ('parse('), (') -> &'), ('PATH { Ü'), ('parser'), ('Über')) as v (part);
select cardinality(kijko.text_grams('ab', :one)) as short, cardinality(kijko.text_grams('abcabc', :one)) as distinct_ones;
-- Keys of organizations lie apart.
select kijko.text_grams('some text', :one) && kijko.text_grams('some text', :two) as shared;
-- Words of a name.
select name, kijko.name_grams(name, :one) @> kijko.name_grams('user', :one) as word, kijko.name_grams(name, :one) @> kijko.text_grams('user', :one) as part
from (values ('findUserById'), ('find_user'), ('HTTPUser'), ('superuser'), ('users')) as v (name);
select kijko.name_grams('', :one) as empty, kijko.text_grams(null, :one) is null as of_null;
-- An index of both organizations.
create table sample (organization uuid, content text);
insert into sample select :one, 'line ' || n || ' of one' from generate_series(1, 200) as n;
insert into sample values (:two, 'line 7 of two');
create index on sample using gin (kijko.text_grams(content, organization));
set enable_seqscan = off;
select content from sample where kijko.text_grams(content, :one) @> kijko.text_grams('7 of', :one) order by content limit 3;
select content from sample where kijko.text_grams(content, organization) @> kijko.text_grams('7 OF t', :two);
drop table sample;
-- Lines: the first place of each, in bytes, with lines around it.
select * from kijko.find_lines(E'fn parse() {\r\n  let Größe = parser();\n  parse()\n}\n', 'PARSE', false, false, 1, 10);
select line, "column" from kijko.find_lines(E'fn parse() {\r\n  let Größe = parser();\n  parse()\n}\n', 'parse', true, true, 0, 10);
select line from kijko.find_lines(E'a\na\na', 'a', true, false, 0, 2);
select count(*) as none from kijko.find_lines('text', '', true, false, 0, 10);
select count(*) as none from kijko.find_lines(null, 'a', true, false, 0, 10);
select count(*) as none from kijko.find_lines('text', 't', true, false, -1, -1);
-- A line without end is cut around what was found.
select length(content) as characters, content like '%needle%' as has_it from kijko.find_lines(repeat('x', 100000) || 'needle' || repeat('x', 100000), 'Needle', false, false, 0, 1);
