#!/usr/bin/env bash
# Copies of the cluster and the archive of WAL, as ./kijko backup: nothing, or status, verify, prune, off.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"
command_backup "$@"
