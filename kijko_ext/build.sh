#!/usr/bin/env bash
# Builds the extension alone, for the Postgres that pg_config is of: kijko_ext/build.sh OUT [PG_CONFIG]
# OUT gets lib/postgresql/MAJOR/lib/kijko.so and share/postgresql/MAJOR/extension/kijko*, as Debian has its folders.
set -euo pipefail
[ "$#" -ge 1 ] || { echo 'kijko_ext/build.sh OUT [PG_CONFIG]' >&2 && exit 2; }
ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
KIJKO_PG_CONFIG=$(command -v "${2:-pg_config}") || { echo "${2:-pg_config} is missing: install Postgres' server headers" >&2 && exit 1; }
KIJKO_PG_MAJOR=$("$KIJKO_PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
for part in ui postgres build; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/$part.sh"
done
choose_build_profile package
choose_pg_major
build_library
put_extension "$1"
