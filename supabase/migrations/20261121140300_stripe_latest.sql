-- ============================================================================
-- Stripe: the latest event of an object.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- The latest event of an object
-- ----------------------------------------------------------------------------

create function private.stripe_latest_in_second(object_id text, livemode boolean, rank smallint, created timestamptz)
returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  mask jsonb := '{}'::jsonb;
  before jsonb;
  winner text;
begin
  -- Only fields that an update of this second changed can differ between the states: each update names all that it changed.
  for before in
    select e.payload #> '{data,previous_attributes}'
    from private.stripe_events as e
    where e.object_id = stripe_latest_in_second.object_id and e.livemode = stripe_latest_in_second.livemode
      and e.status = 'applied' and e.rank = stripe_latest_in_second.rank and e.created = stripe_latest_in_second.created
      and jsonb_typeof(e.payload #> '{data,previous_attributes}') = 'object'
  loop
    mask := private.stripe_add_fields(mask, before);
  end loop;

  with recursive tied as materialized (
    -- Without nulls: a metadata key that was added had the former value null, but was absent.
    select e.id, e.payload #> '{data,object}' as object,
      private.stripe_masked(jsonb_strip_nulls(e.payload #> '{data,object}'), mask) as after,
      case when jsonb_typeof(e.payload #> '{data,previous_attributes}') = 'object' then private.stripe_masked(
        jsonb_strip_nulls(private.stripe_deep_merge(e.payload #> '{data,object}', e.payload #> '{data,previous_attributes}')), mask
      ) end as before
    from private.stripe_events as e
    where e.object_id = stripe_latest_in_second.object_id and e.livemode = stripe_latest_in_second.livemode
      and e.status = 'applied' and e.rank = stripe_latest_in_second.rank and e.created = stripe_latest_in_second.created
  ),
  ends as materialized (
    -- An update leaves one state and reaches another. All of a second make one trail, whatever it passes twice: a state
    -- on the way is reached as often as left, and only the last one once more. While updates are missing, each piece of
    -- the trail has such an end.
    select step.state
    from (
      select t.after as state, 1 as reached from tied as t where t.before is not null
      union all
      select t.before, -1 from tied as t where t.before is not null
    ) as step
    group by step.state
    having sum(step.reached) > 0
  ),
  past as materialized (
    -- Where the second before ended; looked up only when the trail has several pieces, or ends where it began.
    select private.stripe_masked(jsonb_strip_nulls(e.payload #> '{data,object}'), mask) as state
    from private.stripe_events as e
    where mask <> '{}'
      and (select count(*) from ends) <> 1
      and e.livemode = stripe_latest_in_second.livemode
      and e.id = private.stripe_latest_event(
        stripe_latest_in_second.object_id, stripe_latest_in_second.livemode, stripe_latest_in_second.rank, stripe_latest_in_second.created
      )
  ),
  first_piece as (
    select p.state from past as p where (select count(*) from ends) > 1
    union
    select t.after from first_piece as f join tied as t on t.before = f.state
  )
  select t.id into winner
  from tied as t
  order by
    case
      when exists (select from ends) then t.after in (select e.state from ends as e)
      else coalesce(t.after = (select p.state from past as p), false)
    end desc,
    t.after in (select f.state from first_piece as f),
    private.stripe_sort_key(t.object) desc,
    t.id collate "C" desc
  limit 1;
  return winner;
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
comment on function private.stripe_latest_event(text, boolean, smallint, timestamptz) is 'Id of the latest applied event of an object (below a rank and second, if given), whatever order they arrived in; the head of this file says how.';
