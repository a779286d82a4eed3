// What a call of any function of an extension costs that answers a verdict.
#include "postgres.h"
#include "fmgr.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(empty);

Datum empty(PG_FUNCTION_ARGS) { PG_RETURN_NULL(); }
