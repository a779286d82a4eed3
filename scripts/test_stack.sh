# The test stack: an own instance on free ports with a new database, stopped again also after a failure. Sourced by ./kijko.
# shellcheck shell=bash

TEST_HOME=$ROOT/.kijko/test
TEST_STACK=no
TEST_STACK_NAME='test'
TEST_PORTS_FROM=20000

test_kijko() {
  # Outside providers of login listen on the first two ports while their tests run, those of connections on the next two, then social
  # platforms, and searches on the last.
  local github=http://localhost:$((TEST_PORT + 2)) oidc=http://localhost:$((TEST_PORT + 3))
  local hub=http://localhost:$((TEST_PORT + 4)) work=http://localhost:$((TEST_PORT + 5))
  local social=http://localhost:$((TEST_PORT + 6))
  # Each port is named: .env of the checkout may have another one, and fills in what the environment lacks.
  env KIJKO_DB_PORT="$((TEST_PORT + 1))" KIJKO_OAUTH_PROVIDERS=github,gitlab,acme,other,hub KIJKO_OAUTH_ALLOWED_HOSTS=localhost KIJKO_OAUTH_LINK_BY_ADDRESS=github \
    KIJKO_OAUTH_GITHUB_URL="$github" KIJKO_OAUTH_GITHUB_CLIENT_ID=github-client KIJKO_OAUTH_GITHUB_CLIENT_SECRET=github-secret \
    KIJKO_OAUTH_GITLAB_URL="$github/gitlab" KIJKO_OAUTH_GITLAB_CLIENT_ID=gitlab-client KIJKO_OAUTH_GITLAB_CLIENT_SECRET=gitlab-secret \
    KIJKO_OAUTH_ACME_URL="$oidc/acme" KIJKO_OAUTH_ACME_CLIENT_ID=acme-client,acme-phone KIJKO_OAUTH_ACME_CLIENT_SECRET=acme-secret \
    KIJKO_OAUTH_OTHER_URL="$oidc/other" KIJKO_OAUTH_OTHER_CLIENT_ID=other-client KIJKO_OAUTH_OTHER_CLIENT_SECRET=other-secret \
    KIJKO_CONNECTION_PROVIDERS=hub,lab,work,linkedin,facebook,instagram,twitter KIJKO_OAUTH_HUB_KIND=github KIJKO_OAUTH_LAB_KIND=gitlab \
    KIJKO_OAUTH_HUB_URL="$hub" KIJKO_OAUTH_HUB_CLIENT_ID=github-client KIJKO_OAUTH_HUB_CLIENT_SECRET=github-secret \
    KIJKO_OAUTH_LAB_URL="$hub/gitlab" KIJKO_OAUTH_LAB_CLIENT_ID=gitlab-client KIJKO_OAUTH_LAB_CLIENT_SECRET=gitlab-secret \
    KIJKO_OAUTH_WORK_URL="$work/acme" KIJKO_OAUTH_WORK_CLIENT_ID=acme-client KIJKO_OAUTH_WORK_CLIENT_SECRET=acme-secret \
    KIJKO_OAUTH_HUB_CONNECTION_SCOPES='repo read:org' KIJKO_OAUTH_LAB_CONNECTION_SCOPES=api KIJKO_OAUTH_WORK_CONNECTION_SCOPES='email profile' \
    KIJKO_OAUTH_LINKEDIN_URL="$social/oauth/linkedin" KIJKO_OAUTH_LINKEDIN_CLIENT_ID=social-client KIJKO_OAUTH_LINKEDIN_CLIENT_SECRET=social-secret \
    KIJKO_OAUTH_FACEBOOK_URL="$social/oauth/facebook" KIJKO_OAUTH_FACEBOOK_CLIENT_ID=social-client KIJKO_OAUTH_FACEBOOK_CLIENT_SECRET=social-secret \
    KIJKO_OAUTH_INSTAGRAM_URL="$social/oauth/instagram" KIJKO_OAUTH_INSTAGRAM_CLIENT_ID=social-client KIJKO_OAUTH_INSTAGRAM_CLIENT_SECRET=social-secret \
    KIJKO_OAUTH_TWITTER_URL="$social/oauth/twitter" KIJKO_OAUTH_TWITTER_CLIENT_ID=social-client KIJKO_OAUTH_TWITTER_CLIENT_SECRET=social-secret \
    KIJKO_SOCIAL_LINKEDIN_URL="$social/linkedin" KIJKO_SOCIAL_FACEBOOK_URL="$social/facebook" \
    KIJKO_SOCIAL_INSTAGRAM_URL="$social/instagram" KIJKO_SOCIAL_TWITTER_URL="$social/twitter" KIJKO_SOCIAL_TIMEOUT_SECONDS=5 \
    KIJKO_HOME="$TEST_HOME" KIJKO_API_PORT="$TEST_PORT" KIJKO_LLM_ECHO=1 OPENAI_API_KEY='' ANTHROPIC_API_KEY='' GEMINI_API_KEY='' \
    KIJKO_SEARXNG_URL="http://localhost:$((TEST_PORT + 9))/searxng" TAVILY_BASE_URL="http://localhost:$((TEST_PORT + 9))/tavily" \
    TAVILY_API_KEY=tvly-test KIJKO_DISCOVERY_HOST_PAUSE_MS=50 \
    STRIPE_API_KEY='' STRIPE_WEBHOOK_SECRET=whsec_test_first,whsec_test_second SMTP_URL='' KIJKO_BCRYPT_COST=4 KIJKO_YES=1 "$ROOT/kijko" "$@"
}

start_test_stack() {
  [ "$TEST_STACK" = no ] || return 0
  TEST_HOME=$KIJKO_HOME/$1
  TEST_PORT=$(free_port_range)
  TEST_STACK=yes
  rm -rf "$TEST_HOME/data" "$TEST_HOME/storage" "$TEST_HOME/applied" "$TEST_HOME/secrets" "$TEST_HOME/run"
  test_kijko up || fail "the test stack did not come up"
  # All tests share one client address, and ask no tax authority: nothing listens on this port.
  test_kijko psql -q -c 'update auth_api.settings set hashes_per_minute = 100000, sends_per_hour = 100000, stranger_sends_per_hour = 100000'
  test_kijko psql -q -c 'update private.mail_settings set network_per_hour = 100000' -c "update private.vat_settings set vies_url = 'http://localhost:9/rest-api'"
  # What tests kill are processes, and the system keeps what they wrote. Waiting for a disk that other rows are busy with would only make
  # statements late. Who waits for a lock for over a second is in the log.
  test_kijko psql --admin -q -c 'alter system set fsync = off' -c 'alter system set log_lock_waits = on'
  # Receivers of webhooks run on this machine.
  test_kijko psql --admin -q -c "alter system set kijko.http_allowed_hosts = 'localhost'" -c 'select pg_reload_conf()' > /dev/null
  eval "$(test_kijko status -o env | sed 's/^/export /')"
  export KIJKO_TEST_DATABASE_URL=$DB_URL KIJKO_TEST_ADMIN_DATABASE_URL=$ADMIN_DB_URL
  export TEST_HOME TEST_PORT KIJKO_TEST_GITHUB_PORT=$((TEST_PORT + 2)) KIJKO_TEST_OIDC_PORT=$((TEST_PORT + 3))
  export KIJKO_TEST_HUB_PORT=$((TEST_PORT + 4)) KIJKO_TEST_WORK_PORT=$((TEST_PORT + 5)) KIJKO_TEST_SEARCH_PORT=$((TEST_PORT + 9)) KIJKO_TEST_SOCIAL_PORT=$((TEST_PORT + 6))
}

stop_test_stack() {
  local status=$?
  [ "$TEST_STACK" = no ] || test_kijko down > /dev/null 2>&1 || true
  TEST_STACK=no
  return "$status"
}

# A base port with all of the stack's ports free: the API's, the database's and the internal ones. Below those that Linux
# gives to outgoing connections (32768 on): one of these could have the port of a part that a test has just stopped. Each
# row of areas has 6,000 of its own, so that two that start at once do not find the same.
free_port_range() {
  local base offset
  for ((base = TEST_PORTS_FROM + RANDOM % 5000; base < TEST_PORTS_FROM + 6000; base += 20)); do
    for offset in 0 1 2 3 4 5 6 9 10 11 12 13 14 15 16 17 18 19; do
      ! (exec 3<> "/dev/tcp/127.0.0.1/$((base + offset))") 2> /dev/null || continue 2
    done
    echo "$base"
    return 0
  done
  fail "no free range of ports"
}
