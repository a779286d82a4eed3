#!/usr/bin/env bash
# The keys that seal secrets, as ./kijko secrets: status, check, create, rotate, reseal, prune.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"
command_secrets "$@"
