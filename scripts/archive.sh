# The archive of WAL: the server's settings for it, and its files. Sourced by ./kijko and inside the postgres image.
# shellcheck shell=bash

# `./kijko backup` writes the folder's path here. A restored copy has no such file, so it never writes into the archive that
# it came from.
archive_state() { printf '%s/archive' "$KIJKO_HOME"; }

archive_folder() { cat "$(archive_state)" 2> /dev/null; }

# Lines of kijko.conf. archive_mode needs a restart, so it is always on, and the command decides.
archive_settings() {
  local folder command=/bin/true seconds=${KIJKO_ARCHIVE_SECONDS:-60}
  [[ $seconds =~ ^[1-9][0-9]{0,4}$ ]] || misuse "KIJKO_ARCHIVE_SECONDS must be a number from 1 to 99999, not '$seconds'"
  if folder=$(archive_folder); then
    command="bash \"$KIJKO_HOME/bin/archive-wal\" \"$folder/wal\" \"%p\" \"%f\""
    # In S3 they are not copied.
    if ! objects_in_s3; then
      check_plain_path KIJKO_STORAGE_DIR "$(readlink -m "$OBJECTS")"
      command+=" \"$(readlink -m "$OBJECTS")\" \"$folder/objects\""
    fi
  else
    seconds=0
  fi
  printf "archive_mode = on\narchive_command = '%s'\n" "$command"
  # WAL that is not full is archived after this time: the most that the loss of the disk can cost.
  printf 'archive_timeout = %s\n' "$seconds"
}

# Paths stand in commands that a shell of the server reads, where Postgres replaces % as well.
check_plain_path() {
  [[ $2 =~ ^/[A-Za-z0-9_./+@:=,\ -]+$ ]] || misuse "$1 must be an absolute path of letters, digits, blanks and _./+@:=,-, not '$2'"
}

# ---- what is in an archive: a file's name is its timeline, and its number in two parts, each of 8 hexadecimal digits

# The number of a file of WAL, which counts through all timelines. Files have 16 MiB.
segment_number() { echo $((16#${1:8:8} * 256 + 16#${1:16:8})); }

segment_name() { printf '%s%08X%08X' "$1" "$(($2 / 256))" "$(($2 % 256))"; }

# segment_of_lsn 0/16B3748: the number of the file that has this place
segment_of_lsn() { echo $((16#${1%/*} * 256 + 16#${1#*/} / 16777216)); }

# wal_names ARCHIVE [PG_WAL]: complete files of WAL, and histories of timelines
wal_names() {
  local folder
  for folder in "$@"; do
    [ ! -d "$folder" ] || find "$folder" -maxdepth 1 -type f -printf '%f\n' | sed -E 's/\.gz$//'
  done | grep -E '^([0-9A-F]{24}|[0-9A-F]{8}\.history)$' | sort -u || true
}

# read_history NAME ARCHIVE [PG_WAL]
read_history() {
  if [ -f "$2/$1.history.gz" ]; then
    gzip -dc "$2/$1.history.gz"
  elif [ -n "${3:-}" ] && [ -f "$3/$1.history" ]; then
    cat "$3/$1.history"
  fi
}

# timeline_chain TIMELINE ARCHIVE [PG_WAL]: its ancestors, oldest first, each with the place where it was left; then itself
timeline_chain() {
  read_history "$@" | awk 'NF >= 2 && $1 ~ /^[0-9]+$/ { printf "%08X %s\n", $1, $2 }'
  printf '%s -\n' "$1"
}

latest_timeline() {
  wal_names "$@" | sed -nE 's/^([0-9A-F]{8})(\.history|[0-9A-F]{16})$/\1/p' | sort | tail -n 1
}

# missing_wal FIRST CHAIN NAMES: the number of the first file that is missing between FIRST and the last one, if any.
# CHAIN and NAMES are the output of timeline_chain and of wal_names.
missing_wal() {
  local -A have=()
  local number name timeline left last=0 end
  while read -r timeline left; do
    end=-
    [ "$left" = - ] || end=$(segment_of_lsn "$left")
    while read -r name; do
      [ "${name:0:8}" = "$timeline" ] && [ "${#name}" = 24 ] || continue
      number=$(segment_number "$name")
      [ "$end" = - ] || [ "$number" -le "$end" ] || continue
      have[$number]=1
      [ "$number" -le "$last" ] || last=$number
    done <<< "$3"
  done <<< "$2"
  for ((number = $1; number <= last; number++)); do
    [ -n "${have[$number]:-}" ] || { echo "$number"; return 0; }
  done
}
