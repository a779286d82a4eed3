# Where things are and on which ports: everything else reads these. Sourced by ./kijko.
# shellcheck shell=bash disable=SC2034

# .env in the checkout sets defaults; what is already in the environment wins. KIJKO_YES of the file is kept apart and is not
# exported, so that only the call itself agrees to a loss (confirm_loss).
DOTENV_YES=''
load_dotenv() {
  [ -f "$ROOT/.env" ] || return 0
  local line name value
  while IFS= read -r line || [ -n "$line" ]; do
    [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
    name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
    value=${value%$'\r'}
    if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
    if [ "$name" = KIJKO_YES ]; then
      DOTENV_YES=$value
      continue
    fi
    [ -n "${!name+set}" ] || export "$name=$value"
  done < "$ROOT/.env"
}

# Ports of a stack that was brought up earlier; a port named in the environment wins over them.
load_ports() {
  local saved_api='' saved_db='' saved_database=''
  if [ -f "$KIJKO_HOME/ports" ]; then
    # shellcheck source=/dev/null
    . "$KIJKO_HOME/ports"
  fi
  API_PORT=${KIJKO_API_PORT:-${saved_api:-54321}}
  check_port KIJKO_API_PORT "$API_PORT"
  if [ -n "${KIJKO_API_PORT:-}" ] && [ "${KIJKO_API_PORT}" != "$saved_api" ]; then saved_db=''; fi
  DB_PORT=${KIJKO_DB_PORT:-${saved_db:-$((API_PORT + 1))}}
  check_port KIJKO_DB_PORT "$DB_PORT"
  # Another name only after `./kijko restore --database`.
  DATABASE_NAME=${saved_database:-postgres}
  REST_PORT=$((API_PORT + 10))
  LOGIN_PORT=$((API_PORT + 11))
  SIDECAR_PORT=$((API_PORT + 12))
  REST_ADMIN_PORT=$((API_PORT + 13))
  LOGIN_ADMIN_PORT=$((API_PORT + 14))
  SIDECAR_OPERATORS_PORT=$((API_PORT + 15))
  REALTIME_PORT=$((API_PORT + 16))
  REALTIME_OPERATORS_PORT=$((API_PORT + 17))
  STORAGE_PORT=$((API_PORT + 18))
  STORAGE_OPERATORS_PORT=$((API_PORT + 19))
  INDEXER_PORT=$((API_PORT + 7))
  INDEXER_OPERATORS_PORT=$((API_PORT + 9))
  PUBLIC_URL=${KIJKO_PUBLIC_URL:-http://127.0.0.1:$API_PORT}
  load_login_settings
  # Read by the database and by Caddy, which separates by blanks alone.
  TRUSTED_PROXIES=${KIJKO_TRUSTED_PROXIES:-}
  [[ $TRUSTED_PROXIES =~ ^[0-9a-fA-F.:/,\ ]*$ ]] ||
    misuse "KIJKO_TRUSTED_PROXIES must be addresses or CIDRs separated by blanks, not '$TRUSTED_PROXIES'"
  TRUSTED_PROXIES=${TRUSTED_PROXIES//,/ }
  load_edge_settings
  # PostgREST's connections for the API: its pool, and what the database shares out among tenants. The gateway's pools are no smaller.
  REST_POOL=10
  LOG_MEGABYTES=${KIJKO_LOG_MEGABYTES:-10}
  [[ $LOG_MEGABYTES =~ ^(0|[1-9][0-9]{0,5})$ ]] || misuse "KIJKO_LOG_MEGABYTES must be a number from 0 to 999999, not '$LOG_MEGABYTES'"
}

# What Caddy takes from the environment. The values stand in its file, between quotes.
load_edge_settings() {
  local origin
  CORS_ORIGINS=${KIJKO_CORS_ORIGINS:-*}
  if [ "$CORS_ORIGINS" != '*' ]; then
    for origin in $CORS_ORIGINS; do
      [[ $origin =~ ^https?://[A-Za-z0-9.:\[\]-]+$ ]] ||
        misuse "KIJKO_CORS_ORIGINS must be * or origins such as https://app.example.com, separated by blanks, not '$CORS_ORIGINS'"
    done
  fi
  FRONTEND_DIR=${KIJKO_FRONTEND_DIR:-}
  [ -z "$FRONTEND_DIR" ] || [ -f "$FRONTEND_DIR/index.html" ] || misuse "KIJKO_FRONTEND_DIR must be a folder with an index.html, not '$FRONTEND_DIR'"
}

# What login takes from the environment. Empty: what the database has stays, and the site is the public URL.
load_login_settings() {
  local url='^https?://[^[:space:]"<>?#]+$'
  SITE_URL=${KIJKO_SITE_URL:-$PUBLIC_URL}
  [[ $SITE_URL =~ $url ]] || misuse "KIJKO_SITE_URL must be an http or https address, not '$SITE_URL'"
  REDIRECT_URLS=${KIJKO_REDIRECT_URLS:-}
  MAIL_CONFIRM=${KIJKO_MAIL_CONFIRM:-}
  BCRYPT_COST=${KIJKO_BCRYPT_COST:-}
  [[ $BCRYPT_COST =~ ^([4-9]|1[0-5])?$ ]] || misuse "KIJKO_BCRYPT_COST must be a number from 4 to 15, not '$BCRYPT_COST'"
  case $MAIL_CONFIRM in
    '' | optional | required) ;;
    *) misuse "KIJKO_MAIL_CONFIRM must be optional or required, not '$MAIL_CONFIRM'" ;;
  esac
}

check_port() {
  [[ $2 =~ ^[0-9]{4,5}$ ]] && [ "$2" -ge 1024 ] && [ "$2" -le 65000 ] || misuse "$1 must be a number from 1024 to 65000, not '$2'"
}

save_ports() {
  printf 'saved_api=%s\nsaved_db=%s\nsaved_database=%s\n' "$API_PORT" "$DB_PORT" "$DATABASE_NAME" > "$KIJKO_HOME/ports"
}

# Postgres refuses to run as root, so root's stack runs as the system user postgres, everybody else's as themselves.
# The folder must be reachable by that user: a checkout in /root is not, and then the stack's files lie under /var/tmp.
init_home() {
  KIJKO_HOME=${KIJKO_HOME:-$ROOT/.kijko}
  if [ "$(id -u)" = 0 ]; then
    OS_USER=$(owner_of_home)
    if [ ! -e "$KIJKO_HOME" ] && ! reachable_by_os_user "$(dirname "$KIJKO_HOME")"; then
      local elsewhere
      elsewhere=/var/tmp/kijko-$(printf '%s' "$KIJKO_HOME" | sha256sum | cut -c1-12)
      mkdir -p "$elsewhere"
      ln -s "$elsewhere" "$KIJKO_HOME"
      say "the user postgres cannot enter $(dirname "$KIJKO_HOME"): the stack's files lie in $elsewhere"
    fi
  else
    OS_USER=$(id -un)
  fi
  mkdir -p "$KIJKO_HOME"
  KIJKO_HOME=$(readlink -f "$KIJKO_HOME")
  LOGS=$KIJKO_HOME/log
  REQUEST_LOGS=$LOGS/requests
  RUN=$KIJKO_HOME/run
  DATA=$KIJKO_HOME/data
  # The bytes of objects.
  OBJECTS=${KIJKO_STORAGE_DIR:-$KIJKO_HOME/storage}
  # Packs that the indexer has fetched: a cache.
  REPOSITORIES=${KIJKO_INDEXER_DIR:-$KIJKO_HOME/repositories}
  # The documentation as a site: ./kijko docs.
  DOCS=$KIJKO_HOME/docs
  SECRETS=$KIJKO_HOME/secrets
  # Not in the folder of the data, so that a copy of the data alone reveals no secret.
  SIGNING_KEY_FILE=${KIJKO_SIGNING_KEY_FILE:-$SECRETS/signing.keys}
  SEAL_KEY_FILE=${KIJKO_SEAL_KEY_FILE:-$SECRETS/seal.keys}
  PG_PREFIX=$KIJKO_HOME/pgsql
  # Not in the images, which have no such command.
  if declare -F finish_pg_upgrade > /dev/null; then finish_pg_upgrade; fi
  choose_pg_major "$DATA"
  PG_BIN=$(pg_bin "$PG_PREFIX")
  init_os_user_prefix
}

# Then the folder of the objects is not used.
objects_in_s3() { [ -n "${KIJKO_STORAGE_S3_BUCKET:-}" ]; }

# The user whom the stack belongs to already, or postgres.
owner_of_home() {
  local owner
  owner=$(stat -L -c %U "$KIJKO_HOME" 2> /dev/null) || owner=root
  case $owner in root | UNKNOWN) echo postgres ;; *) echo "$owner" ;; esac
}

# On a new machine the package that brings the user is not installed yet: then what everybody may enter decides.
reachable_by_os_user() {
  if getent passwd "$OS_USER" > /dev/null; then
    as_os_user test -x "$1"
    return
  fi
  local folder mode
  folder=$(readlink -f "$1")
  while [ "$folder" != / ]; do
    mode=$(stat -c %a "$folder")
    ((mode % 2)) || return 1
    folder=$(dirname "$folder")
  done
}

# A stack whose units are installed (scripts/units.sh) is started and stopped by systemd.
managed_by_systemd() { [ -f "$KIJKO_HOME/systemd" ]; }

# unit_of PART
unit_of() { printf '%s-%s.service' "$(cat "$KIJKO_HOME/systemd")" "$1"; }

# as_os_user COMMAND…, for root
as_os_user() { setpriv "--reuid=$OS_USER" "--regid=$OS_USER" --init-groups -- "$@"; }

# Folders exist and belong to the user that runs the stack. Called by up, after the packages are there.
make_folders() {
  mkdir -p "$LOGS" "$RUN" "$SECRETS"
  chmod 0700 "$SECRETS"
  if [ "$(id -u)" = 0 ]; then chown "$OS_USER:" "$KIJKO_HOME" "$LOGS" "$RUN" "$SECRETS"; fi
}

# Variables that no part of the stack inherits, even if the output of `./kijko status -o env` was exported.
SECRET_VARIABLES=(
  KIJKO_{ADMIN,POSTGRES,AUTHENTICATOR,LOGIN,SIDECAR,GATEWAY,REALTIME,STORAGE,INDEXER}_PASSWORD PGPASSWORD PGPASSFILE PGOPTIONS
  DB_URL ADMIN_DB_URL SIDECAR_DB_URL GATEWAY_DB_URL REALTIME_DB_URL STORAGE_DB_URL INDEXER_DB_URL SERVICE_ROLE_KEY STRIPE_WEBHOOK_SECRET_LOCAL KIJKO_TEST_DATABASE_URL KIJKO_TEST_ADMIN_DATABASE_URL
)

# AS_OS_USER is the prefix that runs a command as the stack's user: an array, not a function, so that a background start
# execs into the command and its pid is the command's own. RUST_BACKTRACE would put backtraces into errors that clients see.
# AS_BARE_OS_USER starts with an empty environment.
init_os_user_prefix() {
  local user=() home=$HOME
  if [ "$(id -u)" = 0 ]; then
    user=(setpriv "--reuid=$OS_USER" "--regid=$OS_USER" --init-groups --) home=$KIJKO_HOME
  fi
  local settings=("XDG_CONFIG_HOME=$KIJKO_HOME/config" "XDG_DATA_HOME=$KIJKO_HOME/config" LC_ALL=C.UTF-8 "HOME=$home")
  AS_OS_USER=("${user[@]}" env -C "$KIJKO_HOME" -u RUST_BACKTRACE "${SECRET_VARIABLES[@]/#/-u}" "${settings[@]}")
  AS_BARE_OS_USER=("${user[@]}" env -i -C "$KIJKO_HOME" "PATH=$PATH" "${settings[@]}")
}

# Files made by root for the stack's user.
give_to_os_user() {
  [ "$(id -u)" != 0 ] || chown -R "$OS_USER:" "$@"
}
