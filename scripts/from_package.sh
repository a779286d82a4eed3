# A stack from a package (scripts/package.sh): ./kijko up --from FILE, and what differs in a package's own tree from a checkout:
# nothing is built, and neither Rust nor Node.js is needed. Sourced by ./kijko after the other parts.
# shellcheck shell=bash disable=SC2034

in_package() { [ -f "$ROOT/PACKAGE" ]; }

# package_fact NAME [TREE]
package_fact() { sed -n "s/^$1=//p" "${2:-$ROOT}/PACKAGE"; }

# What a package needs of the system.
packaged_apt_packages() {
  local major=$1
  PACKAGED_APT_PACKAGES=("postgresql-$major" "postgresql-$major-cron" caddy openssl curl jq ca-certificates procps util-linux)
}

# The tree that a stack was brought up from serves all later commands, so that scripts, SQL and programs are of one version. The
# checkout's own commands stay the checkout's.
use_package_of_stack() {
  local command=$1 package=$KIJKO_HOME/package
  shift
  [ -x "$package/kijko" ] && ! in_package || return 0
  case "$command:${1:-}" in
    up:--from | package:* | test:* | bench:* | types:* | demo:*) return 0 ;;
  esac
  export KIJKO_HOME
  exec "$package/kijko" "$command" "$@"
}

# up_from FILE
up_from() {
  local file tree name
  file=$(readlink -f "$1") && [ -f "$file" ] || misuse "there is no package $1"
  # Its first line alone: tar ends before it has read everything.
  name=$({ tar -tzf "$file" 2> /dev/null || true; } | head -n 1 | cut -d/ -f1)
  [[ $name =~ ^kijko-[0-9A-Za-z.+~-]+$ ]] || fail "$1 is no package of Kijko"
  tree=$KIJKO_HOME/packages/$name
  # shellcheck disable=SC2064 # the name of now
  trap "rm -rf '$tree.new'" EXIT
  step "$name" "the file is damaged or not a package: copy it again" unpack_package "$file" "$tree"
  refuse_unfit_package "$tree"
  # The settings stay where they are.
  if in_package; then cp -P "$ROOT/.env" "$tree.new/.env" 2> /dev/null || true; else ln -s "$ROOT/.env" "$tree.new/.env"; fi
  rm -rf "$tree"
  mv "$tree.new" "$tree"
  ln -sfn "$tree" "$KIJKO_HOME/package"
  export KIJKO_HOME
  exec "$tree/kijko" up
}

# unpack_package FILE TREE: into TREE.new, each file compared with its checksum, and no file that has none.
unpack_package() {
  local new=$2.new listed found
  rm -rf "$new"
  mkdir -p "$new"
  tar -xzf "$1" -C "$new" --strip-components=1 --no-same-owner --no-same-permissions
  cd "$new" || return 1
  sha256sum --check --strict --quiet SHA256SUMS
  listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS | sort)
  found=$(find . \( -type f -o -type l \) -not -path ./SHA256SUMS | sort)
  [ "$listed" = "$found" ] || { echo "files without a checksum, or missing"; return 1; }
}

# refuse_unfit_package TREE: before anything of the stack is changed.
refuse_unfit_package() {
  local tree=$1.new major arch glibc ours
  major=$(package_fact pg_major "$tree") arch=$(package_fact arch "$tree") glibc=$(package_fact glibc "$tree")
  [ "$arch" = "$(dpkg --print-architecture)" ] || fail "the package is for $arch, and this machine is $(dpkg --print-architecture)"
  if [ -f "$DATA/PG_VERSION" ] && [ "$(cat "$DATA/PG_VERSION")" != "$major" ]; then
    fail "the package is for PostgreSQL $major, and the cluster in $DATA is one of PostgreSQL $(cat "$DATA/PG_VERSION")"
  fi
  [ "${KIJKO_PG_MAJOR:-$major}" = "$major" ] || fail "the package is for PostgreSQL $major, and KIJKO_PG_MAJOR is $KIJKO_PG_MAJOR"
  ours=$(ldd --version | sed -nE '1s/.* ([0-9]+\.[0-9]+)$/\1/p')
  [ "$(printf '%s\n%s\n' "$glibc" "$ours" | sort -V | tail -n 1)" = "$ours" ] ||
    fail "the package was built on a newer system: it needs glibc $glibc, and this one has $ours"
  [ -x "/usr/lib/postgresql/$major/bin/postgres" ] || apt_has "postgresql-$major" ||
    fail "the package is for PostgreSQL $major, which this system does not have: take the package for its own major version"
}

apt_has() { apt-cache show "$1" > /dev/null 2>&1; }

# What the package's own scripts do instead. `up` checks, builds and installs by these names.
if in_package; then
  packaged_apt_packages "$(package_fact pg_major)"
  APT_PACKAGES=("${PACKAGED_APT_PACKAGES[@]}")
  KIJKO_PG_MAJOR=$(package_fact pg_major)
  KIJKO_BUILD_PREFIX=$ROOT/package/extension
  BUILD_PREFIX=$KIJKO_BUILD_PREFIX
  SIDECAR_BINARY=$ROOT/package/bin/kijko-sidecar
  REALTIME_BINARY=$ROOT/package/bin/kijko-realtime
  STORAGE_BINARY=$ROOT/package/bin/kijko-storage
  INDEXER_BINARY=$ROOT/package/bin/kijko-indexer
  choose_build_profile() { :; }
  check_toolchain() { :; }
  install_npm_packages() { :; }
  build_all() { :; }
  # A copy of Postgres needs no headers and no tools of tests.
  copy_postgres() {
    local prefix=$1 version major=$KIJKO_PG_MAJOR
    version=$(dpkg-query -W -f='${Package}=${Version} ' "postgresql-$major" "postgresql-$major-cron")
    [ -f "$prefix/.version" ] && [ "$(cat "$prefix/.version")" = "$version" ] && return 0
    rm -rf "$prefix"
    mkdir -p "$prefix/lib/postgresql" "$prefix/share/postgresql"
    cp -a "/usr/lib/postgresql/$major" "$prefix/lib/postgresql/$major"
    cp -a "/usr/share/postgresql/$major" "$prefix/share/postgresql/$major"
    printf '%s\n' "$version" > "$prefix/.version"
  }
  postgrest_binary() { printf '%s\n' "$ROOT/package/bin/postgrest"; }
  supabase_program() { printf '%s\n' "$ROOT/package/bin/supabase"; }
  missing_apt_packages() { not_installed "${APT_PACKAGES[@]}"; }
fi
