#!/bin/sh
# tcp: the worker or the session killed at every type of frame, in every way and at other occurrences, with several seeds.
set -eu
here=$(dirname "$0")
for seed in $(seq "${SEEDS:-5}"); do
	echo "# seed $seed"
	TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
	export TESTDIR
	SEED=$seed DEATHS=${DEATHS:-3} "$here/../integration/tcp_deaths.py"
	rm -rf "$TESTDIR"
done
