#!/bin/sh
# The churn test, longer: ten seeds of 30 s for each watcher and transport. About 45 minutes.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
CHURN_SECONDS=${CHURN_SECONDS:-30} CHURN_SEEDS=${CHURN_SEEDS:-10} "$here/../integration/churn.py" "$@"
