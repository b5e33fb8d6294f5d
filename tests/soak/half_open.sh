#!/bin/sh
# tcp: 10,000 connections that do not greet at a receiver that takes 40 at a time; an honest sender comes after each hundred.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
HALF_OPEN=${HALF_OPEN:-10000} "$here/../integration/tcp_hostile.py" half_open_and_slow
rm -rf "$TESTDIR"
