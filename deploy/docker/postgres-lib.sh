# The part of ./kijko that runs inside the postgres image: the same functions, with Debian's own paths. Sourced.
# shellcheck shell=bash disable=SC2034

ROOT=${KIJKO_ROOT:-/opt/kijko}
for part in ui config seal_keys cluster stack secrets; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/$part.sh"
done

export KIJKO_HOME=${KIJKO_HOME:-/var/lib/kijko} KIJKO_DB_PORT=${KIJKO_DB_PORT:-5432}
init_home
load_ports
PG_PREFIX=${KIJKO_PG_PREFIX:-/usr}
PG_BIN=$PG_PREFIX/lib/postgresql/15/bin
# There is no build tree here: what is installed is what was built.
BUILD_PREFIX=$PG_PREFIX
# The shared load_secrets makes this one for tests; here the sidecar has Stripe's own from a file, and the database none.
make_stripe_secret() { :; }
SECRET_FILES=${KIJKO_SECRET_FILES:-/run/secrets}
# Made when the server that answers clients is about to start: the cluster's first start, which applies sql/platform, is not it.
SERVING=$RUN/serving

# From the secret files to where the shared functions look for them, at each start, so that a new file takes effect.
take_secrets() {
  local name file
  (
    umask 077
    for name in ADMIN POSTGRES AUTHENTICATOR LOGIN SIDECAR; do
      file=$SECRET_FILES/${name,,}_password
      [ -r "$file" ] || fail "the secret file $file is missing or not readable: see deploy/docker/make-secrets.sh"
      printf 'KIJKO_%s_PASSWORD=%q\n' "$name" "$(cat "$file")"
    done > "$SECRETS/passwords.new"
    mv "$SECRETS/passwords.new" "$SECRETS/passwords"
    [ -r "$SECRET_FILES/jwt.pem" ] || fail "the secret file $SECRET_FILES/jwt.pem is missing or not readable: see deploy/docker/make-secrets.sh"
    cat "$SECRET_FILES/jwt.pem" > "$SECRETS/jwt.pem.new"
    mv "$SECRETS/jwt.pem.new" "$SECRETS/jwt.pem"
  )
}
