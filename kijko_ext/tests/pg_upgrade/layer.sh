# shellcheck shell=bash
# Sourced by run.sh. pg_upgrade moves a cluster whose database the worker serves to a new one; usage counts on.

layer_pg_upgrade() {
  local next=$HOME_DIR/data_next
  run_psql -d postgres -c 'create extension kijko'
  server -m fast restart
  use_before_upgrade postgres
  # The worker is connected, as it always is.
  wait_for 1 "select count(*) from pg_stat_activity where backend_type = 'kijko worker'"
  server -m fast stop
  rm -rf "$next"
  if [ "$(id -u)" = 0 ]; then install -d -o postgres -g postgres -m 700 "$next"; fi
  as_postgres "$BIN/initdb" -D "$next" -U postgres -A trust -E UTF8 --no-locale -N > /dev/null
  # The files of keys stay where they are.
  as_postgres cp "$DATA/postgresql.auto.conf" "$next/postgresql.auto.conf"
  # shellcheck disable=SC2016 # expanded by the inner shell
  as_postgres sh -c 'cd "$1" && "$2/pg_upgrade" -b "$2" -B "$2" -d "$3" -D "$4" -U postgres -s "$1" -p 50432 -P 50433' \
    pg_upgrade "$RUN" "$BIN" "$DATA" "$next" > "$HOME_DIR/pg_upgrade.log" 2>&1 ||
    { cat "$HOME_DIR/pg_upgrade.log" && find "$next" -name '*.log' -exec tail -n 20 {} + && return 1; }
  as_postgres "$BIN/pg_ctl" -D "$next" -l "$RUN/server.log" -w -s start
  expect_upgraded || { as_postgres "$BIN/pg_ctl" -D "$next" -m fast -s stop && return 1; }
  as_postgres "$BIN/pg_ctl" -D "$next" -m fast -s stop
  rm -rf "$next"
}

# After an upgrade of the server nothing else stands in for the worker: it is back.
expect_upgraded() {
  wait_for 1 "select count(*) from pg_stat_activity where backend_type = 'kijko worker'" && expect_use_after_upgrade postgres
}
