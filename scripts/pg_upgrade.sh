# ./kijko upgrade --pg MAJOR: moves the cluster to another major version of Postgres by pg_upgrade. It copies the files, so the
# former cluster stays as it is, as data.15 and pgsql.15, until an operator removes it. Sourced by ./kijko.
# Nothing of the cluster is moved before pg_upgrade has succeeded. A command that was killed in between is continued by the next.
# shellcheck shell=bash

upgrade_postgres() {
  local to=$1 from next=$KIJKO_HOME/next former_bin=$PG_BIN
  [ -f "$DATA/PG_VERSION" ] || fail "there is no cluster in $DATA: './kijko up' makes one"
  from=$(cat "$DATA/PG_VERSION")
  [[ " ${PG_MAJORS[*]} " = *" $to "* ]] && [ "$to" -gt "$from" ] ||
    misuse "upgrade --pg takes a newer major version than $from, of ${PG_MAJORS[*]}"
  load_secrets
  [ ! -f "$KIJKO_HOME/paused" ] || fail "this stack is paused since a restore: run './kijko resume' first"
  ! archive_folder > /dev/null || say "the archive in $(archive_folder) ends with the former cluster: make a new backup afterwards"
  ask "Move the cluster from PostgreSQL $from to $to? The stack stops meanwhile." || fail "nothing was changed (KIJKO_YES=1 answers yes)"
  KIJKO_PG_MAJOR=$to
  choose_pg_major
  install_apt_packages
  is_prebuilt || step "the extension for PostgreSQL $to" "the compiler's message above says what is wrong" build_extension
  refuse_platform_drift "$BUILD_PREFIX"
  stop_services
  PG_BIN=$former_bin stop_postgres
  step "an empty cluster of PostgreSQL $to" "the former cluster is as it was: './kijko up' starts it" make_next_cluster "$next"
  step "pg_upgrade from $from to $to" "the former cluster is as it was: './kijko up' starts it" run_pg_upgrade "$former_bin" "$next"
  printf '%s\n' "$from" > "$next/from"
  finish_pg_upgrade
  unset KIJKO_PG_MAJOR
  KIJKO_PREBUILT=1 "$ROOT/kijko" up
  step "the extensions of PostgreSQL $to" "run 'alter extension … update' as the superuser" update_extensions
  step "statistics for the planner" "run vacuumdb --all --analyze-only as the superuser" analyze_cluster
  say "this is PostgreSQL $to. The former cluster is in $DATA.$from: remove it, and $PG_PREFIX.$from, when you need it no more"
}

# The renames after a successful pg_upgrade; each is done once.
finish_pg_upgrade() {
  local next=$KIJKO_HOME/next from
  [ -f "$next/from" ] || return 0
  from=$(cat "$next/from")
  # The archive of WAL is the former cluster's.
  rm -f "$KIJKO_HOME/archive"
  if [ -d "$next/data" ]; then
    if [ -d "$DATA" ]; then mv "$DATA" "$DATA.$from"; fi
    mv "$next/data" "$DATA"
  fi
  if [ -d "$next/pgsql" ]; then
    if [ -d "$PG_PREFIX" ]; then mv "$PG_PREFIX" "$PG_PREFIX.$from"; fi
    mv "$next/pgsql" "$PG_PREFIX"
  fi
  rm -rf "$next"
}

# As init_cluster makes one, with the former one's settings.
make_next_cluster() {
  local next=$1
  [ ! -e "$DATA.$(cat "$DATA/PG_VERSION")" ] || fail "$DATA.$(cat "$DATA/PG_VERSION") is in the way: an earlier upgrade has left it"
  rm -rf "$next"
  mkdir -p "$next"
  copy_postgres "$next/pgsql"
  copy_extension "$BUILD_PREFIX" "$next/pgsql"
  (umask 077 && printf '*:*:*:supabase_admin:%s\n' "$KIJKO_ADMIN_PASSWORD" > "$next/pgpass" && printf '%s\n' "$KIJKO_ADMIN_PASSWORD" > "$next/password")
  mkdir -m 0700 "$next/run"
  give_to_os_user "$next"
  "${AS_OS_USER[@]}" "$(pg_bin "$next/pgsql")/initdb" -D "$next/data" -U supabase_admin --auth=scram-sha-256 --pwfile="$next/password" \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums
  cp -a "$DATA/postgresql.auto.conf" "$next/data/"
  # The new server writes nothing into the former one's archive.
  # shellcheck disable=SC2317 # called by configure_cluster
  archive_folder() { return 1; }
  DATA=$next/data
  configure_cluster
}

run_pg_upgrade() {
  local former_bin=$1 next=$2 bin
  bin=$(pg_bin "$next/pgsql")
  "${AS_OS_USER[@]}" env -C "$next/run" PGPASSFILE="$next/pgpass" "$bin/pg_upgrade" -b "$former_bin" -B "$bin" -d "$DATA" -D "$next/data" \
    -U supabase_admin -s "$next/run" -p 50432 -P 50433 ||
    { find "$next/data" -name '*.log' -exec tail -n 20 {} + && return 1; }
}

# The new system's packages have later versions, and pg_upgrade keeps the former SQL.
update_extensions() {
  PG_BIN=$(pg_bin "$PG_PREFIX") admin_psql << 'SQL'
select format('alter extension %I update', name) from pg_available_extensions where installed_version <> default_version \gexec
SQL
}

analyze_cluster() {
  PGPASSWORD=$KIJKO_ADMIN_PASSWORD PGOPTIONS=$SUPERUSER_OPTIONS "$(pg_bin "$PG_PREFIX")/vacuumdb" --all --analyze-in-stages --quiet \
    --host=127.0.0.1 --port="$DB_PORT" --username=supabase_admin
}
