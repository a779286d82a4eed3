# Prompts as files. Sourced by ./kijko.
# shellcheck shell=bash

# Over HTTP with an API key only, so that a pull request's check needs no stack.
command_prompts() {
  command -v node > /dev/null || fail "prompts: needs Node.js 20 or newer"
  KIJKO_URL=${KIJKO_URL:-http://127.0.0.1:$API_PORT} node "$ROOT/scripts/prompts.mjs" "$@" || exit $?
}
