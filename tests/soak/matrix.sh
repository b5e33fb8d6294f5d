#!/bin/sh
# The churn matrix: every watcher, transport and file system, 60 s of all kinds of operations each. About 75 minutes.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
"$here/../churn/matrix.py" --seconds "${CHURN_SECONDS:-60}" --seed "${SEED:-1}" "$@"
