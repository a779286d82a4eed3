# status and the table that `up` prints. Sourced by ./kijko.
# shellcheck shell=bash

command_status() {
  case "$#:${1:-}:${2:-}" in
    0::) print_status ;;
    2:-o:env) print_environment ;;
    *) misuse "status takes nothing or '-o env'" ;;
  esac
}

# Exit status 1 when anything is not running or not healthy, so that scripts can ask.
print_status() {
  local name all_well=0
  printf '%-10s %-9s %-6s %-10s %s\n' PART STATE PORT HEALTH VERSION
  for name in postgres "${SERVICES[@]}"; do
    print_part "$name" || all_well=1
  done
  print_rotation || all_well=1
  return "$all_well"
}

# Without it the logs grow without a bound.
print_rotation() {
  local state
  state=$(part_state rotation)
  rotation_is_off && state=off
  printf '%-10s %-9s %-6s %-10s %s\n' rotation "$state" - - -
  [ "$state" = running ] || [ "$state" = off ]
}

print_part() {
  local name=$1 state health=- version=- result=0
  state=$(part_state "$name")
  if [ "$state" = running ]; then
    if part_healthy "$name"; then health=ok; else health=unhealthy result=1; fi
    version=$(service_version "$name")
  else
    result=1
  fi
  printf '%-10s %-9s %-6s %-10s %s\n' "$name" "$state" "$(service_port "$name")" "$health" "${version:--}"
  if [ "$state" = crashed ]; then printf '           its last lines are in %s\n' "$LOGS/$name.log"; fi
  return "$result"
}

# A pid file without its process is a crash: `down` removes the file.
part_state() {
  if [ "$1" = postgres ]; then
    if [ -x "$PG_BIN/pg_ctl" ] && postgres_running; then
      echo running
    elif [ -f "$DATA/postmaster.pid" ]; then echo crashed; else echo stopped; fi
  elif service_pid "$1" > /dev/null; then
    echo running
  elif [ -f "$RUN/$1.pid" ]; then echo crashed; else echo stopped; fi
}

part_healthy() {
  if [ "$1" = postgres ]; then
    postgres_answers
  else
    answers "$1"
  fi
}

ENVIRONMENT_NAMES=(API_URL DB_URL ADMIN_DB_URL ANON_KEY SERVICE_ROLE_KEY SIDECAR_URL SIDECAR_OPERATORS_URL STRIPE_WEBHOOK_SECRET_LOCAL)

print_environment() {
  require_running
  [ -f "$SECRETS/api_keys" ] || fail "there are no API keys yet: './kijko up' makes them"
  local name
  for name in "${ENVIRONMENT_NAMES[@]}"; do
    printf '%s="%s"\n' "$name" "$(environment_value "$name")"
  done
}

environment_value() {
  case $1 in
    API_URL) echo "$PUBLIC_URL" ;;
    SIDECAR_URL) echo "http://127.0.0.1:$SIDECAR_PORT" ;;
    SIDECAR_OPERATORS_URL) echo "http://127.0.0.1:$SIDECAR_OPERATORS_PORT" ;;
    *) echo "${!1}" ;;
  esac
}

# For the programs that the script starts: demo, journeys, benchmarks.
export_environment() {
  local name
  for name in "${ENVIRONMENT_NAMES[@]}"; do
    export "$name=$(environment_value "$name")"
  done
  export KIJKO_HOME
}

print_summary() {
  cat << TEXT

  API URL       $PUBLIC_URL
  anon key      $ANON_KEY
  logs          $LOGS   (./kijko logs)
  the service key and the database's URL: ./kijko status -o env

TEXT
  [ ! -f "$KIJKO_HOME/paused" ] || say "  PAUSED since a restore: no job and no schedule runs until './kijko resume'"
}
