# shellcheck shell=bash
# Sourced by run.sh. The outbox against receivers on this machine: what arrives, and what a crash, a slow receiver and a hostile
# one do.

layer_outbox() {
  as_postgres tee -a "$DATA/postgresql.auto.conf" > /dev/null << 'CONF'
kijko.http_allowed_hosts = 'localhost'
max_prepared_transactions = 4
CONF
  server -m fast restart
  run_psql -d postgres -c 'create extension kijko'
  KIJKO_TEST_SOCKETS=$RUN KIJKO_TEST_DATA=$DATA KIJKO_TEST_BIN=$BIN KIJKO_TEST_LOG=$RUN/server.log \
    node --test --test-concurrency=1 --test-reporter=tap \
    "$TESTS"/outbox/{outbox,hostile,crash}.test.mjs # the last one leaves thousands of rows
}
