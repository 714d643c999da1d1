#!/usr/bin/env bash
# A private PostgreSQL for measurements, with its own port, data and user. It never touches other clusters of this machine.
# Installs what it needs if it may (root on Debian). Exit codes as in lib.sh.
#
#   scripts/postgres.sh COMMAND
#
#   start         create the cluster if there is none, start it if it does not run, and wait until it answers
#   stop          stop it in order (its data is kept, and 'start' uses it again)
#   pid           print the process id of its first process
#   status        print whether it is running or stopped
#   url           print its URL, with the account for measurements
#   bin NAME      print the path of one of PostgreSQL's programs, of the server's version
#
# It is set up like a well-run small server: an eighth of the memory for its buffers, crash-safe writes, vacuum on.

. "$(dirname "$0")/lib.sh"

node_dir=$state_dir/postgres
data=$node_dir/data
user=novella
password=novella-test

port() { cat "$node_dir/port" 2>/dev/null || fail "PostgreSQL was never started here: '$0 start'"; }

program() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    [ -x "$newest/$1" ] || fail "no $1 in $newest; is Debian's package postgresql installed completely?"
    printf '%s\n' "$newest/$1"
}

# PostgreSQL refuses to run as root. Debian's package creates a user for it.
as_server() {
    if is_root; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}

pid() {
    local pid
    pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 1
    grep -qza -- "^$data\$" "/proc/$pid/cmdline" 2>/dev/null && printf '%s\n' "$pid"
}

buffers_mb() { awk '/^MemTotal/ { print int($2 / 8192) }' /proc/meminfo; }

make_cluster() {
    [ ! -e "$data/complete" ] || return 0
    rm -rf "$data"
    mkdir -p "$data"
    printf '%s\n' "$password" >"$node_dir/password"
    if is_root; then
        chown -R postgres:postgres "$node_dir"
        as_server test -w "$data" || fail "user postgres cannot enter $node_dir: set NOVELLA_TEST_DIR to a directory that it can"
    fi
    quietly initdb as_server "$(program initdb)" --pgdata="$data" --username="$user" --pwfile="$node_dir/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C
    as_server touch "$data/complete"
}

start() {
    apt_install postgresql
    mkdir -p "$node_dir"
    [ -e "$node_dir/port" ] || choose_ports "$node_dir"
    make_cluster
    ! pid >/dev/null || return 0
    ! listens "$(port)" || fail "port $(port) is used by another program; delete $node_dir/port to choose another one"
    quietly "PostgreSQL's start" as_server "$(program pg_ctl)" start --wait --timeout=60 --pgdata="$data" --log="$node_dir/log" \
        --options="-c listen_addresses=127.0.0.1 -c port=$(port) -c unix_socket_directories='' -c shared_buffers=$(buffers_mb)MB"
}

stop() {
    pid >/dev/null || return 0
    quietly "PostgreSQL's stop" as_server "$(program pg_ctl)" stop --wait --timeout=30 --mode=fast --pgdata="$data"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    start) locked postgres start ;;
    stop) stop ;;
    pid) pid || fail "PostgreSQL does not run" ;;
    status) if pid >/dev/null; then echo running; else echo stopped; fi ;;
    url) echo "postgresql://$user:$password@127.0.0.1:$(port)/postgres" ;;
    bin) program "${1:?bin needs the name of a program}" ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
