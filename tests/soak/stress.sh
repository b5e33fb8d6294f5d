#!/bin/sh
# stress-ng's file-system stressors as operations, by each transport. About 60 minutes.
# STRESS_SECONDS=S of each, twice; SEED=N; arguments are cells as 'inotify/tcp/*' or '*/direct/rename'.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
"$here/../churn/stress.py" --seconds "${STRESS_SECONDS:-4}" --seed "${SEED:-1}" "$@"
