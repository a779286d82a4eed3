#!/usr/bin/env bash
# Ends the pause of a restored database, as ./kijko resume: --run or --cancel what the lost one may have run.
set -euo pipefail
# shellcheck source=deploy/docker/postgres-lib.sh
. "${KIJKO_ROOT:-/opt/kijko}/deploy/docker/postgres-lib.sh"

# A container does not restart itself.
start_schedules() {
  say "now, on the host: docker compose restart postgres"
  say "the queue runs, and the schedules do from then on"
  exit 0
}

command_resume "$@"
