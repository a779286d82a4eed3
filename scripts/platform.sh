# What a superuser applies: sql/platform and the extension's SQL. Sourced by ./kijko and inside the postgres image.
# shellcheck shell=bash

PLATFORM_FILES=("$ROOT"/sql/platform/*.sql)

# KIJKO_HOME/applied has a line for each file that was applied: its checksum and its name.
# platform_state PREFIX: such lines for this checkout, and for the extension's scripts that are installed in PREFIX
platform_state() {
  (cd "$ROOT/sql/platform" && sha256sum -- *.sql)
  local script
  # By its sorted lines: an install script is in another order each time that it is generated.
  for script in "$(pg_extension "$1")"/kijko--*.sql; do printf '%s  %s\n' "$(sort "$script" | sha256sum | cut -d' ' -f1)" "${script##*/}"; done
}

# The files of sql/platform that were not applied yet, in their order.
pending_platform() {
  local file
  for file in "${PLATFORM_FILES[@]}"; do
    grep -qs "  $(basename "$file")\$" "$KIJKO_HOME/applied" || printf '%s\n' "$file"
  done
}

apply_platform_file() {
  printf '== %s\n' "${1#"$ROOT/"}"
  KIJKO_POSTGRES_PASSWORD=$KIJKO_POSTGRES_PASSWORD KIJKO_AUTHENTICATOR_PASSWORD=$KIJKO_AUTHENTICATOR_PASSWORD \
    KIJKO_LOGIN_PASSWORD=$KIJKO_LOGIN_PASSWORD KIJKO_SIDECAR_PASSWORD=$KIJKO_SIDECAR_PASSWORD \
    KIJKO_REALTIME_PASSWORD=$KIJKO_REALTIME_PASSWORD KIJKO_STORAGE_PASSWORD=$KIJKO_STORAGE_PASSWORD \
    KIJKO_GATEWAY_PASSWORD=$KIJKO_GATEWAY_PASSWORD KIJKO_INDEXER_PASSWORD=$KIJKO_INDEXER_PASSWORD \
    admin_psql --single-transaction -f "$1"
}

apply_platform() {
  local file
  for file in "${PLATFORM_FILES[@]}"; do apply_platform_file "$file"; done
  platform_state "$PG_PREFIX" > "$KIJKO_HOME/applied.new"
  mv "$KIJKO_HOME/applied.new" "$KIJKO_HOME/applied"
}

# What a later release brings: first the extension's SQL, which the new library must work with, then new files.
upgrade_platform() {
  local file update
  update=$(extension_update)
  [ -z "$update" ] || admin_psql -c 'alter extension kijko update'
  while read -r file; do
    [ -n "$file" ] || continue
    apply_platform_file "$file"
    (cd "$ROOT/sql/platform" && sha256sum -- "$(basename "$file")") >> "$KIJKO_HOME/applied"
  done < <(pending_platform)
  platform_state "$PG_PREFIX" > "$KIJKO_HOME/applied.new"
  mv "$KIJKO_HOME/applied.new" "$KIJKO_HOME/applied"
}

# "0.1.0 to 0.2.0" when the installed version is not the library's, else nothing.
extension_update() {
  admin_psql -At -c "select installed_version || ' to ' || default_version from pg_available_extensions where name = 'kijko' and installed_version <> default_version"
}

# differing_platform PREFIX: "edited NAME" or "missing NAME" for each applied file that is not here as it was applied
differing_platform() {
  platform_state "$1" | awk '
    NR == FNR { sum[$2] = $1; next }
    NF == 2 && !($2 in sum) { print "missing", $2; next }
    NF == 2 && $1 != sum[$2] { print "edited", $2 }
  ' - "$KIJKO_HOME/applied"
}

# Before the first release the files are edited in place, afterwards there are new ones.
refuse_platform_drift() {
  local differing missing
  [ -f "$KIJKO_HOME/applied" ] || return 0
  read_former_state "$1"
  differing=$(differing_platform "$1")
  [ -n "$differing" ] || return 0
  say ''
  missing=$(sed -n 's/^missing //p' <<< "$differing" | tr '\n' ' ')
  [ -z "$missing" ] ||
    fail "this checkout lacks what was applied to the cluster: ${missing% }. A later release has applied it: check out that one, or restore a backup from before"
  fail "these were changed after they were applied to this cluster: $(cut -d' ' -f2 <<< "$differing" | tr '\n' ' ')(sql/platform or the extension's SQL). Run './kijko reset' to make a new one."
}

# An older ./kijko wrote one checksum over all.
read_former_state() {
  [ "$(wc -w < "$KIJKO_HOME/applied")" = 1 ] || return 0
  local whole
  whole=$(cat "${PLATFORM_FILES[@]}" "$1/share/postgresql/${PG_MAJOR:-15}"/extension/kijko--*.sql | sha256sum | cut -d' ' -f1)
  [ "$(cat "$KIJKO_HOME/applied")" = "$whole" ] || return 0
  platform_state "$1" > "$KIJKO_HOME/applied"
}
