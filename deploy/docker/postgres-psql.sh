#!/usr/bin/env bash
# A psql session as the owner role postgres (--admin first: as the superuser), as ./kijko psql.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"
command_psql "$@"
