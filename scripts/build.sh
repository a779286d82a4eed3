# Builds: the extension into a relocated copy of Debian's Postgres, and the sidecar. Sourced by ./kijko.
# shellcheck shell=bash

# Debian's Postgres relocates by itself when its three trees keep their relative places, so the extension is installed
# into a copy: nothing is written into /usr, no root is needed, and two checkouts do not meet.
BUILD_PREFIX=${KIJKO_BUILD_PREFIX:-$ROOT/target/pgsql}
SIDECAR_BINARY=$ROOT/target/release/kijko-sidecar
REALTIME_BINARY=$ROOT/target/release/kijko-realtime

# copy_postgres PREFIX: done once, and again when Debian brings another minor version.
copy_postgres() {
  local prefix=$1 version
  version=$(dpkg-query -W -f='${Package}=${Version} ' postgresql-15 postgresql-server-dev-15 postgresql-15-cron postgresql-15-pgtap postgresql-15-plpgsql-check)
  [ -f "$prefix/.version" ] && [ "$(cat "$prefix/.version")" = "$version" ] && return 0
  rm -rf "$prefix"
  mkdir -p "$prefix/lib/postgresql" "$prefix/share/postgresql" "$prefix/include"
  cp -a /usr/lib/postgresql/15 "$prefix/lib/postgresql/15"
  cp -a /usr/share/postgresql/15 "$prefix/share/postgresql/15"
  cp -a /usr/include/postgresql "$prefix/include/postgresql"
  printf '%s\n' "$version" > "$prefix/.version"
}

# The linker workaround of cargo-pgrx would make it and plain cargo throw away each other's artifacts.
pgrx_environment() {
  export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
  export PGRX_HOME=$ROOT/target/pgrx
  mkdir -p "$PGRX_HOME"
  # Written once: a newer file makes cargo build pgrx again. Any pg_config of the same version will do; --pg-config names ours.
  [ -f "$PGRX_HOME/config.toml" ] || printf '[configs]\npg15 = "/usr/lib/postgresql/15/bin/pg_config"\n' > "$PGRX_HOME/config.toml"
}

source_hash() {
  (cd "$ROOT" && find "$@" -type f -not -path '*/target/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

extension_hash() { source_hash kijko_ext Cargo.toml Cargo.lock; }

extension_is_current() {
  [ -f "$BUILD_PREFIX/.extension" ] && [ "$(cat "$BUILD_PREFIX/.extension")" = "$(extension_hash)" ]
}

build_extension() {
  local wanted
  pgrx_environment
  copy_postgres "$BUILD_PREFIX"
  extension_is_current && return 0
  wanted=$(extension_hash)
  # An earlier version's files would stay behind, and count as part of what is applied to a cluster.
  rm -f "$BUILD_PREFIX"/share/postgresql/15/extension/kijko*
  (cd "$ROOT" && cargo pgrx install --release --package kijko_ext --pg-config "$BUILD_PREFIX/lib/postgresql/15/bin/pg_config")
  printf '%s\n' "$wanted" > "$BUILD_PREFIX/.extension"
}

# Gives the instance its own copy, by unlink and create: a running server keeps the file it has mapped.
install_extension() {
  copy_postgres "$PG_PREFIX"
  local stamp=$PG_PREFIX/.extension
  [ -f "$stamp" ] && cmp -s "$stamp" "$BUILD_PREFIX/.extension" && return 0
  rm -f "$PG_PREFIX"/share/postgresql/15/extension/kijko*
  cp -a "$BUILD_PREFIX"/share/postgresql/15/extension/kijko* "$PG_PREFIX/share/postgresql/15/extension/"
  cp -a --remove-destination "$BUILD_PREFIX/lib/postgresql/15/lib/kijko.so" "$PG_PREFIX/lib/postgresql/15/lib/"
  cp -a "$BUILD_PREFIX/.extension" "$stamp"
}

# Together, so that what they share is compiled once.
build_programs() {
  (cd "$ROOT" && cargo build --release --package kijko-sidecar --package kijko-realtime)
}
