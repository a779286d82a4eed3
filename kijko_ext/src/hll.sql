-- A null row is left out.
create aggregate kijko.hll_add_agg(uuid) (sfunc = kijko.hll_add, stype = internal, sspace = 2048, finalfunc = kijko.hll_final);
create aggregate kijko.hll_union_agg(bytea) (sfunc = kijko.hll_merge, stype = internal, sspace = 2048, finalfunc = kijko.hll_final);
comment on aggregate kijko.hll_add_agg(uuid) is 'A HyperLogLog sketch of these elements, at most 4 KiB. Null without an element.';
comment on aggregate kijko.hll_union_agg(bytea) is 'The sketch of the union of sketched sets. Null without a sketch.';
comment on function kijko.hll_add(internal, uuid) is 'Step of the aggregate hll_add_agg.';
comment on function kijko.hll_merge(internal, bytea) is 'Step of the aggregate hll_union_agg.';
comment on function kijko.hll_final(internal) is 'Last step of the aggregates hll_add_agg and hll_union_agg.';
comment on function kijko.hll_cardinality(bytea) is 'How many distinct elements a sketch has seen, with a standard error of 1.6 per cent; 0 for null.';
