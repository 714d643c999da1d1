#!/usr/bin/env bash
# Installs the programs of other people that the documents use in their commands, where it may (root on Debian). The tests
# run these commands. Exit codes as in lib.sh.

. "$(dirname "$0")/lib.sh"

apt_install jq
