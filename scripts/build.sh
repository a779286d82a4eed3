# Builds: the extension for one major version of Postgres, and the sidecar. Sourced by ./kijko.
# shellcheck shell=bash

# choose_build_profile [COMMAND]: what compiles takes KIJKO_BUILD_PROFILE, or else that of the stack's last build, or quick, which compiles
# faster; what is measured or given to others is release (Cargo.toml). All else takes what the stack was built with. Exported, so
# that stacks of tests and benchmarks are built as what starts them.
choose_build_profile() {
  local built=''
  [ -z "${KIJKO_HOME:-}" ] || built=$(cat "$KIJKO_HOME/build_profile" 2> /dev/null || true)
  case ${1:-} in
    bench | package) BUILD_PROFILE=${KIJKO_BUILD_PROFILE:-release} ;;
    '' | up | demo | test | reset | upgrade | mutate) BUILD_PROFILE=${KIJKO_BUILD_PROFILE:-${built:-quick}} ;;
    *) BUILD_PROFILE=${built:-${KIJKO_BUILD_PROFILE:-quick}} ;;
  esac
  [[ $BUILD_PROFILE = quick || $BUILD_PROFILE = release ]] || misuse "KIJKO_BUILD_PROFILE must be quick or release, not '$BUILD_PROFILE'"
  export KIJKO_BUILD_PROFILE=$BUILD_PROFILE
  BUILT=${CARGO_TARGET_DIR:-$ROOT/target}/$BUILD_PROFILE
  SIDECAR_BINARY=$BUILT/kijko-sidecar
  REALTIME_BINARY=$BUILT/kijko-realtime
  STORAGE_BINARY=$BUILT/kijko-storage
  INDEXER_BINARY=$BUILT/kijko-indexer
}

# pgrx_environment: which Postgres pgrx translates the headers of. KIJKO_PG_CONFIG is another pg_config than the system's.
pgrx_environment() {
  export PGRX_HOME=$ROOT/target/pgrx/$PG_MAJOR
  write_pgrx_config "${KIJKO_PG_CONFIG:-/usr/lib/postgresql/$PG_MAJOR/bin/pg_config}"
}

write_pgrx_config() {
  local line="pg$PG_MAJOR = \"$1\"" config=$PGRX_HOME/config.toml
  # Written once: a newer file makes cargo build pgrx again.
  if grep -qxF "$line" "$config" 2> /dev/null; then return 0; fi
  mkdir -p "$PGRX_HOME"
  printf '[configs]\n%s\n' "$line" > "$config"
}

source_hash() {
  (cd "$ROOT" && find "$@" -type f -not -path '*/target/*' -not -path 'kijko_ext/tests/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

extension_hash() { printf '%s %s\n' "$(source_hash kijko_ext services/flags services/guard Cargo.toml Cargo.lock)" "$BUILD_PROFILE"; }

extension_is_current() {
  [ -f "$BUILD_PREFIX/.extension" ] && [ "$(cat "$BUILD_PREFIX/.extension")" = "$(extension_hash)" ]
}

build_extension() {
  local wanted
  extension_is_current && return 0
  wanted=$(extension_hash)
  build_library
  put_extension "$BUILD_PREFIX"
  printf '%s\n' "$wanted" > "$BUILD_PREFIX/.extension"
}

# build_library: libkijko.so, and the program that reads it. The sidecar is built by another call of
# cargo: in one call the features of shared crates would be united, and the extension would read JSON in another way.
build_library() {
  local features="kijko_ext/pg$PG_MAJOR" built=$BUILT/.kijko-library
  pgrx_environment
  # The library has the same name for all versions of Postgres. Cargo does not see that it was built for others in between.
  if [ -f "$built" ] && [ "$(cat "$built")" != "$features" ]; then rm -f "$BUILT"/{,deps/}libkijko.so; fi
  (cd "$ROOT" && cargo build --profile "$BUILD_PROFILE" --package kijko_ext --package kijko-schema --features "$features")
  printf '%s\n' "$features" > "$built"
}

# put_extension PREFIX: the built library, its control file, its install script and the scripts of earlier releases.
put_extension() {
  local extension version control=$ROOT/kijko_ext/kijko.control
  extension=$(pg_extension "$1")
  version=$(workspace_version)
  mkdir -p "$extension" "$(dirname "$(pg_library "$1")")"
  rm -f "$extension"/kijko* "$(pg_library "$1")"
  find "$ROOT/kijko_ext/sql" -name 'kijko--*.sql' -exec cp -t "$extension" {} +
  "$BUILT/kijko-schema" "$BUILT/libkijko.so" "$control" "$version" > "$extension/kijko--$version.sql"
  sed "s/@CARGO_VERSION@/$version/" "$control" > "$extension/kijko.control"
  cp "$BUILT/libkijko.so" "$(pg_library "$1")"
}

workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml"; }

# Gives the instance its own copy.
install_extension() {
  copy_postgres "$PG_PREFIX"
  cmp -s "$PG_PREFIX/.extension" "$BUILD_PREFIX/.extension" || copy_extension "$BUILD_PREFIX" "$PG_PREFIX"
}

# Together, so that what they share is compiled once. The indexer only where it is wanted: its parsers take minutes. Tests start
# indexers of their own, on stacks that have none (KIJKO_BUILD_INDEXER), and then test these packages: with fewer of them here
# some of what they share would have other features, and be compiled twice.
ALL_PACKAGES=()
for package in core flags guard sidecar realtime storage grammars indexer; do ALL_PACKAGES+=(--package "kijko-$package"); done

build_programs() {
  local packages=(--package kijko-sidecar --package kijko-realtime --package kijko-storage)
  if has_service indexer || [ "${KIJKO_BUILD_INDEXER:-}" = 1 ]; then packages=("${ALL_PACKAGES[@]}"); fi
  (cd "$ROOT" && cargo build --profile "$BUILD_PROFILE" "${packages[@]}")
}
