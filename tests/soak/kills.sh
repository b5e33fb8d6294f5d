#!/bin/sh
# kill -9 of all that takes part, at random instants, by every transport and watcher: 504 kills. About 20 minutes.
# KILLS=N in each of the 12 cells, KILL_SECONDS=S at most in each, SEED=N; arguments are cells as 'inotify/tcp' or '*/sftp*'.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
"$here/../churn/kills.py" --kills "${KILLS:-42}" --seconds "${KILL_SECONDS:-600}" --seed "${SEED:-1}" "$@"
