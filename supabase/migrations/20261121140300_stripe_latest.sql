-- ============================================================================
-- Stripe: which event of an object is the latest. stripe.sql lists the rules.
-- ============================================================================

create function private.stripe_path_ends(before jsonb[], after jsonb[]) returns jsonb[]
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select step.state
    from (
      select u.after as state, 1 as entered from unnest(before, after) as u (before, after) where u.before is not null
      union all
      select u.before, -1 from unnest(before, after) as u (before, after) where u.before is not null
    ) as step
    group by step.state
    having sum(step.entered) > 0
  );
end
$$;
comment on function private.stripe_path_ends(jsonb[], jsonb[]) is 'States that updates enter more often than they leave. An update leaves the state before it and enters the one after it. All updates of a second form one path, and only its last state is entered once more than it is left, however often the path passes a state. While updates are missing, each piece of the path has such an end.';

create function private.stripe_path_from(start jsonb, before jsonb[], after jsonb[]) returns jsonb[]
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  reached jsonb[] := array_remove(array[start], null);
  next jsonb[];
begin
  loop
    next := array(
      select distinct u.after from unnest(before, after) as u (before, after)
      where u.before = any (reached) and not u.after = any (reached)
    );
    exit when next = '{}';
    reached := reached || next;
  end loop;
  return reached;
end
$$;
comment on function private.stripe_path_from(jsonb, jsonb[], jsonb[]) is 'All states that updates lead to from one state, itself included.';

create function private.stripe_latest_in_second(object_id text, livemode boolean, rank smallint, created timestamptz)
returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  ids text[];
  objects jsonb[];
  changes jsonb[]; -- previous_attributes of those that are updates
  mask jsonb := '{}'::jsonb;
  after jsonb[];
  before jsonb[];
  ends jsonb[];
  past jsonb;
  first_piece jsonb[] := '{}'::jsonb[];
  preference integer;
  highest integer := -1;
  winner integer;
begin
  select array_agg(e.id order by e.id collate "C" desc),
    array_agg(e.payload #> '{data,object}' order by e.id collate "C" desc),
    array_agg(case when jsonb_typeof(e.payload #> '{data,previous_attributes}') = 'object' then e.payload #> '{data,previous_attributes}' end
      order by e.id collate "C" desc)
  into ids, objects, changes
  from private.stripe_events as e
  where e.object_id = stripe_latest_in_second.object_id and e.livemode = stripe_latest_in_second.livemode
    and e.status = 'applied' and e.rank = stripe_latest_in_second.rank and e.created = stripe_latest_in_second.created;

  -- Events that show the same state, such as the three of a payment, are equal by every rule but the last.
  if objects[1] = all (objects) then
    return ids[1];
  end if;

  -- Without nulls: a metadata key that was added had the former value null, but was absent.
  objects := array(select jsonb_strip_nulls(o.value) from unnest(objects) with ordinality as o (value, n) order by o.n);
  -- Only fields that an update of this second changed can differ between the states: each update names all that it changed.
  for i in 1 .. cardinality(ids) loop
    if changes[i] is not null then
      mask := private.stripe_add_fields(mask, changes[i]);
    end if;
  end loop;
  for i in 1 .. cardinality(ids) loop
    after[i] := private.stripe_masked(objects[i], mask);
    before[i] := case when changes[i] is not null then jsonb_strip_nulls(private.stripe_deep_merge(after[i], changes[i])) end;
  end loop;

  ends := private.stripe_path_ends(before, after);
  if cardinality(ends) <> 1 and mask <> '{}' then
    -- The path has several pieces, or ends where it began. It began with the last state of the second before.
    select private.stripe_masked(jsonb_strip_nulls(e.payload #> '{data,object}'), mask) into past
    from private.stripe_events as e
    where e.livemode = stripe_latest_in_second.livemode
      and e.id = private.stripe_latest_event(
        stripe_latest_in_second.object_id, stripe_latest_in_second.livemode, stripe_latest_in_second.rank, stripe_latest_in_second.created
      );
    if ends = '{}' then
      ends := array[past];
    else
      first_piece := private.stripe_path_from(past, before, after);
    end if;
  end if;

  -- An end that is not in the first piece comes first, then any end, then any state. Ties: by sort key, then by id.
  for i in 1 .. cardinality(ids) loop
    preference := case when after[i] = any (ends) then 2 else 0 end + case when after[i] = any (first_piece) then 0 else 1 end;
    if preference > highest
      or (preference = highest and private.stripe_sort_key(objects[i]) > private.stripe_sort_key(objects[winner]))
    then
      highest := preference;
      winner := i;
    end if;
  end loop;
  return ids[winner];
end
$$;
comment on function private.stripe_latest_in_second(text, boolean, smallint, timestamptz) is 'Id of the latest among the applied events of an object with this rank and second, by their before-images.';

create function private.stripe_latest_event(
  object_id text, livemode boolean, below_rank smallint default null, below_created timestamptz default null
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  top record;
begin
  select e.id, e.rank, e.created,
    exists (
      select from private.stripe_events as other
      where other.object_id = e.object_id and other.livemode = e.livemode and other.status = 'applied'
        and other.rank = e.rank and other.created = e.created and other.id <> e.id
    ) as tied
  into top
  from private.stripe_events as e
  where e.object_id = stripe_latest_event.object_id
    and e.livemode = stripe_latest_event.livemode
    and e.status = 'applied'
    and (below_rank is null or (e.rank, e.created) < (below_rank, below_created))
  order by e.rank desc, e.created desc, e.id collate "C" desc
  limit 1;
  if top.tied then
    return private.stripe_latest_in_second(stripe_latest_event.object_id, stripe_latest_event.livemode, top.rank, top.created);
  end if;
  return top.id;
end
$$;
comment on function private.stripe_latest_event(text, boolean, smallint, timestamptz) is 'Id of the latest applied event of an object, regardless of the order of arrival. With a rank and a time, of the events before these. stripe.sql lists the rules.';
