#!/usr/bin/env bash
# Compares novella with the real Nova on random fleets and requests. Prints every difference with its seed and a small
# document (tests/conformance/run.py). Exit codes as in lib.sh.
#
#   scripts/conformance.sh [--release] ARGS...   arguments for run.py; --release builds and uses a release build
#   scripts/conformance.sh speed                 how long one placement takes in Nova and in novella, tab-separated
#   scripts/conformance.sh prepare               only install Nova
#   scripts/conformance.sh python                print the interpreter that has Nova
#
# The environment variable NOVELLA names an executable to use instead of one that is built here.
#
# Nova and its dependencies are installed once, into a virtual environment under the test state directory.

. "$(dirname "$0")/lib.sh"

wanted=$repo/tests/conformance/requirements.txt
# If the list or the Python version changes, a new environment is made.
nova_dir=$state_dir/nova-$(cat "$wanted" <(python3 --version) | cksum | cut -d' ' -f1)

install_nova() {
    [ ! -e "$nova_dir" ] || return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    rm -rf "$nova_dir.partial"
    say "installing Nova into $nova_dir (about a minute)"
    quietly 'python3 -m venv' python3 -m venv "$nova_dir.partial" || fail "cannot make a virtual environment for Nova"
    quietly 'pip install' "$nova_dir.partial/bin/python" -m pip install --disable-pip-version-check -r "$wanted" ||
        not_fetched "could not install Nova: $(tr '\n' ' ' <"$wanted")"
    mv "$nova_dir.partial" "$nova_dir"
}

prepare() {
    command -v python3 >/dev/null || absent 'Nova needs python3'
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || absent 'Nova 34 needs Python 3.10 or later'
    locked nova install_nova
}

export PYTHONDONTWRITEBYTECODE=1 # so that nothing is written beside the sources
profile=()
built=debug
if [ "${1:-}" = --release ]; then
    profile=(--release)
    built=release
    shift
fi
case ${1:-} in
    prepare) prepare ;;
    python)
        prepare
        printf '%s\n' "$nova_dir/bin/python"
        ;;
    speed)
        prepare
        "$nova_dir/bin/python" "$repo/tests/conformance/speed.py"
        ;;
    *)
        prepare
        if [ -z "${NOVELLA:-}" ]; then
            cargo build --quiet --locked "${profile[@]}" -p novella-cli --bin novella || fail 'novella does not build'
            export NOVELLA=${CARGO_TARGET_DIR:-$repo/target}/$built/novella
        fi
        exec "$nova_dir/bin/python" "$repo/tests/conformance/run.py" "$@"
        ;;
esac
