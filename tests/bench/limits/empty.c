// What a call of any function of an extension costs that is declared to answer a verdict: one that answers null, and one
// that answers always the same.
#include "postgres.h"
#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/typcache.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(empty);
PG_FUNCTION_INFO_V1(constant);

Datum empty(PG_FUNCTION_ARGS) { PG_RETURN_NULL(); }

Datum constant(PG_FUNCTION_ARGS) {
  Oid verdict = get_fn_expr_rettype(fcinfo->flinfo);
  TupleDesc columns = lookup_type_cache(verdict, TYPECACHE_TUPDESC)->tupDesc;
  Datum values[8] = {BoolGetDatum(true), 0, PG_GETARG_DATUM(0), Int64GetDatum(1), Int64GetDatum(10), Int64GetDatum(9), Int64GetDatum(0), 0};
  bool nulls[8] = {false, true, false, false, false, false, false, true};
  PG_RETURN_DATUM(HeapTupleHeaderGetDatum(heap_form_tuple(columns, values, nulls)->t_data));
}
