# The private cluster: made, started, given its platform SQL and its migrations. Sourced by ./kijko.
# shellcheck shell=bash

random_password() { openssl rand -hex 24; }

# Passwords and keys are made once and are readable by the stack's user alone.
make_secrets() {
  local file=$SECRETS/passwords
  # A part that is new to this installation has no password yet.
  (
    umask 077
    local name
    [ ! -f "$file" ] || cp "$file" "$file.new"
    for name in ADMIN POSTGRES AUTHENTICATOR LOGIN SIDECAR GATEWAY REALTIME STORAGE INDEXER; do
      grep -q "^KIJKO_${name}_PASSWORD=" "$file" 2> /dev/null || printf 'KIJKO_%s_PASSWORD=%s\n' "$name" "$(random_password)" >> "$file.new"
    done
    mv "$file.new" "$file"
    # Signs URLs of objects. Changed, those that were signed before hold no more.
    [ -f "$SECRETS/storage_signing_key" ] || random_password > "$SECRETS/storage_signing_key"
  )
  make_signing_keys
  make_seal_keys
  give_to_os_user "$SECRETS"
}

load_secrets() {
  [ -f "$SECRETS/passwords" ] || return 1
  # shellcheck source=/dev/null
  . "$SECRETS/passwords"
  # Never in the environment of what is started from here.
  export -n KIJKO_{ADMIN,POSTGRES,AUTHENTICATOR,LOGIN,SIDECAR,GATEWAY,REALTIME,STORAGE,INDEXER}_PASSWORD
  DB_URL=postgres://postgres:$KIJKO_POSTGRES_PASSWORD@127.0.0.1:$DB_PORT/$DATABASE_NAME
  ADMIN_DB_URL=postgres://supabase_admin:$KIJKO_ADMIN_PASSWORD@127.0.0.1:$DB_PORT/$DATABASE_NAME
  REALTIME_DB_URL=postgres://kijko_realtime:${KIJKO_REALTIME_PASSWORD:-}@127.0.0.1:$DB_PORT/$DATABASE_NAME
  STORAGE_DB_URL=postgres://kijko_storage:${KIJKO_STORAGE_PASSWORD:-}@127.0.0.1:$DB_PORT/$DATABASE_NAME
  GATEWAY_DB_URL=postgres://kijko_gateway:${KIJKO_GATEWAY_PASSWORD:-}@127.0.0.1:$DB_PORT/$DATABASE_NAME
  INDEXER_DB_URL=postgres://kijko_indexer:${KIJKO_INDEXER_PASSWORD:-}@127.0.0.1:$DB_PORT/$DATABASE_NAME
  SIDECAR_DB_URL=postgres://kijko_sidecar:$KIJKO_SIDECAR_PASSWORD@127.0.0.1:$DB_PORT/$DATABASE_NAME
  if [ -f "$SECRETS/api_keys" ]; then
    # shellcheck source=/dev/null
    . "$SECRETS/api_keys"
  fi
  make_stripe_secret
}

# The superuser reads nothing that `postgres` owns: an owner can replace a table by a view, whose functions run with the
# reader's rights. Names could be hijacked in the same way, because `postgres` owns public, so the search path is pg_catalog.
# (Options of a connection override the settings of a database.)
# psql's own exit codes (2: no connection) would read as "misused".
admin_psql() {
  PGPASSWORD=$KIJKO_ADMIN_PASSWORD PGOPTIONS=$SUPERUSER_OPTIONS "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 \
    "host=127.0.0.1 port=$DB_PORT user=supabase_admin dbname=$DATABASE_NAME sslmode=disable application_name=kijko-script" "$@" || return 1
}

SUPERUSER_OPTIONS='-c search_path=pg_catalog,pg_temp'

# The owner of the domain, for what it owns.
owner_psql() {
  PGPASSWORD=$KIJKO_POSTGRES_PASSWORD "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 \
    "host=127.0.0.1 port=$DB_PORT user=postgres dbname=$DATABASE_NAME sslmode=disable application_name=kijko-script" "$@" || return 1
}

# A restore that was killed between its last two steps has moved the data aside and not put the restored ones in their place.
refuse_lost_data() {
  [ ! -e "$DATA.restored" ] || fail "a restore was interrupted at its end. Run 'mv $DATA.restored $DATA', or 'mv $DATA.replaced-… $DATA' for what was there before; then './kijko up'"
}

init_cluster() {
  [ ! -f "$DATA/PG_VERSION" ] || return 0
  refuse_lost_data
  rm -rf "$DATA" "$KIJKO_HOME/applied" "$KIJKO_HOME/paused"
  # The archive is another cluster's.
  rm -f "$(archive_state)"
  (umask 077 && printf '%s\n' "$KIJKO_ADMIN_PASSWORD" > "$SECRETS/admin_password")
  give_to_os_user "$SECRETS"
  "${AS_OS_USER[@]}" "$PG_BIN/initdb" -D "$DATA" -U supabase_admin --auth=scram-sha-256 --pwfile="$SECRETS/admin_password" \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums
  rm -f "$SECRETS/admin_password"
}

# The schedules of a restored copy do nothing until `./kijko resume`. (pg_cron runs one job at a time even if cron.max_running_jobs
# is 0.)
preloaded_libraries() { if [ -f "$KIJKO_HOME/paused" ]; then echo kijko; else echo pg_cron,kijko; fi; }

# Written at each start, so that ports and settings follow the environment. Everything else keeps Postgres' defaults.
configure_cluster() {
  local conf=$DATA/kijko.conf
  cat > "$conf.new" <<CONF
# Written by ./kijko at each start; put own settings into postgresql.auto.conf with 'alter system'.
listen_addresses = '127.0.0.1'
port = $DB_PORT
unix_socket_directories = '$(schedule_socket)'
password_encryption = 'scram-sha-256'
max_connections = ${KIJKO_MAX_CONNECTIONS:-120}
max_worker_processes = 24
shared_preload_libraries = '$(preloaded_libraries)'
cron.database_name = '$DATABASE_NAME'
kijko.databases = '"$DATABASE_NAME"'
# Schedules run in connections of their own: background workers wait for each other before pg_cron 1.5, so one schedule that is
# slow or waits for a lock would stop all.
cron.use_background_workers = off
cron.host = '$(schedule_socket)'
# Of some forty schedules each minute.
cron.max_running_jobs = 12
cron.timezone = 'UTC'
cron.log_statement = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d %a '
log_checkpoints = off
# Bind values and failing statements can hold secrets.
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_min_error_statement = panic
kijko.trusted_session_users = 'authenticator, kijko_gateway, kijko_realtime, kijko_storage'
kijko.trusted_proxies = '$TRUSTED_PROXIES'
kijko.signing_key_file = '$SIGNING_KEY_FILE'
kijko.seal_key_file = '$SEAL_KEY_FILE'
kijko.connection_pool_size = $REST_POOL
CONF
  archive_settings >> "$conf.new"
  admit_schedules
  give_to_os_user "$conf.new"
  mv "$conf.new" "$conf"
  grep -q "^include 'kijko.conf'" "$DATA/postgresql.conf" || printf "include 'kijko.conf'\n" >> "$DATA/postgresql.conf"
}

# pg_cron is the only client of this socket. It is in Linux' abstract namespace: no file, so no folder that others could reach, and
# no limit of a path's length.
schedule_socket() { printf '@kijko-%s' "$DB_PORT"; }

# The user of the operating system that runs Postgres, and nobody else, gets in as `postgres`, without a password.
admit_schedules() {
  local hba=$DATA/pg_hba.conf ident=$DATA/pg_ident.conf line='local all postgres peer map=kijko_schedules'
  # The first line that matches decides.
  if ! grep -qxF "$line" "$hba"; then
    (umask 077 && { printf '%s\n' "$line" && cat "$hba"; } > "$hba.new")
    give_to_os_user "$hba.new"
    mv "$hba.new" "$hba"
  fi
  line="kijko_schedules $OS_USER postgres"
  grep -qxF "$line" "$ident" || printf '%s\n' "$line" >> "$ident"
}

# Where a server runs its schedules, in SQL.
SCHEDULE_ADDRESS="(current_setting('cron.host'), current_setting('port')::integer)"

# Each schedule keeps the address under which it was made. Another port is another address.
point_schedules() {
  [ ! -f "$KIJKO_HOME/paused" ] || return 0
  admin_psql -c "update cron.job set (nodename, nodeport) = $SCHEDULE_ADDRESS where (nodename, nodeport) is distinct from $SCHEDULE_ADDRESS"
}

postgres_running() { "${AS_OS_USER[@]}" "$PG_BIN/pg_ctl" -D "$DATA" status > /dev/null 2>&1; }

postgres_answers() { "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$DB_PORT"; }

# After a kill -9 the postmaster may still be listed, or its children hold the shared memory, for a moment; and a server
# that recovers does not answer yet. So starting is tried again until it answers.
start_postgres() {
  local try
  if managed_by_systemd; then
    systemctl start "$(unit_of postgres)" && postgres_answers && return 0
    tail -n 20 "$LOGS/postgres.log"
    return 1
  fi
  for ((try = 0; try < 30; try++)); do
    postgres_answers && return 0
    "${AS_BARE_OS_USER[@]}" "$PG_BIN/pg_ctl" -D "$DATA" -w -t 60 -s -l "$LOGS/postgres.log" start && return 0
    sleep 1
  done
  tail -n 20 "$LOGS/postgres.log"
  return 1
}

stop_postgres() {
  if managed_by_systemd; then systemctl stop "$(unit_of postgres)"; fi
  postgres_running || return 0
  "${AS_OS_USER[@]}" "$PG_BIN/pg_ctl" -D "$DATA" -w -t 60 -s -m fast stop
}

# The CLI keeps state in its user's home: here it gets one of its own. The password is passed in the environment, which only
# the same user can read; command lines are public.
supabase_program() { printf '%s\n' "$ROOT/node_modules/.bin/supabase"; }

supabase_cli() {
  mkdir -p "$KIJKO_HOME/cli"
  PGPASSWORD=$(owner_password) SUPABASE_TELEMETRY_DISABLED=1 DO_NOT_TRACK=1 NO_UPDATE_NOTIFIER=1 HOME=$KIJKO_HOME/cli "$(supabase_program)" --agent no "$@"
}

# Names of migrations that the database does not have.
pending_migrations() {
  local applied='' file
  if [ "$(owner_psql -At -c "select to_regclass('supabase_migrations.schema_migrations') is not null")" = t ]; then
    applied=$(owner_psql -At -c 'select m.version from supabase_migrations.schema_migrations as m')
  fi
  for file in "$ROOT"/supabase/migrations/*.sql; do
    file=${file##*/}
    [[ $'\n'$applied$'\n' = *$'\n'"${file%%_*}"$'\n'* ]] || printf '%s\n' "$file"
  done
}

# The files that were edited after they were applied. `db push` compares versions only and would skip them silently.
# The CLI splits a file into statements: what it stores equals the file but for white space and semicolons.
edited_migrations() {
  local sum name version rows
  local -A applied=()
  [ "$(owner_psql -At -c "select to_regclass('supabase_migrations.schema_migrations') is not null")" = t ] || return 0
  rows=$(owner_psql -At -F ' ' -c "select m.version, encode(sha256(convert_to(translate(array_to_string(m.statements, ';'), E' \\t\\r\\n;', ''), 'UTF8')), 'hex') from supabase_migrations.schema_migrations as m")
  while read -r version sum; do
    [ -z "$version" ] || applied[$version]=$sum
  done <<< "$rows"
  while read -r sum name; do
    version=${name%%_*}
    # One that is not applied yet is no drift.
    [ "${applied[$version]:-$sum}" = "$sum" ] || printf 'supabase/migrations/%s\n' "$name"
  done < <(migration_sums)
}

# The checksum and the name of each file, without white space and semicolons. A few programs for all of them: each `up` does this.
migration_sums() {
  local folder
  folder=$(mktemp -d)
  LC_ALL=C awk -v folder="$folder" '
    FNR == 1 { close(out); out = FILENAME; sub(/.*\//, "", out); out = folder "/" out }
    { gsub(/[ \t\r;]/, ""); printf "%s", $0 > out }
  ' "$ROOT"/supabase/migrations/*.sql
  (cd "$folder" && sha256sum -- *)
  rm -rf "$folder"
}

refuse_migration_drift() {
  local edited
  edited=$(edited_migrations | tr '\n' ' ')
  [ -n "$edited" ] || return 0
  say ''
  fail "these migrations were edited after they were applied: ${edited% }. Run './kijko reset' to make a new database."
}

# From the URL, which names the test stack's database while the tests run.
owner_password() {
  local rest=${DB_URL#*://*:}
  printf '%s' "${rest%%@*}"
}

# Without the password.
owner_url() { printf '%s?sslmode=%s' "${DB_URL/":$(owner_password)@"/@}" "${DB_SSLMODE:-disable}"; }

# Migrations of your own are younger than those that a later release brings, hence --include-all.
push_migrations() {
  refuse_migration_drift
  supabase_cli db push --workdir "$ROOT" --remote="$(owner_url)" --include-all --include-seed --yes "$@"
}
