-- A null row is left out.
create aggregate kijko.array_sum(bigint[]) (
    sfunc = kijko.array_sum_add, stype = internal, sspace = 512, finalfunc = kijko.array_sum_final
);
create aggregate kijko.array_sum(integer[]) (
    sfunc = kijko.array_sum_add_int, stype = internal, sspace = 512, finalfunc = kijko.array_sum_final
);
comment on aggregate kijko.array_sum(bigint[]) is 'The sum of arrays of the same length, element by element: of array[1, 2] and array[10, 20], {11,22}. Null without an array.';
comment on aggregate kijko.array_sum(integer[]) is 'The sum of arrays of the same length, element by element, as bigints. Null without an array.';
comment on function kijko.array_sum_add(internal, bigint[]) is 'Step of the aggregate array_sum.';
comment on function kijko.array_sum_add_int(internal, integer[]) is 'Step of the aggregate array_sum of integers.';
comment on function kijko.array_sum_final(internal) is 'Last step of the aggregate array_sum.';
