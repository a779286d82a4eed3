create function kijko.find_subject_rows(relation regclass, subject uuid) returns tid[]
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_find_subject_rows';
comment on function kijko.find_subject_rows(regclass, uuid) is 'Internal: where the rows of a subject are in a table, as the running statement sees them; null without one. It takes no predicate lock.';

create function kijko.delete_subject_rows(relation regclass, subject uuid) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off -- by their places, also in a table of one page
as $$
declare
    places tid[];
begin
    -- Again for rows that somebody else has changed in between. A statement that finds no row does not run: even a delete of
    -- none may have every backend read the table again.
    loop
        places := kijko.find_subject_rows(relation, subject);
        exit when places is null;
        execute pg_catalog.format('delete from %s where ctid = any ($1)', relation) using places;
    end loop;
end
$$;
comment on function kijko.delete_subject_rows(regclass, uuid) is 'Internal: deletes the rows of a subject in a table of the extension. In a SERIALIZABLE transaction it locks these rows alone.';
