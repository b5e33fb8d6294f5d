#!/bin/sh
# Faults of a line, by every transport that goes over a network, with several seeds. About 20 minutes.
set -eu
here=$(dirname "$0")
for seed in $(seq "${SEED:-1}" $((${SEED:-1} + ${SEEDS:-3} - 1))); do
	echo "# seed $seed"
	TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
	export TESTDIR
	"$here/../churn/network.py" --seed "$seed" --rounds "${ROUNDS:-3}" "$@"
	rm -rf "$TESTDIR"
done
