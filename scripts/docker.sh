#!/usr/bin/env bash
# A Docker engine for the compose test, and the base images that Dockerfile and docker-compose.yml name.
#
#   scripts/docker.sh start    start a private engine, unless the machine's own engine answers (root on Debian)
#   scripts/docker.sh images   get the base images: pull them on the machine's own engine, else make local stand-ins
#   scripts/docker.sh share    make the Dockerfile's release build here, and copy it into the stand-in for rust
#   scripts/docker.sh env      print the environment for docker and compose, as lines for eval
#   scripts/docker.sh stop     stop the private engine, if it was started
#
# The private engine has its own socket and data, so that it does not change the images of an engine that is installed but
# does not run. A stand-in is a debootstrap tree with the official image's tag. So the shipped files are built and run
# without a registry. Exit codes as in lib.sh.

. "$(dirname "$0")/lib.sh"

engine_dir=$state_dir/docker
# The path of a socket must fit into 108 bytes, and the path of a checkout can be long.
run_dir=/run/novella-$(printf %s "$state_dir" | cksum | cut -d' ' -f1)
private=unix://$run_dir/docker.sock
start_deadline=60
standin_rust=novella-standin-rust

private_pid() {
    local pid
    pid=$(cat "$run_dir/docker.pid" 2>/dev/null) && grep -qza -- "^$engine_dir\$" "/proc/$pid/cmdline" 2>/dev/null &&
        printf '%s\n' "$pid"
}
private_answers() { private_pid >/dev/null && DOCKER_HOST=$private docker info >/dev/null 2>&1; }
own_answers() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }
use_engine() { if private_answers; then export DOCKER_HOST=$private; else own_answers || fail "no engine: '$0 start'"; fi; }

start() {
    if private_answers || { own_answers && compose >/dev/null; }; then return 0; fi
    is_root || absent "no Docker engine answers, and only root can start one"
    apt_install docker.io docker-compose
    mkdir -p "$engine_dir" "$run_dir"
    setsid dockerd --data-root "$engine_dir" --exec-root "$run_dir/exec" --pidfile "$run_dir/docker.pid" --host "$private" \
        >"$engine_dir.log" 2>&1 </dev/null &
    local launcher=$! waited
    for ((waited = 0; waited < start_deadline * 2; waited++)); do
        if private_answers; then return 0; fi
        kill -0 "$launcher" 2>/dev/null || break
        sleep 0.5
    done
    kill "$launcher" 2>/dev/null || true
    tail -n 8 "$engine_dir.log" >&2
    absent "dockerd does not start on this machine (a container without the rights for it?); its log: $engine_dir.log"
}

stop() {
    local pid waited
    pid=$(private_pid) || return 0
    kill "$pid"
    for ((waited = 0; waited < 300; waited++)); do
        case $(ps -o state= -p "$pid") in '' | Z*) rm -rf "$run_dir"; return 0 ;; esac
        sleep 0.1
    done
    fail "dockerd ($pid) has not stopped within 30 s"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        echo 'docker compose'
    elif command -v docker-compose >/dev/null; then
        echo docker-compose
    else
        return 1
    fi
}

# The tags are read from the shipped files, so that a changed tag is used here too, or causes an error.
images() {
    use_engine
    local image
    for image in $(awk '$1 == "FROM" { print $2 }' "$repo/Dockerfile") $(awk '$1 == "image:" && $2 !~ /^novella/ { print $2 }' "$repo/docker-compose.yml"); do
        ! docker image inspect "$image" >/dev/null 2>&1 || continue
        if [ "${DOCKER_HOST:-}" != "$private" ] && docker pull --quiet "$image" >/dev/null 2>&1; then continue; fi
        say "making a local stand-in for $image"
        case $image in
            debian:bookworm-slim) stand_in_debian "$image" ;;
            rust:1-bookworm) stand_in_rust "$image" ;;
            rabbitmq:4.0) stand_in_rabbitmq "$image" ;;
            *) fail "there is no stand-in for $image" ;;
        esac
    done
}

import_tree() { # TREE IMAGE CHANGE...
    local tree=$1 image=$2 changes=() change
    shift 2
    for change; do changes+=(--change "$change"); done
    tar -C "$tree" --one-file-system -c . | docker import "${changes[@]}" - "$image" >/dev/null
}

stand_in_debian() {
    debian_tree bookworm bookworm
    import_tree "$state_dir/bookworm" "$1" 'CMD ["bash"]'
}

# The official image keeps /etc/rabbitmq/conf.d and the account 'rabbitmq' as Debian's package does.
stand_in_rabbitmq() {
    debian_tree trixie trixie rabbitmq-server
    import_tree "$state_dir/trixie" "$1" 'USER rabbitmq' 'ENV HOME=/var/lib/rabbitmq' 'WORKDIR /var/lib/rabbitmq' \
        'CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]'
}

# Debian, a C compiler, this machine's own Rust and cargo's downloads.
stand_in_rust() {
    local sysroot cargo_home container
    sysroot=$(rustc --print sysroot)
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    debian_tree bookworm bookworm
    debian_tree bookworm bookworm-gcc gcc libc6-dev
    import_tree "$state_dir/bookworm-gcc" novella-standin-gcc 'CMD ["bash"]'
    container=$(docker create novella-standin-gcc)
    tar -C "$sysroot" --exclude='lib/rustlib/src' -c bin lib | docker cp - "$container:/usr/local"
    if [ -d "$cargo_home/registry" ]; then
        tar -C / -c "${cargo_home#/}/registry" | docker cp - "$container:/"
    fi
    docker commit --change "ENV CARGO_HOME=$cargo_home" "$container" "$standin_rust" >/dev/null
    docker rm "$container" >/dev/null
    docker tag "$standin_rust" "$1"
}

# The image is built as the Dockerfile says, from sources that were copied in. If its compiler is this machine's, cargo
# finds in the stand-in what was built here from the same sources, and compiles only the rest.
share() {
    use_engine
    local image command
    docker image inspect "$standin_rust" >/dev/null 2>&1 || return 0
    grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release || return 0 # another C library: nothing to share
    image=$(awk '$1 == "FROM" && $2 ~ /^rust:/ { print $2 }' "$repo/Dockerfile")
    command=$(sed -n 's/^RUN \(cargo build .*\)/\1/p' "$repo/Dockerfile")
    [ -n "$image" ] && [ -n "$command" ] || fail 'the Dockerfile does not build in an image rust:..., or not with cargo build'
    say "$command"
    # This is the target directory that the image uses.
    (cd "$repo" && CARGO_TARGET_DIR=$repo/target quietly "$command" $command)
    locked docker give_build "$image"
}

give_build() {
    local container
    container=$(docker create "$standin_rust")
    tar -C "$repo" --transform 's,^,src/,' --exclude='target/release/deps/*.d' \
        -c target/release/deps target/release/build target/release/.fingerprint | docker cp - "$container:/"
    docker commit "$container" "$1" >/dev/null
    docker rm "$container" >/dev/null
    # The image of the last run, and what was built from it. The private engine has no other images without a name.
    [ "${DOCKER_HOST:-}" != "$private" ] || docker image prune --force >/dev/null
}

environment() {
    use_engine
    [ -z "${DOCKER_HOST:-}" ] || printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"
    printf 'export NOVELLA_COMPOSE=%q\n' "$(compose)"
}

case ${1:-} in
    start) locked docker start ;;
    images) locked docker images ;;
    share) share ;;
    env) environment ;;
    stop) stop ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
