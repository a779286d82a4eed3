# The documentation as a site, and the API's description for programs. Sourced by ./kijko.
# shellcheck shell=bash

# Builds the site from docs/ and the running database. The proxy serves the folder as soon as it is there.
command_docs() {
  [ "$#" = 0 ] || misuse "docs"
  require_running
  [ -d "$ROOT/site" ] || fail "the documentation is built in a checkout, and $ROOT is none"
  install_npm_packages
  install_site_packages
  rm -rf "$DOCS.new" "$DOCS.old"
  step "documentation" "the log names the page, and the link in it that leads nowhere" build_docs "$DOCS.new"
  [ ! -e "$DOCS" ] || mv "$DOCS" "$DOCS.old"
  mv "$DOCS.new" "$DOCS"
  rm -rf "$DOCS.old"
  say "the documentation is at $PUBLIC_URL/docs/"
}

build_docs() {
  DB_URL="$DB_URL?sslmode=disable" KIJKO_PUBLIC_URL="$PUBLIC_URL" node "$ROOT/site/build.mjs" "$1"
  give_to_os_user "$1"
}

# command_openapi [FILE]: the OpenAPI document of this stack, to stdout without a name.
command_openapi() {
  [ "$#" -le 1 ] && [[ ${1:-} != -?* ]] || misuse "openapi [FILE]"
  require_running
  DB_URL="$DB_URL?sslmode=disable" node "$ROOT/scripts/openapi.mjs" --server "$PUBLIC_URL" "${1:--}"
}
