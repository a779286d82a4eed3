-- ============================================================================
-- Foundation: gauges, which count the rows that an organization has. Plans limit them.
--
-- The tables are authoritative. A trigger adjusts the extension's gauge in the same transaction, once for each statement and
-- organization.
-- ============================================================================

create function private.sync_gauge() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- The transition table has the same name in both triggers: the inserted rows, or the deleted ones.
  sign integer := case tg_op when 'INSERT' then 1 else -1 end;
begin
  perform kijko.adjust_gauge(c.org_id, tg_argv[0], sign * c.rows)
  from (select r.org_id, count(*) as rows from changed as r group by r.org_id) as c;
  return null;
end
$$;
comment on function private.sync_gauge() is 'Trigger: adjusts the gauge that its argument names by the inserted or deleted rows. Rows beyond the limit fail with quota_exceeded. Definer: only the domain may adjust gauges.';
