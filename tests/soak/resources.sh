#!/bin/sh
# All of what there can be too little of, by each transport. Needs root.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
chmod 755 "$TESTDIR"
RESOURCES=all "$here/../integration/resources.py"
