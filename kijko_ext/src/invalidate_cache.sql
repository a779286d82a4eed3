-- Each backend caches rows of some tables. A change of one invalidates the caches of every backend with the commit.
create table kijko.cache_changes ();
comment on table kijko.cache_changes is 'Always empty. When Postgres reports a change of it, which it does when the extension is dropped or any of the cached tables is truncated, every backend reads again what it caches.';
alter table kijko.cache_changes replica identity full; -- it has no key
create function kijko.invalidate_cache() returns trigger
    language c as 'MODULE_PATHNAME', 'kijko_invalidate_cache';
comment on function kijko.invalidate_cache() is 'Trigger on tables that backends cache, for each row and for each statement that truncates: what backends have cached of the row is invalid from the commit on, before the commit returns. The first argument is the cache: limits, tiers, api_keys, memberships, rate_limit_policies, statement_timeouts, ledger_partitions or issuers. The second is the column with the subject; without one every subject''s part is invalid. Enable it always: for rows of a logical subscription, too.';
