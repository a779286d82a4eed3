#!/usr/bin/env bash
# Prints the anon and the service key, as ./kijko status does; made once and kept in the volume.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/docker/postgres-lib.sh"
load_secrets
make_api_keys
printf 'ANON_KEY="%s"\nSERVICE_ROLE_KEY="%s"\n' "$ANON_KEY" "$SERVICE_ROLE_KEY"
