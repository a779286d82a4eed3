#!/usr/bin/env bash
# Postgres' restore_command: fetches one file of WAL. restore-wal NAME PATH ARCHIVE [PG_WAL]
# PG_WAL is the folder of the server that is replaced: it has what was not archived yet.
set -euo pipefail
name=$1 path=$2 archive=$3 former=${4:-}
if [ -f "$archive/$name.gz" ]; then
  gzip -dc "$archive/$name.gz" > "$path"
elif [ -n "$former" ] && [ -f "$former/$name" ]; then
  cp "$former/$name" "$path"
else
  exit 1
fi
