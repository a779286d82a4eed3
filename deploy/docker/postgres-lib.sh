# The part of ./kijko that runs inside the postgres image: the same functions, with Debian's own paths. Sourced.
# shellcheck shell=bash disable=SC2034

ROOT=${KIJKO_ROOT:-/opt/kijko}
for part in ui config postgres key_file signing_keys seal_keys archive platform cluster services stack upgrade backup backup_objects erasures restore resume keys secrets; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/$part.sh"
done

export KIJKO_HOME=${KIJKO_HOME:-/var/lib/kijko} KIJKO_DB_PORT=${KIJKO_DB_PORT:-5432}
init_home
load_ports
PG_PREFIX=${KIJKO_PG_PREFIX:-/usr}
PG_BIN=$(pg_bin "$PG_PREFIX")
# There is no build tree here: what is installed is what was built.
BUILD_PREFIX=$PG_PREFIX
# The shared load_secrets makes this one for tests; here the sidecar has Stripe's own from a file, and the database none.
make_stripe_secret() { :; }

# Every PostgREST of every container of these names. A name that is not found counts as one that knows no key.
postgrest_addresses() {
  local host addresses address
  for host in ${KIJKO_POSTGREST-rest:3000 login:3000}; do
    addresses=$(getent ahosts "${host%:*}" | awk '$2 == "STREAM" { print $1 }') || addresses=''
    for address in ${addresses:-"${host%:*}"}; do printf '%s:%s\n' "$address" "${host##*:}"; done
  done
}

# A container cannot signal another one.
reload_postgrest_keys() {
  say "now, on the host: docker compose kill -s SIGUSR2 rest login"
  return 1
}

# Two servers on one volume would destroy it, and Postgres does not see the other one: in its container each is process 1. The
# lock ends with the last process of the server, which inherits it.
lock_server() {
  exec 6> "$KIJKO_HOME/server.lock"
  flock -w "$1" 6 || fail "another container uses the volume of the data: docker compose stop postgres"
}

SECRET_FILES=${KIJKO_SECRET_FILES:-/run/secrets}
# Made when the server that answers clients is about to start: the cluster's first start, which applies sql/platform, is not it.
SERVING=$RUN/serving

# From the secret files to where the shared functions look for them, at each start, so that a new file takes effect.
take_secrets() {
  local name file
  (
    umask 077
    for name in ADMIN POSTGRES AUTHENTICATOR LOGIN SIDECAR GATEWAY REALTIME STORAGE INDEXER; do
      file=$SECRET_FILES/${name,,}_password
      [ -r "$file" ] || fail "the secret file $file is missing or not readable: see deploy/docker/make-secrets.sh"
      printf 'KIJKO_%s_PASSWORD=%q\n' "$name" "$(cat "$file")"
    done > "$SECRETS/passwords.new"
    mv "$SECRETS/passwords.new" "$SECRETS/passwords"
  )
}
