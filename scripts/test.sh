#!/usr/bin/env bash
# What `make test` runs. With names as arguments, only those parts:
#
#   workspace    every test of every crate, the suites rabbit and interop (with oslo.messaging) on Debian's RabbitMQ 3.10
#                among them
#   conformance  2,500 random requests answered by Nova 34 itself and by novella, and compared
#   rabbit-4.0   both suites on RabbitMQ 4.0 with everything denied that 4.3 refuses
#   compose      the shipped image and compose file on a Docker engine
#
# A part that this machine cannot have is skipped by name, and all skips are listed at the end; a failed part does not
# keep the others from running. With NOVELLA_REQUIRE=1 (CI) a part that could have been fetched is a failure.

. "$(dirname "$0")/lib.sh"
cd "$repo"

parts=(workspace conformance rabbit-4.0 compose)
[ $# -eq 0 ] || parts=("$@")
for part in "${parts[@]}"; do
    case $part in workspace | conformance | rabbit-4.0 | compose) ;; *) fail "unknown part $part" ;; esac
done

# The tests themselves add a line here for what they had to leave out.
export NOVELLA_SKIPS_FILE=$state_dir/skips
: >"$NOVELLA_SKIPS_FILE"
failed=()
timings=()
started_broker=()
started_engine=no

cleanup() {
    local flavour
    for flavour in "${started_broker[@]}"; do scripts/rabbitmq.sh --flavour "$flavour" stop || true; done
    [ $started_engine = no ] || scripts/docker.sh stop || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Gets a part ready: 0 it is, 1 it failed, and what the machine cannot have is noted as skipped: prepare WHAT COMMAND...
prepare() {
    local what=$1 status=0
    shift
    "$@" 2> >(tee "$state_dir/why" >&2) || status=$?
    if [ $status = 3 ]; then
        printf 'SKIPPED: %s: %s\n' "$what" "$(tail -n 1 "$state_dir/why")" | tee -a "$NOVELLA_SKIPS_FILE" >&2
    elif [ $status != 0 ]; then
        return 1
    fi
    [ $status = 0 ] && prepared=yes || prepared=no
}

# Tests of the workspace with a broker at hand: with_broker FLAVOUR CARGO-TEST-ARGUMENT...
with_broker() {
    local flavour=$1 environment=''
    shift
    [ "$(scripts/rabbitmq.sh --flavour "$flavour" status)" != stopped ] || started_broker+=("$flavour")
    prepare "RabbitMQ $flavour" scripts/rabbitmq.sh --flavour "$flavour" start || return 1
    if [ $prepared = yes ]; then
        environment=$(scripts/rabbitmq.sh --flavour "$flavour" env) || return 1
    elif [ $# -gt 0 ]; then
        return 0 # what was asked for is about the broker
    fi
    prepare 'oslo.messaging' scripts/conformance.sh prepare || return 1
    if [ $prepared = yes ]; then
        environment+=$'\n'"export NOVELLA_TEST_PYTHON=$(printf %q "$(scripts/conformance.sh python)")"
    fi
    # Always the whole workspace, so that both flavours share one build; and all of it is built first, because some
    # tests run the executables of other packages.
    cargo test --workspace --locked --no-run || return 1
    (eval "$environment" && cargo test --workspace --locked --no-fail-fast "$@")
}

conformance() {
    prepare 'conformance with Nova' scripts/conformance.sh prepare || return 1
    [ $prepared = yes ] || return 0
    scripts/conformance.sh --self-test && scripts/conformance.sh --cases 2500
}

compose() {
    local environment
    scripts/docker.sh env >/dev/null 2>&1 || started_engine=yes
    prepare 'compose file' scripts/docker.sh start || return 1
    [ $prepared = yes ] || return 0
    prepare 'compose file' scripts/docker.sh images || return 1
    [ $prepared = yes ] || return 0
    environment=$(scripts/docker.sh env) || return 1
    (eval "$environment" && python3 tests/compose/run.py)
}

for part in "${parts[@]}"; do
    printf '\n== %s\n' "$part"
    began=$SECONDS
    case $part in
        workspace) with_broker 3.10 || failed+=("$part") ;;
        conformance) conformance || failed+=("$part") ;;
        rabbit-4.0) with_broker 4.0 --test rabbit --test interop || failed+=("$part") ;;
        compose) compose || failed+=("$part") ;;
    esac
    timings+=("$part $((SECONDS - began)) s")
done

printf '\n== summary\n'
printf '%s\n' "${timings[@]}"
if [ -s "$NOVELLA_SKIPS_FILE" ]; then
    sort -u "$NOVELLA_SKIPS_FILE"
fi
printf 'skipped: %s\n' "$(sort -u "$NOVELLA_SKIPS_FILE" | wc -l)"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[*]}"
    exit 1
fi
echo 'all parts passed'
