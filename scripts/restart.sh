# ./kijko restart: parts are stopped in good order and started again, without a build. Sourced by ./kijko.
# shellcheck shell=bash

command_restart() {
  local part=${1:-all}
  [ "$#" -le 1 ] || misuse "restart takes nothing or one part: postgres ${SERVICES[*]} rotation"
  [[ " all postgres rotation ${SERVICES[*]} " = *" $part "* ]] || misuse "there is no part '$part': postgres ${SERVICES[*]} rotation"
  [ -f "$KIJKO_HOME/applied" ] && load_secrets || fail "there is no stack yet: './kijko up' makes one"
  case $part in
    all)
      stop_services
      restart_postgres
      restart_services "${SERVICES[@]}"
      ;;
    postgres) restart_postgres ;;
    *) restart_services "$part" ;;
  esac
}

# The others reconnect by themselves, so the restart of Postgres alone leaves them running.
restart_postgres() {
  step "Postgres stops" "see $LOGS/postgres.log" stop_postgres
  configure_cluster
  step "Postgres on port $DB_PORT" "see $LOGS/postgres.log" start_postgres
  await_running_services
}

await_running_services() {
  local name
  for name in "${SERVICES[@]}"; do
    if service_pid "$name" > /dev/null; then
      step "$name on port $(service_port "$name")" "see $LOGS/$name.log" await_service "$name"
    fi
  done
}

# restart_services NAME…: from the checkout's configuration. The rotation has no port and answers nothing.
restart_services() {
  local name
  [[ " $* " != *" rest "* ]] || have_requests_commit
  for name in "$@"; do stop_service "$name"; done
  cp "$ROOT/deploy/Caddyfile" "$KIJKO_HOME/Caddyfile"
  service_pid rotation > /dev/null || start_rotation
  for name in "$@"; do
    [ "$name" = rotation ] || "start_$name"
  done
  for name in "$@"; do
    [ "$name" = rotation ] || step "$name on port $(service_port "$name")" "see $LOGS/$name.log" await_service "$name"
  done
  give_to_os_user "$LOGS"/*.log
}
