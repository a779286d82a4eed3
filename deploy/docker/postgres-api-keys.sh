#!/usr/bin/env bash
# Prints the anon and the service key; the entrypoint has made them, and they are kept in the volume.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"
load_secrets
printf 'ANON_KEY="%s"\nSERVICE_ROLE_KEY="%s"\n' "$ANON_KEY" "$SERVICE_ROLE_KEY"
