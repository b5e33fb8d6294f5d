#!/bin/sh
# A target that is away while a million changes are made, by both watchers and every transport. About 30 minutes.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
"$here/../churn/away.py" --changes "${CHANGES:-1000000}" --seed "${SEED:-1}" "$@"
