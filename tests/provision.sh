# What the stages of tests/run and tests/bench need from the system. Sourced, not run.
# As root missing packages are installed; anybody else is told which, and the stage is skipped.

SKIPPED=77

say() { printf -- '--- %s\n' "$*"; }
in_ci() { [ "${CI:-}" = true ]; }

# Ends the stage: it cannot run here, and why.
skip() {
  printf 'SKIPPED: %s\n' "$*" >&2
  printf '%s' "$*" >"${SKIP_FILE:-/dev/null}"
  exit "$SKIPPED"
}

# need COMMAND PACKAGE…: the command is there, or the packages that bring it can be installed.
need() {
  local command=$1; shift
  command -v "$command" >/dev/null || install_packages "$@"
  command -v "$command" >/dev/null || skip "no $command (package $*)"
}

install_packages() {
  command -v apt-get >/dev/null || skip "this is not Debian: please install $* by hand"
  [ "$(id -u)" -eq 0 ] && [ -z "${DUNLIN_USERNS:-}" ] || skip "missing packages; as root: apt-get install --no-install-recommends $*"
  say "apt-get install $*"
  quietly apt-get update
  without_daemons quietly apt-get install -y --no-install-recommends "$@"
}

quietly() {
  local log; log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive "$@" -q -o DPkg::Lock::Timeout=600 >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}

# Runs a command while no package may start a daemon (policy-rc.d is Debian's switch for it).
without_daemons() {
  local policy=/usr/sbin/policy-rc.d rc=0
  [ -e "$policy" ] && { "$@"; return; }
  printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"
  "$@" || rc=$?
  rm -f "$policy"
  return $rc
}

need_cc() { need cc gcc libc6-dev; }

# Debian's compiler, with the library source of the very same version.
debian_rustc() {
  need_cc
  [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library ] || install_packages rustc-web rust-web-src
  local compiler source
  compiler=$(dpkg-query -W -f '${Version}' rustc-web) && source=$(dpkg-query -W -f '${Version}' rust-web-src) ||
    skip "rustc-web and rust-web-src are not installed"
  [ "$compiler" = "$source" ] || { echo "rustc-web $compiler and rust-web-src $source differ" >&2; exit 1; }
  say "rustc-web $compiler"
  # -Zbuild-std wants the bootstrap switch; that no unstable feature slips in, the stable stages see to.
  export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
}

# cargo-deny from the registry, unoptimised (a tenth of the build time, and it runs for a second), kept with the
# target directory so that a second run finds it.
CARGO_DENY_VERSION=0.20.2
cargo_deny() {
  local root=target/tools
  if ! "$root/bin/cargo-deny" --version 2>/dev/null | grep -qx "cargo-deny $CARGO_DENY_VERSION"; then
    say "building cargo-deny $CARGO_DENY_VERSION"
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --debug --config 'profile.dev.debug=0' \
      --root "$root" cargo-deny --version "$CARGO_DENY_VERSION"
    rm -rf target/tools/build
  fi
  "$root/bin/cargo-deny" "$@"
}

need_peers() {
  need ip iproute2
  need setpriv util-linux
  need rtorrent rtorrent
  need transmission-daemon transmission-daemon
  need aria2c aria2
  need opentracker opentracker
  need mktorrent mktorrent
  /usr/bin/python3 -c 'import libtorrent' 2>/dev/null || install_packages python3-libtorrent
}

# A gateway daemon. Its package wants to start one; install_packages sees that it does not.
need_miniupnpd() { need miniupnpd miniupnpd miniupnpd-nftables; }

# webtorrent and its DHT from the npm registry with what their lock file names, and the scripts that drive them. Nothing is
# compiled: uTP and WebRTC, which need that, are left out.
need_webtorrent() {
  need node nodejs
  need npm npm
  local source=tests/webtorrent tools=${CARGO_TARGET_DIR:-target}/tools/webtorrent
  if ! cmp -s "$source/package-lock.json" "$tools/installed"; then
    say "npm ci: webtorrent"
    mkdir -p "$tools"
    cp "$source/package.json" "$source/package-lock.json" "$tools/"
    npm ci --prefix "$tools" --silent --ignore-scripts --omit=optional --no-audit --no-fund
    cp "$source/package-lock.json" "$tools/installed"
  fi
  cp "$source"/*.mjs "$tools/"
}

need_tshark() { need tshark tshark; }

# The lab builds network namespaces.
need_netns() {
  local name="dunlin-probe-$$"
  ip netns add "$name" 2>/dev/null || skip "may not make network namespaces (run as root)"
  ip netns del "$name"
}

# TAP devices: the kernel's module, and its node.
need_tun() {
  [ -c /dev/net/tun ] || skip "no /dev/net/tun"
}

# cargo-fuzz from the registry, kept like cargo-deny and put on the path.
CARGO_FUZZ_VERSION=0.13.2
cargo_fuzz() {
  local root=target/tools
  if ! "$root/bin/cargo-fuzz" --version 2>/dev/null | grep -qx "cargo-fuzz $CARGO_FUZZ_VERSION"; then
    say "building cargo-fuzz $CARGO_FUZZ_VERSION"
    CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --debug --config 'profile.dev.debug=0' \
      --root "$root" cargo-fuzz --version "$CARGO_FUZZ_VERSION"
    rm -rf target/tools/build
  fi
  export PATH="$PWD/$root/bin:$PATH"
}
