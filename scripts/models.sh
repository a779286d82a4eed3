# Prices of models. Sourced by ./kijko.
# shellcheck shell=bash

command_models() {
  [ "${1:-}" = import ] && [ "$#" = 2 ] || misuse "models: only './kijko models import FILE'"
  [ -f "$2" ] && [ -r "$2" ] || misuse "there is no file '$2'"
  load_secrets && [ -x "$PG_BIN/psql" ] || fail "there is no database yet: './kijko up' makes one"
  import_llm_prices "$2" || fail "nothing was imported from '$2'"
}

# The file is too long for an argument; psql reads it by itself and sends it as one value. In one statement: all or nothing.
import_llm_prices() {
  KIJKO_PRICES_FILE=$1 owner_psql -At -v VERBOSITY=terse << 'SQL'
\set prices `cat "$KIJKO_PRICES_FILE"`
select private.models_import_prices(:'prices'::jsonb) as result \gset
select format('%s added, %s changed, %s unchanged, %s skipped',
  t.result ->> 'added', t.result ->> 'changed', t.result ->> 'unchanged', jsonb_array_length(t.result -> 'skipped'))
from (select :'result'::jsonb as result) as t;
select format('skipped, %s (%s): %s%s', g.reason, g.count, array_to_string(g.models[:10], ', '), case when g.count > 10 then ', ...' else '' end)
from (
  select s.reason, count(*), array_agg(s.model order by s.model) as models
  from jsonb_to_recordset(:'result'::jsonb -> 'skipped') as s (model text, reason text)
  group by s.reason
) as g
order by g.count desc, g.reason;
SQL
}
