#!/usr/bin/env bash
# Postgres' archive_command: keeps one file of WAL, compressed. archive-wal FOLDER PATH NAME [OBJECTS ARCHIVE]
# It ends well only when the file is on disk. A name that is there with other contents is never replaced: two servers would be
# writing into one archive, and neither could be restored from it.
set -euo pipefail
folder=$1 path=$2 name=$3 objects=${4:-} archive=${5:-}
target=$folder/$name.gz
# Made by `./kijko backup`. If it is missing, its disk is not mounted: a new folder would hide that.
[ -d "$folder" ] || { echo "the archive $folder is missing" >&2; exit 1; }
if [ -e "$target" ]; then
  gzip -dc "$target" | cmp -s - "$path" && exit 0
  echo "$target exists with other contents: does another server write into this archive?" >&2
  exit 1
fi
# Objects before the WAL that has their rows. WAL does not wait for a folder that cannot be written: `./kijko backup status` does.
if [ -n "$objects" ]; then
  bash "$(dirname "$0")/archive-objects" "$objects" "$archive" || echo "new objects were not archived in $archive" >&2
fi
new=$folder/.$name.$$
trap 'rm -f "$new"' EXIT
gzip -1 -c "$path" > "$new"
sync "$new"
# A link fails when the name exists; a rename would replace it.
ln "$new" "$target"
sync "$folder"
