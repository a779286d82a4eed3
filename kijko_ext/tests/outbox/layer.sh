# shellcheck shell=bash
# Sourced by run.sh. The outbox against receivers on this machine: what arrives, and what a crash, a slow receiver and a hostile
# one do.

layer_outbox() {
  as_postgres tee -a "$DATA/postgresql.auto.conf" > /dev/null << 'CONF'
kijko.http_allowed_hosts = 'localhost'
max_prepared_transactions = 4
CONF
  make_outbox_certificates "$RUN/tls"
  # Instead of the system's authorities. A test that restarts the server hands it on.
  local -x SSL_CERT_FILE=$RUN/tls/ca.pem
  server -m fast restart
  run_psql -d postgres -c 'create extension kijko'
  KIJKO_TEST_SOCKETS=$RUN KIJKO_TEST_DATA=$DATA KIJKO_TEST_BIN=$BIN KIJKO_TEST_LOG=$RUN/server.log KIJKO_TEST_TLS=$RUN/tls \
    node --test --test-force-exit --test-timeout=720000 --test-concurrency=1 --test-reporter=tap \
    "$TESTS"/outbox/{http2,outbox,hostile,drop,crash}.test.mjs # the last one leaves thousands of rows
}

# An authority, a receiver that it vouches for, and a stranger of the same name.
make_outbox_certificates() {
  local folder=$1 key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  rm -rf "$folder"
  mkdir -p "$folder"
  (
    cd "$folder" &&
      openssl req -x509 "${key[@]}" -days 2 -subj '/CN=Test CA' -keyout ca.key.pem -out ca.pem &&
      openssl req "${key[@]}" -subj /CN=localhost -keyout localhost.key.pem -out localhost.csr.pem &&
      openssl x509 -req -in localhost.csr.pem -CA ca.pem -CAkey ca.key.pem -CAcreateserial -days 2 -out localhost.pem \
        -extfile <(printf 'subjectAltName = DNS:localhost\n') &&
      openssl req -x509 "${key[@]}" -days 2 -subj /CN=localhost -addext 'subjectAltName = DNS:localhost' \
        -keyout stranger.key.pem -out stranger.pem
  ) 2> "$folder/openssl.log" || { cat "$folder/openssl.log" && return 1; }
}
