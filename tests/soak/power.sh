#!/bin/sh
# Power failures of a tcp receiver's machine, on ext4, xfs and btrfs, by each kind of durability. About 5 minutes.
# LIVES=N power failures in each cell, SEED=N; arguments are cells as 'xfs/batch' or '*/file'.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
"$here/../churn/power.py" --lives "${LIVES:-10}" --seed "${SEED:-1}" "$@"
