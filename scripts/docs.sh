# The API's description for programs. Sourced by ./kijko.
# shellcheck shell=bash

# command_openapi [FILE]: the OpenAPI document of this stack, to stdout without a name.
command_openapi() {
  [ "$#" -le 1 ] || misuse "openapi [FILE]"
  require_running
  DB_URL="$DB_URL?sslmode=disable" node "$ROOT/scripts/openapi.mjs" --server "$PUBLIC_URL" "${1:--}"
}
