# ./kijko migrations: what is applied to a database, by contents and not by versions only. Sourced by ./kijko.
# shellcheck shell=bash

command_migrations() {
  local action=check url='' more=()
  case ${1:-} in check | push) action=$1 && shift ;; esac
  while [ "$#" -gt 0 ]; do
    case $action:$1 in
      *:--db-url) [ "$#" -ge 2 ] || misuse "--db-url needs a URL"
        url=$2 && shift 2 ;;
      push:--dry-run) more+=(--dry-run) && shift ;;
      *) misuse "migrations takes nothing or: check, push [--dry-run]; and --db-url URL" ;;
    esac
  done
  if [ -n "$url" ]; then use_database "$url"; else require_database; fi
  "migrations_$action" "${more[@]}"
}

# Another database than the stack's, such as one of your own Supabase. The password is not put on a command line. The functions
# that name the stack's database name this one from here on.
# shellcheck disable=SC2317
use_database() {
  local rest
  [[ $1 =~ ^postgres(ql)?://[^:@/]+:[^@]+@[^/]+/[^?]+ ]] || misuse "--db-url must be postgres://user:password@host:port/database"
  DB_URL=${1%%\?*}
  rest=${1#"$DB_URL"}
  OTHER_PASSWORD=$(owner_password)
  OTHER_URL=${DB_URL/":$OTHER_PASSWORD@"/@}$rest
  owner_password() { printf '%b' "${OTHER_PASSWORD//%/\\x}"; }
  owner_psql() {
    PGPASSWORD=$(owner_password) "$(psql_program)" -X -q -v ON_ERROR_STOP=1 "$OTHER_URL" "$@" || return 1
  }
  owner_url() { printf '%s' "$OTHER_URL"; }
}

psql_program() { if [ -x "$PG_BIN/psql" ]; then echo "$PG_BIN/psql"; else command -v psql || fail "psql is missing"; fi; }

# Versions that are applied and have no file here: of a later release, or removed.
unknown_migrations() {
  local version
  [ "$(owner_psql -At -c "select to_regclass('supabase_migrations.schema_migrations') is not null")" = t ] || return 0
  while read -r version; do
    compgen -G "$ROOT/supabase/migrations/${version}_*.sql" > /dev/null || printf '%s\n' "$version"
  done < <(owner_psql -At -c 'select m.version from supabase_migrations.schema_migrations as m order by 1')
}

# Exit status 1 on drift. `supabase db push --dry-run` would say that everything is up to date.
migrations_check() {
  local edited unknown pending
  edited=$(edited_migrations) unknown=$(unknown_migrations) pending=$(pending_migrations)
  printf '%s files, %s pending, %s edited after they were applied, %s applied without a file\n' \
    "$(find "$ROOT/supabase/migrations" -name '*.sql' | wc -l)" "$(wc -w <<< "$pending")" "$(wc -w <<< "$edited")" "$(wc -w <<< "$unknown")"
  print_list pending "$pending"
  print_list edited "$edited"
  print_list unknown "$unknown"
  [ -z "$edited$unknown" ] || fail "the database and supabase/migrations differ: a push would not repair that"
}

# shellcheck disable=SC2086 # a word for each line
print_list() { [ -z "$2" ] || printf "$1 %s\n" $2; }

migrations_push() {
  migrations_check
  push_migrations "$@"
  if [ "$#" = 0 ]; then record_release; fi
}
