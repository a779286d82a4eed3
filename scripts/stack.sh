# up, down, reset, demo, types, psql, logs: the commands that act on the whole stack. Sourced by ./kijko.
# shellcheck shell=bash

command_up() {
  case "$#:${1:-}" in
    0:) ;;
    2:--from) up_from "$2" ;;
    2:--with | 2:--without) choose_service "$1" "$2" ;;
    *) misuse "up takes nothing, --from PACKAGE, --with indexer or --without indexer" ;;
  esac
  check_toolchain
  install_apt_packages
  install_npm_packages
  make_folders
  make_secrets
  load_secrets
  refuse_unreachable_home
  refuse_busy_ports
  trap 'interrupted' INT TERM
  # From here on a failure leaves something running.
  trap '[ "$?" = 0 ] || stop_started' EXIT
  build_all
  bring_up_database
  bring_up_services
  trap - EXIT INT TERM
  print_summary
}

# choose_service --with|--without NAME: it is remembered for later calls.
choose_service() {
  local name=$2 kept
  [[ " ${OPTIONAL_SERVICES[*]} " = *" $name "* ]] || misuse "there is no service '$name' to choose: ${OPTIONAL_SERVICES[*]}"
  ! managed_by_systemd || fail "this stack has units: './kijko units remove' first, then this, then './kijko units install'"
  if [ "$1" = --with ]; then
    has_service "$name" && return 0
    printf '%s\n' "$name" >> "$KIJKO_HOME/with"
    SERVICES+=("$name")
  else
    stop_service "$name"
    kept=$(grep -vxF "$name" "$KIJKO_HOME/with" 2> /dev/null) || true
    printf '%s' "${kept:+$kept$'\n'}" > "$KIJKO_HOME/with"
    mapfile -t SERVICES < <(printf '%s\n' "${SERVICES[@]}" | grep -vxF "$name")
  fi
}

# Builds are skipped by their stamps, so a second `up` does not even print these lines.
build_all() {
  if is_prebuilt; then return 0; fi
  if ! extension_is_current; then
    step "the extension (minutes the first time)" "the compiler's message above says what is wrong" build_extension
  fi
  step "the sidecar and the services" "the compiler's message above says what is wrong" build_programs
  printf '%s\n' "$BUILD_PROFILE" > "$KIJKO_HOME/build_profile"
}

bring_up_database() {
  local fresh=no
  # Before anything is stopped or replaced.
  refuse_platform_drift "$BUILD_PREFIX"
  # What an earlier cluster has left may be of another major version, with an extension of the same sources.
  [ -x "$PG_BIN/postgres" ] && cmp -s "$PG_PREFIX/.extension" "$BUILD_PREFIX/.extension" || replace_extension
  if [ ! -f "$DATA/PG_VERSION" ]; then
    fresh=yes
    step "a new database cluster" "see the log; './kijko reset' starts over" init_cluster
  fi
  if ! postgres_running || ! postgres_answers; then
    configure_cluster
    STARTED_POSTGRES=yes
    step "Postgres on port $DB_PORT" "see $LOGS/postgres.log" start_postgres
  fi
  save_ports
  if [ -f "$KIJKO_HOME/applied" ]; then refuse_other_release; fi
  if [ ! -f "$KIJKO_HOME/applied" ]; then
    step "roles, extension, login (sql/platform)" "fix the file named last in the log, then './kijko reset'" apply_platform
  elif [ -n "$(pending_platform)$(extension_update)" ]; then
    step "new roles, extension, login (sql/platform)" "fix the file named last in the log, then try again" upgrade_platform
  fi
  set_login_settings
  have_requests_commit
  make_api_keys
  refuse_migration_drift
  if [ "$fresh" = yes ] || migrations_pending; then
    step "migrations (supabase db push)" "fix the migration named in the log and run './kijko up' again" push_migrations
    reload_schema
  fi
  point_schedules
  record_release
}

# A new library needs a restart of the server; its SQL, when changed, is caught by refuse_platform_drift.
replace_extension() {
  if [ -f "$PG_BIN/pg_ctl" ] && postgres_running; then
    stop_services
    step "Postgres stops for the new extension" "" stop_postgres
  fi
  install_extension
}

migrations_pending() { [ -n "$(pending_migrations)" ]; }

bring_up_services() {
  local name
  if ! cmp -s "$ROOT/deploy/Caddyfile" "$KIJKO_HOME/Caddyfile"; then
    stop_service caddy
    cp "$ROOT/deploy/Caddyfile" "$KIJKO_HOME/Caddyfile"
  fi
  if ! service_pid rotation > /dev/null; then
    STARTED_SERVICES+=(rotation)
    start_rotation
  fi
  if [ -f "$KIJKO_HOME/bin/kijko-sidecar" ] && ! cmp -s "$SIDECAR_BINARY" "$KIJKO_HOME/bin/kijko-sidecar"; then stop_service sidecar; fi
  if [ -f "$KIJKO_HOME/bin/kijko-realtime" ] && ! cmp -s "$REALTIME_BINARY" "$KIJKO_HOME/bin/kijko-realtime"; then stop_service realtime; fi
  if [ -f "$KIJKO_HOME/bin/kijko-storage" ] && ! cmp -s "$STORAGE_BINARY" "$KIJKO_HOME/bin/kijko-storage"; then stop_service storage; fi
  if [ -f "$KIJKO_HOME/bin/kijko-indexer" ] && has_service indexer && ! cmp -s "$INDEXER_BINARY" "$KIJKO_HOME/bin/kijko-indexer"; then stop_service indexer; fi
  for name in "${SERVICES[@]}"; do
    service_pid "$name" > /dev/null && continue
    STARTED_SERVICES+=("$name")
    "start_$name"
  done
  for name in "${SERVICES[@]}"; do
    answers "$name" || step "$name on port $(service_port "$name")" "see $LOGS/$name.log" await_service "$name"
  done
  # Opened by the user of ./kijko, and emptied by the rotation.
  give_to_os_user "$LOGS"/*.log
}

STARTED_POSTGRES=no
STARTED_SERVICES=()

# A failed or interrupted `up` leaves running what ran before it, and nothing that it started.
stop_started() {
  local name
  for name in "${STARTED_SERVICES[@]}"; do stop_service "$name"; done
  [ "$STARTED_POSTGRES" = no ] || stop_postgres > /dev/null 2>&1 || true
}

interrupted() {
  say ''
  say "kijko: interrupted; stopping what was started"
  [ -z "$STEP_PID" ] || kill -TERM -- "-$STEP_PID" 2> /dev/null || true
  exit 130
}

stop_services() {
  local name
  if has_service indexer; then stop_service indexer; fi
  for name in caddy storage realtime sidecar login rest rotation; do stop_service "$name"; done
}

refuse_unreachable_home() {
  [ "$(id -u)" != 0 ] || reachable_by_os_user "$KIJKO_HOME" ||
    fail "the user $OS_USER cannot enter $KIJKO_HOME (Postgres does not run as root). Set KIJKO_HOME to a folder it can enter, for example /var/tmp/kijko."
}

refuse_busy_ports() {
  local name
  if [ ! -x "$PG_BIN/pg_ctl" ] || ! postgres_running; then refuse_busy_port postgres "$DB_PORT" KIJKO_DB_PORT; fi
  for name in "${SERVICES[@]}"; do
    service_pid "$name" > /dev/null || refuse_busy_port "$name" "$(service_port "$name")" KIJKO_API_PORT
  done
}

# Tokens and links name the public URL, so a changed environment is written down at each start. Not by the superuser: the table
# belongs to another role, whose triggers would run as the superuser.
set_login_settings() {
  owner_psql -v issuer="$PUBLIC_URL/auth/v1" -v site="$SITE_URL" -v redirects="$REDIRECT_URLS" -v confirm="$MAIL_CONFIRM" -v cost="$BCRYPT_COST" << 'SQL'
update auth_api.settings
set issuer = :'issuer',
    site_url = :'site',
    redirect_urls = case when :'redirects' = '' then redirect_urls else regexp_split_to_array(btrim(:'redirects'), '\s+') end,
    mailer_autoconfirm = case :'confirm' when 'required' then false when 'optional' then true else mailer_autoconfirm end,
    bcrypt_cost = coalesce(nullif(:'cost', '')::integer, bcrypt_cost);
SQL
}

# The access matrix has the API roll each request back. Killed, it leaves that setting, which is stronger than rest.conf.
have_requests_commit() {
  admin_psql -c 'alter role authenticator reset pgrst.db_tx_end' || fail "the API may still roll its requests back"
  # By its configuration alone PostgREST does not forget a setting of the database.
  signal_services USR1 rest
  signal_services USR2 rest
}

# The anon and service keys are tokens signed by the database; they are public names for roles. Made once, and anew when the key
# that signed them is no longer in the file.
make_api_keys() {
  if [ -f "$SIGNING_KEY_FILE" ] && { read_signing_keys; ! api_keys_are_signed_by "${SIGNING_IDS[@]}"; }; then write_api_keys; fi
  load_secrets
}

write_api_keys() {
  local expires anon service
  expires=$(($(date +%s) + 10 * 365 * 86400))
  anon=$(sign_role_key anon "$expires") || exit "$EXIT_FAILED"
  service=$(sign_role_key service_role "$expires") || exit "$EXIT_FAILED"
  printf 'ANON_KEY=%s\nSERVICE_ROLE_KEY=%s\n' "$anon" "$service" | write_key_file "$SECRETS/api_keys" || fail "$SECRETS/api_keys could not be written"
}

# By the first key of the file, as read_signing_keys has read it.
api_keys_are_current() { api_keys_are_signed_by "${SIGNING_IDS[0]}"; }

# api_keys_are_signed_by ID…: whether each is, by one of these keys
api_keys_are_signed_by() {
  local header signers=0
  [ -f "$SECRETS/api_keys" ] || return 1
  while read -r header; do
    [[ " $* " == *" $(kid_of_header "$header") "* ]] || return 1
    signers=$((signers + 1))
  done < <(sed -nE 's/^(ANON_KEY|SERVICE_ROLE_KEY)=([^.]+)\..*/\2/p' "$SECRETS/api_keys")
  [ "$signers" = 2 ]
}

kid_of_header() {
  local text=${1//-/+}
  text=${text//_//}
  while ((${#text} % 4)); do text+='='; done
  base64 -d <<< "$text" | sed -nE 's/.*"kid" *: *"([^"]+)".*/\1/p'
}

sign_role_key() {
  local token
  token=$(admin_psql -At -c "select kijko.sign_jwt(jsonb_build_object('role', '$1', 'iss', '$PUBLIC_URL/auth/v1', 'iat', extract(epoch from now())::bigint, 'exp', $2))")
  [ -n "$token" ] || fail "the database did not sign the $1 key"
  printf '%s' "$token"
}

command_down() {
  [ "$#" = 0 ] || misuse "down takes no arguments"
  stop_services
  if [ -x "$PG_BIN/pg_ctl" ]; then stop_postgres; fi
  say "stopped; the data stays in $DATA"
}

command_reset() {
  [ "$#" = 0 ] || misuse "reset takes no arguments"
  confirm_loss "This throws away all data in $DATA and all objects in $OBJECTS. Continue?" ||
    fail "nothing was changed ('KIJKO_YES=1 ./kijko reset' answers yes; KIJKO_YES in .env does not)"
  stop_services
  if [ -x "$PG_BIN/pg_ctl" ]; then stop_postgres; fi
  rm -rf "$DATA" "$OBJECTS" "$KIJKO_HOME/applied" "$SECRETS/api_keys"
  DATABASE_NAME=postgres
  command_up
}

require_running() {
  load_secrets 2> /dev/null && [ -x "$PG_BIN/pg_ctl" ] && postgres_running && service_pid caddy > /dev/null ||
    fail "the stack is not running: start it with './kijko up'"
}

command_psql() {
  load_secrets && [ -x "$PG_BIN/psql" ] || fail "there is no database yet: './kijko up' makes one"
  local user=postgres password=$KIJKO_POSTGRES_PASSWORD options=''
  if [ "${1:-}" = --admin ]; then
    shift
    # public is not in the search path: objects that `postgres` has put into it could otherwise run as the superuser.
    user=supabase_admin password=$KIJKO_ADMIN_PASSWORD options=$SUPERUSER_OPTIONS
  fi
  PGPASSWORD=$password PGOPTIONS=$options exec "$PG_BIN/psql" "host=127.0.0.1 port=$DB_PORT user=$user dbname=$DATABASE_NAME sslmode=disable" "$@"
}

# PostgREST reloads the schema (USR1) and its configuration with the public keys (USR2). It does not listen for `notify
# pgrst`: any login can send that, and each message makes it read the whole catalog.
command_reload() {
  [ "$#" = 0 ] || misuse "reload takes no arguments"
  require_running
  reload_schema
  signal_services USR2 rest login
}

reload_schema() { signal_services USR1 rest login; }

# signal_services SIGNAL NAME…: those that run.
signal_services() {
  local signal=$1 name pid
  shift
  for name in "$@"; do
    if pid=$(service_pid "$name"); then kill -s "$signal" "$pid"; fi
  done
}

command_logs() {
  local names=("$@") name files=()
  [ "$#" -gt 0 ] || names=(postgres "${SERVICES[@]}")
  for name in "${names[@]}"; do
    [[ " postgres ${SERVICES[*]} " = *" $name "* ]] || misuse "there is no log '$name': postgres ${SERVICES[*]}"
    [ -f "$LOGS/$name.log" ] && files+=("$LOGS/$name.log")
  done
  [ "${#files[@]}" -gt 0 ] || fail "there are no logs yet"
  exec tail -n 50 -F "${files[@]}"
}

# The demo is a program of its own; it brings the stack up first, so that a newcomer needs one command.
command_demo() {
  [ "$#" = 0 ] || misuse "demo takes no arguments"
  # Its step about code starts an indexer of its own. Exported, since another step runs './kijko up', which would build another set.
  export KIJKO_BUILD_INDEXER=1
  command_up
  export_environment
  exec node "$ROOT/tests/demo/demo.mjs"
}

# Schema public is what a frontend sees. The CLI's output is unformatted, and a committed file should read well in a diff.
generate_types() {
  supabase_cli gen types --remote="$(owner_url)" --lang typescript --schema public | format_types |
    DB_URL="$DB_URL?sslmode=disable" node "$ROOT/scripts/refine-types.mjs" | format_types
}

format_types() {
  "$ROOT/node_modules/.bin/biome" format --stdin-file-path=database.types.ts
}

command_types() {
  [ "$#" -le 1 ] && [[ ${1:-} != -* ]] || misuse "types [FILE]"
  local file=${1:-$ROOT/supabase/database.types.ts}
  require_running
  generate_types > "$file.new" || { rm -f "$file.new"; fail "supabase gen types failed"; }
  mv "$file.new" "$file"
  say "wrote ${file#"$ROOT/"}"
}
