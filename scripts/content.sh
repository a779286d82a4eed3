# The research cache of the earlier system. Sourced by ./kijko.
# shellcheck shell=bash

# Over HTTP with an API key only, so that it runs beside the earlier system, without a stack.
command_content() {
  command -v node > /dev/null || fail "content: needs Node.js 20 or newer"
  KIJKO_URL=${KIJKO_URL:-http://127.0.0.1:$API_PORT} node "$ROOT/scripts/content.mjs" "$@" || exit $?
}
