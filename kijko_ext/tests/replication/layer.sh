# shellcheck shell=bash
# Sourced by run.sh. A logical subscription between two databases of one server: rows that its worker applies invalidate what
# the sessions of the subscriber have cached.

layer_replication() {
  local names='kijko.limits, kijko.calendars, kijko.tiers, kijko.rate_limit_policies, kijko.statement_timeouts, kijko.api_keys, kijko.api_key_secrets, memberships'
  as_postgres tee -a "$DATA/postgresql.auto.conf" > /dev/null <<< "wal_level = 'logical'"
  server -m fast restart
  local database
  for database in source copy; do
    run_psql -d postgres -c "create database $database"
    run_psql -d "$database" -f "$TESTS/replication/tables.sql"
  done
  run_psql -d source -c "create publication p for table $names"
  # Made by hand: making it in the subscription would wait for itself in the same server.
  run_psql -d source -At -c "select from pg_create_logical_replication_slot('s', 'pgoutput')"
  run_psql -d copy -c "create subscription s connection 'host=$RUN port=5432 user=postgres dbname=source' publication p
    with (create_slot = false, slot_name = 's')" 2> /dev/null
  run_psql -d copy -At -v ON_ERROR_STOP=1 -v source="$BIN/psql -X -q -h $RUN -p 5432 -U postgres -d source" -f "$TESTS/replication/changes.sql" \
    > "$HOME_DIR/replication.out" 2>&1 || { cat "$HOME_DIR/replication.out" && return 1; }
  diff "$TESTS/replication/expected.out" "$HOME_DIR/replication.out"
  run_psql -d copy -c 'drop subscription s'
}
