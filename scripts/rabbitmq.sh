#!/usr/bin/env bash
# A private RabbitMQ for the tests, with its own node name, ports, data, certificates and epmd. It never touches other
# brokers of this machine. Installs what it needs if it may (root on Debian). Exit codes as in lib.sh.
#
#   scripts/rabbitmq.sh [--flavour 3.10|4.0] COMMAND
#
#   start         start the node if it does not run, and wait until it answers
#   stop          stop it in order (its data is kept, and 'start' uses it again)
#   kill9         kill it with SIGKILL, as a power cut would
#   pause|resume  SIGSTOP, SIGCONT
#   pid           print its process id
#   status        print whether it is running, paused or stopped
#   url, tls-url  print its URL, with the test account
#   env           print the environment that the Rust tests read, as lines for eval
#   ctl ARGS...   run rabbitmqctl on this node (it sees only the node's own directory)
#   import FILE   load a definitions file, users and permissions included
#
# 3.10 is the package of Debian 12 on this machine. 4.0 is the one of Debian 13. It runs in a separate tree, and denies
# everything that RabbitMQ 4.3 refuses.

. "$(dirname "$0")/lib.sh"

flavour=3.10
if [ "${1:-}" = --flavour ]; then
    flavour=${2:?--flavour needs 3.10 or 4.0}
    shift 2
fi
node_dir=$state_dir/rabbitmq-$flavour
certs=$node_dir/certs
case $flavour in
    3.10) tree='' inner=$node_dir ;;
    4.0) tree=$state_dir/trixie inner=/srv ;;
    *) fail "unknown flavour $flavour: 3.10 or 4.0" ;;
esac
node=novella-${flavour/./-}@localhost
user=novella
password=novella-test
start_deadline=90
stop_deadline=30
# Before 4.3, a node that denies transient_nonexcl_queues checks at boot whether its table of queues has one. On a busy
# machine the table may not be loaded by then, and the node treats the failed check as a yes. So it is started again.
# (rabbit_amqqueue:are_transient_nonexcl_used/1 of 4.0.5 returns 'undefined' there.)
boots=5
unready_table='failed_to_deny_deprecated_features'

port() { cat "$node_dir/port" 2>/dev/null || fail "RabbitMQ $flavour was never started here: '$0 --flavour $flavour start'"; }

# A broker that answers has finished booting, because it starts its listeners last. A paused one accepts but stays silent.
answers() {
    local reply
    (
        exec 3<>"/dev/tcp/127.0.0.1/$(port)" && printf 'AMQP\x00\x00\x09\x01' >&3 &&
            IFS= read -r -t 2 -N 1 reply <&3 && [ "$reply" = $'\x01' ]
    ) 2>/dev/null
}

# The number in the pid file may belong to another process by now. Only this node's command line has its epmd port.
pid() {
    local pid
    pid=$(cat "$node_dir/pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && grep -qza -- "^$(($(port) + 2))\$" "/proc/$pid/cmdline" 2>/dev/null && printf '%s\n' "$pid"
}
running() { pid >/dev/null; }
beam() { pid || fail "RabbitMQ $flavour does not run"; }

make_certificates() {
    [ ! -e "$certs/complete" ] || return 0
    apt_install openssl
    mkdir -p "$certs"
    local name
    cd "$certs"
    for name in ca other-ca; do
        quietly "openssl ($name)" openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -keyout "$name.key" -out "$name.pem" \
            -subj "/CN=novella test $name" -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign'
    done
    for name in server client; do
        quietly "openssl ($name)" openssl req -newkey rsa:2048 -nodes -keyout "$name.key" -out "$name.csr" -subj "/CN=$name"
        printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n' >"$name.ext"
        quietly "openssl ($name)" openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \
            -extfile "$name.ext" -out "$name.pem"
        rm "$name.csr" "$name.ext"
    done
    touch complete
    cd - >/dev/null
}

write_config() {
    local amqp
    amqp=$(port)
    cat >"$node_dir/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$amqp
listeners.ssl.1 = 127.0.0.1:$((amqp + 1))
ssl_options.cacertfile = $inner/certs/ca.pem
ssl_options.certfile = $inner/certs/server.pem
ssl_options.keyfile = $inner/certs/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
default_user = $user
default_pass = $password
log.file.level = info
CONF
    if [ "$flavour" = 4.0 ]; then
        local feature
        for feature in transient_nonexcl_queues global_qos classic_queue_mirroring management_metrics_collection; do
            printf 'deprecated_features.permit.%s = false\n' "$feature"
        done >>"$node_dir/rabbitmq.conf"
    fi
    printf '[].\n' >"$node_dir/enabled_plugins"
    : >"$node_dir/rabbitmq-env.conf"
    cat >"$node_dir/rabbitctl" <<CTL
#!/bin/sh
NOVELLA_TEST_DIR='$state_dir' exec '$repo/scripts/rabbitmq.sh' --flavour $flavour "\$@"
CTL
    chmod 755 "$node_dir/rabbitctl"
}

# Runs one of RabbitMQ's programs for this node, without any RabbitMQ settings of the caller.
exec_on_node() {
    local amqp
    amqp=$(port)
    set -- env -i PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME="$inner" ERL_EPMD_PORT=$((amqp + 2)) \
        ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME="$node" RABBITMQ_DIST_PORT=$((amqp + 3)) \
        RABBITMQ_CONFIG_FILE="$inner/rabbitmq.conf" RABBITMQ_CONFIG_FILES="$inner/conf.d/*.conf" \
        RABBITMQ_CONF_ENV_FILE="$inner/rabbitmq-env.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$inner/advanced.config" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$inner/enabled_plugins" RABBITMQ_MNESIA_BASE="$inner/data" RABBITMQ_LOG_BASE="$inner/log" RABBITMQ_PID_FILE="$inner/pid" \
        RUNNING_UNDER_SYSTEMD=true RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
        "$@"
    if [ -n "$tree" ]; then exec_in_tree "$tree" "$node_dir" "$@"; else exec "$@"; fi
}

install_broker() {
    if [ -z "$tree" ]; then
        apt_install rabbitmq-server
        case $(dpkg-query -W -f '${Version}' rabbitmq-server 2>/dev/null) in
            3.1[0-9].*) ;;
            *) absent "flavour 3.10 is Debian 12's package; this machine offers $(dpkg-query -W -f '${Version}' rabbitmq-server)" ;;
        esac
    else
        debian_tree trixie trixie rabbitmq-server
    fi
}

start() {
    install_broker
    mkdir -p "$node_dir/data" "$node_dir/log"
    [ -e "$node_dir/port" ] || choose_ports "$node_dir"
    make_certificates
    if running; then
        answers || fail "RabbitMQ $flavour runs (pid $(pid)) but does not answer; paused? '$0 --flavour $flavour resume'"
        return 0
    fi
    ! listens "$(port)" || fail "port $(port) is used by another program; delete $node_dir/port to choose another one"
    write_config
    # 1,024 open files, a common default, are enough for 832 connections. The next one hangs without an error.
    ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"
    [ "$(ulimit -n)" -ge 4096 ] || say "only $(ulimit -n) open files are allowed, which is too few for large fleets"
    local boot
    for ((boot = 1; boot <= boots; boot++)); do
        ! boots_now || return 0
        grep -q "$unready_table" "$node_dir/log/startup" || break
        say "RabbitMQ $flavour checked a table that it had not loaded yet (boot $boot of $boots)"
    done
    say "RabbitMQ $flavour did not start; the end of $node_dir/log/startup:"
    tail -n 25 "$node_dir/log/startup" >&2
    exit 1
}

boots_now() {
    setsid "$0" --flavour "$flavour" _run >"$node_dir/log/startup" 2>&1 </dev/null &
    local launcher=$! waited
    for ((waited = 0; waited < start_deadline * 5; waited++)); do
        if running && answers; then
            disown "$launcher" 2>/dev/null || true
            return 0
        fi
        kill -0 "$launcher" 2>/dev/null || break
        sleep 0.2
    done
    kill "$launcher" 2>/dev/null || true
    return 1
}

wait_gone() { # PID SECONDS; a zombie that nobody reaps counts as gone too
    local waited
    for ((waited = 0; waited < $2 * 10; waited++)); do
        case $(ps -o state= -p "$1") in '' | Z*) return 0 ;; esac
        sleep 0.1
    done
    return 1
}

stop() {
    local beam
    if beam=$(pid); then
        kill -CONT "$beam"
        kill -TERM "$beam"
        wait_gone "$beam" "$stop_deadline" || { say "it did not stop within $stop_deadline s; killing it"; kill -9 "$beam"; wait_gone "$beam" 10; }
    fi
    # epmd outlives its nodes, and refuses to stop while one is still registered.
    if [ -e "$node_dir/port" ] && listens "$(($(port) + 2))"; then
        (exec_on_node epmd -kill) >/dev/null 2>&1 || true
    fi
}

kill9() {
    local beam waited
    beam=$(beam)
    kill -9 "$beam"
    wait_gone "$beam" 10 || fail "pid $beam survived kill -9"
    # With thousands of connections, its sockets are closed a little later than the process ends.
    for ((waited = 0; waited < 100; waited++)); do
        listens "$(port)" || return 0
        sleep 0.1
    done
    fail "port $(port) is still in use 10 s after kill -9"
}

status() {
    local beam
    beam=$(pid) || { echo stopped; return; }
    case $(ps -o state= -p "$beam") in T*) echo paused ;; *) echo running ;; esac
}

environment() {
    printf 'export NOVELLA_TEST_RABBIT_URL=%q\n' "rabbit://$user:$password@127.0.0.1:$(port)/"
    printf 'export NOVELLA_TEST_RABBIT_TLS_URL=%q\n' "amqps://$user:$password@localhost:$(($(port) + 1))/"
    printf 'export NOVELLA_TEST_CERTS=%q\n' "$certs"
    printf 'export NOVELLA_TEST_RABBIT_CTL=%q\n' "$node_dir/rabbitctl"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    start) locked "rabbitmq-$flavour" start ;;
    stop) stop ;;
    kill9 | kill) kill9 ;;
    pause) kill -STOP "$(beam)" ;;
    resume) kill -CONT "$(beam)" ;;
    pid) beam ;;
    status) status ;;
    url) (eval "$(environment)" && echo "$NOVELLA_TEST_RABBIT_URL") ;;
    tls-url) (eval "$(environment)" && echo "$NOVELLA_TEST_RABBIT_TLS_URL") ;;
    env) environment ;;
    _run) exec_on_node rabbitmq-server ;;
    import)
        cp "${1:?import needs a file}" "$node_dir/definitions.json"
        exec_on_node rabbitmqctl import_definitions "$inner/definitions.json"
        ;;
    ctl) exec_on_node rabbitmqctl "$@" ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
