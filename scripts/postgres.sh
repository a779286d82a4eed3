# Which Postgres: its major version, its packages, and the stack's own copy of it. Sourced by ./kijko.
# shellcheck shell=bash disable=SC2034

PG_MAJORS=(15 16 17 18)

# choose_pg_major [DATA]: the cluster's, KIJKO_PG_MAJOR's, or that of this release of the system. Sets what depends on it.
choose_pg_major() {
  local cluster='' asked=${KIJKO_PG_MAJOR:-}
  if [ -f "${1:-}/PG_VERSION" ]; then cluster=$(cat "$1/PG_VERSION"); fi
  if [ -n "$asked" ] && [ -n "$cluster" ] && [ "$asked" != "$cluster" ]; then
    misuse "KIJKO_PG_MAJOR is $asked, and the cluster in $1 is one of PostgreSQL $cluster: './kijko upgrade --pg $asked' moves it"
  fi
  PG_MAJOR=${asked:-${cluster:-$(system_pg_major)}}
  [[ " ${PG_MAJORS[*]} " = *" $PG_MAJOR "* ]] || misuse "KIJKO_PG_MAJOR must be one of ${PG_MAJORS[*]}, not '$PG_MAJOR'"
  PG_PACKAGES=("postgresql-$PG_MAJOR" "postgresql-$PG_MAJOR-cron" "postgresql-$PG_MAJOR-pgtap" "postgresql-$PG_MAJOR-plpgsql-check")
  # What only a build needs.
  PG_BUILD_PACKAGES=("postgresql-server-dev-$PG_MAJOR" libclang-dev clang build-essential pkg-config)
  # The extension as it is built, in Debian's layout.
  BUILD_PREFIX=${KIJKO_BUILD_PREFIX:-$ROOT/target/extension/$PG_MAJOR}
}

# What the system's own packages are of. On a system that is not listed, the newest that is installed.
system_pg_major() {
  local codename major
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release 2> /dev/null && printf '%s' "${VERSION_CODENAME:-}") || codename=''
  case $codename in
    bookworm) echo 15 && return 0 ;;
    noble) echo 16 && return 0 ;;
    trixie) echo 17 && return 0 ;;
    forky | sid) echo 18 && return 0 ;;
  esac
  for major in 18 17 16 15; do
    [ ! -x "/usr/lib/postgresql/$major/bin/postgres" ] || { echo "$major" && return 0; }
  done
  echo 17
}

# Folders of a copy of Postgres, or of a build, in Debian's layout.
pg_bin() { printf '%s/lib/postgresql/%s/bin' "$1" "$PG_MAJOR"; }
pg_library() { printf '%s/lib/postgresql/%s/lib/kijko.so' "$1" "$PG_MAJOR"; }
pg_extension() { printf '%s/share/postgresql/%s/extension' "$1" "$PG_MAJOR"; }

# copy_postgres PREFIX: Debian's Postgres relocates by itself when its trees keep their relative places. So the extension is
# installed into a copy: nothing is written into /usr, no root is needed, and two checkouts do not meet. Done once, and again
# when Debian brings another minor version.
copy_postgres() {
  local prefix=$1 version
  if [ -n "${KIJKO_PG_TREE:-}" ]; then copy_pgserver "$1" && return 0; fi
  version=$(dpkg-query -W -f='${Package}=${Version} ' "${PG_PACKAGES[@]}" 2> /dev/null || true)
  [ -n "$version" ] && [ -f "$prefix/.version" ] && [ "$(cat "$prefix/.version")" = "$version" ] && return 0
  rm -rf "$prefix"
  mkdir -p "$prefix/lib/postgresql" "$prefix/share/postgresql"
  cp -a "/usr/lib/postgresql/$PG_MAJOR" "$prefix/lib/postgresql/$PG_MAJOR"
  cp -a "/usr/share/postgresql/$PG_MAJOR" "$prefix/share/postgresql/$PG_MAJOR"
  printf '%s\n' "$version" > "$prefix/.version"
}

# The server of pgserver, from the folder KIJKO_PG_TREE, with links where Debian has its folders. Its programs look for
# libraries three folders up.
copy_pgserver() {
  local prefix=$1 home=$1/lib/postgresql/$PG_MAJOR
  [ ! -x "$home/bin/postgres" ] || return 0
  mkdir -p "$prefix/lib/postgresql" "$prefix/share/postgresql"
  cp -a "$KIJKO_PG_TREE.libs" "$prefix/lib/"
  cp -a "$KIJKO_PG_TREE/pginstall" "$home"
  ln -s "$home/share/postgresql" "$prefix/share/postgresql/$PG_MAJOR"
  ln -s postgresql/pgxs "$home/lib/pgxs"
  ln -s ../kijko.so "$home/lib/postgresql/kijko.so"
}

# copy_extension FROM TO: by unlink and create, since a running server keeps the file that it has mapped.
copy_extension() {
  local to
  to=$(pg_extension "$2")
  mkdir -p "$to" "$(dirname "$(pg_library "$2")")"
  # An earlier version's files would stay behind, and count as part of what is applied to a cluster.
  rm -f "$to"/kijko*
  cp -a "$(pg_extension "$1")"/kijko* "$to/"
  cp -a --remove-destination "$(pg_library "$1")" "$(pg_library "$2")"
  cp -a "$1/.extension" "$2/.extension"
}
