# The workers of several databases: each is metered by itself, and gives way. Sourced by run.sh.
# shellcheck shell=bash

ORGANIZATION=11111111-1111-4111-8111-111111111111

layer_workers() {
  local database brief
  : > "$RUN/server.log"
  run_psql -d postgres -c 'create extension kijko' -c 'create database one' -c 'create database two'
  for database in one two; do
    run_psql -d "$database" -c 'create extension kijko'
  done
  serve 'one, two, none'
  wait_for '2 2' "$WORKERS"
  # The same subject in two databases.
  requests one 3
  requests two 5
  wait_for 3 "$METERED" one
  wait_for 5 "$METERED" two
  requests two 1
  wait_for 6 "$METERED" two
  expect 3 "$METERED" one

  # A database that is created later, from one with a worker, which leaves meanwhile and comes back.
  serve 'one, two, copy'
  run_psql -d postgres -c 'create database copy template one'
  wait_for '3 3' "$WORKERS"
  requests copy 1
  wait_for 4 "$METERED" copy
  requests one 1
  wait_for 4 "$METERED" one

  # DROP DATABASE fails when somebody is connected for five seconds.
  run_psql -d postgres -c 'drop database copy' -c 'alter database two rename to renamed'
  wait_for '1 1' "$WORKERS"
  requests renamed 1
  serve 'one, "renamed"'
  wait_for '2 2' "$WORKERS"
  requests renamed 1
  wait_for 7 "$METERED" renamed # the request before it was listed is not metered
  # Not listed any more: its worker writes what was counted, and ends.
  requests renamed 2
  serve one
  wait_for '1 1' "$WORKERS"
  wait_for 0 "select count(*) from pg_stat_activity where datname = 'renamed'"
  expect 9 "$METERED" renamed
  requests renamed 1
  expect 1 "select count(*) from pg_stat_activity where backend_type = 'kijko worker'"

  # Each comes back, and there is one for each database.
  serve 'one, renamed'
  wait_for '2 2' "$WORKERS"
  run_psql -d postgres -c "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'kijko worker'" > /dev/null
  requests one 1
  wait_for 5 "$METERED" one
  run_psql -d postgres -c "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'kijko launcher'" > /dev/null
  requests one 1
  wait_for 6 "$METERED" one
  wait_for 'one renamed' "select string_agg(datname, ' ' order by datname) from pg_stat_activity where backend_type = 'kijko worker'"
  expect 9 "$METERED" renamed

  # A full max_worker_processes: said once for each database, and tried again. The launchers of Kijko and of logical replication
  # take two, and one is left for four workers.
  run_psql -d postgres -c 'alter system set max_worker_processes = 3'
  server -m fast restart
  expect 6 "$METERED" one
  wait_for '2 0' "$WORKERS"
  sleep 2.5 # several attempts
  [ "$(grep -c 'there is no room for the workers of database' "$RUN/server.log")" = 2 ] || { echo 'not said once' && return 1; }
  requests renamed 1
  requests one 1
  serve renamed
  wait_for '1 0' "$WORKERS"
  wait_for 10 "$METERED" renamed # what was counted meanwhile

  # A standby is lost: a brief request waits for it, and is not told of a commit that nobody else has; the server stops all the same.
  run_psql -d renamed -c 'create table kept (n integer)' -c "alter system set synchronous_standby_names = 'lost'" -c 'select pg_reload_conf()' > /dev/null
  wait_for lost 'show synchronous_standby_names'
  brief_requests > "$RUN/brief.log" 2>&1 &
  brief=$!
  wait_for 'SyncRep' "select wait_event from pg_stat_activity where application_name = 'brief'"
  requests renamed 1
  wait_for 'SyncRep' "select wait_event from pg_stat_activity where backend_type = 'kijko worker'"
  sleep 0.5 # longer than a brief request may take
  expect 'SyncRep' "select wait_event from pg_stat_activity where application_name = 'brief'"
  requests renamed 1
  server -m fast -t 20 stop
  wait "$brief" || true
  if grep 'canceling wait' "$RUN/brief.log"; then echo 'a commit was cancelled' && return 1; fi
  server -o '-c synchronous_standby_names=' start
  wait_for 14 "$METERED" renamed # also the two above

  # None of them has failed.
  if grep 'FATAL' "$RUN/server.log" | grep -v 'terminating'; then return 1; fi
  # Too many names are refused.
  if serve "$(seq -s, 1 65)" 2> /dev/null; then echo '65 databases' && return 1; fi
}

# Listed databases, and those with a worker.
WORKERS="select string_agg(value::text, ' ' order by metric) from kijko.stats() where metric in ('worker.databases', 'worker.running')"
METERED="select coalesce(sum(amount), 0) from kijko.ledger where subject = '$ORGANIZATION' and meter = 'api_requests'"

# serve NAMES: sets kijko.databases
serve() {
  run_psql -d postgres -c "alter system set kijko.databases = '$1'" -c 'select pg_reload_conf()' > /dev/null
}

# Two requests of a tenant that may hold one connection: one holds it, and the other one writes.
brief_requests() {
  PGAPPNAME=holder run_psql -d renamed -c 'set kijko.connection_pool_size = 2' -c begin -c "select kijko.admit_request('$ORGANIZATION')" \
    -c 'select pg_sleep(60)' > /dev/null &
  wait_for 'PgSleep' "select wait_event from pg_stat_activity where application_name = 'holder'"
  PGAPPNAME=brief run_psql -d renamed -c 'set kijko.connection_pool_size = 2' -c "set kijko.connection_brief_timeout = '300 ms'" -c begin \
    -c "select kijko.admit_request('$ORGANIZATION')" -c 'insert into kept values (1)' -c commit
}

# requests DATABASE NUMBER: as PostgREST makes them, each in a transaction
requests() {
  local number
  for ((number = 0; number < $2; number++)); do
    run_psql -d "$1" -c begin -c "select set_config('request.method', 'GET', true), set_config('request.path', '/', true)" \
      -c "select kijko.admit_request('$ORGANIZATION')" -c commit > /dev/null
  done
}
