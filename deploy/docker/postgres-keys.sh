#!/usr/bin/env bash
# The keys that sign tokens, as ./kijko keys: status, create, next, rotate, prune.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"
command_keys "$@"
