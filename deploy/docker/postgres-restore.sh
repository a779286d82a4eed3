#!/usr/bin/env bash
# A backup and its WAL become the data, as ./kijko restore. Runs in a container of its own while the server is stopped.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"

# Passwords stay those of the secret files, which the other containers have, too.
# shellcheck disable=SC2034 # read by take_secrets_back
RESTORED_SECRETS=(api_keys)
make_secrets() { make_signing_keys && make_seal_keys; }

# The extension is in the image.
prepare_programs() {
  install_binary restore-wal "$ROOT/scripts/restore-wal.sh"
  install_binary archive-wal "$ROOT/scripts/archive-wal.sh"
}

# This container has the server's lock. A process of the server's number is another one.
postgres_running() { return 1; }

# The other containers are the host's.
command_up() { say "now, on the host: docker compose up -d"; }
check_storage() { say "then: docker compose run --rm storage check --queue"; }

main() {
  local argument
  for argument in "$@"; do
    [ "$argument" != --database ] || misuse "the other containers know the database as $DATABASE_NAME: --database is for ./kijko restore"
  done
  make_folders
  lock_server 1
  take_secrets
  command_restore "$@"
}

main "$@"
