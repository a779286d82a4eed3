#!/usr/bin/env bash
# Applies the migrations that the database does not have yet; refuses when an applied one was edited, as ./kijko does.
set -euo pipefail

ROOT=${KIJKO_ROOT:-/opt/kijko}
for part in ui config postgres cluster stack upgrade mail; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/$part.sh"
done
SECRET_FILES=${KIJKO_SECRET_FILES:-/run/secrets}
KIJKO_DB_HOST=${KIJKO_DB_HOST:-postgres}
KIJKO_DB_PORT=${KIJKO_DB_PORT:-5432}
# On another network than compose's: verify-full, with PGSSLROOTCERT.
DB_SSLMODE=${KIJKO_DB_SSLMODE:-disable}
OWNER=${KIJKO_DB_OWNER:-postgres}

# The shared checks run as the owner of the migration table; only the host differs here.
owner_psql() {
  PGPASSWORD=$KIJKO_POSTGRES_PASSWORD psql -X -q -v ON_ERROR_STOP=1 \
    "host=$KIJKO_DB_HOST port=$KIJKO_DB_PORT user=$OWNER dbname=$DATABASE_NAME sslmode=$DB_SSLMODE application_name=kijko-migrate" "$@"
}

main() {
  init_home
  load_ports
  local file=$SECRET_FILES/postgres_password
  [ -r "$file" ] || fail "the secret file $file is missing or not readable: see deploy/docker/make-secrets.sh"
  KIJKO_POSTGRES_PASSWORD=$(cat "$file")
  DATABASE_NAME=${KIJKO_DB_NAME:-postgres}
  DB_URL=postgres://$OWNER:$KIJKO_POSTGRES_PASSWORD@$KIJKO_DB_HOST:$KIJKO_DB_PORT/$DATABASE_NAME
  refuse_newer_database
  refuse_migration_drift
  if migrations_pending; then push_migrations; else say "no migration is pending"; fi
  record_release
  # The sender is needed with SMTP_URL, which is a secret of the sidecar alone.
  set_mail_delivery "$([ -n "${KIJKO_MAIL_FROM:-}" ] && echo smtp || echo keep)"
}

main "$@"
