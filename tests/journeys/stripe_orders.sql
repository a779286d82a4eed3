-- Applies the same events in many orders, each order undone again, and tells every end that was reached: there should be one.
create function pg_temp.ends(org uuid, tag text) returns text language sql as $$
  select jsonb_build_object(
    'plan', (select to_jsonb(s) - 'updated_at' from public.subscriptions as s where s.org_id = org),
    'limits', (select jsonb_object_agg(u.meter, u."limit") from kijko.usage(org) as u),
    'customers', (select jsonb_agg(to_jsonb(c) order by c.id) from public.stripe_customers as c where c.id like '%' || tag),
    'checkouts', (select jsonb_agg(to_jsonb(c) order by c.id) from public.stripe_checkouts as c where c.id like '%' || tag),
    'subscriptions', (select jsonb_agg(to_jsonb(s) order by s.id) from public.stripe_subscriptions as s where s.id like '%' || tag),
    'invoices', (select jsonb_agg(to_jsonb(i) order by i.id) from public.stripe_invoices as i where i.id like '%' || tag),
    'prices', (select jsonb_agg(to_jsonb(p) order by p.id) from public.stripe_prices as p where p.id like '%' || tag),
    'failed', (select jsonb_agg(e.error order by e.id) from private.stripe_events as e where e.id like '%' || tag and e.status = 'failed')
  )::text
$$;

-- In the order given, or shuffled by a seed; some twice, if asked for.
create function pg_temp.apply(org uuid, tag text, events jsonb, seed double precision default null, twice boolean default false) returns text
language plpgsql as $$
declare
  event jsonb;
  reached text;
begin
  perform setseed(coalesce(seed, 0));
  begin
    for event in
      select e.value
      from jsonb_array_elements(events) with ordinality as e (value, n)
      cross join generate_series(1, case when twice then 2 else 1 end) as copy
      where copy = 1 or random() < 0.4
      order by case when seed is null then e.n else random() end
    loop
      perform private.stripe_ingest_event(event);
    end loop;
    reached := pg_temp.ends(org, tag);
    raise exception 'undone' using errcode = 'ZZZZZ';
  exception when sqlstate 'ZZZZZ' then
    null; -- variables keep their values, rows do not
  end;
  return reached;
end
$$;

-- Every order. Orders that begin alike share their beginning, so five events take 325 steps instead of 600.
create function pg_temp.permute(org uuid, tag text, events jsonb, reached text[] default '{}') returns text[]
language plpgsql as $$
declare
  found text[] := reached;
  one text;
begin
  if jsonb_array_length(events) = 0 then
    one := pg_temp.ends(org, tag);
    return case when one = any (found) then found else found || one end;
  end if;
  for i in 0 .. jsonb_array_length(events) - 1 loop
    begin
      perform private.stripe_ingest_event(events -> i);
      found := pg_temp.permute(org, tag, events - i, found);
      raise exception 'undone' using errcode = 'ZZZZZ';
    exception when sqlstate 'ZZZZZ' then
      null;
    end;
  end loop;
  return found;
end
$$;
