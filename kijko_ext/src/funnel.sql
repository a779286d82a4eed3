create aggregate kijko.funnel_depth(
    at timestamptz, matched integer, length integer, "window" bigint, strict_increase boolean
) (sfunc = kijko.funnel_add, stype = internal, sspace = 1024, finalfunc = kijko.funnel_final);
comment on aggregate kijko.funnel_depth(timestamptz, integer, integer, bigint, boolean) is 'How many of the steps of a funnel one person has done in order, each within so many microseconds of the first: the algorithm of ClickHouse''s windowFunnel. matched has a bit for each step that the event is one of, bit 0 for the first. Its input must be in the order of at: from a subquery that is ordered, or by "order by at" in its arguments. With strict_increase a step is later than the one before.';
comment on function kijko.funnel_add(internal, timestamptz, integer, integer, bigint, boolean) is 'Step of the aggregate funnel_depth.';
comment on function kijko.funnel_final(internal) is 'Last step of the aggregate funnel_depth.';
