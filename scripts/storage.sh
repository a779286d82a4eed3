# ./kijko storage: whether rows and bytes of objects belong together. Sourced by ./kijko.
# shellcheck shell=bash

command_storage() {
  local delete=no
  [ "${1:-}" = check ] && [ "$#" -le 2 ] || misuse "storage takes: check [--delete]"
  case ${2:-} in
    '') ;;
    --delete) delete=yes ;;
    *) misuse "storage check takes --delete or nothing" ;;
  esac
  require_database
  check_storage "$delete"
}

# Files are listed before rows are read: an upload has its row before its file, so a file without a row is none that is new. A row
# without a file may just be gone, and is looked at twice.
check_storage() {
  local work status=0
  work=$(mktemp -d)
  # The folder is the stack's user's own.
  if [ -d "$OBJECTS" ]; then "${AS_OS_USER[@]}" find "$OBJECTS" -type f -printf '%f %s\n' | sort > "$work/files"; else : > "$work/files"; fi
  storage_inventory > "$work/rows"
  stray_files "$work" > "$work/stray"
  rows_without_bytes "$work" "$work/rows" > "$work/suspects"
  if [ -s "$work/suspects" ]; then
    storage_inventory > "$work/rows.again"
    rows_without_bytes "$work" "$work/rows.again" | grep -Fxf "$work/suspects" > "$work/missing" || true
  else
    : > "$work/missing"
  fi
  sed 's/^[^ ]* /no bytes: /' "$work/missing"
  sed 's/^/no row: /' "$work/stray"
  if [ -s "$work/missing" ]; then status=1; fi
  if [ -s "$work/stray" ] && [ "$1" = yes ]; then
    while read -r file; do "${AS_OS_USER[@]}" rm -f "$file"; done < "$work/stray"
    say "deleted $(wc -l < "$work/stray") files without a row"
  elif [ -s "$work/stray" ]; then
    status=1
  fi
  say "$(grep -c ' object ' "$work/rows" || true) objects, $(wc -l < "$work/files") files in $OBJECTS: $(wc -l < "$work/missing") rows without their bytes, $(wc -l < "$work/stray") files without a row"
  rm -rf "$work"
  return "$status"
}

# VERSION object|upload|deletion BYTES NAME. As the service: a superuser reads no table that postgres could replace.
storage_inventory() {
  PGPASSWORD=$KIJKO_STORAGE_PASSWORD "$PG_BIN/psql" -X -q -At -F ' ' -v ON_ERROR_STOP=1 \
    -c 'select version, kind, bytes, name from storage_service.inventory()' \
    "host=127.0.0.1 port=$DB_PORT user=kijko_storage dbname=$DATABASE_NAME sslmode=disable application_name=kijko-script"
}

# object_file VERSION: with the suffix of an upload under way, if it has one
object_file() { printf '%s/%s/%s/%s\n' "$OBJECTS" "${1:0:2}" "${1:2:2}" "$1"; }

stray_files() {
  local name
  awk 'NR == FNR { known[$1]; next } { version = $1; sub(/#.*/, "", version); if (!(version in known)) print $1 }' "$1/rows" "$1/files" |
    while read -r name; do
      if "${AS_OS_USER[@]}" test -f "$(object_file "$name")"; then object_file "$name"; fi
    done
}

# rows_without_bytes FOLDER ROWS: also those whose file has another length
rows_without_bytes() {
  local version bytes name
  awk 'NR == FNR { size[$1] = $2; next } $2 == "object" && !($1 in size && size[$1] == $3)' "$1/files" "$2" |
    while read -r version _ bytes name; do
      [ "$("${AS_OS_USER[@]}" stat -c %s "$(object_file "$version")" 2> /dev/null || true)" = "$bytes" ] || printf '%s %s\n' "$version" "$name"
    done
}
