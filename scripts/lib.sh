# Sourced by the scripts beside it: where test state lives, how they speak, Debian packages and Debian trees.
#
# A script leaves with 0 (done), 1 (failed) or 3 (this machine cannot have the part, and the message says why). Callers
# turn 3 into a named skip; with NOVELLA_REQUIRE=1 (CI) a part that could be had but was not fetched is 1 instead.
# Everything lives under one directory, which can be deleted when nothing runs from it.

set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
state_dir=${NOVELLA_TEST_DIR:-$repo/target/test-env}
mkdir -p "$state_dir"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() { say "$@"; exit 1; }
absent() { say "$@"; exit 3; }
is_root() { [ "$(id -u)" = 0 ]; }

# One of several runs on a machine prepares a thing, the others wait for it: locked NAME COMMAND...
locked() {
    local name=$1
    shift
    (
        flock -w 900 9 || fail "another run has held $state_dir/$name.lock for 15 minutes"
        # Not `"$@" 9>&-`: bash would keep a copy, and a daemon started here would hold the lock for its life.
        (exec 9>&- && "$@")
    ) 9>"$state_dir/$name.lock"
}

# A command whose output is only of interest when it fails: quietly WHAT COMMAND...
quietly() {
    local what=$1 log
    shift
    log=$(mktemp "$state_dir/log.XXXXXX")
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        say "$what failed; the end of its output ($log):"
        tail -n 20 "$log" >&2
        return 1
    fi
}

not_fetched() {
    [ "${NOVELLA_REQUIRE:-0}" = 1 ] && fail "$@"
    absent "$@"
}

apt_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# A package's own service must not start: the tests run private copies, and a second broker or engine on the default
# port is nobody's wish. policy-rc.d is Debian's switch for that; one that exists already is left as it is.
apt_without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive quietly "apt-get $1" apt-get -o DPkg::Lock::Timeout=300 -y "$@"
}

apt_install() {
    local missing=() package
    for package; do apt_installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || absent "needs ${missing[*]}, and this is no Debian: install them by hand"
    is_root || absent "needs ${missing[*]}: run 'apt-get install ${missing[*]}' as root"
    # One at a time: the first to finish takes its policy-rc.d away.
    locked apt apt_fetch "${missing[@]}"
}

apt_fetch() {
    say "installing $*"
    (apt_without_services install --no-install-recommends "$@") ||
        { (apt_without_services update) && (apt_without_services install --no-install-recommends "$@"); } ||
        not_fetched "could not install $*"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Four ports in a row below the range that the kernel hands out by itself: choose_ports DIRECTORY. The first is kept in
# DIRECTORY/port for the life of what listens there, so that it is found where it was after a restart.
choose_ports() {
    local base tries
    base=$((20000 + $(printf %s "$1" | cksum | cut -d' ' -f1) % 1200 * 10))
    for ((tries = 0; tries < 50; tries++, base = 20000 + (base - 20000 + 10) % 12000)); do
        if ! listens "$base" && ! listens $((base + 1)) && ! listens $((base + 2)) && ! listens $((base + 3)); then
            printf '%s\n' "$base" >"$1/port"
            return
        fi
    done
    fail "found no four free ports between 20000 and 32000"
}

# The mirror this machine itself is configured with.
debian_mirror() {
    local codename
    codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        awk -v c="$codename" '$2 == c && $3 == "main" && $4 == "Debian" && !found { print $1; found = 1 }'
}

# Runs a command inside a tree: in_tree TREE HOST-DIRECTORY-SEEN-AS-/srv COMMAND... Its mounts are its own, so that
# nothing stays mounted after it and the tree can be deleted; process ids are the host's.
in_tree() { (exec_in_tree "$@"); }
exec_in_tree() {
    exec unshare --mount --propagation private bash -c '
        set -e
        tree=$1 srv=$2
        shift 2
        mount -t proc proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        mount --bind "$srv" "$tree/srv"
        exec chroot "$tree" "$@"' in_tree "$@"
}

build_tree() {
    local suite=$1 tree=$2 mirror bundle
    shift 2
    [ ! -e "$tree" ] || return 0
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || absent "a $suite tree needs a Debian mirror, and apt on this machine has none"
    rm -rf "$tree.partial"
    say "building a Debian $suite tree (about a minute)"
    if [ -e "$state_dir/$suite" ]; then # one without the packages
        cp -a "$state_dir/$suite" "$tree.partial"
    else
        quietly "debootstrap $suite" debootstrap --variant=minbase "$suite" "$tree.partial" "$mirror" ||
            not_fetched "no Debian $suite tree: $mirror did not give it"
    fi
    # The machine's own way to the network goes in: proxies and the certificates it trusts.
    apt-config dump | grep -E '^Acquire::(https?::|Check-)' | grep -v Auto-Detect >"$tree.partial/etc/apt/apt.conf.d/90host" || true
    bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    [ ! -r "$bundle" ] || install -D -m 644 "$bundle" "$tree.partial/etc/ssl/certs/ca-certificates.crt"
    printf '#!/bin/sh\nexit 101\n' >"$tree.partial/usr/sbin/policy-rc.d"
    chmod 755 "$tree.partial/usr/sbin/policy-rc.d"
    if [ $# -gt 0 ]; then
        quietly "apt-get install in the $suite tree" in_tree "$tree.partial" "$state_dir" env DEBIAN_FRONTEND=noninteractive \
            sh -c 'apt-get update && apt-get install -y --no-install-recommends "$@" && apt-get clean' sh "$@" ||
            not_fetched "no Debian $suite tree: could not install $* in it"
    fi
    mv "$tree.partial" "$tree"
}

# A minimal Debian of SUITE with PACKAGES at $state_dir/NAME, made once: debian_tree SUITE NAME PACKAGE...
debian_tree() {
    local suite=$1 name=$2
    shift 2
    [ ! -e "$state_dir/$name" ] || return 0
    is_root || absent "a Debian $suite tree can only be made by root"
    apt_install debootstrap
    unshare --mount true 2>/dev/null || absent "a Debian $suite tree needs mount namespaces, which this container denies"
    locked "$name" build_tree "$suite" "$state_dir/$name" "$@"
}
