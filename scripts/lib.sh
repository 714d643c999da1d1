# Sourced by the other scripts: the directory for test state, messages, Debian packages and Debian trees.
#
# A script exits with 0 (done), 1 (failed) or 3 (this machine cannot run the part, and the message says why). Callers
# report 3 as a skip, by name. With NOVELLA_REQUIRE=1 (CI), a part that could be fetched but was not exits with 1.
# All files are under one directory, which can be deleted when nothing runs from it.

set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
state_dir=${NOVELLA_TEST_DIR:-$repo/target/test-env}
mkdir -p "$state_dir"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() { say "$@"; exit 1; }
absent() { say "$@"; exit 3; }
is_root() { [ "$(id -u)" = 0 ]; }

# Runs a command under a lock, so that only one of several runs on a machine prepares something: locked NAME COMMAND...
locked() {
    local name=$1
    shift
    (
        flock -w 900 9 || fail "another run has held $state_dir/$name.lock for 15 minutes"
        # Not `"$@" 9>&-`: bash would keep a copy, and a daemon that is started here would hold the lock until it ends.
        (exec 9>&- && "$@")
    ) 9>"$state_dir/$name.lock"
}

# Runs a command and shows its output only if it fails: quietly WHAT COMMAND...
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

# A package's own service must not start: the tests run private copies, and nobody wants a second broker or engine on the
# default port. Debian's policy-rc.d prevents it. If there is one already, it is not changed.
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
    # One at a time, because the first to finish removes its policy-rc.d.
    locked apt apt_fetch "${missing[@]}"
}

apt_fetch() {
    say "installing $*"
    (apt_without_services install --no-install-recommends "$@") ||
        { (apt_without_services update) && (apt_without_services install --no-install-recommends "$@"); } ||
        not_fetched "could not install $*"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Chooses four consecutive ports below the range that the kernel assigns itself: choose_ports DIRECTORY. The first is kept in
# DIRECTORY/port while something listens there, so that a restart uses the same ports.
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

# The Debian mirror of this machine.
debian_mirror() {
    local codename
    codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        awk -v c="$codename" '$2 == c && $3 == "main" && $4 == "Debian" && !found { print $1; found = 1 }'
}

# Runs a command inside a tree: in_tree TREE HOST-DIRECTORY-SEEN-AS-/srv COMMAND... It has its own mounts, so that
# nothing stays mounted afterwards and the tree can be deleted. Process ids are the host's.
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
    if [ -e "$state_dir/$suite" ]; then # a tree without the packages
        cp -a "$state_dir/$suite" "$tree.partial"
    else
        quietly "debootstrap $suite" debootstrap --variant=minbase "$suite" "$tree.partial" "$mirror" ||
            not_fetched "no Debian $suite tree: $mirror did not give it"
    fi
    # The tree gets this machine's network settings: proxies, and the certificates that it trusts.
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

# Makes a minimal Debian of SUITE with PACKAGES at $state_dir/NAME, once: debian_tree SUITE NAME PACKAGE...
debian_tree() {
    local suite=$1 name=$2
    shift 2
    [ ! -e "$state_dir/$name" ] || return 0
    is_root || absent "a Debian $suite tree can only be made by root"
    apt_install debootstrap
    unshare --mount true 2>/dev/null || absent "a Debian $suite tree needs mount namespaces, which this container denies"
    locked "$name" build_tree "$suite" "$state_dir/$name" "$@"
}
