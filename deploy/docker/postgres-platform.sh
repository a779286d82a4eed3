#!/usr/bin/env bash
# Applies sql/platform, over the network, to a cluster that another program runs (deploy/kubernetes); later only what is new. As the
# superuser supabase_admin, which that program has made. This container keeps nothing, so the database says what was applied.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"

DB_HOST=${KIJKO_DB_HOST:?the host of the primary}
DATABASE_NAME=${KIJKO_DB_NAME:-postgres}
DB_SSLMODE=${KIJKO_DB_SSLMODE:-verify-full}

connect_as() {
  local user=$1 password=$2
  shift 2
  PGPASSWORD=$password "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 \
    "host=$DB_HOST port=$DB_PORT user=$user dbname=$DATABASE_NAME sslmode=$DB_SSLMODE application_name=kijko-platform" "$@" || return 1
}
admin_psql() { PGOPTIONS=$SUPERUSER_OPTIONS connect_as supabase_admin "$KIJKO_ADMIN_PASSWORD" "$@"; }
owner_psql() { connect_as "${KIJKO_DB_OWNER:-postgres}" "$KIJKO_POSTGRES_PASSWORD" "$@"; }

read_applied() {
  admin_psql << 'SQL'
create schema if not exists kijko_platform authorization supabase_admin;
create table if not exists kijko_platform.applied (name text primary key, checksum text not null);
SQL
  admin_psql -At -F '  ' -c 'select a.checksum, a.name from kijko_platform.applied as a order by a.name' > "$KIJKO_HOME/applied.new"
  rm -f "$KIJKO_HOME/applied"
  [ ! -s "$KIJKO_HOME/applied.new" ] || mv "$KIJKO_HOME/applied.new" "$KIJKO_HOME/applied"
}

# All or nothing: a job that was killed before this starts over, and every file can be applied again.
write_applied() {
  admin_psql --single-transaction -c 'delete from kijko_platform.applied' \
    -c '\copy kijko_platform.applied (checksum, name) from pstdin' < <(awk -v OFS='\t' '{ print $1, $2 }' "$KIJKO_HOME/applied")
}

main() {
  [ "$#" = 0 ] || misuse "kijko-platform takes no arguments"
  make_folders
  take_secrets
  load_secrets
  admin_psql -c 'select 1' > /dev/null || fail "the cluster does not answer yet, or has no role supabase_admin"
  read_applied
  refuse_platform_drift "$PG_PREFIX"
  if [ ! -f "$KIJKO_HOME/applied" ]; then
    say "roles, extension, login (sql/platform)"
    apply_platform
  elif [ -n "$(pending_platform)$(extension_update)" ]; then
    say "what is new in sql/platform and the extension"
    upgrade_platform
  else
    say "sql/platform is up to date"
  fi
  write_applied
  point_schedules
  set_login_settings
}

main "$@"
