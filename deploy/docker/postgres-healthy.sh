#!/usr/bin/env bash
# Healthy: the server that answers clients is the one that runs, and it accepts connections.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"
test -f "$SERVING"
exec "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$DB_PORT" -U postgres -d postgres
