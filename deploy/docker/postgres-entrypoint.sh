#!/usr/bin/env bash
# Makes the cluster on the first start, applies sql/platform once, then becomes Postgres. Runs as the user postgres.
# Safe to interrupt: what was not finished is done at the next start.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"

# Other containers connect from the compose network; `samenet` is that network and no other. Passwords stay scram.
allow_network() {
  local line='host all all samenet scram-sha-256'
  grep -qxF "$line" "$DATA/pg_hba.conf" || printf '%s\n' "$line" >> "$DATA/pg_hba.conf"
}

# On a server that listens on 127.0.0.1 only: no client sees half of it.
prepare_database() {
  if [ ! -f "$KIJKO_HOME/applied" ]; then
    say "roles, extension, login (sql/platform)"
    apply_platform
  elif [ -n "$(pending_platform)$(extension_update)" ]; then
    say "what is new in sql/platform and the extension"
    upgrade_platform
  fi
  set_login_settings
  point_schedules
  make_api_keys
  what_is_prepared > "$KIJKO_HOME/prepared"
}

# The environment that the database was last given, and what this image applies.
what_is_prepared() {
  printf '%s\n' "$PUBLIC_URL" "$SITE_URL" "$REDIRECT_URLS" "$MAIL_CONFIRM" "$BCRYPT_COST" "$(schedule_socket)"
  platform_state "$PG_PREFIX"
}

main() {
  make_folders
  # A server that was killed a moment ago still ends.
  lock_server 30
  rm -f "$SERVING"
  take_secrets
  make_signing_keys
  make_seal_keys
  load_secrets
  if [ ! -f "$DATA/PG_VERSION" ]; then
    say "a new database cluster"
    init_cluster
  fi
  allow_network
  refuse_platform_drift "$BUILD_PREFIX"
  configure_cluster
  if [ "$(cat "$KIJKO_HOME/prepared" 2> /dev/null)" != "$(what_is_prepared)" ]; then
    start_postgres
    prepare_database
    stop_postgres
  fi
  touch "$SERVING"
  exec "$PG_BIN/postgres" -D "$DATA" -c listen_addresses='*' "$@"
}

main "$@"
